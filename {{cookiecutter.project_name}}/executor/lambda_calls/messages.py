"""Every sentence about a call that has no result, in one place.

Each says what happened to what, the likely cause, and what to do next. `ALL` is also the table of
failures in docs/executor.md, which a test compares.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import wire
from .aws import refusals
from .errors import (
    CallFailedError,
    CallRejectedError,
    CannotAnswerError,
    ConfigurationError,
    CredentialsError,
    InitializerFailedError,
    LambdaCallError,
    OutcomeUnknownError,
    ResourceLimitError,
    ResultUnreadError,
    UnreachableError,
)


@dataclass(frozen=True)
class Message:
    """A way to fail.

    Args:
        situation: what happened, in a few words.
        error: the class of what is raised.
        text: the sentence, with the fields that a call of it fills.
    """

    situation: str
    error: type[LambdaCallError]
    text: str

    def __call__(
        self, *, hint: str = "", type: str = "", traceback: str = "", **values: Any
    ) -> LambdaCallError:
        """The error, ready to be raised.

        Args:
            hint: the next step, where it is not in the sentence.
            type, traceback: of what the call raised.
            values: what the sentence asks for; `option` is what `sam deploy` needs to deploy this
                function, such as ` --config-env prod`.
        """
        message = self.text.format(**values)
        return self.error(message, hint=hint, type=type, traceback=traceback)

    def row(self) -> tuple[str, str, str]:
        """Situation, class and sentence, as an electron's user meets them; … where values come."""
        situation, text = (
            x.replace("{call}", "electron").replace("{option}", "")
            for x in (self.situation, self.text)
        )
        return situation, self.error.__name__, re.sub(r"\{[^}]*\}", "…", text)


@dataclass(frozen=True)
class Advice:
    """What helps where the caller of a call is.

    Args:
        option: what `sam deploy` needs beside, to deploy this function (` --config-env prod`).
        add_package: how a package gets into this function; empty: as into any project's.
        or_else: another way to get a package there (`, or …`); empty: there is none.
        carry: what to know beside of a module that should travel; empty: nothing.
    """

    option: str = ""
    add_package: str = ""
    or_else: str = ""
    carry: str = ""


# -- the call's own code -------------------------------------------------------------------------

EXCEPTION = Message("the {call} raises", CallFailedError, "{said}")
ITEM_FAILED = Message(
    "an item of a fan-out {call} fails",
    CallFailedError,
    "Item {number} of {count} failed (counted from 0), so the others were stopped: {said}",
)
FAN_OUT_HOOKS = Message(
    "a fan-out {call} has hooks to run after it",
    ConfigurationError,
    "The {call} fans out, and has call_after or files to transfer back: there is no one place "
    "where they could run after its items. Put them on an {call} that takes its list.",
)
EXIT = Message(
    "the {call} calls `sys.exit()`",
    CallFailedError,
    "{said} The {call} ends by returning; raise an exception to make it fail.",
)
UNPICKLABLE = Message(
    "its return value cannot be pickled",
    CallFailedError,
    "The {call} ran, but its return value cannot be pickled: {said}. Return plain data instead "
    "of generators, locks, open files or connections.",
)
CRASHED = Message(
    "its process ends (`os._exit`, a signal, a crash in a C extension)", CallFailedError, "{said}"
)
RESULT_LOST = Message("its result cannot be stored", CallFailedError, "{said}")
OUT_OF_MEMORY = Message(
    "out of memory",
    ResourceLimitError,
    "{said} Raise MemorySize in samconfig.toml (Lambda allows 10240) and run `sam "
    "deploy{option}`.",
)
REJECTED = Message(
    "another Python, a missing or changed blob, a module that the image lacks",
    CallRejectedError,
    "{said}",
)

# -- time, memory, size --------------------------------------------------------------------------

