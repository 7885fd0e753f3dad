"""Base64 text as a file of the bytes it stands for: what S3 transfers read from and write to.

Covalent holds 200 MB as 267 MB of text. Arguments are decoded piece by piece, so that they are
never there twice. What takes long (digests, base64) lets other threads run.
"""

import io
from collections.abc import Iterator
from typing import Any

import pybase64

from .wire import Sha256

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
        self.text, self._position = text, 0
        self.size = 3 * (len(text) // 4) - text[-2:].count("=")

    def sha256(self) -> str:
        """The digest of all bytes, in hexadecimal."""
        with Sha256() as digest:
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
            groups = self.text[4 * first : 4 * (first + _PIECE // 3)]
            piece = pybase64.b64decode(groups, validate=True)[start - 3 * first : end - 3 * first]
            yield piece
            start += len(piece)


class Overfull(Exception):
    """More was written to a file than it was made for."""


class Encoded(io.RawIOBase):
    """A file in memory, of a known size, whose parts come in any order; then had as base64 text.

    Args:
        size: bytes that there will be.
    """

    def __init__(self, size: int) -> None:
        self._bytes, self._position = bytearray(size), 0
        self.size = 0  # where what was written ends

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("the end is not known while parts are missing")
        self._position = offset
        return offset

    def write(self, data: Any) -> int:
        """Put bytes at the current position.

        Raises:
            Overfull: if they go beyond the announced size.
        """
        end = self._position + len(data)
        self.size = max(self.size, end)
        if end > len(self._bytes):
            raise Overfull(f"{end} bytes or more, expected {len(self._bytes)}")
        self._bytes[self._position : end] = data
        self._position = end
        return len(data)

    def finished(self) -> tuple[str, str]:
        """The digest of all bytes, in hexadecimal, and all of them as base64 text."""
        with Sha256() as digest:
            digest.update(self._bytes)
            text = pybase64.b64encode_as_string(self._bytes)
        return digest.hexdigest(), text
