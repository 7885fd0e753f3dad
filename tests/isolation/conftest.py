"""The function's box and the template's folders, as the unit tests have them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import leaks
import pytest

UNIT = Path(__file__).parents[1] / "unit"
sys.path[:0] = [str(Path(__file__).parent), str(UNIT)]

from template_paths import EXECUTOR, FUNCTION, LAMBDA_CALLS  # noqa: E402 - found there

sys.path[:0] = [str(EXECUTOR), str(FUNCTION)]
sys.path.append(str(LAMBDA_CALLS))
pytest.register_assert_rewrite("named")  # its assertions are the tests'

import ways  # noqa: E402 - found there
import world  # noqa: E402
from function_box import returned  # noqa: E402


@pytest.fixture(scope="module")
def new(function: Any) -> Any:
    """The world as the first electron of a module's environment sees it."""
    return returned(function.call(world.seen, ways.WORD))


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a thread, a task, a descriptor or a process behind; the environments that a
    module shares are there before."""
    with leaks.none(request):
        yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show how long the electrons of test_ending.py took to die."""
    times: dict[str, dict[str, float]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "seconds to death":
                electron, how, took = value
                times.setdefault(electron, {})[how] = took
    if times:
        terminalreporter.section("seconds to death")
    for electron, each in sorted(times.items()):
        told = "".join(f"{how:>12} {took:5.2f}" for how, took in each.items())
        terminalreporter.write_line(f"{electron:32}{told}")
