"""Messages between the function's processes: JSON with descriptors, one packet each.

A packet is whole or not there at all, which spares the framing. What is large never travels this
way: it lies in files without a name (`memory_file`), whose descriptors do.
"""

import array
import contextlib
import json
import os
import socket
from typing import Any, Collection, List, Sequence, Tuple

_dumps = json.dumps  # bound here, as an electron may replace it
LARGEST = 128 * 1024  # bytes of a packet; Linux takes some 200 KB
# Bytes of a message without a list of modules. For a buffer of a packet's full size malloc would
# tidy its free chunks, and in a forked process each page that this writes is a copy.
_SHORT = 4096
_MOST = 64  # descriptors of a packet; Linux takes 253


class Closed(Exception):
    """The other side has closed the channel, or ended."""


def pair() -> Tuple[socket.socket, socket.socket]:
    """The two ends of a new channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def at(fd: int) -> socket.socket:
    """The channel's end that has the descriptor `fd`."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)


def send(channel: socket.socket, message: Any, fds: Sequence[int] = (), *, flags: int = 0) -> None:
    """Send `message` with copies of the descriptors `fds`.

    Args:
        flags: of the system's `sendmsg`.

    Raises:
        Closed: if nobody can receive it any more.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        channel.sendmsg([_dumps(message).encode()], rights, flags)
    except ConnectionError as error:
        raise Closed from error


def receive(channel: socket.socket, most: int = _SHORT) -> Tuple[Any, List[int]]:
    """The next message, of at most `most` bytes, and its descriptors, the caller's to close.

    Raises:
        Closed: if the other side is gone.
    """
    room = socket.CMSG_SPACE(_MOST * array.array("i").itemsize)
    try:
        data, rights, _, _ = channel.recvmsg(most, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError as error:
        raise Closed from error
    fds = array.array("i")
    for level, kind, packed in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(packed[: len(packed) - len(packed) % fds.itemsize])
    if not data:
        raise Closed
    return json.loads(data), list(fds)


def memory_file(folder: str) -> int:
    """The descriptor of a new file without a name: in memory, or in `folder` if it must be."""
    with contextlib.suppress(AttributeError, OSError):  # a kernel, or a sandbox, without it
        return os.memfd_create("covalent")
    path = os.path.join(folder, f"unnamed-{os.urandom(8).hex()}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with contextlib.suppress(FileNotFoundError):  # a server has tidied up meanwhile
        os.unlink(path)
    return fd


def read_at(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes of a file from `offset` on; fewer if it is shorter."""
    pieces = []
    while size:
        piece = os.pread(fd, size, offset)
        if not piece:
            break
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_file(path: str) -> bytes:
    """A file of /proc; Python's own `open` makes three objects for it.

    Raises:
        OSError: if it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(fd, _SHORT), b""))
    finally:
        os.close(fd)


def write_all(fd: int, data: Any) -> None:
    """Write all of `data`, however often the system takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def close_all_but(kept: Collection[int]) -> None:
    """Close every descriptor of this process except for `kept`."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that listed them is gone by now
                os.close(int(name))
