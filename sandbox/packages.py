"""A venv with a project's packages on top of the sandbox's own.

MiniStack's worker runs functions with the Python that MiniStack runs on, and Covalent's server
loads what electrons return: both need what the function's image has.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import venv
from pathlib import Path

from sandbox import processes, projects
from sandbox.errors import SandboxError

INSTALL_SECONDS = 1200.0

_REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
_PIN = re.compile(r"^[\w.-]+(?:\[.*?\])?==[^\\\n]*", re.MULTILINE)


def python_with(project: Path, home: Path, log: Path) -> Path:
    """Return a Python that has the project's packages; the sandbox's own if it has none.

    Args:
        project: a generated project.
        home: the folder for the venv; made anew.
        log: the file for what the installation says.

    Raises:
        SandboxError: when the packages cannot be installed beside Covalent and MiniStack.
    """
    if not projects.packages(project):
        return Path(sys.executable)
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(home)
    python = home / "bin" / "python"
    # All that the sandbox has is there as well, links to sources in place included.
    own = sysconfig.get_path("purelib")
    scheme = {"base": str(home), "platbase": str(home)}
    folder = Path(sysconfig.get_path("purelib", vars=scheme))
    (folder / "sandbox.pth").write_text(f"import site; site.addsitedir({own!r})\n", "utf-8")
    # What both have stays at one version.
    locked = (_REQUIREMENTS / "sandbox.txt").read_text(encoding="utf-8")
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(_PIN.findall(locked)) + "\n", encoding="utf-8")
    command = [sys.executable, str(_REQUIREMENTS / "install.py"), "into", str(home)]
    command += ["-r", str(project / projects.REQUIREMENTS), "-c", str(constraints)]
    try:
        processes.run(
            "the installation of your packages",
            command,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=_REQUIREMENTS.parent,
            log=log,
            seconds=INSTALL_SECONDS,
        )
    except SandboxError as error:
        raise SandboxError(
            f"{error}\nthey come from {project / projects.REQUIREMENTS}: change it there, or with "
            'make up PACKAGES="..." (PACKAGES= for none)'
        ) from None
    return python
