"""Electrons that never end by themselves, cancelled; prints what became of each, as JSON.

Usage: python cancelled.py FUNCTION_WITHOUT_CONCURRENCY
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from endless import begin, bucket, deployed, loops, region, sleeps
from marks import leave, wait_for
from report import report

LONG = 10**12  # additions: more than an hour

throttled = AWSLambdaExecutor(function_name=sys.argv[1], s3_bucket_name=bucket, region=region)


@ct.electron(executor=deployed)
def holds_the_lock(name: str) -> int:
    begin(name)
    return sum(range(LONG))


@ct.electron(executor=deployed)
def ignores_signals(name: str) -> None:
    begin(name)
    while True:
        try:
            time.sleep(600)
        except BaseException as error:
            print("ignored:", type(error).__name__)


@ct.electron(executor=throttled)
def waits_for_a_turn(name: str) -> None:
    leave(bucket, name)


@ct.electron(executor=deployed)
def stays(name: str) -> str:
    leave(bucket, name)
    time.sleep(12)
    return "stayed"


@ct.electron(executor=deployed)
def goes(name: str) -> None:
    begin(name)
    time.sleep(600)


@ct.lattice
def side_by_side(staying: str, going: str) -> Any:
    return [stays(staying), goes(going)]


@ct.electron(executor="local")
def takes_its_time() -> str:
    time.sleep(5)
    return "not-yet-sent"


@ct.electron(executor=deployed)
def not_yet_sent(name: str) -> None:
    leave(bucket, name)


@ct.lattice
def one_after_the_other() -> Any:
    return not_yet_sent(takes_its_time())


def node_number(dispatch_id: str, name: str) -> int:
    graph = ct.get_result(dispatch_id, wait=False).lattice.transport_graph
    (number,) = (n for n in graph._graph.nodes if graph.get_node_value(n, "name") == name)
    return int(number)


def cancelled(
    dispatch_id: str, started: Callable[[], object], task_ids: list[int] | None = None
) -> dict[str, Any]:
    """Cancel what has started; its report, and the time of the request."""
    started()
    requested = time.time()
    ct.cancel(dispatch_id, task_ids=task_ids)
    told = report(dispatch_id)
    return {**told, "requested": requested, "reported": time.time()}


def running(electron: Any) -> dict[str, Any]:
    """Dispatch an electron, cancel it once it runs."""
    dispatch_id = ct.dispatch(ct.lattice(electron))(electron.__name__)
    return cancelled(dispatch_id, lambda: wait_for(bucket, region, electron.__name__))


def waiting_for_a_turn() -> dict[str, Any]:
    """Cancel an electron whose function is throttled for good."""
    dispatch_id = ct.dispatch(ct.lattice(waits_for_a_turn))("waits_for_a_turn")
    return cancelled(dispatch_id, lambda: time.sleep(4))


def one_of_two() -> dict[str, Any]:
    """Cancel one task of two that run side by side."""
    dispatch_id = ct.dispatch(side_by_side)("stays", "goes")

    def started() -> None:
        wait_for(bucket, region, "stays")
        wait_for(bucket, region, "goes")

    return cancelled(dispatch_id, started, [node_number(dispatch_id, "goes")])


def before_it_was_sent() -> dict[str, Any]:
    """Cancel one task while another, which it depends on, still runs."""
    dispatch_id = ct.dispatch(one_after_the_other)()
    number = node_number(dispatch_id, "not_yet_sent")
    return cancelled(dispatch_id, lambda: time.sleep(1), [number])


if __name__ == "__main__":
    answers = {
        electron.__name__: running(electron)
        for electron in (sleeps, loops, holds_the_lock, ignores_signals)
    }
    answers["waits_for_a_turn"] = waiting_for_a_turn()
    answers["goes"] = one_of_two()
    answers["not_yet_sent"] = before_it_was_sent()
    print(json.dumps(answers))
