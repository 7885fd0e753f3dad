"""What an attempt and its function say to each other through S3, beside the connection.

    attempt ── order: "cancel", "report 1" ──► tasks/<id>/order     function
            ◄─────── it runs, sealed ───────── tasks/<id>/running
            ◄─────── its answer, sealed ────── tasks/<id>/outcome

Whoever can write to the bucket, but did not see the request, can forge neither of the last two.
"""

import threading
from functools import partial
from typing import get_args

from . import wire
from .session import Session

# Bytes: an outcome is an answer that Lambda would let through, with its seal.
_LARGEST_OUTCOME = 2 * wire.PAYLOAD_LIMIT
_LARGEST_RUNNING = 1024
_ALL: tuple[wire.TaskObject, ...] = get_args(wire.TaskObject)


class Mailbox:
    """The objects of one attempt.

    The mutable state is which of them the bucket may hold, and whether they have been deleted.

    Args:
        session: the bucket.
        task_id: names the attempt.
    """

    def __init__(self, session: Session, task_id: str) -> None:
        self._objects, self._threads = session.objects, session.process.requests
        self._process, self._task_id = session.process, task_id
        self.exists = session.target.bucket is not None
        self._held: set[wire.TaskObject] = set()
        self._storing, self._cleared = threading.Lock(), False

    async def order(self, order: str) -> None:
        """Store an order for the function, which looks for one each second.

        Raises:
            LambdaCallError: if it cannot be stored.
        """
        self._held.add(wire.ORDER)
        if order != wire.CANCEL:  # it may answer in the moment in which its answer comes
            self._held.update((wire.RUNNING, wire.OUTCOME))
        await self._threads.run(self._put, order)

    def order_to_stop(self) -> None:
        """Store the order to stop; it blocks, for the end of the process."""
        if self.exists:
            self._objects.put(self._named(wire.ORDER), wire.CANCEL.encode())

    async def outcome(self, secret: str) -> str | None:
        """What the function left as its answer, if it is sealed with `secret`.

        Raises:
            LambdaCallError: if S3 does not say.
        """
        return await self._sealed(wire.OUTCOME, secret, _LARGEST_OUTCOME)

    async def acknowledged(self, order: str, secret: str) -> bool:
        """Whether the function has said, sealed with `secret`, that it knows `order`.

        Raises:
            LambdaCallError: if S3 does not say.
        """
        return await self._sealed(wire.RUNNING, secret, _LARGEST_RUNNING) == order

    def note(self, name: wire.TaskObject) -> None:
        """Remember that the function has left `name`."""
        self._held.add(name)

    def note_all(self) -> None:
        """Remember that the function may have left anything: it ended without a word."""
        if self.exists:
            self._held.update(_ALL)

    def clear(self) -> None:
        """Have deleted what the bucket may hold, in the background; its lifecycle removes what
        this cannot."""
        if self._held:
            keys = [self._named(name) for name in sorted(self._held)]
            self._process.delete(partial(self._delete, keys))

    def _put(self, order: str) -> None:
        """It blocks, and may go on when nobody waits for it any more, while others delete."""
        with self._storing:
            if not self._cleared:
                self._objects.put(self._named(wire.ORDER), order.encode())

    def _delete(self, keys: list[str]) -> None:
        """It blocks."""
        with self._storing:
            self._cleared = True
            self._objects.delete(*keys)

    async def _sealed(self, name: wire.TaskObject, secret: str, limit: int) -> str | None:
        try:
            stored = await self._threads.run(self._objects.get, self._named(name), limit)
        except ValueError:  # larger than anything that the function leaves
            return None
        if stored is None:
            return None
        self._held.add(name)
        try:
            return wire.unseal(stored, secret)
        except wire.DigestMismatch:
            return None  # of an earlier sending, or a forgery: the true one may still come

    def _named(self, name: wire.TaskObject) -> str:
        return wire.task_key(self._task_id, name)
