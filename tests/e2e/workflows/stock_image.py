"""Electrons on a function of Covalent's stock image; prints what became of each, as JSON.

Usage: python stock_image.py FUNCTION BUCKET
"""

import json
import os
import sys
import time
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from marks import leave
from report import report_electrons, report_lattices

project = AWSLambdaExecutor()
bucket = project.s3_bucket_name
stock = AWSLambdaExecutor(
    function_name=sys.argv[1], s3_bucket_name=sys.argv[2], region=project.region, poll_freq=1
)


@ct.electron(executor=stock)
def returns(left: int, right: int) -> Any:
    leave(bucket, "stock-returns")
    print("printed where nobody looks")
    return {"sum": left + right, "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"]}


@ct.electron(executor=stock)
def again(previous: dict[str, Any], right: int) -> Any:
    leave(bucket, "stock-again")
    return {**previous, "sum": previous["sum"] + right}


@ct.lattice
def two_in_a_row() -> Any:
    return again(returns(1, right=2), right=4)


@ct.electron(executor=stock)
def carries_a_lot(data: bytes) -> bytes:
    return data[::-1]


@ct.electron(executor=stock)
def raises() -> None:
    leave(bucket, "stock-raises")
    raise ValueError("no luck in the stock image")


@ct.electron(executor=stock)
def kills_its_process() -> None:
    leave(bucket, "stock-kills_its_process")
    os._exit(7)


@ct.electron(executor=stock)
def runs_too_long() -> None:
    leave(bucket, "stock-runs_too_long")
    time.sleep(600)


OTHERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "carries_a_lot": (carries_a_lot, (bytes(range(256)) * 4096 * 8,)),
    "raises": (raises, ()),
    "kills_its_process": (kills_its_process, ()),
    "runs_too_long": (runs_too_long, ()),
}


if __name__ == "__main__":
    # One after the other: the first electron finds out which image it is, the next one knows.
    answers = report_lattices({"two_in_a_row": (two_in_a_row, ())})
    print(json.dumps({**answers, **report_electrons(OTHERS)}))
