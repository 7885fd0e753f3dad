"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Status(IntEnum):
    """How bad it is; the larger, the worse."""

    OK = 0
    PARTIAL = 1  # it works, or could not be checked
    MISSING = 2  # electrons fail
    CRASHED = 3  # the check itself does


@dataclass(frozen=True)
class Remark:
    """One sentence of a check.

    Args:
        status: what it means.
        text: what was found.
        remedy: the command, or the step, that mends it; "" if nothing has to be done.
    """

    status: Status
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Finding:
    """All that a check found.

    Args:
        title: the check's.
        remarks: in order.
        seconds: that it took.
    """

    title: str
    remarks: tuple[Remark, ...]
    seconds: float

    @property
    def status(self) -> Status:
        """The worst of the remarks'."""
        return max((x.status for x in self.remarks), default=Status.OK)


def ok(text: str) -> Remark:
    """Something is as it should be."""
    return Remark(Status.OK, text)


def partial(text: str, remedy: str = "") -> Remark:
    """Something works less well than it could, or could not be checked."""
    return Remark(Status.PARTIAL, text, remedy)


def missing(text: str, remedy: str = "") -> Remark:
    """Something is missing without which electrons fail."""
    return Remark(Status.MISSING, text, remedy)
