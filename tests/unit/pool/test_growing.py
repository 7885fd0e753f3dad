"""How many requests of a pool are under way where nobody says how many Lambda takes."""

from __future__ import annotations

import json
import pickle
import threading
import time
from typing import Any

import pytest
from aws_server import AWS, Answer
from fleet import THROTTLED, pool

import wire


class Quota:
    """A function with so many places, whose calls take so long and return their argument.

    The mutable state is how many run, how many ever ran at a time, and how many were refused.
    """

    def __init__(self, places: int, seconds: float) -> None:
        self._places, self._seconds = places, seconds
        self._lock = threading.Lock()
        self.running = self.most = self.refused = 0

    def answer(self, event: dict[str, Any]) -> Answer:
        with self._lock:
            if self.running == self._places:
                self.refused += 1
                return THROTTLED
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            time.sleep(self._seconds)
            return _returned(event)
        finally:
            with self._lock:
                self.running -= 1


def _returned(event: dict[str, Any]) -> Answer:
    request = json.loads(event["payload"])
    frames = b""
    for item in wire.read_frames(wire.decode(request["calls"])):
        (value,), _ = pickle.loads(item.data)
        frames += wire.Frame(wire.BEGUN, item.number, b"").to_bytes()
        frames += wire.Frame(wire.VALUE, item.number, pickle.dumps(value)).to_bytes()
    response = wire.Response(python="3.11.0", cloudpickle="3.1.2", result=wire.encode(frames))
    return Answer(payload=response.to_json())


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at first, two more at a time, for what are a thousand and two hundred."""
    monkeypatch.setattr("lambda_calls.limiter.FIRST_WINDOW", 2)
    monkeypatch.setattr("lambda_calls.limiter._RAMP", 2)
    monkeypatch.setattr("lambda_calls.limiter._TRIES_EVERY", 0.2)
    monkeypatch.setattr("lambda_calls.limiter._LATE", 30.0)  # other programs run beside the test
    monkeypatch.setattr("lambda_calls.scatter.PARALLEL", 2)
    monkeypatch.setattr("lambda_calls.scatter._LOOKS_AT_ROOM_EVERY", 0.1)


@pytest.mark.parametrize("seconds", [0.3, 5.0])
def test_it_grows_until_lambda_refuses(reachable: AWS, small_steps: None, seconds: float) -> None:
    """Who may not ask for the quota finds it out; short calls and long ones, which end only after
    all places are taken."""
    quota = Quota(9, seconds)
    reachable.script = quota.answer
    count = round(30 / seconds) + 12
    with pool() as executor:
        assert list(executor.map(str, range(count), chunksize=1)) == list(range(count))
    assert quota.most == 9
    assert quota.refused
    assert executor.stats().summary.throttled == quota.refused


def test_max_workers_is_never_exceeded(reachable: AWS, small_steps: None) -> None:
    """What was asked for is the most, however many more Lambda would take."""
    quota = Quota(100, 0.1)
    reachable.script = quota.answer
    with pool(max_workers=3) as executor:
        assert list(executor.map(str, range(40), chunksize=1)) == list(range(40))
    assert quota.most == 3
