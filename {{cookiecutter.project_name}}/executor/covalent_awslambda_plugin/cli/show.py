"""`covalent-lambda show` tells how a dispatch goes, and why what failed of it did."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..record import Entry
from .dispatches import ENDED, Dispatch, Dispatches, Node, add_dispatch
from .output import Output, dollars, plain, seconds

HELP = "show how a dispatch goes, and why electrons failed"
DESCRIPTION = """\
Show a dispatch: while it runs, a bar of what is done, running and failed; at its
end, each electron that failed with its name, node number, output, traceback, time
and cost. Exit status 1 if it ended otherwise than COMPLETED.
"""

# Looking at a dispatch takes the server's time, which its electrons need: no more than this share.
_SHARE = 0.05
_SHORTEST, _LONGEST = 1.0, 15.0  # seconds between two looks
_LINE_EVERY = 10.0  # seconds between two lines where no terminal is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_dispatch(parser)
    parser.add_argument(
        "--no-wait", action="store_true", help="tell how it stands now, do not wait for its end"
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Show it."""
    dispatches = Dispatches.configured()
    dispatch_id = dispatches.chosen(options.dispatch)
    dispatch = dispatches.dispatch(dispatch_id)
    if not dispatch.has_ended and not options.no_wait:
        dispatch = _waited(dispatches, dispatch, output)
    told = _told(dispatches, dispatch)
    output.document(told)
    _write(told, output)
    return 1 if dispatch.has_ended and dispatch.status != "COMPLETED" else 0


# -- while it runs -------------------------------------------------------------------------------


def _waited(dispatches: Dispatches, dispatch: Dispatch, output: Output) -> Dispatch:
    """The dispatch at its end, with a bar until then."""
    if output.is_terminal:
        return _with_bar(dispatches, dispatch, output)
    told = time.monotonic()

    def note(latest: Dispatch) -> None:
        nonlocal told
        if time.monotonic() - told >= _LINE_EVERY:
            told = time.monotonic()
            print(_counted(latest), file=sys.stderr)

    return _until_ended(dispatches, dispatch, note)


def _with_bar(dispatches: Dispatches, dispatch: Dispatch, output: Output) -> Dispatch:
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
        console=output.console,
        transient=True,
    )
    with bar:
        task = bar.add_task(plain(dispatch.name), total=None, counted="")

        def note(latest: Dispatch) -> None:
            count = _counts(latest)
            bar.update(
                task,
                total=sum(count.values()),
                completed=count["done"] + count["failed"] + count["cancelled"],
                counted=_counted(latest),
            )

        return _until_ended(dispatches, dispatch, note)


def _until_ended(
    dispatches: Dispatches, dispatch: Dispatch, note: Callable[[Dispatch], None]
) -> Dispatch:
    """Look at a dispatch until it ends; the more its looks cost the server, the fewer.

    Its status alone is cheap and asked each second; all nodes are looked at less often.
    """
    note(dispatch)
    pause = _SHORTEST
    looked = time.monotonic()
    while True:
        time.sleep(_SHORTEST)
        if dispatches.status(dispatch.id) in ENDED:
            return dispatches.dispatch(dispatch.id)
        if time.monotonic() - looked < pause:
            continue
        began = time.monotonic()
        dispatch = replace(dispatch, nodes=dispatches.nodes(dispatch.id))
        looked = time.monotonic()
        note(dispatch)
        pause = min(_LONGEST, max(_SHORTEST, (looked - began) / _SHARE))


def _counts(dispatch: Dispatch) -> dict[str, int]:
    """How many electrons are done, running, and so on."""
    count = dict.fromkeys(("done", "running", "failed", "cancelled", "waiting"), 0)
    kinds = {"COMPLETED": "done", "CANCELLED": "cancelled", "NEW_OBJECT": "waiting"}
    for node in dispatch.electrons():
        count["failed" if node.has_failed else kinds.get(node.status, "running")] += 1
    return count


