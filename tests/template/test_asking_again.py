"""On a terminal a wrong answer is asked again; elsewhere it ends the generation."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reading import read_overrides, read_requirements, read_samconfig

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)
import pty

SECONDS = 60


class Terminal:
    """A program on a terminal of its own; it ends with the block."""

    def __init__(self, command: list[str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        self._program = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._unread = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.kill()
        self._program.wait()
        os.close(self._ours)

    def read_until(self, text: str) -> None:
        """Wait until a text is printed after what was read before."""
        end = time.monotonic() + SECONDS
        while text not in self._unread:
            assert time.monotonic() < end, self._unread
            if select.select([self._ours], [], [], 1)[0]:
                try:
                    self._unread += os.read(self._ours, 65536).decode()
                except OSError:  # the program has ended
                    break
        assert text in self._unread, self._unread
        self._unread = self._unread.partition(text)[2]

    def answer(self, line: str) -> None:
        """Type a line at the next prompt."""
        self.read_until("): ")
        os.write(self._ours, f"{line}\n".encode())

    def exit_code(self) -> int:
        """Wait for the program's end; what it prints has to be read, or it might wait for us."""
        end = time.monotonic() + SECONDS
        while self._program.poll() is None and time.monotonic() < end:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    self._unread += os.read(self._ours, 65536).decode()
                except OSError:
                    break
        return self._program.wait(SECONDS)


def test_wrong_answers_are_asked_again(template: Path, output: Path) -> None:
    """The sentence is printed, the same question follows, and the other answers are kept."""
    command = [sys.executable, "-m", "cookiecutter", str(template)]
    typed = [
        ("Name of the project", "1st"),
        ("cannot name a folder", "mine"),
        ("AWS region", "eu-west-1"),
        ("Python of your", "3.12"),
        ("Packages", "numpy =1"),
        ("has no package name", "--pre"),
        ("has an option", "numpy pandas"),
        ("Processor", ""),
        ("Base image", ""),
        ("Memory in MB", "5"),
        ("memory_size '5' is not", "512"),
        ("Longest run", ""),
        ("Name of the S3 bucket", "Upper"),
        ("bucket_name 'Upper' is not", "my-bucket"),
        ("Name of the Lambda function", ""),
    ]
    with Terminal(command, output) as terminal:
        for shown, answer in typed:
            terminal.read_until(shown)
            terminal.answer(answer)
        assert terminal.exit_code() == 0
    overrides = read_overrides(read_samconfig(output / "mine")["default"])
    assert overrides["FunctionName"].startswith("mine-")
    assert overrides["BucketName"] == "my-bucket"
    assert overrides["MemorySize"] == "512"
    assert read_requirements(output / "mine") == ["numpy", "pandas"]


def test_the_default_is_offered_again(template: Path, output: Path) -> None:
    """An empty second answer takes the question's own default."""
    command = [sys.executable, "-m", "cookiecutter", str(template), "timeout=901"]
    with Terminal(command, output) as terminal:
        for _ in range(8):
            terminal.answer("")
        terminal.read_until("timeout '901' is not")
        for _ in range(3):
            terminal.answer("")
        assert terminal.exit_code() == 0
    config = read_samconfig(output / "covalent-lambda")
    assert read_overrides(config["default"])["Timeout"] == "900"


def test_nobody_is_asked_without_questions(template: Path, output: Path) -> None:
    """With --no-input a wrong answer ends it, on a terminal too."""
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input", "timeout=901"]
    with Terminal(command, output) as terminal:
        terminal.read_until("timeout '901' is not")
        assert terminal.exit_code() == 1
    assert list(output.iterdir()) == []


def test_answers_from_a_pipe_are_not_shifted(template: Path, output: Path) -> None:
    """Where answers come from a pipe, the next line is no second answer: a wrong one ends it."""
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(template)],
        cwd=output,
        input="1st\nmine\n\n\n\n\n\n\n\n\n\n\n",
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert "project_name '1st' cannot name" in done.stdout
    assert list(output.iterdir()) == []
