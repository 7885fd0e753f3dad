"""Where a command writes: rich on a terminal, plain text in a pipe, or JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Styles by what is said; rich leaves them out where no terminal reads.
STYLES = MappingProxyType(
    {
        "good": "green",
        "warning": "yellow",
        "bad": "bold red",
        "quiet": "dim",
        "title": "bold",
        "command": "cyan",
    }
)


class _Console(Console):
    """Leaves it to `main` what a reader that has seen enough means; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise  # what rich has caught where it calls this


# What a terminal would follow, or show in another order than it stands: control characters (C1's
# too, of which some begin sequences) and those that turn the direction of writing. Tabs stay.
# https://www.unicode.org/reports/tr9/
_CONTROL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def plain(text: str) -> str:
    """A line of somebody else's, for a terminal: its control characters are shown, not sent.

    Electrons write what they like into their streams, names and exceptions. A terminal would take
    some of it as commands: to hide lines, to change its title, to fill the clipboard.
    """
    return _CONTROL.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class Output:
    """Writes text and tables, unless JSON was asked for, which `document` then writes.

    Args:
        as_json: whether it was.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = _Console(file=sys.stdout, highlight=False, markup=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self.console.is_terminal and not self.as_json

    def line(self, *parts: str | tuple[str, str]) -> None:
        """Write a line made of texts and of `(text, style)`; it is never broken."""
        if not self.as_json:
            styled = [
                plain(x) if isinstance(x, str) else (plain(x[0]), STYLES[x[1]]) for x in parts
            ]
            self.console.print(Text.assemble(*styled), soft_wrap=True)

    def block(self, text: str, indent: str) -> None:
        """Write lines of somebody else's, indented."""
        for line in text.rstrip("\n").split("\n"):
            self.line(indent + line.removesuffix("\r"))

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], right: str = ""
    ) -> None:
        """Write a table.

        Args:
            columns: their headings.
            rows: a text for each column.
            right: the letter `r` for each column that holds numbers, another letter for others.
        """
        if self.as_json:
            return
        sides = right.ljust(len(columns), "l")
        if self.is_terminal:
            table = Table(box=None, padding=(0, 2, 0, 0), header_style=STYLES["quiet"])
            for name, side in zip(columns, sides, strict=True):
                if side == "r":
                    table.add_column(name, justify="right", no_wrap=True)
                else:
                    table.add_column(name, overflow="fold")
            for row in rows:
                table.add_row(*(Text(plain(cell)) for cell in row))
            self.console.print(table)
            return
        lines = [tuple(columns), *(tuple(map(plain, row)) for row in rows)]
        widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
        for line in lines:
            cells = [
                cell.rjust(width) if side == "r" else cell.ljust(width)
                for cell, width, side in zip(line, widths, sides, strict=True)
            ]
            self.line("  ".join(cells).rstrip())

    def document(self, value: Any) -> None:
        """Write JSON, if it was asked for."""
        if self.as_json:
            print(_json(value, indent=2))

    def record(self, value: Any) -> None:
        """Write one line of JSON, if it was asked for: a stream of them has no end."""
        if self.as_json:
            print(_json(value), flush=True)


def _json(value: Any, indent: int | None = None) -> str:
    """JSON in which no control character is left: its own escapes stand for them in texts."""
    said = json.dumps(value, indent=indent, ensure_ascii=False)
    return _CONTROL.sub(lambda x: x[0] if x[0] == "\n" else f"\\u{ord(x[0]):04x}", said)


def dollars(amount: float) -> str:
    """US dollars, with as many digits as tell anything."""
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}"


def seconds(amount: float) -> str:
    """A duration."""
    if amount < 100:
        return f"{amount:.2f} s"
    minutes, rest = divmod(round(amount), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
