"""The function of the plain boto3 contender: data in, data out, nothing around it."""

import io
from typing import Any

import boto3

from . import tasks

_s3: Any = None


def handler(event: Any, context: Any) -> int:
    """Download `argument`, upload an array of `size` bytes as `result`; the argument's size."""
    global _s3
    if _s3 is None:
        _s3 = boto3.client("s3")
    taken = io.BytesIO()
    if "argument" in event:
        _s3.download_fileobj(event["bucket"], event["argument"], taken)
    if "result" in event:
        made = io.BytesIO(tasks.produce(event["size"]).data)
        _s3.upload_fileobj(made, event["bucket"], event["result"])
    return len(taken.getbuffer())
