"""Who we are in AWS, whether the clocks agree, and what the account allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from lambda_calls.aws import refusals
from lambda_calls.aws.clients import Clients

from .. import aws
from .finding import Remark, missing, ok, partial
from .situation import Situation

# AWS refuses signatures that are older than five minutes:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
_REFUSED = 300.0
_NOTED = 60.0
# What new accounts have, and what others do:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_OF_NEW_ACCOUNTS, _USUAL = 50, 1000
_RAISE = (
    "aws service-quotas request-service-quota-increase --service-code lambda "
    f"--quota-code L-B99A9384 --desired-value {_USUAL}"
)


def credentials(situation: Situation) -> Iterator[Remark]:
    """Whose credentials are used; STS tells without any permission."""
    from botocore.exceptions import ClientError

    if Clients().credentials(situation.account) is None:
        from lambda_calls import messages

        yield missing(
            " ".join(str(messages.NO_CREDENTIALS(said="Unable to locate credentials")).split()),
            "aws configure",
        )
        return
    try:
        identity = situation.client("sts").get_caller_identity()
    except ClientError as error:
        yield missing(
            f"AWS does not accept them: {refusals.said(error)}",
            "aws sso login (if they come from SSO), or aws configure",
        )
        return
    yield ok(f"{identity['Arn']}, account {identity['Account']}")


def clock(situation: Situation) -> Iterator[Remark]:
    """How far this machine's clock is from AWS's."""
    from botocore.exceptions import ClientError

    try:
        metadata = situation.client("sts").get_caller_identity()["ResponseMetadata"]
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
    there = _date(metadata)
    if there is None:
        yield partial("AWS's answer has no date")
        return
    off = (datetime.now(timezone.utc) - there).total_seconds()
    text = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} AWS's"
    if abs(off) >= _REFUSED:
        yield missing(f"{text}: requests are refused", "sudo timedatectl set-ntp true")
    elif abs(off) >= _NOTED:
        yield partial(
            f"{text}: from {_REFUSED:.0f} s on requests are refused",
            "sudo timedatectl set-ntp true",
        )
    else:
        yield ok("agrees with AWS's")


def quota(situation: Situation) -> Iterator[Remark]:
    """How many electrons may run at a time."""
    from botocore.exceptions import ClientError

    try:
        limits = situation.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError as error:
        if not aws.is_denied(error):
            raise
        yield partial(
            "not checked: lambda:GetAccountSettings is not allowed to these credentials",
            "aws lambda get-account-settings, by somebody who may",
        )
        return
    total = int(limits["ConcurrentExecutions"])
    free = int(limits.get("UnreservedConcurrentExecutions", total))
    text = f"{total} concurrent executions in this region, {free} of them not reserved"
    if total <= _OF_NEW_ACCOUNTS:
        yield partial(
            f"{text}. New accounts have few; further electrons wait for their turn", _RAISE
        )
    else:
        yield ok(text)


def _date(metadata: Mapping[str, Any]) -> datetime | None:
    try:
        return parsedate_to_datetime(metadata["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return None
