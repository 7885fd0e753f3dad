"""Submitting, cancelling, throttling, dropping, killing and shutting down, in any order."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future, wait
from typing import Any
from unittest.mock import patch

import aws_server
import cloudpickle
import leaks
from aws_server import Answer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from lambda_calls import LambdaCallError, LambdaPoolExecutor, asking
from lambda_calls import attempt as attempts

import wire

_KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
_QUICK = {"_GRACE": 1.0, "_FIRST_PAUSE": 0.05, "_LONGEST_PAUSE": 0.1}
_TIMEOUT = 4.0
_DEADLINE = 15.0  # seconds: timeout, grace, and a busy machine


def worked(number: int) -> int:
    """Runs in this process: the stand-in unpickles it, as the function would."""
    _ran[number] += 1
    return -number


_ran: Counter[int] = Counter()


class Pool(RuleBasedStateMachine):
    """A pool against a stand-in of Lambda that fails as the rules say."""

    def __init__(self) -> None:
        super().__init__()
        _ran.clear()
        self.next: list[str] = []
        self.futures: dict[int, Future[int]] = {}
        self.settled: Counter[int] = Counter()
        self.lock = threading.Lock()
        self.before = leaks.held()
        self.serving = aws_server.running()
        self.aws = self.serving.__enter__()
        self.aws.script = self.answer
        variables = {**_KEYS, "AWS_ENDPOINT_URL": self.aws.url}
        self.patches: list[Any] = [patch.dict("os.environ", variables)]
        self.patches += [patch.object(attempts, k, v) for k, v in _QUICK.items()]
        self.patches.append(patch.object(asking, "STARTS_WITHIN", 0.5))
        for one in self.patches:
            one.start()
        self.pool = LambdaPoolExecutor(
            function_name="fn", s3_bucket_name="bucket", region="eu-west-1", timeout=_TIMEOUT
        )
        self.is_shut = False

    def answer(self, event: dict[str, Any]) -> Answer:
        """The stand-in's function: runs the calls of a batch, or fails as was asked for."""
        said = json.loads(event["payload"])
        with self.lock:
            how = self.next.pop(0) if self.next else ""
        if how == "throttle":
            return Answer(status=429, code="TooManyRequestsException")
        if how == "break":
            return Answer(hang_up=True)
        if how == "refuse":
            return Answer(status=500, code="ServiceException")
        frames = b""
        for item in wire.read_frames(wire.decode(said["calls"])):
            args, kwargs = cloudpickle.loads(item.data)
            value = cloudpickle.loads(wire.decode(said["function"]))(*args, **kwargs)
            frames += wire.Frame(wire.BEGUN, item.number, b"").to_bytes()
            frames += wire.Frame(wire.VALUE, item.number, cloudpickle.dumps(value)).to_bytes()
        if how == "drop":
            return Answer(hang_up=True)
        if how == "kill":
            return Answer(
                payload={"errorType": "Runtime.ExitError", "errorMessage": "signal: killed"},
                error="Unhandled",
            )
        response = wire.Response(
            python="3.11", cloudpickle="3", result=wire.encode(frames), task_id=said["task_id"]
        )
        return Answer(payload=response.to_json())

    @rule(how=st.sampled_from(["throttle", "break", "refuse", "drop", "kill"]))
    def fails_next(self, how: str) -> None:
        with self.lock:
            self.next.append(how)

    @rule(count=st.integers(1, 3))
    def submit(self, count: int) -> None:
        for _ in range(count):
            number = len(self.futures)
            try:
                future = self.pool.submit(worked, number)
            except RuntimeError:
                assert self.is_shut
                return
            assert not self.is_shut
            self.futures[number] = future
            future.add_done_callback(lambda _, n=number: self._settled(n))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.futures:
            future = self.futures[data.draw(st.sampled_from(sorted(self.futures)))]
            if self.pool.cancel(future):
                wait([future], timeout=_DEADLINE)

    @rule()
    def pause(self) -> None:
        time.sleep(0.02)

    @rule(cancel_futures=st.booleans())
    def shut_down(self, cancel_futures: bool) -> None:
        self.pool.shutdown(wait=False, cancel_futures=cancel_futures)
        self.is_shut = True

    @invariant()
    def settled_at_most_once(self) -> None:
        assert all(count == 1 for count in self.settled.values()), self.settled

    @invariant()
    def ran_at_most_once(self) -> None:
        assert all(count == 1 for count in _ran.values()), _ran

    def teardown(self) -> None:
        try:
            done = wait(self.futures.values(), timeout=_DEADLINE)
            assert not done.not_done, "a future hangs"
            for number, future in self.futures.items():
                self._check(number, future)
            assert set(self.settled) == set(self.futures)
            self.pool.shutdown()
        finally:
            self.pool.stop()
            for one in self.patches:
                one.stop()
            self.serving.__exit__(None, None, None)
        left = [x for x in self.aws.objects if not x.endswith("/order")]
        assert not left, left
        assert not leaks.left_since(self.before)

    def _check(self, number: int, future: "Future[int]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            assert future.result() == -number and _ran[number] == 1
        else:
            assert isinstance(error, (LambdaCallError, CancelledError)) and str(error)

    def _settled(self, number: int) -> None:
        self.settled[number] += 1


TestPool = Pool.TestCase
TestPool.settings = settings(
    max_examples=12,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
