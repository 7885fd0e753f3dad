"""The answers as they were given, and asking again after a wrong one.

cookiecutter shows an extension neither the answers before it made texts of them nor whether it
asks at all. Both are in the frame of its own `prompt_for_config`, which makes the extension; where
that is not found, answers are taken as they come and nothing is asked twice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from cookiecutter import prompt

from .refusals import Refused, refuse

#: What a list means: requirements, each of which is a text.
LISTED = "packages"


class Asking:
    """What cookiecutter is about to ask.

    Args:
        raw: the questions, each with its answer from a file or the command line, or its default.
        interactive: whether somebody can be asked again.
    """

    def __init__(self, raw: MutableMapping[str, Any], *, interactive: bool) -> None:
        self._raw, self._interactive = raw, interactive
        self._prompts = dict(raw.get("__prompts__", {}))

    @classmethod
    def under_way(cls) -> Asking:
        """Find what is being asked now, if anything is."""
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code is prompt.prompt_for_config.__code__:
                raw = frame.f_locals["context"]["cookiecutter"]
                asked = not frame.f_locals["no_input"] and sys.stdin.isatty()
                return cls(raw, interactive=asked)
        return cls({}, interactive=False)

    def take_as_texts(self) -> None:
        """Turn answers of other types into the texts that they mean, or refuse them.

        YAML reads `no` and `on` as booleans and `null` as nothing; of a list cookiecutter would
        take the first item, and of an empty one make a traceback.
        """
        for name, value in self._raw.items():
            if not name.startswith("_"):
                self._raw[name] = _text_of(name, value)

    def until_right(
        self, name: str, answer: str, check: Callable[[str], str], default: Callable[[], str]
    ) -> str:
        """Return what a check makes of an answer; ask again as long as it refuses.

        Args:
            name: the question.
            answer: the first answer to it.
            check: the check.
            default: what to offer instead of a wrong answer.

        Raises:
            Refused: if there is nobody to ask.
        """
        while True:
            try:
                return check(answer)
            except Refused as refusal:
                if not self._interactive:
                    raise
                print(refusal)
                answer = prompt.read_user_variable(name, default(), self._prompts, "  ")


def _text_of(name: str, value: Any) -> Any:
    if name == LISTED and isinstance(value, list):
        return " ".join(_item_of(name, item) for item in value)
    if value is None:
        refuse(
            name, "null", "is not text", "leave the question out, or give '' for an empty answer"
        )
    if isinstance(value, bool):
        cause = "is a yes or no (so YAML reads yes, no, on, off, true and false), not a text"
        refuse(name, value, cause, "put it in quotes, or leave the question out")
    if isinstance(value, list):
        refuse(name, value, "is a list, not a text", "give one value")
    if isinstance(value, dict):
        refuse(name, "{...}", "is a mapping (a JSON object), not a text", "give one value")
    return value


def _item_of(name: str, item: Any) -> str:
    if not isinstance(item, str):
        refuse(name, item, "is not text, though it stands in the list", "put it in quotes")
    return item
