"""The pages' transcripts: the commands still print what docs/transcripts/ holds."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from types import ModuleType

import pytest
from in_sandbox import ROOT, Sandbox


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "docs" / "transcripts.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


transcripts = load()


@pytest.fixture(scope="module")
def stage(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> object:
    """The sandbox, with the workflow that the commands tell of."""
    work = tmp_path_factory.mktemp("work")
    shutil.copy(transcripts.FOLDER / "survey.py", work)
    folders = {transcripts.PROJECT: sandbox.project, transcripts.WORK: work}
    return transcripts.Stage(sandbox.env, folders)


@pytest.mark.parametrize("name", transcripts.SANDBOX)
def test_commands_print_what_the_page_shows(stage: object, name: str) -> None:
    """All but numbers, names and what the machine has; in order, as one tells of the other."""
    scene = transcripts.SANDBOX[name]
    written = (transcripts.FOLDER / f"{name}.txt").read_text("utf-8")
    printed = stage.perform(scene)  # type: ignore[attr-defined]
    assert transcripts.shape(scene, printed) == transcripts.shape(scene, written)


def test_every_scene_is_written() -> None:
    """Each scene has its transcript with today's commands, and a picture where it needs one."""
    for name, scene in transcripts.SCENES.items():
        text = (transcripts.FOLDER / f"{name}.txt").read_text("utf-8")
        shown = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        assert shown == list(scene.commands), name
        assert (transcripts.FOLDER / f"{name}.svg").exists() == scene.picture, name
