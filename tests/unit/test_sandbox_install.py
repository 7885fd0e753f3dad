"""The set-up: which Python, which installer, what is locked, and what an interruption leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from template_paths import EXECUTOR, REPOSITORY

pytestmark = pytest.mark.timeout(120)

REQUIREMENTS = REPOSITORY / "requirements"
LOCKS = sorted(path.stem for path in REQUIREMENTS.glob("*.in"))
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!]+)", re.MULTILINE)
ASKED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!]+)\s*(?:;.*)?$", re.MULTILINE)
VERSION = ".".join(map(str, sys.version_info[:3]))

# A uv that makes venvs, says what it was asked for, and installs nothing.
UV = f"""\
#!/bin/sh
echo "$@" >>calls
case "$1 $2" in
    'venv '*) exec {sys.executable} -m venv --without-pip "$5" ;;
    'pip sync') [ ! -e slow ] || {{ echo Downloading x; sleep 30; }}; echo ' + x==1' ;;
esac
[ ! -e broken ] || [ "$1" != pip ]
"""
# No uv and no network: an index on a port that nothing listens on.
NO_NETWORK = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_RETRIES": "0",
    "PIP_CONFIG_FILE": "/dev/null",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with what the set-up needs, and a uv that installs nothing."""
    folder = tmp_path / "checkout"
    shutil.copytree(REQUIREMENTS, folder / "requirements")
    shutil.copytree(REPOSITORY / "sandbox", folder / "sandbox")
    shutil.copy(REPOSITORY / "Makefile", folder)
    executor = folder / "{{cookiecutter.project_name}}" / "executor"
    executor.mkdir(parents=True)
    shutil.copy(EXECUTOR / "pyproject.toml", executor)
    program(folder / "bin" / "uv", UV)
    for name in [
        name for name in os.environ if name.startswith(("MAKE", "PIP_")) or name == "MFLAGS"
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    return folder


def program(path: Path, text: str) -> None:
    """Write an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a venv's is a link to this machine's own
    path.write_text(text)
    path.chmod(0o755)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make to its end."""
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def calls(folder: Path) -> list[str]:
    """What uv was asked for since the last time."""
    file = folder / "calls"
    text = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    return [line for line in text.splitlines() if line != "--version"]


@pytest.mark.parametrize("name", LOCKS)
def test_each_lock_is_whole(name: str) -> None:
    """It pins all that is asked for, to a hash each, and names no place to get it from."""
    lock = (REQUIREMENTS / f"{name}.txt").read_text()
    pinned = dict(PINNED.findall(lock))
    asked = ASKED.findall((REQUIREMENTS / f"{name}.in").read_text())
    assert all(pinned[package.lower()] == version for package, version in asked)
    assert lock.count(" \\\n    --hash=sha256:") >= len(PINNED.findall(lock)) > 0
    assert "://" not in lock
    assert not re.search(r"^\s*-(?!-hash)", lock, re.MULTILINE)


@pytest.mark.parametrize(
    ("larger", "smaller"), [("test", "sandbox"), ("sandbox", "build"), ("bench", "build")]
)
def test_one_lock_holds_another(larger: str, smaller: str) -> None:
    """So the venv of the larger one serves the commands of the smaller one, too.

    Versions and hashes are compared: in the larger one more of its packages may ask for the same
    one, each on conditions of its own, which the lock then joins by `or`.
    """
    conditions = re.compile(r" ; [^\\\n]*")
    entries = [
        set(re.split(r"\n(?=\w)", conditions.sub("", text).strip()))
        for text in ((REQUIREMENTS / f"{name}.txt").read_text() for name in (larger, smaller))
    ]
    missing = {entry for entry in entries[1] - entries[0] if not entry.startswith("#")}
    assert not missing


@pytest.mark.parametrize("target", ["venvs", "test-venvs", "bench-venv", "demo", "up"])
@pytest.mark.parametrize(
    ("version", "said"),
    [
        (
            "3.8.18",
            "'./python' is Python 3.8.18, but Covalent needs 3.10, 3.11, 3.12 or 3.13; name",
        ),
        (
            "3.14.0",
            "'./python' is Python 3.14.0, but Covalent needs 3.10, 3.11, 3.12 or 3.13; name",
        ),
        (None, "'./python' is not a Python interpreter; name one: make PYTHON=python3.12 ..."),
    ],
)
def test_an_unfit_python_is_refused(
    checkout: Path, target: str, version: str | None, said: str
) -> None:
    """In one sentence, before anything is made."""
    if version:
        program(checkout / "python", f"#!/bin/sh\necho {version}\n")
    done = make(checkout, target, "PYTHON=./python")
    assert done.returncode != 0
    assert done.stderr.startswith(said)
    assert not (checkout / "build").exists()


@pytest.mark.parametrize("version", ["3.10.1", "3.11.7", "3.12.9", "3.13.0"])
def test_covalents_pythons_are_taken(checkout: Path, version: str) -> None:
    """Those that Covalent's server was seen to run on."""
    program(checkout / "python", f"#!/bin/sh\necho {version}\n")
    command = ["sh", "requirements/check-python.sh", "./python"]
    assert subprocess.run(command, cwd=checkout, check=False).returncode == 0


@pytest.mark.parametrize("target", ["demo", "up"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("MODE=imge", "MODE=imge is unknown: say one of auto, image, worker"),
        ("PORT=80808", "PORT=80808 is not a port: say a number from 1 to 65535"),
        ("AWS_PORT=x", "AWS_PORT=x is not a port: say a number from 1 to 65535"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_venvs(
    checkout: Path, target: str, setting: str, said: str
) -> None:
    """A misspelt setting costs no installation."""
    done = make(checkout, target, setting)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == f"sandbox {target}: {said}"
    assert not calls(checkout)
    assert not (checkout / "build" / "venv").exists()


def test_the_venvs_are_made_once(checkout: Path) -> None:
    """From the lock, with its hashes; the second time nothing is asked of uv, and nothing said."""
    first = make(checkout, "venvs")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [
        f"build/venv: installing requirements/sandbox.txt for Python {VERSION}",
        f"build/venv-sam: installing requirements/sam.txt for Python {VERSION}",
    ]
    asked = calls(checkout)
    syncs = [call for call in asked if call.startswith("pip sync")]
    assert [call.split()[-1] for call in syncs] == [
        "requirements/sandbox.txt",
        "requirements/sam.txt",
    ]
    installs = [call for call in asked if call.startswith("pip") and "--editable" not in call]
    assert all("--require-hashes" in call for call in installs)
    second = make(checkout, "venvs")
    assert (second.stdout, second.stderr, calls(checkout)) == ("", "", [])


def test_a_changed_lock_is_installed(checkout: Path) -> None:
    """The venv stays, and is brought up to it."""
    make(checkout, "venvs")
    calls(checkout)
    with (checkout / "requirements" / "sam.txt").open("a") as lock:
        lock.write("# changed\n")
    make(checkout, "venvs")
    assert [call.split()[:2] for call in calls(checkout)] == [["pip", "install"], ["pip", "sync"]]


def test_the_tests_tools_stay(checkout: Path) -> None:
    """`make demo` after `make test` leaves the larger set in place."""
    make(checkout, "test-venvs")
    program(checkout / "build" / "venv" / "bin" / "pytest", "")
    calls(checkout)
    assert make(checkout, "venvs").stdout == ""
    assert not calls(checkout)


def test_an_interrupted_installation_goes_on(checkout: Path) -> None:
    """Ctrl-C is one line; the next command finishes what is not finished."""
    (checkout / "slow").touch()
    with subprocess.Popen(
        ["make", "venvs"],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        while "Downloading" not in running.stdout.readline():
            pass
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=30)
    own = [line for line in said.splitlines() if line and not line.startswith("make")]
    assert own == ["interrupted; the next `make` goes on from here"]
    (checkout / "slow").unlink()
    calls(checkout)
    assert make(checkout, "venvs").returncode == 0
    assert [call.split()[:2] for call in calls(checkout)][:2] == [
        ["pip", "install"],
        ["pip", "sync"],
    ]


def test_a_venv_of_another_python_is_made_anew(checkout: Path) -> None:
    """Also one whose interpreter was removed from the machine."""
    make(checkout, "venvs")
    program(checkout / "build" / "venv" / "bin" / "python", "#!/bin/sh\necho 3.10.2\n")
    (checkout / "build" / "venv-sam" / "bin" / "python").unlink()
    calls(checkout)
    make(checkout, "venvs")
    made = [call.split()[-1] for call in calls(checkout) if call.startswith("venv")]
    assert made == ["build/venv", "build/venv-sam"]


def test_a_venv_in_use_is_not_replaced(checkout: Path) -> None:
    """What `make up` left running runs on it."""
    make(checkout, "venvs")
    program(checkout / "build" / "venv" / "bin" / "python", "#!/bin/sh\necho 3.10.2\n")
    (checkout / "build" / "up").mkdir()
    (checkout / "build" / "up" / "state.json").touch()
    done = make(checkout, "venvs")
    assert done.returncode != 0
    assert done.stderr.startswith(
        "build/venv has another Python and `make up` runs on it; `make down` first"
    )
    assert (checkout / "build" / "venv" / ".made-from").exists()


def test_pip_serves_where_uv_fails(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the same lock, with its hashes; when it fails too, that is one sentence."""
    (checkout / "broken").touch()
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    done = make(checkout, "venvs")
    assert done.returncode != 0
    last = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(last) == 1
    assert re.match(
        r"the packages of \S+build\.txt cannot be installed; \S+install\.log holds", last[0]
    )
    assert not (checkout / "build" / "venv" / ".made-from").exists()


def test_what_uv_reports_is_shown_less_its_lists(checkout: Path) -> None:
    """Progress a line at a time; the hundred lines ` + package` are left to the log."""
    text = UV.replace("echo ' + x==1'", "echo 'Downloading big (9.0MiB)'; echo ' + x==1'")
    program(checkout / "bin" / "uv", text)
    said = make(checkout, "venvs").stdout
    assert said.count("    Downloading big (9.0MiB)\n") == 2
    assert "x==1" not in said
    assert " + x==1" in (checkout / "build" / "logs" / "install.log").read_text()
