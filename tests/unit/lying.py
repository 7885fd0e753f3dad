"""How an electron gets at what its process and the handler's say to each other."""

from __future__ import annotations

from typing import Any


def own_channel() -> Any:
    """The channel by which a task's process speaks to the handler's."""
    import os
    import socket

    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return socket.socket(fileno=os.dup(int(name)))
        except OSError:
            pass
    raise AssertionError("there is no channel")


def answer_file() -> int:
    """The descriptor of the file that takes the answer: the first of those without a name."""
    import os

    for name in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            if "memfd:covalent" in os.readlink(f"/proc/self/fd/{name}"):
                return name
        except OSError:
            pass
    raise AssertionError("there is no file")
