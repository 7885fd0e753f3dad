"""The limiter: order and number of those who may send while Lambda or the network refuses."""

import asyncio

import clock
import pytest
from lambda_calls.aws.refusals import NoDescriptors, NotNow, TooLate, Unreachable
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


def test_window_grows_again_to_what_lambda_takes() -> None:
    """Once Lambda has refused some, each answer lets one more in."""

    async def scenario() -> int:
        limiter = ConcurrencyLimiter(most=lambda: 1_000_000)
        turns = [await inside(limiter) for _ in range(101)]
        await turns.pop().end(NotNow("too many"))
        for _ in range(3):
            ended, turns = turns, []
            for turn in ended:
                await turn.end()
                turns += [await asyncio.wait_for(inside(limiter), 5) for _ in range(2)]
        return len(turns)

    assert asyncio.run(scenario()) == 800


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


def test_an_outage_that_nobody_tried_begins_anew() -> None:
    """Who comes long after an outage that was given up has as much patience as others."""

    async def scenario() -> tuple[float, float]:
        limiter, gone = ConcurrencyLimiter(), Unreachable("gone")
        await (await inside(limiter)).end(gone)
        await asyncio.sleep(30)
        await (await inside(limiter)).end(gone)
        told = limiter.outage()
        await asyncio.sleep(3600)
        await (await inside(limiter)).end(gone)
        return told, limiter.outage()

    assert clock.run(scenario()) == (30, 0)


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


# -- what Lambda allows, where it says so --------------------------------------------------------


class Calls:
    """Calls of so many seconds, and when each was let in."""

    def __init__(self, limiter: ConcurrencyLimiter, seconds: float) -> None:
        self._limiter, self._seconds = limiter, seconds
        self.began: list[float] = []
        self.inside = self.most = 0

    async def run(self, count: int) -> None:
        await asyncio.gather(*(self._one(age) for age in range(count)))

    async def _one(self, age: int) -> None:
        async with self._limiter.turn(age, 100_000):
            self.began.append(asyncio.get_running_loop().time())
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(self._seconds)
            self.inside -= 1

    def by(self, seconds: float) -> int:
        """How many had begun by then."""
        return sum(x <= seconds for x in self.began)


@pytest.mark.parametrize("places", [1, 10, 50, 1000])
def test_ten_requests_a_second_for_each_place(places: int) -> None:
    """Where the concurrency is known, no second has more than ten times as many requests, from the
    first on; and not much fewer than that, however short the calls are."""

    async def scenario() -> list[float]:
        limiter = ConcurrencyLimiter()
        limiter.allow(places)
        calls = Calls(limiter, 0.0001)
        await calls.run(20 * places)
        return calls.began

    began = clock.run(scenario())
    rate = 10 * places
    assert all(after - at > 1 - 1e-6 for at, after in zip(began, began[rate:], strict=False))
    assert began[-1] < 20 / 8.5


def test_as_many_as_there_are_places_go_at_once() -> None:
    """The rate holds up nobody for whom there is a place."""

    async def scenario() -> float:
        limiter = ConcurrencyLimiter()
        limiter.allow(10)
        calls = Calls(limiter, 1)
        await calls.run(10)
        return calls.began[-1]

    assert clock.run(scenario()) == 0


def test_known_concurrency_is_never_exceeded() -> None:
    """Where it is known what Lambda allows, no request is refused, and no place is left empty."""
    quota = Quota(5)

    async def scenario() -> float:
        limiter = ConcurrencyLimiter()
        limiter.allow(5)
        await asyncio.gather(*(quota.call(limiter, age) for age in range(300)))
        return asyncio.get_running_loop().time()

    took = clock.run(scenario())
    assert sorted(quota.served) == list(range(300))
    assert quota.refusals == 0
    assert took == pytest.approx(300 / 45, rel=0.05)  # the rate: each takes only 10 ms


def test_what_is_known_holds_for_those_who_wait() -> None:
    """Told while calls go out already, the limiter lets in no further ones above it; and more
    again once more are allowed."""

    async def scenario() -> tuple[int, int, int]:
        limiter = ConcurrencyLimiter()
        turns = [await inside(limiter, age) for age in range(20)]
        limiter.allow(10)
        waiting = [asyncio.ensure_future(inside(limiter, age)) for age in range(20, 60)]
        await asyncio.sleep(15)
        at_first = sum(x.done() for x in waiting)
        for turn in turns:
            await turn.end()
        await asyncio.sleep(15)
        then = sum(x.done() for x in waiting)
        limiter.allow(30)
        await asyncio.sleep(15)
        at_last = sum(x.done() for x in waiting)
        for job in waiting:
            job.cancel()
        return at_first, then, at_last

    assert clock.run(scenario()) == (0, 10, 30)


