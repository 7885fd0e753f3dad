"""Names and versions of packages, compared."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")


def normal(name: str) -> str:
    """A name as indexes compare it: https://peps.python.org/pep-0503/#normalized-names"""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements: Path) -> list[str]:
    """The names that a requirements file asks for on its own lines."""
    names = []
    for line in requirements.read_text("utf-8", "replace").splitlines():
        found = _NAME.match(line.strip())
        if found and "://" not in line.partition("#")[0].partition("@")[0]:
            names.append(found[0])
    return names


def differs(one: str, other: str) -> bool:
    """Whether two versions differ in what may break a pickle: the first number, or the second
    below 1.0."""
    first, second = one.split("."), other.split(".")
    if first[0] == second[0] == "0":
        return first[:2] != second[:2]
    return first[0] != second[0]
