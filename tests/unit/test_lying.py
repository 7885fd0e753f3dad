"""A task's process says what is not so, or what nobody can read: only its own answer suffers."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import lying
import psutil
import pytest
from function_box import Function, returned, timed
from lying import answer_file, own_channel
from patience import wait_until

import wire

for module in (lying, sys.modules[__name__]):
    cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """One environment for all."""
    with Function(tmp_path_factory.mktemp("lying") / "tmp") as running:
        yield running


def says(*words: bytes) -> None:
    import os

    channel = own_channel()
    for word in words:
        channel.send(word)
    os._exit(0)


def forges(report: str) -> None:
    import os

    data = report.encode()
    os.pwrite(answer_file(), data, 10)
    own_channel().send(b'{"report": [10, %d]}' % len(data))
    os._exit(0)


@pytest.mark.parametrize(
    "words",
    [
        b"no JSON",
        b"[" * 4000,
        b"\xff",
        b"7",
        b'{"report": 7}',
        b'{"report": [0, 10000000000000]}',
        b'{"report": [10000000000000, 1]}',
        b'{"report": [-1, "x"]}',
        b'{"report": [0, 1]}',
        b'{"peak": "much", "alone": "yes"}',
    ],
)
def test_odd_words(function: Function, words: bytes) -> None:
    """Whatever a process says before it ends, the answer tells of a crash."""
    response = function.call(says, words)
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert returned(function.call(abs, -1)) == 1


@pytest.mark.parametrize(
    "report",
    [
        "[]",
        "{}",
        '{"modules": []}',
        '{"modules": [7], "result": 1, "text": 0, "attrs": {}}',
        '{"modules": [], "result": 1000000000000, "text": 0, "attrs": {}}',
        '{"modules": [], "result": 5, "text": -1, "attrs": {}}',
        '{"modules": [], "result": 5, "text": 1, "attrs": 7}',
        '{"modules": [], "spread": "x"}',
        '{"modules": [], "failure": {"kind": "x", "message": 7}}',
        '{"modules": [], "failure": {"odd": 7}}',
        '{"modules": [], "failure": null}',
    ],
)
def test_forged_report(function: Function, report: str) -> None:
    """A report that is none tells of a crash."""
    response = function.call(forges, report)
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert returned(function.call(abs, -1)) == 1


def claims(peak: int) -> None:
    """Return 7, with figures of its own beside it."""
    import json
    import os
    import pickle
    import time

    time.sleep(0.3)
    value = pickle.dumps(7)
    figures = {"request_id": "forged", "duration": 0.0, "memory_mb": 1, "max_memory_mb": 1}
    report = {"modules": [], "result": len(value), "text": 0, "attrs": {}, "usage": figures}
    said = json.dumps({**report, **figures}).encode()
    os.pwrite(answer_file(), value + said, 0)
    channel = own_channel()
    channel.send(b'{"report": [%d, %d], "duration": 0}' % (len(value), len(said)))
    channel.send(b'{"peak": %d, "alone": true, "memory_mb": 1}' % peak)
    os._exit(0)


@pytest.mark.parametrize("peak", [0, 1, 999_999_999, 10**30])
def test_forged_figures(function: Function, peak: int) -> None:
    """What is billed is the handler's own: time, setting, and name of the invocation. Of memory a
    process may claim what it wants, but no more than the machine has."""
    response = function.call(claims, peak)
    assert returned(response) == 7
    usage = response.usage
    assert (usage.request_id, usage.memory_mb) == ("request-1", 512)
    assert usage.duration >= 0.3
    assert 0 < usage.max_memory_mb < 2 * psutil.virtual_memory().total >> 20


def sparse(size: int, report: str) -> None:
    import os

    os.ftruncate(answer_file(), size)
    own_channel().send(report.encode())
    os._exit(0)


@pytest.mark.parametrize("report", ['{"report": [0, 1099511627776]}', '{"odd": 1}'])
def test_an_answer_that_is_nothing_but_large(function: Function, report: str) -> None:
    """A file of a terabyte that holds nothing takes no memory of the handler's."""
    assert returned(function.call(abs, -1)) == 1
    before = psutil.Process(function.process.pid).memory_info().rss
    response = function.call(sparse, 1 << 40, report)
    assert response.failure is not None and response.failure.kind == wire.CRASHED
    assert psutil.Process(function.process.pid).memory_info().rss < before + 50_000_000
    assert returned(function.call(abs, -1)) == 1


def test_descriptors_are_not_taken(function: Function) -> None:
    """A process cannot use up the handler's descriptors by sending it some."""

    def sends() -> None:
        import array
        import socket

        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 50))]
        channel = own_channel()
        for _ in range(20):
            channel.sendmsg([b'{"odd": 1}'], rights)

    returned(function.call(abs, -1))
    before = psutil.Process(function.process.pid).num_fds()
    assert returned(function.call(sends)) is None
    assert psutil.Process(function.process.pid).num_fds() < before + 10


def test_much_said_before_the_end(function: Function) -> None:
    """Whatever a process said before its report, the report is read, though it has ended since."""

    def chatters() -> str:
        channel = own_channel()
        for _ in range(200):
            channel.send(b'{"odd": 1}')
        return "heard"

    assert [returned(function.call(chatters)) for _ in range(5)] == 5 * ["heard"]


def test_says_that_it_ends_and_runs_on(function: Function, tmp_path: Path) -> None:
    """A process that says that it ends, and does not, is killed; the next electron does not wait
    for it."""

    def runs_on(mark: str) -> None:
        import os
        import time

        report = b'{"modules": [], "failure": {"kind": "exception", "message": "a lie"}}'
        os.pwrite(answer_file(), report, 0)
        channel = own_channel()
        channel.send(b'{"report": [0, %d]}' % len(report))
        channel.send(b'{"peak": 1, "alone": true}')
        while True:
            with open(mark, "a") as file:
                file.write(".")
            time.sleep(0.01)

    mark = tmp_path / "mark"
    response = function.call(runs_on, str(mark))
    assert response.failure is not None and response.failure.message == "a lie"
    took, after = timed(lambda: function.call(os.getpid))
    assert returned(after) and took < 10  # else it would be waited for, for half a minute
    size = mark.stat().st_size if mark.exists() else 0
    time.sleep(0.1)
    assert (mark.stat().st_size if mark.exists() else 0) == size


@pytest.mark.parametrize("others", [15, 16, 17])
def test_words_are_taken_in_portions(function: Function, others: int) -> None:
    """A report is read wherever it stands among the words that came before the parent looked."""

    def chatters(parent: int, others: int) -> str:
        import signal

        os.kill(parent, signal.SIGSTOP)
        channel = own_channel()
        for _ in range(others):
            channel.send(b'{"odd": 1}')
        return "heard"

    parent = psutil.Process(function.process.pid)

    def go_on() -> None:
        wait_until(lambda: parent.status() == psutil.STATUS_STOPPED, "the parent is stopped", 20)
        time.sleep(0.5)  # the electron ends meanwhile
        parent.resume()

    helper = threading.Thread(target=go_on)
    helper.start()
    try:
        assert returned(function.call(chatters, parent.pid, others)) == "heard"
    finally:
        helper.join()
