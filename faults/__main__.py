"""Checks the table of faults, then runs many calls among random ones; `make faults`.

    table (in a container, too) ─┐
    programs and servers        ─┴─► storm ─► soak, with programs that are suspended for long

The table and the programs mostly wait, so they run side by side.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT / "{{cookiecutter.project_name}}" / "executor"), str(_ROOT / "tests")]


_SMALL_ROWS, _SMALL_CALLS = 30, 60
# What may not be left out then, as in the end-to-end tests.
_REQUIRED = "COVALENT_LAMBDA_REQUIRE_E2E"
_PARTS = ("table", "programs", "storm", "soak")


def main() -> int:
    """Run it; 1 if a promise was broken, or if what is required could not be run."""
    options = _options()
    from . import report
    from .lab import running
    from .progress import Progress
    from .ways import many_programs, surroundings

    progress = Progress()
    progress.say(f"seed {options.seed}: `SEED={options.seed}` makes the same requests fail")
    shown = report.Shown()
    with running() as lab, surroundings(str(lab.folder)) as shown.aside:
        with many_programs():
            _check_side_by_side(lab, options, shown, progress)
        if options.only in ("", "storm"):
            _run_storms(lab, options, shown, progress)
        if options.soak and options.only in ("", "soak"):
            _run_soak(lab, options, shown, progress)
        shown.aside += secrets_in(lab.folder)
    if options.keep:
        report.keep(shown)
    for line in shown.broken:
        print(f"BROKEN: {line}")
    for line in shown.not_run:
        print(f"NOT RUN: {line}")
    progress.say(
        f"{len(shown.broken)} promises broken, {len(shown.not_run)} parts not run, in "
        f"{progress.seconds / 60:.1f} minutes"
    )
    return code_of(shown, os.environ)


def secrets_in(folder: Path) -> list[str]:
    """The files that a run wrote there with the key that its requests were signed with."""
    from secret_keys import written_in

    from .lab import SECRET_KEY

    return written_in([folder], {SECRET_KEY})


def code_of(shown: Any, variables: Mapping[str, str]) -> int:
    """The code with which a run ends, in an environment with these variables."""
    is_missing = shown.not_run and variables.get(_REQUIRED) == "1"
    return 1 if shown.broken or is_missing else 0


def _check_side_by_side(lab: Any, options: argparse.Namespace, shown: Any, progress: Any) -> None:
    """What mostly waits: rows, those in a container, and scenes, side by side."""
    from . import programs

    apart, contained = _rows(options)
    play = options.only in ("", "programs") and not options.small
    scenes = [x for x in programs.SCENES if play and options.row in x.name]
    with ThreadPoolExecutor(2) as threads:
        jobs = [
            threads.submit(_check_contained, contained, options, shown, progress),
            threads.submit(_check, lab, apart, options, shown, progress),
        ]
        shown.scenes = programs.play(lab, scenes, progress)
        for job in jobs:
            job.result()


def _rows(options: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Rows with the ways on which to run them: on this machine, and in a container."""
    from . import table, ways

    if options.only not in ("", "table"):
        return [], []
    rows = [x for part in table.PARTS.values() for x in part]
    pairs = [(x, way) for x in rows for way in x.ways or ways.WAYS]
    if options.small:  # every seed takes others
        quick = [x for x in pairs if not x[0].contained and not x[0].takes]
        pairs = random.Random(options.seed).sample(quick, _SMALL_ROWS)
    if options.row:
        pairs = [x for x in pairs if options.row in x[0].name]
    return [x for x in pairs if not x[0].contained], [x for x in pairs if x[0].contained]


def _check(lab: Any, pairs: Any, options: argparse.Namespace, shown: Any, progress: Any) -> None:
    from . import checking

    shown.checked += checking.check(lab, pairs, options.seed, progress)


def _check_contained(pairs: Any, options: argparse.Namespace, shown: Any, progress: Any) -> None:
    from .lab import base_image, running

    image = base_image() if pairs else ""
    if image:
        with running(image) as boxed:
            _check(boxed, pairs, options, shown, progress)
            shown.aside += secrets_in(boxed.folder)
    elif pairs:
        names = ", ".join(sorted({x.name for x, _ in pairs}))
        shown.not_run.append(f"{names}: there is no Docker with an image of this Python")


def _run_storms(lab: Any, options: argparse.Namespace, shown: Any, progress: Any) -> None:
    from . import storm

    count = _SMALL_CALLS if options.small else options.calls or storm.CALLS
    for retries in (0,) if options.small else (0, 3):
        seconds = 20.0 if options.small else 60.0
        progress.say(f"{count} calls among random faults, retries={retries}")
        found = storm.run(lab, count, seed=options.seed, retries=retries, timeout=seconds)
        shown.storms.append(found)
        _tell(found)


def _run_soak(lab: Any, options: argparse.Namespace, shown: Any, progress: Any) -> None:
    from . import programs, soak

    shown.soak = soak.run(lab, options.soak, options.seed, progress)
    progress.say(f"soak: {shown.soak}")
    scenes = [x for x in programs.LONG_SCENES if options.row in x.name]
    shown.scenes |= programs.play(lab, scenes, progress)


def _tell(found: Any) -> None:
    from . import storm

    for name, way in found.ways.items():
        print(f"{name}: {way.calls} calls, {dict(way.ends)}, {way.seconds:.0f} s")
        for kind, said in way.said.items():
            for words, count in said.most_common(4):
                print(f"    {count} {kind}: {words}")
    state = found.state
    print(
        f"retries={found.retries}: {storm.requests_broken(state)} of {storm.requests(state)} "
        f"requests broken, {sum(state['function_hits'])} of {state['function_seen']} of the "
        f"function's own; environments of {state['environments_hit']} of {state['invocations']} "
        f"invocations killed or frozen; {len(found.left)} objects left, {len(found.leaked)} of "
        "them leaked"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", default=str(time.time_ns() % 1_000_000), help="which requests are broken"
    )
    parser.add_argument(
        "--calls",
        type=int,
        help="calls among random faults (default: 1000), and as many again with retries=3",
    )
    parser.add_argument(
        "--soak", type=float, default=0.0, metavar="MINUTES", help="of calls in one process, too"
    )
    parser.add_argument("--only", default="", choices=_PARTS, help="one part")
    parser.add_argument(
        "--row", default="", help="only faults and scenes whose names hold these words"
    )
    parser.add_argument("--small", action="store_true", help="a minute of it, on one way each")
    parser.add_argument("--keep", action="store_true", help="renew faults/results.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
