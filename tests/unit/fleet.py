"""Environments of the function behind the stand-in for Lambda: real handlers run what is sent.

    pool ── HTTP ──► aws_server ── a free environment ──► function_box: app.handler
                        ▲                                    │
                        └───────────── HTTP: S3 ─────────────┘

As Lambda does, it refuses what comes while all environments are busy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from aws_server import AWS, Answer
from function_box import Function
from lambda_calls import LambdaPoolExecutor
from template_paths import EXECUTOR

import wire

THROTTLED = Answer(
    status=429, code="TooManyRequestsException", reason="ConcurrentInvocationLimitExceeded"
)


class Fleet:
    """The environments.

    The mutable state is which of them are free, and the requests that came.
    """

    def __init__(self, functions: list[Function]) -> None:
        self.functions: list[Function] = []
        self.batches: list[wire.Batch | wire.Request] = []
        self.seconds = 60.0  # until Lambda's own deadline
        self._free: SimpleQueue[Function] = SimpleQueue()
        for function in functions:
            self.add(function)

    def add(self, function: Function) -> None:
        """Have one more environment, which is free."""
        self.functions.append(function)
        self._free.put(function)

    def answer(self, event: dict[str, Any]) -> Answer:
        """What Lambda does with one invocation."""
        request = json.loads(event["payload"])
        try:
            function = self._free.get_nowait()
        except Empty:
            return THROTTLED
        kind = wire.Batch if wire.is_batch(request) else wire.Request
        self.batches.append(kind.from_json(request))
        try:
            return Answer(payload=function.handle(request, self.seconds))
        except (AssertionError, OSError):
            return Answer(payload={"errorMessage": "Runtime exited"}, error="Unhandled")
        finally:
            self._free.put(function)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs there."""
        return self._free.qsize() == len(self.functions)

    @property
    def sizes(self) -> list[int]:
        """How many calls each batch had."""
        return [x.count for x in self.batches if isinstance(x, wire.Batch)]


@contextmanager
def running(aws: AWS, folder: Path, count: int) -> Iterator[Fleet]:
    """Have `count` environments answer while the body runs."""
    with ExitStack() as stack:
        functions = [
            stack.enter_context(
                Function(
                    folder / f"environment-{number}",
                    **aws.env,
                    PYTHONPATH=str(EXECUTOR),  # an image may hold the executor
                )
            )
            for number in range(count)
        ]
        fleet = Fleet(functions)
        aws.script = fleet.answer
        yield fleet


def pool(**arguments: Any) -> LambdaPoolExecutor:
    """A pool on the stand-in's function."""
    names = {"function_name": "fn", "s3_bucket_name": "bucket", "region": "eu-west-1"}
    return LambdaPoolExecutor(**{**names, **arguments})
