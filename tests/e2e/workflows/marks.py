"""Marks that electrons leave in the project's bucket: they prove what ran, and how often.

A mark is an object of its own for each run, named as a task's result: the function may write
that. The image lacks this module, so it travels with the electrons.
"""

import os
import sys
import time
import uuid
from typing import Any

import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])

FOLDER = "tasks/e2e-marks"


def s3(region: str | None = None) -> Any:
    """A client that also reaches an endpoint which is not addressable as bucket.endpoint."""
    import boto3
    from botocore.config import Config

    return boto3.client("s3", region_name=region, config=Config(s3={"addressing_style": "path"}))


def leave(bucket: str, name: str) -> None:
    """Leave one more mark of this name."""
    key = f"{FOLDER}/{name}/{uuid.uuid4().hex}/result"
    s3().put_object(Bucket=bucket, Key=key, Body=os.environ["AWS_LAMBDA_FUNCTION_NAME"].encode())


def count(bucket: str, name: str, client: Any = None) -> int:
    """How many marks of this name there are."""
    found = (client or s3()).list_objects_v2(Bucket=bucket, Prefix=f"{FOLDER}/{name}/")
    return int(found["KeyCount"])


def wait_for(bucket: str, region: str, name: str, seconds: float = 60.0) -> None:
    """Wait, on Covalent's side, until there is a mark of this name."""
    client, end = s3(region), time.monotonic() + seconds
    while time.monotonic() < end:
        if count(bucket, name, client):
            return
        time.sleep(0.1)
    raise TimeoutError(f"no mark {name!r} after {seconds} s")