OWN_LIMIT = Message(
    "the executor's `timeout` or `time_limit`",
    ResourceLimitError,
    "The {call} was stopped after {seconds:.1f} s in function {function}: it reached the "
    "executor's {name}={limit:g}{waited}. Raise that, or split the {call}.",
)
FUNCTION_TIMEOUT = Message(
    "the function's own Timeout",
    ResourceLimitError,
    "The {call} was stopped after {seconds:.1f} s in function {function}: it reached the "
    "function's own Timeout, less the seconds needed to answer. Raise Timeout in samconfig.toml "
    "(Lambda allows 900 s) and run `sam deploy{option}`, or split the {call}.",
)
LAMBDA_TIMEOUT = Message(
    "the function's own Timeout, with no time left to answer",
    ResourceLimitError,
    "Function {function} ran into its own Timeout{took} and could not answer any more. Raise "
    "Timeout in samconfig.toml and run `sam deploy{option}`, or split the {call}.{log}",
)
ENVIRONMENT_KILLED = Message(
    "Lambda kills the function's environment",
    ResourceLimitError,
    "The environment of function {function} was killed{used}: almost always because it ran out "
    "of memory. Raise MemorySize in samconfig.toml (Lambda allows 10240) and run `sam "
    "deploy{option}`.{log}",
)
ANSWER_TOO_LARGE = Message(
    "an answer larger than Lambda lets through",
    ResourceLimitError,
    "The answer of function {function} is larger than Lambda's 6 MB: {said}{log}",
)
REQUEST_TOO_LARGE = Message(
    "a request larger than Lambda takes",
    ResourceLimitError,
    "Lambda refuses the request as too large for {function}: {said}",
)
THROTTLED = Message(
    "throttled for longer than `timeout`",
    ResourceLimitError,
    "Function {function} took no further calls for {seconds:.0f} s, the executor's timeout=; "
    "the {call} did not run. The last refusal was {said}. Raise timeout=, the function's "
    "reserved concurrency or the account's concurrency quota (new accounts have 10 or 50).",
)
NOT_NOW = Message(
    "a request that is made only once (`submit_task`) is throttled",
    ResourceLimitError,
    "Function {function} takes no call for now, and nothing ran: {said}. Send it again later.",
)
UPLOAD_TOO_SLOW = Message(
    "large arguments not stored within `timeout`",
    ResourceLimitError,
    "The {call} was not sent: its large arguments were not stored in bucket {bucket} within the "
    "executor's timeout={seconds:g}. Raise timeout=, or share fewer bytes.",
)

NO_THREAD = Message(
    "the system gives this process no thread",
    ResourceLimitError,
    "The system gives this process no thread ({said}). Raise its limit of processes (ulimit -u), "
    "or run fewer programs beside it.",
)

# -- names, permissions, credentials -------------------------------------------------------------

