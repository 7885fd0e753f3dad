"""Checks the table of faults, then runs many calls among random ones; `make faults`.

Usage: python -m faults [--seed S] [--calls N] [--soak MINUTES] [--only PART] [--keep]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT / "{{cookiecutter.project_name}}" / "executor"))


_SMALL_ROWS, _SMALL_CALLS = 30, 60
_PARTS = ("table", "programs", "storm", "soak")


def main() -> int:
    """Run it; 1 if a promise was broken."""
    options = _options()
    from . import report
    from .lab import running
    from .ways import surroundings

    print(f"seed {options.seed}: `make faults SEED={options.seed}` makes the same requests fail")
    shown = report.Shown()
    with running() as lab, surroundings(str(lab.folder)):
        if options.only in ("", "table"):
            _check_table(lab, options, shown)
        if options.only in ("", "programs") and not options.small:
            _play_programs(lab, shown)
        if options.only in ("", "storm"):
            _run_storms(lab, options, shown)
        if options.soak and options.only in ("", "soak"):
            _run_soak(lab, options, shown)
    if options.keep:
        report.keep(shown)
    for line in shown.broken:
        print(f"BROKEN: {line}")
    print(f"{len(shown.broken)} promises broken, {shown.seconds:.0f} s")
    return 1 if shown.broken else 0


def _check_table(lab: Any, options: argparse.Namespace, shown: Any) -> None:
    from . import checking, table, ways
    from .lab import base_image, running

    began = time.monotonic()
    rows = [x for part in table.PARTS.values() for x in part]
    pairs = [(x, way) for x in rows for way in ways.WAYS]
    if options.small:  # every seed takes others
        quick = [x for x in pairs if not x[0].contained and not x[0].takes]
        pairs = random.Random(options.seed).sample(quick, _SMALL_ROWS)
    if options.row:
        pairs = [x for x in pairs if options.row in x[0].name]
    apart = [x for x in pairs if not x[0].contained]
    shown.checked += checking.check(lab, apart, options.seed)
    contained, image = [x for x in pairs if x[0].contained], base_image()
    if contained and image:
        with running(image) as boxed:
            shown.checked += checking.check(boxed, contained, options.seed)
    elif contained:
        print("NOT RUN, since there is no Docker image of this Python: faults in a container")
    print(f"{len(shown.checked)} faults and ways: {time.monotonic() - began:.0f} s")


def _play_programs(lab: Any, shown: Any) -> None:
    from . import programs

    began = time.monotonic()
    shown.scenes = programs.play(lab)
    print(f"{len(shown.scenes)} scenes with programs: {time.monotonic() - began:.0f} s")


def _run_storms(lab: Any, options: argparse.Namespace, shown: Any) -> None:
    from . import storm

    for retries, part in ((0, 1.0), (3, 0.0 if options.small else 0.2)):
        count = round((_SMALL_CALLS if options.small else options.calls) * part)
        if not count:
            continue
        seconds = 20.0 if options.small else 60.0
        found = storm.run(lab, count, seed=options.seed, retries=retries, timeout=seconds)
        shown.storms.append(found)
        _tell(found)


def _run_soak(lab: Any, options: argparse.Namespace, shown: Any) -> None:
    from . import soak

    shown.soak = soak.run(lab, options.soak, options.seed)
    print(f"soak: {shown.soak}")


def _tell(found: Any) -> None:
    for name, way in found.ways.items():
        print(f"{name}: {way.calls} calls, {dict(way.ends)}, {way.seconds:.0f} s")
        for kind, said in way.said.items():
            for words, count in said.most_common(4):
                print(f"    {count} {kind}: {words}")
    fired = sum(found.state["fired"]) + sum(found.state["function_fired"])
    print(
        f"retries={found.retries}: {fired} faults, {found.state['killed']} environments killed, "
        f"{len(found.left)} objects left, {len(found.leaked)} of them leaked"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seed", default=str(time.time_ns() % 1_000_000))
    parser.add_argument("--calls", type=int, default=2000, help="calls among random faults")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes")
    parser.add_argument("--only", default="", choices=["", *_PARTS])
    parser.add_argument("--row", default="", help="only faults whose names hold these words")
    parser.add_argument("--small", action="store_true", help="a minute of it, on one way each")
    parser.add_argument("--keep", action="store_true", help="renew faults/results.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
