"""An electron that takes memory without end, and one that comes after it; prints what became of
each, as JSON.

Usage: python hoards.py FUNCTION
"""

import json
import sys
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report

project = AWSLambdaExecutor()
small = AWSLambdaExecutor(
    function_name=sys.argv[1], s3_bucket_name=project.s3_bucket_name, region=project.region
)


@ct.electron(executor=small)
def hoards() -> None:
    print("about to hoard")
    hoard: list[Any] = []
    while True:
        hoard.append(bytearray(b"x") * (8 * 1024 * 1024))


@ct.electron(executor=small)
def comes_after() -> str:
    return "still there"


if __name__ == "__main__":
    answers = {
        electron.__name__: report(ct.dispatch(ct.lattice(electron))())
        for electron in (hoards, comes_after)
    }
    print(json.dumps(answers))
