"""Who owns what lasts longer than a call.

    Process ── clients, threads, work at exit, log            one for a program
      └─ Session(target) ── connections, limiter, blobs,      one for each event loop, function
                            what was learnt of the endpoint   and bucket

Both are made to be thrown away: a test makes its own.
"""

import asyncio
import base64
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from . import descriptors, messages
from .aws import quota, refusals
from .aws.clients import Account, Clients, Signing
from .aws.invoke import InvokeApi, NotMade
from .aws.objects import Objects
from .aws.refusals import Unreachable
from .blobs import Blobs
from .errors import LambdaCallError, ResourceLimitError
from .limiter import ConcurrencyLimiter
from .shutdown import AtExit
from .threads import Threads

# How many large objects travel at a time (each in parallel parts), how many short requests, and
# how many deletions, which keep nobody else waiting.
_TRANSFERS = 6
_REQUESTS = 24
_DELETIONS = 6


# Seconds without any connection after which a call gives up: no name or address that is merely
# wrong should take the whole timeout to be reported. On this machine, nothing is starting up.
_CONNECT_WITHIN = 60.0
_CONNECT_WITHIN_LOOPBACK = 5.0
_ASKS_FOR_LOG = MappingProxyType({"X-Amz-Log-Type": "Tail"})
# The variable that holds `Advice.add_package`; a sandbox sets it.
ADD_PACKAGE = "COVALENT_LAMBDA_ADD_PACKAGE"


@dataclass(frozen=True)
class Target:
    """The function to run on.

    Args:
        account: whose credentials, and where.
        function: its name or ARN.
        bucket: for what is too large for an invocation; None: there is none.
        origins: where names came from, by the name of the setting, for messages.
        advice: what helps where the caller is, for messages.
    """

    account: Account
    function: str
    bucket: str | None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    advice: messages.Advice = field(default=messages.Advice(), compare=False)

    def named(self, setting: str, value: str) -> str:
        """`value` with where it was said."""
        origin = self.origins.get(setting)
        return f"{value} (from {origin})" if origin else value


@dataclass(frozen=True)
class InvocationResponse:
    """What Lambda returned for one invocation.

    Args:
        payload: the function's answer, JSON as bytes.
        function_error: `Handled` or `Unhandled` if the function failed; else empty.
        log_tail: the last 4 KB of the invocation's log; empty where there is none.
    """

    payload: bytes
    function_error: str = ""
    log_tail: str = ""


class Process:
    """What one program keeps for all its calls.

    The mutable state is the clients and threads that it made, and its sessions by event loop.

    Args:
        log: where to say what is worth knowing while calls run.
    """

    def __init__(self, log: logging.Logger | None = None) -> None:
        self.log = log or logging.getLogger(__package__)
        self.clients = Clients()
        self.transfers = Threads(_TRANSFERS, "lambda-transfer")
        self.requests = Threads(_REQUESTS, "lambda-request")
        self._deletions = Threads(_DELETIONS, "lambda-deletion")
        self.at_exit = AtExit()
        self._sessions: dict[asyncio.AbstractEventLoop, dict[Target, Session]] = {}
        self._limit_raised = False

    def session(self, target: Target) -> "Session":
        """The running event loop's session for `target`; made at the first use."""
        if not self._limit_raised:
            self._limit_raised = True
            descriptors.raise_limit()
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._forget_closed_loops()
        sessions = self._sessions.setdefault(loop, {})
        session = sessions.get(target)
        if session is None:
            session = sessions[target] = Session(self, target)
        return session

    def _forget_closed_loops(self) -> None:
        """A session holds its loop, so weak references would not do."""
        for loop in list(self._sessions):  # a copy: other threads have loops, too
            if loop.is_closed():
                self._sessions.pop(loop, None)

    def start_threads(self) -> None:
        """Have a thread of each kind, for calls that are made when none can be started any more.

        Raises:
            ResourceLimitError: if the system gives this process no thread at all.
        """
        for threads in (self.transfers, self.requests, self._deletions):
            threads.begin(_nothing)

    def delete(self, work: Callable[[], None]) -> None:
        """Have `work`, which blocks and deletes something, done in the background.

        No result waits for it: S3 may not answer for minutes. What is not done by then is done
        when the process ends.

        Args:
            work: whose errors are nobody's matter: the bucket's lifecycle removes what is left.
        """
        once = _Once(work)
        self.at_exit.add(once)

        def in_thread() -> None:
            once()
            self.at_exit.discard(once)

        with contextlib.suppress(ResourceLimitError):  # no thread: at the end, then
            self._deletions.begin(in_thread)

    def objects(self, target: Target) -> Objects:
        """The objects of the target's bucket; its methods block."""
        return Objects(
            self.clients,
            target.account,
            target.bucket or "",
            target.origins,
            option=target.advice.option,
        )

    def close(self) -> None:
        """Give back what it holds, in the bucket too; sessions end with their loops."""
        self.at_exit.run()
        self.at_exit.close()
        self.transfers.close()
        self.requests.close()
        self._deletions.close()
        self.clients.close()