NO_FUNCTION = Message(
    "the function is missing",
    ConfigurationError,
    "There is no Lambda function {function} in {region}. Deploy it there (sam build && sam "
    "deploy{option}), or correct the name or the region.",
)
FUNCTION_UNUSABLE = Message(
    "Lambda cannot start the function (its key, its VPC, its image, …)",
    ConfigurationError,
    "Lambda cannot run function {function} ({said}): {meaning}. The {call} did not run. Correct "
    "the stack, and run `sam deploy{option}`.",
)
DENIED = Message(
    "not allowed",
    ConfigurationError,
    "Access denied: {action} on {resource}: {said}. Attach the policy named in the stack's "
    "output ExecutorPolicyArn to the user or role that sends the calls.",
)
CREDENTIALS_EXPIRED = Message(
    "credentials have expired",
    CredentialsError,
    "AWS does not accept the credentials any more ({said}). Renew them{profile} where the calls "
    "are sent from (`aws sso login` if they come from SSO), and run again.",
)
CREDENTIALS_INVALID = Message(
    "credentials are wrong",
    CredentialsError,
    "AWS does not accept the credentials ({said}). Check them{profile} where the calls are sent "
    "from, and run again.",
)
CREDENTIALS_NOT_ACCEPTED = Message(
    "credentials fail a check",
    CredentialsError,
    "AWS does not accept the credentials: {said}",
)
NO_CREDENTIALS = Message(
    "there are no credentials",
    CredentialsError,
    "The request to AWS could not be signed: {said}. The executor uses profile= and "
    "credentials_file=, or else the environment, files or role of the machine that sends the "
    "calls, which is where Covalent's server runs. Set them up there (`aws configure`, or `aws "
    "sso login`).",
)
NO_WAY_TO_KEYS = Message(
    "what gives the credentials cannot be reached",
    UnreachableError,
    "AWS, or what gives the keys for it (AWS STS, SSO), cannot be reached: {said}. Check "
    "endpoint_url= (AWS_ENDPOINT_URL), region= and the network, and run again.",
)
NO_ROLE = Message(
    "the profile's role may not be assumed",
    CredentialsError,
    "The role{profile} could not be assumed: {said}. Let its trust policy name the source "
    "profile's user or role, and that user or role have sts:AssumeRole on it.",
)
NO_PROFILE = Message(
    "there is no such profile",
    ConfigurationError,
    "The AWS profile {profile!r} is not in the credentials or config file{file}. Correct "
    "profile= or the file. (Covalent's server reads them as its own user.)",
)
NO_CERTIFICATES = Message(
    "the file of certificates is missing",
    ConfigurationError,
    "The certificates {path} do not exist. Correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or "
    "ca_bundle in AWS's config file.",
)
CERTIFICATES_UNUSABLE = Message(
    "the file of certificates cannot be used",
    ConfigurationError,
    "The certificates {path} cannot be used: {said}. Correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or "
    "ca_bundle in AWS's config file, or the file.",
)
NOT_MADE = Message(
    "a request that cannot be made",
    ConfigurationError,
    "The request to AWS could not be made: {said}. Check endpoint_url= (AWS_ENDPOINT_URL), "
    "region= and the certificates.",
)
CLOCK = Message(
    "this machine's clock is wrong",
    ConfigurationError,
    "AWS refuses requests from this machine, since its clock is off{seconds} ({said}). Set the "
    "clock (a laptop or WSL that slept needs it), and run again. Nothing ran.",
)
NO_BUCKET = Message(
    "the bucket is missing",
    ConfigurationError,
    "There is no S3 bucket {bucket}. Deploy the stack that makes it (sam build && sam "
    "deploy{option}), or correct the name.",
)
BUCKET_ELSEWHERE = Message(
    "the bucket is in another region",
    ConfigurationError,
    "The S3 bucket {bucket} is not in {region}: {said}. Correct region=, or name the bucket of "
    "this region.",
)
BUCKET_NEEDED = Message(
    "large arguments and no bucket",
    ConfigurationError,
    "The {call} needs a bucket: an argument of {size} bytes does not fit into an invocation. "
    "Name one with s3_bucket_name=, or run where the project's samconfig.toml is found.",
)
NOT_CARRIED_UNKNOWN = Message(
    "a module to be carried cannot be imported",
    ConfigurationError,
    "carry= names the module {name!r}, which cannot be imported here ({said}). Correct the name, "
    "or make the executor where the module is found.",
)
NOT_CARRIED_COMPILED = Message(
    "a module to be carried is compiled",
    ConfigurationError,
    "carry= names the module {name!r}, which is compiled: its code cannot travel. Add the package "
    "that provides it to function/requirements.txt, and deploy the function again.",
)
REFUSED = Message(
    "any other refusal of AWS's",
    LambdaCallError,
    "{action} on {resource} failed, and nothing ran: {said}",
)

# -- the way there and back ----------------------------------------------------------------------

