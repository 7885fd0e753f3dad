"""The project of `make up`: from one time to the next it stays as its user left it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

REQUIREMENTS = Path("function") / "requirements.txt"
ANSWERS = Path("docs") / "answers.json"  # the packages among them
BEFORE = "before"

_MADE_FROM = "made-from"


def put_in_place(fresh: Path, folder: Path, *, renew_packages: bool) -> tuple[Path, str]:
    """Return the project to use, and a note on what became of the one that was there.

    The one that is there stays if the template and the answers are still the same. Otherwise it
    is set aside. Its packages come along, unless others were asked for.

    Args:
        fresh: a project that was just scaffolded; it is moved or removed.
        folder: the folder that holds the project from one time to the next.
        renew_packages: take the packages of `fresh`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    project = folder / fresh.name
    made_from = folder / _MADE_FROM
    digest = _digest(fresh)
    if project.is_dir() and made_from.is_file() and made_from.read_text("utf-8") == digest:
        if renew_packages:
            _take_packages(fresh, project)
        shutil.rmtree(fresh)
        return project, "the one of the last time, with your changes"
    note = ""
    if project.is_dir():
        before = folder / BEFORE
        shutil.rmtree(before, ignore_errors=True)
        project.rename(before)
        if not renew_packages and (before / REQUIREMENTS).is_file():
            _take_packages(before, fresh)
        aside = os.path.relpath(before)
        note = f"new, as the template has changed; the one of the last time is now {aside}"
    fresh.rename(project)
    made_from.write_text(digest, encoding="utf-8")
    return project, note


def packages(project: Path) -> list[str]:
    """Return the requirements that a project's function has, one a line, without comments."""
    text = (project / REQUIREMENTS).read_text(encoding="utf-8")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _take_packages(source: Path, project: Path) -> None:
    shutil.copyfile(source / REQUIREMENTS, project / REQUIREMENTS)
    if (source / ANSWERS).is_file():  # its user may have removed it
        answers = _answers(project)
        answers["packages"] = _answers(source).get("packages", "")
        text = json.dumps(answers, indent=2, ensure_ascii=False)
        (project / ANSWERS).write_text(text + "\n", encoding="utf-8")


def _answers(project: Path) -> dict[str, Any]:
    """Return what the project was made with; nothing if that cannot be read any more."""
    try:
        answers = json.loads((project / ANSWERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return answers if isinstance(answers, dict) else {}


def _digest(project: Path) -> str:
    """Return a digest of all files but for the packages, which have a setting of their own."""
    digest = hashlib.sha256()
    for path in sorted(project.rglob("*")):
        name = path.relative_to(project)
        if path.is_file() and name != REQUIREMENTS:
            content = path.read_bytes()
            if name == ANSWERS:
                content = json.dumps({**_answers(project), "packages": ""}).encode()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()
