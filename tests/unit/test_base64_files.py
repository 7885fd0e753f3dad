"""Base64 files: text reads and writes like a file of the bytes that it stands for."""

import base64
import binascii
import hashlib
import io
import random

import pytest
from covalent_awslambda_plugin import base64_files
from covalent_awslambda_plugin.base64_files import Decoded, Encoded


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
def test_writes_as_base64(size: int) -> None:
    """However the bytes are cut, the text is that of all; more than announced is refused."""
    data = random.Random(size).randbytes(size)
    file, place = Encoded(limit=size), 0
    while place < size:
        place += file.write(data[place : place + random.randrange(1, 8)])
    assert file.text() == base64.b64encode(data).decode()
    assert (file.size, file.sha256()) == (size, hashlib.sha256(data).hexdigest())
    with pytest.raises(ValueError, match="expected"):
        file.write(b"x")
