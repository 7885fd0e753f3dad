"""What a test may not leave behind: threads, tasks, descriptors, processes."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Seconds, for a busy machine: threads end after what they do, sockets after their loop.
_PATIENCE = 30.0
# Of the interpreter and the tools: a subprocess of pytest's, a queue's feeder.
_OTHERS = ("asyncio_", "pytest_timeout")
_SERVES = "(process_request_thread)"  # ends the name of a thread of socketserver's


@dataclass(frozen=True)
class Held:
    """What this process holds.

    Args:
        threads: by identity.
        descriptors: what each is open on.
        children: ids of processes.
    """

    threads: dict[int, str]
    descriptors: dict[str, str]
    children: frozenset[str]

    def more_than(self, before: "Held") -> list[str]:
        """What there is more of."""
        threads = [f"thread {x}" for k, x in self.threads.items() if k not in before.threads]
        files = [
            f"descriptor {fd} on {target}"
            for fd, target in self.descriptors.items()
            if before.descriptors.get(fd) != target
        ]
        return threads + files + [f"process {x}" for x in self.children - before.children]


def held(serving: int = 0) -> Held:
    """What this process holds now.

    Args:
        serving: a port at which this process answers others. The server's ends of connections to
            it, and the threads that serve them, are as lasting as those others.
    """
    theirs = _sockets_at(serving) if serving else frozenset()
    threads = {
        id(x): x.name
        for x in threading.enumerate()
        if not x.name.startswith(_OTHERS) and not (serving and x.name.endswith(_SERVES))
    }
    descriptors = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the one that listed them
        if target not in theirs:
            descriptors[fd] = target
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return Held(threads, descriptors, frozenset(children))


def _sockets_at(port: int) -> frozenset[str]:
    """The ends of TCP connections that are at a port, as /proc/self/fd names them."""
    found = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            found.add(f"socket:[{fields[9]}]")
    return frozenset(found)


def pending_tasks() -> list[str]:
    """Tasks of asyncio's that nobody will run to their end."""
    tasks: Any = getattr(asyncio.tasks, "_scheduled_tasks", None)
    if tasks is None:
        tasks = getattr(asyncio.tasks, "_all_tasks", ())
    return [f"task {x!r}" for x in list(tasks) if not x.done()]


def left_since(before: Held, serving: int = 0) -> list[str]:
    """What a test has left behind, once there was time for it to go; `serving` as for `held`."""
    end = time.monotonic() + _PATIENCE
    left = [*held(serving).more_than(before), *pending_tasks()]
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
        left = [*held(serving).more_than(before), *pending_tasks()]
    return left


@contextmanager
def none(request: pytest.FixtureRequest, serving: int = 0) -> Iterator[None]:
    """Fail a test that leaves something behind while the body runs, unless it says why.

    Args:
        request: of a fixture of the test.
        serving: as for `held`.
    """
    before = held(serving)
    yield
    if request.node.get_closest_marker("leaves"):
        return
    left = left_since(before, serving)
    assert not left, f"left behind: {', '.join(left)}"
