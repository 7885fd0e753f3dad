"""The four ways to run a call: an electron, a fan-out item, a call of the pool, one of its map."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cloudpickle
from covalent._shared_files.exceptions import TaskCancelledError
from covalent._shared_files.logger import app_log
from covalent._workflow.transportable_object import TransportableObject
from covalent.executor.utils.wrappers import wrapper_fn
from covalent_awslambda_plugin.awslambda import AWSLambdaExecutor
from covalent_awslambda_plugin.server import server
from lambda_calls import LambdaPoolExecutor, asking, blobs, fan_out
from lambda_calls import attempt as attempts
from lambda_calls import session as sessions
from lambda_calls.aws import clients
from lambda_calls.scatter import Ending, Task

from . import work
from .lab import BUCKET, SECRET_KEY

cloudpickle.register_pickle_by_value(work)

FUNCTION = "ours"

# The product waits tens of seconds for an environment that may still start, and for an answer
# after a deadline. Here environments start at once: the same waiting, 3 to 12 times shorter.
_SHORTER_ASKING = {"STARTS_WITHIN": 8.0, "ANSWERS_WITHIN": 5.0}
_SHORTER = {
    "_LOOK_AFTER": 4.0,
    "_LOOK_EVERY": 1.0,
    "_GRACE": 5.0,
    "_FETCHES_FOR": 8.0,
    "_GIVING_UP": 3.0,
}
_SHORTER_S3 = {"_S3_READ_TIMEOUT": 5.0}
_LINGER = 0.5  # seconds that a shared argument outlives its last call
# As many threads for each of the rows that run side by side as a program has for itself.
_MORE_THREADS = {"_TRANSFERS": 72, "_REQUESTS": 288}
# Seconds that a call may take beyond its `timeout` until it is settled: the grace, one request
# that is being made, and a busy machine.
SLACK = 30.0


@dataclass(frozen=True)
class Settled:
    """How one call ended.

    Args:
        number: the call's.
        value: what it returned.
        error: what was raised instead.
        seconds: from its beginning.
        times: how often it was settled: 0 if it hangs.
    """

    number: int
    value: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    times: int = 1


@dataclass(frozen=True)
class Terms:
    """How calls are run.

    Args:
        url: of the door.
        ledger: begins the names of its files.
        timeout: seconds for each call.
        retries: how often a failed call is run again.
        seconds: that each call takes.
        data: an argument; large ones travel through S3.
        size: characters that each call returns beside.
        name: of the dispatch.
        bucket: for what is too large for a request.
        key: the access key that signs requests.
        harm: what the code does beside, one of `work.HARMS`.
        arguments: more of the executor's.
    """

    url: str
    ledger: str
    timeout: float = 60.0
    retries: int = 0
    seconds: float = 0.0
    data: bytes = b""
    size: int = 0
    name: str = "faults"
    bucket: str = BUCKET
    key: str = "test"
    harm: str = ""
    arguments: Mapping[str, Any] | None = None

    @property
    def names(self) -> dict[str, Any]:
        """The arguments of executor and pool alike."""
        return {
            "function_name": FUNCTION,
            "s3_bucket_name": self.bucket,
            "region": "us-east-1",
            "profile": profile(self.url, self.key),
            "timeout": self.timeout,
            "retries": self.retries,
            **(self.arguments or {}),
        }

    @property
    def work(self) -> dict[str, Any]:
        """What each call is told beside its number."""
        told = {"seconds": self.seconds, "data": self.data, "size": self.size, "harm": self.harm}
        return {"ledger": self.ledger, **told}


_PROFILE = """
[profile {name}]
endpoint_url = {url}
region = us-east-1
aws_access_key_id = {key}
aws_secret_access_key = {secret}
"""
_writing = threading.Lock()


def profile(url: str, key: str) -> str:
    """The AWS profile by which both services are reached at `url`.

    `endpoint_url=` of the executor is that of Lambda alone; rows that run side by side need doors
    of their own for S3 too.
    """
    name = "door-" + url.rpartition(":")[2]
    path = Path(os.environ["AWS_CONFIG_FILE"])
    with _writing:
        found = path.read_text() if path.exists() else ""
        if f"[profile {name}]" not in found:
            _replace(path, found + _PROFILE.format(name=name, url=url, key=key, secret=SECRET_KEY))
    return name


def renew(old: str, new: str) -> None:
    """Replace an access key, as whoever signs in again does."""
    path = Path(os.environ["AWS_CONFIG_FILE"])
    with _writing:
        _replace(path, path.read_text().replace(f"= {old}\n", f"= {new}\n"))


def _replace(path: Path, text: str) -> None:
    changed = path.with_suffix(".new")
    changed.write_text(text)
    changed.replace(path)


@contextmanager
def surroundings(home: str) -> Iterator[list[str]]:
    """No setting of this machine's, shorter waiting, and a log of errors alone.

    Yields what goes wrong beside the calls' own ends: those that are settled again, which no
    future shows, and what reaches an event loop because nobody awaits it.
    """
    aside: list[str] = []
    variables = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.path.join(home, "credentials"),  # it holds the secret key, too
        "AWS_SHARED_CREDENTIALS_FILE": os.path.join(home, "no-credentials"),
    }
    with contextlib.ExitStack() as stack:
        for log in (app_log, logging.getLogger("lambda_calls")):
            stack.callback(log.setLevel, log.level)
            log.setLevel(logging.ERROR)
        stack.enter_context(patch.dict(os.environ, variables))
        for name, seconds in _SHORTER.items():
            stack.enter_context(patch.object(attempts, name, seconds))
        for name, seconds in _SHORTER_ASKING.items():
            stack.enter_context(patch.object(asking, name, seconds))
        for name, seconds in _SHORTER_S3.items():
            stack.enter_context(patch.object(clients, name, seconds))
        stack.enter_context(patch.object(blobs, "_LINGER", _LINGER))
        stack.enter_context(patch.object(Task, "end", _once(Task.end, aside)))
        noting = partialmethod(_loop_met, aside)
        stack.enter_context(patch.object(asyncio.BaseEventLoop, "call_exception_handler", noting))
        try:
            yield aside
        finally:
            _close_the_server()


@contextmanager
def many_programs() -> Iterator[None]:
    """Calls that run side by side do not share what one program has: a silent S3 holds threads."""
    with contextlib.ExitStack() as stack:
        for name, count in _MORE_THREADS.items():
            stack.enter_context(patch.object(sessions, name, count))
        try:
            yield
        finally:
            _close_the_server()


def _close_the_server() -> None:
    """Have what electrons share begin anew."""
    server().process.close()
    server.cache_clear()


def _once(end: Callable[[Task, Ending], None], aside: list[str]) -> Callable[[Task, Ending], None]:
    def noting(task: Task, ending: Ending) -> None:
        if task.settled:
            aside.append(f"a call was settled again: {ending.error or 'with a result'}")
        end(task, ending)

    return noting


def _loop_met(loop: Any, aside: list[str], context: Mapping[str, Any]) -> None:
    of = context.get("exception") or context.get("task") or context.get("future")
    aside.append(f"an event loop met: {context.get('message')}: {of!r}")


def executor(terms: Terms, numbers: Sequence[int]) -> list[Settled]:
    """Each call is an electron of its own."""
    made = AWSLambdaExecutor(**terms.names)

    async def one(number: int) -> Settled:
        began = time.monotonic()
        metadata = {"dispatch_id": terms.name, "node_id": number}
        keywords = {name: TransportableObject(x) for name, x in terms.work.items()}
        electron = _electron(work.worked)
        try:
            job = made.run(electron, [TransportableObject(number)], keywords, metadata)
            value = (await asyncio.wait_for(job, _deadline(terms))).get_deserialized()
        except BaseException as error:
            return Settled(number, error=error, seconds=time.monotonic() - began)
        return Settled(number, value, seconds=time.monotonic() - began)

    async def every() -> list[Settled]:
        settled = list(await asyncio.gather(*map(one, numbers)))
        # A server's loop goes on, and deletes shared arguments once nobody has asked for them.
        await asyncio.sleep(16 * _LINGER if terms.data else 0)
        return settled

    return asyncio.run(every())


def fanned_out(terms: Terms, numbers: Sequence[int]) -> list[Settled]:
    """All calls are the items of one electron, whose failures are values."""
    made = AWSLambdaExecutor(**terms.names)
    began = time.monotonic()

    async def run() -> Any:
        marked = fan_out(work.worked, return_exceptions=True)
        items = [TransportableObject(list(numbers))]
        keywords = {name: TransportableObject(x) for name, x in terms.work.items()}
        metadata = {"dispatch_id": terms.name, "node_id": 0}
        job = made.run(_electron(marked), items, keywords, metadata)
        try:
            return await asyncio.wait_for(job, _deadline(terms))
        finally:
            await asyncio.sleep(16 * _LINGER if terms.data else 0)

    try:
        values = asyncio.run(run()).get_deserialized()
    except BaseException as error:
        seconds = time.monotonic() - began
        return [Settled(number, error=error, seconds=seconds) for number in numbers]
    seconds = time.monotonic() - began
    return [_item(n, value, seconds) for n, value in zip(numbers, values, strict=True)]


def pool(terms: Terms, numbers: Sequence[int]) -> list[Settled]:
    """Each call is a future of the pool's, submitted by itself."""
    began = time.monotonic()
    settled: dict[int, list[float]] = {number: [] for number in numbers}
    with contextlib.ExitStack() as stack:
        made = LambdaPoolExecutor(**terms.names)
        # Should a future hang, the pool must not keep the run from its end.
        stack.callback(made.stop)
        futures = {n: made.submit(work.worked, n, **terms.work) for n in numbers}
        for number, future in futures.items():
            future.add_done_callback(partial(_note, settled[number], began))
        wait(futures.values(), timeout=_deadline(terms))
        return [_future(n, x, settled[n]) for n, x in futures.items()]


