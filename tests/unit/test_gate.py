"""The gate: order and number of those who may send while Lambda throttles."""

import asyncio

import pytest
from covalent_awslambda_plugin.gate import Gate


class Quota:
    """A stand-in for Lambda's concurrency quota."""

    def __init__(self, places: int) -> None:
        self.places, self.running, self.refusals = places, 0, 0
        self.served: list[int] = []

    async def electron(self, gate: Gate, age: int) -> None:
        while True:
            await gate.enter(age, 60)
            if self.running >= self.places:
                self.refusals += 1
                gate.leave(throttled=True)
                continue
            self.running += 1
            await asyncio.sleep(0.01)
            self.running -= 1
            self.served.append(age)
            gate.leave()
            return


def serve(quota: Quota, electrons: int) -> None:
    async def all_of_them() -> None:
        gate = Gate()
        await asyncio.gather(*(quota.electron(gate, age) for age in range(electrons)))

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


def test_no_limit_is_seen_without_throttling() -> None:
    """Unthrottled, all are let in at once."""

    async def scenario() -> int:
        gate = Gate()
        for age in range(500):
            await asyncio.wait_for(gate.enter(age, 60), 1)
        return 500

    assert asyncio.run(scenario()) == 500


def test_one_who_gives_up_takes_no_place() -> None:
    """An electron cancelled while it waits does not block those behind it."""

    async def scenario() -> None:
        gate = Gate()
        await gate.enter(0, 60)
        await gate.enter(1, 60)
        gate.leave(throttled=True)  # the window is 1 now, and one is inside
        waiting = asyncio.ensure_future(gate.enter(2, 60))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.wait({waiting})
        gate.leave()
        await asyncio.wait_for(gate.enter(3, 60), 1)

    asyncio.run(scenario())


def test_cancelled_in_the_moment_of_admission() -> None:
    """An electron cancelled just as it is let in does not go on; its place is free again."""

    async def scenario() -> None:
        gate = Gate()
        await gate.enter(0, 60)
        await gate.enter(1, 60)
        gate.leave(throttled=True)  # the window is 1 now, and one is inside
        await asyncio.sleep(0.2)
        going = asyncio.ensure_future(gate.enter(2, 60))
        await asyncio.sleep(0.01)
        gate.leave()  # admits it; it has not run on yet
        going.cancel()
        await asyncio.wait({going})
        assert going.cancelled()
        assert gate._inside == 0

    asyncio.run(scenario())


def test_patience_ends() -> None:
    """Whoever waits longer than it wanted to gets a TimeoutError, and takes no place."""

    async def scenario() -> None:
        gate = Gate()
        await gate.enter(0, 60)
        await gate.enter(1, 60)
        gate.leave(throttled=True)
        with pytest.raises(TimeoutError):
            await gate.enter(2, 0.05)
        gate.leave()
        await asyncio.wait_for(gate.enter(3, 60), 5)

    asyncio.run(scenario())


def test_nobody_goes_at_once_after_a_refusal() -> None:
    """After a refusal the next one waits a moment, though nobody is inside or waiting."""

    async def scenario() -> bool:
        gate = Gate()
        await gate.enter(0, 60)
        gate.leave(throttled=True)
        next_one = asyncio.ensure_future(gate.enter(1, 60))
        await asyncio.sleep(0.01)
        at_once = next_one.done()
        await asyncio.wait_for(next_one, 5)
        return at_once

    assert not asyncio.run(scenario())
