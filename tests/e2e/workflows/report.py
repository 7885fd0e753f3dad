"""Tells, as JSON, what became of dispatches: beside the workflows, on Covalent's side."""

import hashlib
from collections.abc import Mapping
from typing import Any

import covalent as ct

LONG = 10_000  # characters

# What to dispatch, by name, with its arguments.
Works = Mapping[str, tuple[Any, tuple[Any, ...]]]


def report_lattices(lattices: Works) -> dict[str, Any]:
    """Dispatch lattices all at once; the report of each."""
    dispatched = {name: ct.dispatch(work)(*args) for name, (work, args) in lattices.items()}
    return {name: report(dispatch_id) for name, dispatch_id in dispatched.items()}


def report_electrons(electrons: Works) -> dict[str, Any]:
    """Dispatch electrons all at once, each as a lattice of its own; the report of each."""
    lattices = {name: (ct.lattice(work), args) for name, (work, args) in electrons.items()}
    return report_lattices(lattices)


def report(dispatch_id: str) -> dict[str, Any]:
    """Wait for a dispatch and return its status, its result and each node's streams and error."""
    result = ct.get_result(dispatch_id, wait=True)
    graph = result.lattice.transport_graph
    nodes = []
    for number in graph._graph.nodes:
        node = result.get_node_result(number)
        nodes.append(
            {
                "number": number,
                "name": node["node_name"],
                "status": str(node["status"]),
                **{key: str(node[key] or "") for key in ("stdout", "stderr", "error")},
            }
        )
    return {
        "dispatch_id": dispatch_id,
        "status": str(result.status),
        "error": str(result.error or ""),
        "result": _short(repr(result.result)),
        "nodes": nodes,
    }


def _short(text: str) -> str:
    """The text, or what identifies a long one."""
    if len(text) < LONG:
        return text
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
