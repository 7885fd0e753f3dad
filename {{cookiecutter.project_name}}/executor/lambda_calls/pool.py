"""A `concurrent.futures.Executor` whose workers are invocations of a Lambda function.

    submit, map ─► Task ─► Scatter, on an event loop in a thread of its own ─► Future

Usable in a script, a notebook or an electron; needs no Covalent.
"""

import asyncio

# Threads that asyncio uses end in the order in which they were imported, the last first: a pool's
# calls need them until its own end (`_finish`).
import concurrent.futures.thread  # noqa: F401
import functools
import inspect
import itertools
import numbers
import os
import pickle
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

from . import checked, html, messages, wire
from .attempt import Limits
from .aws.clients import Account
from .call import Shared
from .carrying import Carrier
from .errors import CallCancelled, ConfigurationError, LambdaCallError
from .progress import Bar
from .scatter import PARALLEL, Ending, Policy, Scatter, Task
from .session import ADD_PACKAGE, Process, Target
from .settings import Origin, SettingsError, SettingsReader, deploy_option, given
from .stats import Stats

T = TypeVar("T")

# What pickle alone writes as cloudpickle would, in a tenth of the time.
_PLAIN = (int, float, complex, str, bytes, bool, type(None))
# Calls of `map` that are on their way at a time, where nothing is said: enough to keep a thousand
# environments busy with packed calls, and bounded however long the input is.
_BUFFER = 20_000


