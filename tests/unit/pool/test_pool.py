"""LambdaPoolExecutor: what its calls return, raise and leave; real handlers run them."""

import asyncio
import concurrent.futures
import gc
import importlib
import inspect
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import cloudpickle
import pytest
from aws_server import AWS, Answer
from covalent.executor import AWSLambdaExecutor
from electrons import bad, made
from fleet import THROTTLED, Fleet, pool
from lambda_calls import (
    CallFailedError,
    CallRejectedError,
    ConfigurationError,
    LambdaPoolExecutor,
    OutcomeUnknownError,
    RemoteTraceback,
    ResourceLimitError,
)
from lambda_calls.scatter import backed_off
from patience import wait_until
from secret_keys import SECRET_KEY
from template_paths import EXECUTOR

import wire

# As what a script defines: the image has no such module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def sleeps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def square(x: int) -> int:
    return x * x


def fails(x: int) -> int:
    if x == 3:
        raise KeyError("three")
    return x


def until_told(seconds: float = 300) -> str:
    time.sleep(seconds)
    return "slept"


class Large:
    """A result that can be referred to weakly."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)


def test_values_come_in_order_from_few_requests(fleet: Fleet) -> None:
    """Short calls are packed once it is known that they are short."""
    with pool(max_workers=2) as executor:
        assert list(executor.map(square, range(3000))) == [x * x for x in range(3000)]
    assert sum(fleet.sizes) == 3000
    assert len(fleet.sizes) < 100


def test_chunksize_is_kept(fleet: Fleet) -> None:
    """What is asked for is what is sent."""
    with pool(max_workers=2) as executor:
        assert list(executor.map(square, range(10), chunksize=4)) == [x * x for x in range(10)]
    assert sorted(fleet.sizes) == [2, 4, 4]


def test_submit_takes_keywords_and_runs_alone(fleet: Fleet) -> None:
    """A submitted call is a request of its own."""
    with pool(max_workers=2) as executor:
        futures = [executor.submit(int, str(x), base=8) for x in range(10, 13)]
        assert [x.result() for x in futures] == [8, 9, 10]
    assert fleet.sizes == [1, 1, 1]


def test_starmap_and_unordered(fleet: Fleet) -> None:
    """Tuples of arguments; results as soon as they are there."""
    with pool(max_workers=2) as executor:
        assert list(executor.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
        assert sorted(executor.map_unordered(square, range(50))) == [x * x for x in range(50)]
        late = executor.map_unordered(sleeps, [2.0, 0.0], chunksize=1)
        assert list(late) == [0.0, 2.0]


def test_exceptions_are_the_originals_with_where_they_were_raised(fleet: Fleet) -> None:
    """Class and arguments as raised; the remote traceback is the cause."""
    with pool(max_workers=2) as executor:
        with pytest.raises(KeyError, match="three") as caught:
            executor.submit(fails, 3).result()
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in fails" in str(caught.value.__cause__)


def test_exceptions_as_values(fleet: Fleet) -> None:
    """`return_exceptions` keeps the neighbours' values and the order."""
    with pool(max_workers=2) as executor:
        values = list(executor.map(fails, range(6), return_exceptions=True, chunksize=6))
    assert isinstance(values.pop(3), KeyError)
    assert values == [0, 1, 2, 4, 5]


class Odd(Exception):
    """Cannot be unpickled: it wants two arguments and keeps one."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} is odd")


def raises_odd() -> None:
    raise Odd("x", 1)


def raises_unpicklable() -> None:
    error = ValueError("holds a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def test_exceptions_that_cannot_travel_get_a_stand_in(fleet: Fleet) -> None:
    """It names the class, keeps the message, and says what it stands for."""
    with pool(max_workers=2) as executor:
        for function, said in ((raises_odd, "Odd: x is odd"), (raises_unpicklable, "a lock")):
            with pytest.raises(CallFailedError, match=said) as caught:
                executor.submit(function).result()
            assert "stands for the exception" in str(caught.value)
            assert function.__name__ in caught.value.traceback


def test_what_cannot_be_pickled_fails_its_own_call_alone(fleet: Fleet) -> None:
    """Argument or return value: its future fails, its neighbours' do not."""
    with pool(max_workers=2) as executor:
        bad_argument = executor.submit(str, threading.Lock())
        good = executor.submit(str, 1)
        with pytest.raises(TypeError, match="lock"):
            bad_argument.result()
        assert good.result() == "1"
        values = list(
            executor.map(
                lambda x: threading.Lock() if x == 1 else x,
                range(3),
                chunksize=3,
                return_exceptions=True,
            )
        )
    assert values[0::2] == [0, 2]
    assert isinstance(values[1], TypeError)
    assert "return value cannot be pickled" in str(values[1])


class Counted:
    """Counts how often it is pickled, here."""

    times = 0

    def __reduce__(self) -> Any:
        type(self).times += 1
        return str, ("a model",)


def keeps(model: str) -> None:
    pass


def keeps_all(x: int, model: str) -> int:
    return x


def test_what_prepares_environments_is_pickled_once(fleet: Fleet) -> None:
    """However many calls are submitted one by one; those of one function wait in one queue."""
    Counted.times = 0
    with pool(max_workers=2, initializer=keeps, initargs=(Counted(),)) as executor:
        futures = [executor.submit(str, x) for x in range(20)]
        scatter = executor._engine._scatter
        assert scatter is None or len(scatter._waiting) <= 1
        assert [x.result() for x in futures] == [str(x) for x in range(20)]
    assert Counted.times == 1


