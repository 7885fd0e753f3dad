"""Command line of the benchmarks: `python -m benchmarks [--only NAME]`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from . import report
from .lab import BenchmarkError
from .results import Benchmark
from .suite import NAMES

ALIASES = {"import": "imports"}  # a module cannot be named by a keyword


def main() -> int:
    options = _options()
    names = [ALIASES.get(options.only, options.only)] if options.only else list(NAMES)
    failed = []
    for name in names:
        started = time.monotonic()
        print(f"\n== {name}", flush=True)
        try:
            found: Benchmark = importlib.import_module(f"benchmarks.suite.{name}").run()
        except BenchmarkError as error:
            failed.append(name)
            print(f"{name} was not measured: {error}", file=sys.stderr)
            continue
        report.keep(found)
        report.show(found, seconds=time.monotonic() - started)
    report.write()
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description="Measure this project beside its peers, on this machine."
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        choices=[*NAMES, *ALIASES],
        help=f"one of {', '.join(NAMES)} (make bench ONLY=NAME)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
