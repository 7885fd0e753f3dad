"""Covalent executor for AWS Lambda.

from covalent.executor import AWSLambdaExecutor

@ct.electron(executor=AWSLambdaExecutor())
def task(x): ...
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_calls.marked import fan_out as fan_out
    from lambda_calls.pool import LambdaPoolExecutor as LambdaPoolExecutor

    from .awslambda import AWSLambdaExecutor as AWSLambdaExecutor
    from .errors import AWSLambdaExecutorError as AWSLambdaExecutorError
    from .errors import CannotAnswerError as CannotAnswerError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import OutcomeUnknownError as OutcomeUnknownError
    from .errors import ResourceLimitError as ResourceLimitError
    from .errors import ResultUnreadError as ResultUnreadError
    from .errors import TaskFailedError as TaskFailedError
    from .errors import TaskRejectedError as TaskRejectedError
    from .errors import UnreachableError as UnreachableError

try:
    # Covalent loads the plugin while it is itself being imported. Were one of our modules to
    # come first, Covalent would meet it half initialized and not register the executor.
    import covalent  # noqa: F401
except Exception:
    pass  # whoever needs Covalent meets the error again; the command line words it

_HOME = MappingProxyType(
    {
        "AWSLambdaExecutor": ".awslambda",
        "AWSLambdaExecutorError": ".errors",
        "CannotAnswerError": ".errors",
        "ConfigurationError": ".errors",
        "OutcomeUnknownError": ".errors",
        "ResourceLimitError": ".errors",
        "ResultUnreadError": ".errors",
        "TaskFailedError": ".errors",
        "TaskRejectedError": ".errors",
        "UnreachableError": ".errors",
        "LambdaPoolExecutor": "lambda_calls.pool",
        "fan_out": "lambda_calls.marked",
    }
)
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    # On use only: when Covalent loads this package, it is not ready for all of it yet.
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
