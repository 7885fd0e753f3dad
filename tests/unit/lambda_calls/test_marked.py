"""`fan_out` where nobody knows the mark: a plain loop that anybody can unpickle."""

import subprocess
import sys
from typing import Any

import cloudpickle
import pytest
from lambda_calls import fan_out

import wire


@fan_out
def scaled(seed: int, factor: int = 2, *, add: int = 0) -> int:
    return seed * factor + add


def test_on_its_own_it_is_a_loop() -> None:
    """A list in, a list out, in order; the other arguments go to each item."""
    assert scaled([1, 2, 3]) == [2, 4, 6]
    assert scaled([1, 2], 10, add=1) == [11, 21]
    assert scaled(seed=range(2), factor=5) == [0, 5]
    assert scaled([]) == []


def test_several_lists_go_in_step() -> None:
    """Each item gets one of each; lists of other lengths are refused, with their lengths."""

    @fan_out(over=("a", "b"))
    def added(a: int, b: int, c: int) -> int:
        return a + b + c

    assert added([1, 2], [10, 20], 100) == [111, 122]
    with pytest.raises(ValueError, match="'a': 2, 'b': 1"):
        added([1, 2], [10], 0)
    with pytest.raises(TypeError, match="missing"):
        added([1], c=1)


def test_what_is_not_a_plain_parameter() -> None:
    """Positional-only ones, *args and **kwargs arrive as they would have."""

    @fan_out
    def collected(x: int, /, *rest: int, **named: int) -> tuple[Any, ...]:
        return (x, rest, named)

    assert collected([1, 2], 8, 9, key=7) == [(1, (8, 9), {"key": 7}), (2, (8, 9), {"key": 7})]

    @fan_out(over="value")
    def keywords(value: int, **named: int) -> tuple[int, dict[str, int]]:
        return value, named

    assert keywords([1], key=7) == [(1, {"key": 7})]


def test_exceptions_as_values() -> None:
    """`return_exceptions` keeps the order; without it the first one ends the loop."""

    def inverse(x: int) -> float:
        return 1 / x

    values = fan_out(return_exceptions=True)(inverse)([1, 0, 2])
    assert (values[0], values[2]) == (1.0, 0.5)
    assert isinstance(values[1], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        fan_out(inverse)([1, 0])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"over": "seed"}, TypeError, "over='seed' is not a parameter of f; it has x"),
        ({"over": ("x", "y")}, TypeError, "over='y'"),
        ({"batch": 0}, ValueError, "batch=0"),
        ({"batch": True}, ValueError, "batch=True"),
        ({"over": []}, ValueError, "names no parameter"),
        ({"return_exceptions": "no"}, TypeError, "return_exceptions='no'"),
        ({"max_workers": 1.5}, ValueError, "max_workers=1.5"),
    ],
)
def test_options_are_checked(options: Any, error: type[Exception], said: str) -> None:
    """When the function is marked, not when a workflow runs."""

    def f(x: int) -> int:
        return x

    with pytest.raises(error, match=said):
        fan_out(**options)(f)


def test_only_functions_with_parameters_are_marked() -> None:
    """The message names what was given."""
    with pytest.raises(TypeError, match="5"):
        fan_out(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no argument to go over"):
        fan_out(lambda: 1)


def test_it_needs_nothing_of_this_package_where_it_runs() -> None:
    """A Python without it unpickles the function, calls it, and finds the mark."""

    def double(x: int) -> int:
        return 2 * x

    data = cloudpickle.dumps(fan_out(double))
    program = (
        "import cloudpickle, sys\n"
        "function = cloudpickle.loads(sys.stdin.buffer.read())\n"
        f"mark = vars(function)[{wire.FAN_OUT!r}]\n"
        "items, shared = mark['split'](([3, 4],), {})\n"
        "ours = [x for x in sys.modules if x.startswith('lambda_calls')]\n"
        "print(function([1, 2]), items, shared, ours)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True, cwd="/"
    )
    expected = "[2, 4] [((), {'x': 3}), ((), {'x': 4})] {} []\n"
    assert done.stdout.decode() == expected
