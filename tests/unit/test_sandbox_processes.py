"""Programs are started, watched and ended by id, whole trees at a time."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sandbox import processes
from sandbox.errors import SandboxError
from sandbox.processes import Child

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def nothing_goes_on(tmp_path: Path) -> Iterator[None]:
    """End whatever a test forgot."""
    yield
    processes.stop_all(tmp_path)


def start(script: str, folder: Path) -> Child:
    command = [sys.executable, "-c", script]
    return processes.start("a program", command, env=os.environ, cwd=folder, log=folder / "log")


def run(script: str, folder: Path, *, seconds: float = 30) -> str:
    command = [sys.executable, "-c", script]
    return processes.run(
        "a program", command, env=os.environ, cwd=folder, log=folder / "log", seconds=seconds
    )


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended, be it still listed."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_line(log: Path) -> str:
    for _ in range(400):
        text = log.read_text() if log.exists() else ""
        if text.endswith("\n"):
            return text.strip()
        time.sleep(0.025)
    raise AssertionError(f"nothing in {log}")


def test_output_of_both_streams_is_returned(tmp_path: Path) -> None:
    """A finite program's output and error output come back as one text."""
    script = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert run(script, tmp_path) == "out\nerr\n"


def test_a_failure_shows_the_exit_code_and_the_last_lines(tmp_path: Path) -> None:
    """A failed program's message names it and ends with what it said last, uncoloured."""
    script = r"print('first\n' * 100 + '\x1b[31mthe reason\x1b[0m'); raise SystemExit(3)"
    with pytest.raises(SandboxError) as failure:
        run(script, tmp_path)
    message = str(failure.value)
    assert message.startswith("a program failed (exit code 3); the end of ")
    assert message.endswith("\nthe reason")
    assert message.count("first") == processes.TAIL_LINES - 1


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """The time limit ends the program and says so."""
    with pytest.raises(SandboxError, match="a program took longer than 1 s"):
        run("import time; time.sleep(600)", tmp_path, seconds=1)


def test_a_missing_program_is_one_sentence(tmp_path: Path) -> None:
    """A program that does not exist is an error of the sandbox, not a traceback."""
    with pytest.raises(SandboxError, match=r"a program cannot be started: .*no-such-program"):
        processes.run(
            "a program", ["no-such-program"], env={}, cwd=tmp_path, log=tmp_path / "log", seconds=1
        )


def test_stopping_ends_the_whole_tree(tmp_path: Path) -> None:
    """A child that ignores SIGTERM, in a session of its own, ends with the program."""
    grandchild = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(__import__('os').getpid(), flush=True); time.sleep(600)"
    )
    child = start(
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True);"
        "time.sleep(600)",
        tmp_path,
    )
    pid = int(wait_for_line(tmp_path / "log"))
    processes.stop(child, grace=2)
    assert not child.is_running()
    assert has_ended(pid)


def test_stopping_ends_what_a_killed_program_left(tmp_path: Path) -> None:
    """The programs that a killed program had started end as well."""
    sleeper = "import time; print(__import__('os').getpid(), flush=True); time.sleep(600)"
    child = start(
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])", tmp_path
    )
    pid = int(wait_for_line(tmp_path / "log"))
    psutil.Process(child.pid).kill()
    while child.is_running():
        time.sleep(0.01)
    assert not has_ended(pid)
    processes.stop(child)
    assert has_ended(pid)


def test_others_of_the_same_process_are_left_alone(tmp_path: Path) -> None:
    """Who ends all that it has started ends nothing that another part of the program has."""
    (mine := tmp_path / "mine").mkdir()
    (another := tmp_path / "another").mkdir()
    children = [start("import time; time.sleep(60)", folder) for folder in (mine, another)]
    processes.stop_all(mine)
    assert [child.is_running() for child in children] == [False, True]


def test_a_reused_process_id_is_left_alone(tmp_path: Path) -> None:
    """After a reboot a remembered id may belong to another program, which must not be ended."""
    child = start("import time; time.sleep(600)", tmp_path)
    stale = replace(child, started=child.started - 3600)
    assert not stale.is_running()
    processes.stop(stale)
    assert child.is_running()


def test_waiting_for_a_program_that_ends_shows_its_log(tmp_path: Path) -> None:
    """A server that ends while it starts is an error with the end of its log."""
    child = start("print('no such table'); raise SystemExit(1)", tmp_path)
    with pytest.raises(SandboxError, match=r"(?s)a program ended while starting.*no such table"):
        processes.wait_until_ready(child, lambda: False, seconds=30)


def test_waiting_in_vain_ends_the_program(tmp_path: Path) -> None:
    """A server that never answers is ended, and the message says how long was waited."""
    child = start("import time; print('starting', flush=True); time.sleep(600)", tmp_path)
    with pytest.raises(SandboxError, match="a program was not ready after 1 s"):
        processes.wait_until_ready(child, lambda: False, seconds=1)
    assert not child.is_running()


def test_a_port_in_use_names_the_setting() -> None:
    """A port that the user fixed and that is taken: which, for what, and what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SandboxError, match=f"PORT={port}, is in use: the server needs"):
            processes.port_or_free(port, "the server", "PORT")
    assert processes.port_or_free(None, "the server", "PORT") > 0
