"""Covalent's server, asked through its HTTP API about dispatches.

What Covalent's own pages ask it for is asked here, too: the graph of a dispatch takes it a tenth
of the time of the whole result.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .. import record
from .errors import CommandError
from .names import without_covalent

_SECONDS = 30.0
#: The statuses of a dispatch of which nothing will change any more.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "POSTPROCESSING_FAILED")


@dataclass(frozen=True)
class Node:
    """An electron of a dispatch.

    Args:
        number: its node's.
        name: its function's, or what Covalent calls it.
        status: as Covalent says it.
        executor: short name of its executor.
        seconds: from its start to its end, or until now; None if it has not begun.
        sublattice: the dispatch that it stands for; "" for an electron.
        is_parameter: whether it is a value only.
    """

    number: int
    name: str
    status: str
    executor: str
    seconds: float | None
    sublattice: str
    is_parameter: bool

    @property
    def has_failed(self) -> bool:
        """Whether it ended without a result."""
        return self.status in ("FAILED", "POSTPROCESSING_FAILED")


@dataclass(frozen=True)
class Dispatch:
    """A dispatch as it is now.

    Args:
        id: its id.
        name: its lattice's.
        status: as Covalent says it.
        started: when, in seconds since 1970; 0 if it has not.
        seconds: from its start to its end, or until now.
        folder: where Covalent's server keeps its files, as that machine names it.
        nodes: its electrons, in order.
    """

    id: str
    name: str
    status: str
    started: float
    seconds: float
    folder: str
    nodes: list[Node]

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.status in ENDED

    def electrons(self) -> list[Node]:
        """Its nodes less those that are only values."""
        return [node for node in self.nodes if not node.is_parameter]


def add_dispatch(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a dispatch; see `Dispatches.chosen`."""
    parser.add_argument(
        "dispatch", metavar="DISPATCH", nargs="?", help="its id (default: the latest one)"
    )


