"""The environment variables that the sandbox's programs get.

They see nothing of the user's own AWS and Covalent settings: a profile, a session token or a
region from outside would send a demo to a real account.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_OWN_PREFIXES = ("AWS_", "COVALENT_", "SAM_CLI_", "COOKIECUTTER_", "PYTHON", "XDG_", "MINISTACK_")
_OWN_NAMES = ("HOME", "VIRTUAL_ENV", "TMPDIR", "LOGLEVEL", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
# Set by the Makefile: compiled files must not end up in the template's folders.
_KEPT = ("PYTHONPYCACHEPREFIX",)
_LOCAL_HOSTS = "127.0.0.1,localhost,host.docker.internal"


def clean(outer: Mapping[str, str], *, home: Path, python: Path) -> dict[str, str]:
    """Return `outer` without what could leak into the sandbox, with a HOME inside it.

    Proxy and certificate settings stay; local addresses never go through a proxy.
    """
    env = {
        name: value
        for name, value in outer.items()
        if name in _KEPT or not (name.startswith(_OWN_PREFIXES) or name in _OWN_NAMES)
    }
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    env.update(HOME=str(home), TMPDIR=str(temporary))
    env["PATH"] = f"{python.parent}:{outer.get('PATH', '/usr/bin:/bin')}"
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(filter(None, [outer.get(name), _LOCAL_HOSTS]))
    return env
