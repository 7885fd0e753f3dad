"""The image that `sam build` made, run by `sam local`; skipped where it is not built.

sam build && python -m pytest tests/test_on_this_machine.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300  # the first one adds `sam local`'s layer to the image


def run(*command: str, given: str = "") -> str:
    """What a command prints, in the project's folder."""
    done = subprocess.run(
        command, cwd=str(ROOT), input=given, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(autouse=True)
def built() -> None:
    """Skip what cannot be run here, and say why."""
    if not (ROOT / ".aws-sam" / "build" / "template.yaml").is_file():
        pytest.skip("the image is not built: sam build")
    for program in ("sam", "docker"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.skip("no Docker engine answers")


def test_image_answers_ping() -> None:
    """`sam local invoke -e events/ping.json` answers, with the project's Python."""
    answer = json.loads(run("sam", "local", "invoke", "-e", "events/ping.json").splitlines()[-1])
    assert answer["status"] == "ok", answer
    python = ".".join(answer["python"].split(".")[:2])
    dockerfile = (ROOT / "function" / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG PROJECT_PYTHON={python}\n" in dockerfile


def test_image_runs_an_electron(tmp_path: Path) -> None:
    """An electron of workflows/hello.py runs: what it prints and returns comes back."""
    if shutil.which("covalent-lambda") is None:
        pytest.skip("the executor is not installed: pip install ./executor")
    event = str(tmp_path / "event.json")
    electron = "workflows/hello.py:join"
    run("covalent-lambda", "event", electron, "Hello", "World", "-o", event)
    answer = run("sam", "local", "invoke", "-e", event)
    shown = run("covalent-lambda", "result", given=answer)
    assert "join('Hello', 'World') ran on" in shown
    assert "returned: Hello, World" in shown
