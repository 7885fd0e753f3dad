"""The core's errors as Covalent's, and what helps an electron's author.

All of them are Covalent's `TaskRuntimeError`: only then does Covalent keep the electron's stdout
and stderr, and the message reaches the UI through the latter. Each also is the core's own class,
so that either name catches it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from covalent._shared_files.exceptions import TaskRuntimeError
from lambda_calls import errors as core

if TYPE_CHECKING:
    from lambda_calls.messages import Advice


class AWSLambdaExecutorError(core.LambdaCallError, TaskRuntimeError):
    """Base of everything that the executor raises about an electron or its settings."""


class ConfigurationError(AWSLambdaExecutorError, core.ConfigurationError):
    """Names, region, credentials or permissions are wrong: correct the set-up, then run again."""


class TaskRejectedError(AWSLambdaExecutorError, core.CallRejectedError):
    """Nothing of the electron ran: versions differ, a module is missing, a blob is damaged."""


class TaskFailedError(AWSLambdaExecutorError, core.CallFailedError):
    """The electron's own code failed: it raised, exited, or returned what cannot be pickled."""


class ResourceLimitError(AWSLambdaExecutorError, core.ResourceLimitError):
    """Memory, time or payload ran out, or throttling lasted too long: raise the limit."""


class UnreachableError(AWSLambdaExecutorError, core.UnreachableError):
    """AWS could not be reached: look at the network, then run again."""


class OutcomeUnknownError(AWSLambdaExecutorError, core.OutcomeUnknownError):
    """The electron may have run, but no answer came: check its effects before running it again."""


class ResultUnreadError(AWSLambdaExecutorError, core.ResultUnreadError):
    """The electron ran, and its result is kept in the bucket, but it could not be fetched."""


class CannotAnswerError(AWSLambdaExecutorError, core.CannotAnswerError):
    """The function does not speak the executor's protocol, or its environment ended abnormally."""


_COVALENTS: Mapping[type[core.LambdaCallError], type[AWSLambdaExecutorError]] = MappingProxyType(
    {
        core.LambdaCallError: AWSLambdaExecutorError,
        core.ConfigurationError: ConfigurationError,
        core.CredentialsError: ConfigurationError,
        core.CallRejectedError: TaskRejectedError,
        core.InitializerFailedError: TaskRejectedError,
        core.CallFailedError: TaskFailedError,
        core.ResourceLimitError: ResourceLimitError,
        core.UnreachableError: UnreachableError,
        core.OutcomeUnknownError: OutcomeUnknownError,
        core.ResultUnreadError: ResultUnreadError,
        core.CannotAnswerError: CannotAnswerError,
    }
)


def advice(option: str = "", add_package: str = "") -> "Advice":
    """What helps where electrons are written.

    Args:
        option: what `sam deploy` needs beside, to deploy the function.
        add_package: how a package gets into it, where that differs from any project's.
    """
    from lambda_calls.messages import Advice

    return Advice(
        option=option,
        add_package=add_package,
        or_else=(
            ", or give the electron deps_pip=ct.DepsPip(packages=[...]), which installs it in the "
            "function"
        ),
        carry=(
            'With executor="awslambda", a text, nothing travels: write '
            "executor=AWSLambdaExecutor()."
        ),
    )


def as_covalents(error: core.LambdaCallError) -> AWSLambdaExecutorError:
    """The same error, as one that Covalent knows how to keep."""
    if isinstance(error, AWSLambdaExecutorError):
        return error
    kind = _COVALENTS[type(error)]
    made = kind(error.message, hint=error.hint, type=error.type, traceback=error.traceback)
    made.__cause__ = error.__cause__
    return made
