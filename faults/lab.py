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

from benchmarks.lab import DIRECTLY

from .toxics import Toxic

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "faults"
# Nothing that a run writes may hold it, but AWS's own file of credentials.
SECRET_KEY = "SecretKeyOfTheFaultsThatNobodyMayWriteDown"


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

    def state(self, bucket: str = BUCKET) -> dict[str, Any]:
        """Counts of faults and requests, and what a bucket holds."""
        found: dict[str, Any] = self.lab.order("state", port=self.port, bucket=bucket)
        return found

    def away(self, seconds: float) -> None:
        """Refuse connections for a while."""
        self.lab.order("away", port=self.port, seconds=seconds)

    def poison(self, toxics: Sequence[Toxic], seed: str = "0") -> None:
        """Other toxics from now on."""
        made = [x.as_dict() for x in toxics]
        self.lab.order("poison", port=self.port, toxics=made, seed=seed)


@dataclass(frozen=True)
class Lab:
    """The running endpoint.

    Args:
        port: for control; the function's door too.
        folder: for the ledger and other files of the run.
        image: in whose container the only environment runs; empty: as many as needed, in none.
    """

    port: int
    folder: Path
    image: str = ""

    @property
    def shared(self) -> Path:
        """The folder that environments see too: for the ledger."""
        return self.folder / "environments"

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
    def function(
        self, toxics: Sequence[Toxic], *, seed: str = "0", bucket: str = BUCKET
    ) -> Iterator[None]:
        """Toxics on the function's own way to a bucket, while the body runs."""
        made = [x.as_dict() for x in toxics]
        self.order("function", toxics=made, seed=seed, bucket=bucket)
        try:
            yield
        finally:
            self.order("function", toxics=[], seed=seed, bucket=bucket)

    def empty(self) -> None:
        """Remove all objects."""
        self.order("empty")

    def order(self, what: str, **said: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/_faults/{what}", data=json.dumps(said).encode()
        )
        with DIRECTLY.open(request, timeout=60) as answer:
            return json.loads(answer.read())


@contextmanager
def running(image: str = "") -> Iterator[Lab]:
    """Run the endpoint while the body runs.

    Args:
        image: runs the function's only environment in a container of this image, with a limit of
            memory and a small /tmp.
    """
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    log = folder / "endpoint.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "faults.endpoint", str(folder / "environments"), image],
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
        yield Lab(int(line), folder, image)
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def base_image() -> str:
    """Docker's image of this Python, if it is here; else empty."""
    name = "python:{}.{}-slim".format(*sys.version_info)
    try:
        found = subprocess.run(["docker", "image", "inspect", name], capture_output=True)
    except OSError:
        return ""
    return "" if found.returncode else name


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
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
