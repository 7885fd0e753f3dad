"""Electrons that leave a mark for each run, then end in one way or another; prints what became of
each, as JSON."""

import json
import os
import time

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from marks import count, leave
from report import report_electrons

TIMEOUT = 10  # seconds; long enough to import boto3 and leave a mark on a busy machine

deployed = AWSLambdaExecutor()
bucket = deployed.s3_bucket_name
short = AWSLambdaExecutor(timeout=TIMEOUT)
limited = AWSLambdaExecutor(time_limit=TIMEOUT)
twice = AWSLambdaExecutor(retries=1)
short_twice = AWSLambdaExecutor(timeout=TIMEOUT, retries=1)


def returns(name: str) -> str:
    leave(bucket, name)
    return name


def raises(name: str) -> None:
    leave(bucket, name)
    raise ValueError(name)


def runs_too_long(name: str) -> None:
    leave(bucket, name)
    time.sleep(600)


def kills_its_process(name: str) -> None:
    leave(bucket, name)
    os._exit(7)


def succeeds_at_last(name: str) -> str:
    leave(bucket, name)
    if count(bucket, name) == 1:
        raise ValueError("not yet")
    return name


CASES = {
    "returns": (returns, deployed),
    "raises": (raises, deployed),
    "kills_its_process": (kills_its_process, deployed),
    "returns_with_retries": (returns, twice),
    "raises_with_retries": (raises, twice),
    "kills_its_process_with_retries": (kills_its_process, twice),
    "succeeds_at_last": (succeeds_at_last, twice),
    # Last: a short timeout does not wait for a cold start.
    "times_out": (runs_too_long, short),
    "reaches_its_time_limit": (runs_too_long, limited),
    "times_out_with_retries": (runs_too_long, short_twice),
}


AT_ONCE = 4  # each needs a container of its own


if __name__ == "__main__":
    electrons = [
        (name, (ct.electron(function, executor=executor), (name,)))
        for name, (function, executor) in CASES.items()
    ]
    answers = {}
    for first in range(0, len(electrons), AT_ONCE):
        answers.update(report_electrons(dict(electrons[first : first + AT_ONCE])))
    print(json.dumps(answers))
