"""The faults, what each must lead to, and why: the table of docs/reliability.md, as code.

A fault hits one call. `RESULT` means that the call has its right result all the same, and that its
code ran once, if the row does not say otherwise. Any other end is an error class, with how often
the code has run by then, and with the sentence that explains it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambda_calls import messages
from lambda_calls.aws import refusals
from lambda_calls.aws.refusals import Meaning
from lambda_calls.messages import Message

from . import toxics
from .toxics import Toxic

RESULT = "result"
MB = 1_000_000
NEVER, ONCE, TWICE = frozenset([0]), frozenset([1]), frozenset([2])


@dataclass(frozen=True)
class Fault:
    """One row.

    Args:
        name: what goes wrong.
        ends: how the call ends: `RESULT`, or classes of errors.
        ran: how often its code may have run.
        does: why, and what happens, in a sentence.
        caller: toxics on the caller's way.
        function: toxics on the function's own way to S3.
        limits: Lambda's, at the caller's door.
        terms: how the call is run.
        away: seconds from the beginning for which nothing listens.
        renews: whether credentials are renewed, and the old ones expire, once a call has begun.
        keeps: whether the bucket keeps what the call left there, for whoever looks for it.
        contained: whether the environment runs in a container with little memory and a small /tmp.
        takes: seconds for which it takes longer than others.
        calls: how many calls are made.
        by: messages of the catalogue, or words, one of which the error must say.
        ways: on which it is run; empty: on all.
        at_once: how many calls must have been under way at a time.
    """

    name: str
    ends: str | tuple[str, ...]
    ran: frozenset[int]
    does: str
    caller: Sequence[Toxic] = ()
    function: Sequence[Toxic] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, Any] = field(default_factory=dict)
    away: float = 0.0
    renews: bool = False
    keeps: bool = False
    contained: bool = False
    takes: float = 0.0
    calls: int = 1
    by: Sequence[Message | str] = ()
    ways: Sequence[str] = ()
    at_once: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.ends,) if isinstance(self.ends, str) else self.ends


def _invoke(kind: str, **more: Any) -> list[Toxic]:
    return [Toxic(kind, service="lambda", verb="POST", times=more.pop("times", 1), **more)]


def _s3(kind: str, verb: str, key: str, **more: Any) -> list[Toxic]:
    return [Toxic(kind, service="s3", verb=verb, key=key, times=more.pop("times", 1), **more)]


# Seconds of a `timeout` that a fault outlasts. Rows run side by side on a busy machine: a shorter
# one would end before it met its fault.
_SHORT = 12.0
_LARGE = {"data": bytes(5 * MB)}  # an argument that travels through S3
_LARGE_RESULT = {"size": 7 * MB}
_INLINE = {"data": bytes(3 * MB // 2)}  # an argument that travels in the request
_UNKNOWN = "OutcomeUnknownError"

_ASKED = (
    "The executor asks the function through the bucket whether it runs the call. The function "
    "does not confirm it, since the call has ended or never began. Only the log can tell which."
)
_WAITED = "The executor waits for the answer."
_ON_THE_WAY: tuple[Fault, ...] = (
    Fault(
        "Lambda's endpoint refuses connections for 2 s",
        RESULT,
        ONCE,
        "One call at a time tries again; the others wait for it.",
        away=2.0,
    ),
    Fault(
        "connection reset before the request is handled",
        _UNKNOWN,
        NEVER,
        _ASKED,
        _invoke(toxics.RESET_BEFORE),
        by=[messages.NOT_RUNNING],
    ),
    Fault(
        "connection reset while the call runs",
        RESULT,
        ONCE,
        "The executor asks through the bucket. The function says that the call runs, and leaves "
        "the answer there.",
        _invoke(toxics.RESET_DURING, amount=1.0),
        terms={"seconds": 5.0},
    ),
    Fault(
        "connection reset after a short call ran",
        _UNKNOWN,
        ONCE,
        _ASKED,
        _invoke(toxics.RESET_AFTER),
        by=[messages.NOT_RUNNING],
    ),
    Fault(
        "connection reset in the answer",
        _UNKNOWN,
        ONCE,
        _ASKED,
        _invoke(toxics.RESET_IN_RESPONSE),
        by=[messages.NOT_RUNNING],
    ),
    Fault(
        "answer cut off",
        _UNKNOWN,
        ONCE,
        _ASKED,
        _invoke(toxics.TRUNCATED),
        by=[messages.NOT_RUNNING],
    ),
    Fault(
        "request swallowed, no answer ever",
        _UNKNOWN,
        NEVER,
        "It looks like a call that takes long, until `timeout` and a minute have passed.",
        _invoke(toxics.BLACK_HOLE),
        terms={"timeout": _SHORT},
        by=[messages.UNKNOWN],
    ),
    Fault(
        "answer swallowed",
        _UNKNOWN,
        ONCE,
        "As above. The call ran, but its answer did not come.",
        _invoke(toxics.SILENT),
        terms={"timeout": _SHORT},
        by=[messages.UNKNOWN],
    ),
    Fault(
        "answer swallowed, of a call of 20 s or more",
        RESULT,
        ONCE,
        "Such a call leaves its answer in the bucket, where the executor looks for it after half "
        "a minute.",
        _invoke(toxics.SILENT),
        terms={"seconds": 20.5, "timeout": 40.0},
    ),
    Fault("a second of latency", RESULT, ONCE, _WAITED, _invoke(toxics.LATENCY, amount=1.0)),
    Fault("answer drips in", RESULT, ONCE, _WAITED, _invoke(toxics.DRIP, amount=2.0)),
    Fault(
        "1 MB a second for an answer of 3 MB",
        RESULT,
        ONCE,
        _WAITED,
        _invoke(toxics.LIMITED, amount=1.0 * MB),
        terms={"size": 2 * MB},
    ),
    Fault(
        "answer comes twice",
        RESULT,
        ONCE,
        "The second one is ignored, because an answer names its request.",
        _invoke(toxics.DUPLICATED),
    ),
    Fault(
        "a request is cut off in the middle",
        _UNKNOWN,
        NEVER,
        _ASKED,
        _invoke(toxics.TRUNCATED, direction=toxics.UP),
        by=[messages.NOT_RUNNING],
    ),
    Fault(
        "a request drips in",
        RESULT,
        ONCE,
        _WAITED,
        _invoke(toxics.DRIP, direction=toxics.UP, amount=2.0),
        terms=_INLINE,
    ),
    Fault(
        "1 MB a second for a request of 2 MB",
        RESULT,
        ONCE,
        _WAITED,
        _invoke(toxics.LIMITED, direction=toxics.UP, amount=1.0 * MB),
        terms=_INLINE,
    ),
    Fault(
        "connection reset before the request is handled, with `retries=1`",
        RESULT,
        ONCE,
        "The call is sent again.",
        _invoke(toxics.RESET_BEFORE),
        terms={"retries": 1},
    ),
    Fault(
        "connection reset after a short call ran, with `retries=1`",
        RESULT,
        TWICE,
        "The call is sent again, and runs again. Only `retries` allows that.",
        _invoke(toxics.RESET_AFTER),
        terms={"retries": 1},
    ),
)

_ENVIRONMENT_KILLED = "Lambda says that the environment was killed, so the call may have run."
_ENVIRONMENTS: tuple[Fault, ...] = (
    Fault(
        "environment killed before it has the event",
        "ResourceLimitError",
        NEVER,
        _ENVIRONMENT_KILLED,
        _invoke(toxics.KILLED_BEFORE),
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "environment killed while the call runs",
        "ResourceLimitError",
        ONCE,
        _ENVIRONMENT_KILLED,
        _invoke(toxics.KILLED_DURING, amount=2.0),
        terms={"seconds": 10.0},
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "environment killed while the call runs, with `retries=1`",
        RESULT,
        TWICE,
        "The call is sent again, and runs again in another environment.",
        _invoke(toxics.KILLED_DURING, amount=2.0),
        terms={"seconds": 4.0, "retries": 1},
    ),
    Fault(
        "environment killed before its answer leaves",
        "ResourceLimitError",
        ONCE,
        _ENVIRONMENT_KILLED,
        _invoke(toxics.KILLED_AFTER),
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "environment frozen for two minutes and thawed",
        RESULT,
        ONCE,
        "The executor waits, and the call goes on where it was.",
        _invoke(toxics.FROZEN, amount=120.0, after=1.0),
        terms={"seconds": 4.0, "timeout": 200.0},
        takes=120.0,
    ),
    Fault(
        "environment killed as it reads an argument",
        "ResourceLimitError",
        NEVER,
        _ENVIRONMENT_KILLED,
        function=_s3(toxics.KILLED_HERE, "GET", "/blobs/"),
        terms=_LARGE,
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "environment killed as it stores a result",
        "ResourceLimitError",
        ONCE,
        _ENVIRONMENT_KILLED,
        function=_s3(toxics.KILLED_HERE, "PUT", "/result"),
        terms=_LARGE_RESULT,
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "environment killed with its result in the bucket, before its answer leaves",
        "ResourceLimitError",
        ONCE,
        "As above; what it left in the bucket is deleted.",
        _invoke(toxics.KILLED_AFTER),
        terms=_LARGE_RESULT,
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "the code is still running at its `time_limit`",
        "ResourceLimitError",
        ONCE,
        "It is stopped, and the error says which limit it was.",
        terms={"seconds": 20.0, "arguments": {"time_limit": 2.0}},
        by=["time_limit"],
    ),
)

_DIED = "The error names the signal or the exit; the next call gets a new process."
_PROCESSES: tuple[Fault, ...] = (
    Fault(
        "the code's process is killed",
        "CallFailedError",
        ONCE,
        _DIED,
        terms={"harm": "kills its process"},
        by=["signal 9"],
    ),
    Fault(
        "the code's process is killed after the code, as its output is flushed",
        RESULT,
        ONCE,
        "The answer was there already.",
        terms={"harm": "kills its process in the end"},
    ),
    Fault(
        "the code ends its process",
        "CallFailedError",
        ONCE,
        _DIED,
        terms={"harm": "ends its process"},
        by=["os._exit"],
    ),
    Fault(
        "the code kills its fork server",
        "CallFailedError",
        ONCE,
        "The error says so; a new fork server is made.",
        terms={"harm": "kills its fork server"},
        by=["the process that had forked it"],
    ),
    Fault(
        "the code kills the handler",
        "ResourceLimitError",
        ONCE,
        _ENVIRONMENT_KILLED,
        terms={"harm": "kills the handler"},
        by=[messages.ENVIRONMENT_KILLED],
    ),
    Fault(
        "the code takes more memory than its container has",
        "ResourceLimitError",
        ONCE,
        "The kernel kills the code's process alone; the error says so, and the environment lives.",
        terms={"harm": "fills the memory"},
        contained=True,
        by=["ran out of memory"],
    ),
    Fault(
        "the code fills /tmp",
        ("CallFailedError", "OSError"),
        ONCE,
        "The code meets the system's own error; what it left is removed.",
        terms={"harm": "fills /tmp"},
        contained=True,
        by=["No space left on device"],
    ),
)

_LIMITS: tuple[Fault, ...] = (
    Fault(
        "a quota of 10 for 60 calls",
        RESULT,
        ONCE,
        "Refused calls wait for their turn, the oldest first.",
        limits={"concurrency": 10},
        terms={"seconds": 0.2},
        calls=60,
    ),
    Fault(
        "20 requests a second for 60 calls",
        RESULT,
        ONCE,
        "Requests are spaced until they are no longer refused.",
        limits={"rate": 20},
        calls=60,
    ),
    Fault(
        "environments that start slowly: 2, and 4 more each second",
        RESULT,
        ONCE,
        "Refused calls wait for their turn.",
        limits={"ramp": [2, 4.0]},
        terms={"seconds": 0.2},
        calls=40,
    ),
    Fault(
        "Lambda's own ramp, for 1,500 electrons at once: 1,000 environments, and 100 more each "
        "second",
        RESULT,
        ONCE,
        "1,000 are sent at once; the others wait for their turn. (The environments are counted, "
        "for 5 s each; the code then runs in one of 16.)",
        limits={"ramp": [1000, 100.0], "holds": 5.0},
        terms={"timeout": 120.0},
        calls=1500,
        takes=30.0,
        ways=("executor",),
        at_once=900,
    ),
    Fault(
        "a function that was asleep wakes up in 3 s",
        RESULT,
        ONCE,
        "Refused calls wait for their turn.",
        limits={"asleep": 3.0},
    ),
    Fault(
        "no call is let in at all",
        "ResourceLimitError",
        NEVER,
        "After `timeout` the error says what Lambda said, and that the call did not run.",
        limits={"concurrency": 0},
        terms={"timeout": _SHORT},
        by=[messages.THROTTLED],
    ),
    Fault(
        "arguments of more than 6 MB",
        RESULT,
        ONCE,
        "They travel through the bucket.",
        terms=_LARGE,
    ),
    Fault(
        "a result of more than 6 MB",
        RESULT,
        ONCE,
        "It travels through the bucket.",
        terms=_LARGE_RESULT,
    ),
)

_S3_FAILS: Mapping[str, Any] = {"status": 503, "code": "SlowDown"}
_NO_BUCKET: Mapping[str, Any] = {"status": 404, "code": "NoSuchBucket"}
_S3_BREAKS: Mapping[str, Any] = {"status": 500, "code": "InternalError"}
_AGAIN = "The executor tries again."
_STORED: tuple[Fault, ...] = (
    Fault(
        "S3 slows the upload of an argument down",
        RESULT,
        ONCE,
        _AGAIN,
        _s3(toxics.ANSWER, "PUT", "/blobs/", times=2, **_S3_FAILS),
        terms=_LARGE,
    ),
    Fault(
        "S3 fails as an argument is looked for",
        RESULT,
        ONCE,
        _AGAIN,
        _s3(toxics.ANSWER, "HEAD", "/blobs/", **_S3_BREAKS),
        terms=_LARGE,
    ),
    Fault(
        "connection reset as an argument is stored",
        RESULT,
        ONCE,
        _AGAIN,
        _s3(toxics.RESET_BEFORE, "PUT", "/blobs/"),
        terms=_LARGE,
    ),
    Fault(
        "an upload is cut off in the middle",
        RESULT,
        ONCE,
        _AGAIN,
        _s3(toxics.TRUNCATED, "PUT", "/blobs/", direction=toxics.UP),
        terms=_LARGE,
    ),
    Fault(
        "an upload is slow",
        RESULT,
        ONCE,
        "It has all of the call's `timeout`.",
        _s3(toxics.LIMITED, "PUT", "/blobs/", direction=toxics.UP, amount=2.0 * MB),
        terms=_LARGE,
    ),
    Fault(
        "an upload takes longer than `timeout`",
        "ResourceLimitError",
        NEVER,
        "The error says that the upload took all the time. Nothing is sent.",
        _s3(toxics.DRIP, "PUT", "/blobs/", direction=toxics.UP, times=None, amount=_SHORT + 3),
        terms={**_LARGE, "timeout": _SHORT},
        by=[messages.UPLOAD_TOO_SLOW],
    ),
    Fault(
        "the bucket may not be written",
        "ConfigurationError",
        NEVER,
        "The error names the action and the policy that allows it.",
        _s3(toxics.ANSWER, "PUT", "/blobs/", times=None, status=403, code="AccessDenied"),
        terms=_LARGE,
        by=["ExecutorPolicyArn"],
    ),
    Fault(
        "the bucket is deleted before an argument is stored",
        "ConfigurationError",
        NEVER,
        "The error names the bucket and says how to make it.",
        _s3(toxics.ANSWER, "", "", times=None, **_NO_BUCKET),
        terms=_LARGE,
        by=[messages.NO_BUCKET],
    ),
    Fault(
        "the bucket is deleted before a result is fetched",
        "ResultUnreadError",
        ONCE,
        "The error says where the result was, and that there is no such bucket.",
        _s3(toxics.ANSWER, "", "", times=None, **_NO_BUCKET),
        terms=_LARGE_RESULT,
        keeps=True,
        by=["no S3 bucket"],
    ),
    Fault(
        "S3 takes an argument and does not answer, once",
        RESULT,
        ONCE,
        "The executor tries again after half a minute.",
        _s3(toxics.BLACK_HOLE, "PUT", "/blobs/"),
        terms=_LARGE,
    ),
    Fault(
        "S3 takes an argument and never answers",
        "ResourceLimitError",
        NEVER,
        "The error says that the upload took all the time. Nothing is sent.",
        _s3(toxics.BLACK_HOLE, "PUT", "/blobs/", times=None),
        terms={**_LARGE, "timeout": _SHORT},
        by=[messages.UPLOAD_TOO_SLOW],
    ),
    Fault(
        "S3 is asked for a result and does not answer, once",
        RESULT,
        ONCE,
        "The executor tries again after half a minute.",
        _s3(toxics.BLACK_HOLE, "GET", "/result"),
        terms=_LARGE_RESULT,
    ),
    Fault(
        "connection reset as a result is fetched",
        RESULT,
        ONCE,
        _AGAIN,
        _s3(toxics.RESET_IN_RESPONSE, "GET", "/result"),
        terms=_LARGE_RESULT,
    ),
    Fault(
        "a result is cut off",
        RESULT,
        ONCE,
        _AGAIN,
        _s3(toxics.TRUNCATED, "GET", "/result"),
        terms=_LARGE_RESULT,
    ),
    Fault(
        "a result is damaged on its way",
        RESULT,
        ONCE,
        "Its digest shows this before anything is unpickled. The result is fetched again.",
        _s3(toxics.CORRUPTED, "GET", "/result"),
        terms=_LARGE_RESULT,
    ),
    Fault(
        "a result is missing for a moment",
        RESULT,
        ONCE,
        "The executor tries again, three times.",
        _s3(toxics.ANSWER, "GET", "/result", status=404, code="NoSuchKey"),
        terms=_LARGE_RESULT,
    ),
    Fault(
        "a result was changed in the bucket",
        "LambdaCallError",
        ONCE,
        "Its digest shows this each time; nothing of it is unpickled.",
        _s3(toxics.CORRUPTED, "GET", "/result", times=None),
        terms=_LARGE_RESULT,
        by=[messages.RESULT_TAMPERED],
    ),
    Fault(
        "a result was deleted",
        "ResultUnreadError",
        ONCE,
        "The error says where it was.",
        _s3(toxics.VANISHED, "GET", "/result"),
        terms=_LARGE_RESULT,
        keeps=True,
        by=[messages.RESULT_UNREAD],
    ),
)

_FUNCTIONS: tuple[Fault, ...] = (
    Fault(
        "an argument expired before the function read it",
        RESULT,
        ONCE,
        "The function says so before anything runs. The argument is stored again.",
        function=_s3(toxics.VANISHED, "GET", "/blobs/"),
        terms=_LARGE,
    ),
    Fault(
        "an argument is missing for a moment",
        RESULT,
        ONCE,
        "The function says so before anything runs. The argument is stored again, and the call is "
        "sent again.",
        function=_s3(toxics.ANSWER, "GET", "/blobs/", status=404, code="NoSuchKey"),
        terms=_LARGE,
    ),
    Fault(
        "an argument is damaged on its way",
        RESULT,
        ONCE,
        "Its digest shows this before anything is unpickled. The argument is stored again, and "
        "the call is sent again.",
        function=_s3(toxics.CORRUPTED, "GET", "/blobs/"),
        terms=_LARGE,
    ),
    Fault(
        "an argument was changed in the bucket, each time",
        "CallRejectedError",
        NEVER,
        "Its digest shows this; nothing of it is unpickled.",
        function=_s3(toxics.CORRUPTED, "GET", "/blobs/", times=None),
        terms=_LARGE,
        by=["has the sha256"],
    ),
    Fault(
        "S3 slows the function's reads down",
        RESULT,
        ONCE,
        "The function tries again, three times; then the executor sends the call again.",
        function=_s3(toxics.ANSWER, "GET", "/blobs/", times=4, **_S3_FAILS),
        terms=_LARGE,
    ),
    Fault(
        "S3 slows the function's reads down for longer than `timeout`",
        "UnreachableError",
        NEVER,
        "The error says what S3 said, and that the call did not run.",
        function=_s3(toxics.ANSWER, "GET", "/blobs/", times=None, **_S3_FAILS),
        terms={**_LARGE, "timeout": _SHORT},
        by=[messages.STORAGE_BUSY],
    ),
    Fault(
        "S3 slows the upload of a result down",
        RESULT,
        ONCE,
        "The function tries again, three times.",
        function=_s3(toxics.ANSWER, "PUT", "/result", times=2, **_S3_FAILS),
        terms=_LARGE_RESULT,
    ),
    Fault(
        "a result cannot be stored",
        "CallFailedError",
        ONCE,
        "The error says that the code ran, and what S3 said.",
        function=_s3(toxics.ANSWER, "", "/result", times=None, **_S3_BREAKS),
        terms=_LARGE_RESULT,
        by=["could not be stored"],
    ),
    Fault(
        "the bucket is deleted before a result is stored",
        "CallFailedError",
        ONCE,
        "The error says that the code ran, and names the bucket.",
        function=_s3(toxics.ANSWER, "", "/result", times=None, **_NO_BUCKET),
        terms=_LARGE_RESULT,
        by=["could not be stored"],
    ),
    Fault(
        "S3 fails as the function looks for orders",
        RESULT,
        ONCE,
        "The function looks again later; the call does not notice.",
        function=_s3(toxics.ANSWER, "GET", "/order", times=None, **_S3_BREAKS),
        terms={"seconds": 4.0},
    ),
)

_HOUR = 3600.0
# The date of AWS's answer has whole seconds, and the answer takes some to be read.
_BY_AN_HOUR = [f" by {seconds} s, {{way}} of AWS's" for seconds in range(3595, 3606)]
_WHO: tuple[Fault, ...] = (
    Fault(
        "credentials have expired",
        ("ConfigurationError", "CredentialsError"),
        NEVER,
        "They are read again once. Then the error says which they are, and how to renew them.",
        _invoke(toxics.ANSWER, times=None, status=403, code="ExpiredTokenException"),
        by=["Renew them"],
    ),
    Fault(
        "credentials are renewed, and the old ones expire, while calls run",
        RESULT,
        ONCE,
        "They are read again at the first refusal.",
        limits={"concurrency": 2},
        terms={"seconds": 0.5},
        renews=True,
        calls=12,
    ),
    *(
        Fault(
            f"this machine's clock is an hour {way}{where}",
            "ConfigurationError",
            NEVER,
            f"{what} refuses the request for the time in its signature, as AWS does. The error "
            "says by how much the clock is off, computed from the date of the answer.",
            limits={"clock": ahead},
            terms=terms,
            by=[x.format(way=way) for x in _BY_AN_HOUR],
        )
        for way, ahead in (("behind", _HOUR), ("ahead", -_HOUR))
        for what, where, terms in (("Lambda", "", {}), ("S3", ", as S3 sees it", _LARGE))
    ),
)

_ODD: tuple[Fault, ...] = tuple(
    Fault(
        f"not Lambda answers: {name}",
        ends,
        NEVER,
        does,
        _invoke(
            toxics.ANSWER, status=status, said={"raw": raw}, headers={"Content-Type": "text/html"}
        ),
        by=[by],
    )
    for name, status, raw, ends, by, does in (
        (
            "502, with a page",
            502,
            "<html>Bad Gateway</html>",
            _UNKNOWN,
            messages.NOT_RUNNING,
            _ASKED,
        ),
        ("500, with a list", 500, "[1, 2]", _UNKNOWN, messages.NOT_RUNNING, _ASKED),
        (
            "200, with a page",
            200,
            "<html>Welcome to the hotel</html>",
            "CannotAnswerError",
            messages.NOT_UNDERSTOOD,
            "The answer is not an envelope. The error shows it; it is not used.",
        ),
        (
            "200, with deeply nested JSON",
            200,
            "[" * 200_000,
            "CannotAnswerError",
            messages.NOT_UNDERSTOOD,
            "As above.",
        ),
        (
            "200, with the answer to another request",
            200,
            '{"covalent_lambda": 2, "python": "3.11.7", "cloudpickle": "3", "result": "Tg==", '
            '"text": "None", "task_id": "another"}',
            "CannotAnswerError",
            messages.NOT_OURS,
            "The answer is refused, because an answer names its request.",
        ),
        (
            "302, to somewhere else",
            302,
            "",
            "LambdaCallError",
            messages.REFUSED,
            "A redirection is not followed, because the signature is only for Lambda.",
        ),
    )
)

_MEANS: Mapping[Meaning, tuple[str, frozenset[int], Message | None, str]] = {
    Meaning.TOO_MANY: (RESULT, ONCE, None, "The call waits for its turn."),
    Meaning.TOO_FAST: (RESULT, ONCE, None, "The call waits for its turn; requests are spaced."),
    Meaning.NOT_READY: (RESULT, ONCE, None, "The call waits for its turn."),
    Meaning.MAY_HAVE_RUN: (_UNKNOWN, NEVER, messages.NOT_RUNNING, _ASKED),
    Meaning.NO_FUNCTION: (
        "ConfigurationError",
        NEVER,
        messages.NO_FUNCTION,
        "The error names the function and the region.",
    ),
    Meaning.TOO_LARGE: (
        "ResourceLimitError",
        NEVER,
        messages.REQUEST_TOO_LARGE,
        "The error says that it is too large.",
    ),
    Meaning.FINAL: (
        "LambdaCallError",
        NEVER,
        messages.REFUSED,
        "The error repeats what Lambda said.",
    ),
    **{
        x: (
            "ConfigurationError",
            NEVER,
            messages.FUNCTION_UNUSABLE,
            "The error says what to correct in the stack.",
        )
        for x in (Meaning.KEY, Meaning.NETWORK, Meaning.FILES, Meaning.CODE)
    },
}


def _of_the_model() -> Iterator[Fault]:
    """A row for each error that Invoke may answer, as botocore's model lists them."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("lambda").operation_model("Invoke")
    for shape in model.error_shapes:
        status = shape.metadata.get("error", {}).get("httpStatusCode", 500)
        ends, ran, message, does = _MEANS[refusals.INVOKE[shape.name]]
        answers = _invoke(toxics.ANSWER, status=status, code=shape.name)
        name = f"Invoke answers {shape.name}"
        yield Fault(name, ends, ran, does, answers, by=[message] if message else ())


PARTS: Mapping[str, Sequence[Fault]] = {
    "On the way to Lambda and back": _ON_THE_WAY,
    "The function's environment": _ENVIRONMENTS,
    "The code's own process": _PROCESSES,
    "Lambda's limits": _LIMITS,
    "S3, on the caller's way": _STORED,
    "S3, on the function's way": _FUNCTIONS,
    "Credentials and clocks": _WHO,
    "Answers that are not Lambda's": _ODD,
    "Errors of Invoke": tuple(_of_the_model()),
}
