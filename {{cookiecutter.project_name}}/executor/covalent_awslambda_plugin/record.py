"""What each invocation of a dispatch took, in a file beside the dispatch's own.

    Covalent's data folder / <dispatch> / awslambda.jsonl      one line for each invocation

Covalent keeps no figures of an executor's, and its log holds them only at the level INFO. Here
they live and go with the dispatch, and Covalent's server hands them out as it does an electron's
output.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lambda_calls.usage import Usage

FILE_NAME = "awslambda.jsonl"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


@dataclass(frozen=True)
class Entry:
    """One invocation.

    Args:
        node: number of the electron that it was made for.
        ended: when its answer came, in seconds since 1970.
        dollars: what it cost, about, by the executor's prices.
        dollars_on_arm64: what the same seconds would have cost on arm64.
        usage: what it took.
    """

    node: int
    ended: float
    dollars: float
    dollars_on_arm64: float
    usage: Usage

    @staticmethod
    def of(node: int, usage: Usage, prices: Mapping[str, float]) -> "Entry":
        """The entry of an invocation that has just been answered."""
        return Entry(
            node=node,
            ended=round(time.time(), 3),
            dollars=usage.cost(prices),
            dollars_on_arm64=usage.cost(prices, "arm64"),
            usage=usage,
        )


def add(folder: str | os.PathLike[str], entry: Entry) -> None:
    """Append an entry to a dispatch's record; a folder that is not there gets none.

    Args:
        folder: where Covalent keeps the dispatch's files.
        entry: the invocation.

    Raises:
        OSError: if the file cannot be written.
    """
    try:
        # One write, at the end wherever that is by then: other electrons write, too.
        file = os.open(os.path.join(folder, FILE_NAME), _APPEND, 0o600)
    except FileNotFoundError:
        return
    figures = {**vars(entry.usage), **vars(entry)}
    del figures["usage"]  # its own are beside the entry's
    try:
        os.write(file, f"{json.dumps(figures, separators=(',', ':'))}\n".encode())
    finally:
        os.close(file)


def read(text: str) -> Iterator[Entry]:
    """The entries of a record's text; lines that are none, the last one say, are left out."""
    for line in text.splitlines():
        try:
            yield _entry(json.loads(line))
        except (ValueError, TypeError, KeyError):
            continue


def _entry(said: Mapping[str, Any]) -> Entry:
    own = {name: said[name] for name in ("node", "ended", "dollars", "dollars_on_arm64")}
    used = {name: said[name] for name in Usage.__dataclass_fields__}
    return Entry(usage=Usage(**used), **own)
