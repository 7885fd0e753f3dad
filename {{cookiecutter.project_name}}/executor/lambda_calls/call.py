"""One pickled function with its arguments and hooks, as the parts that an envelope carries."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import wire

Hooks = tuple[tuple[str, str, str, str], ...]  # function, args, kwargs as parts; keyword


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

    def parts(self) -> list[str]:
        """All parts, in no particular order."""
        hooks = [part for hook in (*self.before, *self.after) for part in hook[:3]]
        return [self.function, *self.args, *self.kwargs.values(), *hooks]

    def too_large(self) -> list[str]:
        """The parts that have to leave the envelope so that it fits, the largest first."""
        excess = sum(map(len, self.parts())) - (wire.PAYLOAD_LIMIT - wire.PAYLOAD_MARGIN)
        leaving: list[str] = []
        for part in sorted(self.parts(), key=len, reverse=True):
            if excess <= 0:
                break
            excess -= len(part)
            leaving.append(part)
        return leaving

    def request(
        self,
        *,
        task_id: str,
        key: str,
        bucket: str,
        limit: float,
        blobs: Mapping[int, wire.Blob],
    ) -> wire.Request:
        """The envelope, with those parts replaced whose `id` `blobs` holds."""

        def place(part: str) -> wire.Part:
            return blobs.get(id(part), part)

        def hooks(of: Hooks) -> list[wire.Hook]:
            return [(place(f), place(a), place(k), name) for f, a, k, name in of]

        return wire.Request(
            task_id=task_id,
            key=key,
            python=self.python,
            cloudpickle=self.cloudpickle,
            function=place(self.function),
            args=[place(x) for x in self.args],
            kwargs={k: place(x) for k, x in self.kwargs.items()},
            before=hooks(self.before),
            after=hooks(self.after),
            bucket=bucket,
            limit=limit,
        )