class Session:
    """Invocations of one function and the objects of one bucket, on one event loop.

    The mutable state is the connections, the limiter, the blobs, and what was learnt: whether the
    endpoint sends the log's tail, and whether the function runs Covalent's stock image.

    Args:
        process: whose clients and threads it uses.
        target: function and bucket.
    """

    def __init__(self, process: Process, target: Target) -> None:
        self.process, self.target = process, target
        self.objects = process.objects(target)
        self.limiter = ConcurrencyLimiter(
            most=descriptors.left_for_connections, ask=self._ask_for_quota
        )
        self.blobs = Blobs(self.objects, process.transfers, process.at_exit)
        self.is_stock_image = False
        self._sends_log_tail = True
        self._api: InvokeApi | None = None
        self._opening: asyncio.Task[InvokeApi] | None = None

    @property
    def _signing(self) -> Signing | None:
        return self._api.signing if self._api else None

    @property
    def is_aws(self) -> bool:
        """Whether the endpoint that answered is AWS's own."""
        return self._signing is not None and self._signing.is_aws

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        return self._signing is not None and self._signing.is_loopback

    def not_understood(self, said: object, *, call: str, payload: bytes = b"") -> LambdaCallError:
        """The error for an answer of the function's that is none.

        Args:
            said: what is wrong with it.
            call: what a call is for its caller.
            payload: the answer, of which the beginning is shown.
        """
        return messages.NOT_UNDERSTOOD(
            call=call,
            function=self.target.function,
            said=said,
            payload=payload[:200],
            option=self.target.advice.option,
        )

    def is_away(self, refusal: Unreachable, seconds: float, *, late: bool) -> bool:
        """Whether there was no connection for as long as a call waits for one; then calls that
        begin now do not wait either.

        Args:
            refusal: the last one.
            seconds: that the call may take.
            late: whether its time is over.
        """
        patience = _CONNECT_WITHIN_LOOPBACK if self.is_loopback else _CONNECT_WITHIN
        if self.limiter.outage() < min(seconds, patience) and not late:
            return False
        self.limiter.give_up(refusal)
        return True

    async def open(self) -> None:
        """Have the connections made, so that what is sent next leaves at once.

        Raises:
            LambdaCallError: if requests cannot be signed or made.
        """
        await self._opened()

    async def invoke(self, payload: bytes, *, call: str = "call") -> InvocationResponse:
        """Invoke the function synchronously, once; again only where nothing can have run: with
        credentials that were renewed, or without asking for the log's tail.

        Args:
            payload: the event, JSON as bytes.
            call: what a call is for its caller, for messages.

        Raises:
            Refused: it certainly did not run; ask again.
            ConnectionLost: it may have run.
            LambdaCallError: it may not be invoked, or not like this.
        """
        renewed = False
        while True:
            api = await self._opened()
            signing = api.signing
            headers = _ASKS_FOR_LOG if self._sends_log_tail else {}
            with self._errors_translated():
                response = await api.post(payload, headers)
            if response.status < 300:
                return InvocationResponse(
                    payload=response.body,
                    function_error=response.headers.get("x-amz-function-error", ""),
                    log_tail=_decoded(response.headers.get("x-amz-log-result", "")),
                )
            error = response.error()
            if headers and _refuses_log_tail(error):
                self._sends_log_tail = False
                continue
            refusal = self._refused(error, call)
            if not isinstance(refusal, refusals.CredentialsRefused):
                raise refusal from error
            if renewed or not await self._renewed(api, signing):
                raise messages.credentials(refusal, self.target.account.profile) from refusal
            renewed = True

    def invoke_event(self, payload: bytes) -> dict[str, Any]:
        """Invoke the function asynchronously, once; boto3's answer. It blocks.

        Raises:
            LambdaCallError: if Lambda does not take the request, or cannot be reached.
        """
        from botocore import exceptions as botocores

        account, function = self.target.account, self.target.function
        try:
            answer: dict[str, Any] = self.process.clients.client(account, "lambda").invoke(
                FunctionName=function, Payload=payload, InvocationType="Event"
            )
        except botocores.ClientError as error:
            raise messages.of_single_request(
                self._refused(error, "call"),
                call="call",
                function=function,
                profile=account.profile,
            ) from error
        except (botocores.EndpointConnectionError, botocores.ConnectTimeoutError) as error:
            raise messages.UNREACHABLE(call="call", function=function, said=error) from error
        except (botocores.ReadTimeoutError, botocores.ConnectionClosedError) as error:
            raise messages.UNKNOWN(call="call", function=function, said=error) from error
        except (botocores.BotoCoreError, ValueError) as error:
            raise messages.not_signed(error, account.profile) from error
        return answer

    @contextlib.contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Translate what keeps a request from being signed and made."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            if refusals.is_away(error):  # AWS STS, SSO: nothing was sent to Lambda
                raise Unreachable(f"There are no keys to sign with: {error}") from error
            raise messages.not_signed(error, self.target.account.profile) from error
        except (NotMade, ValueError) as error:
            raise messages.not_made(error) from error

    def _ask_for_quota(self) -> None:
        """Have Lambda asked how many calls it allows at a time, while calls go out already."""
        loop, clients = asyncio.get_running_loop(), self.process.clients

        def work() -> None:
            allowed = quota.concurrency(clients, self.target.account, self.target.function)
            if allowed is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self.limiter.allow, allowed)

        with contextlib.suppress(ResourceLimitError):  # no thread: the calls say so, if they must
            self.process.requests.begin(work)

    async def _opened(self) -> InvokeApi:
        """The connections; made once, however many calls begin at a time."""
        if self._api is not None:
            return self._api
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
        with self._errors_translated():
            return await asyncio.shield(self._opening)

    async def _open(self) -> InvokeApi:
        clients, account = self.process.clients, self.target.account
        signing = await self.process.requests.run(clients.signing, account)
        api = InvokeApi(signing, self.target.function, self.process.requests)
        await api.open()
        self._api = api
        return api

    async def _renewed(self, api: InvokeApi, refused: Signing) -> bool:
        """Read the credentials again; whether they are others than those of `refused`."""
        clients, account = self.process.clients, self.target.account
        with self._errors_translated():
            renewed = await self.process.requests.run(clients.renew, account, refused.credentials)
            if renewed and api.signing is refused:  # its connections stay: they know no keys
                api.signing = await self.process.requests.run(clients.signing, account)
        return renewed

    def _refused(self, error: Any, call: str) -> Exception:
        target = self.target
        region = self._signing.region if self._signing else target.account.region
        return messages.of_refused_invocation(
            error,
            call=call,
            function=target.named("function_name", target.function),
            region=target.named("region", region),
            option=target.advice.option,
        )


class _Once:
    """Work that is done once, whoever comes first; others wait for its end. Errors are dropped."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            work, self._work = self._work, None
            if work is not None:
                with contextlib.suppress(Exception):
                    work()


def _nothing() -> None:
    pass


def _decoded(log: str) -> str:
    """The text of the log's tail; none where a proxy has damaged the header."""
    try:
        return base64.b64decode(log).decode("utf-8", "replace")
    except ValueError:
        return ""


def _refuses_log_tail(error: Any) -> bool:
    """Whether an endpoint answers so to LogType=Tail (`sam local start-lambda` does)."""
    said = refusals.message(error).lower()
    return refusals.status(error) in (400, 501) and "log-type" in said
