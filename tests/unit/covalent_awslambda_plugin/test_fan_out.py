"""Fan-out electrons through the executor; real handlers run them, none is Covalent's server."""

import asyncio
import itertools
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import covalent as ct
import fleet as fleets
import pytest
from aws_server import AWS
from covalent._shared_files.exceptions import TaskCancelledError
from covalent._workflow.transportable_object import TransportableObject
from covalent_awslambda_plugin import fanning, record, running
from electrons import METADATA, covalents, execute, made
from fleet import Fleet
from lambda_calls import fan_out
from patience import wait_until
from template_paths import EXECUTOR
from tmpfs import fill, mounted

import wire

# As what a script defines: the image has no such module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def fleet(aws: AWS, tmp_path: Path) -> Iterator[Fleet]:
    with fleets.running(aws, tmp_path, 2) as running:
        yield running
    assert not [x for x in aws.objects if "/tasks/" in x]


@fan_out(max_workers=2)
def shifted(x: int, by: int) -> int:
    print(f"shifting {x}")
    return x + by


def test_a_list_in_a_list_out(fleet: Fleet) -> None:
    """One electron, a call for each item, its output with the item's number and progress."""
    result, stdout, stderr, status = execute(made(usage=True), shifted, list(range(60)), 100)
    assert status == "COMPLETED", stderr
    assert result.get_deserialized() == list(range(100, 160))
    assert result.object_string == "[60 values; open the result to see them]"
    lines = stdout.splitlines()
    assert "[fan-out] 60 of 60 done (100 %), 0 failed, 0 running" in lines
    assert [x for x in lines if x.startswith("[")][-1] == "[59] shifting 59"
    assert sum(fleet.sizes) == 60
    assert "[lambda] fan-out of 60; dispatch so far:" in stderr


def test_items_know_dispatch_and_node(fleet: Fleet) -> None:
    """`ct.get_context()` says the same in each item as in any electron."""

    @fan_out
    def context(_: int) -> tuple[str, int]:
        import covalent

        found = covalent.get_context()
        return found.dispatch_id, found.task_id

    result, _, stderr, status = execute(made(), context, [1, 2, 3])
    assert status == "COMPLETED", stderr
    known = METADATA["dispatch_id"], METADATA["node_id"]
    assert result.get_deserialized() == [known] * 3


