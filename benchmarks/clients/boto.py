"""Plain boto3: what a script of one's own would do at the least, as a lower bound.

For trivial electrons it sends the very envelope that our executor sends, made beforehand, to the
same function. For data it uploads and downloads with boto3's own multipart transfer, and the
function at the other end does just that (benchmarks.plain_function).

Usage: python -m benchmarks.clients.boto latency REPEATS | fanout FUNCTION COUNT SECONDS REPEATS |
       shared COUNT BYTES | payload BYTES REPEATS
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from .. import memory, open_files, tasks
from ..paths import BUCKET

WARM_UPS = 20


def envelope(function: Callable[..., Any], *args: Any) -> bytes:
    """What our executor sends for an electron."""
    from covalent_awslambda_plugin.electron import taken_apart

    from .plugin import Electron

    electron = Electron(None, function, args)
    call = taken_apart(electron.function, electron.args, {})
    request = call.request(task_id="plain", key="key", bucket=BUCKET, limit=900, blobs={})
    return request.to_json().encode()


def invoker(threads: int, function: str, payload: bytes) -> Callable[[Any], bytes]:
    """A call that invokes `function` once; the answer's bytes."""
    config = Config(
        max_pool_connections=threads, read_timeout=960, retries={"total_max_attempts": 1}
    )
    client = boto3.client("lambda", config=config)

    def invoke(_: Any) -> bytes:
        answer: bytes = client.invoke(FunctionName=function, Payload=payload)["Payload"].read()
        return answer

    return invoke


def latency(repeats: str) -> dict[str, Any]:
    invoke = invoker(1, "ours", envelope(tasks.nothing, 1))
    for i in range(WARM_UPS):
        invoke(i)
    seconds = []
    for i in range(int(repeats)):
        started = time.perf_counter()
        invoke(i)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds}


def fanout(function: str, count: str, seconds: str, repeats: str) -> dict[str, Any]:
    """`count` threads, each with one invocation; the threads start within the measured time."""
    number, wait = int(count), float(seconds)
    payload = envelope(tasks.wait, wait)
    before = memory.reset_peak()
    invoke = invoker(number, function, payload)
    beyond, cpu = [], []
    for _ in range(int(repeats)):
        started, used = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(number) as pool:
            answers = list(pool.map(invoke, range(number)))
        beyond.append(time.perf_counter() - started - wait)
        cpu.append((time.process_time() - used) / number)
        assert all(b'"result":' in answer for answer in answers), answers[0]
    return {"beyond": beyond, "cpu": cpu, "memory": memory.peak() - before}


def shared(count: str, size: str) -> dict[str, Any]:
    """One upload, and `count` invocations that download it."""
    data = os.urandom(int(size))
    s3 = boto3.client("s3")
    event = {"bucket": BUCKET, "argument": "shared"}
    invoke = invoker(int(count), "boto", json.dumps(event).encode())
    started = time.perf_counter()
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "shared")
    with ThreadPoolExecutor(int(count)) as pool:
        answers = list(pool.map(invoke, range(int(count))))
    wall = time.perf_counter() - started
    assert set(answers) == {size.encode()}, answers[0]
    return {"wall": wall}


def payload(size: str, repeats: str) -> dict[str, Any]:
    """Upload, invoke, download at the other end; and the other way round. The first is not
    counted."""
    s3 = boto3.client("s3")
    taken = invoker(1, "boto", json.dumps({"bucket": BUCKET, "argument": "argument"}).encode())
    event = {"bucket": BUCKET, "result": "result", "size": int(size)}
    given = invoker(1, "boto", json.dumps(event).encode())
    found: dict[str, list[float]] = {"argument": [], "result": []}
    for _ in range(1 + int(repeats)):
        data = os.urandom(int(size))
        started = time.perf_counter()
        s3.upload_fileobj(io.BytesIO(data), BUCKET, "argument")
        assert taken(None) == size.encode()
        found["argument"].append(time.perf_counter() - started)
        del data
        started = time.perf_counter()
        given(None)
        buffer = io.BytesIO()
        s3.download_fileobj(BUCKET, "result", buffer)
        found["result"].append(time.perf_counter() - started)
        assert len(buffer.getbuffer()) == int(size)
        del buffer
    return {way: seconds[1:] for way, seconds in found.items()}


if __name__ == "__main__":
    open_files.allow()
    commands: dict[str, Callable[..., dict[str, Any]]]
    commands = {"latency": latency, "fanout": fanout, "shared": shared, "payload": payload}
    print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
