"""Checks the table of faults, then runs many calls among random ones; `make faults`.

Usage: python -m faults [--seed S] [--calls N] [--soak MINUTES] [--only table|storm|soak] [--keep]
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


def main() -> int:
    """Run it; 1 if a promise was broken."""
    options = _options()
    from . import checking, lab, report, soak, storm, table, ways

    began = time.monotonic()
    checked: list[checking.Checked] = []
    storms: list[storm.Storm] = []
    soaked = None
    print(f"seed {options.seed}: `make faults SEED={options.seed}` makes the same requests fail")
    with lab.running() as running, ways.surroundings(str(running.folder)):
        if options.only in ("", "table"):
            rows = [x for part in table.PARTS.values() for x in part]
            pairs = [(x, way) for x in rows for way in ways.WAYS]
            if options.small:  # every seed takes others
                pairs = random.Random(options.seed).sample(pairs, _SMALL_ROWS)
            checked = checking.check(running, pairs, options.seed)
            print(f"{len(pairs)} faults and ways: {time.monotonic() - began:.0f} s")
        if options.only in ("", "storm"):
            for retries, part in ((0, 1.0), (3, 0.0 if options.small else 0.2)):
                count = round((_SMALL_CALLS if options.small else options.calls) * part)
                if not count:
                    continue
                seconds = 20.0 if options.small else 60.0
                found = storm.run(
                    running, count, seed=options.seed, retries=retries, timeout=seconds
                )
                storms.append(found)
                _tell(found)
        if options.soak and options.only in ("", "soak"):
            soaked = soak.run(running, options.soak, options.seed)
            print(f"soak: {soaked}")
    if options.keep:
        report.keep(checked, storms, soaked, time.monotonic() - began)
    broken = [f"{x.fault.name}, {x.way}: {x.wrong}" for x in checked if x.wrong]
    broken += [x for found in storms for x in found.broken]
    broken += [*soaked.broken, *soaked.grown] if soaked else []
    for line in broken:
        print(f"BROKEN: {line}")
    print(f"{len(broken)} promises broken, {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


def _tell(found: Any) -> None:
    for name, way in found.ways.items():
        print(f"{name}: {way.calls} calls, {dict(way.ends)}, {way.seconds:.0f} s")
        for kind, said in way.said.items():
            for words, count in said.most_common(4):
                print(f"    {count} {kind}: {words}")
    fired = sum(found.state["fired"]) + sum(found.state["function_fired"])
    print(
        f"retries={found.retries}: {fired} faults, {found.state['killed']} environments killed, "
        f"{len(found.left)} objects left"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seed", default=str(time.time_ns() % 1_000_000))
    parser.add_argument("--calls", type=int, default=2000, help="calls among random faults")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes")
    parser.add_argument("--only", default="", choices=["", "table", "storm", "soak"])
    parser.add_argument("--small", action="store_true", help="a minute of it, on one way each")
    parser.add_argument("--keep", action="store_true", help="renew faults/results.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