def test_usage_is_the_sum_of_all_items(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every invocation is in it once: the one that took the arguments apart, and the items'."""
    monkeypatch.setattr(running, "_folder", lambda dispatch_id: tmp_path)
    executor = made(usage=True, prices={"gb_second_x86_64": 1.0, "gb_second_arm64": 1.0})
    _, _, stderr, status = execute(executor, shifted, list(range(60)), 1, dispatch_id="summed")
    assert status == "COMPLETED"
    entries = list(record.read((tmp_path / record.FILE_NAME).read_text()))
    assert len(entries) == 1 + len(fleet.sizes)
    seconds = sum(x.usage.gb_seconds for x in entries)
    dollars = sum(x.dollars for x in entries)
    assert 0 < seconds < dollars
    assert stderr.splitlines()[-1] == (
        f"[lambda] fan-out of 60; dispatch so far: {len(entries)} invocation(s), "
        f"{seconds:.3f} GB-s, about ${dollars:.6f}"
    )


def test_its_progress_is_in_the_log(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it runs and in the end, with the electron's name: for a Covalent that shows no
    output before a node has ended."""
    monkeypatch.setattr(fanning, "_PROGRESS_EVERY", 0.2)

    @fan_out(batch=1, max_workers=1)
    def sleeps(x: int) -> None:
        time.sleep(0.6)

    with caplog.at_level("INFO", logger=running.app_log.name):
        assert execute(made(), sleeps, [1, 2, 3], dispatch_id="told")[-1] == "COMPLETED"
    lines = [x.getMessage() for x in caplog.records if "[fan-out]" in x.getMessage()]
    assert any(re.search(r"told.*: \[fan-out\] [0-2] of 3 done .* 1 running$", x) for x in lines)
    assert lines[-1].endswith("[fan-out] 3 of 3 done (100 %), 0 failed, 0 running")


def greeting(name: str) -> str:
    return f"hello {name}"


def test_what_runs_before_it_fills_an_argument_of_all_items(fleet: Fleet) -> None:
    """`call_before`, as for any electron."""

    @fan_out(batch=2)
    def greets(x: int, greeted: str = "") -> str:
        return f"{greeted} {x}"

    hook = ct.DepsCall(greeting, args=["you"], retval_keyword="greeted").apply()
    result, _, stderr, status = execute(made(), greets, [1, 2, 3], before=[hook])
    assert status == "COMPLETED", stderr
    assert result.get_deserialized() == ["hello you 1", "hello you 2", "hello you 3"]


def hooks_after(kind: str, folder: Path) -> list[Any]:
    if kind == "call_after":
        return [ct.DepsCall(greeting, args=["you"]).apply()]
    transfer = ct.fs.FileTransfer(
        str(folder / "from"), str(folder / "to"), order=ct.fs.Order.AFTER
    )
    _, after = transfer.cp()
    return [ct.DepsCall(after, args=[]).apply()]


@pytest.mark.parametrize("kind", ["call_after", "files"])
def test_what_should_run_after_it_is_refused(fleet: Fleet, tmp_path: Path, kind: str) -> None:
    """In words, with what helps, and before any item runs."""
    after = hooks_after(kind, tmp_path)
    _, _, stderr, status = execute(made(), shifted, [1, 2], 1, after=after)
    assert status == "FAILED"
    assert "The electron fans out, and has call_after or files to transfer back" in stderr
    assert "Put them on an electron that takes its list." in stderr
    assert not fleet.sizes


# Its processes stay until the program's end.
UNDER_COVALENTS_OWN = """
import os, sys
from functools import partial
from covalent._workflow.transportable_object import TransportableObject
from covalent.executor import LocalExecutor
from covalent.executor.utils.wrappers import wrapper_fn
from covalent_awslambda_plugin import fan_out

class Here(LocalExecutor):  # without a server that wants to know of it
    def set_job_handle(self, handle): ...
    def get_cancel_requested(self): return False

ran = []

@fan_out(over="x")
def ordered(x, by):
    ran.append(x)
    return x * by, len(ran), os.getpid()

function = partial(wrapper_fn, TransportableObject(ordered), [], [])
arguments = [TransportableObject([7, 5, 9]), TransportableObject(2)]
executor = Here(workdir=sys.argv[1], create_unique_workdir=False)
metadata = {"dispatch_id": "dispatch", "node_id": 7}
values = executor.run(function, arguments, {}, metadata).get_deserialized()
processes = {x[2] for x in values}
print([x[:2] for x in values], len(processes), os.getpid() in processes)
"""


def test_under_covalents_own_executor_it_is_a_loop(tmp_path: Path) -> None:
    """One process of Covalent's local executor runs all items, in order."""
    done = subprocess.run(
        [sys.executable, "-c", UNDER_COVALENTS_OWN, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(EXECUTOR)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[(14, 1), (10, 2), (18, 3)] 1 False\n", done.stderr


def test_its_output_has_no_room_while_it_runs(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk nobody sees its progress before it ends; it ends well all the same."""
    monkeypatch.setattr(fanning, "_PROGRESS_EVERY", 0.2)
    with mounted(tmp_path / "disk", "size=64k") as folder:
        monkeypatch.setattr(running, "_folder", lambda dispatch_id: folder)
        node = folder / f"node_{METADATA['node_id']}"
        node.mkdir()
        fill(folder)

        @fan_out
        def sleeps(seconds: float) -> None:
            time.sleep(seconds)

        result, stdout, stderr, status = execute(made(), sleeps, [1.0, 0.0])
        assert status == "COMPLETED", stderr
        assert [x.read_bytes() for x in node.iterdir()] == [b""]  # it tried
    assert result.get_deserialized() == [None, None]
    assert "[fan-out] 2 of 2 done" in stdout


def test_its_output_grows_while_it_runs(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress is where Covalent has the node's output for whoever asks, before the node ends."""
    monkeypatch.setattr(running, "_folder", lambda dispatch_id: tmp_path / "results")
    monkeypatch.setattr(fanning, "_PROGRESS_EVERY", 0.3)
    node = tmp_path / "results" / f"node_{METADATA['node_id']}"
    node.mkdir(parents=True)
    shown: list[str] = []

    @fan_out(batch=1, max_workers=2)
    def sleeps(x: int) -> int:
        time.sleep(0.5)
        return x

    job = threading.Thread(target=execute, args=(made(), sleeps, list(range(6))))
    job.start()
    while job.is_alive():
        shown.extend(x.read_text() for x in node.iterdir())
        time.sleep(0.1)
    assert any(re.search(r"^\[fan-out\] [1-5] of 6 done .* [12] running$", x, re.M) for x in shown)


def test_the_output_of_all_items_together_is_cut(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item's lines have its number; beyond the limit a line says that there was more."""
    monkeypatch.setattr(fanning, "_MOST_OUTPUT", 4 * len("[0] shifting 0\n"))
    _, stdout, _, status = execute(made(), shifted, list(range(10)), 1)
    assert status == "COMPLETED"
    told = [x for x in stdout.splitlines() if not x.startswith("[fan-out]")]
    assert told[:4] == [f"[{x}] shifting {x}" for x in range(4)]
    assert told[4:] == ["[... the rest is cut; the function's log has it ...]"]


def test_nothing_is_unpickled_here(fleet: Fleet, tmp_path: Path) -> None:
    """Items whose pickle leaves a trace leave it when the result is opened, not before."""
    trace = tmp_path / "opened"

    class Traced:
        def __reduce__(self) -> Any:
            return os.makedirs, (str(trace), 0o700, True)

    @fan_out
    def traced(x: int) -> Traced:
        return Traced()

    result, *_, status = execute(made(), traced, [1, 2])
    assert (status, trace.exists()) == ("COMPLETED", False)
    result.get_deserialized()
    assert trace.exists()


def opened_by(process: int) -> str:
    """What an argument's pickle calls; cannot be called where it was made."""
    if os.getpid() == process:
        raise AssertionError("an argument was opened in Covalent's server")
    return "opened elsewhere"


class OnlyElsewhere:
    """An argument that can be unpickled in any process but this one."""

    def __reduce__(self) -> Any:
        return opened_by, (os.getpid(),)


def test_no_argument_is_unpickled_here(fleet: Fleet) -> None:
    """Neither the items nor what they share: this process stands for Covalent's server."""

    @fan_out(batch=2)
    def joined(x: str, shared: str) -> str:
        return f"{x}, {shared}"

    with pytest.raises(AssertionError, match="opened in"):
        pickle.loads(cloudpickle.dumps(OnlyElsewhere()))
    items = [OnlyElsewhere(), OnlyElsewhere(), OnlyElsewhere()]
    result, _, stderr, status = execute(made(), joined, items, OnlyElsewhere())
    assert status == "COMPLETED", stderr
    assert result.get_deserialized() == ["opened elsewhere, opened elsewhere"] * 3


def test_lists_in_step_and_an_empty_one(fleet: Fleet) -> None:
    """Two `over=` go together; no items are an empty list."""

    @fan_out(over=("a", "b"), batch=2)
    def paired(a: int, b: str, c: float) -> tuple[int, str, float]:
        return a, b, c

    result, *_ = execute(made(), paired, [1, 2, 3], ["x", "y", "z"], 0.5)
    assert result.get_deserialized() == [(1, "x", 0.5), (2, "y", 0.5), (3, "z", 0.5)]
    assert sorted(fleet.sizes) == [1, 2]
    result, *_ = execute(made(), paired, [], [], 0.5)
    assert result.get_deserialized() == []


@fan_out(batch=1)
def fails_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three is not for me")
    time.sleep(30 if x > 3 else 0)
    return x


def test_the_first_failing_item_ends_all(fleet: Fleet) -> None:
    """Its number and its remote traceback are told; what still runs is stopped."""
    began = time.monotonic()
    # One sleeps, and there are two environments: the one that fails finds a place at any time.
    _, _, stderr, status = execute(made(), fails_at_three, list(range(5)))
    assert time.monotonic() - began < 25
    assert status == "FAILED"
    assert "Item 3 of 5 failed (counted from 0), so the others were stopped" in stderr
    assert "ValueError: three is not for me" in stderr
    assert "in fails_at_three" in stderr


def test_no_code_of_the_others_runs_on(fleet: Fleet, tmp_path: Path) -> None:
    """After the first failure: neither what ran beside it, nor what waited for its turn."""
    folder = str(tmp_path)

    @fan_out(batch=1, max_workers=2)
    def beats(x: int) -> None:
        beat = Path(folder, str(x))
        beat.touch()
        while x != 1:
            time.sleep(0.05)
            with beat.open("a") as file:
                file.write(".")
        while not Path(folder, "0").exists():
            time.sleep(0.05)
        raise ValueError("one fails")

    assert execute(made(), beats, list(range(6)))[-1] == "FAILED"
    wait_until(lambda: fleet.is_idle, "the other item has ended", 40)
    assert sorted(x.name for x in tmp_path.iterdir() if x.name.isdigit()) == ["0", "1"]
    beaten = (tmp_path / "0").stat().st_size
    time.sleep(1)
    assert (tmp_path / "0").stat().st_size == beaten


@fan_out(batch=1)
def needs_what_is_nowhere(x: int) -> int:
    import nowhere  # type: ignore[import-not-found]  # noqa: F401

    return x


def test_in_a_sandbox_the_hint_is_what_works_there(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item that lacks a module is told how one gets into the sandbox's function."""
    monkeypatch.setenv("COVALENT_LAMBDA_ADD_PACKAGE", "run `make up PACKAGES=...`")
    _, _, stderr, status = execute(made(), needs_what_is_nowhere, [1])
    assert status == "FAILED"
    assert "lacks the module 'nowhere'" in stderr
    assert "run `make up PACKAGES=...`" in stderr
    assert "requirements.txt" not in stderr


def test_a_pool_in_an_electron_whose_image_lacks_the_package(fleet: Fleet) -> None:
    """Its error says that no index has the package, and where the way is described."""

    class Image:
        """Lacks what this machine has."""

        @staticmethod
        def find_spec(name: str, *others: object) -> None:
            if name == "lambda_calls":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def nests() -> None:
        for name in [x for x in sys.modules if x.startswith("lambda_calls")]:
            del sys.modules[name]
        sys.meta_path.insert(0, Image)  # type: ignore[arg-type]
        from lambda_calls import LambdaPoolExecutor

        LambdaPoolExecutor()

    _, _, stderr, status = execute(made(), nests)
    assert status == "FAILED"
    assert "function's image lacks the module 'lambda_calls'. It is the executor's own" in stderr
    assert '"A pool within an electron" in docs/fan-out.md' in stderr


def test_exceptions_as_values(fleet: Fleet) -> None:
    """`return_exceptions`: the electron ends well; an item that crashed is one, too."""

    @fan_out(return_exceptions=True, batch=5)
    def odd_ones(x: int) -> int:
        if x == 1:
            raise KeyError("one")
        if x == 3:
            os._exit(4)
        return x

    result, *_, status = execute(made(), odd_ones, list(range(5)))
    values = result.get_deserialized()
    assert status == "COMPLETED"
    assert values[0::2] == [0, 2, 4]
    assert isinstance(values[1], KeyError)
    assert isinstance(values[3], RuntimeError) and "exit code 4" in str(values[3])
    assert result.object_string.startswith("[5 values, 2 of them exceptions")


def test_an_exception_that_cannot_be_opened_spoils_no_other_value(fleet: Fleet) -> None:
    """It is pickled, but its class wants two arguments and keeps one: a stand-in tells of it."""

    class Odd(Exception):
        def __init__(self, name: str, number: int) -> None:
            super().__init__(f"{name} is odd")

    @fan_out(return_exceptions=True, batch=3)
    def one_is_odd(x: int) -> int:
        if x == 1:
            raise Odd("one", x)
        return x

    result, *_, status = execute(made(), one_is_odd, list(range(3)))
    values = result.get_deserialized()
    assert status == "COMPLETED" and values[0::2] == [0, 2]
    assert isinstance(values[1], RuntimeError) and "Odd: one is odd" in str(values[1])


def test_retries_apply_to_each_item(fleet: Fleet, tmp_path: Path) -> None:
    """Only what failed is run again."""
    folder = str(tmp_path)

    @fan_out(batch=4)
    def flaky(x: int) -> int:
        with open(f"{folder}/ran", "a") as file:
            file.write(f"{x}\n")
        if x == 2 and Path(folder, "ran").read_text().count("2") < 3:
            raise ConnectionError("again, please")
        return x

    result, *_, status = execute(made(retries=2), flaky, list(range(4)))
    assert (status, result.get_deserialized()) == ("COMPLETED", [0, 1, 2, 3])
    assert sorted(Path(folder, "ran").read_text().split()) == ["0", "1", "2", "2", "2", "3"]


def test_each_try_of_an_item_waits_longer(fleet: Fleet, tmp_path: Path) -> None:
    """An item that fails again and again is tried after half a second, a second, two; less a
    jitter of half of it."""
    tries = tmp_path / "tries"

    @fan_out
    def flaky(x: int) -> int:
        with tries.open("a") as file:
            file.write(f"{time.time()}\n")
        if len(tries.read_text().split()) < 4:
            raise ConnectionError("again, please")
        return x

    result, *_, status = execute(made(retries=3), flaky, [7])
    assert (status, result.get_deserialized()) == ("COMPLETED", [7])
    began = [float(x) for x in tries.read_text().split()]
    pauses = [after - before for before, after in itertools.pairwise(began)]
    assert all(pause >= least for pause, least in zip(pauses, (0.25, 0.5, 1.0), strict=True))


def test_lists_of_different_lengths_fail_the_electron(fleet: Fleet) -> None:
    """Before any item runs; the error says how long each list is, as it does on any executor."""

    @fan_out(over=("a", "b"))
    def paired(a: int, b: str) -> tuple[int, str]:
        return a, b

    with pytest.raises(
        ValueError, match=r"lengths are {.a.: 3, .b.: 2}. Give lists of one length"
    ) as caught:
        paired([1, 2, 3], ["x", "y"])
    _, _, stderr, status = execute(made(), paired, [1, 2, 3], ["x", "y"])
    assert status == "FAILED"
    assert f"ValueError: {caught.value}" in stderr
    assert not fleet.sizes


def test_arguments_that_do_not_fit_fail_the_electron(fleet: Fleet) -> None:
    """Before any item runs, with the function's own words."""
    _, _, stderr, status = execute(made(), shifted, 5, 1)
    assert status == "FAILED"
    assert "TypeError: 'int' object is not iterable" in stderr
    assert not fleet.sizes


def test_cancelling_stops_all_items(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cancel` of the node ends it, and both environments are free again."""
    # A mark that nobody has answered in time stays for the bucket's lifecycle to remove.
    monkeypatch.setattr("lambda_calls.cancellation._STOPPING", 20.0)

    @fan_out(batch=1)
    def sleeps(seconds: float) -> None:
        time.sleep(seconds)

    async def work() -> None:
        executor = made()
        task = asyncio.ensure_future(
            executor.run(covalents(sleeps), [TransportableObject([60.0] * 6)], {}, METADATA)
        )
        while len(fleet.batches) < 3:
            await asyncio.sleep(0.05)
        await made().cancel(METADATA, {"task_id": fleet.batches[0].task_id})
        with pytest.raises(TaskCancelledError):
            await task

    began = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - began < 25
    assert execute(made(), shifted, [1], 1)[0].get_deserialized() == [2]


def test_a_script_gets_the_list_itself(fleet: Fleet) -> None:
    """`run` of a bare function opens the result."""
    values = asyncio.run(made().run(shifted, [[1, 2], 5], {}, METADATA))
    assert values == [6, 7]


def test_what_all_items_share_travels_once(fleet: Fleet, aws: AWS) -> None:
    """A large argument beside the list is one blob for the electron, and one for its items."""
    model = os.urandom(8_000_000)

    @fan_out(batch=1)
    def looks_up(x: int, model: bytes) -> int:
        return model[x]

    result, *_ = execute(made(), looks_up, [0, 1, 2, 3], model)
    assert result.get_deserialized() == list(model[:4])
    puts = [x for x in aws.requests if x.startswith("PUT /bucket/blobs/")]
    assert len(puts) == 2, puts


def test_items_answer_for_the_calls_protocol(fleet: Fleet) -> None:
    """An executor of the same protocol is what sent them: no item is a request of its own."""
    execute(made(), shifted, list(range(10)), 1)
    kinds = [type(x) for x in fleet.batches]
    assert kinds[0] is wire.Request
    assert set(kinds[1:]) == {wire.Batch}
