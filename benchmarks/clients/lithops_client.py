"""Lithops with its AWS Lambda and AWS S3 backends, on the stand-in endpoint.

    FunctionExecutor ── S3: function, data ──► endpoint ◄── S3: data, status ── Lithops' handler
           │                                      ▲
           └── its own signed requests, URL rewritten

Jobs, uploads, invocations, monitoring, results and cleaning are Lithops' own, with its defaults.
Two things are put in place for it. Its invocations go to a URL that it builds itself, whatever
AWS_ENDPOINT_URL says: its HTTP session sends them to the endpoint. Its runtime cannot be deployed
there: the function exists, and its metadata are stored as a deployment stores them.

Usage: python -m benchmarks.clients.lithops_client [--function NAME]
           latency REPEATS | fanout COUNT SECONDS REPEATS | shared COUNT BYTES |
           futures COUNT REPEATS | rate COUNT REPEATS
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import cloudpickle
import lithops
import lithops.serverless.backends.aws_lambda
import lithops.storage.backends.aws_s3
import numpy
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

from .. import memory, open_files, tasks
from ..paths import BUCKET

cloudpickle.register_pickle_by_value(tasks)
# Here, not later: what importing takes is not what running tasks takes.
IMPORTED = memory.now()

WARM_UPS = 3
CONFIG: dict[str, dict[str, Any]] = {
    "lithops": {
        "backend": "aws_lambda",
        "storage": "aws_s3",
        # Documented for data of more than 4 MB in a job.
        "data_limit": False,
        # The tasks are pickled by value, as those of a user's script are.
        "exclude_modules": ["benchmarks"],
    },
    "aws": {"region": "us-east-1"},
    "aws_lambda": {
        "execution_role": "arn:aws:iam::000000000000:role/lithops-execution-role",
        # Without them STS is asked.
        "account_id": "000000000000",
        "user_id": "AIDABENCHMARK",
        # What the other contenders' function has.
        "runtime_memory": 1769,
    },
    "aws_s3": {"storage_bucket": BUCKET},
}


class Rerouted(URLLib3Session):  # type: ignore[misc]
    """The session that Lithops invokes with; what it signed is sent to the endpoint."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function = function

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        path = urlsplit(request.url).path.split("/")
        path[-2] = self._function  # …/functions/NAME/invocations
        request.url = os.environ["AWS_ENDPOINT_URL"] + "/".join(path)
        return super().send(request)