def mapped(terms: Terms, numbers: Sequence[int]) -> list[Settled]:
    """All calls are those of one `map` of the pool's, many in a request."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        made = LambdaPoolExecutor(**terms.names)
        stack.callback(made.stop)
        call = partial(work.worked, **terms.work)
        values = made.map(call, numbers, timeout=_deadline(terms), return_exceptions=True)
        found: list[Settled] = []
        for number in numbers:
            try:
                value = next(values)
            except BaseException as error:
                value = error
            found.append(_item(number, value, time.monotonic() - began))
        return found


Way = Callable[[Terms, Sequence[int]], list[Settled]]
WAYS: Mapping[str, Way] = {
    "executor": executor,
    "fan-out": fanned_out,
    "pool": pool,
    "pool.map": mapped,
}


def _electron(function: Callable[..., Any]) -> Any:
    """`function` as Covalent's server passes it to `run`."""
    return partial(wrapper_fn, TransportableObject(function), [], [])


def _deadline(terms: Terms) -> float:
    """Seconds within which a call must be settled."""
    return (terms.retries + 1) * (terms.timeout + SLACK)


def _item(number: int, value: Any, seconds: float) -> Settled:
    if isinstance(value, BaseException):
        return Settled(number, error=value, seconds=seconds)
    return Settled(number, value, seconds=seconds)


def _note(times: list[float], began: float, _: Future[Any]) -> None:
    times.append(time.monotonic() - began)


def _future(number: int, future: Future[Any], settled: list[float]) -> Settled:
    if not future.done():
        hung = TimeoutError("it is not settled")
        return Settled(number, error=hung, times=0)
    seconds = settled[0] if settled else 0.0
    if future.cancelled():
        return Settled(number, error=TaskCancelledError("cancelled"), times=len(settled))
    error = future.exception()
    if error is not None:
        return Settled(number, error=error, seconds=seconds, times=len(settled))
    return Settled(number, future.result(), seconds=seconds, times=len(settled))
