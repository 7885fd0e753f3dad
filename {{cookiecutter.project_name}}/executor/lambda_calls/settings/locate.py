"""Which samconfig.toml applies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from .defaults import PARAMETERS
from .errors import SettingsError
from .files import Files
from .samconfig import load, names_held

FILE_NAME = "samconfig.toml"
PATH_VARIABLE = "COVALENT_LAMBDA_SAMCONFIG"

#: A template beside the file that holds this logical id is one of ours.
TEMPLATE_MARK = "ElectronFunction"


def find_samconfig(
    start: Path | None, files: Files, warn: Callable[[str], None] = lambda _: None
) -> Path | None:
    """Return the nearest samconfig.toml upward that belongs to a project of this kind.

    Args:
        start: the folder to search from; None: there is none to search from.
        files: reads what is met.
        warn: is told of files that somebody else owns.
    """
    return next((path for path in _upward(start, warn) if not _why_not_ours(path, files)), None)


def passed_over(start: Path | None, files: Files | None = None) -> str:
    """Say which samconfig.toml the search met first and did not take, and why; "" if none."""
    path = next(_upward(start, lambda _: None), None)
    if path is None:
        return ""
    try:
        reason = _why_not_ours(path, files or Files())
    except SettingsError as error:
        reason = f"it cannot be used: {error}"
    return f"found {path}, but {reason}" if reason else ""


def absolute(path: str, start: Path | None) -> Path:
    """Return an absolute path; ``~`` is the user's home."""
    return Path(os.path.abspath((start or Path(".")) / os.path.expanduser(path)))


def working_directory() -> Path | None:
    """Return the working directory; None if it was removed under us."""
    try:
        return Path.cwd()
    except OSError:
        return None


def _upward(start: Path | None, warn: Callable[[str], None]) -> Iterator[Path]:
    if start is None:
        return
    for folder in (start, *start.parents):
        path = folder / FILE_NAME
        if os.path.isfile(path) and _is_trusted(path, warn):  # False in folders we may not enter
            yield path


def _is_trusted(path: Path, warn: Callable[[str], None]) -> bool:
    """Whether this user or root owns a file that nobody named.

    Somebody else's, /tmp/samconfig.toml say, could name a function of theirs, and calls and their
    data would go there.
    """
    if not hasattr(os, "geteuid") or path.stat().st_uid in (0, os.geteuid()):
        return True
    warn(f"Passed over {path}: it belongs to another user")
    return False


def _why_not_ours(path: Path, files: Files) -> str:
    """Say why a samconfig.toml met on the way up is of another kind of project; "" if it is not.

    Many people keep other SAM projects in the folders above. Taking one for ours would invoke a
    stranger's function; failing on one would break a program that has nothing to do with it. So:
    both names, or a template beside it with our function's logical id, make it ours. A single
    name does when there is no template to ask. Any other file is passed over, and the names of
    its stack are never asked for.
    """
    marked = _template_is_ours(path.with_name("template.yaml"))
    if marked:
        return ""
    try:
        held = names_held(path, load(path, "the search", files), files)
    except SettingsError as error:
        if marked is None:
            raise
        return f"it cannot be used: {error}"
    if len(held) == len(PARAMETERS) or (marked is None and held):
        return ""
    lacking = " or ".join(name for name in PARAMETERS.values() if name not in held)
    beside = "" if marked is None else f", and its template.yaml has no {TEMPLATE_MARK}"
    return f"it has no {lacking}{beside}"


def _template_is_ours(template: Path) -> bool | None:
    try:
        return TEMPLATE_MARK in template.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
