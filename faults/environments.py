"""Lambda's execution environments with the real handler, forked from one warm process.

Usage: python -m faults.environments SOCKET FOLDER, with the counts on standard input
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

from benchmarks.environment import ours, own_tmp, serve

NAME = "ours"


def main(address: str, folder: str) -> None:
    own_tmp(Path(folder) / f"{NAME}-{os.getpid()}")
    handler = ours()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        for _ in range(int(line)):
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # handlers wait for children
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 0)
                os.environ["HANDLER"] = str(os.getpid())  # a call may be told to kill it
                serve(NAME, handler, address, Path(folder))
                os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:3])
