"""The one sentence that every refusal is made of."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import NoReturn

from cookiecutter.exceptions import FailedHookException

Given = MutableMapping[str, str]

SHOWN_LENGTH = 60


class Refused(FailedHookException):  # type: ignore[misc]  # cookiecutter publishes no types
    """An answer the template cannot use; cookiecutter prints the sentence and exits with 1."""


def refuse(what: str, value: object, cause: str, remedy: str) -> NoReturn:
    """Raise Refused with the one sentence every refusal is made of."""
    raise Refused(f"{what} {shown(value)} {cause}; {remedy}.")


def shown(value: object) -> str:
    """The value in quotes, cut, on one line, as it was typed where that can be printed."""
    text = repr(str(value)).replace("\\\\", "\\")  # a Windows path as it was typed
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}...{text[0]}"


def is_jinja(text: str) -> bool:
    """Whether Jinja would see more than plain text in it."""
    return any(mark in text for mark in ("{{", "{%", "{#"))
