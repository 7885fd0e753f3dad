"""Makes venvs from locks: with uv, or with pip where uv cannot be had.

    python install.py venv VENV LOCK [FOLDER]    the venv that LOCK describes; FOLDER in place
    python install.py into VENV ARGUMENTS...     what `pip install ARGUMENTS` does there
    python install.py lock NAME...               renew NAME.txt from NAME.in

The Python that runs this is the one that the venvs get. A venv is finished when it holds a copy of
what it was made from. So one that an interruption cut short is finished by the next command, and
one whose lock has changed is brought up to it.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
OWN_UV = BUILD / "uv"
LOG = BUILD / "logs" / "install.log"
IN_USE = BUILD / "up" / "state.json"
VERSION = ".".join(map(str, sys.version_info[:3]))
# One lock serves all Pythons that the sandbox runs on.
OLDEST_PYTHON = "3.10"
# The public plugin's own pins would bring another Covalent.
WITHOUT_DEPENDENCIES = ("bench-public",)

# What both installers print for each package, and remarks that nobody can act on.
_DULL = re.compile(
    r"\s*$| [-+~] |  [A-Z]|    [A-Z]|Using |Requirement already |Ignoring |Looking in |Audited |"
    r"Uninstalled |Resolved |\[notice\]|WARNING"
)


class InstallError(Exception):
    """A venv cannot be made; the message is all that a user needs to see."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    command, *rest = arguments
    LOG.parent.mkdir(parents=True, exist_ok=True)
    try:
        if command == "venv":
            make_venv(*rest)
        elif command == "into":
            install_into(*rest)
        else:
            renew_locks(*rest)
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next `make` goes on from here", file=sys.stderr)
        return 130
    return 0


def make_venv(venv: str, lock: str, folder: str = "") -> None:
    """Bring a venv up to its lock; install FOLDER in place, if one is given."""
    home = Path(venv)
    sources = Path(lock).read_bytes()
    if folder:
        sources += (Path(folder) / "pyproject.toml").read_bytes()
    made_from = home / ".made-from"
    same_python = _version_of(home) == VERSION
    if same_python and made_from.is_file() and made_from.read_bytes() == sources:
        return
    if home.exists() and not same_python and IN_USE.exists():
        raise InstallError(
            f"{venv} has another Python and `make up` runs on it; `make down` first"
        )
    uv = find_uv()
    print(f"{venv}: installing {lock} for Python {VERSION}", flush=True)
    made_from.unlink(missing_ok=True)
    if not same_python:
        _new_venv(home, uv)
    _sync(home, lock, uv)
    if folder:
        install_into(venv, "--no-deps", "--no-build-isolation", "--editable", folder)
    made_from.write_bytes(sources)


def install_into(venv: str, *arguments: str) -> None:
    """Install into a venv what the arguments of `pip install` say."""
    uv = find_uv()
    python = str(Path(venv) / "bin" / "python")
    if uv and _run(uv, "pip", "install", "--python", python, *arguments):
        return
    if not _run(*_pip(python), *arguments):
        raise InstallError(f"`pip install {' '.join(arguments)}` failed for {venv}{_details()}")


def renew_locks(*names: str) -> None:
    """Resolve what the files NAME.in ask for, for all Pythons at once, into NAME.txt."""
    uv = find_uv()
    if not uv:
        raise InstallError("locks are renewed by uv, which cannot be had here")
    for name in names:
        print(f"{name}.txt", flush=True)
        command = [uv, "pip", "compile", f"{name}.in", "--output-file", f"{name}.txt"]
        command += ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
        command += ["--no-annotate", "--custom-compile-command", "make locks", "--quiet"]
        command += ["--no-deps"] if name in WITHOUT_DEPENDENCIES else []
        if subprocess.run(command, cwd=HERE, check=False).returncode:
            raise InstallError(f"{name}.in cannot be resolved")


@functools.cache
def find_uv() -> str:
    """Return the path of uv: the machine's or our own, installed if missing; else an empty one."""
    own = str(OWN_UV / "bin" / "uv")
    for uv in ("uv", own):
        if _succeeds(uv, "--version"):
            return uv
    print("installing uv, which installs the rest (once, 20 MB)", flush=True)
    into = ["--require-hashes", "--upgrade", "--target", str(OWN_UV), "-r", str(HERE / "uv.txt")]
    if _succeeds(*_pip(sys.executable), *into):
        return own
    # This Python has no pip, or may not use it outside of a venv.
    with_pip = BUILD / "pip"
    if _succeeds(sys.executable, "-m", "venv", "--clear", str(with_pip)) and _succeeds(
        *_pip(str(with_pip / "bin" / "python")), *into
    ):
        return own
    print(f"uv cannot be installed ({LOG} says why); pip takes longer", flush=True)
    return ""


def _new_venv(home: Path, uv: str) -> None:
    shutil.rmtree(home, ignore_errors=True)
    # uv would take a pyenv or a system Python of its own choice, or download one.
    if uv and _succeeds(
        uv, "venv", "--no-python-downloads", "--python", sys.executable, str(home)
    ):
        return
    if not _succeeds(sys.executable, "-m", "venv", "--clear", str(home)):
        raise InstallError(
            f"`python -m venv {home}` failed (Debian and Ubuntu: apt-get install python3-venv)"
            + _details()
        )


def _sync(home: Path, lock: str, uv: str) -> None:
    python = str(home / "bin" / "python")
    # What has no wheel is built by the locked setuptools, not by one fetched for the moment.
    build = str(HERE / "build.txt")
    exact = ("--require-hashes", "--no-build-isolation")
    to = ("--quiet", "--python", python)
    if (
        uv
        and _run(uv, "pip", "install", *to, *exact, "-r", build)
        and _run(uv, "pip", "sync", *to[1:], *exact, lock)
    ):
        return
    _succeeds(python, "-m", "ensurepip")
    for file in (build, lock):
        if not _run(*_pip(python), "--no-deps", *exact, "-r", file):
            raise InstallError(f"the packages of {file} cannot be installed{_details()}")


def _pip(python: str) -> list[str]:
    return [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]


def _version_of(venv: Path) -> str:
    program = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        command = [str(venv / "bin" / "python"), "-S", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _succeeds(*command: str) -> bool:
    """Run a command; nothing of it is shown on the terminal."""
    try:
        with LOG.open("ab") as log:
            return subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0
    except OSError:
        return False


def _run(*command: str) -> bool:
    """Run an installer and show its progress, a line at a time."""
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as program,
    ):
        assert program.stdout is not None
        for line in program.stdout:
            log.write(line)
            if not _DULL.match(line):
                print(f"    {line.strip()[:110]}", flush=True)
    return program.returncode == 0


def _details() -> str:
    return f"; {LOG} holds all that was said"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
