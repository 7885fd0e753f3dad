"""What can be done to a request on its way: a small vocabulary, after Toxiproxy's.

A toxic says what it does, to which requests, and how often. Which requests are hit depends on the
seed and on how many have matched before, not on time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
# -- the environment --
KILLED_BEFORE = "environment killed before the event"
KILLED_DURING = "environment killed `amount` seconds after the event"
KILLED_AFTER = "environment killed before its answer leaves"
FROZEN = "environment frozen for `amount` seconds"
KILLED_HERE = "environment killed as it makes this request"  # at the function's own door
# What lets the whole answer through, sooner or later.
HARMLESS = frozenset(
    {LATENCY, DRIP, LIMITED, DUPLICATED, KILLED_BEFORE, KILLED_DURING, KILLED_AFTER, FROZEN}
)

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
        probability: that it hits a request that matches.
        skip: requests that match and pass before it begins.
        times: how often it hits at the most; None: always.
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


class Poison:
    """The toxics of one door.

    The mutable state is how many requests have matched each, and how many were hit.

    Args:
        toxics: the first that hits a request is the only one.
        seed: decides which requests are hit.
    """

    def __init__(self, toxics: Sequence[Toxic], seed: str) -> None:
        self._toxics, self._seed = list(toxics), seed
        self._matched = [0] * len(toxics)
        self.fired = [0] * len(toxics)
        self.seen = 0

    def of(self, service: str, verb: str, path: str, signed_by: str) -> Toxic | None:
        """What happens to a request; None: nothing."""
        self.seen += 1
        for i, toxic in enumerate(self._toxics):
            if not toxic.matches(service, verb, path, signed_by):
                continue
            number = self._matched[i]
            self._matched[i] += 1
            if number < toxic.skip or (toxic.times is not None and self.fired[i] >= toxic.times):
                continue
            if random.Random(f"{self._seed}/{i}/{number}").random() < toxic.probability:
                self.fired[i] += 1
                return toxic
        return None
