"""Whatever an electron does, it ends soon after it has to, with all that came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest
import ways
import world
from function_box import Function, returned, timed
from patience import BUSY

import wire

LIMIT = 0.5  # seconds
DEATH = 3.0  # seconds from the deadline to the end of whatever resists

for module in (world, sys.modules[__name__]):
    cloudpickle.register_pickle_by_value(module)


def busy_loop() -> None:
    while True:
        pass


def sleeping_loop() -> None:
    import time

    while True:
        time.sleep(0.01)


def loop_that_catches_everything() -> None:
    import time

    while True:
        try:
            time.sleep(10)
        except BaseException:
            pass


def loop_in_another_thread() -> None:
    import threading

    thread = threading.Thread(target=busy_loop)
    thread.start()
    thread.join()


def call_of_c_with_the_lock() -> None:
    sum(range(10**13))


def call_of_c_without_the_lock() -> None:
    import ctypes

    ctypes.CDLL(None).sleep(60)


def regular_expression() -> None:
    import re

    re.match(r"(a+)+$", "a" * 60 + "b")


def signals_masked() -> None:
    import signal
    import time

    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    time.sleep(60)


def process_waited_for() -> None:
    import subprocess

    subprocess.run(["sh", "-c", "sleep 60; : left_by_an_electron"])


def process_that_ignores_signals() -> None:
    import subprocess

    command = "trap '' TERM INT HUP USR1; while :; do sleep 1; done; : left_by_an_electron"
    subprocess.run(["sh", "-c", command])


def double_fork() -> None:
    import os
    import time

    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sh", ["sh", "-c", "sleep 60; : left_by_an_electron"])
        os._exit(0)
    time.sleep(60)


def stopped_by_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSTOP)


def unpicklable_slowly() -> Any:
    class Odd:
        def __reduce__(self) -> Any:
            busy_loop()

    return Odd()


def printing() -> None:
    while True:
        print("x" * 1000)


def descriptors_closed() -> None:
    import os
    import time

    os.closerange(0, 4096)
    time.sleep(60)


ENDLESS: list[Callable[[], Any]] = [
    busy_loop,
    sleeping_loop,
    loop_that_catches_everything,
    loop_in_another_thread,
    call_of_c_with_the_lock,
    call_of_c_without_the_lock,
    regular_expression,
    signals_masked,
    process_waited_for,
    process_that_ignores_signals,
    double_fork,
    stopped_by_itself,
    unpicklable_slowly,
    printing,
]


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """One environment for all."""
    with Function(tmp_path_factory.mktemp("ending") / "tmp") as running:
        yield running


@pytest.mark.parametrize("electron", ENDLESS, ids=lambda x: x.__name__)
def test_deadline(function: Function, electron: Callable[[], Any]) -> None:
    """At its deadline it is gone within 3 s, with its processes; the next electron is warm."""
    took, response = timed(lambda: function.call(electron, limit=LIMIT))
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    assert took < LIMIT + DEATH + BUSY
    after = function.call(world.seen, ways.WORD)
    assert returned(after)["processes"] == []
    assert not after.usage.cold


def test_descriptors_closed_while_it_runs_on(function: Function) -> None:
    """An electron that closes the descriptors of its process, and runs on, is ended then."""
    took, response = timed(lambda: function.call(descriptors_closed))
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert took < 5 + BUSY


def test_more_and_more_processes(function: Function) -> None:
    """A process that starts others without end is outrun."""

    def multiply() -> None:
        import os
        import time

        for _ in range(6):
            os.fork()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            if os.fork() != 0:
                os._exit(0)  # always another process
            os.setsid()

    function.call(multiply)
    after = function.call(world.seen, ways.WORD)
    assert returned(after)["children"] == ""
