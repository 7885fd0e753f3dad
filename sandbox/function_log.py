"""Reads the log of the function, in the embedded AWS's CloudWatch Logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sandbox.aws import Aws
from sandbox.deploying import Deploying, client
from sandbox.errors import SandboxError


def last_lines(aws: Aws, project: Path, lines: int) -> list[str]:
    """Return the last lines that a project's function logged, oldest first.

    Raises:
        SandboxError: when the log cannot be read.
    """
    steps = Deploying(project, aws, project, print)
    name = steps.outputs().get("FunctionName", "")
    group = f"/aws/lambda/{name}"
    try:
        pages = client(aws, "logs", steps.region).get_paginator("filter_log_events")
        events: list[dict[str, Any]] = [
            event for page in pages.paginate(logGroupName=group) for event in page["events"]
        ]
    except (BotoCoreError, ClientError) as error:
        raise SandboxError(f"the log {group} cannot be read: {error}") from error
    events.sort(key=lambda event: event["timestamp"])
    return [str(event["message"]).rstrip() for event in events][-lines:]
