"""A Covalent server with a HOME, a port and a database of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import environment, processes
from sandbox.errors import SandboxError
from sandbox.processes import Child

START_SECONDS = 90.0
WHAT = "the Covalent server"

_HOST = "127.0.0.1"
_FOLDERS = {
    "COVALENT_CONFIG_DIR": "config",
    "COVALENT_LOGDIR": "log",
    "COVALENT_CACHE_DIR": "cache",
    "COVALENT_DATA_DIR": "data",
    "COVALENT_EXECUTOR_DIR": "executors",
    "COVALENT_DISPATCH_CACHE_DIR": "dispatches",
    "COVALENT_RESULTS_DIR": "results",
}
_APP = Path(__file__).with_name("covalent_app.py")


@dataclass(frozen=True)
class Dispatch:
    """A workflow run, as the server tells it.

    Attributes:
        dispatch_id: its id.
        status: COMPLETED, FAILED, ...
        stdout: what its electrons printed, in the order of their nodes.
        stderr: the same for standard error.
        error: the message of a failed run, or an empty string.
    """

    dispatch_id: str
    status: str
    stdout: str
    stderr: str
    error: str


@dataclass(frozen=True)
class Server:
    """A running Covalent server.

    Attributes:
        port: the TCP port of its API and its UI.
        home: the folder that holds everything it writes.
        child: its process.
    """

    port: int
    home: Path
    child: Child

    @property
    def url(self) -> str:
        """The address of the UI."""
        return f"http://{_HOST}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment to dispatch to this server, whatever its HOME."""
        return client_environment(self.home, self.port)

    def dispatches(self) -> list[str]:
        """Return the ids of all workflow runs, the latest first."""
        answer = self._get("/api/v2/dispatches?count=1000")
        return [str(summary["dispatch_id"]) for summary in answer["dispatches"]]

    def dispatch(self, dispatch_id: str) -> Dispatch:
        """Return what the server knows of one workflow run.

        Raises:
            SandboxError: when the server does not know it, or does not answer.
        """
        manifest = self._get(f"/api/v2/dispatches/{dispatch_id}")
        nodes = manifest["lattice"]["transport_graph"]["nodes"]
        nodes.sort(key=lambda node: node["id"])
        texts = {
            key: "".join(self._asset(node, key) for node in nodes) for key in ("stdout", "stderr")
        }
        status = str(manifest["metadata"]["status"])
        return Dispatch(
            dispatch_id=dispatch_id,
            status=status,
            stdout=texts["stdout"],
            stderr=texts["stderr"],
            error="" if status == "COMPLETED" else _read(manifest["assets"]["error"]),
        )

    def _asset(self, node: Mapping[str, Any], key: str) -> str:
        return _read(node["assets"][key])

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise SandboxError(f"the Covalent server did not answer {path}: {error}") from error


def client_environment(home: Path, port: int) -> dict[str, str]:
    """Return the settings of a server and its clients, as environment variables.

    With them Covalent keeps its configuration, database, caches and results under `home` and
    reads nothing from HOME.
    """
    env = {name: str(home / folder) for name, folder in _FOLDERS.items()}
    env.update(
        COVALENT_DATABASE=str(home / "dispatcher_db.sqlite"),
        COVALENT_SVC_PORT=str(port),
        COVALENT_DISPATCHER_ADDR=_HOST,
        COVALENT_DISABLE_DASK="1",
        # What the executor advises where an electron's module is missing.
        COVALENT_LAMBDA_ADD_PACKAGE='run `make up PACKAGES="..."` with all that you need'
        " (`make down` first, if it is up)",
    )
    return env


def start(home: Path, env: Mapping[str, str], *, port: int | None = None) -> Server:
    """Start a Covalent server and wait until it answers.

    Args:
        home: folder for all that it writes; made if missing.
        env: more environment variables: what the executor needs to reach AWS.
        port: the port to listen on; None takes a free one.

    Raises:
        SandboxError: when the port is in use, or the server does not come up.
    """
    server = launch(home, env, port=port)
    wait(server)
    return server


def launch(
    home: Path,
    env: Mapping[str, str],
    *,
    port: int | None = None,
    log: Path | None = None,
    python: Path = Path(sys.executable),
) -> Server:
    """Start a Covalent server without waiting for it; `log` None means `home`/covalent.log.

    Dispatches and results that an earlier server left in `home` are there again.
    """
    port = processes.port_or_free(port, WHAT, "PORT")
    settings = client_environment(home, port)
    # Written at each first start; one that is there would bring back the port of the last time.
    shutil.rmtree(settings["COVALENT_CONFIG_DIR"], ignore_errors=True)
    for name in _FOLDERS:  # the server expects them; `covalent start` makes them
        Path(settings[name]).mkdir(parents=True, exist_ok=True)
    child_env = environment.clean(os.environ, home=home, python=python)
    child_env.update(settings)
    child_env.update(env)
    child = processes.start(
        WHAT,
        [str(python), str(_APP), str(port)],
        env=child_env,
        cwd=home,
        log=log or home / "covalent.log",
    )
    return Server(port=port, home=home, child=child)


def wait(server: Server) -> None:
    """Wait until a launched server answers; end it when it does not.

    Raises:
        SandboxError: when it does not come up; the message holds the end of its log.
    """
    processes.wait_until_ready(server.child, lambda: _answers(server.url), seconds=START_SECONDS)


def stop(child: Child) -> None:
    """End a Covalent server."""
    processes.stop(child)


@contextlib.contextmanager
def running_covalent(
    home: Path, env: Mapping[str, str], port: int | None = None
) -> Iterator[Server]:
    """Run a Covalent server for the time of a `with` block.

    Args:
        home: folder for everything that it writes; it is left there, for its logs.
        env: more environment variables for the server, such as `Aws.env`.
        port: the port to listen on; None takes a free one.
    """
    server = start(home, env, port=port)
    try:
        yield server
    finally:
        stop(server.child)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/dispatches?count=1", timeout=2):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _read(asset: Mapping[str, Any]) -> str:
    """Return the text of a small asset; the server keeps it as a file on this machine."""
    uri = str(asset.get("remote_uri") or asset.get("uri") or "")
    if not uri:
        return ""
    try:
        with urllib.request.urlopen(uri, timeout=30) as answer:
            text: str = answer.read().decode("utf-8", errors="replace")
            return text
    except (OSError, ValueError):
        return ""
