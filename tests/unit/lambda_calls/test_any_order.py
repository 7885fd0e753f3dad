"""Submitting, cancelling, throttling, dropping, killing and shutting down, in any order."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, wait
from typing import Any
from unittest.mock import patch

import aws_server
import cloudpickle
import leaks
from aws_server import Answer
from covalent._shared_files.exceptions import TaskCancelledError
from covalent._workflow.transportable_object import TransportableObject
from covalent_awslambda_plugin.server import server
from electrons import covalents, made
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lambda_calls import (
    LambdaCallError,
    LambdaPoolExecutor,
    asking,
    blobs,
    cancellation,
    fan_out,
)
from lambda_calls import attempt as attempts
from lambda_calls import wire as core_wire
from lambda_calls.scatter import Ending, Task
from secret_keys import SECRET_KEY

import wire

_KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
_QUICK = {"_FIRST_PAUSE": 0.05, "_LONGEST_PAUSE": 0.1}
# Seconds, for a busy machine: the stand-in leaves nothing without an answer, so that nobody has to
# give up a call that it answers in the end.
_TIMEOUT = _STOPPING = 30.0
_DEADLINE = 60.0
_DISPATCH = "dispatch"
_FAULTS = ["throttle", "break", "refuse", "drop", "leave", "kill", "take long"]


# Bytes that a request or an answer holds here beside the envelope, and of what is larger.
_ROOM, _LARGE = 20_000, 30_000


def worked(number: int, data: bytes = b"") -> Any:
    """Runs in this process: the stand-in unpickles it, as the function would."""
    with _counting:
        _ran[number] += 1
    return (-number, data) if data else -number


class Missing(Exception):
    """An argument is not in the bucket."""


def path_of(blob: Mapping[str, Any]) -> str:
    return f"/bucket/{blob['key']}"


_ran: Counter[int] = Counter()
_counting = threading.Lock()


class AnyOrder(RuleBasedStateMachine):
    """Calls on a stand-in of Lambda that fails as the rules say."""

    def __init__(self) -> None:
        super().__init__()
        _ran.clear()
        self.next: list[str] = []
        self.retries = 0
        self.count = 0  # of calls
        self.futures: dict[int, Future[Any]] = {}  # by the number of the first of their calls
        self.calls: dict[int, range] = {}
        self.began: dict[int, float] = {}
        self.took: dict[int, float] = {}  # seconds
        self.faults: list[str] = []  # beside what becomes of a future
        self.large: set[int] = set()  # calls whose arguments and results go through the bucket
        self.succeeded: set[int] = set()  # calls
        self.answered: set[str] = set()  # attempts that were told how they ended
        self.left: dict[str, list[int]] = {}  # those that found it in the bucket: their calls
        self.let_go: set[int] = set()  # nobody waits for what becomes of them
        self.lock = threading.Lock()
        self.is_shut = False
        self.before = leaks.held()
        self.serving = aws_server.running()
        self.aws = self.serving.__enter__()
        self.aws.script = self.answer
        variables = {**_KEYS, "AWS_ENDPOINT_URL": self.aws.url}
        self.patches: list[Any] = [patch.dict("os.environ", variables)]
        self.patches += [patch.object(attempts, k, v) for k, v in _QUICK.items()]
        self.patches += [patch.object(Task, "end", self.once(Task.end)), self.no_error_of_a_loop()]
        self.patches.append(patch.object(asking, "STARTS_WITHIN", 0.5))
        self.patches.append(patch.object(blobs, "_LINGER", 0.1))
        limit = core_wire.PAYLOAD_MARGIN + _ROOM
        self.patches.append(patch.object(core_wire, "PAYLOAD_LIMIT", limit))
        self.patches.append(patch.object(cancellation, "_STOPPING", _STOPPING))
        for one in self.patches:
            one.start()

    def once(self, end: Callable[[Task, Ending], None]) -> Callable[[Task, Ending], None]:
        """`Task.end`, which nobody may call for a call that is settled: a future cannot tell,
        since it is settled once by construction."""

        def noting(task: Task, ending: Ending) -> None:
            if task.settled:
                self.faults.append(f"a call was settled again: {ending}")
            end(task, ending)

        return noting

    def no_error_of_a_loop(self) -> Any:
        """What no one awaits, or a callback raises, reaches the event loop alone."""

        def noting(loop: Any, context: dict[str, Any]) -> None:
            self.faults.append(f"an event loop met: {context}")

        return patch.object(asyncio.BaseEventLoop, "call_exception_handler", noting)

    # -- the function ----------------------------------------------------------------------------

    def answer(self, event: dict[str, Any]) -> Answer:
        """The stand-in: runs what was sent, or fails as was asked for."""
        said = json.loads(event["payload"])
        with self.lock:
            how = self.next.pop(0) if self.next else ""
            self.answered.discard(said["task_id"])
            self.left.pop(said["task_id"], None)
        if how == "throttle":
            return Answer(status=429, code="TooManyRequestsException")
        if how == "break":
            return Answer(hang_up=True)
        if how == "refuse":
            return Answer(status=500, code="ServiceException")
        if how == "take long":
            time.sleep(0.3)
        response, numbers = self.respond(said)
        if how == "leave":
            with self.lock:
                self.left[said["task_id"]] = numbers
            path = f"/bucket/{wire.task_key(said['task_id'], wire.OUTCOME)}"
            self.aws.objects[path] = wire.seal(json.dumps(response), said["key"])
            return Answer(hang_up=True)
        if how == "drop":
            return Answer(hang_up=True)
        with self.lock:
            self.answered.add(said["task_id"])
        if how == "kill":
            return Answer(
                payload={"errorType": "Runtime.ExitError", "errorMessage": "signal: killed"},
                error="Unhandled",
            )
        return Answer(payload=response)

    def respond(self, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """What the function answers once it has run what was sent, and the calls that it ran."""
        try:
            if "calls" in said:
                return self.respond_to_batch(said)
            return self.respond_to_electron(said)
        except Missing as error:  # nobody waits for it any more
            return self.response(said, failure=wire.Failure(wire.BLOB_MISSING, str(error))), []

    def respond_to_batch(self, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        frames, numbers = b"", []
        for item in wire.read_frames(self.bytes_of(said["calls"])):
            args, kwargs = cloudpickle.loads(item.data)
            numbers.append(args[0])
            value = cloudpickle.loads(self.bytes_of(said["function"]))(*args, **kwargs)
            frames += wire.Frame(wire.BEGUN, item.number, b"").to_bytes()
            frames += wire.Frame(wire.VALUE, item.number, cloudpickle.dumps(value)).to_bytes()
        return self.response(said, result=self.placed(said, frames)), numbers

    def respond_to_electron(self, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        raise NotImplementedError

    def bytes_of(self, part: Any) -> bytes:
        """A part's, wherever it is."""
        if isinstance(part, str):
            return wire.decode(part)
        data = self.aws.objects.get(path_of(part))
        if data is None:
            raise Missing(part["key"])
        return data

    def placed(self, said: dict[str, Any], data: bytes) -> wire.Part:
        """A part of the answer, in the bucket if it is large."""
        if len(data) <= _ROOM:
            return wire.encode(data)
        blob = wire.blob(data, key=wire.task_key(said["task_id"], wire.RESULT))
        self.aws.objects[path_of(vars(blob))] = data
        return blob

    def response(self, said: dict[str, Any], **fields: Any) -> dict[str, Any]:
        made = wire.Response(
            python="3.11", cloudpickle="3", text="", task_id=said["task_id"], **fields
        )
        return made.to_json()

    # -- what happens ----------------------------------------------------------------------------

    @initialize(retries=st.integers(0, 1))
    def begin(self, retries: int) -> None:
        self.retries = retries
        self.make()

    @rule(how=st.sampled_from(_FAULTS))
    def fails_next(self, how: str) -> None:
        with self.lock:
            self.next.append(how)

    @rule(count=st.integers(1, 3), large=st.booleans())
    def submit(self, count: int, large: bool) -> None:
        if self.is_shut:
            return self.submit_to_one_that_is_shut()
        if large:
            self.large.update(range(self.count, self.count + count))
        for number, numbers in self.parts(range(self.count, self.count + count)):
            self.calls[number], self.began[number] = numbers, time.monotonic()
            self.futures[number] = future = self.send(numbers)
            future.add_done_callback(lambda _, n=number: self.settles(n))
        self.count += count

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.futures:
            self.stop(data.draw(st.sampled_from(sorted(self.futures))))

    @rule()
    def pause(self) -> None:
        time.sleep(0.02)

    @rule(at_once=st.booleans())
    def shut_down(self, at_once: bool) -> None:
        self.shut(at_once)
        self.is_shut = True

    @invariant()
    def settled_at_most_once(self) -> None:
        assert not self.faults, self.faults

    @invariant()
    def ran_no_more_often_than_allowed(self) -> None:
        assert all(count <= 1 + self.retries for count in _ran.values()), _ran

    def teardown(self) -> None:
        try:
            deadline = _DEADLINE * (1 + self.retries)
            done = wait(self.futures.values(), timeout=deadline)
            assert not done.not_done, "a call hangs"
            for number, future in self.futures.items():
                self.check(self.calls[number], future)
            self.end()
            assert set(self.took) == set(self.futures)
            assert max(self.took.values(), default=0) < deadline, self.took
            self.settled_at_most_once()
            self.ran_no_more_often_than_allowed()
        finally:
            self.close()
            for one in self.patches:
                one.stop()
            self.serving.__exit__(None, None, None)
        left = [x for x in self.aws.objects if self.is_over(x)]
        assert not left, left
        assert not leaks.left_since(self.before)

    def is_over(self, path: str) -> bool:
        """Whether an object belongs to no attempt, or to one that knows how it ended."""
        _, _, first, attempt, *_ = path.split("/")
        if first != "tasks" or attempt in self.answered:
            return True
        # A call that has a value, and ran once, has it from what this attempt found.
        found = self.left.get(attempt, [])
        return bool(found) and all(n in self.succeeded and _ran[n] == 1 for n in found)

    def settles(self, number: int) -> None:
        self.took[number] = time.monotonic() - self.began[number]

    # -- of each way to make calls ---------------------------------------------------------------

    def make(self) -> None:
        raise NotImplementedError

    def parts(self, numbers: range) -> Iterable[tuple[int, range]]:
        """Calls that are settled together, by the first one's number."""
        return ((n, range(n, n + 1)) for n in numbers)

    def send(self, numbers: range) -> "Future[Any]":
        raise NotImplementedError

    def submit_to_one_that_is_shut(self) -> None:
        pass

    def stop(self, number: int) -> None:
        raise NotImplementedError

    def shut(self, at_once: bool) -> None:
        raise NotImplementedError

    def check(self, numbers: range, future: "Future[Any]") -> None:
        """That it ended well, or typed."""
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.check_value(numbers, future.result())
        else:
            self.check_error(error)

    def check_value(self, numbers: range, value: Any) -> None:
        self.check_one(numbers[0], value)

    def check_one(self, number: int, value: Any) -> None:
        expected = (-number, self.data_of(number)) if number in self.large else -number
        assert value == expected and _ran[number]
        self.succeeded.add(number)

    def data_of(self, number: int) -> bytes:
        """The argument that a call has beside its number: the same one for all that are large."""
        return bytes(_LARGE) if number in self.large else b""

    def check_error(self, error: BaseException) -> None:
        kinds = (LambdaCallError, CancelledError, TaskCancelledError)
        assert isinstance(error, kinds) and str(error), repr(error)

    def end(self) -> None:
        """Wait until nothing is under way."""

    def close(self) -> None:
        raise NotImplementedError