def test_a_function_that_changed_is_sent_as_it_is(fleet: Fleet) -> None:
    """A closure that differs at the next `submit`: no call runs what the function was before."""
    model = {"factor": 1}

    def scaled(x: int) -> int:
        return x * model["factor"]

    with pool(max_workers=1) as executor:
        futures = []
        for model["factor"] in (1, 10, 10, 100):
            futures.append(executor.submit(scaled, 7))
        assert [x.result() for x in futures] == [7, 70, 70, 700]


def test_a_function_is_pickled_once_for_a_map(fleet: Fleet) -> None:
    """However many calls there are; each `submit` pickles it, as it may have changed."""
    Counted.times = 0
    function = partial(keeps_all, model=Counted())
    with pool(max_workers=2) as executor:
        assert list(executor.map(function, range(50), chunksize=5)) == list(range(50))
        assert Counted.times == 1
        assert [executor.submit(function, x).result() for x in range(3)] == [0, 1, 2]
    assert Counted.times == 4


def test_whichever_ends_first(fleet: Fleet) -> None:
    """The standard library's `as_completed` and `wait` take its futures, also among others'."""
    with pool(max_workers=2) as executor:
        late, soon = executor.submit(sleeps, 3.0), executor.submit(sleeps, 0.0)
        assert list(concurrent.futures.as_completed([late, soon])) == [soon, late]
        late, failed = executor.submit(sleeps, 3.0), executor.submit(fails, 3)
        first = concurrent.futures.wait([late, failed], return_when="FIRST_EXCEPTION")
        assert first == ({failed}, {late})
        assert concurrent.futures.wait([late], timeout=0.01).not_done == {late}
        assert concurrent.futures.wait([late, failed]).done == {late, failed}
        with pytest.raises(concurrent.futures.TimeoutError):
            list(concurrent.futures.as_completed([executor.submit(sleeps, 3.0)], timeout=0.01))


def test_what_came_too_late_is_cancelled(fleet: Fleet) -> None:
    """As the standard library's pools do it, once `timeout` of `map` is over."""
    with pool(max_workers=1) as executor:
        executor.submit(str).result()
        before = executor.submit(time.sleep, 1.5)
        values = executor.map(str, [1, 2], timeout=0.3, chunksize=1)
        futures = [x for x in executor._engine._tasks if x is not before]
        assert len(futures) == 2
        with pytest.raises(concurrent.futures.TimeoutError):
            next(values)
        assert all(x.cancelled() for x in futures)


def takes_too_much(x: int) -> int:
    """The third has no more memory than it holds already."""
    if x == 2:
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (held + 50_000_000, hard))
        bytes(1_000_000_000)
    return x


def is_killed_for_it(x: int) -> int:
    """What the kernel does with the third where the whole environment has no more."""
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize(
    ("function", "error", "said", "sizes"),
    [
        (takes_too_much, MemoryError, "", [5]),
        (is_killed_for_it, CallFailedError, "SIGKILL", [5, 2]),
    ],
)
def test_memory_costs_the_culprit_alone(
    fleet: Fleet, function: Any, error: type[Exception], said: str, sizes: list[int]
) -> None:
    """Python's own error is the call's; a process that is killed fails the call that ran, keeps
    what had ended, and has what had not begun sent again."""
    with pool(max_workers=1) as executor:
        values = list(executor.map(function, range(5), chunksize=5, return_exceptions=True))
    failed = values.pop(2)
    assert isinstance(failed, error) and said in str(failed)
    assert values == [0, 1, 3, 4]
    assert fleet.sizes == sizes


def test_a_crash_costs_the_culprit_alone(fleet: Fleet) -> None:
    """Results before it are kept, calls after it are sent again, as they certainly did not run."""
    ran = fleet.functions[0].folder.parent / "ran"
    ran.mkdir(exist_ok=True)

    def crashes(x: int) -> int:
        (ran / f"{x}-{os.getpid()}").touch()
        if x == 5:
            os._exit(3)
        return x

    with pool(max_workers=2) as executor:
        values = list(executor.map(crashes, range(9), chunksize=9, return_exceptions=True))
    error = values.pop(5)
    assert isinstance(error, CallFailedError)
    assert "exit code 3" in str(error)
    assert values == [0, 1, 2, 3, 4, 6, 7, 8]
    times = [name.partition("-")[0] for name in os.listdir(ran)]
    assert sorted(times) == [str(x) for x in range(9)]
    assert fleet.sizes == [9, 3]


def test_failed_calls_are_tried_again(fleet: Fleet) -> None:
    """`retries`, with growing pauses, for what `retry_on` names; others fail at once."""
    count = fleet.functions[0].folder.parent / "count"
    count.mkdir(exist_ok=True)

    def third_time(kind: type[Exception]) -> str:
        (count / f"{kind.__name__}-{time.time()}").touch()
        if len([x for x in os.listdir(count) if x.startswith(kind.__name__)]) < 3:
            raise kind("flaky")
        return "well"

    with pool(max_workers=2, retries=2, backoff=0.4, retry_on=ConnectionError) as executor:
        began = time.monotonic()
        assert executor.submit(third_time, ConnectionError).result() == "well"
        assert time.monotonic() - began > 0.6  # 0.4 and 0.8, less their jitter
        with pytest.raises(ValueError, match="flaky"):
            executor.submit(third_time, ValueError).result()


