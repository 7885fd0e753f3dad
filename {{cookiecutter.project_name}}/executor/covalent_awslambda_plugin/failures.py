"""The sentence for each way in which an electron can fail.

Each says what happened to which function, the likely cause, and what to do next.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from lambda_calls import wire

from .errors import (
    AWSLambdaExecutorError,
    CannotAnswerError,
    OutcomeUnknownError,
    ResourceLimitError,
    TaskFailedError,
    TaskRejectedError,
)
from .transport import Reply

_ADD_MODULE = (
    "The function's image lacks the module {name!r}: add the package that provides it to "
    "function/requirements.txt and run `sam build && sam deploy`. (Or give the electron "
    "deps_pip=ct.DepsPip(packages=[...]), which installs it on each run. A file of your own "
    "travels with the electron after cloudpickle.register_pickle_by_value({name}) in your script.)"
)
_PIP_FAILED = (
    "pip, run inside the function by DepsPip or by the electron itself, could not install these "
    "packages; what it said is above. Check their names and versions. In a VPC it needs a way to "
    "the package index."
)


def of_response(
    failure: wire.Failure, usage: wire.Usage, function: str, limits: Mapping[str, float]
) -> AWSLambdaExecutorError:
    """The error for a failure that the function itself reported.

    Args:
        limits: the executor's own limits in seconds, by the name of their argument.
    """
    if failure.kind == wire.DEADLINE:
        kind: type[AWSLambdaExecutorError] = ResourceLimitError
        message = _stopped(usage, function, limits)
    else:
        kind, message = _worded(failure)
    return kind(
        message, hint=_hint(failure, usage), type=failure.type, traceback=failure.traceback
    )


def _worded(failure: wire.Failure) -> tuple[type[AWSLambdaExecutorError], str]:
    if failure.kind in wire.DID_NOT_RUN:
        return TaskRejectedError, failure.message
    if failure.kind == wire.EXCEPTION:
        message = f"{failure.type}: {failure.message}" if failure.message else failure.type
        return TaskFailedError, message
    if failure.kind == wire.EXIT:
        return TaskFailedError, (
            f"{failure.message} An electron ends by returning; raise an exception to make it fail."
        )
    if failure.kind == wire.UNPICKLABLE:
        return TaskFailedError, (
            f"The electron ran, but its return value cannot be pickled: {failure.type}: "
            f"{failure.message}. Return plain data instead of generators, locks, open files or "
            "connections."
        )
    return TaskFailedError, failure.message


def _stopped(usage: wire.Usage, function: str, limits: Mapping[str, float]) -> str:
    """Name the limit that was reached: the executor's, or else the function's."""
    stopped = f"The electron was stopped after {usage.duration:.1f} s in function {function}"
    name, seconds = min(limits.items(), key=lambda limit: limit[1])
    if usage.duration >= seconds - 0.5:
        return (
            f"{stopped}: it reached the executor's {name}={seconds:g}. Raise that, or split the "
            "electron."
        )
    return (
        f"{stopped}: it reached the function's own Timeout, less the seconds needed to answer. "
        "Raise Timeout in samconfig.toml (Lambda allows 900 s) and run `sam deploy`, or split "
        "the electron."
    )


def _hint(failure: wire.Failure, usage: wire.Usage) -> str:
    missing = re.search(r"No module named '([^']+)'", failure.message)
    if missing and failure.type == "ModuleNotFoundError":
        return _ADD_MODULE.format(name=missing[1].partition(".")[0])
    if failure.type == "subprocess.CalledProcessError" and "'pip', 'install'" in failure.message:
        return _PIP_FAILED
    if failure.type == "MemoryError":
        return _more_memory(usage.memory_mb)
    return ""


def _more_memory(memory_mb: int) -> str:
    return (
        f"The function has {memory_mb} MB: raise MemorySize in samconfig.toml (Lambda allows "
        "10240) and run `sam deploy`."
    )


def _killed(reply: Reply, function: str, log: str) -> AWSLambdaExecutorError:
    used = re.search(r"Memory Size: (\d+) MB\s+Max Memory Used: (\d+) MB", reply.log_tail)
    much = f" (it had used {used[2]} of {used[1]} MB)" if used else ""
    return ResourceLimitError(
        f"The process of function {function} was killed{much}: almost always because it ran out "
        "of memory. Raise MemorySize in samconfig.toml (Lambda allows 10240) and run "
        f"`sam deploy`.{log}"
    )


def of_crash(reply: Reply, function: str) -> AWSLambdaExecutorError:
    """The error for an invocation that ended without an answer of the handler's.

    The texts are those of Lambda's own runtime:
    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
    """
    answer = _as_dict(reply.payload)
    kind, message = str(answer.get("errorType", "")), str(answer.get("errorMessage", ""))
    log = f"\nThe end of its log:\n{reply.log_tail}" if reply.log_tail else ""
    if "Task timed out after" in message or kind == "Sandbox.Timedout" or not reply.payload:
        took = re.search(r"timed out after ([\d.]+) seconds", message)
        return ResourceLimitError(
            f"Function {function} ran into its own Timeout"
            f"{f' of {took[1]} s' if took else ''} and could not answer any more. Raise Timeout "
            f"in samconfig.toml and run `sam deploy`, or split the electron.{log}"
        )
    if wire.KILLED_MARK in reply.log_tail:
        return ResourceLimitError(
            f"The electron was stopped in function {function} (timeout=, time_limit=, the "
            "function's own Timeout, or cancelled). It did not let itself be interrupted, so its "
            f"process was killed, and what it had printed is in the function's log only.{log}"
        )
    if kind == "Runtime.OutOfMemory" or "signal: killed" in message:
        return _killed(reply, function, log)
    if "Runtime exited" in message or "process died" in message:
        return TaskFailedError(
            f"The electron ended the process of function {function} (os._exit, a fatal signal or "
            f"a crash in a C extension): {message}{log}",
            type=kind,
        )
    if kind.endswith(("ResponseSizeTooLarge", "RequestEntityTooLarge")):
        return ResourceLimitError(
            f"The answer of function {function} is larger than Lambda's 6 MB: {message}{log}"
        )
    return CannotAnswerError(
        f"Function {function} failed before it could answer: {kind or 'no type'}: "
        f"{message or repr(reply.payload[:500])}. Is it built from this project (sam build && sam "
        f"deploy), with its own app.py and entry point?{log}"
    )


def of_answer(payload: bytes, function: str, error: Exception) -> AWSLambdaExecutorError:
    """The error for an answer that is no envelope."""
    return CannotAnswerError(
        f"Function {function} answered what the executor does not understand ({error}): "
        f"{payload[:200]!r}. The electron may have run. Is it built from this project, at the "
        "same version as the executor? (sam build && sam deploy; pip install ./executor)"
    )


def throttled(function: str, seconds: float, cause: Exception) -> AWSLambdaExecutorError:
    """The error for an electron that never got a turn."""
    return ResourceLimitError(
        f"Function {function} stayed throttled for {seconds:.0f} s, the executor's timeout=; the "
        f"electron did not run. The last refusal was {cause}. Raise timeout=, the function's "
        "reserved concurrency or the account's concurrency quota."
    )


def unreachable(function: str, cause: Exception) -> AWSLambdaExecutorError:
    """The error for an endpoint that never accepted a connection."""
    return AWSLambdaExecutorError(
        f"Lambda's endpoint for function {function} cannot be reached: {cause}. The electron did "
        "not run. Check the network, region= and endpoint_url= (AWS_ENDPOINT_URL)."
    )


def unknown(function: str, seconds: float, cause: Exception | str) -> AWSLambdaExecutorError:
    """The error for an invocation whose answer never came."""
    return OutcomeUnknownError(
        f"The electron was sent to function {function}, and no answer came within {seconds:.0f} s "
        f"({cause}). It may have run: look at the function's log before you run it again. With "
        "retries=1 the executor would."
    )


def _as_dict(payload: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(payload)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