UNREACHABLE = Message(
    "Lambda's endpoint cannot be reached",
    UnreachableError,
    "Lambda's endpoint for function {function} cannot be reached: {said}. The {call} did not "
    "run. Check the network, region= and endpoint_url= (AWS_ENDPOINT_URL).",
)
STORAGE_UNREACHABLE = Message(
    "S3 cannot be reached",
    UnreachableError,
    "{action} on bucket {bucket} got no answer, after several tries: {said}. Look at the way "
    "from this machine to S3 (network, proxy, VPC endpoint), and run again.",
)
STORAGE_BUSY = Message(
    "S3 refuses the function's reads for longer than `timeout`",
    UnreachableError,
    "Function {function} could not read the {call}'s arguments for {seconds:.0f} s, the "
    "executor's timeout=; the {call} did not run. {said}",
)
NO_WAY_TO_TELL = Message(
    "a running call is cancelled, and there is no bucket",
    ConfigurationError,
    "Function {function} cannot be told to stop the {call}: that goes through a bucket, and "
    "none is named. It runs on until it ends. Name one with s3_bucket_name=, or run where the "
    "project's samconfig.toml is found.",
)
NO_OBJECT = Message(
    "an object is missing", LambdaCallError, "An object is missing in bucket {bucket}: {said}"
)
NOT_RUNNING = Message(
    "the connection is lost, and the function does not say that the call runs",
    OutcomeUnknownError,
    "The connection to function {function} was lost after the {call} was sent ({said}). The "
    "function was asked whether it runs, and has not said so within {seconds:.0f} s: it has "
    "ended, or never began. It may have run: look at the function's log before you run it "
    "again. With retries=1 the executor would.",
)
UNKNOWN = Message(
    "the connection is lost, and nothing can be asked",
    OutcomeUnknownError,
    "The {call} was sent to function {function}, and its answer did not come ({said}). It may "
    "have run: look at the function's log before you run it again. With retries=1 the executor "
    "would.",
)
RESULT_UNREAD = Message(
    "the result cannot be fetched",
    ResultUnreadError,
    "The {call} ran; its result is at s3://{bucket}/{key}, where it is kept for 7 days. It "
    "could not be fetched: {said}",
)
RESULT_TAMPERED = Message(
    "the stored result was changed",
    LambdaCallError,
    "The {call} ran, but its result is lost: {said}",
)

# -- answers that are none -----------------------------------------------------------------------

CANNOT_ANSWER = Message(
    "the handler cannot answer",
    CannotAnswerError,
    "Function {function} failed before it could answer: {said}. Is it built from this project "
    "(sam build && sam deploy{option}), with its own app.py and entry point?{log}",
)
ENVIRONMENT_ENDED = Message(
    "the function's environment ends by itself",
    CallFailedError,
    "The environment of function {function} ended before it could answer: {said}. The {call} "
    "may have run.{log}",
)
SETUP_FAILED = Message("the initializer of a pool fails", InitializerFailedError, "{said}")
STOCK_IMAGE = Message(
    "a pool's {call} on Covalent's stock image",
    ConfigurationError,
    "Function {function} runs Covalent's stock image, which takes one electron at a time through "
    "S3. A pool needs a function of this project: sam build && sam deploy{option}.",
)
TWO_IMAGES = Message(
    "a function that answers now as Covalent's stock image, now as this project's",
    CannotAnswerError,
    "Function {function} answers now as Covalent's stock image, now as this project's, as if it "
    "were being replaced. The {call} did not run. Run it again once the deployment is done.",
)
STOCK_NO_RESULT = Message(
    "an object that is not a result of Covalent's stock image",
    ConfigurationError,
    "S3 object {key} is not a result of Covalent's stock image: {said}. It was not loaded. Did "
    "somebody else write it?",
)
STOCK_NOTHING_LEFT = Message(
    "a function of Covalent's stock image leaves nothing",
    LambdaCallError,
    "Function {function} answered, but left neither {result} nor {exception} in bucket {bucket}. "
    "May its role write there (s3:PutObject)?",
)
NOT_UNDERSTOOD = Message(
    "function or executor is older",
    CannotAnswerError,
    "Function {function} gave an answer that the executor does not understand ({said}): "
    "{payload!r}. The {call} may have run. Is it built from this project, at the same version as "
    "the executor? (sam build && sam deploy{option}; pip install ./executor)",
)
DEFECT_BEFORE = Message(
    "the executor itself fails before it sends the call",
    LambdaCallError,
    "The executor met something unexpected ({said}). The {call} did not run. Unless this "
    "machine's memory or disk is full, please report this with the traceback.",
)
DEFECT = Message(
    "the executor itself fails after it sent the call",
    OutcomeUnknownError,
    "The executor met something unexpected ({said}). The {call} may have run. Unless this "
    "machine's memory or disk is full, please report this with the traceback.",
)
NOT_OURS = Message(
    "an answer to another request",
    CannotAnswerError,
    "Function {function} answered {call} {wanted} with the answer to {got}, which was not "
    "taken: the environment mixes up its invocations. The {call} may have run. Deploy the "
    "function again (sam deploy{option}), so that Lambda makes new environments.",
)

ALL: tuple[Message, ...] = tuple(x for x in list(globals().values()) if isinstance(x, Message))


# -- which of them, and what fits the case -------------------------------------------------------


