"""Capture: all that is written to descriptors 1 and 2, in order, in bounded memory."""

import logging
import os
import selectors
import subprocess
import sys
import threading
import time

import pytest

import task_streams as streams


def test_takes_python_descriptors_and_subprocesses_in_order() -> None:
    """print, os.write and subprocesses end up in one stream, in the order of their writing."""
    with streams.Capture() as captured:
        print("print")
        os.write(1, b"descriptor\n")
        subprocess.run(["sh", "-c", "echo process; echo complaint >&2"], check=True)
        print("again")
        print("error", file=sys.stderr)
    assert captured.stdout == "print\ndescriptor\nprocess\nagain\n"
    assert captured.stderr == "complaint\nerror\n"


def test_gives_the_descriptors_back() -> None:
    """After the capture, writes go where they went before, and no descriptor is left open."""
    before = sys.stdout, sys.stderr, len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with streams.Capture():
            print("x")
    assert (sys.stdout, sys.stderr, len(os.listdir("/proc/self/fd"))) == before


def test_unfinished_line_is_kept() -> None:
    """Text without a newline at its end is not lost in a buffer."""
    with streams.Capture() as captured:
        print("no newline", end="")
    assert captured.stdout == "no newline"


def test_does_not_wait_for_a_process_left_behind() -> None:
    """A background process that keeps the pipe open does not hold the answer back."""
    with streams.Capture() as captured:
        left = subprocess.Popen(["sh", "-c", "echo early; exec sleep 30"])
        while "early" not in captured.stdout:
            pass
    try:
        assert captured.stdout == "early\n"
    finally:
        left.kill()
        left.wait()


def test_does_not_wait_for_a_process_that_never_stops_writing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a task left behind may write for ever: no more is taken than a pipe can hold."""
    taken: list[int] = []
    take = streams.Capture._take
    monkeypatch.setattr(
        streams.Capture, "_take", lambda self, reader: (taken.append(1), take(self, reader))[1]
    )
    monkeypatch.setattr(streams, "_LAST_CHUNKS", 3)
    capture = streams.Capture()
    with capture:
        monkeypatch.setattr(capture, "_pumped", lambda reader: None)
        for reader in capture._readers:
            capture._pump.pipes.modify(reader, selectors.EVENT_READ, lambda reader: None)
        left = subprocess.Popen(["yes"])
        time.sleep(0.2)
        taken.clear()
    left.kill()
    left.wait()
    assert len(taken) <= 2 * 3


def test_handler_of_one_task_still_writes_in_the_next() -> None:
    """A logging handler made in one capture reaches the next one's stderr."""
    logger = logging.getLogger("kept")
    with streams.Capture():
        handler = logging.StreamHandler()
        logger.addHandler(handler)
    try:
        with streams.Capture() as captured:
            logger.warning("still here")
    finally:
        logger.removeHandler(handler)
    assert captured.stderr == "still here\n"


def test_one_thread_serves_all_tasks() -> None:
    """The second and later captures start no thread."""
    with streams.Capture():
        pass
    before = threading.active_count()
    with streams.Capture() as captured:
        print("heard")
        assert threading.active_count() == before
    assert captured.stdout == "heard\n"


def test_descriptor_closed_by_the_task_costs_no_time() -> None:
    """A pipe that nobody can write to any more is let go, not asked again and again."""
    with streams.Capture() as captured:
        os.write(1, b"last words\n")
        os.close(1)
        began = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - began < 0.1
    assert captured.stdout == "last words\n"


def test_stream_closed_by_the_task_is_no_error() -> None:
    """A task may close sys.stdout; the next task has one again."""
    with streams.Capture():
        sys.stdout.close()
    with streams.Capture() as captured:
        print("next")
    assert captured.stdout == "next\n"


def test_keeps_head_and_tail_of_a_long_stream() -> None:
    """Of 40 MB, head and tail stay, and the mark counts what was cut."""
    line = b"x" * 999 + b"\n"
    clipped = streams.Clipped(head=5000, tail=7000)
    clipped.add(b"first\n")
    for _ in range(40_000):
        clipped.add(line)
    clipped.add(b"last\n")
    text = clipped.text()
    assert text.startswith("first\n") and text.endswith("last\n")
    assert f"[... {40_000_000 + 11 - 12_000} bytes cut here" in text
    assert len(text) < 12_200


def test_short_stream_is_whole() -> None:
    """A stream longer than the head but shorter than both together is joined without a mark."""
    clipped = streams.Clipped(head=3, tail=10)
    clipped.add("aä€b".encode())
    assert clipped.text() == "aä€b"
