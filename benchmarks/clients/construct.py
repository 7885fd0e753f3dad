"""Construct executors; print the milliseconds that each took.

Usage: python -m benchmarks.clients.construct COUNT named|samconfig
"""

import json
import sys
import time

from covalent.executor import AWSLambdaExecutor

from ..paths import BUCKET

GIVEN = {"function_name": "hello", "s3_bucket_name": BUCKET, "region": "us-east-1"}


def main(count: int, options: dict[str, str]) -> None:
    AWSLambdaExecutor(**options)  # what is imported late, is imported once
    started = time.perf_counter()
    for _ in range(count):
        AWSLambdaExecutor(**options)
    print(json.dumps(1000 * (time.perf_counter() - started) / count))


if __name__ == "__main__":
    main(int(sys.argv[1]), GIVEN if sys.argv[2] == "named" else {})
