"""CI leaves a Docker engine as it found it; a stand-in for it, as the one here is shared."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from template_paths import REPOSITORY

pytestmark = pytest.mark.timeout(60)

# A file for each container, name, image and volume; an image's file names the one it builds on.
DOCKER = """\
#!/bin/sh
cd "$STORE"
for last; do :; done
case "$1 $2" in
    'ps --all') ls containers ;;
    'volume ls') ls volumes ;;
    'image ls')
        if [ "$3" = --format ]; then ls names; exit; fi
        for image in $(ls images); do grep -qx "$image" images/* || echo "$image"; done ;;
    'rm --force') rm "containers/$last" ;;
    'volume rm') rm "volumes/$last" ;;
    'image rm')
        if [ -e "names/$last" ]; then rm "names/$last"; exit; fi
        if grep -qx "$last" images/* names/*; then exit 1; fi
        rm "images/$last" ;;
esac
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine that holds a base image with a name, and one container."""
    folder = tmp_path / "store"
    for kind in ("containers", "names", "images", "volumes"):
        (folder / kind).mkdir(parents=True)
    put(folder, "images", base="", theirs="base")
    put(folder, "names", base_1="base", theirs_1="theirs")
    put(folder, "containers", theirs="")
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("STORE", str(folder))
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    return folder


def put(store: Path, kind: str, **files: str) -> None:
    for name, content in files.items():
        (store / kind / name).write_text(f"{content}\n")


def leftovers(command: str, note: Path) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / ".ci" / "leftovers"
    return subprocess.run(
        ["bash", str(script), command, str(note)], capture_output=True, text=True, check=False
    )


def contents(store: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.name}" for path in store.glob("*/*"))


def test_what_is_new_goes(store: Path, tmp_path: Path) -> None:
    """Images that build on each other, with and without a name; all that was there stays."""
    before = contents(store)
    note = tmp_path / "note"
    assert leftovers("note", note).returncode == 0
    put(store, "images", one="base", two="one", nameless="two", three="theirs")
    put(store, "names", three_1="three", base_2="base")
    put(store, "containers", mine="")
    put(store, "volumes", mine="")
    done = leftovers("remove", note)
    assert (done.returncode, done.stdout) == (0, "")
    assert contents(store) == before


def test_what_cannot_be_removed_is_named(store: Path, tmp_path: Path) -> None:
    """An image that something holds on to is no silent success."""
    note = tmp_path / "note"
    leftovers("note", note)
    put(store, "images", held="base")
    put(store, "names", theirs_1="held")
    done = leftovers("remove", note)
    assert done.returncode == 1
    assert done.stdout == "left on the Docker engine: held\n"
