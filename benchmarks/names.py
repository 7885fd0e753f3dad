"""The benchmarks' names, from the standard library alone.

`make bench` runs `python -m benchmarks.names NAME` before it installs anything.
"""

from __future__ import annotations

import sys

# Modules of benchmarks.suite, in the order of docs/performance.md.
NAMES = (
    "latency",
    "fanout",
    "shared",
    "payload",
    "coldstart",
    "warm",
    "crash",
    "workflow",
    "pool",
    "study",
    "imports",
    "scaffold",
)
SAID = {"imports": "import"}  # a module cannot be named by a keyword


def chosen(only: str) -> tuple[str, ...]:
    """The one that ONLY= names; all for an empty text.

    Raises:
        SystemExit: when there is none of this name; the message lists those that there are.
    """
    if not only:
        return NAMES
    found = tuple(name for name in NAMES if only in (name, SAID.get(name)))
    if not found:
        listed = ", ".join(SAID.get(name, name) for name in NAMES)
        sys.exit(f"ONLY={only} is unknown: say one of {listed}")
    return found


if __name__ == "__main__":
    chosen(sys.argv[1])
