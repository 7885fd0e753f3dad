"""How many files a process of the benchmarks may have open.

A thousand connections are more than the soft limits of many systems. The executor raises its own,
which is part of what is measured; the endpoint, and contenders that leave it to their users, ask
here.
"""

from __future__ import annotations

import resource
import sys

WANTED = 4096  # a thousand connections on either side, and what stands behind them


def allow() -> None:
    """Have as many open files as the system lets this user have; children inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < WANTED:
        said = f"only {wanted} open files are allowed (ulimit -Hn): fanout may fail"
        print(said, file=sys.stderr)
