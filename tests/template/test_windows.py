"""Names and line endings that survive Windows, where people scaffold for Linux images."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from baking import PROJECT, Bake, commit, git

from local_extensions.names import PROJECT_NAME_LIMIT

# https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')
# Of the 260 characters that a path may have, about 100 are left to where the folder is.
LONGEST_PATH = 150

# What git for Windows sets, by default.
LIKE_WINDOWS = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")


def names(folder: Path) -> list[PurePosixPath]:
    """Every file and folder below a folder, without git's own."""
    found = (PurePosixPath(path.relative_to(folder).as_posix()) for path in folder.rglob("*"))
    return [name for name in found if name.parts[0] != ".git"]


@pytest.fixture(params=["template", "project"])
def tree(request: pytest.FixtureRequest, published: Path, bake: Bake) -> Path:
    """The template's repository, and a project with the longest name."""
    if request.param == "template":
        return published
    return bake(project_name="p" * PROJECT_NAME_LIMIT)


def test_names(tree: Path) -> None:
    """No file or folder has a name that Windows refuses, or that differs from another's only in
    case; no path is too long."""
    found = names(tree)
    assert len(found) > 20
    for name in found:
        assert not DEVICE.fullmatch(name.name) and not FORBIDDEN.search(name.name), name
        assert len(f"{tree.name}/{name}") <= LONGEST_PATH, name
    folded = [str(name).casefold() for name in found]
    assert len(set(folded)) == len(folded)


def carriage_returns(folder: Path) -> list[str]:
    """The text files that have some."""
    files = {name: folder / name for name in names(folder) if (folder / name).is_file()}
    found = {str(name): path.read_bytes() for name, path in files.items()}
    return [name for name, data in found.items() if b"\r" in data and b"\0" not in data]


def test_line_endings(tree: Path, tmp_path: Path) -> None:
    """What Linux reads has Linux's line endings in a checkout on Windows as well."""
    if not (tree / ".git").exists():
        git(tree, "init", "--quiet", "--initial-branch=main")
        commit(tree, "made")
    git(tmp_path, "clone", "--quiet", *LIKE_WINDOWS, str(tree), "checkout")
    assert len(names(tmp_path / "checkout")) == len(names(tree))
    assert carriage_returns(tmp_path / "checkout") == []


def test_line_endings_need_the_attributes(published: Path, tmp_path: Path) -> None:
    """Without .gitattributes that checkout would differ: the test above can fail."""
    git(tmp_path, "clone", "--quiet", str(published), "plain")
    plain = tmp_path / "plain"
    for path in (plain / ".gitattributes", plain / PROJECT / ".gitattributes"):
        path.unlink()
    commit(plain, "without")
    git(tmp_path, "clone", "--quiet", *LIKE_WINDOWS, str(plain), "checkout")
    assert f"{PROJECT}/function/Dockerfile" in carriage_returns(tmp_path / "checkout")
