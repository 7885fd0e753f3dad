"""The limiter: order and number of those who may send while Lambda or the network refuses."""

import asyncio

import pytest
from lambda_calls.aws.refusals import NoDescriptors, NotNow, Unreachable
from lambda_calls.limiter import ConcurrencyLimiter


class Quota:
    """A stand-in for Lambda's concurrency quota."""

    def __init__(self, places: int) -> None:
        self.places, self.running, self.refusals = places, 0, 0
        self.served: list[int] = []

    async def call(self, limiter: ConcurrencyLimiter, age: int) -> None:
        while True:
            try:
                async with limiter.turn(age, 60):
                    if self.running >= self.places:
                        self.refusals += 1
                        raise NotNow("too many")
                    self.running += 1
                    await asyncio.sleep(0.01)
                    self.running -= 1
                    self.served.append(age)
                    return
            except NotNow:
                pass


def serve(quota: Quota, calls: int) -> None:
    async def all_of_them() -> None:
        limiter = ConcurrencyLimiter()
        await asyncio.gather(*(quota.call(limiter, age) for age in range(calls)))

    asyncio.run(all_of_them())


def test_everyone_is_served_with_few_refusals() -> None:
    """300 electrons on 5 places all run; beyond the first burst, about one refusal for each."""
    quota = Quota(5)
    serve(quota, 300)
    assert sorted(quota.served) == list(range(300))
    assert quota.refusals < 300 + 1.5 * 300


def test_oldest_go_first() -> None:
    """Those who wait are served in the order of their age."""
    quota = Quota(2)
    serve(quota, 60)
    displaced = [abs(place - age) for place, age in enumerate(quota.served)]
    assert max(displaced) <= 4


async def inside(limiter: ConcurrencyLimiter, age: float = 0, seconds: float = 60) -> "Turn":
    """A turn that is held until it is ended."""
    turn = Turn(limiter, age, seconds)
    await turn.begin()
    return turn


class Turn:
    """One call's turn, held until `end`."""

    def __init__(self, limiter: ConcurrencyLimiter, age: float, seconds: float) -> None:
        self._turn = limiter.turn(age, seconds)

    async def begin(self) -> None:
        await self._turn.__aenter__()

    async def end(self, error: Exception | None = None) -> None:
        swallowed = await self._turn.__aexit__(error and type(error), error, None)
        assert not swallowed


async def one_left(limiter: ConcurrencyLimiter) -> Turn:
    """Two turns, of which Lambda refused one: the window is 1 now, and one is inside."""
    first, second = await inside(limiter, 0), await inside(limiter, 1)
    await second.end(NotNow("too many"))
    return first


def test_no_limit_is_seen_without_throttling() -> None:
    """Unthrottled, as many are let in at once as Lambda takes by default."""

    async def scenario() -> None:
        limiter = ConcurrencyLimiter()
        for age in range(1000):
            await asyncio.wait_for(inside(limiter, age), 1)

    asyncio.run(scenario())


def test_one_who_gives_up_takes_no_place() -> None:
    """A call cancelled while it waits does not block those behind it."""

    async def scenario() -> None:
        limiter = ConcurrencyLimiter()
        first = await one_left(limiter)
        waiting = asyncio.ensure_future(inside(limiter, 2))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.wait({waiting})
        await first.end()
        await asyncio.wait_for(inside(limiter, 3), 1)

    asyncio.run(scenario())


def test_cancelled_in_the_moment_of_admission() -> None:
    """A call cancelled just as it is let in does not go on; its place is free again."""

    async def scenario() -> None:
        limiter = ConcurrencyLimiter()
        first = await one_left(limiter)
        await asyncio.sleep(0.2)
        going = asyncio.ensure_future(inside(limiter, 2))
        await asyncio.sleep(0.01)
        await first.end()  # admits it; it has not run on yet
        going.cancel()
        await asyncio.wait({going})
        assert going.cancelled()
        assert limiter._inside == 0

    asyncio.run(scenario())


def test_patience_ends() -> None:
    """Whoever waits longer than it wanted to is told so, and takes no place."""

    async def scenario() -> None:
        limiter = ConcurrencyLimiter()
        first = await one_left(limiter)
        with pytest.raises(NotNow, match="never its turn"):
            await inside(limiter, 2, 0.05)
        await first.end()
        await asyncio.wait_for(inside(limiter, 3), 5)

    asyncio.run(scenario())


def test_nobody_goes_at_once_after_a_refusal() -> None:
    """After a refusal the next one waits a moment, though nobody is inside or waiting."""

    async def scenario() -> bool:
        limiter = ConcurrencyLimiter()
        await (await inside(limiter)).end(NotNow("too many"))
        next_one = asyncio.ensure_future(inside(limiter, 1))
        await asyncio.sleep(0.01)
        at_once = next_one.done()
        await asyncio.wait_for(next_one, 5)
        return at_once

    assert not asyncio.run(scenario())


