"""The electrons of the benchmarks; pickled by value, as those of a user's script are."""

import os
import time
from typing import Any


def nothing(x: int) -> int:
    return x


def crash(x: int) -> int:
    os._exit(x)


def use_packages(x: int) -> tuple[bool, float]:
    """Import packages that scientists use; were they there already, and milliseconds of it."""
    import sys

    there = all(name in sys.modules for name in ("numpy", "pandas", "scipy", "sklearn"))
    started = time.perf_counter()
    import numpy  # noqa: F401
    import pandas  # noqa: F401
    import scipy.optimize  # noqa: F401
    import sklearn.ensemble  # noqa: F401

    return there, 1000 * (time.perf_counter() - started)


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def measure(array: Any) -> int:
    return int(array.nbytes)


def produce(size: int) -> Any:
    import numpy

    return numpy.random.default_rng(0).integers(0, 255, size, dtype="uint8")


def join(first: str, second: str) -> str:
    return f"{first}, {second}"


def exclaim(text: str) -> str:
    return f"{text}!"


def total(values: list[int]) -> int:
    return sum(values)
