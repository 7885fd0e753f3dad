"""Runs pickled calls on an AWS Lambda function; knows no Covalent.

from lambda_calls import LambdaPoolExecutor, fan_out
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import CallCancelled as CallCancelled
    from .errors import CallFailedError as CallFailedError
    from .errors import CallRejectedError as CallRejectedError
    from .errors import CannotAnswerError as CannotAnswerError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import InitializerFailedError as InitializerFailedError
    from .errors import LambdaCallError as LambdaCallError
    from .errors import OutcomeUnknownError as OutcomeUnknownError
    from .errors import ResourceLimitError as ResourceLimitError
    from .errors import ResultUnreadError as ResultUnreadError
    from .errors import UnreachableError as UnreachableError
    from .marked import fan_out as fan_out
    from .pool import LambdaPoolExecutor as LambdaPoolExecutor
    from .pool import RemoteTraceback as RemoteTraceback

_HOME = MappingProxyType(
    {
        "CallCancelled": "errors",
        "CallFailedError": "errors",
        "CallRejectedError": "errors",
        "CannotAnswerError": "errors",
        "ConfigurationError": "errors",
        "InitializerFailedError": "errors",
        "LambdaCallError": "errors",
        "LambdaPoolExecutor": "pool",
        "OutcomeUnknownError": "errors",
        "RemoteTraceback": "pool",
        "ResourceLimitError": "errors",
        "ResultUnreadError": "errors",
        "UnreachableError": "errors",
        "fan_out": "marked",
    }
)
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # On use only: importing this package costs next to nothing.
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
