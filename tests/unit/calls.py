"""Calls run by the core over real sockets, with no Covalent around."""

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

from lambda_calls import usage, wire
from lambda_calls.attempt import Limits
from lambda_calls.aws.clients import Account
from lambda_calls.call import Call
from lambda_calls.cancellation import Cancellation
from lambda_calls.errors import LambdaCallError
from lambda_calls.run import Run
from lambda_calls.session import Process, Target


class Noted:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.task_ids: list[str] = []
        self.answers: list[wire.Response] = []
        self.errors: list[LambdaCallError] = []

    async def begins(self, task_id: str) -> bool:
        self.task_ids.append(task_id)
        return True

    def answered(self, response: wire.Response, used: usage.Usage) -> None:
        self.answers.append(response)

    def fails(self, error: LambdaCallError, retries_left: int) -> None:
        self.errors.append(error)

    def cannot_stop(self, error: LambdaCallError) -> None:
        self.errors.append(error)


def target(**changes: Any) -> Target:
    """The stand-in's function and bucket."""
    names: dict[str, Any] = {
        "account": Account(region="eu-west-1"),
        "function": "fn",
        "bucket": "bucket",
    }
    return Target(**{**names, **changes})


def run_of(
    process: Process,
    function: Callable[..., Any],
    *args: Any,
    to: Target | None = None,
    observer: Noted | None = None,
    cancellation: Cancellation | None = None,
    timeout: float = 30,
    **limits: Any,
) -> Run:
    """A run of `function(*args)`, ready to begin."""
    return Run(
        process.session(to or target()),
        Call.of(function, args, {}),
        Limits(timeout=timeout, **limits),
        name="call",
        noun="call",
        observer=observer or Noted(),
        cancellation=cancellation or Cancellation("call"),
    )


async def called(
    process: Process, function: Callable[..., Any], *args: Any, **options: Any
) -> Any:
    """The value of `function(*args)`, run on the stand-in."""
    result = await run_of(process, function, *args, **options).result()
    return pickle.loads(wire.decode(result.pickled))


def call(process: Process, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`called` in an event loop of its own."""
    return asyncio.run(called(process, function, *args, **options))
