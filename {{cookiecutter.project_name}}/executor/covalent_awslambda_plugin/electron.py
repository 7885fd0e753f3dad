"""Takes what Covalent hands to `run` apart into a call, and puts a result together for it.

Nothing is pickled again: Covalent's TransportableObjects already hold base64 of pickled bytes.
"""

import pickle
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import cloudpickle
from covalent._workflow.transportable_object import TransportableObject
from lambda_calls import wire
from lambda_calls.call import Call, Hooks
from lambda_calls.run import Result


def taken_apart(function: "partial[Any]", args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """The parts of `partial(wrapper_fn, function, call_before, call_after)` and its arguments, as
    Covalent passes them to `run`."""
    body, before, after = function.args
    header = body.header
    return Call(
        function=_part(body),
        args=tuple(_part(x) for x in args),
        kwargs={k: _part(x) for k, x in kwargs.items()},
        before=_hooks(before),
        after=_hooks(after),
        python=header.get("py_version", platform.python_version()),
        cloudpickle=header.get("cloudpickle_version", cloudpickle.__version__),
    )


def put_together(result: Result) -> TransportableObject:
    """What `run` returns to Covalent: the result, which is not unpickled here."""
    return TransportableObject.from_dict(
        {
            "attributes": {
                "_object": result.pickled,
                "_object_string": result.text,
                "_header": {
                    "py_version": result.python,
                    "cloudpickle_version": result.cloudpickle,
                    "attrs": {"doc": None, "name": None, **result.attrs},
                },
            }
        }
    )


def opened(result: Result) -> Any:
    """What `run` returns to a script: the object itself."""
    return pickle.loads(wire.decode(result.pickled))


def is_covalents(function: Callable[..., Any]) -> bool:
    """Whether `function` is what Covalent passes to `run`, not a bare callable."""
    from covalent.executor.utils.wrappers import wrapper_fn

    return isinstance(function, partial) and function.func is wrapper_fn


def _part(value: Any) -> str:
    return str(TransportableObject.make_transportable(value).get_serialized())


def _hooks(hooks: Iterable[Sequence[Any]]) -> Hooks:
    return tuple((_part(f), _part(a), _part(k), name) for f, a, k, name in hooks)
