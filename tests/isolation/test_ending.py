"""Whatever an electron does, it ends soon after it has to, with all that came of it.

pytest shows in the end how long each one took to die.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import aws_server
import cloudpickle
import leaks
import pytest
import ways
import world
from function_box import WORKER, Function, returned, timed
from patience import BUSY

import wire

LIMIT = 0.5  # seconds
DEATH = 3.0  # seconds from the deadline, or from the look at the order, to the end
ORDER = "/bucket/tasks/dispatch-0-attempt/order"
# The function looks for orders from 2 s on; here as early as a deadline ends an electron.
LOOKS_SOON = WORKER.replace(
    "import app\n", f"import task_guard\ntask_guard.FIRST_LOOK = {LIMIT}\nimport app\n"
)

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


class Requests(list[str]):
    """What was asked of S3, and the time of the first request."""

    first = 0.0

    def append(self, request: str) -> None:
        self.first = self.first or time.monotonic()
        super().append(request)


@pytest.fixture(scope="module")
def s3() -> Iterator[aws_server.AWS]:
    """A server that speaks S3's protocol."""
    with aws_server.running() as server:
        yield server


@pytest.fixture(scope="module")
def function(s3: aws_server.AWS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """One environment for all."""
    folder = tmp_path_factory.mktemp("ending") / "tmp"
    with Function(folder, [sys.executable, "-c", LOOKS_SOON], **s3.env) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left(
    request: pytest.FixtureRequest, s3: aws_server.AWS, function: Function
) -> Iterator[None]:
    """As for all tests; the environment keeps its connections to the server."""
    with leaks.none(request, int(s3.url.rpartition(":")[2])):
        yield


def fork_server() -> int:
    import os

    return os.getppid()


def stopped_at_its_deadline(function: Function, electron: Callable[[], Any]) -> float:
    took, response = timed(lambda: function.call(electron, limit=LIMIT))
    assert response.failure is not None and response.failure.kind == wire.DEADLINE
    return took - LIMIT


def cancelled(function: Function, s3: aws_server.AWS, electron: Callable[[], Any]) -> float:
    s3.requests = requests = Requests()
    s3.objects[ORDER] = b"cancel"
    response = function.call(electron, bucket="bucket")
    ended = time.monotonic()
    del s3.objects[ORDER]
    assert response.failure is not None and response.failure.kind == wire.CANCELLED
    return ended - requests.first


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
@pytest.mark.parametrize("electron", ENDLESS, ids=lambda x: x.__name__)
def test_end(
    function: Function,
    s3: aws_server.AWS,
    record_property: Callable[[str, object], None],
    electron: Callable[[], Any],
    how: str,
) -> None:
    """It is gone within 3 s of its deadline, or of the look that finds the order to cancel it, and
    so are its processes; the next electron comes from the same fork server."""
    server = returned(function.call(fork_server))
    if how == "deadline":
        took = stopped_at_its_deadline(function, electron)
    else:
        took = cancelled(function, s3, electron)
    record_property("seconds to death", [electron.__name__, how, took])
    assert took < DEATH + BUSY
    after = function.call(world.seen, ways.WORD)
    assert returned(after)["processes"] == []
    assert returned(function.call(fork_server)) == server  # else it was killed with its server


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
