"""How many calls Lambda lets run at a time: the account's quota, or what a function has reserved.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
"""

import logging
from collections.abc import Callable
from typing import Any

from . import refusals
from .clients import Account, Clients

_log = logging.getLogger(__name__)


def concurrency(clients: Clients, account: Account, function: str) -> int | None:
    """Calls of a function that may run at a time, as far as Lambda tells; it blocks.

    What is reserved for the function is exactly what it gets. Others share what nobody reserved;
    where it cannot be told whether the function has reserved any, the whole quota is the bound.

    Args:
        clients: of the process.
        account: whose quota.
        function: its name or ARN.

    Returns:
        None where nothing can be told: these credentials may not ask, the function may be another
        account's, or the endpoint is not AWS's.
    """
    try:
        api = clients.client(account, "lambda")
    except Exception:  # the call itself says what is wrong with it
        return None
    reserved = _answer(api.get_function_concurrency, FunctionName=function)
    if reserved is None and function.startswith("arn:"):
        return None
    if reserved:
        allowed = reserved.get("ReservedConcurrentExecutions")
    else:
        limits = (_answer(api.get_account_settings) or {}).get("AccountLimit", {})
        name = "ConcurrentExecutions" if reserved is None else "UnreservedConcurrentExecutions"
        allowed = limits.get(name)
    return allowed if isinstance(allowed, int) else None


def _answer(ask: Callable[..., dict[str, Any]], **arguments: str) -> dict[str, Any] | None:
    """What Lambda says, less what HTTP does; None if it does not, for whatever reason."""
    from botocore.exceptions import ClientError

    try:
        answer = ask(**arguments)
    except Exception as error:
        # Not all of its words: some repeat the request with its token.
        words = refusals.said(error) if isinstance(error, ClientError) else type(error).__name__
        _log.debug("Lambda does not tell what it allows: %s", words)
        return None
    answer.pop("ResponseMetadata", None)
    return answer
