"""`event` and `result`, with the real handler between them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from covalent_awslambda_plugin.cli.main import main
from function_box import Function, returned

import wire

SCRIPT = """\
import sys
from pathlib import Path

import covalent as ct
import event_helper

sys.path.append(str(Path(__file__).parent / "elsewhere"))
import event_elsewhere

@ct.electron(deps_pip=None)
def join(first: str, second: str, times: int = 1) -> str:
    print("joins")
    return event_helper.joined(first, second) * times

@ct.electron
def fail():
    raise ValueError("a reason")

@ct.electron(deps_module="event_elsewhere")
def from_elsewhere() -> str:
    return event_elsewhere.said()

@ct.electron
def without_its_module() -> str:
    return event_elsewhere.said()

def plain(x):
    return x

if __name__ == "__main__":
    raise SystemExit("it must not run")
"""


@pytest.fixture
def script(clean_surroundings: Path) -> Path:
    """A workflow with a helper module beside it."""
    (clean_surroundings / "event_helper.py").write_text(
        "def joined(a, b):\n    return f'{a}, {b}'\n"
    )
    elsewhere = clean_surroundings / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "event_elsewhere.py").write_text("def said():\n    return 'from elsewhere'\n")
    path = clean_surroundings / "my_workflow.py"
    path.write_text(SCRIPT)
    return path


def event(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["event", *words]) == 0
    return capsys.readouterr().out


def test_there_and_back(
    script: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The function runs the event, and `result` shows value and output."""
    said = event(capsys, f"{script}:join", "Hello", "World", "times=2")
    with Function(tmp_path / "box") as function:
        answer = json.dumps(function.handle(json.loads(said)))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Invoking Container\n{answer}\n"))
    assert main(["result"]) == 0
    out = capsys.readouterr().out
    assert "returned: Hello, WorldHello, World" in out and "  joins" in out


def test_deps_module(
    script: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Covalent's `deps_module` has a module from another folder travel with its electron."""
    without = json.loads(event(capsys, f"{script}:without_its_module"))
    travels = json.loads(event(capsys, f"{script}:from_elsewhere"))
    monkeypatch.chdir(tmp_path)  # in its own folder the function would find the script
    with Function(tmp_path / "box") as function:
        failure = function.handle(without)["failure"]
        assert "No module named 'event_elsewhere'" in failure["message"]
        assert returned(wire.Response.from_json(function.handle(travels))) == "from elsewhere"


def test_a_failure(script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failed electron's traceback is shown, and the exit status is 1."""
    event_file, answer_file = tmp_path / "event.json", tmp_path / "answer.json"
    out = event(capsys, f"{script}:fail", "-o", str(event_file))
    assert f"sam local invoke -e {event_file} | covalent-lambda result" in out
    with Function(tmp_path / "box") as function:
        answer = function.handle(json.loads(event_file.read_text()))
    answer_file.write_text(json.dumps(answer))
    assert main(["result", str(answer_file)]) == 1
    assert "ValueError: a reason" in capsys.readouterr().out
    assert main(["result", "--json", str(answer_file)]) == 1
    assert json.loads(capsys.readouterr().out)["failure"]["kind"] == "exception"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["my_workflow.py"], "does not say which electron"),
        (["no.py:join"], "There is no script no.py"),
        (["my_workflow.py:jon"], "has no electron 'jon'; it has join, fail"),
        (["my_workflow.py:join", "one"], "missing a required argument: 'second'"),
        (["my_workflow.py:join", "a", "b", "-o", "no/such/folder"], "could not be written"),
    ],
)
def test_wrong_arguments(
    script: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Each is one line on stderr and exit status 1."""
    assert main(["event", *words]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There is no answer in it"),
        ('{"a": 1}', "This is not an answer of the function"),
        ('{"errorType": "E", "errorMessage": "m"}', "failed before it could answer: E: m"),
    ],
)
def test_what_is_no_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """It is told apart: nothing at all, somebody else's, a crash."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["result"]) == 1
    assert said in capsys.readouterr().err


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """As with `| head`: the exit status is 0, and nobody complains."""
    answer = tmp_path / "answer.json"
    answer.write_text('{"status": "ok", "python": "3.11.7"}')
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "covalent_awslambda_plugin", "result", str(answer)],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_event_file_is_nobody_elses_to_read(
    script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new event file, which holds arguments, is its owner's alone; the command names it so that
    a shell takes it for one word."""
    file = tmp_path / "my event;.json"
    out = event(capsys, f"{script}:plain", "7", "-o", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"sam local invoke -e '{file}' | covalent-lambda result" in out