class RemoteTraceback(Exception):
    """The cause of an exception that a call raised: where in the function that was."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class LambdaPoolExecutor(Executor):
    """Runs calls on a Lambda function, as `ProcessPoolExecutor` runs them in processes.

    Names come from the project's samconfig.toml, unless they are given.

    Args:
        max_workers: requests under way at a time; None: as many as Lambda takes.
        initializer: called once in each environment before its first call; what it leaves in its
            process (a loaded model) is there for each call. One that leaves threads or processes
            behind is called before each request instead. If it fails, the pool is broken.
        initargs: its arguments.
        function_name, s3_bucket_name, credentials_file, profile, region, samconfig, config_env,
            endpoint_url: as those of `AWSLambdaExecutor`.
        timeout: seconds for one request, from its turn on; and how long Lambda may take none.
        time_limit: seconds that a request may run in the function; None: only `timeout`.
        per_invocation: calls of one request that run at a time, in a process each.
        retries: how often a failed call is tried again; 0: never.
        backoff: seconds before it is; doubled each time, with jitter.
        retry_on: classes of exceptions that are worth it.
        speculate: whether a straggler is sent a second time; its calls may run twice.
        progress: whether to show a bar (needs the package tqdm).
        prices: US dollars, where they differ from `lambda_calls.usage.PRICES`.
        carry: modules that travel with the calls; None: those beside the script (see `carrying`).

    Raises:
        ConfigurationError: if samconfig.toml cannot be used.
        ValueError, TypeError: if a value is out of range, or of another kind.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        *,
        function_name: str | None = None,
        s3_bucket_name: str | None = None,
        credentials_file: str | None = None,
        profile: str | None = None,
        region: str | None = None,
        samconfig: str | None = None,
        config_env: str | None = None,
        endpoint_url: str | None = None,
        timeout: float = 900,
        time_limit: float | None = None,
        per_invocation: int = 1,
        retries: int = 0,
        backoff: float = 0.5,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        speculate: bool = False,
        progress: bool = False,
        prices: Mapping[str, float] | None = None,
        carry: "Iterable[str | ModuleType] | None" = None,
    ) -> None:
        if max_workers is not None:
            max_workers = _checked("max_workers", max_workers, checked.whole)
        per_invocation = _checked("per_invocation", per_invocation, checked.whole)
        for name, value in (("max_workers", max_workers), ("per_invocation", per_invocation)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be greater than 0")
        retries = _checked("retries", retries, checked.count)
        backoff = _checked("backoff", backoff, checked.pause)
        timeout = _checked("timeout", timeout, checked.seconds)
        if time_limit is not None:
            time_limit = _checked("time_limit", time_limit, checked.seconds)
        retry_on = _checked("retry_on", retry_on, checked.exceptions, kind=())
        if endpoint_url:
            endpoint_url = _checked("endpoint_url", endpoint_url, checked.address, kind=str)
        if prices:
            prices = _checked("prices", prices, checked.prices, kind=Mapping)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        target = _target(
            {
                "function_name": function_name,
                "s3_bucket_name": s3_bucket_name,
                "credentials_file": credentials_file,
                "profile": profile,
                "region": region,
            },
            samconfig=samconfig,
            config_env=config_env,
            endpoint_url=endpoint_url or "",
        )
        Carrier().carry(carry)
        self._max_workers = max_workers or PARALLEL  # Dask asks for it by this name
        self._setup = None if initializer is None else (initializer, tuple(initargs))
        self._retries = retries
        self._stats = Stats(prices or {})
        self._lock = threading.Lock()
        self._shut = False
        policy = Policy(
            parallel=max_workers,
            processes=per_invocation,
            limits=Limits(timeout=timeout, time_limit=time_limit),
            backoff=backoff,
            again=partial(_is_worth_it, retry_on),
            speculate=speculate,
        )
        self._engine = _Engine(target, policy, self._stats, Bar() if progress else None)
        self._pickled_setup: str | None = None
        self._known: weakref.WeakValueDictionary[str, Shared] = weakref.WeakValueDictionary()
        self._made_in = os.getpid()
        # A pool that is let go of ends its thread. A script that just ends has its calls done
        # first, as with the standard library's pools.
        weakref.finalize(self, self._engine.close, wait=False).atexit = False
        _finished_at_exit().add(self)

    # -- concurrent.futures ----------------------------------------------------------------------

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Have `fn(*args, **kwargs)` run, alone in its request.

        Raises:
            RuntimeError: after `shutdown`.
            TypeError: if `fn` is a coroutine function: a call's value must be its own.
        """
        _refuse_coroutines(fn)
        future: Future[T] = Future()
        try:
            shared = self._shared_by(fn)
            data = _pickled(args, kwargs)
        except Exception as error:
            self._check_open()
            future.set_exception(error)
            return future
        self._send([(future, data)], shared, size=1)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """The values of `fn` over the iterables, in order.

        The iterables are read as results are taken: an input without end is no problem.

        Args:
            fn: the function.
            iterables: its arguments, read in step; the shortest ends.
            timeout: seconds for all results, from now on.
            chunksize: calls in a request; None: learnt from how long they take.
            buffersize: calls on their way at a time; None: twenty thousand.
            return_exceptions: whether a call's exception is its value, not raised.

        Raises:
            TimeoutError: from the iterator, if a result does not come in time.
        """
        return self.starmap(
            fn,
            zip(*iterables, strict=False),
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            return_exceptions=return_exceptions,
        )

    def starmap(
        self,
        fn: Callable[..., T],
        arguments: Iterable[Sequence[Any]],
        *,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """`map` over tuples of arguments."""
        flow = _InOrder(return_exceptions)
        self._begin(flow, fn, arguments, timeout, chunksize, buffersize)
        return flow.values()

    def map_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """`map`, with each result as soon as it is there."""
        arguments = zip(*iterables, strict=False)
        flow = _AsTheyCome(return_exceptions)
        self._begin(flow, fn, arguments, timeout, chunksize, buffersize)
        return flow.values()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: for those that there are.
            cancel_futures: those that have not begun are cancelled.
        """
        if os.getpid() != self._made_in:
            return  # its calls are the other process's
        with self._lock:
            self._shut = True
        if cancel_futures:
            for future in self._engine.pending():
                future.cancel()
        self._engine.close(wait=wait)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool | None:
        if kind is None:
            self.shutdown(wait=True)
        else:  # Ctrl-C, or an exception: nobody wants the results any more
            self.stop()
        return None

    # -- beyond it -------------------------------------------------------------------------------

    def cancel(self, future: "Future[Any]") -> bool:
        """Cancel a call, also one that runs in Lambda, if it is alone in its request.

        A running call is given some seconds to end; its future then raises `CancelledError`.

        Returns:
            Whether it is cancelled, or was told to stop.
        """
        return future.cancel() or self._engine.cancel(future)

    def stop(self) -> None:
        """Stop everything, what runs in Lambda too, and take no more calls."""
        with self._lock:
            self._shut = True
        for future in self._engine.pending():
            future.cancel()
        self._engine.cancel_all()
        self._engine.close()

    @property
    def max_workers(self) -> int:
        """Requests under way at a time; where none was given, how many there are at first."""
        return self._max_workers

    def stats(self) -> Stats:
        """What the calls took so far."""
        return self._stats

    def plot(self, path: str | Path) -> Path:
        """Draw a timeline of the run so far; see `Stats.plot`."""
        return self._stats.plot(path)

    def __repr__(self) -> str:
        return f"LambdaPoolExecutor({self._engine.target.function!r}, {self._stats.summary})"

    def _repr_html_(self) -> str:
        shown = html.of_target("LambdaPoolExecutor", self._engine.target)
        return shown + self._stats._repr_html_()

    # -- calls on their way ----------------------------------------------------------------------

    def _begin(
        self,
        flow: "_Flow",
        fn: Callable[..., Any],
        arguments: Iterable[Sequence[Any]],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        _refuse_coroutines(fn)
        self._check_open()
        for name, value in (("chunksize", chunksize), ("buffersize", buffersize)):
            if value is not None and not isinstance(value, int):
                raise TypeError(f"{name} must be an integer or None")
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1.")
        shared = self._shared_by(fn)
        send = partial(self._send, shared=shared, size=chunksize)
        if not checked.is_time(timeout):
            raise TypeError(f"timeout={timeout!r} must be a number of seconds or None")
        end = None if timeout is None else time.monotonic() + float(timeout)
        flow.begin(iter(arguments), send, buffersize or _BUFFER, end)

    def _shared_by(self, fn: Callable[..., Any]) -> Shared:
        """What calls of `fn` have in common: the same object for equal functions, so that calls
        that were submitted one by one wait in one queue and hold one copy."""
        if self._setup is not None and self._pickled_setup is None:
            self._pickled_setup = Shared.pickled(self._setup)
        fresh = Shared.of(fn, self._pickled_setup)
        return self._known.setdefault(fresh.function, fresh)

    def _check_open(self) -> None:
        if os.getpid() != self._made_in:
            raise RuntimeError(
                f"This pool was made in process {self._made_in}, of which this one is a fork: its "
                "connections are not shared. Make a LambdaPoolExecutor in this process."
            )
        broken = self._engine.broken
        if broken is not None:
            raise broken
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _send(
        self, calls: "list[tuple[Future[Any], bytes]]", shared: Shared, size: int | None
    ) -> None:
        with self._lock:
            self._check_open()
            self._engine.add(calls, shared, size, self._retries)

    def __reduce__(self) -> Any:
        raise TypeError(
            "A LambdaPoolExecutor cannot be pickled: it holds connections. Make one where it is "
            "used, in the call itself."
        )


class _Engine:
    """An event loop in a thread of its own, on which a Scatter sends calls.

    The mutable state is that thread, started at the first call, and what is not settled yet. It
    knows no pool, so that a pool that nobody holds any more can be let go of.
    """

    def __init__(self, target: Target, policy: Policy, stats: Stats, bar: Bar | None) -> None:
        self.target, self._policy, self._stats, self._bar = target, policy, stats, bar
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = Process()
        self._scatter: Scatter | None = None
        self._tasks: dict[Future[Any], Task] = {}
        self._arrived: deque[Task] = deque()
        self._told = self._closed = False
        self._emptied = asyncio.Event()
        self._process.at_exit.watch()  # here, as the thread to come may set no handler of SIGTERM

    def add(
        self,
        calls: "list[tuple[Future[Any], bytes]]",
        shared: Shared,
        size: int | None,
        retries: int,
    ) -> None:
        """Have calls run."""
        loop = self._started()  # first: if there is no thread, nobody has the calls
        if self._bar is not None:
            self._bar.expect(len(calls))
        for future, data in calls:
            task = Task(
                data=data,
                shared=shared,
                begins=future.set_running_or_notify_cancel,
                settle=partial(_settle, future),
                size=size,
                retries_left=retries,
            )
            self._tasks[future] = task
            self._arrived.append(task)
            future.add_done_callback(self._over)
        if not self._told:  # one wake-up for all that come before it is answered
            self._told = True
            loop.call_soon_threadsafe(self._take)

    @property
    def broken(self) -> LambdaCallError | None:
        """Why no call can run any more; None if calls can."""
        return None if self._scatter is None else self._scatter.broken

    def pending(self) -> "list[Future[Any]]":
        """The calls that are not settled yet."""
        with self._lock:
            return list(self._tasks)

    def _over(self, future: "Future[Any]") -> None:
        with self._lock:
            self._tasks.pop(future, None)
        if self._bar is not None:
            self._bar.done(failed=not future.cancelled() and future.exception() is not None)
        if self._closed and not self._tasks and self._loop is not None:
            self._loop.call_soon_threadsafe(self._emptied.set)

    def cancel(self, future: "Future[Any]") -> bool:
        """Stop a call that runs alone in its request; whether it was told to."""
        task, scatter = self._tasks.get(future), self._scatter
        if task is None or scatter is None or future.done():
            return False
        return bool(self._on_loop(lambda: scatter.cancel(task)))

    def cancel_all(self) -> None:
        """Stop every call; returns when the function has been told."""
        loop, scatter = self._loop, self._scatter
        if loop is None or scatter is None or loop.is_closed():
            return
        ending = asyncio.run_coroutine_threadsafe(scatter.cancel_all(), loop)
        if threading.current_thread() is not self._thread:
            ending.result()

    def close(self, *, wait: bool = True) -> None:
        """End the thread once every call is settled.

        Args:
            wait: for the thread's end.
        """
        with self._lock:
            thread, loop, closed, self._closed = self._thread, self._loop, self._closed, True
        if thread is None or loop is None:
            self._process.close()
            self._close_bar()
            return
        if not closed:
            asyncio.run_coroutine_threadsafe(self._end(), loop)
        if wait and thread is not threading.current_thread():
            thread.join()

    async def _end(self) -> None:
        while self._tasks:
            self._emptied.clear()
            if self._tasks:
                await self._emptied.wait()
        if self._scatter is not None:
            await self._scatter.idle()
            self._process.at_exit.discard(self._send_no_more)
        self._close_bar()
        asyncio.get_running_loop().stop()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _on_loop(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, called on the loop; None if that has ended."""
        if threading.current_thread() is self._thread:
            return work()
        told: Future[Any] = Future()
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(lambda: told.set_result(work()))
        except RuntimeError:  # it is closed
            return None
        return told.result()

    def _send_no_more(self) -> None:
        """For the end of the process: the calls that run are told to stop, each by itself. Others
        would take their places."""
        if self._scatter is not None:
            self._on_loop(self._scatter.send_no_more)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop, self._thread = self._start()
            return self._loop

    def _start(self) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
        loop = asyncio.new_event_loop()
        blocking = ThreadPoolExecutor(thread_name_prefix="lambda-pool-blocking")
        loop.set_default_executor(blocking)
        thread = threading.Thread(
            target=_serve, args=(loop, self._process, blocking), name="lambda-pool", daemon=True
        )
        try:
            # Python 3.12 starts no thread once the interpreter ends, which is when the calls of a
            # script that just ends are done. So one of each kind is there before.
            blocking.submit(int)
            self._process.start_threads()
            thread.start()
        except (RuntimeError, LambdaCallError) as error:  # "can't start new thread"
            blocking.shutdown(wait=False)
            loop.close()
            if isinstance(error, LambdaCallError):
                raise
            raise messages.NO_THREAD(said=error) from error
        return loop, thread

    def _take(self) -> None:
        """Runs on the loop: hand over what has arrived."""
        self._told = False
        if self._scatter is None:
            session = self._process.session(self.target)
            self._scatter = Scatter(
                session,
                self._policy,
                # Not to be taken for an electron's, of a dispatch and a node's number.
                name=f"pool-{os.getpid()}-{secrets.token_hex(4)}-calls",
                noun="call",
                answered=self._stats.add,
            )
            self._process.at_exit.add(self._send_no_more)
        tasks = []
        while self._arrived:
            tasks.append(self._arrived.popleft())
        self._scatter.add(tasks)


def _serve(
    loop: asyncio.AbstractEventLoop, process: Process, blocking: ThreadPoolExecutor
) -> None:
    """The thread's life: the loop, and what it leaves is closed and deleted at its end."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        _cancel_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        _cancel_tasks(loop)  # what timers have begun meanwhile
    finally:
        blocking.shutdown()  # the loop's own way to do so takes one more thread
        loop.close()
        process.at_exit.run()  # deletes what lingers in the bucket
        process.close()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    while left := asyncio.all_tasks(loop):  # what is cancelled may begin others
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


class _Flow:
    """The calls of one `map`: read and sent no faster than their results are taken.

    The mutable state is the input, and how many calls are on their way.
    """

    _arguments: Iterator[Sequence[Any]]
    _send: Callable[[list[tuple[Future[Any], bytes]]], None]
    _buffersize: int
    _end: float | None
    _futures: "deque[Future[Any]] | set[Future[Any]]"  # those whose results nobody has taken

    def __init__(self, return_exceptions: bool) -> None:
        self._return_exceptions = return_exceptions
        self._under_way, self._is_read = 0, False
        self._error: Exception | None = None  # of the input

    def begin(
        self,
        arguments: Iterator[Sequence[Any]],
        send: Callable[[list[tuple[Future[Any], bytes]]], None],
        buffersize: int,
        end: float | None,
    ) -> None:
        """Send the first calls.

        Args:
            arguments: of all calls.
            send: sends some.
            buffersize: how many are on their way at a time.
            end: until when all results must be there (seconds, monotonic).
        """
        self._arguments, self._send = arguments, send
        self._buffersize, self._end = buffersize, end
        self._fill()
        self._raise_if_failed()

    def values(self) -> Iterator[Any]:
        """The results, each taken once; what nobody takes is cancelled."""
        try:
            while self._futures:
                self._fill()
                yield self._next()  # no name here: the result is the caller's alone
            self._raise_if_failed()
        finally:
            for future in self._futures:
                future.cancel()

    def _fill(self) -> None:
        """Send as many calls as there is room for; a quarter at least, so that they pack.

        What goes wrong is raised after the results of the calls before it.
        """
        room = self._buffersize - self._under_way
        if self._is_read or room < max(1, self._buffersize // 4):
            return
        made: list[Future[Any]] = []
        calls: list[tuple[Future[Any], bytes]] = []
        try:
            for args in itertools.islice(self._arguments, room):
                made.append(Future())
                try:
                    calls.append((made[-1], _pickled(args, {})))
                except Exception as error:
                    made[-1].set_exception(error)
        except Exception as error:
            self._error = error
        try:
            if calls:
                self._send(calls)
        except RuntimeError as error:  # the pool was shut down
            made, self._error = [], error
        for future in made:
            self._keep(future)
        self._under_way += len(made)
        self._is_read = len(made) < room

    def _raise_if_failed(self) -> None:
        if self._error is not None:
            raise self._error

    def _keep(self, future: "Future[Any]") -> None:
        raise NotImplementedError

    def _next(self) -> Any:
        """The next result; its future is kept no longer."""
        raise NotImplementedError

    def _left(self) -> float | None:
        """Seconds that are left for all results."""
        if self._end is None:
            return None
        return min(threading.TIMEOUT_MAX, self._end - time.monotonic())  # more is refused

    def _value(self, future: "Future[Any]", seconds: float | None) -> Any:
        if not self._return_exceptions:
            return future.result(seconds)
        error = future.exception(seconds)
        return future.result() if error is None else error


class _InOrder(_Flow):
    """Results in the order of the input."""

    def __init__(self, return_exceptions: bool) -> None:
        super().__init__(return_exceptions)
        self._futures: deque[Future[Any]] = deque()

    def _keep(self, future: "Future[Any]") -> None:
        self._futures.append(future)

    def _next(self) -> Any:
        try:
            return self._value(self._futures[0], self._left())
        finally:
            self._futures.popleft().cancel()  # if it was too late
            self._under_way -= 1


class _AsTheyCome(_Flow):
    """Results as soon as they are there."""

    def __init__(self, return_exceptions: bool) -> None:
        super().__init__(return_exceptions)
        self._futures: set[Future[Any]] = set()
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()

    def _keep(self, future: "Future[Any]") -> None:
        self._futures.add(future)
        future.add_done_callback(self._done.put)

    def _next(self) -> Any:
        left = self._left()
        try:
            future = self._done.get(timeout=None if left is None else max(0.0, left))
        except Empty:
            raise FuturesTimeoutError from None
        self._futures.discard(future)
        self._under_way -= 1
        return self._value(future, None)


@functools.cache
def _finished_at_exit() -> "weakref.WeakSet[LambdaPoolExecutor]":
    """The pools whose calls are done before the interpreter ends. There is one registration for
    all, since none can be taken back. In `atexit` it would be too late to start a thread."""
    pools: weakref.WeakSet[LambdaPoolExecutor] = weakref.WeakSet()
    threading._register_atexit(_finish, pools)  # type: ignore[attr-defined]
    return pools


def _finish(pools: "weakref.WeakSet[LambdaPoolExecutor]") -> None:
    """Have the calls of pools done: the event loop still has threads."""
    for pool in list(pools):
        pool.shutdown(wait=True)


def _settle(future: "Future[Any]", ending: Ending) -> None:
    """Give a future what became of its call."""
    if future.cancelled():
        return
    if future.running() or future.set_running_or_notify_cancel():
        try:
            value = value_of(ending)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)


def _checked(name: str, value: Any, check: Callable[[Any], T], *, kind: Any = numbers.Real) -> T:
    """An argument as `check` returns it, before any call depends on it."""
    try:
        return check(value)
    except ValueError as error:
        refused = ValueError if isinstance(value, kind) else TypeError
        raise refused(f"{name}={value!r} {error}") from None


def _is_worth_it(
    retry_on: type[BaseException] | tuple[type[BaseException], ...], ending: Ending
) -> bool:
    """Whether a failed call is worth another try."""
    return isinstance(exception_of(ending), retry_on)


def value_of(ending: Ending) -> Any:
    """The value that a call returned.

    Raises:
        BaseException: what it raised, or why it has neither.
    """
    if ending.value is not None:
        return pickle.loads(ending.value)
    raise exception_of(ending)


def exception_of(ending: Ending) -> BaseException:
    """What a call raised, with the remote traceback as its cause; or why it has no ending."""
    if ending.raised is None:
        if isinstance(ending.error, CallCancelled):
            return CancelledError(str(ending.error))
        assert ending.error is not None  # as there is no value
        return ending.error
    raised = ending.raised
    error: BaseException
    try:
        if raised.exception is None:
            raise ValueError("it cannot be pickled")
        error = pickle.loads(wire.decode(raised.exception))
        if not isinstance(error, BaseException):
            raise TypeError(f"it is a {type(error).__name__}")
    except BaseException as reason:  # whatever a class of the user's does when it is unpickled
        error = messages.EXCEPTION(
            said=f"{raised.type}: {raised.message}",
            hint=messages.STANDS_FOR.format(reason=reason),
            type=raised.type,
            traceback=raised.traceback,
        )
    error.__cause__ = RemoteTraceback(raised.traceback)
    return error


def _pickled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    if not kwargs and all(type(x) in _PLAIN for x in args):
        return pickle.dumps((tuple(args), {}), protocol=4)
    import cloudpickle

    data: bytes = cloudpickle.dumps((tuple(args), dict(kwargs)))
    return data


def _refuse_coroutines(fn: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        name = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(
            f"{name} is an async function: what it returns cannot travel. Call it in a function "
            "of its own, def run(*args): return asyncio.run(...), and submit that."
        )


def _target(
    names: Mapping[str, str | None],
    *,
    samconfig: str | None,
    config_env: str | None,
    endpoint_url: str,
) -> Target:
    try:
        settings = SettingsReader().resolve(
            given(names, Origin.argument),
            samconfig=samconfig,
            config_env=config_env,
            environ=os.environ,
        )
    except SettingsError as error:
        raise ConfigurationError(str(error)) from None  # it says all there is
    found = {name: getattr(settings, name) for name in names}
    return Target(
        Account(
            region=settings.region.value,
            profile=settings.profile.value,
            credentials_file=settings.credentials_file.value,
            endpoint_url=endpoint_url,
        ),
        function=settings.function_name.value,
        bucket=settings.bucket,
        origins={name: str(setting.origin) for name, setting in found.items()},
        advice=messages.Advice(
            option=deploy_option(settings.function_name.origin.environment),
            add_package=os.environ.get(ADD_PACKAGE, ""),
        ),
    )
