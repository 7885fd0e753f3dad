"""Covalent's view of the executor.

    Covalent's server                                                       Lambda
    run ─► Electron (parts) ─► Attempt ─► Transport ─► one synchronous invocation
     │                          │  ▲                                          │
     │ cancel ───► its mark ────┘  └── Response ◄─────────────────────────────┘
     ▼
    TransportableObject, stdout and stderr, or a typed error

An executor is built where the workflow is written and rebuilt from JSON in the server, so it
holds strings and numbers only; clients live in `clients`, once for the whole process.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from covalent._shared_files import logger
from covalent._shared_files.config import get_config
from covalent._shared_files.exceptions import TaskCancelledError
from covalent._shared_files.util_classes import RESULT_STATUS
from covalent.executor.executor_plugins.remote_executor import RemoteExecutor
from covalent.executor.schemas import TaskUpdate

from . import failures, stock, wire
from . import samconfig as names
from . import usage as accounts
from .clients import Account, caller_identity, session
from .direct import Attempt, StockImage, mark_cancelled
from .electron import Electron, is_covalents
from .errors import AWSLambdaExecutorError, ConfigurationError, TaskRejectedError
from .threads import in_thread
from .transport import Transport
from .wire import Response

app_log = logger.app_log
T = TypeVar("T")

EXECUTOR_PLUGIN_NAME = "AWSLambdaExecutor"
executor_plugin_name = EXECUTOR_PLUGIN_NAME  # the public plugin's spelling

# Covalent writes these into covalent.conf and passes them back as arguments when the executor is
# named by string. Empty names leave the choice to samconfig.toml; the documented names are the
# last resort.
_EXECUTOR_PLUGIN_DEFAULTS = {
    "function_name": "",
    "s3_bucket_name": "",
    "credentials_file": "",
    "profile": "",
    "region": "",
    "execution_role": "",
    "cache_dir": "",
    "poll_freq": 5,
    "timeout": 900,
}

# Seconds that a cancelled electron is given to stop, so that its streams are kept.
_STOPPING = 6.0


class AWSLambdaExecutor(RemoteExecutor):
    """Runs electrons on an AWS Lambda function.

    With no arguments it takes its names from the project's samconfig.toml.

    Args:
        function_name: name of the Lambda function (or its ARN).
        s3_bucket_name: name of the bucket for what is too large for an invocation (6 MB).
        credentials_file: path of a shared AWS credentials file, as Covalent's server sees it.
        profile: name of the AWS profile to use.
        region: AWS region of function and bucket.
        poll_freq: longest seconds between looks at S3, for functions of Covalent's stock image.
        timeout: seconds for one electron, waiting for a turn included.
        execution_role: accepted for compatibility; the function's role is the stack's.
        cache_dir: folder for temporary files of the documented S3 methods.
        log_stdout, log_stderr: files that Covalent also writes the electron's streams to.
        time_limit: seconds that the electron itself may run; -1: no limit beside `timeout`.
        retries: how often to run a failed electron again; 0: never.
        samconfig: path of samconfig.toml; else COVALENT_LAMBDA_SAMCONFIG, else searched upward.
        config_env: which environment of samconfig.toml.
        endpoint_url: Lambda's endpoint if it is not AWS's (`sam local start-lambda`).
        usage: whether to end the electron's stderr with a line on time, memory and cost.
        prices: US dollars, where they differ from `covalent_awslambda_plugin.usage.PRICES`.

    Each value is taken from the argument, else samconfig.toml, else `[executors.awslambda]` of
    covalent.conf, else the documented default.

    Raises:
        ConfigurationError: if the samconfig.toml that applies cannot be used, if a number is out
            of range, or if `endpoint_url` is no address.
    """

    def __init__(
        self,
        function_name: str | None = None,
        s3_bucket_name: str | None = None,
        credentials_file: str | None = None,
        profile: str | None = None,
        region: str | None = None,
        poll_freq: float | None = None,
        timeout: float | None = None,
        *,
        execution_role: str | None = None,
        cache_dir: str | None = None,
        log_stdout: str = "",
        log_stderr: str = "",
        time_limit: int = -1,
        retries: int = 0,
        samconfig: str | None = None,
        config_env: str | None = None,
        endpoint_url: str | None = None,
        usage: bool = False,
        prices: Mapping[str, float] | None = None,
    ) -> None:
        conf = _conf()
        super().__init__(
            poll_freq=_seconds("poll_freq", conf["poll_freq"] if poll_freq is None else poll_freq),
            log_stdout=log_stdout,
            log_stderr=log_stderr,
            cache_dir=cache_dir or conf["cache_dir"] or _default_cache_dir(),
            time_limit=-1 if time_limit in (None, -1) else _seconds("time_limit", time_limit),
            retries=_count("retries", retries or 0),
        )
        self.timeout = _seconds("timeout", conf["timeout"] if timeout is None else timeout)
        self.execution_role = execution_role or conf["execution_role"]
        self.endpoint_url = _address("endpoint_url", endpoint_url or "")
        self.usage, self.prices = usage, _checked_prices(prices or {})
        given: dict[str, Any] = {
            "function_name": function_name,
            "s3_bucket_name": s3_bucket_name,
            "credentials_file": credentials_file,
            "profile": profile,
            "region": region,
        }
        try:
            settings = names.resolve(
                **given, samconfig=samconfig, config_env=config_env, conf=conf, environ=os.environ
            )
        except names.SamConfigError as error:
            # Covalent's server builds an executor from covalent.conf, in its own folder, before
            # it fills in the attributes of the one that the user built. Only if that does not
            # follow, the error matters, and then `run` says it.
            if None in given.values():
                raise ConfigurationError(str(error)) from None  # it says all there is
            given = {k: v or names.DEFAULTS[k] for k, v in given.items()}
            settings = names.resolve(**given, environ={})
            self.unresolved = str(error)
        else:
            self.unresolved = ""
        self.function_name = settings.function_name
        self.s3_bucket_name = self.remote_cache = settings.s3_bucket_name
        self.credentials_file = settings.credentials_file
        self.profile = settings.profile
        self.region = settings.region
        self.sources = dict(settings.sources)

    def __repr__(self) -> str:
        shown = ("function_name", "s3_bucket_name", "region", "profile")
        return f"AWSLambdaExecutor({', '.join(f'{x}={getattr(self, x)!r}' for x in shown)})"

    # -- running an electron ---------------------------------------------------------------------

    async def run(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_metadata: Mapping[str, Any],
    ) -> Any:
        """Run one electron on the function.

        Args:
            function: what Covalent assembled (its `wrapper_fn` with the electron's parts), or any
                callable.
            args, kwargs: its arguments, as TransportableObjects or any objects.
            task_metadata: `dispatch_id` and `node_id`.

        Returns:
            The return value: a TransportableObject if Covalent called, else the object itself.

        Raises:
            TaskCancelledError: if the electron was cancelled; the function has been told to stop.
            AWSLambdaExecutorError: if there is no result; the subclass says what can be done.
        """
        task = _Task(self, task_metadata)
        try:
            with task.registered():
                function_key = self._account(), self.function_name
                if function_key in _STOCK:
                    try:
                        return await self._stock(task, function, args, kwargs)
                    except stock.NoStockImage:
                        _STOCK.discard(function_key)
                electron = await _taken_apart(function, args, kwargs)
                try:
                    return await self._repeated(task, electron)
                except StockImage:
                    _STOCK.add(function_key)
                    return await self._stock(task, function, args, kwargs)
        except AWSLambdaExecutorError as error:
            self._show(error)
            app_log.debug(f"{task.name} failed: {error}")
            raise

    async def _repeated(self, task: "_Task", electron: Electron) -> Any:
        """Run the electron, again if it fails and `retries` asks for it."""
        for retries_left in range(self.retries, -1, -1):
            try:
                return await self._once(task, electron)
            except (ConfigurationError, TaskRejectedError):
                raise  # nothing ran, and nothing would
            except AWSLambdaExecutorError as error:
                if not retries_left:
                    raise
                self._show(error)
                app_log.warning(f"{task.name}: running again, {retries_left} left: {error}")
        raise AssertionError("unreachable")

    async def _once(self, task: "_Task", electron: Electron) -> Any:
        if self.unresolved:
            raise ConfigurationError(self.unresolved)
        attempt = task.attempt()
        try:
            await self._announce(attempt)
            response = await task.unless_cancelled(attempt, attempt.run(electron))
            self._keep_streams(response)
            self._account_for(task, attempt, response)
            if task.cancelled.done():
                raise TaskCancelledError(f"{task.name} was cancelled")
            return await self._result(attempt, electron, response)
        finally:
            await attempt.clean_up()

    async def _announce(self, attempt: Attempt) -> None:
        """Tell Covalent how to cancel this attempt, unless that was asked for already."""
        if "_send_queue" not in self.__dict__:
            return  # not under Covalent's server
        await self.set_job_handle({"task_id": attempt.task_id})
        if await self.get_cancel_requested():
            raise TaskCancelledError("cancelled before it was sent")

    async def _result(self, attempt: Attempt, electron: Electron, response: Response) -> Any:
        if response.failure and response.failure.kind == wire.CANCELLED:
            raise TaskCancelledError(f"{attempt.task_id} was cancelled")
        if response.failure:
            raise failures.of_response(
                response.failure, response.usage, self.function_name, self._limits()
            )
        if response.result is None or response.text is None:
            error = ValueError("it holds neither a result nor a failure")
            raise failures.of_answer(b"", self.function_name, error)
        result, text = response.result, response.text
        if not isinstance(result, str):
            result = await attempt.fetch(result)
        if not isinstance(text, str):
            text = wire.decode(await attempt.fetch(text)).decode()
        return electron.result(response, result, text)

    async def _stock(
        self,
        task: "_Task",
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Run an electron on a function of Covalent's stock image.

        The stock handler cannot be stopped: once cancelled, the electron is no longer waited for.
        """
        run = stock.StockRun(
            self._transport(),
            dispatch_id=task.dispatch_id,
            node_id=task.node_id,
            timeout=self.timeout,
            poll_freq=self.poll_freq,
        )
        result = await task.unless_cancelled(None, run.run(function, args, kwargs))
        return result if is_covalents(function) else result.get_deserialized()

    def _limits(self) -> dict[str, float]:
        limits = {"timeout": self.timeout, "time_limit": self.time_limit}
        return {name: seconds for name, seconds in limits.items() if seconds > 0}

    def _keep_streams(self, response: Response) -> None:
        for stream, text in (
            (self.task_stdout, response.stdout),
            (self.task_stderr, response.stderr),
        ):
            if stream is not None:
                stream.write(text)

    def _account_for(self, task: "_Task", attempt: Attempt, response: Response) -> None:
        """Log what the invocation took; with `usage=True` also at the end of stderr."""
        used = accounts.of(response.usage, attempt.log_tail)
        total = accounts.add(task.dispatch_id, used, self.prices)
        line = f"[lambda] {used}; dispatch so far: {total}"
        app_log.info(f"{task.name}: {line}")
        if self.usage and self.task_stderr is not None:
            self.task_stderr.write(f"{line}\n")

    def _show(self, error: AWSLambdaExecutorError) -> None:
        """Put an error where Covalent's UI shows it: at the end of the electron's stderr."""
        if self.task_stderr is not None:
            self.task_stderr.write(error.report())

    # -- cancelling one --------------------------------------------------------------------------

    async def cancel(
        self, task_metadata: Mapping[str, Any] | None = None, job_handle: Any = None
    ) -> bool:
        """Stop an electron: before it is sent, while it waits for its turn, or while it runs.

        Args:
            task_metadata: `dispatch_id` and `node_id`.
            job_handle: what `run` told Covalent.

        Returns:
            Whether the electron was told to stop.
        """
        if not task_metadata or not job_handle:
            return False
        running = _RUNNING.get(_key(task_metadata))
        if running is not None:
            running.cancel()
            return True
        # It was sent by a server that has since been started anew.
        await in_thread(mark_cancelled, self._transport(), job_handle["task_id"])
        return True

    async def receive(self, task_group_metadata: Mapping[str, Any], data: Any) -> list[TaskUpdate]:
        """Tell Covalent what became of electrons that it did not start.

        Covalent asks this of electrons that were cancelled before their turn; `run` never sees
        them.

        Args:
            task_group_metadata: `dispatch_id` and `node_ids`.
            data: nothing is needed.
        """
        return [
            TaskUpdate(
                dispatch_id=task_group_metadata["dispatch_id"],
                node_id=node_id,
                status=RESULT_STATUS.CANCELLED,
                assets={},
            )
            for node_id in task_group_metadata["node_ids"]
        ]

    # -- AWS -------------------------------------------------------------------------------------

    @contextmanager
    def get_session(self) -> Iterator[Any]:
        """A boto3 session with the executor's credentials, profile and region."""
        yield session(self._account())

    def boto_session_options(self) -> dict[str, str]:
        """The profile and region as arguments of `boto3.Session`."""
        options = {"profile_name": self.profile, "region_name": self.region}
        return {k: v for k, v in options.items() if v}

    async def _validate_credentials(self, raise_exception: bool = True) -> dict[str, Any] | bool:
        """The caller's identity, from AWS STS; False if the credentials are not accepted."""
        try:
            return await in_thread(caller_identity, self._account())
        except ConfigurationError:
            if raise_exception:
                raise
            return False

    # -- the public plugin's S3 protocol, step by step -------------------------------------------

    def submit_task_sync(
        self, function_name: str, func_filename: str, result_filename: str, exception_filename: str
    ) -> dict[str, Any]:
        """Invoke a function of Covalent's stock image asynchronously.

        Args:
            function_name: its name.
            func_filename, result_filename, exception_filename: keys in the executor's bucket.

        Returns:
            Lambda's answer as boto3 gives it (`StatusCode` 202).
        """
        names_ = (func_filename, result_filename, exception_filename)
        event = stock.event(self.s3_bucket_name, *names_)
        return self._transport(function_name).invoke_event(json.dumps(event).encode())

    async def submit_task(
        self, function_name: str, func_filename: str, result_filename: str, exception_filename: str
    ) -> dict[str, Any]:
        """`submit_task_sync` without blocking."""
        names_ = (func_filename, result_filename, exception_filename)
        return await in_thread(self.submit_task_sync, function_name, *names_)

    def get_status_sync(self, object_key: str) -> bool:
        """Whether the bucket holds `object_key`; that S3 refuses to say is an error, not a no."""
        return self._transport().exists(object_key)

    async def get_status(self, object_key: str) -> bool:
        """`get_status_sync` without blocking."""
        return await in_thread(self.get_status_sync, object_key)

    def query_result_sync(self, workdir: str, result_filename: str) -> Any:
        """Download a result into `workdir` and load it.

        Raises:
            FileNotFoundError: if the bucket holds no such object.
            ConfigurationError: if it is no result of Covalent's stock image.
        """
        data = stock.download_file(self._transport(), workdir, result_filename)
        return stock.load(data, result_filename)

    async def query_result(self, workdir: str, result_filename: str) -> Any:
        """`query_result_sync` without blocking."""
        return await in_thread(self.query_result_sync, workdir, result_filename)

    def query_task_exception_sync(self, workdir: str, exception_filename: str) -> Any:
        """Download the text of an electron's exception into `workdir` and return it.

        Raises:
            FileNotFoundError: if the bucket holds no such object.
        """
        return json.loads(stock.download_file(self._transport(), workdir, exception_filename))

    async def query_task_exception(self, workdir: str, exception_filename: str) -> Any:
        """`query_task_exception_sync` without blocking."""
        return await in_thread(self.query_task_exception_sync, workdir, exception_filename)

    async def _upload_task(self, workdir: str, func_filename: str) -> None:
        await in_thread(stock.upload_file, self._transport(), workdir, func_filename)

    async def _poll_task(self, object_keys: Sequence[str]) -> str:
        return await stock.poll(
            self._transport(), object_keys, timeout=self.timeout, poll_freq=self.poll_freq
        )

    def _account(self) -> Account:
        return Account(
            region=self.region,
            profile=self.profile,
            credentials_file=self.credentials_file,
            endpoint_url=self.endpoint_url,
        )

    def _direct_transport(self) -> Transport:
        # The documented default is a name that anybody may have taken: data goes only into a
        # bucket that somebody named.
        source = self.sources.get("s3_bucket_name", "")
        named = not source.startswith("the documented default")
        return self._transport(bucket=self.s3_bucket_name if named else "")

    def _transport(self, function_name: str = "", bucket: str | None = None) -> Transport:
        return Transport(
            self._account(),
            function=function_name or self.function_name,
            bucket=self.s3_bucket_name if bucket is None else bucket,
            sources=self.sources,
        )


class _Task:
    """An electron that `run` is busy with, and whether it was cancelled."""

    def __init__(self, executor: AWSLambdaExecutor, metadata: Mapping[str, Any]) -> None:
        self._executor = executor
        self.dispatch_id, self.node_id = self._key = _key(metadata)
        self.name = f"electron {self.node_id} of dispatch {self.dispatch_id}"
        self._loop = asyncio.get_running_loop()
        self.cancelled: asyncio.Future[None] = self._loop.create_future()

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Let `cancel`, which is called on another instance, find this task."""
        _RUNNING[self._key] = self
        try:
            yield
        finally:
            if _RUNNING.get(self._key) is self:
                del _RUNNING[self._key]

    def attempt(self) -> Attempt:
        limit = self._executor.time_limit
        return Attempt(
            self._executor._direct_transport(),
            task_id=f"{self.dispatch_id}-{self.node_id}-{secrets.token_hex(4)}",
            timeout=self._executor.timeout,
            time_limit=limit if limit and limit > 0 else None,
        )

    def cancel(self) -> None:
        """May be called from any thread."""
        self._loop.call_soon_threadsafe(self._note_cancelled)

    def _note_cancelled(self) -> None:
        if not self.cancelled.done():
            self.cancelled.set_result(None)

    async def unless_cancelled(self, attempt: Attempt | None, running: Awaitable[T]) -> T:
        """Await `running`; once cancelled, have the function stop, and keep its last answer.

        Raises:
            TaskCancelledError: if it was cancelled and no answer came.
        """
        job: asyncio.Future[T] = asyncio.ensure_future(running)
        try:
            either: set[asyncio.Future[Any]] = {job, self.cancelled}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not job.done() and attempt and attempt.sent and await self._told(attempt):
                await asyncio.wait({job}, timeout=_STOPPING)
            if job.done() and not (self.cancelled.done() and job.exception()):
                return job.result()
            raise TaskCancelledError(f"{self.name} was cancelled")
        except asyncio.CancelledError:  # the server is stopping
            if attempt and attempt.sent:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(asyncio.shield(attempt.cancel()), _STOPPING)
            raise
        finally:
            job.cancel()

    async def _told(self, attempt: Attempt) -> bool:
        """Whether the function could be told to stop; else it runs on, and stderr says so."""
        try:
            await attempt.cancel()
        except AWSLambdaExecutorError as error:
            app_log.warning(f"{self.name} is cancelled, but its function runs on: {error}")
            if self._executor.task_stderr is not None:
                self._executor.task_stderr.write(f"Cancelled, but the function runs on: {error}\n")
            return False
        return True


async def _taken_apart(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Electron:
    if is_covalents(function):
        return Electron.of(function, args, kwargs)
    return await in_thread(Electron.of, function, args, kwargs)  # it has to be pickled first


# Functions found to run Covalent's stock image.
_STOCK: set[tuple[Account, str]] = set()

# Electrons that this process is busy with, by dispatch and node.
_RUNNING: dict[tuple[str, int], _Task] = {}


def _key(metadata: Mapping[str, Any]) -> tuple[str, int]:
    return str(metadata["dispatch_id"]), int(metadata["node_id"])


def _conf() -> dict[str, Any]:
    try:
        said = get_config("executors.awslambda")
    except KeyError:
        said = {}
    return {**_EXECUTOR_PLUGIN_DEFAULTS, **said}


def _default_cache_dir() -> str:
    return str(get_config("dispatcher.cache_dir"))


def _checked_prices(prices: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(prices) - set(accounts.PRICES))
    if unknown:
        raise ConfigurationError(
            f"prices= has no entry {unknown[0]!r}; it has {', '.join(accounts.PRICES)}."
        )
    return dict(prices)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"{name}={value!r} must be a number of seconds above 0.")
    return value


def _address(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of a port that is no number, of half an IPv6 address
        is_address = False
    if value and not is_address:
        raise ConfigurationError(
            f"{name}={value!r} must be an address such as 'http://127.0.0.1:3001'."
        )
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(f"{name}={value!r} must be a whole number, 0 or more.")
    return value
