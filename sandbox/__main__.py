"""python -m sandbox COMMAND: what `make demo`, `make up` and their like run."""

import os
import signal
import sys


def _end_quietly(number: int, _frame: object) -> None:
    os.write(2, b"\ninterrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    # The imports take half a second, in which nothing runs yet that would have to be ended.
    signal.signal(signal.SIGINT, _end_quietly)
    from sandbox.commands import main

    sys.exit(main())
