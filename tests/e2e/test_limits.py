"""What is scarce in Lambda: memory, concurrency, room in a request."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import functions
import harness
import pytest
from functions import another_function
from harness import Outcome, Workbench
from patience import wait_until

MEMORY = 256  # MB
CONCURRENCY = 2
TAKING_TURNS = 12
SHARING = 30


@pytest.fixture(scope="module")
def hoarding(workbench: Workbench) -> Iterator[Mapping[str, Outcome]]:
    """What became of each dispatch of workflows/hoards.py, in a container that is limited."""
    deployed = workbench.deployed
    with another_function(deployed, "small", memory=MEMORY, concurrency=1) as small:
        deployed.client("lambda").invoke(
            FunctionName=small, Payload=b'{"covalent_lambda": 1, "ping": true}'
        )
        functions.limit_memory(deployed, small, MEMORY)
        command = workbench.run(harness.WORKFLOWS / "hoards.py", small)
        yield functions.outcomes(command.json)


def test_out_of_memory(hoarding: Mapping[str, Outcome]) -> None:
    """A process that the kernel killed for its memory fails the node, in a sentence that names
    the setting to raise."""
    outcome = hoarding["hoards"]
    assert outcome.status == "FAILED", outcome
    complaint = outcome.only("hoards").complaint
    assert "ran out of memory" in complaint
    assert "raise MemorySize in samconfig.toml" in complaint.replace("Raise", "raise")
    assert "too little memory MB" not in complaint


def test_after_out_of_memory(hoarding: Mapping[str, Outcome]) -> None:
    """The next electron finds a fresh process."""
    assert hoarding["comes_after"].result == "'still there'"


@pytest.fixture(scope="module")
def many(workbench: Workbench) -> Iterator[tuple[Mapping[str, Outcome], float, list[str]]]:
    """What became of workflows/many.py, the refusals meanwhile, and the uploads of blobs."""
    deployed = workbench.deployed
    before = len(functions.uploads(deployed, "blobs/"))
    with another_function(deployed, "few", concurrency=CONCURRENCY) as few:
        answers: dict[str, Any] = workbench.run(harness.WORKFLOWS / "many.py", few).json
        refused = functions.throttles(deployed, few)
        uploads = functions.uploads(deployed, "blobs/")
        yield functions.outcomes(answers), refused, uploads[before:] if before else uploads


def test_throttling(
    workbench: Workbench, many: tuple[Mapping[str, Outcome], float, list[str]]
) -> None:
    """Twelve electrons for a function that runs two at a time all complete, each once."""
    outcomes, refused, _ = many
    outcome = outcomes["taking_turns"]
    assert outcome.status == "COMPLETED", outcome
    assert refused > 0
    turns = ast.literal_eval(outcome.result)
    assert [number for number, _, _ in turns] == list(range(TAKING_TURNS))
    assert {functions.marks(workbench.deployed, f"turn-{n}") for n, _, _ in turns} == {1}


def test_never_more_than_allowed(
    many: tuple[Mapping[str, Outcome], float, list[str]],
) -> None:
    """No more than two of them ran at any time: the limit was a real one."""
    turns = ast.literal_eval(many[0]["taking_turns"].result)
    for _, started, _ in turns:
        running = [n for n, begin, end in turns if begin <= started < end]
        assert len(running) <= CONCURRENCY


def test_few_refusals(many: tuple[Mapping[str, Outcome], float, list[str]]) -> None:
    """Waiting is not done by asking again and again: less than five refusals an electron."""
    assert many[1] < 5 * TAKING_TURNS + 5 * SHARING


def test_shared_argument(many: tuple[Mapping[str, Outcome], float, list[str]]) -> None:
    """Thirty electrons each get the same 8 MiB."""
    outcome = many[0]["sharing"]
    assert outcome.status == "COMPLETED", outcome
    digest = hashlib.sha256(bytes(range(256)) * 4096 * 8).hexdigest()
    assert ast.literal_eval(outcome.result) == [(n, digest) for n in range(SHARING)]


def test_shared_argument_is_uploaded_once(
    many: tuple[Mapping[str, Outcome], float, list[str]],
) -> None:
    """The argument that thirty electrons share is uploaded once."""
    assert len(many[2]) == 1


def test_blobs_are_gone(
    workbench: Workbench, many: tuple[Mapping[str, Outcome], float, list[str]]
) -> None:
    """A while after the last electron nothing of the argument is left in the bucket."""
    wait_until(lambda: not functions.objects(workbench.deployed, "blobs/"), "an empty blobs/", 120)
