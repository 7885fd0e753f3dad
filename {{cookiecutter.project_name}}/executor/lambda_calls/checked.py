"""Arguments of the executor, of pools and of marked functions: refused where they are given.

What is found out only while calls run would cost the results of those that ended by then.
"""

import math
import numbers
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold: neither endless nor nan.

    JSON has no other numbers.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of more than 308 digits
        return False


def is_time(value: Any) -> bool:
    """Whether somebody can wait so many seconds: none, for ever (inf), or None, for ever, too."""
    return value is None or value == math.inf or is_number(value)


def seconds(value: Any) -> float:
    """A number of seconds.

    Raises:
        ValueError: says what it must be, as all of these do.
    """
    if not is_number(value) or not value > 0:
        raise ValueError("must be a number of seconds above 0.")
    return value if isinstance(value, (int, float)) else float(value)


def pause(value: Any) -> float:
    """A number of seconds, or none."""
    if not is_number(value) or value < 0:
        raise ValueError("must be a number of seconds, 0 or more.")
    return value if isinstance(value, (int, float)) else float(value)


def whole(value: Any) -> int:
    """A whole number."""
    if not is_whole(value):
        raise ValueError("must be a whole number.")
    return int(value)


def count(value: Any) -> int:
    """How often."""
    if not is_whole(value) or value < 0:
        raise ValueError("must be a whole number, 0 or more.")
    return int(value)


def address(value: Any) -> str:
    """The address of an endpoint."""
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (ValueError, AttributeError, TypeError):  # a port that is no number, half an address
        is_address = False
    if not is_address:
        raise ValueError("must be an address such as 'http://127.0.0.1:3001'.")
    return str(value)


def prices(value: Any) -> dict[str, float]:
    """US dollars that replace the published ones."""
    from .usage import PRICES

    if not isinstance(value, Mapping):
        raise ValueError(f"must be a table with some of {', '.join(PRICES)}.")
    unknown = [name for name in value if name not in PRICES]
    if unknown:
        raise ValueError(f"has no entry {unknown[0]!r}; it has {', '.join(PRICES)}.")
    for name, price in value.items():
        if not is_number(price) or not 0 <= price < 1e9:
            raise ValueError(f"must say US dollars, 0 or more, for {name}.")
    return {name: float(price) for name, price in value.items()}


def exceptions(value: Any) -> tuple[type[BaseException], ...]:
    """Classes of exceptions, as `except` takes them."""
    classes = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(x, type) and issubclass(x, BaseException) for x in classes):
        raise ValueError("must be a class of exceptions, or a tuple of some.")
    return classes
