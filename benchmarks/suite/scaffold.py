"""Scaffolding a project beside the least that cookiecutter can do."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from .. import lab, processes
from ..paths import ROOT
from ..results import OURS, Benchmark, Goal, Measure, ratio

REPEATS = 21
WARMUPS = 2
LIMIT = 1.5
EMPTY = "empty template"
WHAT = "cookiecutter --no-input, start to end"
SETUP = (
    f"`cookiecutter --no-input` as a process of its own: this template, and one of one folder "
    f"with one file and one question. {REPEATS} runs each, in turns, after {WARMUPS} rounds of "
    f"warm-up; the folder that was made is removed outside the time."
)


def run() -> Benchmark:
    with lab.folder() as work:
        empty = _empty_template(work / "empty")
        times = processes.in_turns(
            "scaffolding projects",
            {OURS: _scaffolding(ROOT, work), EMPTY: _scaffolding(empty, work)},
            REPEATS,
            WARMUPS,
        )
    ours, other = (
        Measure(name, WHAT, "ms", [1000 * x for x in times[name]]) for name in (OURS, EMPTY)
    )
    return Benchmark(
        name="scaffold",
        title="a project from the template",
        setup=SETUP,
        measures=[ours, other],
        goals=[Goal(f"at most {LIMIT} × an empty template", ratio(ours, other), LIMIT)],
        notes=[
            f"{other.median:.0f} ms are cookiecutter itself: the interpreter and its imports. "
            f"Ours adds {ours.median - other.median:.0f} ms, in which Jinja compiles the files "
            "that it fills in and the questions' checks, and Python the module of these checks.",
        ],
    )


def _scaffolding(template: Path, work: Path) -> Callable[[], float]:
    out = work / "out"
    command = [_cookiecutter(), "--no-input", "--output-dir", str(out), str(template)]
    env = lab.environment(work, "http://127.0.0.1:9")  # nothing of it talks to anything

    def scaffold() -> float:
        taken, _, _ = processes.run(command, env, work)
        made = [path for path in out.rglob("*") if path.is_file()]
        if not made:
            raise lab.BenchmarkError(f"{' '.join(command)} made nothing")
        shutil.rmtree(out)
        return taken

    return scaffold


def _empty_template(folder: Path) -> Path:
    project = folder / "{{cookiecutter.project_name}}"
    project.mkdir(parents=True)
    (folder / "cookiecutter.json").write_text(json.dumps({"project_name": "empty"}))
    (project / "README.md").write_text("# {{cookiecutter.project_name}}\n")
    return folder


def _cookiecutter() -> str:
    """The one that lies beside this Python."""
    return str(Path(sys.executable).with_name("cookiecutter"))
