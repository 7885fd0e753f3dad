"""`covalent-lambda result` reads what a function answered to an event."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lambda_calls import messages, usage, wire

from ..errors import advice
from .errors import CommandError
from .output import Output

HELP = "read what came back for an event"
DESCRIPTION = """\
Read the function's answer to an event that `covalent-lambda event` wrote, from a
file or from standard input:

  sam local invoke -e events/join.json | covalent-lambda result

It shows the value's text and what the electron printed. Nothing is unpickled.
Exit status 1 if the electron failed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="(default: standard input)"
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Read it."""
    answer = _answer(_text(options.file))
    if answer.get("status") == "ok":
        output.document(answer)
        output.line("The function answers: ", ", ".join(_facts(answer)))
        return 0
    try:
        response = wire.Response.from_json(answer)
    except wire.EnvelopeError as error:
        raise CommandError(f"This is not an answer of the function: {error}") from error
    used = usage.of(response.usage, "")
    failure = response.failure
    value = response.text if isinstance(response.text, str) else None
    output.document(
        {
            "value": value,
            "failure": None if failure is None else vars(failure),
            "stdout": response.stdout,
            "stderr": response.stderr,
            "usage": vars(used),
        }
    )
    for name in ("stdout", "stderr"):
        if getattr(response, name):
            output.line((f"{name}:", "quiet"))
            output.block(getattr(response, name), "  ")
    if failure is not None:
        _write_failure(failure, response, output)
    elif value is None:
        output.line("It returned a list that fans out: the executor runs its items.")
    else:
        output.line((f"returned: {value}", "good"))
    output.line((str(used), "quiet"))
    return 1 if failure is not None else 0


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except OSError as error:
        raise CommandError(f"{file} could not be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 text.") from error


def _answer(text: str) -> dict[str, Any]:
    """The answer, which may follow lines of SAM CLI's."""
    for start in (text, *reversed(text.splitlines())):
        try:
            answer = wire.loads(start)
        except wire.EnvelopeError:
            continue
        if isinstance(answer, dict):
            if "errorType" in answer:
                raise CommandError(
                    f"The function failed before it could answer: {answer['errorType']}: "
                    f"{answer.get('errorMessage', '')}"
                )
            return answer
    raise CommandError(
        "There is no answer in it (a JSON object). Did `sam local invoke` fail? It says so on "
        "standard error."
    )


def _facts(answer: dict[str, Any]) -> list[str]:
    shown = ("python", "cloudpickle", "covalent", "boto3", "architecture", "memory_mb")
    return [f"{name} {answer[name]}" for name in shown if answer.get(name) is not None]


def _write_failure(failure: wire.Failure, response: wire.Response, output: Output) -> None:
    error = messages.of_failure(
        failure,
        response.usage,
        call="electron",
        function="(local)",
        limits={"Timeout": 900},
        advice=advice(),
    )
    output.line(("failed:", "bad"))
    output.block(error.report(), "  ")