def test_stop_reaches_a_call_that_waits_for_its_next_try(fleet: Fleet) -> None:
    """It ends at once, as cancelled; nothing hangs."""
    with pool(max_workers=2, retries=1, backoff=60) as executor:
        first, second = executor.submit(fails, 3), executor.submit(fails, 3)
        while executor.stats().summary.requests < 2:
            time.sleep(0.02)
        assert executor.cancel(first)
        with pytest.raises(concurrent.futures.CancelledError):
            first.result(5)
        executor.stop()
        with pytest.raises(concurrent.futures.CancelledError):
            second.result(5)


def test_cancel_before_it_is_sent(fleet: Fleet) -> None:
    """`Future.cancel` takes a call back that waits."""
    with pool(max_workers=1) as executor:
        running = executor.submit(until_told, 1.0)
        waiting = executor.submit(until_told, 1.0)
        while not running.running():
            time.sleep(0.01)
        assert waiting.cancel()
        assert running.result() == "slept"
    assert len(fleet.sizes) == 1


def test_cancel_stops_a_running_call_in_lambda(fleet: Fleet) -> None:
    """`pool.cancel` ends it there; its neighbours go on."""
    with pool(max_workers=2) as executor:
        stopped, kept = executor.submit(until_told), executor.submit(until_told, 4.0)
        time.sleep(1)
        began = time.monotonic()
        assert not stopped.cancel()
        assert executor.cancel(stopped)
        with pytest.raises(concurrent.futures.CancelledError):
            stopped.result()
        assert kept.result() == "slept"
        # The environment answered, so it has stopped: it takes another call.
        assert executor.submit(square, 2).result() == 4
        assert time.monotonic() - began < 20


def test_leaving_by_an_exception_stops_what_runs(fleet: Fleet) -> None:
    """Nobody waits 30 s; both environments are free again."""
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), pool(max_workers=2) as executor:
        futures = [executor.submit(until_told) for _ in range(4)]
        time.sleep(1)
        raise ZeroDivisionError
    assert time.monotonic() - began < 20
    for future in futures:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
    with pool(max_workers=2) as executor:
        assert list(executor.map(square, range(4), chunksize=1)) == [0, 1, 4, 9]


