"""Many electrons at once, for a function that runs only a few: with and without one large
argument that all share. Prints what became of them, as JSON.

Usage: python many.py FUNCTION
"""

import hashlib
import json
import sys
import time
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from marks import leave
from report import report

SHARING = 30
TAKING_TURNS = 12
LARGE = 8  # MiB

project = AWSLambdaExecutor()
bucket = project.s3_bucket_name
few = AWSLambdaExecutor(function_name=sys.argv[1], s3_bucket_name=bucket, region=project.region)


@ct.electron(executor=few)
def takes_its_turn(number: int) -> tuple[int, float, float]:
    leave(bucket, f"turn-{number}")
    started = time.time()
    time.sleep(1)
    return number, started, time.time()


@ct.electron(executor=project)
def makes() -> bytes:
    return bytes(range(256)) * 4096 * LARGE


@ct.electron(executor=few)
def shares(data: bytes, number: int) -> tuple[int, str]:
    return number, hashlib.sha256(data).hexdigest()


@ct.lattice
def taking_turns() -> Any:
    return [takes_its_turn(number) for number in range(TAKING_TURNS)]


@ct.lattice
def sharing() -> Any:
    # Made by an electron: Covalent copies a lattice's own argument for each electron that uses it.
    data = makes()
    return [shares(data, number) for number in range(SHARING)]


LATTICES = {"taking_turns": taking_turns, "sharing": sharing}


if __name__ == "__main__":
    # One after the other: each is to have the function to itself.
    answers = {name: report(ct.dispatch(lattice)()) for name, lattice in LATTICES.items()}
    print(json.dumps(answers))
