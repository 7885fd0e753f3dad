"""Initializers, and several processes in one environment."""

import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from aws_server import AWS
from fleet import Fleet, pool
from lambda_calls import CallFailedError, InitializerFailedError

import task_prepared
import wire

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def load(folder: str, value: str) -> None:
    """Leave a value for the calls, and a trace of having run."""
    Path(folder, f"loaded-{os.getpid()}-{time.time()}").touch()
    vars(sys.modules["builtins"])["loaded"] = value


def seen(_: Any) -> tuple[str, int]:
    return str(vars(sys.modules["builtins"])["loaded"]), os.getppid()


def traces(folder: Path) -> list[str]:
    return [x.name for x in folder.glob("loaded-*")]


def test_an_initializer_runs_once_in_each_environment(fleet: Fleet, tmp_path: Path) -> None:
    """What it leaves is there for each call of each request, of several functions."""
    with pool(max_workers=1, initializer=load, initargs=(str(tmp_path), "model")) as executor:
        found = [executor.submit(seen, x).result() for x in range(4)]
        found += list(executor.map(seen, range(6), chunksize=2))
    assert {value for value, _ in found} == {"model"}
    environments = {server for _, server in found}
    assert len(traces(tmp_path)) == len(environments) <= 2
    assert len(fleet.batches) == 7


def test_another_initializer_replaces_it(fleet: Fleet, tmp_path: Path) -> None:
    """Two pools on one function do not see each other's values."""
    for value in ("first", "second", "first"):
        with pool(max_workers=1, initializer=load, initargs=(str(tmp_path), value)) as executor:
            assert executor.submit(seen, 1).result()[0] == value
    with pool(max_workers=1) as executor, pytest.raises(KeyError):
        executor.submit(seen, 1).result()


def leave_a_thread(folder: str, value: str) -> None:
    load(folder, value)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def test_one_that_leaves_threads_runs_for_each_request(fleet: Fleet, tmp_path: Path) -> None:
    """A process with threads must not fork; the value is there all the same."""
    with pool(max_workers=1, initializer=leave_a_thread, initargs=(str(tmp_path), "m")) as ex:
        assert [ex.submit(seen, x).result()[0] for x in range(4)] == ["m"] * 4
    assert 5 <= len(traces(tmp_path)) <= 6  # and once in vain in each environment that was used


def fail() -> None:
    raise ValueError("no such model")


def fail_at_length() -> None:
    raise ValueError("é" * 45_000 + " no such model")


def end() -> None:
    os._exit(7)


def leave() -> None:
    sys.exit(3)


@pytest.mark.parametrize(
    ("initializer", "said"),
    [
        (fail, "ValueError: no such model"),
        (fail_at_length, "ValueError: éé.*éé no such model"),  # more than a packet holds
        (end, "ended"),
        (leave, "exit"),
    ],
)
def test_a_failing_initializer_breaks_the_pool(fleet: Fleet, initializer: Any, said: str) -> None:
    """No call runs, each says why, and no more are taken: as in the standard library."""
    with pool(max_workers=1, initializer=initializer) as executor:
        futures = [executor.submit(abs, x) for x in range(5)]
        for future in futures:
            with pytest.raises(InitializerFailedError, match=said):
                future.result()
        with pytest.raises(BrokenExecutor, match="initializer"):
            executor.submit(abs, 1)
    assert len(fleet.batches) == 1
    with pool(max_workers=1) as executor:  # the environment is as good as before
        assert executor.submit(abs, -1).result() == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"no JSON",
        b"\xff",
        b"[" * 100_000,
        b"7",
        b"{}",
        b'{"kind": "storage-busy", "message": 7}',
        b'{"kind": "setup-failed", "message": "m", "odd": 1}',
        b'{"kind": "setup-failed", "message": "%b"}' % (b"x" * 3_000_000),
    ],
)
def test_forged_failure_of_an_initializer(said: bytes) -> None:
    """What its code puts in the place of its failure fails its calls, and nothing else."""
    with tempfile.TemporaryFile() as file:
        file.write(said)
        file.flush()
        told = wire.Failure(**task_prepared.told_in(file.fileno()))
    assert told.kind == wire.SETUP_FAILED and "ended its process" in told.message


