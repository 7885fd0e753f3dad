"""Runs the endpoint and the contenders, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .paths import BUILD, OURS, PUBLIC, ROOT

# What stands for the way to AWS: S3's first byte takes 10 to 30 ms within a region, Lambda's
# service adds some milliseconds to an invocation.
LATENCY_MS = 10.0
SECONDS = 1800.0

MEMORY = Path("/dev/shm")  # Linux's file system in memory
ROOM = 8e9  # bytes: 100 environments with an array of 20 MB each, and what Lithops needs

# Past whatever proxy this machine's user has.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Where each contender's plugin lies, if it has one.
PLUGINS = {"ours": OURS, "public": PUBLIC}


class BenchmarkError(Exception):
    """Something could not be measured; the message says what and why."""


@dataclass(frozen=True)
class Endpoint:
    """The running stand-in for Lambda and S3."""

    url: str

    def prepare(self, function: str, count: int) -> None:
        """Have `count` idle environments of a function ("ours", "stock", "boto", "lithops")."""
        self._ask("prepare", {"function": function, "count": count})

    def reset_memory(self, function: str) -> int:
        """Look for the peak of the function's next environment anew; its resident bytes now."""
        return int(self._ask("memory", {"function": function, "reset": True}))

    def peak_memory(self, function: str) -> int:
        """The most resident bytes of that environment since `reset_memory`."""
        return int(self._ask("memory", {"function": function, "reset": False}))

    def clear(self) -> None:
        """Forget all objects and counts."""
        self._ask("clear", {})

    def counts(self) -> dict[str, Any]:
        """`received`: bytes of all request bodies; `requests`: how many, by service and method."""
        found: dict[str, Any] = self._ask("counts", {})
        return found

    def _ask(self, what: str, said: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_benchmark/{what}", data=json.dumps(said).encode()
        )
        with DIRECTLY.open(request, timeout=SECONDS) as answer:
            return json.loads(answer.read())


@contextmanager
def folder(within: Path = BUILD) -> Iterator[Path]:
    """A folder for this benchmark's temporary files."""
    BUILD.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="run-", dir=within))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def endpoint(latency_ms: float = LATENCY_MS) -> Iterator[Endpoint]:
    """Run the stand-in on a free loopback port while the body runs.

    Its environments have their files in memory if there is room: this machine's disk, which is
    busy with the files of the run before, is none of Lambda's.
    """
    with folder(MEMORY if in_memory() else BUILD) as work:
        port = free_port()
        words = ["benchmarks.endpoint", str(port), str(latency_ms), str(work)]
        log = BUILD / "endpoint.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=environment(work, f"http://127.0.0.1:{port}"),
                stdout=output,
                stderr=output,
            )
        try:
            _wait_for(port, server, log)
            yield Endpoint(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()


def in_memory() -> bool:
    """Whether environments have their files in memory here."""
    return MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM


def client(
    at: Endpoint, contender: str, module: str, *words: Any, seconds: float = SECONDS
) -> dict[str, Any]:
    """Run `python -m benchmarks.clients.MODULE words…` as a contender; what it printed as JSON.

    Args:
        at: the endpoint it talks to.
        contender: "ours" or "public" decide which plugin it finds; any other finds none.
        module, words: what to run.
        seconds: after which it is given up.
    """
    with folder() as home:
        env = environment(home, at.url, PLUGINS.get(contender))
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.clients.{module}", *map(str, words)],
                cwd=home,  # the public plugin puts its files into the working directory
                env=env,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(
                f"{contender}: {module} took more than {seconds:.0f} s"
            ) from error
    if done.returncode:
        raise BenchmarkError(f"{contender}: {module} {words} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def environment(home: Path, url: str, plugin: Path | None = None) -> dict[str, str]:
    """Nothing of this machine's own settings but PATH; temporary files too go into `home`.

    Covalent, Dask and Lithops leave some behind, and Lithops follows requests that it finds there.
    """
    path = [str(ROOT)] + ([str(plugin)] if plugin else [])
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "pycache"),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchmarkError(f"the endpoint did not start:\n{log.read_text('utf-8')[-3000:]}")
