"""Runs the endpoint in a process of its own, and opens doors to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .toxics import Toxic

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "faults"
# Past whatever proxy this machine's user has.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Door:
    """Where a caller reaches both services.

    Args:
        lab: whose door it is.
        port: on the loopback interface.
    """

    lab: Lab
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def state(self) -> dict[str, Any]:
        """Counts of faults and requests, and the bucket's keys."""
        found: dict[str, Any] = self.lab.order("state", port=self.port)
        return found

    def away(self, seconds: float) -> None:
        """Refuse connections for a while."""
        self.lab.order("away", port=self.port, seconds=seconds)

    def objects(self) -> list[str]:
        """The keys of what the bucket holds."""
        return [x.removeprefix(f"/{BUCKET}/") for x in self.state()["objects"]]


@dataclass(frozen=True)
class Lab:
    """The running endpoint.

    Args:
        port: for control; the function's door too.
        folder: for the ledger and other files of the run.
        process: its id.
    """

    port: int
    folder: Path
    process: int

    @contextmanager
    def door(
        self, toxics: Sequence[Toxic] = (), *, seed: str = "0", **limits: Any
    ) -> Iterator[Door]:
        """A door with toxics of its own; `limits` are Lambda's."""
        said = {"toxics": [x.as_dict() for x in toxics], "seed": seed, "limits": limits}
        door = Door(self, self.order("door", **said)["port"])
        try:
            yield door
        finally:
            self.order("close", port=door.port)

    @contextmanager
    def function(self, toxics: Sequence[Toxic], *, seed: str = "0") -> Iterator[None]:
        """Toxics on the function's own way to S3, while the body runs."""
        self.order("function", toxics=[x.as_dict() for x in toxics], seed=seed)
        try:
            yield
        finally:
            self.order("function", toxics=[], seed=seed)

    def empty(self) -> None:
        """Remove all objects."""
        self.order("empty")

    def order(self, what: str, **said: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/_faults/{what}", data=json.dumps(said).encode()
        )
        with _DIRECTLY.open(request, timeout=60) as answer:
            return json.loads(answer.read())


@contextmanager
def running() -> Iterator[Lab]:
    """Run the endpoint while the body runs."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    log = folder / "endpoint.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "faults.endpoint", str(folder / "environments")],
            cwd=ROOT,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=output,
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise RuntimeError(f"the endpoint did not start:\n{log.read_text('utf-8')[-3000:]}")
        yield Lab(int(line), folder, server.pid)
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    """Nothing of this machine's own settings but PATH."""
    (home / "environments").mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
