"""What can be done to a request on its way: a small vocabulary, after Toxiproxy's.

A toxic says what it does, to which requests, and how often. Which requests are chosen depends on
the seed and on how many have matched before, not on time. Not each that is chosen is hit: an
answer without a body cannot be cut off, and a call may end before its environment is killed. So
whoever does the harm counts it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

# -- the network: the request does not reach the service --
RESET_BEFORE = "reset before the request is handled"
BLACK_HOLE = "black hole: the request is swallowed"
LATENCY = "latency"  # `amount` seconds more
# -- the network: it was handled, and its answer suffers --
RESET_DURING = "reset `amount` seconds after the request came, which goes on"
RESET_AFTER = "reset after the request was handled"
RESET_IN_RESPONSE = "reset in the response"
TRUNCATED = "truncated: half of it, then the end"
SILENT = "silence: the response is swallowed"
DRIP = "slow drip"  # it takes `amount` seconds
LIMITED = "limited"  # `amount` bytes a second
DUPLICATED = "duplicated: the response comes twice"
# The way of the request itself, for those below that have an `UP`; all others know one way only.
DOWN, UP = "down", "up"
BOTH_WAYS = frozenset({TRUNCATED, DRIP, LIMITED})
# -- AWS itself --
ANSWER = "answered, nothing ran"  # with `status`, `code` and `said`
ANSWER_AFTER = "answered so, although it ran"
CORRUPTED = "corrupted: one byte of the body is another one"
VANISHED = "vanished: the object is deleted first"
# -- the environment: of an invocation that Lambda has let in --
KILLED_BEFORE = "environment killed before the event"
KILLED_DURING = "environment killed `amount` seconds after the event"
KILLED_AFTER = "environment killed before its answer leaves"
FROZEN = "environment frozen for `amount` seconds"
KILLED_HERE = "environment killed as it makes this request"  # at the function's own door
OF_ENVIRONMENTS = frozenset({KILLED_BEFORE, KILLED_DURING, KILLED_AFTER, FROZEN})
# What lets the whole answer through, sooner or later.
HARMLESS = frozenset({LATENCY, DRIP, LIMITED, DUPLICATED})

KINDS = frozenset(
    value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)
) - {DOWN, UP}


@dataclass(frozen=True)
class Toxic:
    """One fault.

    Args:
        kind: one of the constants above.
        direction: `DOWN`: the response; `UP`: the request's body, for those of `BOTH_WAYS`.
        service: "lambda" or "s3"; empty: either.
        verb: HTTP's method; empty: any.
        key: a part of the request's path; empty: any.
        credential: the access key that signed it; empty: any.
        probability: that it chooses a request that matches.
        skip: requests that match and pass before it begins.
        times: how many requests it chooses at the most; None: any number.
        amount: seconds, or bytes a second.
        after: seconds after the event, when an environment is frozen.
        status, code, said: AWS's answer.
        headers: more of it.
    """

    kind: str
    direction: str = DOWN
    service: str = ""
    verb: str = ""
    key: str = ""
    credential: str = ""
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    amount: float = 0.0
    after: float = 0.0
    status: int = 500
    code: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}")
        if self.direction != DOWN and (self.direction != UP or self.kind not in BOTH_WAYS):
            raise ValueError(f"{self.kind!r} knows no direction {self.direction!r}")

    def matches(self, service: str, verb: str, path: str, signed_by: str) -> bool:
        """Whether a request is one of those that it is about."""
        return (
            self.service in ("", service)
            and self.verb in ("", verb)
            and self.key in path
            and (not self.credential or f"Credential={self.credential}/" in signed_by)
        )

    def as_dict(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Strike:
    """A toxic that is about to hit a request.

    Args:
        toxic: what it does.
        lands: notes that it was done.
    """

    toxic: Toxic
    lands: Callable[[], None]


class Poison:
    """The toxics of one door.

    The mutable state is how many requests have matched each toxic, how many of them were chosen,
    and how many were really hit.

    Args:
        toxics: the first that chooses a request is the only one; one of those of environments may
            hit its invocation beside.
        seed: decides which requests are chosen.
    """

    def __init__(self, toxics: Sequence[Toxic], seed: str) -> None:
        self._toxics, self._seed = list(toxics), seed
        self._matched = [0] * len(toxics)
        self._chosen = [0] * len(toxics)
        self.hits = [0] * len(toxics)
        self.seen = 0

    def of(self, service: str, verb: str, path: str, signed_by: str) -> Strike | None:
        """What happens to a request; None: nothing."""
        self.seen += 1
        return self._first(False, service, verb, path, signed_by)

    def of_environment(self, verb: str, path: str, signed_by: str) -> Strike | None:
        """What happens to the environment of an invocation; None: nothing."""
        return self._first(True, "lambda", verb, path, signed_by)

    @property
    def environments_hit(self) -> int:
        """How many environments were killed or frozen while they had an event."""
        return sum(
            hits
            for hits, toxic in zip(self.hits, self._toxics, strict=True)
            if toxic.kind in OF_ENVIRONMENTS
        )

    def _first(self, of_environments: bool, *request: str) -> Strike | None:
        for i, toxic in enumerate(self._toxics):
            if (toxic.kind in OF_ENVIRONMENTS) != of_environments or not toxic.matches(*request):
                continue
            number = self._matched[i]
            self._matched[i] += 1
            if number < toxic.skip or (toxic.times is not None and self._chosen[i] >= toxic.times):
                continue
            if random.Random(f"{self._seed}/{i}/{number}").random() < toxic.probability:
                self._chosen[i] += 1
                return Strike(toxic, partial(self._landed, i))
        return None

    def _landed(self, i: int) -> None:
        self.hits[i] += 1