def of_failure(
    failure: wire.Failure,
    usage: wire.Usage,
    *,
    call: str,
    function: str,
    limits: Mapping[str, float],
    advice: Advice,
    waited: float = 0.0,
) -> LambdaCallError:
    """The error for a failure that the function itself reported.

    Args:
        call: what a call is for its caller ("call", "electron").
        advice: what helps where its caller is.
        limits: the executor's own limits in seconds, by the name of their argument.
        waited: seconds before it was sent, which count for `timeout`.
    """
    remote = {"type": failure.type, "traceback": failure.traceback}
    remote["hint"] = hint(failure, usage, call=call, advice=advice)
    if failure.kind == wire.DEADLINE:
        remote["option"] = advice.option
        return _stopped(usage, call, function, limits, waited, remote)
    said = failure.message
    if failure.kind == wire.SETUP_FAILED:
        return SETUP_FAILED(said=said, **remote)
    if failure.kind in wire.DID_NOT_RUN:
        return REJECTED(said=said, **remote)
    if failure.kind == wire.EXCEPTION:
        return EXCEPTION(said=f"{failure.type}: {said}" if said else failure.type, **remote)
    if failure.kind == wire.UNPICKLABLE:
        return UNPICKLABLE(call=call, said=f"{failure.type}: {said}", **remote)
    known = {wire.EXIT: EXIT, wire.CRASHED: CRASHED, wire.OUT_OF_MEMORY: OUT_OF_MEMORY}
    return known.get(failure.kind, RESULT_LOST)(
        call=call, said=said, option=advice.option, **remote
    )


def _stopped(
    usage: wire.Usage,
    call: str,
    function: str,
    limits: Mapping[str, float],
    waited: float,
    remote: Any,
) -> LambdaCallError:
    """Name the limit that was reached: the executor's, or else the function's."""
    before = {"timeout": waited}
    name, limit = min(limits.items(), key=lambda item: item[1] - before.get(item[0], 0.0))
    values = {"call": call, "function": function, "seconds": usage.duration, **remote}
    if usage.duration >= limit - before.get(name, 0.0) - 0.5:
        had = f", {waited:.1f} s of which it waited to be sent" if name in before else ""
        return OWN_LIMIT(name=name, limit=limit, waited=had if waited >= 0.5 else "", **values)
    return FUNCTION_TIMEOUT(**values)


def of_crash(
    payload: bytes, log_tail: str, *, call: str, function: str, option: str, real: bool
) -> LambdaCallError:
    """The error for an invocation that ended without an answer of the handler's.

    The texts are those of Lambda's own runtime:
    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html

    Args:
        payload: what came instead of the answer.
        log_tail: the end of the invocation's log.
        option: what `sam deploy` needs to deploy this function.
        real: whether Lambda itself wrote the log, so that its figures count.
    """
    answer = wire.object_in(payload)
    kind, said = str(answer.get("errorType", "")), str(answer.get("errorMessage", ""))
    log = f"\nThe end of its log:\n{log_tail}" if log_tail else ""
    values = {"call": call, "function": function, "log": log, "option": option}
    if "Task timed out after" in said or kind == "Sandbox.Timedout" or not payload:
        took = re.search(r"timed out after ([\d.]+) seconds", said)
        return LAMBDA_TIMEOUT(took=f" of {took[1]} s" if took else "", **values)
    if kind == "Runtime.OutOfMemory" or "signal: killed" in said:
        return ENVIRONMENT_KILLED(used=_used(log_tail) if real else "", **values)
    if "Runtime exited" in said or "process died" in said:
        return ENVIRONMENT_ENDED(said=said, type=kind, **values)
    if kind.endswith(("ResponseSizeTooLarge", "RequestEntityTooLarge")):
        return ANSWER_TOO_LARGE(said=said, **values)
    said = f"{kind or 'no type'}: {said or repr(payload[:500])}"
    return CANNOT_ANSWER(said=said, **values)


def _used(log_tail: str) -> str:
    used = re.search(r"Memory Size: (\d+) MB\s+Max Memory Used: (\d+) MB", log_tail)
    return f" (it had used {used[2]} of {used[1]} MB)" if used else ""