class Dispatches:
    """The dispatches of one server of Covalent's.

    Args:
        url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @staticmethod
    def configured() -> Dispatches:
        """Those of the server that Covalent is configured for.

        Raises:
            CommandError: if Covalent cannot be imported or read.
        """
        try:
            from covalent._shared_files.utils import format_server_url

            return Dispatches(str(format_server_url()))
        except Exception as error:  # importing Covalent reads and parses its file
            raise without_covalent(error) from error

    def chosen(self, dispatch_id: str | None) -> str:
        """The id that was given, else that of the latest dispatch.

        Raises:
            CommandError: if there is none.
        """
        if dispatch_id:
            return dispatch_id
        found = self.get("/api/v2/dispatches?count=1")["dispatches"]
        if not found:
            raise CommandError(f"Covalent's server at {self.url} has no dispatch yet.")
        # Sublattices are dispatches, too.
        return str(found[0].get("root_dispatch_id") or found[0]["dispatch_id"])

    def family(self, dispatch: Dispatch, path: str = "") -> Iterator[tuple[str, Dispatch]]:
        """It and the sublattices below it, each with the numbers of the nodes that lead there."""
        yield path, dispatch
        for node in dispatch.nodes:
            if node.sublattice:
                inner = self.dispatch(node.sublattice)
                yield from self.family(inner, f"{path}{node.number}/")

    def status(self, dispatch_id: str) -> str:
        """Its status alone, which costs the server next to nothing."""
        return str(self._summary(dispatch_id, "&status_only=true")["status"])

    def dispatch(self, dispatch_id: str) -> Dispatch:
        """It, with all its nodes.

        Raises:
            CommandError: if the server does not know it, or does not answer.
        """
        summary = self._summary(dispatch_id)
        about = self.get(f"/api/v1/dispatches/{_path(dispatch_id)}")
        started = _time(about["started_at"])
        return Dispatch(
            id=dispatch_id,
            name=str(summary["name"]),
            status=str(about["status"]),
            started=started or 0.0,
            seconds=_between(started, _time(about["ended_at"])) or 0.0,
            folder=str(about["directory"]),
            nodes=self.nodes(dispatch_id),
        )

    def nodes(self, dispatch_id: str) -> list[Node]:
        """Its nodes alone, in order."""
        graph = self.get(f"/api/v1/dispatches/{_path(dispatch_id)}/graph")["graph"]
        nodes = [_node(said) for said in graph["nodes"]]
        return sorted(nodes, key=lambda node: node.number)

    def entries(self, dispatch: Dispatch) -> list[record.Entry]:
        """What each of its invocations took, as the executor noted it beside its files."""
        local = Path(dispatch.folder) / record.FILE_NAME
        try:
            text = local.read_text("utf-8")
        except OSError:
            if local.parent.is_dir():  # nothing was noted
                return []
            # The server runs elsewhere. It writes a traceback to its log for a file that it lacks.
            text = self._file(f"{_path(dispatch.id)}/{record.FILE_NAME}")
        return list(record.read(text))

    def outputs(self, dispatch_id: str) -> Mapping[int, Mapping[str, str]]:
        """Addresses of what each node left (`stdout`, `stderr`, `error`), where there is any."""
        exported = self.get(f"/api/v2/dispatches/{_path(dispatch_id)}")
        return {int(node["id"]): dict(_addresses(node)) for node in _nodes(exported)}

    def executors(self, dispatch_id: str) -> Mapping[int, Mapping[str, Any]]:
        """The attributes of each node's executor, where it is one of ours."""
        exported = self.get(f"/api/v2/dispatches/{_path(dispatch_id)}")
        return {
            int(node["id"]): node["metadata"]["executor_data"].get("attributes", {})
            for node in _nodes(exported)
            if node["metadata"]["executor"] == "awslambda"
        }

    def text(self, address: str) -> str:
        """What stands at one of the addresses of `outputs`."""
        if urlsplit(address).scheme not in ("http", "https"):  # urlopen would read files, too
            raise CommandError(f"{address!r} is not the address of a server, so it was not read.")
        try:
            with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except (OSError, ValueError) as error:
            raise CommandError(f"{address} could not be read: {error}.") from error

    def get(self, path: str) -> Any:
        """What the server answers to a request.

        Raises:
            CommandError: if it does not, or refuses.
        """
        try:
            with urllib.request.urlopen(self.url + path, timeout=_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise CommandError(
                f"Covalent's server at {self.url} answered {path} with {error.code} "
                f"{error.reason}. Its log says why."
            ) from error
        except (OSError, ValueError) as error:
            raise CommandError(
                f"Covalent's server does not answer at {self.url} ({error}). `covalent start` "
                "starts it; `covalent-lambda doctor` says more."
            ) from error

    def _file(self, path: str) -> str:
        try:
            return self.text(f"{self.url}/api/v0/files/{path}")
        except CommandError:  # it answers 500 for a file that is not there
            return ""

    def _summary(self, dispatch_id: str, more: str = "") -> Any:
        """The server's line on a dispatch; `more` is of the query."""
        query = f"/api/v2/dispatches?dispatch_id={_path(dispatch_id)}{more}"
        found = self.get(query)["dispatches"]
        if not found:
            raise CommandError(
                f"Covalent's server at {self.url} has no dispatch {dispatch_id!r}. Its page "
                "lists all of them; without an id, the latest one is taken."
            )
        return found[0]


def _path(dispatch_id: str) -> str:
    """An id as a part of an address."""
    return quote(dispatch_id, safe="")


def _nodes(exported: Mapping[str, Any]) -> list[Any]:
    return list(exported["lattice"]["transport_graph"]["nodes"])


def _addresses(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("stdout", "stderr", "error"):
        asset = node["assets"][name]
        if asset.get("size") and asset.get("remote_uri"):
            yield name, str(asset["remote_uri"])


def _node(said: Mapping[str, Any]) -> Node:
    return Node(
        number=int(said["node_id"]),
        name=str(said["name"]),
        status=str(said["status"]),
        executor=str(said["executor_label"]),
        seconds=_between(_time(said["started_at"]), _time(said["completed_at"])),
        sublattice=str(said.get("sublattice_dispatch_id") or ""),
        is_parameter=said["type"] == "parameter",
    )


def _time(text: str | None) -> float | None:
    """Seconds since 1970 of a time as Covalent writes it: in UTC, without saying so."""
    if not text:
        return None
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def _between(start: float | None, end: float | None) -> float | None:
    if start is None:
        return None
    now = datetime.now(timezone.utc).timestamp()
    return max(0.0, (now if end is None else end) - start)
