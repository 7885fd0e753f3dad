"""Runs one electron through the executor, as whoever the environment's credentials belong to.

Usage: python least_privilege.py KIND FUNCTION BUCKET

KIND is one of ELECTRONS, or a JSON list of requests to AWS, [service, operation, arguments] each,
to make from inside the function. Prints what came back, as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import alone
from covalent.executor import AWSLambdaExecutor

LARGE = 9 * 1024 * 1024  # above boto3's threshold for transfers in parts, too
LONG_TEXT = 2 * 1024 * 1024  # too long to travel beside the result, which fits
CANCEL_AFTER = 3.0
OUTCOME_SECONDS = 20.5  # handlers leave outcomes from 20 s on
TIMEOUT = 4.0


def add(left: int, right: int) -> int:
    return left + right


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def large(size: int) -> bytes:
    return b"\x5a" * size


def wait(seconds: float) -> str:
    print("started", flush=True)
    time.sleep(seconds)
    return "slept"


def resist() -> None:
    print("started", flush=True)
    while True:
        try:
            time.sleep(600)
        except BaseException:
            print("not impressed", flush=True)


def call_aws(*requests: tuple[str, str, dict[str, Any]]) -> list[str]:
    """Requests to AWS from inside the function, under its role: "ok", or the error's code."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    codes = []
    for service, operation, arguments in requests:
        made = boto3.client(service, config=Config(s3={"addressing_style": "path"}))
        try:
            getattr(made, operation)(**arguments)
            codes.append("ok")
        except ClientError as error:
            codes.append(str(error.response["Error"]["Code"]))
    return codes


ELECTRONS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "trivial": (add, [20, 22]),
    # New each time: warm environments keep what they have fetched.
    "large_argument": (digest, [os.urandom(LARGE)]),
    "large_result": (large, [LARGE]),
    "long_text": ("x".__mul__, [LONG_TEXT]),
    "long": (wait, [OUTCOME_SECONDS]),
    "cancelled": (wait, [20.0]),
    "killed": (resist, []),
}


def main(kind: str, function: str, bucket: str) -> None:
    if kind in ELECTRONS:
        work, arguments = ELECTRONS[kind]
    else:
        work, arguments = call_aws, json.loads(kind)
    limit = {"timeout": TIMEOUT} if kind == "killed" else {}
    executor = AWSLambdaExecutor(function, bucket, **limit)
    cancel_after = CANCEL_AFTER if kind == "cancelled" else None
    answer = asyncio.run(alone.run(executor, work, *arguments, cancel_after=cancel_after))
    if isinstance(answer["value"], bytes):
        answer["value"] = digest(answer["value"])
    sent = [digest(each) for each in arguments if isinstance(each, bytes)]
    print(json.dumps({**answer, "sent": sent}))


if __name__ == "__main__":
    main(*sys.argv[1:])
