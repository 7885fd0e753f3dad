"""Blocking calls in a bounded pool of threads."""

import asyncio
import threading
import time
from queue import SimpleQueue

import pytest
from lambda_calls.errors import ResourceLimitError
from lambda_calls.threads import Threads
from patience import wait_until


def test_no_more_than_asked_for() -> None:
    """A hundred calls share a few threads, and all are done."""
    threads, seen = Threads(4, "few"), set()

    def work(number: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.005)
        return number

    async def many() -> list[int]:
        return await asyncio.gather(*[threads.run(work, i) for i in range(100)])

    assert asyncio.run(many()) == list(range(100))
    assert 1 <= len(seen) <= 4
    threads.close()


def test_errors_come_through() -> None:
    """What a call raises is raised where it is awaited."""
    threads = Threads(1, "one")

    async def failing() -> None:
        await threads.run(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        asyncio.run(failing())
    threads.close()


def test_cancelled_calls_that_wait_never_begin() -> None:
    """A call that nobody awaits any more is skipped if it has not begun."""
    threads, begun = Threads(1, "one"), []
    release = threading.Event()

    async def scenario() -> None:
        first = asyncio.ensure_future(threads.run(release.wait, 5))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(threads.run(begun.append, "second"))
        await asyncio.sleep(0.05)
        second.cancel()
        release.set()
        await first
        await threads.run(begun.append, "third")

    asyncio.run(scenario())
    assert begun == ["third"]
    threads.close()


def test_work_that_fails_costs_no_thread() -> None:
    """What nobody waits for may fail: the next call has its turn all the same."""
    threads = Threads(1, "one")

    def fails() -> None:
        raise ValueError("nobody waits for it")

    async def after() -> int:
        threads.begin(fails)
        return await asyncio.wait_for(threads.run(len, "four"), 20)

    assert asyncio.run(after()) == 4
    threads.close()


class _Woken(SimpleQueue):  # type: ignore[type-arg]
    """A queue whose readers need some time to wake up."""

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        got = super().get(block, timeout)
        time.sleep(0.2)
        return got


def test_a_thread_that_has_work_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work does not wait behind other work because its thread has yet to wake up."""
    monkeypatch.setattr("lambda_calls.threads.SimpleQueue", _Woken)
    threads, release, first, last = Threads(8, "some"), *(threading.Event() for _ in range(3))
    threads.begin(first.set)
    assert first.wait(20)
    time.sleep(0.05)  # its thread waits for work now
    threads.begin(lambda: release.wait(30))
    time.sleep(0.05)  # it has this work, and has not woken up
    threads.begin(last.set)
    try:
        assert last.wait(20)
    finally:
        release.set()
        threads.close()


def test_work_after_the_end_has_a_thread() -> None:
    """Whoever uses a pool that was closed gets a new thread."""
    threads, done = Threads(2, "closed"), threading.Event()
    threads.begin(lambda: None)
    threads.close()
    threads.begin(done.set)
    assert done.wait(20)
    threads.close()


def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the error says which limit; those that run go on."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def once(threads: Threads) -> int:
        return await threads.run(len, "four")

    threads = Threads(4, "few")
    asyncio.run(once(threads))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert asyncio.run(once(threads)) == 4
    with pytest.raises(ResourceLimitError, match="ulimit -u"):
        asyncio.run(once(Threads(4, "none")))
    threads.close()


def test_threads_end() -> None:
    """A pool that is closed leaves no thread behind."""
    threads = Threads(3, "closing")

    async def some() -> None:
        await asyncio.gather(*[threads.run(time.sleep, 0.02) for _ in range(3)])

    asyncio.run(some())
    threads.close()
    wait_until(
        lambda: all(thread.name != "closing" for thread in threading.enumerate()), "its end", 20
    )
