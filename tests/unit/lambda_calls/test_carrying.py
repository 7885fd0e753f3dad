"""Modules that travel with calls."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from lambda_calls.carrying import Carrier
from lambda_calls.errors import ConfigurationError
from template_paths import EXECUTOR

SCRIPT = """\
import json, os, sys
import top, package.inner, json as standard
from lambda_calls.carrying import Carrier
print(json.dumps(sorted(Carrier().carry(None))))
"""


def carried(folder: Path, *command: str) -> list[str]:
    """The modules that a program carries, run as a program of its own."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={"PYTHONPATH": str(EXECUTOR), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return list(json.loads(done.stdout))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script with a module, a package and a namespace package beside it."""
    made = tmp_path / "scripts"
    (made / "package").mkdir(parents=True)
    (made / "package" / "__init__.py").write_text("")
    (made / "package" / "inner.py").write_text("")
    (made / "space").mkdir()
    (made / "space" / "main.py").write_text(SCRIPT)
    (made / "top.py").write_text("")
    (made / "script.py").write_text(SCRIPT)
    return made


def test_those_beside_the_script(folder: Path, tmp_path: Path) -> None:
    """Its module and its package, from wherever it is run; nothing that is installed."""
    assert carried(folder, "script.py") == ["package", "top"]
    assert carried(tmp_path, "scripts/script.py") == ["package", "top"]


def test_a_script_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    """Its modules lie beside what it leads to, whether itself or its folder is the link."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "link.py").symlink_to(folder / "script.py")
    assert carried(tmp_path, "bin/link.py") == ["package", "top"]
    (tmp_path / "linked").symlink_to(folder)
    assert carried(tmp_path, "linked/script.py") == ["package", "top"]


def test_nothing_where_packages_are_installed(folder: Path) -> None:
    """In a Lambda function's folder the runtime client is the script, and all packages are beside
    it: they would travel as code, cloudpickle itself first."""
    (folder / "top-1.0.dist-info").mkdir()
    assert carried(folder, "script.py") == []
    assert carried(folder, "-m", "space.main") == []


def test_a_program_that_is_run_as_a_module(folder: Path) -> None:
    """The folder is the one that `python -m` finds it in."""
    assert carried(folder, "-m", "space.main") == ["package", "space", "top"]


def test_a_notebook(folder: Path) -> None:
    """Where there is no script, the working directory counts."""
    assert carried(folder, "-c", SCRIPT) == ["package", "top"]


def test_a_module_that_is_not_there() -> None:
    """It is named, and why it cannot be imported."""
    with pytest.raises(ConfigurationError, match=r"carry= names the module 'no_such'"):
        Carrier().carry(["no_such"])


@pytest.mark.parametrize("name", ["sys", "_json"])
def test_a_compiled_module(name: str) -> None:
    """Its code cannot travel: the message says what does."""
    with pytest.raises(ConfigurationError, match="is compiled: its code cannot travel"):
        Carrier().carry([name])


def test_modules_are_looked_at_again_only_after_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each executor that is made asks, and to look at all takes longer than all else it does."""
    for name in ("carried_first", "carried_second"):
        (tmp_path / f"{name}.py").write_text("")
        monkeypatch.setitem(sys.modules, name, sys)  # undone in the end
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    first = importlib.import_module("carried_first")
    carrier = Carrier()
    assert carrier.modules_in(str(tmp_path)) == [first]
    with monkeypatch.context() as patched:
        patched.setattr("lambda_calls.carrying._lies_in", None)
        assert carrier.modules_in(str(tmp_path)) == [first]
    second = importlib.import_module("carried_second")
    assert carrier.modules_in(str(tmp_path)) == [first, second]
    del sys.modules["carried_second"]
    again = importlib.import_module("carried_second")
    assert carrier.modules_in(str(tmp_path)) == [first, again]