def script(reachable: AWS, text: str) -> "subprocess.Popen[str]":
    """A script of a user's, on the stand-in."""
    program = textwrap.dedent(text)
    keys = {"AWS_ENDPOINT_URL": reachable.url, "AWS_ACCESS_KEY_ID": "id"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **keys, "PYTHONPATH": str(EXECUTOR)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(reachable: AWS, program: str) -> tuple[str, str, int]:
    """What a script that ends by itself printed, its errors, and its exit code."""
    running = script(reachable, program)
    out, errors = running.communicate(timeout=60)
    return out, errors, running.returncode


MADE = "from lambda_calls import LambdaPoolExecutor\nimport os, time, sys\n" + (
    "pool = LambdaPoolExecutor(2, function_name='fn', s3_bucket_name='bucket', "
    "region='eu-west-1')\n"
)


def test_ctrl_c_stops_what_runs(fleet: Fleet, reachable: AWS) -> None:
    """A script that waits in `with` ends within seconds, and so do its calls."""
    program = MADE + "with pool:\n    print(list(pool.map(time.sleep, [300, 300])))\n"
    running = script(reachable, program)
    while len(fleet.batches) < 2:
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    with pool(max_workers=2) as executor:
        assert executor.submit(square, 3).result(timeout=20) == 9


def only_orders_are_left(reachable: AWS) -> None:
    """To stop, that is; nobody is there to delete them but the bucket's own rule."""
    assert set(reachable.objects.values()) <= {wire.CANCEL.encode()}
    reachable.objects.clear()


def test_sigterm_stops_what_runs(fleet: Fleet, reachable: AWS) -> None:
    """What Slurm, Kubernetes or Docker end a script with: its calls are told, none takes their
    places, and nothing large is left in the bucket."""
    program = MADE + (
        "large = os.urandom(300_000)\n"
        "def sleeps(seconds): time.sleep(seconds); return len(large)\n"
        "print(pool.submit(sleeps, 0).result(), flush=True)\n"
        "for _ in range(6): pool.submit(sleeps, 300)\n"
        "time.sleep(300)\n"
    )
    running = script(reachable, program)
    wait_until(lambda: len(fleet.batches) == 3, "two calls run", 40)
    time.sleep(0.5)
    running.send_signal(signal.SIGTERM)
    out, errors = running.communicate(timeout=30)
    assert (out, errors, running.returncode) == ("300000\n", "", -signal.SIGTERM)
    wait_until(lambda: fleet.is_idle, "its calls have ended in Lambda, too", 40)
    assert len(fleet.batches) == 3
    only_orders_are_left(reachable)


def test_what_waits_takes_no_place_of_what_is_stopped(fleet: Fleet, reachable: AWS) -> None:
    """At the end of the process nothing is sent any more, nor taken."""
    with pool(max_workers=2) as executor:
        futures = [executor.submit(until_told) for _ in range(4)]
        wait_until(lambda: len(fleet.batches) == 2, "two calls run", 40)
        time.sleep(0.5)
        executor._engine._process.at_exit.run()
        for future in [*futures, executor.submit(square, 3)]:
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(30)
    assert len(fleet.batches) == 2
    only_orders_are_left(reachable)


def test_a_pool_without_a_thread(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit` says so and keeps nothing of the call; once there are threads, others run."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pool(max_workers=2) as executor:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(ResourceLimitError, match="gives this process no thread"):
                executor.submit(fails, 3)
        assert executor.submit(square, 3).result(30) == 9
    assert len(fleet.batches) == 1


def test_a_script_that_ends_has_its_calls_done(fleet: Fleet, reachable: AWS) -> None:
    """No shutdown, no with: what was submitted runs, and is told of."""
    program = MADE + (
        "pool.submit(time.sleep, 1)\n"
        "pool.submit(str, 5).add_done_callback(lambda f: print('got', f.result()))\n"
    )
    assert told(reachable, program) == ("got 5\n", "", 0)
    assert len(fleet.batches) == 2


def test_a_script_that_shuts_down_without_waiting(fleet: Fleet, reachable: AWS) -> None:
    """`shutdown(wait=False)` returns at once; the calls are done before the interpreter ends."""
    program = MADE + (
        "pool.submit(sum, [2, 3]).add_done_callback(lambda f: print('got', f.result()))\n"
        "pool.shutdown(wait=False)\n"
    )
    assert told(reachable, program) == ("got 5\n", "", 0)


def test_no_call_is_taken_once_the_interpreter_ends(fleet: Fleet, reachable: AWS) -> None:
    """One submitted in `atexit` is refused: nobody would ever have it run."""
    program = MADE + (
        "import atexit\n"
        "@atexit.register\n"
        "def last():\n"
        "    try:\n"
        "        pool.submit(abs, -2)\n"
        "    except RuntimeError as error:\n"
        "        print(error)\n"
        "print(pool.submit(abs, -1).result())\n"
    )
    out, errors, code = told(reachable, program)
    assert (errors, code) == ("", 0)
    assert re.fullmatch(r"1\n.*after shutdown\n", out)
    assert len(fleet.batches) == 1


def test_a_fork_is_told_to_make_its_own(fleet: Fleet, reachable: AWS) -> None:
    """Using a pool after a fork neither hangs nor disturbs the parent's."""
    program = MADE + (
        "assert pool.submit(abs, -1).result() == 1\n"
        "pending = pool.submit(time.sleep, 2)\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        pool.submit(abs, -2)\n"
        "    except RuntimeError as error:\n"
        "        print(error, flush=True)\n"
        "    pool.shutdown()\n"
        "    sys.exit()\n"
        "os.wait()\n"
        "pending.result()\n"
        "print(pool.submit(abs, -3).result())\n"
        "pool.shutdown()\n"
    )
    out, _, code = told(reachable, program)
    assert re.fullmatch(r"This pool was made in process \d+, .*\n3\n", out)
    assert code == 0


def test_asyncio_uses_it(fleet: Fleet) -> None:
    """`run_in_executor` and `wrap_future`, results and exceptions."""

    async def work(executor: LambdaPoolExecutor) -> list[Any]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            loop.run_in_executor(executor, square, 5),
            asyncio.wrap_future(executor.submit(square, 6)),
            asyncio.wrap_future(executor.submit(fails, 3)),
            return_exceptions=True,
        )

    with pool(max_workers=2) as executor:
        *values, error = asyncio.run(work(executor))
    assert values == [25, 36]
    assert isinstance(error, KeyError)


def test_async_functions_are_refused(reachable: AWS) -> None:
    """In words, before anything is sent."""

    async def work() -> None: ...

    async def stream() -> Any:
        yield 1

    with pool() as executor:
        for function in (work, stream):
            with pytest.raises(TypeError, match="async function"):
                executor.submit(function)
            with pytest.raises(TypeError, match="async function"):
                executor.map(function)
    assert not [x for x in reachable.requests if x.startswith("POST")]


def test_map_is_lazy(fleet: Fleet) -> None:
    """An input without end is read no further than `buffersize`."""
    read = []

    def numbers() -> Iterator[int]:
        for x in range(10**9):
            read.append(x)
            yield x

    with pool(max_workers=2) as executor:
        values = executor.map(square, numbers(), buffersize=8)
        assert len(read) == 8
        assert [next(values) for _ in range(20)] == [x * x for x in range(20)]
        assert len(read) <= 28
        values.close()  # type: ignore[attr-defined]


def test_an_error_of_the_input_comes_after_the_results_before_it(fleet: Fleet) -> None:
    """What was read is run; then the error is raised where the input raised it."""

    def numbers() -> Iterator[int]:
        yield from range(5)
        raise OSError("the file ends here")

    with pool(max_workers=2) as executor:
        values = executor.map(square, numbers(), buffersize=4)
        assert [next(values) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(OSError, match="ends here"):
            next(values)


def test_the_timeout_of_map(fleet: Fleet) -> None:
    """It counts from the call of `map`, for all results together."""
    with pytest.raises(concurrent.futures.TimeoutError), pool(max_workers=2) as executor:
        list(executor.map(until_told, [0.1, 300], timeout=2, chunksize=1))


def test_results_that_nobody_holds_are_freed(fleet: Fleet) -> None:
    """The pool keeps neither futures nor values."""
    with pool(max_workers=2) as executor:
        future = executor.submit(Large, 1000)
        value = weakref.ref(future.result())
        seen = [weakref.ref(x) for x in executor.map(Large, [10, 20], chunksize=2)]
        del future
        time.sleep(0.2)  # the loop's thread lets go of it, too
        gc.collect()
        assert value() is None
        assert [x() for x in seen] == [None, None]


def test_pools_leave_nothing_for_the_interpreters_end(reachable: AWS) -> None:
    """A server that makes pools for years has as much to do at its end as with one."""
    known: list[Any] = threading._threading_atexits  # type: ignore[attr-defined]
    pool().shutdown()
    before = len(known)
    for _ in range(20):
        pool().shutdown()
    assert len(known) == before


def test_a_pool_that_is_let_go_of_ends(fleet: Fleet) -> None:
    """Its thread ends without `shutdown`; the fixture looks."""
    executor = pool(max_workers=2)
    assert executor.submit(square, 2).result() == 4
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None


def test_large_functions_are_stored_once(fleet: Fleet, reachable: AWS) -> None:
    """Half a megabyte in the function's closure travels once, however many requests there are."""
    table = os.urandom(600_000)
    with pool(max_workers=2) as executor:
        values = executor.map(lambda x: table[x], range(6), chunksize=1)
        assert list(values) == list(table[:6])
    puts = [x for x in reachable.requests if x.startswith("PUT /bucket/blobs/")]
    assert len(puts) == 1
    # The fixture finds the bucket empty.


def test_large_arguments_and_results_travel_through_the_bucket(fleet: Fleet) -> None:
    """Beyond Lambda's 6 MB, in and out; nothing is left there."""
    data = os.urandom(7_000_000)
    with pool(max_workers=2) as executor:
        assert executor.submit(bytes.__getitem__, data, slice(None)).result() == data


def slow_once(folder: str, x: int, seconds: float) -> int:
    """The last of 16 takes so long the first time, and leaves a beat all the while."""
    if x == 15:
        first = not os.listdir(folder)
        with Path(folder, f"{time.time()}").open("a") as beats:
            end = time.monotonic() + (seconds if first else 0)
            while time.monotonic() < end:
                beats.write(".")
                beats.flush()
                time.sleep(0.05)
    return x


def beats(folder: Path) -> list[int]:
    return sorted(x.stat().st_size for x in folder.iterdir())


def test_a_straggler_is_sent_again(fleet: Fleet, tmp_path: Path) -> None:
    """With `speculate`, the copy's answer is taken, and the straggler is stopped: it beats no
    longer, five minutes before its end."""
    folder = tmp_path / "beats"
    folder.mkdir()
    work = partial(slow_once, str(folder), seconds=300)
    with pool(max_workers=2, speculate=True) as executor:
        assert list(executor.map(work, range(16), chunksize=1)) == list(range(16))
    assert [x.tried_again for x in executor.stats().invocations].count(True) == 1
    wait_until(lambda: fleet.is_idle, "the straggler has ended", 40)
    before = beats(folder)
    assert len(before) == 2 and before[0] == 0 < before[1]
    time.sleep(1)
    assert beats(folder) == before


def test_nothing_runs_twice_unless_that_was_asked_for(fleet: Fleet, tmp_path: Path) -> None:
    """Without `speculate` a straggler is waited for, however much longer than the others it
    takes."""
    folder = tmp_path / "beats"
    folder.mkdir()
    work = partial(slow_once, str(folder), seconds=4)
    with pool(max_workers=2) as executor:
        assert list(executor.map(work, range(16), chunksize=1)) == list(range(16))
    assert len(beats(folder)) == 1
    assert fleet.sizes == [1] * 16


def test_an_environment_that_is_unfit_costs_nothing(reachable: AWS, environments: Fleet) -> None:
    """Nothing ran there, so its calls are sent again; but not for ever: four times in all."""
    refusals = [bad(wire.ENVIRONMENT, "no room in /tmp")] * 2

    def script(event: dict[str, Any]) -> Answer:
        return refusals.pop() if refusals else environments.answer(event)

    reachable.script = script
    with pool(max_workers=2) as executor:
        assert executor.submit(square, 3).result() == 9
        reachable.script = lambda event: bad(wire.ENVIRONMENT, "no room in /tmp")
        before = reachable.posts
        with pytest.raises(CallRejectedError, match="no room"):
            executor.submit(square, 3).result()
        assert reachable.posts == before + 4


def test_answers_that_make_no_sense_fail_their_calls(reachable: AWS) -> None:
    """A cut frame, a batch without endings, a stock image: an error, never a hang."""
    for result in ("AAAA", wire.encode(wire.Frame(wire.BEGUN, 0, b"").to_bytes())):
        response = wire.Response(python="3.11.0", cloudpickle="3.1.2", result=result)
        reachable.script = lambda event, said=response: Answer(payload=said.to_json())
        with pool() as executor, pytest.raises(Exception, match="does not understand"):
            executor.submit(square, 3).result(30)
    stock = {"errorMessage": "local variable 's3' unbound", "errorType": "UnboundLocalError"}
    reachable.script = lambda event: Answer(payload=stock, error="Unhandled")
    with pool() as executor, pytest.raises(ConfigurationError, match="stock image"):
        executor.submit(square, 3).result(30)


def test_a_function_that_does_not_exist(reachable: AWS) -> None:
    """Each call says so, in the words of the executor."""
    reachable.script = lambda event: Answer(status=404, code="ResourceNotFoundException")
    with pool() as executor, pytest.raises(ConfigurationError, match="fn"):
        executor.submit(square, 3).result(30)


def test_in_a_sandbox_the_hint_is_what_works_there(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose module the image lacks is told how one gets into the sandbox's function."""
    monkeypatch.setenv("COVALENT_LAMBDA_ADD_PACKAGE", "run `make up PACKAGES=...`")
    Path(tmp_path, "only_here.py").write_text("def found(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    with pool(carry=()) as executor, pytest.raises(CallRejectedError) as error:
        executor.submit(only_here.found).result()
    assert "lacks the module 'only_here'" in str(error.value)
    assert "run `make up PACKAGES=...`" in str(error.value)
    assert "requirements.txt" not in str(error.value)


def test_a_deadline_fails_the_call_that_ran(fleet: Fleet) -> None:
    """`time_limit` stops it; what had not begun in its request is sent again."""
    with pool(max_workers=2, time_limit=3) as executor:
        values = list(
            executor.map(until_told, [0, 300, 0], chunksize=3, return_exceptions=True),
        )
    assert isinstance(values.pop(1), ResourceLimitError)
    assert values == ["slept", "slept"]


def nested(url: str) -> list[int]:
    os.environ.update(
        AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_ENDPOINT_URL=url
    )
    with LambdaPoolExecutor(
        1, function_name="fn", s3_bucket_name="bucket", region="eu-west-1"
    ) as executor:
        return list(executor.map(square, range(4)))


def test_a_call_may_have_a_pool_of_its_own(fleet: Fleet, reachable: AWS) -> None:
    """In the function as here, where its image holds the package."""
    with pool(max_workers=1) as executor:
        assert executor.submit(nested, reachable.url).result() == [0, 1, 4, 9]


UNDER_COVALENTS_OWN = """
from functools import partial
from covalent._workflow.transportable_object import TransportableObject
from covalent.executor import LocalExecutor
from covalent.executor.utils.wrappers import wrapper_fn

class Here(LocalExecutor):  # without a server that wants to know of it
    def set_job_handle(self, handle): ...
    def get_cancel_requested(self): return False

def estimate(count):
    from lambda_calls import LambdaPoolExecutor
    names = {"function_name": "fn", "s3_bucket_name": "bucket", "region": "eu-west-1"}
    with LambdaPoolExecutor(2, **names) as pool:
        return sum(pool.map(abs, range(-count, 0), chunksize=2))

function = partial(wrapper_fn, TransportableObject(estimate), [], [])
executor = Here(workdir=".", create_unique_workdir=False)
metadata = {"dispatch_id": "dispatch", "node_id": 7}
print(executor.run(function, [TransportableObject(6)], {}, metadata).get_deserialized())
"""


def test_an_electron_may_have_a_pool(fleet: Fleet, reachable: AWS) -> None:
    """Under Covalent's local executor, in the process that it runs the electron in."""
    out, errors, code = told(reachable, UNDER_COVALENTS_OWN)
    assert (out, code) == ("21\n", 0), errors
    assert fleet.sizes == [2, 2, 2]


def test_a_role_that_may_not_invoke(reachable: AWS) -> None:
    """AWS's own words name the role, the action and the function."""
    said = (
        "User: arn:aws:sts::123456789012:assumed-role/electron/fn is not authorized to perform: "
        "lambda:InvokeFunction on resource: arn:aws:lambda:eu-west-1:123456789012:function:fn"
    )
    reachable.script = lambda event: Answer(status=403, code="AccessDeniedException", message=said)
    with pool() as executor, pytest.raises(ConfigurationError) as error:
        executor.submit(square, 3).result(30)
    assert said in str(error.value)


# Settings of an electron, and of one executor for electrons that differ: a pool has none of them.
OF_ELECTRONS = {
    "poll_freq": "of the stock image, which runs no batches",
    "execution_role": "of the stock image's documentation; unused",
    "cache_dir": "of the stock image's files",
    "log_stdout": "Covalent's",
    "log_stderr": "Covalent's",
    "usage": "a line for an electron's stderr; the pool has stats()",
}


def test_settings_are_named_as_the_executors() -> None:
    """What both have has one name, and one value where nothing is said."""
    ours = inspect.signature(LambdaPoolExecutor).parameters
    others = inspect.signature(AWSLambdaExecutor).parameters
    named = {x for x in others if others[x].kind is not inspect.Parameter.VAR_KEYWORD}
    assert named - ours.keys() == OF_ELECTRONS.keys()
    # The executor's own come from covalent.conf, and -1 is how Covalent writes "none".
    differ = {x for x in named & ours.keys() if ours[x].default != others[x].default}
    assert differ == {"timeout", "time_limit"}
    executor = made()
    assert ours["timeout"].default == executor.timeout
    assert ours["time_limit"].default is None and executor.time_limit == -1


def test_pools_are_not_pickled(reachable: AWS) -> None:
    """It says where to make one instead."""
    with pool() as executor, pytest.raises(TypeError, match="Make one where it is used"):
        pickle.dumps(executor)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"per_invocation": -1}, ValueError, "per_invocation must be greater than 0"),
        ({"max_workers": 2.5}, ValueError, "max_workers=2.5 must be a whole number"),
        ({"max_workers": "2"}, TypeError, "max_workers='2' must be a whole number"),
        ({"per_invocation": 2.0}, ValueError, "per_invocation=2.0 must be a whole number"),
        ({"retries": -1}, ValueError, "retries=-1"),
        ({"retries": 1.5}, ValueError, "retries=1.5 must be a whole number"),
        ({"retries": None}, TypeError, "retries=None must be a whole number"),
        ({"backoff": math.nan}, ValueError, "backoff=nan must be a number of seconds"),
        ({"backoff": "1"}, TypeError, "backoff='1' must be a number of seconds"),
        ({"timeout": 0}, ValueError, "timeout=0"),
        ({"timeout": math.inf}, ValueError, "timeout=inf must be a number of seconds"),
        ({"timeout": 10**400}, ValueError, "must be a number of seconds"),
        ({"time_limit": math.nan}, ValueError, "time_limit=nan must be a number of seconds"),
        ({"time_limit": True}, ValueError, "time_limit=True must be a number of seconds"),
        ({"retry_on": [ValueError]}, TypeError, "must be a class of exceptions, or a tuple"),
        ({"retry_on": (ValueError, "OSError")}, TypeError, "must be a class of exceptions"),
        ({"retry_on": ValueError("x")}, TypeError, "must be a class of exceptions"),
        (
            {"prices": {"request": "0.1"}},
            ValueError,
            "must say US dollars, 0 or more, for request",
        ),
        ({"prices": {"request": math.nan}}, ValueError, "must say US dollars"),
        ({"prices": {"requests": 1}}, ValueError, "has no entry 'requests'"),
        ({"prices": 5}, TypeError, "prices=5 must be a table"),
        ({"endpoint_url": "localhost:3001"}, ValueError, "must be an address"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
    ],
)
def test_arguments_are_checked(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """A wrong value is named when the pool is made."""
    with pytest.raises(error, match=re.escape(said)):
        pool(**arguments)


def test_numbers_of_other_kinds_are_numbers(fleet: Fleet) -> None:
    """What numpy's numbers and fractions say is understood, and travels."""
    seconds = Fraction(61, 2)
    with pool(max_workers=2, timeout=seconds, time_limit=seconds, backoff=seconds) as executor:
        assert executor.submit(square, 3).result(30) == 9


@pytest.mark.parametrize("wrong", ["5", math.nan])
def test_the_timeout_of_map_is_checked(reachable: AWS, wrong: Any) -> None:
    """A wrong one is named before anything is sent."""
    with pool() as executor, pytest.raises(TypeError, match="must be a number of seconds or None"):
        executor.map(square, [1], timeout=wrong)
    assert not reachable.posts


def test_a_map_may_take_for_ever(fleet: Fleet) -> None:
    """However long its timeout is: the results come."""
    with pool(max_workers=2) as executor:
        assert list(executor.map(square, [1, 2], timeout=math.inf)) == [1, 4]
        assert sorted(executor.map_unordered(square, [1, 2], timeout=1e12)) == [1, 4]


class NoClass(type):
    def __instancecheck__(cls, value: Any) -> bool:
        raise TypeError("nothing can be said about it")


class Unsure(Exception, metaclass=NoClass):
    """Whether something is one of these cannot be said."""


def test_a_call_that_cannot_be_settled_fails_alone(fleet: Fleet) -> None:
    """Whether it is worth another try cannot be found out: it ends, and its neighbours do."""
    with pool(max_workers=1, retries=1, retry_on=Unsure) as executor:
        found = list(
            executor.map(fails, [1, 3, 2], chunksize=3, timeout=30, return_exceptions=True)
        )
        assert found[::2] == [1, 2]
        assert isinstance(found[1], OutcomeUnknownError)
        assert "nothing can be said about it" in str(found[1])


def exits_when_unpickled() -> None:
    raise Exits


class Exits(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (1,)


def test_an_exception_that_ends_the_program_is_only_told_of(fleet: Fleet) -> None:
    """Whatever happens when it is unpickled, the pool goes on."""
    with pool(max_workers=1, retries=1, backoff=0) as executor:
        with pytest.raises(CallFailedError, match="Exits"):
            executor.submit(exits_when_unpickled).result(30)
        assert executor.submit(square, 3).result(30) == 9


def test_figures_that_cannot_be_kept_cost_no_result(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in what counts the requests is none of the calls'."""

    def add(stats: Any, invocation: Any) -> None:
        raise ArithmeticError("no sum")

    monkeypatch.setattr("lambda_calls.stats.Stats.add", add)
    with pool(max_workers=1) as executor:
        assert list(executor.map(square, [2, 3], timeout=30)) == [4, 9]


def test_pauses_are_bounded_however_many_tries_there_were() -> None:
    """No float holds the thousandth power of two times a second that is no whole number."""
    assert [backed_off(0.5, tries) for tries in (1, 2, 5, 5000)] == [0.5, 1.0, 8.0, 60.0]
    assert backed_off(0, 5000) == 0


def test_statistics_and_the_picture(fleet: Fleet, tmp_path: Path) -> None:
    """Sums are those of the calls; there is no picture of nothing."""
    with pool(max_workers=2) as executor:
        list(executor.map(fails, range(6), return_exceptions=True, chunksize=3))
        with pytest.raises(ConfigurationError, match="no request"):
            pool().plot(tmp_path / "x.svg")
    summary = executor.stats().summary
    assert (summary.calls, summary.failed, summary.requests) == (6, 1, 2)
    assert 0 < summary.seconds <= summary.billed + 1
    for x in executor.stats().invocations:
        assert x.queued <= x.sent <= x.started <= x.ended <= x.returned + 0.001


def test_the_picture_is_what_its_name_says(fleet: Fleet, reachable: AWS, tmp_path: Path) -> None:
    """A script's `run.svg` is one, and its `run.png` another."""
    program = MADE + (
        f"os.chdir({str(tmp_path)!r})\n"
        "with pool:\n"
        "    list(pool.map(abs, range(6), chunksize=3))\n"
        "    print(pool.plot('run.svg'), pool.plot('run.png'))\n"
    )
    out, errors, code = told(reachable, program)
    assert (out, code) == ("run.svg run.png\n", 0), errors
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG\r\n")
    root = ElementTree.parse(tmp_path / "run.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("tqdm", "progress=True needs the package tqdm: pip install tqdm."),
        ("matplotlib", "A picture needs the package matplotlib: pip install matplotlib."),
    ],
)
def test_what_is_not_installed_is_named(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, said: str
) -> None:
    """In one sentence, with the command; calls that need no picture and no bar run without."""
    for name in [package, *(x for x in sys.modules if x.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pool(max_workers=1) as executor:
        assert executor.submit(square, 3).result() == 9
        with pytest.raises(ConfigurationError) as error:
            executor.plot(tmp_path / "x.png") if package == "matplotlib" else pool(progress=True)
    assert str(error.value) == said


def test_each_call_has_times_of_its_own(fleet: Fleet) -> None:
    """Calls that share a request: when each ran, one after the other; its share of the bill."""
    slept = [0.1, 0.4, 0.2]
    with pool(max_workers=1) as executor:
        list(executor.map(until_told, slept, chunksize=3))
    (request,), calls = executor.stats().invocations, executor.stats().calls
    for call, seconds in zip(calls, slept, strict=True):
        assert call.ended - call.started >= seconds
        assert request.sent == call.sent <= call.started
        assert call.ended <= request.ended <= call.returned + 0.001
        assert (call.environment, call.cold) == (request.environment, request.used.cold)
    assert all(x.ended <= y.started for x, y in pairwise(calls))
    assert sum(x.billed for x in calls) == pytest.approx(request.used.billed)
    ran = [x.ended - x.started for x in calls]
    assert [x.billed / request.used.billed for x in calls] == pytest.approx(
        [x / sum(ran) for x in ran]
    )


def test_throttling_is_counted_by_its_reason(fleet: Fleet) -> None:
    """More requests than environments: Lambda's own word for it, and how often."""
    with pool(max_workers=6) as executor:
        list(executor.map(until_told, [0.3] * 12, chunksize=1))
    stats = executor.stats()
    assert list(stats.throttled) == ["ConcurrentInvocationLimitExceeded"]
    assert stats.summary.throttled == sum(stats.throttled.values()) >= 4
    assert "throttled" in str(stats.summary)


def test_the_quota_is_held_to_once_it_is_known(fleet: Fleet, reachable: AWS) -> None:
    """Lambda is asked what the account allows; from then on it refuses nothing."""
    reachable.concurrency, reachable.reserved = 2, -1
    with pool() as executor:
        assert list(executor.map(square, range(20), chunksize=1)) == [x * x for x in range(20)]
        limiter = executor._engine._scatter._session.limiter  # type: ignore[union-attr]
        wait_until(lambda: limiter.allowed == 2, "the quota is known", 60)
        known = len(executor.stats().invocations)
        assert list(executor.map(square, range(40), chunksize=1)) == [x * x for x in range(40)]
        assert not [x.refusals for x in executor.stats().invocations[known:] if x.refusals]
        assert len(reachable.questions) == 2


def test_waiting_for_a_turn_takes_nothing_of_a_calls_time(fleet: Fleet) -> None:
    """Where Lambda runs two at a time, the last ones wait far longer than `timeout`, and run."""
    with pool(timeout=3) as executor:
        values = list(executor.map(until_told, [1.5] * 10, chunksize=1))
    assert values == ["slept"] * 10


def test_a_function_that_takes_nothing_is_given_up(reachable: AWS) -> None:
    """Nothing was answered for `timeout`: the error says so, and nothing hangs."""
    reachable.script = lambda event: THROTTLED
    with pool(timeout=2) as executor:
        futures = [executor.submit(square, x) for x in range(3)]
        for future in futures:
            with pytest.raises(ResourceLimitError, match="took no further calls for 2 s"):
                future.result(20)


def never(x: int) -> NoReturn:
    raise AssertionError("it must not run")


def test_shutdown_cancels_what_waits(fleet: Fleet) -> None:
    """`cancel_futures` lets what runs end, and takes no more."""
    executor = pool(max_workers=1)
    running = executor.submit(until_told, 1.0)
    while not running.running():
        time.sleep(0.01)
    waiting = [executor.submit(never, x) for x in range(5)]
    executor.shutdown(cancel_futures=True)
    assert running.result(0) == "slept"
    assert all(x.cancelled() for x in waiting)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    executor.shutdown()
