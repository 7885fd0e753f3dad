"""The electrons of the benchmarks; pickled by value, as those of a user's script are."""

import os
import time
from typing import Any

MODULES = 1000  # that an electron with DepsPip has installed: as many files as numpy's


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


def apply_pip_deps(modules: int) -> None:
    """Do what Covalent's function of this name does for DepsPip, with a wheel made here: a machine
    that is measured may have no way to a package index."""
    import subprocess
    import sys
    import zipfile

    about = "installed-1.0.dist-info"
    files = {f"installed/m{number}.py": "" for number in range(modules)}
    files["installed/__init__.py"] = ""
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in files)
    path = "installed-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--no-index", path]
    subprocess.run(command, check=True, capture_output=True)


def use_installed(x: int) -> int:
    import installed  # type: ignore[import-not-found] # noqa: F401 - by apply_pip_deps

    return x


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