class Pool(AnyOrder):
    """Through the pool."""

    pool: LambdaPoolExecutor

    def make(self) -> None:
        self.pool = LambdaPoolExecutor(
            function_name="fn",
            s3_bucket_name="bucket",
            region="eu-west-1",
            timeout=_TIMEOUT,
            retries=self.retries,
            backoff=0.05,
        )

    def send(self, numbers: range) -> "Future[Any]":
        return self.pool.submit(worked, numbers[0], self.data_of(numbers[0]))

    def submit_to_one_that_is_shut(self) -> None:
        try:
            self.pool.submit(worked, -1)
        except RuntimeError:
            return
        raise AssertionError("it took a call after it was shut down")

    def stop(self, number: int) -> None:
        if self.pool.cancel(self.futures[number]):
            wait([self.futures[number]], timeout=_DEADLINE)

    def shut(self, at_once: bool) -> None:
        self.pool.shutdown(wait=False, cancel_futures=at_once)

    def end(self) -> None:
        self.pool.shutdown()

    def close(self) -> None:
        self.pool.stop()


class Electrons(AnyOrder):
    """Through the executor, on an event loop as Covalent's server has one."""

    def make(self) -> None:
        server.cache_clear()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.executor = made(timeout=_TIMEOUT, retries=self.retries)

    def send(self, numbers: range) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(self.run(numbers), self.loop)

    async def run(self, numbers: range) -> Any:
        metadata = {"dispatch_id": _DISPATCH, "node_id": numbers[0]}
        result = await self.executor.run(*self.electron(numbers), {}, metadata)
        return result.get_deserialized()

    def electron(self, numbers: range) -> tuple[Any, list[Any]]:
        """Function and arguments, as Covalent passes them."""
        args = numbers[0], self.data_of(numbers[0])
        return covalents(worked), [TransportableObject(x) for x in args]

    def respond_to_electron(self, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        args = [cloudpickle.loads(self.bytes_of(x)) for x in said["args"]]
        value = cloudpickle.loads(self.bytes_of(said["function"]))(*args)
        result = self.placed(said, cloudpickle.dumps(value))
        return self.response(said, result=result), [args[0]]

    def stop(self, number: int) -> None:
        """As Covalent does: on an executor made anew."""
        if self.futures[number].done():
            return
        metadata = {"dispatch_id": _DISPATCH, "node_id": number}
        cancelling = made(timeout=_TIMEOUT).cancel(metadata, {"task_id": "unknown"})
        asyncio.run_coroutine_threadsafe(cancelling, self.loop).result(_DEADLINE)

    def shut(self, at_once: bool) -> None:
        """The server ends: at once, it lets go of its electrons."""
        if at_once:
            for number, future in self.futures.items():
                if future.cancel():
                    self.let_go.add(number)

    def end(self) -> None:
        async def idle() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=_DEADLINE)

        asyncio.run_coroutine_threadsafe(idle(), self.loop).result(2 * _DEADLINE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())  # as asyncio.run does
        self.loop.close()
        server().process.close()
        server.cache_clear()

    def is_over(self, path: str) -> bool:
        """Where nobody waits, the answer may come when the order to stop has been left."""
        found = super().is_over(path)
        return found and not any(f"/{_DISPATCH}-{n}-" in path for n in self.let_go)


