"""One electron on its way through the executor: its attempts, its cancellation, its result.

    awslambda.run ─► Running ─► Attempt ─► Transport ─► one synchronous invocation
    awslambda.cancel ─► its mark ─┘  ▲                        │
                                     └──── Response ◄─────────┘
    result, stdout and stderr, or a typed error

Only Covalent's server comes here: a script that writes workflows imports `awslambda` alone.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from covalent._shared_files import logger
from covalent._shared_files.exceptions import TaskCancelledError

from lambda_calls import wire

from . import failures, stock
from . import usage as accounts
from .clients import Account
from .direct import Attempt, StockImage, mark_cancelled
from .electron import Electron, is_covalents
from .errors import AWSLambdaExecutorError, ConfigurationError, TaskRejectedError
from .threads import in_thread
from lambda_calls.wire import Response

if TYPE_CHECKING:
    from .awslambda import AWSLambdaExecutor

app_log = logger.app_log
T = TypeVar("T")

# Seconds that a cancelled electron is given to stop, so that its streams are kept.
_STOPPING = 6.0


class Running:
    """An electron that an executor is busy with, and whether it was cancelled.

    Args:
        executor: whose electron it is.
        metadata: `dispatch_id` and `node_id`.
    """

    def __init__(self, executor: "AWSLambdaExecutor", metadata: Mapping[str, Any]) -> None:
        self._executor = executor
        self.dispatch_id, self.node_id = self._key = _key(metadata)
        self.name = f"electron {self.node_id} of dispatch {self.dispatch_id}"
        self._loop = asyncio.get_running_loop()
        self.cancelled: asyncio.Future[None] = self._loop.create_future()

    async def result(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run it; see `AWSLambdaExecutor.run`."""
        try:
            with self._registered():
                function_key = self._executor._account(), self._executor.function_name
                if function_key in _STOCK:
                    try:
                        return await self._stock(function, args, kwargs)
                    except stock.NoStockImage:
                        _STOCK.discard(function_key)
                electron = await _taken_apart(function, args, kwargs)
                try:
                    return await self._repeated(electron)
                except StockImage:
                    _STOCK.add(function_key)
                    return await self._stock(function, args, kwargs)
        except AWSLambdaExecutorError as error:
            self._show(error)
            app_log.debug(f"{self.name} failed: {error}")
            raise

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Let `cancel`, which Covalent calls on another executor, find this electron."""
        _RUNNING[self._key] = self
        try:
            yield
        finally:
            if _RUNNING.get(self._key) is self:
                del _RUNNING[self._key]

    async def _repeated(self, electron: Electron) -> Any:
        """Run the electron, again if it fails and `retries` asks for it."""
        for retries_left in range(self._executor.retries, -1, -1):
            try:
                return await self._once(electron)
            except (ConfigurationError, TaskRejectedError):
                raise  # nothing ran, and nothing would
            except AWSLambdaExecutorError as error:
                if not retries_left:
                    raise
                self._show(error)
                app_log.warning(f"{self.name}: running again, {retries_left} left: {error}")
        raise AssertionError("unreachable")

    async def _once(self, electron: Electron) -> Any:
        if self._executor.unresolved:
            raise ConfigurationError(self._executor.unresolved)
        attempt = self._attempt()
        try:
            await self._announce(attempt)
            response = await self._unless_cancelled(attempt, attempt.run(electron))
            self._keep_streams(response)
            self._account_for(attempt, response)
            if self.cancelled.done():
                raise TaskCancelledError(f"{self.name} was cancelled")
            return await self._opened(attempt, electron, response)
        finally:
            await attempt.clean_up()

    def _attempt(self) -> Attempt:
        limit = self._executor.time_limit
        return Attempt(
            self._executor._direct_transport(),
            task_id=f"{self.dispatch_id}-{self.node_id}-{secrets.token_hex(4)}",
            timeout=self._executor.timeout,
            time_limit=limit if limit and limit > 0 else None,
        )

    async def _announce(self, attempt: Attempt) -> None:
        """Tell Covalent how to cancel this attempt, unless that was asked for already."""
        if "_send_queue" not in self._executor.__dict__:
            return  # not under Covalent's server
        await self._executor.set_job_handle({"task_id": attempt.task_id})
        if await self._executor.get_cancel_requested():
            raise TaskCancelledError("cancelled before it was sent")

    async def _opened(self, attempt: Attempt, electron: Electron, response: Response) -> Any:
        if response.failure and response.failure.kind == wire.CANCELLED:
            raise TaskCancelledError(f"{attempt.task_id} was cancelled")
        name = self._executor.function_name
        if response.failure:
            raise failures.of_response(response.failure, response.usage, name, self._limits())
        if response.result is None or response.text is None:
            error = ValueError("it holds neither a result nor a failure")
            raise failures.of_answer(b"", name, error)
        result, text = response.result, response.text
        if not isinstance(result, str):
            result = await attempt.fetch(result)
        if not isinstance(text, str):
            text = wire.decode(await attempt.fetch(text)).decode()
        return electron.result(response, result, text)

    async def _stock(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run it on a function of Covalent's stock image.

        The stock handler cannot be stopped: once cancelled, the electron is no longer waited for.
        """
        run = stock.StockRun(
            self._executor._transport(),
            dispatch_id=self.dispatch_id,
            node_id=self.node_id,
            timeout=self._executor.timeout,
            poll_freq=self._executor.poll_freq,
        )
        result = await self._unless_cancelled(None, run.run(function, args, kwargs))
        return result if is_covalents(function) else result.get_deserialized()

    def _limits(self) -> dict[str, float]:
        limits = {"timeout": self._executor.timeout, "time_limit": self._executor.time_limit}
        return {name: seconds for name, seconds in limits.items() if seconds > 0}

    # -- what it leaves in its streams -----------------------------------------------------------

    def _keep_streams(self, response: Response) -> None:
        for stream, text in (
            (self._executor.task_stdout, response.stdout),
            (self._executor.task_stderr, response.stderr),
        ):
            if stream is not None:
                stream.write(text)

    def _account_for(self, attempt: Attempt, response: Response) -> None:
        """Log what the invocation took; with `usage=True` also at the end of stderr."""
        used = accounts.of(response.usage, attempt.log_tail)
        total = accounts.add(self.dispatch_id, used, self._executor.prices)
        line = f"[lambda] {used}; dispatch so far: {total}"
        app_log.info(f"{self.name}: {line}")
        if self._executor.usage:
            self._say(f"{line}\n")

    def _show(self, error: AWSLambdaExecutorError) -> None:
        """Put an error where Covalent's UI shows it: at the end of the electron's stderr."""
        self._say(error.report())

    def _say(self, text: str) -> None:
        if self._executor.task_stderr is not None:
            self._executor.task_stderr.write(text)

    # -- cancelling it ---------------------------------------------------------------------------

    def cancel(self) -> None:
        """May be called from any thread."""
        self._loop.call_soon_threadsafe(self._note_cancelled)

    def _note_cancelled(self) -> None:
        if not self.cancelled.done():
            self.cancelled.set_result(None)

    async def _unless_cancelled(self, attempt: Attempt | None, running: Awaitable[T]) -> T:
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
            self._say(f"Cancelled, but the function runs on: {error}\n")
            return False
        return True


async def cancel(
    executor: "AWSLambdaExecutor", metadata: Mapping[str, Any], job_handle: Mapping[str, Any]
) -> None:
    """Stop an electron that this process runs, or that an earlier one sent.

    Args:
        executor: one with the names of the electron's own.
        metadata: `dispatch_id` and `node_id`.
        job_handle: what `run` told Covalent.
    """
    running = _RUNNING.get(_key(metadata))
    if running is not None:
        running.cancel()
        return
    # It was sent by a server that has since been started anew.
    await in_thread(mark_cancelled, executor._direct_transport(), job_handle["task_id"])


async def _taken_apart(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Electron:
    if is_covalents(function):
        return Electron.of(function, args, kwargs)
    return await in_thread(Electron.of, function, args, kwargs)  # it has to be pickled first


# Functions found to run Covalent's stock image.
_STOCK: set[tuple[Account, str]] = set()

# Electrons that this process is busy with, by dispatch and node.
_RUNNING: dict[tuple[str, int], Running] = {}


def _key(metadata: Mapping[str, Any]) -> tuple[str, int]:
    return str(metadata["dispatch_id"]), int(metadata["node_id"])
