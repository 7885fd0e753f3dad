"""`covalent-lambda doctor` looks at everything that an electron needs, and says what mends it.

Situation ─► checks, side by side in threads ─► Finding: remarks, the worst of which counts
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from lambda_calls import messages
from lambda_calls.errors import CredentialsError, LambdaCallError
from lambda_calls.settings import SettingsError

from . import names
from .checks import ALL
from .checks.finding import Finding, Remark, Status
from .checks.situation import Situation, Unknown
from .errors import CommandError
from .output import Output

HELP = "check all that an electron needs, and say how to fix it"
DESCRIPTION = """\
Check, without changing anything: settings, credentials, clock, the function and
its image, bucket, permissions, the account's quota, Covalent and its server, this
machine. Each remark comes with the command that mends it: fix, then run it again.
Exit status 1 if something is missing.
"""

_SIGNS = MappingProxyType(
    {
        Status.OK: ("✓", "good"),
        Status.PARTIAL: ("!", "warning"),
        Status.MISSING: ("✗", "bad"),
        Status.CRASHED: ("☠", "bad"),
    }
)
_CREDENTIALS = "Credentials"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    names.add_arguments(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Check, and report in the order of the list, whichever is done first."""
    situation = Situation.of(options)
    worst = Status.OK
    findings: list[Finding] = []
    with ThreadPoolExecutor(len(ALL)) as threads:
        running = [threads.submit(_finding, title, check, situation) for title, check in ALL]
        for work in running:
            finding = work.result()
            findings.append(finding)
            worst = max(worst, finding.status)
            _write(finding, output)
    output.document(
        {
            "status": worst.name.lower(),
            "checks": [
                {
                    "title": x.title,
                    "status": x.status.name.lower(),
                    "seconds": round(x.seconds, 3),
                    "remarks": [{**asdict(y), "status": y.status.name.lower()} for y in x.remarks],
                }
                for x in findings
            ],
        }
    )
    _conclude(findings, output)
    return 1 if worst >= Status.MISSING else 0


def _finding(
    title: str, check: Callable[[Situation], Iterator[Remark]], situation: Situation
) -> Finding:
    """What one check found; that it cannot be made is a finding, too."""
    began = time.monotonic()
    remarks: list[Remark] = []
    try:
        for remark in check(situation):
            remarks.append(remark)
    except Exception as error:
        remarks.append(_of_error(title, error))
    return Finding(title, tuple(remarks), time.monotonic() - began)


def _of_error(title: str, error: Exception) -> Remark:
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

    if isinstance(error, EndpointConnectionError):
        return _of_no_connection(title, error)
    if isinstance(error, BotoCoreError):
        error = messages.not_signed(error, "")
    if isinstance(error, CredentialsError) and title != _CREDENTIALS:
        error = Unknown(f"needs what {_CREDENTIALS} misses")
    if isinstance(error, Unknown):
        return Remark(Status.PARTIAL, f"not checked: {error}")
    if isinstance(error, (CommandError, LambdaCallError, SettingsError)):
        return Remark(Status.MISSING, " ".join(str(error).split()))
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        return Remark(Status.MISSING, f"{said.get('Code')}: {said.get('Message')}")
    return Remark(
        Status.CRASHED,
        f"this check itself failed: {type(error).__name__}: {error}",
        "covalent-lambda doctor --json, in a bug report",
    )


def _of_no_connection(title: str, error: Any) -> Remark:
    """The whole of it once; the other checks name their endpoint alone."""
    parts = urlsplit(str(error.kwargs.get("endpoint_url")))
    said = messages.not_signed(error, "") if title == _CREDENTIALS else None
    text = " ".join(str(said).split()) if said else f"no connection to {parts.netloc}"
    return Remark(Status.MISSING, text, f"curl -sSI {parts.scheme}://{parts.netloc}")


def _write(finding: Finding, output: Output) -> None:
    sign, style = _SIGNS[finding.status]
    output.line((f"[{sign}] ", style), (finding.title, "title"))
    for remark in finding.remarks:
        sign, style = _SIGNS[remark.status]
        lead = (f"    {sign} ", style) if remark.status is not Status.OK else "    "
        output.line(lead, remark.text)
        if remark.remedy:
            output.line("      → ", (remark.remedy, "command"))
    sys.stdout.flush()  # the next one may take a while


def _conclude(findings: list[Finding], output: Output) -> None:
    count: dict[Any, int] = {
        status: sum(x.status is status for x in findings) for status in Status
    }
    if not (count[Status.MISSING] or count[Status.CRASHED] or count[Status.PARTIAL]):
        output.line(("All is well.", "good"))
        return
    parts = [f"{number} {status.name.lower()}" for status, number in count.items() if number]
    output.line()
    output.line(f"{', '.join(parts)}. Fix what is marked, then run it again.")
