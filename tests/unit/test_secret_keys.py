"""What the tests wrote is searched for the keys that they sign with."""

import base64
import os
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import secret_keys
from template_paths import REPOSITORY

PLANTED = "PlantedByATestToBeFoundByTheSearch"  # no run's own: nobody else looks for it


def _found(folder: Path) -> list[str]:
    return [x.rpartition("/")[2] for x in secret_keys.written_in([folder], {PLANTED})]


def test_secret_in_text_and_in_a_pickle_is_found(tmp_path: Path) -> None:
    """Logs, pickles and files below further folders are searched."""
    (tmp_path / "clean.log").write_text("SecretKey, but not that one")
    (tmp_path / "empty").touch()
    (tmp_path / "credentials").write_text(f"aws_secret_access_key = {PLANTED}")  # there it belongs
    assert _found(tmp_path) == []
    (tmp_path / "some.log").write_text(f"said: {PLANTED}\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "result.pkl").write_bytes(pickle.dumps({"AWS": PLANTED}))
    assert sorted(_found(tmp_path)) == ["result.pkl", "some.log"]


@pytest.mark.parametrize("before", range(4))
def test_secret_in_base64_is_found(tmp_path: Path, before: int) -> None:
    """Covalent keeps pickles as base64: a secret is found at any offset in it."""
    data = b"x" * before + PLANTED.encode() + b"y"
    (tmp_path / "envelope.json").write_bytes(base64.b64encode(data))
    assert _found(tmp_path) == ["envelope.json"]


def test_secret_in_a_database_is_found(tmp_path: Path) -> None:
    """The database of a Covalent server is one file of SQLite's."""
    with sqlite3.connect(tmp_path / "dispatcher_db.sqlite") as base:
        base.execute("create table settings (value text)")
        base.execute("insert into settings values (?)", (f"key={PLANTED}",))
    base.close()
    assert _found(tmp_path) == ["dispatcher_db.sqlite"]


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """Nothing hangs on a named pipe, and no link leads out of the folder."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/proc/kcore")
    assert _found(tmp_path) == []


@pytest.mark.parametrize(("where", "code"), [("nowhere", 0), ("tmp", 1), ("home", 1)])
def test_run_with_a_planted_secret_fails(tmp_path: Path, where: str, code: int) -> None:
    """A run whose tests pass fails if one of them wrote its key to a file; the file is named."""
    (tmp_path / "test_that_writes.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from secret_keys import no_secret_is_written\n"
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def secrets(): return {os.environ['AWS_SECRET_ACCESS_KEY']}\n"
        "def test_writes(tmp_path):\n"
        "    folder = {'tmp': tmp_path, 'home': Path.home()}.get(os.environ['WHERE'])\n"
        "    if folder: (folder / 'some.log').write_text(os.environ['AWS_SECRET_ACCESS_KEY'])\n"
    )
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        tmp_path,
        f"--basetemp={tmp_path}/base",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path / "test_that_writes.py"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY / "tests"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HOME": str(tmp_path / "home"),
            "AWS_SECRET_ACCESS_KEY": PLANTED,
            "WHERE": where,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout
    assert ("some.log" in done.stdout) == bool(code), done.stdout