class FanOuts(Electrons):
    """Through fan-out electrons, which return what their items raised."""

    def parts(self, numbers: range) -> Iterable[tuple[int, range]]:
        return [(numbers[0], numbers)]

    def electron(self, numbers: range) -> tuple[Any, list[Any]]:
        marked = fan_out(worked, return_exceptions=True)
        items = [(n, self.data_of(n)) for n in numbers]
        return covalents(marked), [TransportableObject(items)]

    def respond_to_electron(self, said: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        (items,) = (cloudpickle.loads(self.bytes_of(x)) for x in said["args"])
        frames = [
            wire.Frame(wire.ITEM, i, cloudpickle.dumps((x, {}))) for i, x in enumerate(items)
        ]
        frames.append(wire.Frame(wire.FUNCTION, 0, cloudpickle.dumps(worked)))
        frames.append(wire.Frame(wire.SHARED, 0, cloudpickle.dumps({})))
        options = json.dumps({"return_exceptions": True}).encode()
        frames.append(wire.Frame(wire.OPTIONS, 0, options))
        spread = self.placed(said, b"".join(x.to_bytes() for x in frames))
        return self.response(said, spread=spread), []

    def check_value(self, numbers: range, value: Any) -> None:
        assert len(value) == len(numbers)
        for number, one in zip(numbers, value, strict=True):
            if isinstance(one, Exception):
                assert len(str(one)) > 20, repr(one)
            else:
                self.check_one(number, one)


_SETTINGS = settings(
    max_examples=12,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPool, TestElectrons, TestFanOuts = Pool.TestCase, Electrons.TestCase, FanOuts.TestCase
TestPool.settings = TestElectrons.settings = TestFanOuts.settings = _SETTINGS
