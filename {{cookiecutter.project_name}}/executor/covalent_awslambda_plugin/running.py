"""One electron on its way through the executor: Covalent's side of it.

    awslambda.run ─► Running ─► lambda_calls.Run ─► one synchronous invocation
    awslambda.cancel ─┘  │ stdout, stderr, use, errors ─► where Covalent shows them

Only Covalent's server comes here: a script that writes workflows imports `awslambda` alone.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TextIO

from covalent._shared_files import logger
from covalent._shared_files.config import get_config
from covalent._shared_files.exceptions import TaskCancelledError
from covalent._shared_files.schemas.electron import ELECTRON_STDOUT_FILENAME
from lambda_calls import messages, usage, wire
from lambda_calls.attempt import Limits, StockImage
from lambda_calls.call import Call
from lambda_calls.cancellation import Cancellation
from lambda_calls.errors import CallCancelled, LambdaCallError
from lambda_calls.run import Result, Run, Spread
from lambda_calls.session import Session, Target

from . import electron, record, stock
from .errors import as_covalents
from .fanning import FanOut
from .server import Node, Server

app_log = logger.app_log

# What no dispatch's id of Covalent's holds, and no key in S3 and no line of a log should.
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST = 100  # characters
# How often an electron is sent, in either protocol, while its function is being replaced.
_TRIES = 4


@dataclass(frozen=True)
class Terms:
    """What an executor's arguments say about each of its electrons.

    Args:
        target: where it runs.
        stock_bucket: of the stock image's protocol, the documented default's where none is named.
        limits: what it may take.
        poll_freq: longest seconds between looks at S3, for the stock image.
        shows_usage: whether its stderr ends with a line on time, memory and cost.
        prices: US dollars, where they differ from the usual ones.
    """

    target: Target
    stock_bucket: str
    limits: Limits
    poll_freq: float
    shows_usage: bool
    prices: Mapping[str, float]


class Covalent(Protocol):
    """What Covalent's server is told of an electron, and asked about it."""

    async def set_job_handle(self, handle: Any) -> Any: ...
    async def get_cancel_requested(self) -> Any: ...


