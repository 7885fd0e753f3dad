"""Marks a function as one that runs for each item of a list, a call each.

    @fan_out
    def simulate(seed, model): ...

    simulate([1, 2, 3], model)      a loop, in order; on Lambda, as an electron: three invocations

What is marked must work where this package is not installed, as in the function's image and under
other executors: it is pickled by value, so it may use nothing of this module.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .wire import FAN_OUT


def fan_out(
    function: Callable[..., Any] | None = None,
    *,
    over: str | Sequence[str] | None = None,
    return_exceptions: bool = False,
    batch: int | None = None,
    max_workers: int | None = None,
) -> Callable[..., Any]:
    """Run a function for each item of a list, and return the list of its values.

    On its own, and under any executor that does not know the mark, it is a plain loop. As an
    electron on `AWSLambdaExecutor` it is one invocation for each item, or for each batch.

    Args:
        function: what to run for one item.
        over: the parameters that take a list, in step; None: the first one.
        return_exceptions: whether an item's exception is its value; else the first ends all.
        batch: items in one invocation; None: learnt from how long they take.
        max_workers: invocations at a time; None: as many as Lambda takes.

    Raises:
        TypeError, ValueError: if a parameter does not exist or a number is out of range.
    """
    if function is None:
        return functools.partial(
            fan_out,
            over=over,
            return_exceptions=return_exceptions,
            batch=batch,
            max_workers=max_workers,
        )
    if not callable(function):
        raise TypeError(f"fan_out marks a function, not {function!r}")
    for name, value in (("batch", batch), ("max_workers", max_workers)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name}={value!r} must be a whole number from 1 on")
    if not isinstance(return_exceptions, bool):
        raise TypeError(f"return_exceptions={return_exceptions!r} must be True or False")
    names = _names(function, over)
    split = _splitter(function, names)

    @functools.wraps(function)
    def loop(*args: Any, **kwargs: Any) -> list[Any]:
        items, shared = split(args, kwargs)
        values = []
        for item_args, item_kwargs in items:
            try:
                values.append(function(*item_args, **item_kwargs, **shared))
            except Exception as error:
                if not return_exceptions:
                    raise
                values.append(error)
        return values

    options = {
        "return_exceptions": return_exceptions,
        "batch": batch,
        "max_workers": max_workers,
    }
    setattr(loop, FAN_OUT, {"function": function, "split": split, "options": options})
    return loop


def _names(function: Callable[..., Any], over: str | Sequence[str] | None) -> tuple[str, ...]:
    import inspect

    known = inspect.signature(function).parameters
    if over is None:
        if not known:
            raise TypeError(f"{function!r} takes no argument to go over")
        first = next(iter(known))
        over = first
    names = (over,) if isinstance(over, str) else tuple(over)
    if not names:
        raise ValueError(f"over={over!r} names no parameter")
    for name in names:
        single = name in known and known[name].kind not in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if not single:
            raise TypeError(
                f"over={name!r} is not a parameter of "
                f"{getattr(function, '__name__', function)!s}; it has {', '.join(known)}"
            )
    return names


def _splitter(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    """A function that takes a call apart; pickled by value, so it imports what it needs."""

    def split(args: Any, kwargs: Any) -> Any:
        """The `(args, kwargs)` of each item, and the keyword arguments that all of them get."""
        import inspect

        bound = inspect.signature(function).bind(*args, **kwargs)
        columns = {name: list(bound.arguments[name]) for name in names if name in bound.arguments}
        missing = [name for name in names if name not in columns]
        if missing:
            raise TypeError(f"fan_out goes over {missing[0]!r}, which was not given")
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"fan_out goes over lists in step, but their lengths are {lengths}. Give lists of "
                "one length; what all items share needs no list, and is not named in over=."
            )
        kinds = {x.kind for n, x in inspect.signature(function).parameters.items()}
        by_keyword = not kinds & {
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.VAR_POSITIONAL,
        }
        rest = [(n, v) for n, v in bound.arguments.items() if n not in columns]
        shared: dict[str, Any] = {}
        items = []
        if by_keyword:
            for name, value in rest:
                parameter = inspect.signature(function).parameters[name]
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    shared.update(value)
                else:
                    shared[name] = value
        for values in zip(*columns.values()):  # noqa: B905  (checked above; 3.8 has no strict=)
            item = dict(zip(columns, values))  # noqa: B905
            if by_keyword:
                items.append(((), item))
            else:
                bound.arguments.update(item)
                items.append((tuple(bound.args), dict(bound.kwargs)))
        return items, shared

    return split
