"""What a test may not leave behind: threads, tasks, descriptors, processes."""

import asyncio
import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PATIENCE = 10.0  # seconds: threads end after what they do, sockets after their loop
# Of the interpreter and the tools: a subprocess of pytest's, a queue's feeder.
_OTHERS = ("asyncio_", "pytest_timeout")


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


def held() -> Held:
    """What this process holds now."""
    threads = {id(x): x.name for x in threading.enumerate() if not x.name.startswith(_OTHERS)}
    descriptors = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the one that listed them
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return Held(threads, descriptors, frozenset(children))


def pending_tasks() -> list[str]:
    """Tasks of asyncio's that nobody will run to their end."""
    tasks: Any = getattr(asyncio.tasks, "_scheduled_tasks", None)
    if tasks is None:
        tasks = getattr(asyncio.tasks, "_all_tasks", ())
    return [f"task {x!r}" for x in list(tasks) if not x.done()]


def left_since(before: Held) -> list[str]:
    """What a test has left behind, once there was time for it to go."""
    end = time.monotonic() + _PATIENCE
    left = [*held().more_than(before), *pending_tasks()]
    while left and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
        left = [*held().more_than(before), *pending_tasks()]
    return left
