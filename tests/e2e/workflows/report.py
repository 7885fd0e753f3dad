"""Tells, as JSON, what became of a dispatch: beside the workflows, on Covalent's side."""

import hashlib
from typing import Any

import covalent as ct

LONG = 10_000  # characters


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