def of_refused_invocation(
    error: Any, *, call: str, function: str, region: str, option: str
) -> Exception:
    """What a refused invocation is raised as.

    Args:
        error: botocore's ClientError.
        call: what a call is for its caller.
        function, region: with where they were said.
        option: what `sam deploy` needs to deploy this environment of samconfig.toml.
    """
    meaning = refusals.meaning(error)
    said = refusals.said(error)
    waits = (refusals.Meaning.TOO_MANY, refusals.Meaning.TOO_FAST, refusals.Meaning.NOT_READY)
    if meaning in waits:
        return refusals.NotNow(
            said,
            too_fast=meaning is refusals.Meaning.TOO_FAST,
            retry_after=refusals.retry_after(error),
            reason=refusals.reason(error),
        )
    if meaning is refusals.Meaning.MAY_HAVE_RUN:
        return refusals.ConnectionLost(f"Lambda answered {refusals.status(error)} {said}")
    if meaning in (refusals.Meaning.EXPIRED, refusals.Meaning.INVALID):
        expired = meaning is refusals.Meaning.EXPIRED
        return refusals.CredentialsRefused(said, expired=expired)
    if meaning is refusals.Meaning.CLOCK:
        return clock(error)
    if meaning is refusals.Meaning.NO_FUNCTION:
        return NO_FUNCTION(function=function, region=region, option=option)
    if meaning is refusals.Meaning.TOO_LARGE:
        return REQUEST_TOO_LARGE(function=function, said=said)
    if meaning is refusals.Meaning.DENIED:
        resource = f"function {function}"
        return DENIED(action="lambda:InvokeFunction", resource=resource, said=said)
    if meaning is refusals.Meaning.FINAL:
        return REFUSED(action="lambda:InvokeFunction", resource=f"function {function}", said=said)
    return FUNCTION_UNUSABLE(
        function=function, said=said, meaning=meaning.value, call=call, option=option
    )


def of_single_request(
    refusal: Exception, *, call: str, function: str, profile: str
) -> LambdaCallError:
    """The error for a request that is made only once, by what its refusal was raised as.

    Args:
        refusal: of `of_refused_invocation`.
        call, function: as there.
        profile: of the credentials; empty: none was named.
    """
    if isinstance(refusal, LambdaCallError):
        return refusal
    if isinstance(refusal, refusals.CredentialsRefused):
        return credentials(refusal, profile)
    if isinstance(refusal, refusals.NotNow):
        return NOT_NOW(function=function, said=refusal)
    return UNKNOWN(call=call, function=function, said=refusal)


def credentials(refusal: refusals.CredentialsRefused, profile: str) -> LambdaCallError:
    """The error for keys that AWS does not accept."""
    which = CREDENTIALS_EXPIRED if refusal.expired else CREDENTIALS_INVALID
    return which(said=refusal, profile=f" for profile {profile!r}" if profile else "")


