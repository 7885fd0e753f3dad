"""Feeds envelopes, frames and refusals with bytes that coverage has found; needs `atheris`.

It is no requirement of the project's, since it has no wheel for all of its Pythons.

Usage: python -m faults.fuzzing [-max_total_time=SECONDS] [libFuzzer's other options]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import atheris  # type: ignore

_CALLS = (
    Path(__file__).resolve().parent.parent / "{{cookiecutter.project_name}}/executor/lambda_calls"
)
sys.path.append(str(_CALLS))
with atheris.instrument_imports():
    import wire  # type: ignore


def one(data: bytes) -> None:
    """Read `data` as everything that comes over the wire; only an EnvelopeError may be raised."""
    for read in (_envelope, _frames, wire.Raised.from_bytes):
        try:
            read(data)
        except wire.EnvelopeError:
            pass


def _envelope(data: bytes) -> None:
    said: Any = wire.loads(data)
    if isinstance(said, dict):
        said.setdefault(wire.MARK, wire.PROTOCOL)
    for kind in (wire.Request, wire.Batch, wire.Response):
        try:
            kind.from_json(said)
        except wire.EnvelopeError:
            pass


def _frames(data: bytes) -> None:
    size = wire.whole_frames(data)
    assert b"".join(x.to_bytes() for x in wire.read_frames(data[:size])) == data[:size]
    list(wire.frames_of(data.decode("latin-1")))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
