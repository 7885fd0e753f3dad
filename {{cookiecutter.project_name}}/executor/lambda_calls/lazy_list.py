"""A pickle of a list whose members are pickles: nobody has to unpickle them to put it together.

Whoever opens it opens its members; whoever only carries it needs none of their packages.
https://docs.python.org/3/library/pickletools.html has the opcodes.
"""

import struct
from collections.abc import Iterable

_PROTOCOL_4 = b"\x80\x04"
_LOADS = b"\x8c\x06pickle\x8c\x05loads\x93\x94" + b"0"  # pickle.loads, memo 0; popped
_EMPTY_LIST, _MARK, _APPENDS, _STOP = b"]", b"(", b"e", b"."
_GET_LOADS, _BYTES, _CALL = b"h\x00", b"\x8e", b"\x85R"
_BATCH = 1000  # members appended at a time, as the standard library does


def pickled_list(members: Iterable[bytes]) -> bytes:
    """The pickle of a list, made of the pickles of its members."""
    pieces = [_PROTOCOL_4, _LOADS, _EMPTY_LIST]
    for number, member in enumerate(members):
        if number % _BATCH == 0:
            pieces.append(_APPENDS + _MARK if number else _MARK)
        pieces += (_GET_LOADS, _BYTES, struct.pack("<Q", len(member)), member, _CALL)
    if len(pieces) > 3:
        pieces.append(_APPENDS)
    return b"".join([*pieces, _STOP])
