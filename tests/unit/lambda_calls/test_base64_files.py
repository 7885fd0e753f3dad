"""Base64 files: text reads and writes like a file of the bytes that it stands for."""

import base64
import binascii
import hashlib
import io
import itertools
import random

import pytest
from lambda_calls import base64_files
from lambda_calls.base64_files import Decoded, Encoded, Overfull


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base64_files, "_PIECE", 9)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 8, 9, 10, 100])
def test_reads_as_a_file_does(size: int) -> None:
    """Size, digest, and reads at any place are those of a file with the bytes."""
    data = random.Random(size).randbytes(size)
    file, decoded = io.BytesIO(data), Decoded(base64.b64encode(data).decode())
    assert decoded.size == size
    assert decoded.sha256() == hashlib.sha256(data).hexdigest()
    assert decoded.read() == data
    for _ in range(200):
        place, count = random.randrange(size + 1), random.randrange(-1, size + 3)
        assert decoded.seek(place) == file.seek(place)
        assert decoded.read(count) == file.read(count)
        assert decoded.tell() == file.tell()
    assert decoded.seek(0, io.SEEK_END) == size


def test_what_is_no_base64_is_refused() -> None:
    """Nothing is stored of a text that was damaged."""
    with pytest.raises(binascii.Error):
        Decoded("QUJD####").sha256()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 8, 9, 10, 100])
def test_becomes_base64(size: int) -> None:
    """However the bytes are cut, and in whatever order they come, the text is that of all."""
    data = random.Random(size).randbytes(size)
    cuts = sorted({0, size, *(random.randrange(size + 1) for _ in range(10))})
    pieces = list(itertools.pairwise(cuts))
    random.shuffle(pieces)
    file = Encoded(size)
    for start, end in pieces:
        assert file.seek(start) == start
        assert file.write(data[start:end]) == end - start
    assert file.size == size
    assert file.finished() == (hashlib.sha256(data).hexdigest(), base64.b64encode(data).decode())


def test_more_than_announced_is_refused() -> None:
    """A file takes no more memory than it was made for."""
    file = Encoded(3)
    file.seek(2)
    with pytest.raises(Overfull, match="4 bytes or more, expected 3"):
        file.write(b"xy")
