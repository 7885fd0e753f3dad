"""Command line of the benchmarks: `python -m benchmarks [--only NAME]`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time

from . import names, report
from .lab import BenchmarkError
from .results import Benchmark


def main() -> int:
    chosen = names.chosen(_options().only)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then
    failed = []
    for name in chosen:
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
        report.write()  # each: what was measured is not lost with the next one
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description="Measure this project beside its peers, on this machine."
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        default="",
        help="one of them, as in make bench ONLY=NAME",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
