"""What each invocation took, noted beside its dispatch."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_server import AWS, Answer
from covalent_awslambda_plugin import record
from electrons import execute, good, made
from lambda_calls.usage import Usage

import wire

USED = Usage("r", 1.5, 2.0, 1024, 99, 0.5, True, "x86_64")


def test_there_and_back(tmp_path: Path) -> None:
    """An entry is read as it was written, and half a line after it does no harm."""
    entry = record.Entry.of(7, USED, {})
    record.add(tmp_path, entry)
    record.add(tmp_path, entry)
    text = (tmp_path / record.FILE_NAME).read_text()
    assert list(record.read(text + '{"node": 7, "en')) == [entry, entry]
    assert entry.dollars_on_arm64 == pytest.approx(2 * 0.0000133334 + 0.0000002)


def test_no_folder(tmp_path: Path) -> None:
    """Where Covalent keeps no files of a dispatch, nothing is written, and nothing fails."""
    record.add(tmp_path / "gone", record.Entry.of(7, USED, {}))
    assert not (tmp_path / "gone").exists()


def test_an_electron_leaves_an_entry(
    aws: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt that was answered is noted with its node."""
    from covalent_awslambda_plugin import running

    (tmp_path / "dispatch").mkdir()
    monkeypatch.setattr(running, "get_config", lambda name: str(tmp_path))

    def script(event: object) -> Answer:
        return good(1, usage=wire.Usage(request_id="r", duration=0.5, memory_mb=512))

    aws.script = script
    execute(made(), len, "x")
    (entry,) = record.read((tmp_path / "dispatch" / record.FILE_NAME).read_text())
    assert (entry.node, entry.usage.request_id, entry.usage.gb_seconds) == (7, "r", 0.25)