class Running:
    """An electron that is being run, and whoever is told how it goes.

    Args:
        server: this process's.
        terms: what its executor says.
        node: its dispatch and number.
        stdout, stderr: where Covalent keeps its streams; None: nowhere.
        covalent: the server that started it; None: a script did.
    """

    def __init__(
        self,
        server: Server,
        terms: Terms,
        node: Node,
        *,
        stdout: TextIO | None,
        stderr: TextIO | None,
        covalent: Covalent | None,
    ) -> None:
        self._server, self._terms, self._node = server, terms, node
        self._stdout, self._stderr, self._covalent = stdout, stderr, covalent
        self._dispatch = _ODD.sub("_", node[0])[:_LONGEST]  # as keys and log lines have it
        self._task = f"{self._dispatch}-{node[1]}"
        self._name = f"electron {node[1]} of dispatch {self._dispatch}"
        self._cancellation = Cancellation(self._name)

    async def result(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run it; see `AWSLambdaExecutor.run`."""
        with self._registered():
            session = self._server.process.session(self._terms.target)
            for _ in range(_TRIES):  # nothing ran by a try that meets the other image
                try:
                    if session.is_stock_image:
                        return await self._stock_result(session, function, args, kwargs)
                    call = await self._call_of(function, args, kwargs)
                    result = await self._run_of(session, call).result()
                    if isinstance(result, Spread):
                        result = await self._fanned_out(session, call, result)
                    if electron.is_covalents(function):
                        return electron.put_together(result)
                    return electron.opened(result)
                except StockImage:
                    session.is_stock_image = True
                except stock.NoStockImage:
                    session.is_stock_image = False
            raise messages.TWO_IMAGES(call="electron", function=self._terms.target.function)

    def cancel(self) -> None:
        """Stop it. May be called from any thread."""
        self._cancellation.request()

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Let `cancel`, which Covalent calls on another executor, find this electron; and show
        Covalent how it ends."""
        running = self._server.running
        running[self._node] = self
        try:
            yield
        except CallCancelled as error:
            raise TaskCancelledError(str(error)) from error
        except LambdaCallError as error:
            self._say(error.report())
            app_log.debug(f"{self._name} failed: {wire.on_one_line(error)}")
            raise as_covalents(error) from error.__cause__
        finally:
            if running.get(self._node) is self:
                del running[self._node]

    async def _call_of(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Call:
        if electron.is_covalents(function):
            return electron.taken_apart(function, args, kwargs)
        return await self._server.process.requests.run(Call.of, function, args, kwargs)

    def _run_of(self, session: Session, call: Call) -> Run:
        return Run(
            session,
            call,
            self._terms.limits,
            name=self._task,
            noun="electron",
            observer=self,
            cancellation=self._cancellation,
        )

    async def _fanned_out(self, session: Session, call: Call, spread: Spread) -> Result:
        """Run the items of a fan-out electron."""
        fan_out = FanOut(
            session,
            spread,
            call,
            self._terms.limits,
            name=self._task,
            used=self._account_for,
            progress=self._progresses,
        )
        try:
            return await fan_out.result(self._cancellation)
        finally:
            for stream, text in zip((self._stdout, self._stderr), fan_out.streams(), strict=True):
                if stream is not None:
                    stream.write(text)
            if self._terms.shows_usage:
                total = self._server.totals.of(self._node[0])
                self._say(f"[lambda] fan-out of {len(spread.items)}; dispatch so far: {total}\n")

    async def _stock_result(
        self, session: Session, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run it on a function of Covalent's stock image.

        The stock handler cannot be stopped: once cancelled, the electron is no longer waited for.
        """
        target = replace(self._terms.target, bucket=self._terms.stock_bucket)
        run = stock.StockRun(
            session,
            self._server.process.objects(target),
            (self._dispatch, self._node[1]),
            timeout=self._terms.limits.timeout,
            poll_freq=self._terms.poll_freq,
        )
        result = await self._cancellation.unless_requested(run.result(function, args, kwargs))
        return result if electron.is_covalents(function) else result.get_deserialized()

    # -- what it is told (lambda_calls.run.Observer) ---------------------------------------------

    async def begins(self, task_id: str) -> bool:
        """Tell Covalent how to cancel this attempt, unless that was asked for already."""
        if self._covalent is None:
            return True
        await self._covalent.set_job_handle({"task_id": task_id})
        return not await self._covalent.get_cancel_requested()

    def answered(self, response: wire.Response, used: usage.Usage) -> None:
        """Keep its streams; log what it took, with `usage=True` also at the end of stderr."""
        for stream, text in ((self._stdout, response.stdout), (self._stderr, response.stderr)):
            if stream is not None:
                stream.write(text)
        if response.failure and response.failure.kind == wire.CANCELLED:
            self._say(response.failure.traceback)  # where it stood
        line = self._account_for(used)
        if self._terms.shows_usage:
            self._say(f"{line}\n")

    def _account_for(self, used: usage.Usage) -> str:
        total = self._server.totals.add(self._node[0], used, self._terms.prices)
        line = f"[lambda] {used}; dispatch so far: {total}"
        app_log.info(f"{self._name}: {line}")
        self._record(used)
        return line

    def _record(self, used: usage.Usage) -> None:
        dispatch_id, node_id = self._node
        folder = _folder(dispatch_id)
        if folder is None:
            return
        try:
            record.add(folder, record.Entry.of(node_id, used, self._terms.prices))
        except OSError as error:  # figures are no reason to fail an electron
            app_log.warning(f"{self._name}: what it took could not be noted: {error}")

    def _progresses(self, line: str) -> None:
        app_log.info(f"{self._name}: {line}")
        if self._stdout is not None:
            self._stdout.write(f"{line}\n")
            self._show(f"{line}\n")

    def _show(self, text: str) -> None:
        """Put `text` where Covalent has the node's output for whoever asks while it runs; at the
        node's end Covalent writes all of it anew."""
        dispatch_id, node_id = self._node
        folder = _folder(dispatch_id)
        if folder is None:
            return
        path = os.path.join(folder, f"node_{int(node_id)}", ELECTRON_STDOUT_FILENAME)
        with suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(text)

    def fails(self, error: LambdaCallError, retries_left: int) -> None:
        """Put the error where Covalent's UI shows it: at the end of the electron's stderr."""
        self._say(error.report())
        app_log.warning(
            f"{self._name}: running again, {retries_left} left: {wire.on_one_line(error)}"
        )

    def cannot_stop(self, error: LambdaCallError) -> None:
        """Say that its function runs on."""
        app_log.warning(
            f"{self._name} is cancelled, but its function runs on: {wire.on_one_line(error)}"
        )
        self._say(f"Cancelled, but the function runs on: {error}\n")

    def _say(self, text: str) -> None:
        if self._stderr is not None:
            self._stderr.write(text)


def _folder(dispatch_id: str) -> str | None:
    """Where Covalent keeps a dispatch's files; None for an id that is none of Covalent's, which
    could lead to any folder."""
    if _ODD.search(dispatch_id):
        return None
    return os.path.join(get_config("dispatcher.results_dir"), dispatch_id)


async def cancel(server: Server, target: Target, node: Node, task_id: str) -> None:
    """Stop an electron, whichever executor of this process or of an earlier one runs it.

    Args:
        server: this process's.
        target: function and bucket.
        node: its dispatch and number.
        task_id: of its latest attempt, as Covalent was told.

    Raises:
        ConfigurationError: if it was sent by an earlier process, and there is no bucket by which
            the function could be told.
    """
    running = server.running.get(node)
    if running is not None:
        return running.cancel()
    if not target.bucket:
        raise messages.NO_WAY_TO_TELL(call=f"electron {node[1]}", function=target.function)
    key = wire.task_key(task_id, wire.ORDER)
    put = server.process.objects(target).put
    await server.process.requests.run(put, key, wire.CANCEL.encode())