def not_signed(error: Exception, profile: str) -> LambdaCallError:
    """The error for a request that could not be signed: botocore's or STS's reason."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        said = refusals.said(error)
        return NO_ROLE(profile=f" of profile {profile!r}" if profile else "", said=said)
    from botocore import exceptions as botocores

    about_credentials = (
        botocores.NoCredentialsError,
        botocores.PartialCredentialsError,
        botocores.CredentialRetrievalError,
        botocores.SSOError,
        botocores.NoAuthTokenError,
        botocores.TokenRetrievalError,
        botocores.ConfigParseError,
        botocores.InvalidConfigError,
    )
    if isinstance(error, about_credentials):
        return NO_CREDENTIALS(said=error)
    if refusals.is_away(error):
        return NO_WAY_TO_KEYS(said=error)
    return not_made(error)


def not_made(error: Exception) -> LambdaCallError:
    """The error for a request that the settings do not allow to be made."""
    return NOT_MADE(said=str(error) or type(error).__name__)


def clock(error: Any) -> LambdaCallError:
    """The error for a clock that is off, with the difference where the answer tells it."""
    from datetime import datetime, timezone
    from email.utils import parsedate_to_datetime

    said = refusals.said(error)
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        there = parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError):
        return CLOCK(seconds="", said=said)
    off = (datetime.now(timezone.utc) - there).total_seconds()
    way = "ahead" if off > 0 else "behind"
    return CLOCK(seconds=f" by {abs(off):.0f} s, {way} of AWS's", said=said)


def defect(error: Exception, *, call: str, sent: bool) -> LambdaCallError:
    """The error for what nobody has foreseen, whether or not the call was sent by then."""
    from traceback import format_exception

    return (DEFECT if sent else DEFECT_BEFORE)(
        call=call,
        type=f"{type(error).__module__}.{type(error).__qualname__}",
        said=f"{type(error).__name__}: {error}",
        traceback="".join(format_exception(error)),
    )


# -- hints ---------------------------------------------------------------------------------------

# Beside EXCEPTION, where a pool's call is to raise what it raised in the function.
STANDS_FOR = "(This stands for the exception itself, which could not be had: {reason}.)"
_LACKS = "The function's image lacks the module {name!r}. "
_ADD_PACKAGE = (
    "add the package that provides it to function/requirements.txt and run `sam build && sam "
    "deploy{option}`"
)
_CARRY_FILE = (
    "import it at the top of your script, not inside the {call}, and make the executor there: "
    "modules beside the script travel with the calls then, and carry=[{name!r}] of the executor "
    "names one from elsewhere."
)
# What is installed here is a package; what is not may be anybody's file.
_PACKAGE_FIRST = f"{_LACKS}Please {{add}}."
_FILE_FIRST = (
    f"{_LACKS}If it is a file of your own, {_CARRY_FILE}{{carry}} If it is a package, {{add}}."
)
# No package index has these, and what has their names there is somebody else's.
_OURS = ("lambda_calls", "covalent_awslambda_plugin")
_OURS_LACKS = (
    f"{_LACKS}It is the executor's own, and on no package index. Make the pool outside the "
    '{call}, or see "A pool within an electron" in docs/fan-out.md of the template: what to add '
    "to the image, and which permission."
)
_OWN_IN_MAIN = (
    "{name!r} is defined in your script in a way that is pickled by its name only (a function "
    "wrapped by functools.lru_cache, a NewType, a class made by a call, or the like), and the "
    "function does not have your script. Define it inside the {call}, or in a module that you "
    "register with cloudpickle.register_pickle_by_value."
)
_PIP_FAILED = (
    "pip, run inside the function, could not install these packages; what it said is above. Check "
    "their names and versions. In a VPC it needs a way to the package index."
)
_MORE_MEMORY = (
    "The function has {memory_mb} MB: raise MemorySize in samconfig.toml (Lambda allows 10240) "
    "and run `sam deploy{option}`."
)
_NAME_IN_MAIN = re.compile(r"Can't get attribute '([^']+)' on <module '__main__'")
_NO_MODULE = re.compile(r"No module named '([^']+)'")


def hint(failure: wire.Failure, usage: wire.Usage, *, call: str, advice: Advice) -> str:
    """The next step that fits a failure, if there is one.

    Args:
        call: what a call is for its caller ("call", "electron").
        advice: what helps where its caller is.
    """
    missing = _NO_MODULE.search(failure.message)
    if missing and "ModuleNotFoundError" in (failure.type, failure.message.partition(":")[0]):
        name = missing[1].partition(".")[0]
        if name in _OURS:
            return _OURS_LACKS.format(name=name, call=call)
        text = _PACKAGE_FIRST if _is_installed(name) else _FILE_FIRST
        add = advice.add_package or _ADD_PACKAGE.format(option=advice.option) + advice.or_else
        carry = f" {advice.carry}" if advice.carry else ""
        return text.format(name=name, add=add, call=call, carry=carry)
    by_name = _NAME_IN_MAIN.search(failure.message)
    if by_name:
        return _OWN_IN_MAIN.format(name=by_name[1], call=call)
    if failure.type == "subprocess.CalledProcessError" and "'pip', 'install'" in failure.message:
        return _PIP_FAILED
    if failure.type == "MemoryError" and usage.memory_mb:
        return _MORE_MEMORY.format(memory_mb=usage.memory_mb, option=advice.option)
    return ""


def _is_installed(module: str) -> bool:
    """Whether a top-level module comes from a package that is installed here; not imported."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
    return any("site-packages" in place or "dist-packages" in place for place in places)
