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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lambda_calls.usage import Usage

FILE_NAME = "awslambda.jsonl"


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
        arm64 = replace(usage, architecture="arm64")
        return Entry(
            node=node,
            ended=round(time.time(), 3),
            dollars=usage.cost(prices),
            dollars_on_arm64=arm64.cost(prices),
            usage=usage,
        )


def add(folder: Path, entry: Entry) -> None:
    """Append an entry to a dispatch's record; a folder that is not there gets none.

    Args:
        folder: where Covalent keeps the dispatch's files.
        entry: the invocation.

    Raises:
        OSError: if the file cannot be written.
    """
    line = json.dumps({**asdict(entry.usage), **_without_usage(entry)}, separators=(",", ":"))
    try:
        # One write, at the end wherever that is by then: other electrons write, too.
        file = os.open(folder / FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def read(text: str) -> Iterator[Entry]:
    """The entries of a record's text; lines that are none, the last one say, are left out."""
    for line in text.splitlines():
        try:
            yield _entry(json.loads(line))
        except (ValueError, TypeError, KeyError):
            continue


def _without_usage(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if name != "usage"}


def _entry(said: Mapping[str, Any]) -> Entry:
    own = {name: said[name] for name in ("node", "ended", "dollars", "dollars_on_arm64")}
    used = {name: said[name] for name in Usage.__dataclass_fields__}
    return Entry(usage=Usage(**used), **own)