class Lithops:
    """An executor whose runtime is in place.

    Args:
        function: of the endpoint, "lithops" or "lithops-light".
    """

    def __init__(self, function: str) -> None:
        config = {**CONFIG, "lithops": dict(CONFIG["lithops"])}
        self.executor = lithops.FunctionExecutor(config=config)
        self.executor.compute_handler.backend.session = Rerouted(function)
        self._deploy(function)

    def call(self, function: Callable[..., Any], value: Any) -> Any:
        """The result of one call."""
        self.executor.call_async(function, (value,))
        return self.executor.get_result()

    def map(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        """The results of one call for each value."""
        self.executor.map(function, values)
        return self.executor.get_result()

    def cleaned(self) -> None:
        """Wait until the process that deletes what jobs stored has ended.

        Lithops starts it with the first result, and it goes on for some seconds after the last.
        """
        if self.executor._cleaner_process is not None:
            self.executor._cleaner_process.wait()

    def close(self) -> None:
        """End that process now: it takes five seconds for each job, and would outlive this one."""
        process = self.executor._cleaner_process
        if process is not None:
            process.terminate()
            process.wait()

    def _deploy(self, function: str) -> None:
        """What deploying does once the function exists: ask it what it is, and store that."""
        handler = self.executor.compute_handler
        info = handler.get_runtime_info()
        answer = handler.backend.lambda_client.invoke(
            FunctionName=function, Payload=json.dumps({"get_metadata": {}})
        )
        found = json.loads(answer["Payload"].read())
        key = handler.get_runtime_key(
            info["runtime_name"], info["runtime_memory"], found["lithops_version"]
        )
        found["runtime_timeout"] = info["runtime_timeout"]
        self.executor.internal_storage.put_runtime_meta(key, found)


def latency(client: Lithops, repeats: int) -> dict[str, Any]:
    """Trivial calls, one at a time."""
    for number in range(WARM_UPS):
        client.call(tasks.nothing, number)
    seconds = [_timed(lambda: client.call(tasks.nothing, 7)) for _ in range(repeats)]
    return {"seconds": seconds}


def fanout(client: Lithops, count: int, seconds: float, repeats: int) -> dict[str, Any]:
    """`count` sleeping calls at once, by `map`.

    The CPU time is that of this process with all its threads, and that of its only child, the
    cleaner, which is waited for before each repeat and after it.
    """
    client.map(tasks.wait, [seconds] * count)  # every environment has served a call then
    client.cleaned()
    memory.reset_peak()
    beyond, cpu = [], []
    for _ in range(repeats):
        own, children = time.process_time(), _children()
        beyond.append(_timed(lambda: client.map(tasks.wait, [seconds] * count)) - seconds)
        client.cleaned()
        cpu.append((time.process_time() - own + _children() - children) / count)
    peak = memory.peak()
    return {
        "beyond": beyond,
        "cpu": cpu,
        "memory": peak - IMPORTED,
    }


def futures(client: Lithops, count: int, repeats: int) -> dict[str, Any]:
    """Trivial calls a second, through `lithops.concurrent.futures`, by one `map`."""
    return {"rates": _rates(client, range(WARM_UPS), range(count), repeats)}


def rate(client: Lithops, count: int, repeats: int) -> dict[str, Any]:
    """The same, from a function that answers all of them alike."""
    return {"rates": _rates(client, [7], [7] * count, repeats)}  # the first one is recorded


def _rates(
    client: Lithops, first: Sequence[int], values: Sequence[int], repeats: int
) -> list[float]:
    from lithops.concurrent.futures import FunctionExecutor

    pool = FunctionExecutor(executor=client.executor)
    list(pool.map(tasks.nothing, first))
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        _check(list(pool.map(tasks.nothing, values)), list(values))
        rates.append(len(values) / (time.perf_counter() - started))
    return rates


def shared(client: Lithops, count: int, size: int) -> dict[str, Any]:
    """`count` calls with the same array, as a variable that the function reads.

    Lithops documents two ways for parameters common to all calls; the other, `extra_args`, makes
    a copy for each call and uploads all of them. Its storage argument is no third one here: the
    task's process then reads from the connection that its parent writes to.
    """
    array = _array(size)

    def measure(_: int) -> int:
        return tasks.measure(array)

    client.call(tasks.nothing, 7)
    wall = _timed(lambda: _check(client.map(measure, range(count)), [size] * count))
    return {"wall": wall}


def _array(size: int) -> Any:
    return numpy.frombuffer(os.urandom(size), "uint8")


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _check(found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"expected {expected!r}, got {found!r}")


def _children() -> float:
    """CPU seconds of the children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _said() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--function", default="lithops")
    which = parser.add_subparsers(dest="what", required=True)
    words: dict[Callable[..., Any], dict[str, type]] = {
        latency: {"repeats": int},
        fanout: {"count": int, "seconds": float, "repeats": int},
        futures: {"count": int, "repeats": int},
        rate: {"count": int, "repeats": int},
        shared: {"count": int, "size": int},
    }
    for measure, arguments in words.items():
        one = which.add_parser(measure.__name__)
        one.set_defaults(measure=measure, names=list(arguments))
        for name, kind in arguments.items():
            one.add_argument(name, type=kind)
    return parser.parse_args()


def main() -> None:
    open_files.allow()
    said = _said()
    arguments = {name: getattr(said, name) for name in said.names}
    client = Lithops(said.function)
    found = said.measure(client, **arguments)
    client.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