def _counted(dispatch: Dispatch) -> str:
    """`3 done, 2 running, 1 failed`: what there is any of."""
    count = _counts(dispatch)
    if dispatch.has_ended:  # then nothing waits any more
        count["not run"] = count.pop("waiting")
    return ", ".join(f"{number} {kind}" for kind, number in count.items() if number)


# -- at its end ----------------------------------------------------------------------------------


def _told(dispatches: Dispatches, dispatch: Dispatch) -> dict[str, Any]:
    """What there is to tell of it, as the JSON document."""
    entries = dispatches.entries(dispatch)
    failed = [node for node in dispatch.nodes if node.has_failed]
    outputs = dispatches.outputs(dispatch.id) if failed else {}
    return {
        "dispatch_id": dispatch.id,
        "name": dispatch.name,
        "status": dispatch.status,
        "seconds": round(dispatch.seconds, 3),
        "electrons": _counts(dispatch),
        "counted": _counted(dispatch),
        "cost": _cost(entries),
        "failed": [_of_node(dispatches, node, entries, outputs) for node in failed],
    }


def _of_node(
    dispatches: Dispatches,
    node: Node,
    entries: Iterable[Entry],
    outputs: Mapping[int, Mapping[str, str]],
) -> dict[str, Any]:
    found = outputs.get(node.number, {})
    told: dict[str, Any] = {
        "node": node.number,
        "name": node.name,
        "status": node.status,
        "executor": node.executor,
        "seconds": None if node.seconds is None else round(node.seconds, 3),
        "cost": _cost(x for x in entries if x.node == node.number),
        **{name: dispatches.text(found[name]) if name in found else "" for name in _OUTPUTS},
    }
    if node.sublattice:
        told["sublattice"] = _told(dispatches, dispatches.dispatch(node.sublattice))
    return told


_OUTPUTS = ("stdout", "stderr", "error")


def _cost(entries: Iterable[Entry]) -> dict[str, Any]:
    found = list(entries)
    return {
        "invocations": len(found),
        "gb_seconds": sum(x.usage.gb_seconds for x in found),
        "dollars": sum(x.dollars for x in found),
        "request_ids": [x.usage.request_id for x in found][:10],
    }


def _write(told: Mapping[str, Any], output: Output, indent: str = "") -> None:
    style = "good" if told["status"] == "COMPLETED" else "bad"
    style = style if told["status"] in ("COMPLETED", "FAILED") else "warning"
    output.line(
        indent,
        (told["name"], "title"),
        f"  {told['dispatch_id']}  ",
        (told["status"], style),
        f"  {seconds(told['seconds'])}",
    )
    output.line(f"{indent}{told['counted']}{_costs(told['cost'])}")
    for node in told["failed"]:
        _write_node(node, output, indent)


def _write_node(node: Mapping[str, Any], output: Output, indent: str) -> None:
    took = "" if node["seconds"] is None else f" after {seconds(node['seconds'])}"
    output.line()
    output.line(
        indent, ("✗ ", "bad"), (node["name"], "title"), f" (node {node['node']}) failed{took}"
        f" on {node['executor']}{_costs(node['cost'])}",
    )  # fmt: skip
    for name in _OUTPUTS:
        if node[name].strip():
            output.line(f"{indent}  ", (f"{name}:", "quiet"))
            output.block(node[name], f"{indent}    ")
    if node["cost"]["request_ids"]:
        last = shlex.quote(node["cost"]["request_ids"][-1])
        output.line(f"{indent}  its log: ", (f"covalent-lambda logs --request {last}", "command"))
    if "sublattice" in node:
        _write(node["sublattice"], output, f"{indent}  ")


def _costs(cost: Mapping[str, Any]) -> str:
    if not cost["invocations"]:
        return ""
    plural = "" if cost["invocations"] == 1 else "s"
    return (
        f"; {cost['invocations']} invocation{plural}, {cost['gb_seconds']:.3f} GB-s, about "
        f"{dollars(cost['dollars'])}"
    )