@pytest.mark.parametrize("allowed", [3000, None])
def test_ramp_is_lambdas(allowed: int | None) -> None:
    """A thousand long calls go at once, and another thousand every ten seconds, up to what is
    allowed, or as long as nothing is refused."""

    async def scenario() -> Calls:
        limiter = ConcurrencyLimiter(most=lambda: 1_000_000)
        if allowed is not None:
            limiter.allow(allowed)
        calls = Calls(limiter, 60)
        await calls.run(4000)
        return calls

    calls = clock.run(scenario())
    assert (calls.by(0), calls.by(10.5), calls.by(20.5)) == (1000, 2000, 3000)
    assert calls.by(31) == (3000 if allowed else 4000)


@pytest.mark.parametrize("allowed", [3000, None])
def test_short_calls_keep_to_the_ramp(allowed: int | None) -> None:
    """As long as nothing is refused, answers do not let in more than Lambda can start."""

    async def scenario() -> int:
        limiter = ConcurrencyLimiter(most=lambda: 1_000_000)
        if allowed is not None:
            limiter.allow(allowed)
        calls = Calls(limiter, 1)
        working = asyncio.ensure_future(calls.run(40_000))
        await asyncio.sleep(5)
        most = limiter._window
        await working
        return most

    assert clock.run(scenario()) == 1400


def test_what_is_not_known_ends_at_the_descriptors() -> None:
    """A window that nobody limits holds no more requests than may be open."""

    async def scenario() -> int:
        limiter = ConcurrencyLimiter(most=lambda: 1500 - limiter._inside)
        calls = Calls(limiter, 60)
        await calls.run(3000)
        return calls.most

    assert clock.run(scenario()) == 1500


def test_one_goes_where_no_descriptor_is_left() -> None:
    """Whoever has some for a moment needs no more than that."""

    async def scenario() -> int:
        calls = Calls(ConcurrencyLimiter(most=lambda: 0), 1)
        await calls.run(5)
        return calls.most

    assert clock.run(scenario()) == 1


def test_a_program_that_is_late_asks_for_no_more() -> None:
    """Its own answers would only wait the longer; once it is in time again, more are let in."""

    async def scenario() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, clock.JumpingLoop)
        limiter = ConcurrencyLimiter(most=lambda: 1_000_000)
        working = asyncio.ensure_future(Calls(limiter, 60).run(4000))
        await asyncio.sleep(1.9)
        loop.jump(1)
        await asyncio.sleep(0.1)
        late = limiter._window
        await asyncio.sleep(2.1)
        then = limiter._window
        working.cancel()
        return late, then

    assert clock.run(scenario()) == (1000, 1200)


def test_a_turn_that_came_too_late_tells_nothing_of_lambda() -> None:
    """Who had no time left asked nobody: places stay as they were, and an outage goes on."""

    async def scenario() -> tuple[int, bool]:
        limiter = ConcurrencyLimiter()
        with pytest.raises(TooLate):
            async with limiter.turn(0, 60):
                raise TooLate("no time left")
        return limiter._room(), limiter._was_refused

    assert clock.run(scenario()) == (1000, False)


def test_no_ramp_once_lambda_has_refused() -> None:
    """Whoever was refused tries one more now and then, not hundreds."""

    async def scenario() -> int:
        limiter = ConcurrencyLimiter()
        await one_left(limiter)
        waiting = [asyncio.ensure_future(inside(limiter, age)) for age in range(1000)]
        await asyncio.sleep(20.5)
        admitted = sum(x.done() for x in waiting)
        for job in waiting:
            job.cancel()
        return admitted

    assert clock.run(scenario()) < 15


def test_quota_is_asked_for_when_many_want_to_go() -> None:
    """A few calls ask for nothing; many ask once, and once more after ten minutes."""
    asked: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limiter = ConcurrencyLimiter(ask=lambda: asked.append(loop.time()))
        calls = Calls(limiter, 1)
        for count in (8, 8, 1000, 1000):
            await calls.run(count)
        await asyncio.sleep(600)
        await calls.run(8)
        assert len(asked) == 1
        await calls.run(9)

    clock.run(scenario())
    assert len(asked) == 2
    assert asked[1] - asked[0] >= 600


def test_function_that_is_switched_off_says_so_itself() -> None:
    """A concurrency of 0 lets one call through, for Lambda's refusal to be told."""

    async def scenario() -> None:
        limiter = ConcurrencyLimiter()
        limiter.allow(0)
        with pytest.raises(NotNow, match="too many"):
            async with limiter.turn(0, 1):
                raise NotNow("too many")

    clock.run(scenario())
