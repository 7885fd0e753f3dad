"""The handler as Lambda has it, in a container: another user than root, nothing to write to but
/tmp, limits on memory and processes; on the oldest Python and on the newest.

    docker run ── event ──► worker: app.handler(event, Context) ──► answer

No image is built: handler, wire.py and cloudpickle lie in a folder that is mounted as /var/task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import contained_electrons as electrons
import pytest
import ways
from function_box import returned
from lacking import lacking
from named import Named, lay_out, serving

import wire
from sandbox import engine
from sandbox.engine import Engine

PYTHONS = ["3.8", "3.13"]
AS_LAMBDA = ("--read-only", "--user", "993:990", "--network", "none", "--init")


@pytest.fixture(scope="module")
def docker() -> Engine:
    """A Docker engine."""
    found = engine.find()
    if found is None:
        lacking("no Docker engine answers")
    return found


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is /var/task."""
    folder = tmp_path_factory.mktemp("task") / "task"
    lay_out(folder)
    return folder


@pytest.fixture(scope="module")
def start(
    docker: Engine, task: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Named]:
    """Make an environment with more of `docker run`'s options; use it in a `with` statement."""

    def make(python: str, *options: str) -> Named:
        work = tmp_path_factory.mktemp("contained")
        image = f"public.ecr.aws/docker/library/python:{python}-slim"
        if not docker.can_get(image, work / "pull.log"):
            lacking(f"the image {image} cannot be had: .ci/base-images makes a stand-in")
        command = ["docker", "run", "--rm", "--interactive", *AS_LAMBDA, *options]
        command += ["--tmpfs", "/tmp:size=4g,exec", "--volume", f"{task}:/var/task:ro"]
        command += ["--env", "PYTHONDONTWRITEBYTECODE=1", image]
        command += ["python3", "-c", serving("/var/task")]
        return Named(work / "tmp", command, **docker.env)

    return make


@pytest.fixture(scope="module", params=PYTHONS)
def function(request: pytest.FixtureRequest, start: Any) -> Iterator[Named]:
    """One environment for all: what each electron leaves would reach all that follow."""
    with start(request.param) as running:
        yield running


@pytest.mark.parametrize("name", ways.IN_A_CONTAINER)
def test_next_electron_finds_the_world_new(function: Named, new: Any, name: str) -> None:
    """After each way to leave something behind, what an electron sees is as before, files in the
    folders open to all included."""
    function.finds_the_world_new_after(*ways.IN_A_CONTAINER[name], new)


def test_files_stay_whatever_ends_meanwhile(start: Any) -> None:
    """No file of a running electron goes because one before it has ended another's process."""
    with start(PYTHONS[-1]) as function:
        assert returned(function.call(electrons.ends_what_others_hold_ready)) == 1
        assert returned(function.call(electrons.keeps_a_file))


def test_files_open_to_all_can_be_made(function: Named) -> None:
    """The way that writes there does write."""
    assert returned(function.call(ways.files_open_to_all)) >= 1


def test_memory_of_others_is_out_of_reach(function: Named) -> None:
    """An electron can neither trace, read nor change the processes of the environment, that of the
    handler and that of the next electron among them."""
    tried = returned(function.call(electrons.attack, 4))
    assert len(tried) >= 4  # the handler, two servers, the spare
    assert {process: said for process, said in tried.items() if said != "denied"} == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_out_of_memory(start: Any, python: str) -> None:
    """What the kernel kills for want of memory is told as such, by its own count, with what was
    printed; the next electron comes from the same fork server. A kill by somebody else is not."""
    with start(python, "--memory", "200m", "--memory-swap", "200m") as limited:
        server = returned(limited.call(electrons.fork_server))
        failure = limited.call(electrons.kills_itself).failure
        assert failure is not None and failure.kind == wire.CRASHED
        assert "SIGKILL" in failure.message
        response = limited.call(electrons.hoards)
        assert response.failure is not None
        assert response.failure.kind == wire.OUT_OF_MEMORY, response.failure
        assert response.stdout == "begun"
        assert returned(limited.call(electrons.fork_server)) == server


def test_no_process_can_be_started(start: Any) -> None:
    """Where the system refuses a process, the answer says so and that nothing ran, and the
    environment ends."""
    with start(PYTHONS[-1], "--pids-limit", "3") as unfit:
        failure = unfit.call(abs, -1).failure
        assert failure is not None and failure.kind == wire.ENVIRONMENT
        assert "Nothing of the electron ran" in failure.message
        assert unfit.process.wait(20) != 0
