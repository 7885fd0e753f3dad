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
    "`cookiecutter --no-input` runs as a process of its own, with this template and with one of "
    f"one folder, one file and one question. Each runs {REPEATS} times, in turns, after {WARMUPS} "
    "rounds of warm-up. The time does not include the removal of the folder that was made."
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
            f"Ours adds {ours.median - other.median:.0f} ms. In that time Jinja compiles the "
            "files that it fills in and the questions' checks, and Python compiles the module of "
            "these checks.",
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
