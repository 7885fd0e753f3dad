"""Command line of the benchmarks: `python -m benchmarks [--only NAME]`."""

from __future__ import annotations

import argparse
import importlib
import resource
import signal
import sys
import time

from . import names, report
from .lab import BenchmarkError
from .results import Benchmark

OPEN_FILES = 4096  # a thousand connections on either side, and what stands behind them


def main() -> int:
    chosen = names.chosen(_options().only)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then
    _allow_open_files()
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


def _allow_open_files() -> None:
    """Have as many open files as the system lets this user have: children inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < OPEN_FILES:
        print(f"only {wanted} open files are allowed (ulimit -Hn): fanout may fail")


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
