"""Clients of AWS's that give up soon, and what AWS refuses as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lambda_calls import messages
from lambda_calls.aws import refusals
from lambda_calls.aws.clients import Account, Clients

from .errors import CommandError

_CONNECT, _READ = 5, 20  # seconds


def client(account: Account, service: str, *, read_timeout: float = _READ) -> Any:
    """A client for somebody who waits.

    Args:
        account: whose credentials, and where.
        service: its name, as boto3 has it.
        read_timeout: seconds for an answer.

    Raises:
        LambdaCallError: if there is no such profile.
    """
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT,
        read_timeout=read_timeout,
        retries={"total_max_attempts": 2},
    )
    endpoint = account.endpoint_url if service == "lambda" else ""
    session = Clients().session(account)
    return session.client(service, endpoint_url=endpoint or None, config=config)


@contextmanager
def refusals_worded(what: str, action: str) -> Iterator[None]:
    """Say what AWS refuses, and which permission it would take.

    Args:
        what: the resource that is asked for.
        action: the permission, as IAM calls it.

    Raises:
        CommandError: if AWS refuses.
        LambdaCallError: if there are no credentials, or no answer comes.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        said = refusals.said(error)
        if is_denied(error):
            raise CommandError(
                f"{action} on {what} is not allowed: {said}. Grant it to whoever runs this; the "
                "executor itself does not need it."
            ) from error
        raise CommandError(f"{what}: {said}") from error
    except BotoCoreError as error:
        raise messages.not_signed(error, "") from error


def is_denied(error: Any) -> bool:
    """Whether a ClientError says that a permission is missing."""
    return refusals.common(error) is refusals.Meaning.DENIED or refusals.status(error) == 403
