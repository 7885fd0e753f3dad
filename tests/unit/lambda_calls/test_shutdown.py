"""What is done when the process ends: all of it, side by side."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from lambda_calls.shutdown import AtExit

SLOW = """
import os, signal, sys, time
from lambda_calls.shutdown import AtExit
at_exit = AtExit()
for number in range(int(sys.argv[2])):
    at_exit.add(lambda number=number: (time.sleep(0.2), os.write(1, b"x")))
if sys.argv[1] == "SIGTERM":
    os.kill(os.getpid(), signal.SIGTERM)
"""


# Python 3.12 starts no thread once the interpreter ends.
AT_EXIT = 20 if sys.version_info[:2] == (3, 12) else 200


def ended(how: str, count: int) -> "subprocess.CompletedProcess[bytes]":
    return program(SLOW, how, str(count))


def program(text: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_all_of_it_is_done_at_sigterm() -> None:
    """Two hundred marks that take 0.2 s each are put within the ten seconds that there are."""
    done = ended("SIGTERM", 200)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == b"x" * 200


def test_all_of_it_is_done_at_the_interpreters_end() -> None:
    """So are they when the program just ends."""
    done = ended("exit", AT_EXIT)
    assert (done.returncode, done.stdout) == (0, b"x" * AT_EXIT)


MANY = """
import os, signal
from lambda_calls.shutdown import AtExit
def late():
    at_exits[0].add(lambda: os.write(1, b"y"))
at_exits = [AtExit() for _ in range(3000)]
for at_exit in at_exits:
    at_exit.watch()
    at_exit.add(lambda: os.write(1, b"x"))
at_exits[-1].add(late)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_one_handler_is_enough_for_many() -> None:
    """A program makes thousands of pools: at SIGTERM the work of all is done, and what comes up
    meanwhile."""
    done = program(MANY)
    assert (done.stderr, done.returncode) == (b"", -signal.SIGTERM)
    assert sorted(done.stdout) == sorted(b"x" * 3000 + b"y")


OTHERS = """
import os, signal
from lambda_calls.shutdown import AtExit
def theirs(number, frame):
    os.write(1, b"theirs ")
    before(number, frame)
AtExit().add(lambda: os.write(1, b"first "))
before = signal.signal(signal.SIGTERM, theirs)
AtExit().add(lambda: os.write(1, b"second "))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_handlers_of_others_have_their_turns() -> None:
    """One that was set in between is called, once, and the process ends by the signal."""
    done = program(OTHERS)
    assert (done.stderr, done.returncode) == (b"", -signal.SIGTERM)
    assert sorted(done.stdout.split()) == [b"first", b"second", b"theirs"]


def test_work_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 does not answer: whoever ends waits some seconds, not for it."""
    monkeypatch.setattr("lambda_calls.shutdown._SECONDS", 0.3)
    at_exit, answered, ended = AtExit(), threading.Event(), threading.Event()

    def waits() -> None:
        answered.wait(60)
        ended.set()

    at_exit.add(waits)
    started = time.monotonic()
    at_exit.run()
    took = time.monotonic() - started
    answered.set()
    assert ended.wait(30)
    at_exit.close()
    assert took < 30


def test_without_a_thread_it_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 starts none when the interpreter ends."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    at_exit, done = AtExit(), threading.Event()
    at_exit.add(done.set)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        at_exit.run()
    at_exit.close()
    assert done.is_set()


def test_a_failure_stops_no_other() -> None:
    """Each piece of work is on its own."""
    at_exit, done = AtExit(), threading.Event()

    def fail() -> None:
        raise OSError("gone")

    at_exit.add(fail)
    at_exit.add(done.set)
    at_exit.run()
    at_exit.close()
    assert done.is_set()


def test_work_is_done_once() -> None:
    """What was taken back is not done; what was done is not done again."""
    at_exit, done = AtExit(), []

    def during() -> None:
        done.append("during")

    at_exit.add(during)
    at_exit.discard(during)
    at_exit.add(lambda: done.append("once"))
    at_exit.run()
    at_exit.run()
    at_exit.close()
    assert done == ["once"]


def test_a_fork_leaves_it_to_its_parent() -> None:
    """A child of a fork that ends stops nothing of its parent's."""
    at_exit, started = AtExit(), time.monotonic()
    reader, writer = os.pipe()
    at_exit.add(lambda: os.write(writer, b"stopped"))  # type: ignore[arg-type,return-value]
    child = os.fork()
    if child == 0:
        at_exit.run()
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 100) == b""
    os.close(reader)
    at_exit.close()
    assert time.monotonic() - started < 60
