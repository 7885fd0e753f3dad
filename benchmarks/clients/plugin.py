"""A Covalent executor without Covalent's server: ours or the public plugin, whichever is there.

Both carry the same names; PYTHONPATH decides. What the server's runner does around an executor
is done here: queues are made, and what the executor asks through them is answered. Each electron
has an executor of its own, as in the server.

Usage: python -m benchmarks.clients.plugin FUNCTION latency REPEATS |
       fanout COUNT SECONDS REPEATS | shared COUNT BYTES | argument BYTES | result BYTES
"""

from __future__ import annotations

import asyncio
import gc
import json
import operator
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import cloudpickle
import numpy
from covalent._workflow.transport import TransportableObject
from covalent.executor import AWSLambdaExecutor
from covalent.executor.base import Signals
from covalent.executor.utils.wrappers import wrapper_fn

from .. import memory, tasks
from ..paths import BUCKET

cloudpickle.register_pickle_by_value(tasks)

WARM_UPS = 20


def executor(function_name: str, **options: Any) -> Any:
    """An executor for a function of the endpoint."""
    return AWSLambdaExecutor(
        function_name=function_name, s3_bucket_name=BUCKET, region="us-east-1", **options
    )


class Electron:
    """One electron as Covalent's runner has it before it calls the executor."""

    def __init__(
        self, made: Any, function: Callable[..., Any], args: Sequence[Any], node_id: int = 0
    ) -> None:
        self._executor, self._node_id = made, node_id
        body = TransportableObject.make_transportable(function)
        self.function = partial(wrapper_fn, body, [], [])
        self.args = [TransportableObject.make_transportable(x) for x in args]

    async def run(self) -> TransportableObject:
        """Its result; raises if there is none."""
        self._executor._init_runtime()
        listener = asyncio.ensure_future(_answer_as_server(self._executor))
        result, _, stderr, status = await self._executor._execute(
            self.function, self.args, {}, str(uuid.uuid4()), tempfile.gettempdir(), self._node_id
        )
        await listener
        if result is None:
            raise RuntimeError(f"the electron ended {status}: {stderr}")
        return result


async def _answer_as_server(made: Any) -> None:
    while True:
        signal, _ = await made._send_queue.get()
        if signal == Signals.EXIT:
            return
        made._recv_queue.put_nowait((True, False if signal == Signals.GET else None))


async def latency(function: str, repeats: str) -> dict[str, Any]:
    """One trivial electron after the other."""
    warm_ups = WARM_UPS if int(repeats) > WARM_UPS else 1
    seconds = []
    for i in range(warm_ups + int(repeats)):
        electron = Electron(executor(function), tasks.nothing, [1], i)
        started = time.perf_counter()
        await electron.run()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[warm_ups:]}


async def fanout(function: str, count: str, seconds: str, repeats: str) -> dict[str, Any]:
    """`count` electrons at once."""
    number, wait = int(count), float(seconds)
    before = memory.reset_peak()
    beyond, cpu = [], []
    for _ in range(int(repeats)):
        electrons = [Electron(executor(function), tasks.wait, [wait], i) for i in range(number)]
        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(electron.run() for electron in electrons))
        beyond.append(time.perf_counter() - started - wait)
        cpu.append((time.process_time() - used) / number)
    return {"beyond": beyond, "cpu": cpu, "memory": memory.peak() - before}


def array(size: str) -> Any:
    """Random bytes, so that no two are alike."""
    return numpy.random.default_rng().integers(0, 255, int(size), dtype="uint8")


async def shared(function: str, count: str, size: str) -> dict[str, Any]:
    """`count` electrons with the same array, each with a copy of its own, as in the server."""
    data = TransportableObject.make_transportable(array(size)).to_dict()
    electrons = []
    for i in range(int(count)):
        electron = Electron(executor(function), tasks.measure, [], i)
        electron.args = [TransportableObject.from_dict(json.loads(json.dumps(data)))]
        electrons.append(electron)
    started = time.perf_counter()
    results = await asyncio.gather(*(electron.run() for electron in electrons))
    wall = time.perf_counter() - started
    assert {result.get_deserialized() for result in results} == {int(size)}
    return {"wall": wall}


async def argument(function: str, size: str) -> dict[str, Any]:
    """One large argument; memory beyond what there was before Covalent's own copy of it."""
    await Electron(executor(function), tasks.measure, [array("1")]).run()
    return await _twice(function, tasks.measure, lambda: array(size), int, int(size))


async def result(function: str, size: str) -> dict[str, Any]:
    """One large result."""
    await Electron(executor(function), tasks.produce, [1]).run()
    nbytes = operator.attrgetter("nbytes")
    return await _twice(function, tasks.produce, lambda: int(size), nbytes, int(size))


async def _twice(
    function: str,
    task: Callable[..., Any],
    make: Callable[[], Any],
    measure: Callable[[Any], int],
    expected: int,
) -> dict[str, Any]:
    """Two electrons: the peak of memory in the first, the time of the second."""
    idle = memory.now()
    peak = seconds = 0.0
    for turn in range(2):
        electron = Electron(executor(function), task, [make()])
        gc.collect()
        memory.reset_peak()
        started = time.perf_counter()
        found = await electron.run()
        seconds = time.perf_counter() - started
        peak = peak if turn else memory.peak()
        assert measure(found.get_deserialized()) == expected
        del electron, found
    return {"seconds": seconds, "memory": peak - idle}


if __name__ == "__main__":
    commands: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
        "latency": latency,
        "fanout": fanout,
        "shared": shared,
        "argument": argument,
        "result": result,
    }
    print(json.dumps(asyncio.run(commands[sys.argv[2]](sys.argv[1], *sys.argv[3:]))))
