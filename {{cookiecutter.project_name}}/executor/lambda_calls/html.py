"""What notebooks show of an executor, a pool and its figures."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Target


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A titled table as HTML.

    Args:
        title: its caption.
        columns: its headings.
        rows: a value for each column; whatever it is, it is shown as text.
    """
    left = ' style="text-align: left"'
    head = "".join(f"<th{left}>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td{left}>{escape(str(value))}</td>' for value in row)}</tr>"
        for row in rows
    )
    caption = f'<caption style="caption-side: top; text-align: left">{escape(title)}</caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def of_target(title: str, target: "Target") -> str:
    """Where calls are sent, and who said so."""
    values = {
        "function_name": target.function,
        "s3_bucket_name": target.bucket,
        "region": target.account.region,
        "profile": target.account.profile,
        "credentials_file": target.account.credentials_file,
    }
    rows = [(name, said or "–", target.origins.get(name, "")) for name, said in values.items()]
    return table(title, ("setting", "value", "from"), rows)
