"""Base64 text as a file of the bytes it stands for, read and written piece by piece.

Covalent holds 200 MB as 267 MB of text; were they decoded or encoded whole, they would be there
twice, and nothing else would run in the meantime.
"""

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pybase64

# Bytes decoded at a time: within a few milliseconds.
_PIECE = 3 * 1024 * 1024


class Decoded(io.RawIOBase):
    """A file of the bytes that base64 `text` stands for.

    Args:
        text: base64, padded, with nothing else in it.

    Raises:
        binascii.Error: when something else is met.
    """

    def __init__(self, text: str) -> None:
        self._text, self._position = text, 0
        self.size = 3 * (len(text) // 4) - text[-2:].count("=")

    def sha256(self) -> str:
        """The digest of all bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for piece in self._pieces():
            digest.update(piece)
        return digest.hexdigest()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = self.size if size is None or size < 0 else min(self.size, self._position + size)
        data = b"".join(self._pieces(self._position, end))
        self._position += len(data)
        return data

    def _pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        end = self.size if end is None else end
        while start < end:
            first = start // 3  # of the groups of three bytes, four characters each
            groups = self._text[4 * first : 4 * (first + _PIECE // 3)]
            piece = pybase64.b64decode(groups, validate=True)[start - 3 * first : end - 3 * first]
            yield piece
            start += len(piece)


class Encoded(io.RawIOBase):
    """A file that keeps what is written to it as base64 text.

    Args:
        limit: bytes beyond which writing fails.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._digest = limit, hashlib.sha256()
        self._texts: list[str] = []
        self._rest = b""  # of a group of three bytes
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Append bytes.

        Raises:
            ValueError: if they are more than the limit.
        """
        self.size += len(data)
        if self.size > self._limit:
            raise ValueError(f"{self.size} bytes or more, expected {self._limit}")
        self._digest.update(data)
        whole = self._rest + data if self._rest else data
        end = len(whole) - len(whole) % 3
        self._texts.append(pybase64.b64encode_as_string(memoryview(whole)[:end]))
        self._rest = bytes(whole[end:])
        return len(data)

    def sha256(self) -> str:
        """The digest of all bytes, in hexadecimal."""
        return self._digest.hexdigest()

    def text(self) -> str:
        """All of it."""
        return "".join([*self._texts, pybase64.b64encode_as_string(self._rest)])
