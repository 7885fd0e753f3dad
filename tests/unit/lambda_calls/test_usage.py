"""The usage line: what was billed, and about what it cost."""

import pytest
from lambda_calls import usage, wire

OWN = wire.Usage(
    request_id="r-1",
    duration=1.2341,
    memory_mb=512,
    max_memory_mb=80,
    cold=True,
    architecture="x86_64",
)
REPORT = (
    "a line of the task\nEND RequestId: r-1\n"
    "REPORT RequestId: r-1\tDuration: 2000.50 ms\tBilled Duration: 2413 ms\t"
    "Memory Size: 1024 MB\tMax Memory Used: 95 MB\tInit Duration: 412.30 ms\t\n"
)


def test_lambdas_own_report_is_taken() -> None:
    """The REPORT line decides what is billed; it also knows the start of the environment."""
    used = usage.of(OWN, REPORT)
    assert str(used) == (
        "2.001 s, billed 2.413 s, memory 95 of 1024 MB, cold start, init 0.412 s, request r-1"
    )


def test_without_a_report_the_function_is_believed() -> None:
    """Where there is no REPORT line, the handler's own figures are rounded up as Lambda does."""
    used = usage.of(OWN, "")
    assert str(used) == "1.234 s, billed 1.235 s, memory 80 of 512 MB, cold start, request r-1"


@pytest.mark.parametrize(
    ("machine", "price"), [("x86_64", 0.0000166667), ("aarch64", 0.0000133334)]
)
def test_cost(machine: str, price: float) -> None:
    """One GB for one second costs the table's price and a request's; the user's table wins."""
    used = usage.of(wire.Usage(duration=1, memory_mb=1024, architecture=machine), "")
    assert used.cost({}) == pytest.approx(price + 0.0000002)
    mine = {"gb_second_x86_64": 1.0, "gb_second_arm64": 1.0, "request": 2.0}
    assert used.cost(mine) == 3.0


def test_sum_of_a_dispatch() -> None:
    """Invocations of one dispatch add up; another dispatch begins at nothing."""
    used = usage.of(wire.Usage(duration=2, memory_mb=512, architecture="x86_64"), "")
    totals = usage.Totals()
    totals.add("sum-1", used, {})
    total = totals.add("sum-1", used, {})
    assert (total.invocations, total.gb_seconds) == (2, 2.0)
    assert str(total) == "2 invocation(s), 2.000 GB-s, about $0.000034"
    assert totals.add("sum-2", used, {}).invocations == 1


def test_old_sums_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that runs for months keeps the sums of the latest dispatches only."""
    monkeypatch.setattr(usage, "_KEPT_GROUPS", 3)
    used, totals = usage.of(OWN, ""), usage.Totals()
    for name in "abcdef":
        totals.add(name, used, {})
    assert totals.add("c", used, {}).invocations == 1
    assert totals.add("f", used, {}).invocations == 2
