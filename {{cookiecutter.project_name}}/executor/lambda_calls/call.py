"""What is sent in one request: one call with arguments and hooks, or many calls of one function.

Both are parts, pickled and as base64 text, that travel inside the envelope or, where they are too
large or the same for many requests, as blobs.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import wire

Hooks = tuple[tuple[str, str, str, str], ...]  # function, args, kwargs as parts; keyword
Blobs = Mapping[int, wire.Blob]  # by the `id` of the part that each stands for

# Bytes of base64 from which on a part that many requests share is a blob: a request to S3 and its
# verification cost less than to send it each time.
_SHARED = 256 * 1024


class Sendable(Protocol):
    """Whatever an attempt can send."""

    def leaving(self) -> list[str]:
        """The parts that do not travel inside the envelope, the largest first."""

    def request(
        self, *, task_id: str, key: str, bucket: str, limit: float, blobs: Blobs
    ) -> "wire.Request | wire.Batch":
        """The envelope, with those parts replaced whose `id` `blobs` holds."""


@dataclass(frozen=True)
class Call:
    """A function and its arguments as inline parts (base64 text).

    Args:
        function: the pickled function.
        args, kwargs: each argument, pickled.
        before, after: calls beside it, in order; the value of one before it fills a keyword.
        python, cloudpickle: versions that pickled the function.
    """

    function: str
    args: tuple[str, ...]
    kwargs: Mapping[str, str]
    python: str
    cloudpickle: str
    before: Hooks = field(default=())
    after: Hooks = field(default=())

    @staticmethod
    def of(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Call":
        """Pickle a function and its arguments.

        Raises:
            TypeError, pickle.PicklingError: if one of them cannot be pickled.
        """
        import cloudpickle

        def part(value: Any) -> str:
            return wire.encode(cloudpickle.dumps(value))

        return Call(
            function=part(function),
            args=tuple(part(x) for x in args),
            kwargs={name: part(x) for name, x in kwargs.items()},
            python=platform.python_version(),
            cloudpickle=cloudpickle.__version__,
        )

    def leaving(self) -> list[str]:
        hooks = [part for hook in (*self.before, *self.after) for part in hook[:3]]
        return too_large([self.function, *self.args, *self.kwargs.values(), *hooks])

    def request(
        self, *, task_id: str, key: str, bucket: str, limit: float, blobs: Blobs
    ) -> wire.Request:
        return wire.Request(
            task_id=task_id,
            key=key,
            python=self.python,
            cloudpickle=self.cloudpickle,
            function=_placed(self.function, blobs),
            args=[_placed(x, blobs) for x in self.args],
            kwargs={k: _placed(x, blobs) for k, x in self.kwargs.items()},
            before=_placed_hooks(self.before, blobs),
            after=_placed_hooks(self.after, blobs),
            bucket=bucket,
            limit=limit,
        )


@dataclass(frozen=True)
class Shared:
    """What all calls of a batch, and all its batches, have in common.

    Args:
        function: the pickled function.
        keywords: a pickled dictionary of the arguments that each call gets; None: none.
        setup: a pickled `(function, args)` that each environment calls once; None: nothing.
        before: hooks to run before the calls of a batch.
        python, cloudpickle: versions that pickled the function.
    """

    function: str
    python: str
    cloudpickle: str
    keywords: str | None = None
    setup: str | None = None
    before: Hooks = ()

    @staticmethod
    def of(function: Callable[..., Any], setup: str | None = None) -> "Shared":
        """Pickle a function.

        Args:
            function: it.
            setup: what prepares its environments, pickled.

        Raises:
            TypeError, pickle.PicklingError: if it cannot be pickled.
        """
        import cloudpickle

        return Shared(
            function=Shared.pickled(function),
            setup=setup,
            python=platform.python_version(),
            cloudpickle=cloudpickle.__version__,
        )

    @staticmethod
    def pickled(value: Any) -> str:
        """A part.

        Raises:
            TypeError, pickle.PicklingError: if it cannot be pickled.
        """
        import cloudpickle

        return wire.encode(cloudpickle.dumps(value))

    def parts(self) -> list[str]:
        """All of them, in no particular order."""
        hooks = [part for hook in self.before for part in hook[:3]]
        return [x for x in (self.function, self.keywords, self.setup, *hooks) if x is not None]


@dataclass(frozen=True)
class Packed:
    """Many calls of one function in one request.

    Args:
        shared: what they have in common.
        calls: the frames of their arguments, as base64.
        count: how many there are.
        processes: how many run at a time.
        has_bucket: whether what is shared may be a blob although it would fit.
    """

    shared: Shared
    calls: str
    count: int
    processes: int
    has_bucket: bool

    def leaving(self) -> list[str]:
        shared = self.shared.parts()
        leaving = [x for x in shared if self.has_bucket and len(x) >= _SHARED]
        return leaving + too_large([self.calls, *(x for x in shared if x not in leaving)])

    def request(
        self, *, task_id: str, key: str, bucket: str, limit: float, blobs: Blobs
    ) -> wire.Batch:
        keywords, setup = self.shared.keywords, self.shared.setup
        return wire.Batch(
            task_id=task_id,
            key=key,
            python=self.shared.python,
            cloudpickle=self.shared.cloudpickle,
            function=_placed(self.shared.function, blobs),
            calls=_placed(self.calls, blobs),
            count=self.count,
            shared=None if keywords is None else _placed(keywords, blobs),
            setup=None if setup is None else _placed(setup, blobs),
            before=_placed_hooks(self.shared.before, blobs),
            processes=self.processes,
            bucket=bucket,
            limit=limit,
        )


def too_large(parts: Sequence[str]) -> list[str]:
    """The parts that have to leave the envelope so that it fits, the largest first."""
    excess = sum(map(len, parts)) - (wire.PAYLOAD_LIMIT - wire.PAYLOAD_MARGIN)
    leaving: list[str] = []
    for part in sorted(parts, key=len, reverse=True):
        if excess <= 0:
            break
        excess -= len(part)
        leaving.append(part)
    return leaving


def _placed(part: str, blobs: Blobs) -> wire.Part:
    return blobs.get(id(part), part)


def _placed_hooks(hooks: Hooks, blobs: Blobs) -> list[wire.Hook]:
    return [
        (_placed(function, blobs), _placed(args, blobs), _placed(kwargs, blobs), name)
        for function, args, kwargs, name in hooks
    ]
