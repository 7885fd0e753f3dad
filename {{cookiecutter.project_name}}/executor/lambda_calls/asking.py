"""Whether a call still runs whose connection is lost: asked again and again, on a clock."""

import time

from . import wire

# Seconds within which the function acknowledges that it runs the call: at first its environment
# may still be starting; later it only has to look.
STARTS_WITHIN = 60.0
ANSWERS_WITHIN = 20.0
ASKS_EVERY = 30.0


class Asking:
    """What a function was asked about a call, and whether it has said that the call runs.

    Args:
        silence: seconds for which the call's connection had been silent when it was found lost:
            its environment has had as much time to start.
    """

    def __init__(self, silence: float = 0.0) -> None:
        least = min(STARTS_WITHIN, ANSWERS_WITHIN)
        self._starts_within = max(STARTS_WITHIN - silence, least)
        self._number = self._stored = 0
        self._when: float | None = None  # None: not asked yet
        self.acknowledged = False

    @property
    def order(self) -> str:
        """The latest question."""
        return f"{wire.REPORT} {self._number}"

    @property
    def patience(self) -> float:
        """Seconds within which it has to be acknowledged; longer for the first that was stored."""
        return self._starts_within if self._stored <= 1 else ANSWERS_WITHIN

    def next_order(self) -> str:
        """Another question, so that an acknowledgement of an earlier one is none of it."""
        self._number += 1
        return self.order

    def asked(self) -> None:
        """The latest question has been stored."""
        self._stored += 1
        self._when, self.acknowledged = time.monotonic(), False

    def is_due(self) -> bool:
        """Whether it is time to ask."""
        if self._when is None:
            return True
        return self.acknowledged and time.monotonic() - self._when > ASKS_EVERY

    def is_in_vain(self) -> bool:
        """Whether an acknowledgement would have come by now."""
        if self._when is None or self.acknowledged:
            return False
        return time.monotonic() - self._when > self.patience
