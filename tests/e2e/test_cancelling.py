"""Cancelling through Covalent: the node ends, and so does what runs in the function."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import functions
import harness
import pytest
from functions import another_function
from harness import Deployed, Outcome, Workbench
from patience import wait_until

from sandbox.server import running_covalent

# Seconds from the request to the function's end, and what a busy machine may add.
SOON = 5.0
BUSY = 2.0

RUNNING = ("sleeps", "loops", "holds_the_lock", "ignores_signals")
FIRST_WORDS = "begun: {}".format


@pytest.fixture(scope="module")
def answers(workbench: Workbench) -> Iterator[dict[str, Any]]:
    """What workflows/cancelled.py printed."""
    with another_function(workbench.deployed, "never", concurrency=0) as throttled:
        command = workbench.run(harness.WORKFLOWS / "cancelled.py", throttled)
        yield command.json


@pytest.fixture(scope="module")
def cancelled(answers: dict[str, Any]) -> Mapping[str, Outcome]:
    """What became of each dispatch of workflows/cancelled.py."""
    times = ("requested", "reported")
    return functions.outcomes(
        {
            name: {key: value for key, value in answer.items() if key not in times}
            for name, answer in answers.items()
        }
    )


@pytest.mark.parametrize("electron", RUNNING)
def test_dispatch(cancelled: Mapping[str, Outcome], electron: str) -> None:
    """`ct.cancel(dispatch_id)` of what runs ends node and dispatch as CANCELLED."""
    outcome = cancelled[electron]
    assert outcome.only(electron).status == "CANCELLED", outcome
    assert outcome.status == "CANCELLED", outcome


@pytest.mark.parametrize("electron", [*RUNNING, "goes"])
def test_function_stops(workbench: Workbench, answers: dict[str, Any], electron: str) -> None:
    """The function's own log ends within 5 s of the request, whatever the electron was doing."""
    invocation = functions.invocation(workbench.deployed, FIRST_WORDS(electron))
    took = invocation.ended - answers[electron]["requested"]
    assert 0 < took < SOON + BUSY, f"{took:.1f} s:\n{invocation.text}"


def test_heart_stops(answers: dict[str, Any], cancelled: Mapping[str, Outcome]) -> None:
    """A loop that tells the time four times a second falls silent within 5 s."""
    beats = [
        float(x) for x in re.findall(r"beat ([\d.]+)", cancelled["loops"].only("loops").stdout)
    ]
    assert len(beats) > 1
    assert beats[-1] < answers["loops"]["requested"] + SOON


@pytest.mark.parametrize("electron", ["holds_the_lock", "ignores_signals"])
def test_what_resists_is_killed(cancelled: Mapping[str, Outcome], electron: str) -> None:
    """What cannot be interrupted ends with its process, and where it stood is told."""
    assert f"in {electron}" in cancelled[electron].only(electron).complaint


@pytest.mark.parametrize("electron", [*RUNNING, "goes"])
def test_streams_are_kept(cancelled: Mapping[str, Outcome], electron: str) -> None:
    """What it printed before is kept."""
    assert cancelled[electron].only(electron).stdout.startswith(FIRST_WORDS(electron))


def test_single_task(workbench: Workbench, cancelled: Mapping[str, Outcome]) -> None:
    """`ct.cancel(dispatch_id, task_ids=[...])` ends that task; the one beside it completes."""
    outcome = cancelled["goes"]
    assert outcome.only("goes").status == "CANCELLED", outcome
    assert outcome.only("stays").status == "COMPLETED", outcome
    assert functions.marks(workbench.deployed, "stays") == 1


def test_waiting_for_a_throttle(
    workbench: Workbench, answers: dict[str, Any], cancelled: Mapping[str, Outcome]
) -> None:
    """What waits for its turn never runs, and does not go on waiting."""
    outcome = cancelled["waits_for_a_turn"]
    assert outcome.only("waits_for_a_turn").status == "CANCELLED", outcome
    assert outcome.status == "CANCELLED", outcome
    times = answers["waits_for_a_turn"]
    assert times["reported"] - times["requested"] < SOON + BUSY
    assert functions.marks(workbench.deployed, "waits_for_a_turn") == 0


def test_not_yet_sent(workbench: Workbench, cancelled: Mapping[str, Outcome]) -> None:
    """A task cancelled while Covalent waits for its inputs is CANCELLED, and never runs."""
    outcome = cancelled["not_yet_sent"]
    assert functions.marks(workbench.deployed, "not-yet-sent") == 0
    assert outcome.only("takes_its_time").status == "COMPLETED", outcome
    assert outcome.only("not_yet_sent").status == "CANCELLED", outcome
    assert outcome.status == "CANCELLED", outcome


def test_nothing_stays_in_the_bucket(
    workbench: Workbench, cancelled: Mapping[str, Outcome]
) -> None:
    """Cancel marks and last words are deleted with their tasks."""
    ids = [outcome.dispatch_id for outcome in cancelled.values()]

    def left() -> list[str]:
        keys = functions.objects(workbench.deployed, "tasks/")
        return [key for key in keys if any(number in key for number in ids)]

    wait_until(lambda: not left(), "an empty tasks/", 60)


@pytest.fixture(scope="module")
def left_running(deployed: Deployed, work: Path) -> Iterator[tuple[dict[str, Any], float]]:
    """Electrons whose server was stopped: when they ran, and when it had stopped."""
    with running_covalent(work / "stopped", deployed.user.env) as server:
        bench = Workbench(deployed, server)
        command = bench.run("-m", "covalent_awslambda_plugin", "configure")
        assert command.code == 0, str(command)
        running = bench.run(harness.WORKFLOWS / "left_running.py").json
        process = server.child.process
        assert process is not None
        stopping = time.time()
        process.terminate()
        process.wait(30)
        yield running, stopping


@pytest.mark.parametrize("electron", ["left_asleep", "left_looping"])
def test_server_stops(
    deployed: Deployed, left_running: tuple[dict[str, Any], float], electron: str
) -> None:
    """When Covalent's server is stopped, so are the electrons that nobody waits for any more."""
    _, stopping = left_running
    invocation = functions.invocation(deployed, FIRST_WORDS(electron), seconds=30)
    took = invocation.ended - stopping
    assert 0 < took < SOON + BUSY, f"{took:.1f} s:\n{invocation.text}"
