"""The commands keep to themselves, remember what runs, and fail in one sentence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox import __main__ as commands
from sandbox import environment, journey, server, state
from sandbox.aws import Aws
from sandbox.errors import SandboxError
from sandbox.processes import Child
from sandbox.server import Server

GONE = Child(name="gone", pid=2**22 + 1, started=0.0, log="")


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the commands make out of this repository."""
    folder = tmp_path / "build"
    monkeypatch.setattr(journey, "BUILD", folder)
    monkeypatch.setattr(commands, "BUILD", folder)
    monkeypatch.setattr(commands, "ENV_FILE", folder / "demo.env")
    return folder


def test_outer_settings_stay_outside(tmp_path: Path) -> None:
    """No AWS, Covalent or Python setting of the user's leaks in; proxies and certificates stay."""
    outer = {
        "AWS_PROFILE": "work",
        "COVALENT_SVC_PORT": "48008",
        "PYTHONPATH": "/elsewhere",
        "HOME": "/home/me",
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.com",
        "SSL_CERT_FILE": "/certificates",
        "PATH": "/bin",
    }
    env = environment.clean(outer, home=tmp_path, python=Path("/venv/bin/python"))
    assert env == {
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.com,127.0.0.1,localhost,host.docker.internal",
        "no_proxy": "127.0.0.1,localhost,host.docker.internal",
        "SSL_CERT_FILE": "/certificates",
        "PATH": "/venv/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
    }


def test_covalent_keeps_everything_in_its_home(tmp_path: Path) -> None:
    """Every folder and file that Covalent's settings name lies in the given home."""
    env = server.client_environment(tmp_path, 48123)
    paths = [value for value in env.values() if "/" in value]
    assert len(paths) == 8
    assert all(path.startswith(str(tmp_path)) for path in paths)


def test_the_environment_file_survives_awkward_paths(tmp_path: Path) -> None:
    """A shell that reads demo.env gets the values unchanged, quotes and blanks included."""
    home = tmp_path / "it's a $HOME"
    aws = Aws(port=4566, home=home, child=GONE, engine=None)
    covalent = Server(port=48123, home=home, child=GONE)
    path = tmp_path / "demo.env"
    journey.write_environment(path, aws, covalent, home / "project")
    script = (
        f". '{path}' && printf '%s\\n' \"$COVALENT_LAMBDA_SAMCONFIG\" \"${{AWS_PROFILE-none}}\""
    )
    done = subprocess.run(
        ["sh", "-c", script],
        env={"AWS_PROFILE": "work", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str(home / "project" / "samconfig.toml"), "none"]


def test_what_runs_is_remembered(tmp_path: Path) -> None:
    """Saved state reads back equal; what has ended is not taken for running."""
    running = state.Running(
        path=tmp_path / "state.json", aws=GONE, aws_port=4566, facts={"a": "b"}
    )
    running.save()
    loaded = state.load(running.path)
    assert loaded == running
    assert not loaded.is_whole()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"aws": {"pid": 1}}'])
def test_unreadable_state_counts_as_none(tmp_path: Path, content: str) -> None:
    """A file that a crash cut short does not stop the next command."""
    path = tmp_path / "state.json"
    path.write_text(content)
    assert state.load(path) is None


def test_two_commands_do_not_work_at_once(tmp_path: Path) -> None:
    """The second of two equal commands is told to wait."""
    second = state.alone(tmp_path / "lock", "make demo")
    with (
        state.alone(tmp_path / "lock", "make demo"),
        pytest.raises(SandboxError, match="another make demo is at work"),
    ):
        second.__enter__()


def test_errors_are_one_line(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused setting: exit code 1, one line on standard error, no folder."""
    assert commands.main(["demo", "--mode", "dokcer"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "sandbox demo: MODE=dokcer is unknown: say one of auto, image, worker"
    ]
    assert not (build / "demo").exists()


def test_down_with_nothing_up(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ending nothing is no error."""
    assert commands.main(["down"]) == 0
    assert capsys.readouterr().out == "nothing is up\n"


def test_down_after_a_reboot(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """State of processes that are gone is cleared away."""
    state.Running(path=build / "up" / "state.json", aws=GONE, covalent=GONE).save()
    (build / "demo.env").write_text("")
    assert commands.main(["down"]) == 0
    assert capsys.readouterr().out == "ended\n"
    assert not (build / "up").exists()
    assert not (build / "demo.env").exists()