def test_window_grows_to_what_lambda_takes() -> None:
    """An account with a raised quota gets more than the default thousand, answer by answer."""

    async def scenario() -> int:
        limiter = ConcurrencyLimiter(most=lambda: 1_000_000)
        turns = [await asyncio.wait_for(inside(limiter), 1) for _ in range(1000)]
        for _ in range(3):
            ended, turns = turns, []
            for turn in ended:
                await turn.end()
                turns += [await asyncio.wait_for(inside(limiter), 1) for _ in range(2)]
        return len(turns)

    assert asyncio.run(scenario()) == 8000


def test_too_many_requests_a_second_leave_the_window_alone() -> None:
    """Where requests come too fast, they are spaced; as many as before may run at a time."""

    async def scenario() -> int:
        limiter = ConcurrencyLimiter()
        turns = [await inside(limiter) for _ in range(50)]
        await turns.pop().end(NotNow("rate", too_fast=True))
        for _ in range(50):
            turns.append(await asyncio.wait_for(inside(limiter), 5))
        return len(turns)

    assert asyncio.run(scenario()) == 99


def test_lambdas_own_pause_is_kept() -> None:
    """A refusal that says how long to wait is believed."""

    async def scenario() -> bool:
        limiter = ConcurrencyLimiter()
        await (await inside(limiter)).end(NotNow("later", retry_after=2.0))
        with pytest.raises(NotNow):
            await inside(limiter, 1, 0.9)  # at least half of what was asked for
        await asyncio.wait_for(inside(limiter, 2), 5)
        return True

    assert asyncio.run(scenario())


def test_one_at_a_time_while_the_network_is_away() -> None:
    """After a connection that did not come about, one call tries; the others wait."""

    async def scenario() -> list[bool]:
        limiter = ConcurrencyLimiter()
        turns = [await inside(limiter) for _ in range(20)]
        for turn in turns:
            await turn.end(Unreachable("gone"))
        waiting = [asyncio.ensure_future(inside(limiter, age)) for age in range(20)]
        await asyncio.sleep(1.5)
        trying = [job for job in waiting if job.done()]
        assert len(trying) == 1
        assert limiter.outage() > 1
        await trying[0].result().end()
        await asyncio.sleep(0)
        assert limiter.outage() == 0
        again = sum(job.done() for job in waiting) - 1
        for job in waiting:
            job.cancel()
        return [1 <= again < 20]  # a few at first: no stampede

    assert asyncio.run(scenario()) == [True]


def test_any_answer_ends_the_outage() -> None:
    """What the endpoint said does not matter: it answered."""

    async def scenario() -> float:
        limiter = ConcurrencyLimiter()
        await (await inside(limiter)).end(Unreachable("gone"))
        await asyncio.sleep(0.05)
        assert limiter.outage() > 0
        await (await asyncio.wait_for(inside(limiter), 5)).end(ValueError("403"))
        return limiter.outage()

    assert asyncio.run(scenario()) == 0


def test_all_who_wait_fail_when_the_outage_is_given_up() -> None:
    """Nobody waits behind a network that has been away for too long."""

    async def scenario() -> None:
        limiter = ConcurrencyLimiter()
        await (await inside(limiter)).end(Unreachable("gone"))
        waiting = [asyncio.ensure_future(inside(limiter, age)) for age in range(5)]
        await asyncio.sleep(0.01)
        limiter.give_up(Unreachable("gone for a minute"))
        for job in waiting:
            with pytest.raises(Unreachable, match="for a minute"):
                await asyncio.wait_for(job, 1)

    asyncio.run(scenario())


def test_no_more_than_there_are_descriptors() -> None:
    """Beyond what the process may open, calls wait; one that found none takes no place."""

    async def scenario() -> None:
        free = 3
        limiter = ConcurrencyLimiter(most=lambda: free)
        turns = [await inside(limiter) for _ in range(3)]
        free = 0
        with pytest.raises(NotNow):
            await inside(limiter, 1, 0.05)
        await turns.pop().end(NoDescriptors("EMFILE"))
        with pytest.raises(NotNow):
            await inside(limiter, 1, 0.2)
        await turns.pop().end()
        await asyncio.wait_for(inside(limiter, 2), 5)

    asyncio.run(scenario())


def test_a_silent_call_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that has shrunk to one call that never ends lets another one in after a while."""
    monkeypatch.setattr("lambda_calls.limiter._TRIES_EVERY", 0.05)

    async def waits() -> None:
        limiter = ConcurrencyLimiter()
        silent = await inside(limiter)
        with pytest.raises(NotNow, match="too many"):
            async with limiter.turn(1, 60):
                raise NotNow("too many")
        async with limiter.turn(2, 5):
            pass
        await silent.end()

    asyncio.run(waits())
