"""A function made from Covalent's stock image: the public plugin's own handler, in a container."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import functions
import harness
import pytest
from functions import another_function
from harness import Outcome, Workbench

TIMEOUT = 8  # seconds


@pytest.fixture(scope="module")
def stock_function(workbench: Workbench, work: Path) -> Iterator[str]:
    """The function that runs the stock handler; its name."""
    image = functions.build_stock_image(workbench.deployed, work / "stock-image")
    with another_function(workbench.deployed, "stock", image=image, timeout=TIMEOUT) as name:
        yield name


@pytest.fixture(scope="module")
def stock_bucket(workbench: Workbench) -> str:
    """The bucket that its objects go through."""
    return functions.bucket_by_hand(workbench.deployed, "stock")


@pytest.fixture(scope="module")
def served(workbench: Workbench, stock_function: str, stock_bucket: str) -> Mapping[str, Outcome]:
    """What became of each dispatch of workflows/stock_image.py."""
    script = harness.WORKFLOWS / "stock_image.py"
    command = workbench.run(script, stock_function, stock_bucket)
    return functions.outcomes(command.json)


def test_result(served: Mapping[str, Outcome], stock_function: str) -> None:
    """An electron's result comes back; what it printed stays in the function's log."""
    outcome = served["two_in_a_row"]
    assert outcome.status == "COMPLETED", outcome
    assert ast.literal_eval(outcome.result) == {"sum": 7, "function": stock_function}
    assert outcome.only("returns").stdout == ""


def test_large_argument_and_result(served: Mapping[str, Outcome]) -> None:
    """8 MiB go in and come out."""
    outcome = served["carries_a_lot"]
    assert outcome.status == "COMPLETED", outcome
    text = repr((bytes(range(256)) * 4096 * 8)[::-1])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert outcome.result == f"{len(text)} characters, sha256 {digest}"


@pytest.mark.parametrize(
    ("electron", "words"),
    [
        ("raises", ["no luck in the stock image"]),
        ("kills_its_process", ["may have run", "exit status 7"]),
        ("runs_too_long", ["Timeout", "8"]),
    ],
)
def test_failure(served: Mapping[str, Outcome], electron: str, words: list[str]) -> None:
    """An exception, a crash and a timeout fail the node, each in words of its own."""
    outcome = served[electron]
    assert outcome.status == "FAILED", outcome
    complaint = outcome.only(electron).complaint
    assert [word for word in words if word not in complaint] == [], complaint


@pytest.mark.parametrize(
    "electron", ["returns", "again", "raises", "kills_its_process", "runs_too_long"]
)
def test_runs_once(workbench: Workbench, served: Mapping[str, Outcome], electron: str) -> None:
    """Each electron ran once, the timeout and the crash included."""
    assert functions.marks(workbench.deployed, f"stock-{electron}") == 1


def test_image_is_recognised_once(
    workbench: Workbench, served: Mapping[str, Outcome], stock_function: str
) -> None:
    """Only the first electron sends an envelope that the stock handler cannot read."""
    refused = functions.invocations(workbench.deployed, stock_function, "UnboundLocalError")
    assert len(refused) == 1


def test_nothing_stays_in_the_bucket(
    workbench: Workbench, served: Mapping[str, Outcome], stock_bucket: str
) -> None:
    """The pickles of the protocol are removed, however the electron ended."""
    assert functions.objects(workbench.deployed, bucket=stock_bucket) == []
