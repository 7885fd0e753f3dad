"""What the benchmarks start leaves nothing in the machine's own /tmp."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import environment, lab, processes

HANDLER = """\
import os

def handler(event, context):
    os.environ["HOME"] = "/tmp"
    os.chdir("/tmp")
    with open(os.path.join("/tmp", event["name"]), "w") as file:
        file.write("left behind")
"""


def test_processes_have_a_folder_of_their_own_for_temporary_files(tmp_path: Path) -> None:
    """Clients, endpoint and server make theirs in the benchmark's folder, which is removed."""
    command = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    env = lab.environment(tmp_path, "http://127.0.0.1:9")
    _, printed, _ = processes.run(command, env, tmp_path)
    assert printed.strip() == str(tmp_path)


def test_the_stock_handler_writes_into_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names /tmp in its code; a later environment, forked after it was loaded, has its own."""
    source = tmp_path / "public" / "covalent_awslambda_plugin" / "exec.py"
    source.parent.mkdir(parents=True)
    source.write_text(HANDLER)
    monkeypatch.setattr(environment, "PUBLIC", tmp_path / "public")
    handler = environment.stock()
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        handler({"name": "result-benchmark.pkl"}, None)
        assert [file.name for file in folder.iterdir()] == ["result-benchmark.pkl"]
        assert (os.environ["HOME"], os.getcwd()) == (str(folder), str(folder))


def test_a_stock_handler_that_names_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may find its folder otherwise: then this has to be looked at anew."""
    source = tmp_path / "covalent_awslambda_plugin" / "exec.py"
    source.parent.mkdir()
    source.write_text("def handler(event, context): ...\n")
    monkeypatch.setattr(environment, "PUBLIC", tmp_path)
    with pytest.raises(AssertionError, match="would share the machine's /tmp"):
        environment.stock()
