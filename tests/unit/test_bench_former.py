"""The former handler, which `coldstart` is compared with: got from git, and it takes its event."""

from __future__ import annotations

import json
import operator
import subprocess
import sys
from pathlib import Path

import pytest
from function_box import SERVING, Function, request
from template_paths import PROJECT, REPOSITORY

from benchmarks import former, handlers, images, lab
from benchmarks.suite import coldstart


def has_the_commit() -> bool:
    command = ["git", "cat-file", "-e", f"{former.COMMIT}^{{commit}}"]
    return not subprocess.run(command, cwd=REPOSITORY, capture_output=True).returncode


def test_without_history_it_is_left_out(tmp_path: Path) -> None:
    """Where git has no such commit nothing is unpacked, and the benchmark says so."""
    subprocess.run(["git", "init", "--quiet", tmp_path / "clone"], check=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert not former.unpack(folder, tmp_path / "clone")
    assert not list(folder.iterdir())
    (said,) = coldstart._left_out({})
    assert former.COMMIT[:7] in said
    assert coldstart._goals({}, "at most 1.1 ×", handlers.FORMER, 1.1) == []


needs_the_commit = pytest.mark.skipif(
    not has_the_commit(), reason=f"git here does not have {former.COMMIT}"
)


@needs_the_commit
def test_its_template_takes_an_image_as_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own questions are asked, also in this repository's folder, and ours is the base."""
    template = tmp_path / "template"
    template.mkdir()
    assert former.unpack(template)
    monkeypatch.chdir(REPOSITORY)
    project = images._scaffold(template, tmp_path, "base_image=ours:latest")
    dockerfile = (project / "function" / "Dockerfile").read_text("utf-8")
    assert "ARG BASE_IMAGE=ours:latest" in dockerfile
    assert "lambda_calls" not in dockerfile


@needs_the_commit
def test_it_takes_its_event(tmp_path: Path) -> None:
    """It runs the trivial electron in the envelope of its own protocol, and refuses today's."""
    template = tmp_path / "template"
    template.mkdir()
    assert former.unpack(template)
    project = template / PROJECT.name
    paths = [project / "function", project / "executor" / "covalent_awslambda_plugin"]
    serving = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n{SERVING}"
    envelope = json.loads(request(operator.index, 7).to_json())
    handler = handlers.Former(
        handlers.FORMER, "no image", lab.Endpoint("nowhere"), {"envelope": envelope}
    )
    event = handler.event()
    with Function(tmp_path / "environment", [sys.executable, "-c", serving]) as environment:
        handler.check(event, json.dumps(environment.handle(json.loads(event))).encode())
        with pytest.raises(lab.BenchmarkError, match="protocol"):
            handler.check(event, json.dumps(environment.handle(envelope)).encode())
