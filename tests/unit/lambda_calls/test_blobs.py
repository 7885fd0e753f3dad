"""Objects that calls share, at the end of what holds them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest
from lambda_calls import blobs
from lambda_calls.blobs import Blobs
from lambda_calls.shutdown import AtExit
from lambda_calls.threads import Threads
from lambda_calls.wire import encode
from patience import wait_until


class Bucket:
    """Objects whose deletion takes a while.

    Args:
        seconds: that it takes.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.keys = seconds, set[str]()

    def exists(self, key: str) -> bool:
        return key in self.keys

    def upload(self, key: str, data: Any, size: int) -> None:
        self.keys.add(key)

    def delete(self, *keys: str) -> None:
        time.sleep(self.seconds)
        self.keys.difference_update(keys)


def test_loop_that_ends_while_an_object_is_deleted_warns_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its time comes when the loop has cancelled its tasks, and waits for its threads."""
    monkeypatch.setattr(blobs, "_LINGER", 0.1)
    bucket, threads, at_exit = Bucket(0.6), Threads(1, "of-a-test"), AtExit()
    met: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: met.append(context["message"]))
        held = Blobs(bucket, threads, at_exit)  # type: ignore[arg-type]
        async with held.stored([encode(b"shared")], seconds=5):
            assert bucket.keys
        loop.run_in_executor(None, time.sleep, 0.4)

    asyncio.run(main())
    wait_until(lambda: not bucket.keys, "the object is deleted", 10)
    at_exit.run()
    threads.close()
    at_exit.close()
    wait_until(
        lambda: not [x for x in threading.enumerate() if x.name == "of-a-test"], "no thread", 10
    )
    gc.collect()
    assert met == []
