"""One lattice for each way in which an electron can end; prints what became of each, as JSON.

All are dispatched at once: the function runs them side by side.
"""

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

import carried
import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report_electrons

TIMEOUT = 8  # seconds
LARGE = 8  # MiB: more than a request or a response of Lambda may be

deployed = AWSLambdaExecutor()
short = AWSLambdaExecutor(timeout=TIMEOUT)
absent = AWSLambdaExecutor(function_name="covalent-no-such-function")


class Unlucky(Exception):
    """Not in the image: it travels with the electron."""


@ct.electron(executor=deployed)
def raises(number: int) -> int:
    print("about to fail")
    try:
        return {}[number]
    except KeyError as error:
        raise Unlucky(f"no luck with {number}") from error


@ct.electron(executor=deployed)
def exits() -> None:
    print("about to leave")
    sys.exit(3)


@ct.electron(executor=deployed)
def returns_a_lock() -> Any:
    print("about to return a lock")
    return threading.Lock()


@ct.electron(executor=deployed)
def imports_what_is_missing() -> None:
    import a_package_nobody_installed  # noqa: F401


@ct.electron(executor=deployed)
def calls_what_is_only_here(number: int) -> int:
    from only_here import double  # in the function, which has no such file

    return double(number)


@ct.electron(executor=deployed)
def calls_what_it_carries(number: int) -> int:
    return carried.triple(number)


@ct.electron(executor=short)
def prints_without_end() -> None:
    count = 0
    while True:
        print("still printing", count)
        count += 1
        # The embedded AWS reads an invocation's whole log back from Docker, a line at a time: a
        # full flood, which the unit tests have, would keep it busy for a minute.
        time.sleep(0.001)


@ct.electron(executor=deployed)
def prints(name: str) -> str:
    print("python says", name)
    print("python warns", name, file=sys.stderr)
    os.write(1, b"the descriptor says it\n")
    subprocess.run(["sh", "-c", "echo a child says it; echo a child warns >&2"], check=True)
    return f"printed {name}"


@ct.electron(executor=deployed)
def carries_a_lot(data: bytes) -> bytes:
    return data[::-1]


@ct.electron(executor=absent)
def runs_nowhere() -> None:
    print("never seen")


@ct.electron(executor="awslambda")
def runs_by_name(number: int) -> int:
    print("found by name")
    return number + 1


@ct.electron(executor=deployed)
def tells_where() -> str:
    return os.environ["AWS_LAMBDA_FUNCTION_NAME"]


ENDINGS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "raises": (raises, (7,)),
    "exits": (exits, ()),
    "returns_a_lock": (returns_a_lock, ()),
    "imports_what_is_missing": (imports_what_is_missing, ()),
    "calls_what_is_only_here": (calls_what_is_only_here, (21,)),
    "calls_what_it_carries": (calls_what_it_carries, (14,)),
    "prints_without_end": (prints_without_end, ()),
    "prints": (prints, ("hello",)),
    "carries_a_lot": (carries_a_lot, (bytes(range(256)) * 4096 * LARGE,)),
    "runs_nowhere": (runs_nowhere, ()),
    "runs_by_name": (runs_by_name, (41,)),
    "tells_where": (tells_where, ()),
}


if __name__ == "__main__":
    print(json.dumps(report_electrons(ENDINGS)))
