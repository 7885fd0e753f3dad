"""Takes what Covalent hands to `run` apart into parts, and puts a result together for it.

Nothing is pickled again: Covalent's TransportableObjects already hold base64 of pickled bytes.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cloudpickle
from covalent._workflow.transportable_object import TransportableObject
from lambda_calls import wire

Hooks = tuple[tuple[str, str, str, str], ...]  # function, args, kwargs as parts; keyword


@dataclass(frozen=True)
class Electron:
    """One electron as inline parts (base64 text).

    Args:
        plain: whether `run` was called with a bare function, not by Covalent: then the result is
            wanted as it is, not as a TransportableObject.
    """

    function: str
    args: tuple[str, ...]
    kwargs: Mapping[str, str]
    before: Hooks
    after: Hooks
    python: str
    cloudpickle: str
    plain: bool

    @staticmethod
    def of(
        function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> "Electron":
        """Take apart `partial(wrapper_fn, function, call_before, call_after)`, as Covalent passes
        it, or any other callable.

        Raises:
            TypeError, pickle.PicklingError: if a bare function or its arguments cannot be pickled.
        """
        plain = not is_covalents(function)
        parts: Any = (TransportableObject(function), (), ()) if plain else function.args  # type: ignore[attr-defined]
        body, before, after = parts
        header = body.header
        return Electron(
            function=_part(body),
            args=tuple(_part(x) for x in args),
            kwargs={k: _part(x) for k, x in kwargs.items()},
            before=_hooks(before),
            after=_hooks(after),
            python=header.get("py_version", platform.python_version()),
            cloudpickle=header.get("cloudpickle_version", cloudpickle.__version__),
            plain=plain,
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

    def result(self, response: wire.Response, pickled: str, text: str) -> Any:
        """What `run` returns: a TransportableObject of the result, which is not unpickled here.

        Args:
            response: the function's answer.
            pickled: base64 of the pickled return value.
            text: its `str()`.
        """
        result = TransportableObject.from_dict(
            {
                "attributes": {
                    "_object": pickled,
                    "_object_string": text,
                    "_header": {
                        "py_version": response.python,
                        "cloudpickle_version": response.cloudpickle,
                        "attrs": {"doc": None, "name": None, **response.attrs},
                    },
                }
            }
        )
        return result.get_deserialized() if self.plain else result


def is_covalents(function: Callable[..., Any]) -> bool:
    """Whether `function` is what Covalent passes to `run`, not a bare callable."""
    from covalent.executor.utils.wrappers import wrapper_fn

    return isinstance(function, partial) and function.func is wrapper_fn


def _part(value: Any) -> str:
    return str(TransportableObject.make_transportable(value).get_serialized())


def _hooks(hooks: Iterable[Sequence[Any]]) -> Hooks:
    return tuple((_part(f), _part(a), _part(k), name) for f, a, k, name in hooks)