def test_an_initializer_cannot_have_its_calls_sent_again() -> None:
    """Whatever kind of failure it claims."""
    with tempfile.TemporaryFile() as file:
        file.write(b'{"kind": "storage-busy", "message": "again"}')
        file.flush()
        told = wire.Failure(**task_prepared.told_in(file.fileno()))
    assert told == wire.Failure(wire.SETUP_FAILED, "again")


def test_an_initializer_that_takes_long_can_be_stopped(fleet: Fleet) -> None:
    """`pool.cancel` reaches it, and the environment takes other calls at once."""
    with pool(max_workers=1, initializer=time.sleep, initargs=(60,)) as executor:
        future = executor.submit(abs, -1)
        time.sleep(1)
        assert executor.cancel(future)
        with pytest.raises(CancelledError):
            future.result(20)
    with pool(max_workers=2) as executor:
        assert list(executor.map(abs, [-1, -2], chunksize=1)) == [1, 2]


def test_a_large_initializer_travels_once(fleet: Fleet, reachable: AWS) -> None:
    """As a blob; it is fetched when it has to run."""
    model = os.urandom(1_000_000)
    with pool(max_workers=1, initializer=vars(sys.modules["builtins"]).update, initargs=()) as ex:
        assert ex.submit(abs, -1).result() == 1

    def keep(data: bytes) -> None:
        vars(sys.modules["builtins"])["loaded"] = len(data)

    with pool(max_workers=1, initializer=keep, initargs=(model,)) as executor:
        assert [executor.submit(seen, x).result()[0] for x in range(2)] == ["1000000"] * 2
    assert len([x for x in reachable.requests if x.startswith("PUT /bucket/blobs/")]) == 1


def meets(folder: str, number: int, waits_for: int) -> int:
    """Leave a trace, and return when there are that many; its process."""
    Path(folder, str(number)).touch()
    end = time.monotonic() + 30
    while len(os.listdir(folder)) < waits_for:
        assert time.monotonic() < end, "the others did not come"
        time.sleep(0.01)
    return os.getpid()


def test_calls_of_a_request_share_processes(fleet: Fleet, tmp_path: Path) -> None:
    """`per_invocation` of them at a time, each taking the next call when it is free: three can
    meet, and while one waits for the last call, the others take all that are left."""
    traces = tmp_path / "traces"
    traces.mkdir()
    calls = [(str(traces), number, 6 if number == 0 else 3) for number in range(6)]
    with pool(max_workers=1, per_invocation=3) as executor:
        found = list(executor.starmap(meets, calls, chunksize=6))
    assert len(set(found)) == 3
    assert found.count(found[0]) == 1
    batch = fleet.batches[0]
    assert isinstance(batch, wire.Batch) and batch.processes == 3


def crashes(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    print("call", x)
    return x


def test_a_process_that_crashes_leaves_its_neighbours_alone(fleet: Fleet) -> None:
    """The others take its turns: one request is enough."""
    with pool(max_workers=1, per_invocation=2) as executor:
        values = list(executor.map(crashes, range(8), chunksize=8, return_exceptions=True))
    assert isinstance(values.pop(2), CallFailedError)
    assert values == [0, 1, 3, 4, 5, 6, 7]
    assert fleet.sizes == [8]


def test_initializer_and_processes_together(fleet: Fleet, tmp_path: Path) -> None:
    """All processes of a request come from the one where it has run."""
    arguments = {"initializer": load, "initargs": (str(tmp_path), "m"), "per_invocation": 2}
    with pool(max_workers=1, **arguments) as executor:
        found = list(executor.map(seen, range(40), chunksize=20))
    assert {x[0] for x in found} == {"m"}
    assert len(traces(tmp_path)) == len({x[1] for x in found})


def files(name: str) -> str:
    import tempfile

    path = Path(tempfile.gettempdir(), name)
    if not path.exists():
        path.write_text("weights")
    vars(sys.modules["builtins"])["loaded"] = str(path)
    return path.read_text()


def read(_: Any) -> str:
    return Path(vars(sys.modules["builtins"])["loaded"]).read_text()


def test_files_of_an_initializer_stay(fleet: Fleet) -> None:
    """What it puts into the folder for temporary files is there for each call."""
    with pool(max_workers=1, initializer=files, initargs=("model.bin",)) as executor:
        assert [executor.submit(read, x).result() for x in range(3)] == ["weights"] * 3
