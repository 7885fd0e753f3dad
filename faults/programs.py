"""Users' programs and Covalent's servers: killed, interrupted, suspended, restarted, doubled.

They are processes of their own, with the product's own waiting times.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from sandbox import server as covalent
from sandbox.server import Server

from . import toxics, work
from .lab import ROOT, Door, Lab, environment
from .progress import Progress
from .toxics import Toxic
from .ways import FUNCTION

_WITHIN = 180.0  # seconds for what must happen soon, on a busy machine, too
_CALLS = 6
_LARGE = 5_000_000  # bytes, which travel through the bucket


@dataclass(frozen=True)
class Scene:
    """A row of the table whose calls are made by programs of their own.

    Args:
        name: what goes wrong.
        ends: how the calls end.
        ran: how often their code ran.
        does: why, and what happens, in a sentence.
        play: does it; what is not as it must be.
        takes: seconds that it waits.
    """

    name: str
    ends: str
    ran: str
    does: str
    play: Callable[[Stage], list[str]]
    takes: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Where one scene is played.

    Args:
        lab: the endpoint.
        door: to it.
        bucket: of the scene alone.
        ledger: of its calls.
    """

    lab: Lab
    door: Door
    bucket: str
    ledger: work.Ledger

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its programs."""
        return {**environment(self.lab.folder), "AWS_ENDPOINT_URL": self.door.url}

    @property
    def errors(self) -> Path:
        """What its programs write to their standard error."""
        return self.lab.folder / f"{self.bucket}.errors"

    @contextmanager
    def client(
        self,
        how: str,
        numbers: Sequence[int],
        env: Mapping[str, str] | None = None,
        **told: Any,
    ) -> Iterator[subprocess.Popen[str]]:
        """A program that makes calls; killed in the end."""
        names = {"function_name": FUNCTION, "s3_bucket_name": self.bucket, "region": "us-east-1"}
        told["ledger"] = self.ledger.path
        said = {"names": names, "numbers": list(numbers), "told": told}
        with (
            self.errors.open("ab") as errors,
            subprocess.Popen(
                [sys.executable, "-m", "faults.client", how, json.dumps(said)],
                cwd=ROOT,
                env={**self.variables, **(env or {})},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as program,
        ):
            try:
                yield program
            finally:
                program.kill()

    @contextmanager
    def server(self, name: str) -> Iterator[Server]:
        """A Covalent server with a home of its own, which stays."""
        home = self.lab.folder / f"{self.bucket}-{name}"
        home.mkdir(exist_ok=True)
        with covalent.running_covalent(home, self.variables) as running:
            yield running

    def begun(self, count: int) -> bool:
        """Wait until so many calls have begun."""
        return _until(lambda: len(self.ledger.begun()) >= count)

    def over(self) -> bool:
        """Wait until Lambda runs nothing more."""
        return _until(lambda: not self.door.state(self.bucket)["under_way"])

    def wrong(self, *, ended: int | None = None) -> list[str]:
        """What the ledger and the bucket have against it.

        Args:
            ended: how many calls must have come to their end; None: all that have begun.
        """
        begun = self.ledger.begun()
        found = [f"call {n} ran {count} times" for n, count in begun.items() if count != 1]
        count = len(self.ledger.ended())
        if count != (len(begun) if ended is None else ended):
            found.append(f"{count} of {len(begun)} calls came to their end")
        return found

    def left(self) -> list[str]:
        """What the bucket holds that nobody needs."""
        return _left(self.door.state(self.bucket)["leaked"])

    def anything_left(self) -> list[str]:
        """What the bucket holds at all: after a client that is gone, nobody knows who needs it."""
        return _left(self.door.state(self.bucket)["objects"])


def _left(keys: Sequence[str]) -> list[str]:
    return [f"left in the bucket: {x}" for x in keys]


def play(lab: Lab, scenes: Sequence[Scene], progress: Progress) -> dict[str, list[str]]:
    """Play scenes, two side by side, those that wait longest first; what was wrong in each."""
    ordered = sorted(scenes, key=lambda x: -x.takes)

    def one(scene: Scene) -> list[str]:
        name = f"scene-{ordered.index(scene)}"
        with lab.door() as door:
            found = scene.play(Stage(lab, door, name, work.Ledger(lab.shared / name)))
        progress.one_more("scenes with programs and servers", len(ordered))
        return found

    with ThreadPoolExecutor(2) as threads:
        return dict(zip((x.name for x in ordered), threads.map(one, ordered), strict=True))


def _killed_client(stage: Stage) -> list[str]:
    with stage.client("pool", range(_CALLS), seconds=3.0) as client:
        if not stage.begun(_CALLS):
            return ["the calls did not begin"]
        client.kill()
    if not stage.over():
        return ["a call goes on"]
    return stage.wrong(ended=_CALLS) + stage.anything_left()


def _interrupted_client(stage: Stage) -> list[str]:
    with stage.client("pool", range(_CALLS), seconds=60.0) as client:
        if not stage.begun(_CALLS):
            return ["the calls did not begin"]
        client.send_signal(signal.SIGINT)
        began = time.monotonic()
        client.wait(_WITHIN)
        if not stage.over() or time.monotonic() - began > 30:
            return ["the calls were not stopped"]
    found = stage.wrong(ended=0) + stage.left()
    said = stage.errors.read_text("utf-8", "replace").rstrip().rpartition("\n")[2]
    if client.returncode != -signal.SIGINT or said != "KeyboardInterrupt":
        found.append(f"the program ended with {client.returncode} and {said!r}")
    return found


def _suspended_client(stage: Stage, seconds: float) -> list[str]:
    with stage.client("pool", range(_CALLS), seconds=25.0) as client:
        if not stage.begun(_CALLS):
            return ["the calls did not begin"]
        client.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        client.send_signal(signal.SIGCONT)
        found = _results(client, range(_CALLS))
    return found + stage.wrong() + stage.left()


def _suspended_and_cut_off(stage: Stage, seconds: float) -> list[str]:
    # A router that has forgotten a connection: answers go nowhere, and nothing says so.
    stage.door.poison([Toxic(toxics.SILENT, service="lambda")])
    return _suspended_client(stage, seconds)


def _killed_server(stage: Stage) -> list[str]:
    again = range(_CALLS, 2 * _CALLS)
    with (
        stage.server("only") as server,
        stage.client("workflow", range(_CALLS), server.env, seconds=12.0) as client,
    ):
        if not stage.begun(_CALLS):
            return ["the electrons did not begin"]
        assert client.stdout is not None
        dispatch_id = json.loads(client.stdout.readline())
        _kill(server.child.pid)
    if not stage.over():
        return ["a call goes on"]
    found = stage.wrong(ended=_CALLS)
    with stage.server("only") as server, stage.client("workflow", again, server.env) as client:
        found += _results(client, again)
        statuses = [server.dispatch(dispatch_id).status]
    with stage.server("only") as server:
        statuses.append(server.dispatch(dispatch_id).status)
    if statuses != ["RUNNING", "RUNNING"]:
        found.append(f"Covalent's status of the earlier dispatch is {', then '.join(statuses)}")
    left = stage.left()
    # The orders to stop that it gives as it ends are for calls that may still run.
    orders = [x for x in left if f"tasks/{dispatch_id}-" in x and x.endswith("/order")]
    if not orders:
        found.append("no order to stop was given as the new process ended")
    return found + stage.wrong() + [x for x in left if x not in orders]


def _two_servers(stage: Stage) -> list[str]:
    half = _CALLS // 2  # each takes Covalent some seconds, with such an argument
    parts = range(half), range(half, _CALLS)
    found: list[str] = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(stage.server(str(n))) for n in range(len(parts))]
        clients = [
            stack.enter_context(stage.client("workflow", part, server.env, size_of_data=_LARGE))
            for part, server in zip(parts, servers, strict=True)
        ]
        for part, client in zip(parts, clients, strict=True):
            found += _results(client, part, _LARGE)
    # A server that is told to end deletes what lingers in the bucket.
    return found + stage.wrong() + stage.left()


_SUSPENDED, _LONG_SUSPENDED = 120.0, 600.0  # seconds
SCENES: Sequence[Scene] = (
    Scene(
        "the user's program is killed while its calls run",
        "nobody receives them",
        "once",
        "What runs in Lambda comes to its end, and nothing is sent again. Calls of a few seconds "
        "leave nothing in the bucket. (Those of 20 s or more leave their answers there.)",
        _killed_client,
    ),
    Scene(
        "the user's program is interrupted (Ctrl-C) while its calls run",
        "`KeyboardInterrupt`",
        "once, stopped",
        "The function is told to stop them, which takes some seconds.",
        _interrupted_client,
    ),
    Scene(
        "the user's program, or its laptop, is suspended for two minutes",
        "their results",
        "once",
        "The answers are there afterwards.",
        partial(_suspended_client, seconds=_SUSPENDED),
        takes=_SUSPENDED,
    ),
    Scene(
        "the same, and its connections are gone by then",
        "their results",
        "once",
        "Calls of 20 s or more leave their answers in the bucket, where the program finds them.",
        partial(_suspended_and_cut_off, seconds=_SUSPENDED),
        takes=_SUSPENDED,
    ),
    Scene(
        "Covalent's server is killed while electrons run, and started again",
        "no result",
        "once",
        "What runs in Lambda comes to its end, and nothing is sent again. Covalent does not go on "
        "with what its earlier process had dispatched, and says RUNNING for good. When it is "
        "stopped, it has the function told to stop those electrons. Dispatch it again.",
        _killed_server,
    ),
    Scene(
        "two Covalent servers share a function, a bucket and an argument",
        "their results",
        "once",
        "If one deletes an object that the other needs, it is stored again. Neither leaves "
        "anything.",
        _two_servers,
    ),
)

# They take ten real minutes: `make soak` plays them, not `make faults`.
LONG_SCENES: Sequence[Scene] = (
    Scene(
        "the user's program is suspended for ten minutes",
        "their results",
        "once",
        "The answers are there afterwards.",
        partial(_suspended_client, seconds=_LONG_SUSPENDED),
        takes=_LONG_SUSPENDED,
    ),
    Scene(
        "the user's program is suspended for ten minutes, and its connections are gone by then",
        "their results",
        "once",
        "The answers are in the bucket.",
        partial(_suspended_and_cut_off, seconds=_LONG_SUSPENDED),
        takes=_LONG_SUSPENDED,
    ),
)


def _until(happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + _WITHIN
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _results(
    client: subprocess.Popen[str], numbers: Sequence[int], size_of_data: int = 0
) -> list[str]:
    """What is wrong with what a program printed in the end."""
    try:
        lines = client.communicate(timeout=_WITHIN)[0].splitlines()
    except subprocess.TimeoutExpired:
        return ["the program did not end"]
    expected = [work.expected(n, bytes(size_of_data)) for n in numbers]
    if lines and json.loads(lines[-1]) == json.loads(json.dumps(expected)):
        return []
    return [f"the program said {' '.join(lines)[:300]!r} and ended with {client.returncode}"]


def _kill(pid: int) -> None:
    """Kill a process and all that it started."""
    with contextlib.suppress(psutil.Error):
        head = psutil.Process(pid)
        for process in [head, *head.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                process.kill()
