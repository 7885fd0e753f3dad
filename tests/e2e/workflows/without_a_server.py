"""Runs `add(20, right=22)` with no Covalent server; prints what came back, as JSON.

Usage: python without_a_server.py ENDPOINT_URL
"""

import asyncio
import json
import os
import sys
from typing import Any

import alone
from covalent.executor import AWSLambdaExecutor


def add(left: int, right: int) -> dict[str, Any]:
    print("adding on the laptop")
    return {"sum": left + right, "function": os.environ.get("AWS_LAMBDA_FUNCTION_NAME")}


if __name__ == "__main__":
    executor = AWSLambdaExecutor(endpoint_url=sys.argv[1])
    print(json.dumps(asyncio.run(alone.run(executor, add, 20, right=22))))
