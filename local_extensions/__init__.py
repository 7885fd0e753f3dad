"""Checks of the template's answers, as a Jinja extension that cookiecutter loads.

    cookiecutter.json: "timeout" -> "__timeout": "{{ cookiecutter | checked('timeout') }}"
                                      |
    CHECKS["timeout"](value, answers) +-> the value the templates use, in its plain form
                                      +-> Refused: one sentence; asked again, or exit 1

Every question is followed by its check, so a wrong answer is refused before the next question
is asked. A value that passes is made only of characters that mean nothing special inside a quoted
YAML or TOML string, in a Dockerfile or in a shell. An answer that is itself a Jinja template is
refused before cookiecutter runs it. A filter is used rather than a hook because packaged versions
of SAM CLI refuse templates with Python hooks.

Standard library only, besides cookiecutter and Jinja.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

from .asking import Asking
from .image import (
    MEMORY_MB,
    TIMEOUT_SECONDS,
    check_architecture,
    check_base_image,
    check_python_version,
    running_python,
    whole_number,
)
from .names import (
    check_bucket_name,
    check_function_name,
    check_project_name,
    check_region,
    dns_suffix,
    partition,
    suffix,
    unique_bucket_name,
)
from .next_steps import next_steps
from .origin import address, template_version
from .packages import check_packages
from .refusals import Given, is_jinja, refuse

QUESTIONS = Path(__file__).parents[1] / "cookiecutter.json"
PROJECT_FOLDER = "{{cookiecutter.project_name}}"

CHECKS: dict[str, Callable[[str, Given], str]] = {
    "project_name": check_project_name,
    "region": check_region,
    "python_version": check_python_version,
    "packages": check_packages,
    "architecture": check_architecture,
    "base_image": check_base_image,
    "memory_size": whole_number("memory_size", "MB", MEMORY_MB),
    "timeout": whole_number("timeout", "seconds", TIMEOUT_SECONDS),
    "function_name": check_function_name,
    "bucket_name": check_bucket_name,
}


class Answers(Extension):
    """What cookiecutter.json names under ``_extensions``."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        forget_these_modules()
        self.questions = json.loads(QUESTIONS.read_text("utf-8"))
        texts = (text for text in self.questions.values() if isinstance(text, str))
        self.own = {PROJECT_FOLDER, *texts}
        self.asking = Asking.under_way()
        self.asking.take_as_texts()
        filters = (self.checked, partition, dns_suffix, suffix, address, next_steps)
        environment.filters.update({each.__name__: each for each in filters})
        functions = (running_python, unique_bucket_name, template_version)
        environment.globals.update({each.__name__: each for each in functions})

    def checked(self, answers: Given, name: str) -> str:
        """The filter: the answer to one question in its plain form, or Refused."""

        def check(answer: str) -> str:
            answers[name] = answer
            # The folder is named by the answer itself, so blanks around it are not forgiven.
            return CHECKS[name](answer if name == "project_name" else answer.strip(), answers)

        def default() -> str:
            question = self.environment.from_string(self.questions[name])
            return question.render(cookiecutter=answers)

        return self.asking.until_right(name, str(answers[name]), check, default)

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Refuse an answer that is a Jinja template: cookiecutter would run it.

        It renders each answer that was not typed in; Jinja calls this before. Files of the
        template have a name; nameless are the answers, the questions' own defaults, and paths.
        """
        if name is None and is_jinja(source) and source not in self.own:
            cause = "holds a Jinja template, which no question takes"
            refuse("answer", source, cause, "leave out {{, {% and {#")
        return source


def forget_these_modules() -> None:
    """Let the next import read these files anew.

    ``cruft update`` generates the project's version and a later one in one process and from one
    folder; the modules of the first would check the answers of the second. The compiled files go
    too: Python tells whether they are old by times in whole seconds.
    """
    for name in [each for each in sys.modules if each.partition(".")[0] == __name__]:
        module = sys.modules.pop(name)
        with contextlib.suppress(OSError):
            Path(importlib.util.cache_from_source(str(module.__file__))).unlink()
