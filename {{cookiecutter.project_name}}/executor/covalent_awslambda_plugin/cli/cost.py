"""`covalent-lambda cost` adds up what a dispatch's invocations took."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from ..record import Entry
from .dispatches import Dispatch, Dispatches, Node, add_dispatch
from .output import Output, dollars, seconds

HELP = "add up what a dispatch cost"
DESCRIPTION = """\
Show what each electron of a dispatch took on Lambda and about what it cost, how
much of that were cold starts, and what arm64 would save. The executor notes this
for each invocation beside the dispatch's files; electrons on other executors, S3
and the free tier are not counted.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_dispatch(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Add it up."""
    dispatches = Dispatches.configured()
    dispatch = dispatches.dispatch(dispatches.chosen(options.dispatch))
    found = list(_with_sublattices(dispatches, dispatch))
    total = _sum([entry for _, entries in found for entry in entries])
    rows = [_row(node, entries) for node, entries in found]
    document = {
        "dispatch_id": dispatch.id,
        "name": dispatch.name,
        "status": dispatch.status,
        "total": total,
        "electrons": rows,
    }
    output.document(document)
    _write(document, output)
    return 0


def _with_sublattices(
    dispatches: Dispatches, dispatch: Dispatch
) -> Iterable[tuple[Mapping[str, Any], list[Entry]]]:
    """Each node that ran on Lambda, those of sublattices as well."""
    for path, member in dispatches.family(dispatch):
        entries = dispatches.entries(member)
        for node in member.nodes:
            own = [entry for entry in entries if entry.node == node.number]
            if own:
                yield _named(node, path), own


def _named(node: Node, path: str) -> Mapping[str, Any]:
    return {"node": f"{path}{node.number}", "name": node.name, "status": node.status}


def _row(node: Mapping[str, Any], entries: list[Entry]) -> dict[str, Any]:
    return {**node, **_sum(entries)}


def _sum(entries: list[Entry]) -> dict[str, Any]:
    used = [entry.usage for entry in entries]
    cold = [x for x in used if x.cold]
    billed = sum(x.billed for x in used)
    return {
        "invocations": len(used),
        "cold": len(cold),
        # Seconds of starting environments, where Lambda's log tells them.
        "init_seconds": sum(x.init or 0.0 for x in used),
        "cold_share": sum(x.billed for x in cold) / billed if billed else 0.0,
        "billed_seconds": billed,
        "gb_seconds": sum(x.gb_seconds for x in used),
        "memory_mb": max((x.memory_mb for x in used), default=0),
        "max_memory_mb": max((x.max_memory_mb for x in used), default=0),
        "dollars": sum(entry.dollars for entry in entries),
        "dollars_on_arm64": sum(entry.dollars_on_arm64 for entry in entries),
    }


def _write(document: Mapping[str, Any], output: Output) -> None:
    total = document["total"]
    output.line((document["name"], "title"), f"  {document['dispatch_id']}  {document['status']}")
    if not total["invocations"]:
        output.line(
            "There is no invocation on record: it has no electron on Lambda that was answered, or "
            "ran with an executor of an earlier version."
        )
        return
    output.table(
        ("node", "electron", "invocations", "cold", "billed", "GB-s", "memory", "about"),
        [_cells(row) for row in [*document["electrons"], {**total, "node": "", "name": "total"}]],
        right="rlrrrrrr",
    )
    share = f"{100 * total['cold_share']:.0f} %"
    starting = (
        f", {seconds(total['init_seconds'])} of it starting" if total["init_seconds"] else ""
    )
    output.line(
        f"Cold: {total['cold']} of {total['invocations']} invocations, {share} of the billed "
        f"time{starting}."
    )
    _write_arm64(total, output)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["node"],
        row["name"],
        str(row["invocations"]),
        str(row["cold"]),
        seconds(row["billed_seconds"]),
        f"{row['gb_seconds']:.3f}",
        f"{row['max_memory_mb']} of {row['memory_mb']} MB",
        dollars(row["dollars"]),
    )


def _write_arm64(total: Mapping[str, Any], output: Output) -> None:
    saved = total["dollars"] - total["dollars_on_arm64"]
    if saved <= 1e-12:
        return
    output.line(
        f"On arm64: about {dollars(total['dollars_on_arm64'])}, "
        f"{100 * saved / total['dollars']:.0f} % less, if the electrons take the same "
        "time there (Architectures in template.yaml; each package needs a wheel for arm64)."
    )
