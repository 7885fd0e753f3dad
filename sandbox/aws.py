"""The machine's own AWS: MiniStack, on ports, folders and keys of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox import engine as docker
from sandbox import environment, processes
from sandbox.engine import Engine
from sandbox.processes import Child

ACCESS_KEY = "test"
SECRET_KEY = "test"
ACCOUNT = "000000000000"
REPOSITORY = "electrons"
START_SECONDS = 60.0
WHAT = "the embedded AWS"

_HOST = "127.0.0.1"
_APP = Path(__file__).with_name("ministack_app.py")
# What MiniStack calls itself on the containers that it starts, together with its port.
_INSTANCE = "covalent-lambda-sandbox"
# AWS has as many open files as it needs. For MiniStack alone: the server and the scripts live with
# the limit that this user has, as they would beside the real one.
_WITH_ALL_FILES = ("sh", "-c", 'ulimit -n "$(ulimit -H -n)" 2>/dev/null; exec "$@"', "sh")


@dataclass(frozen=True)
class Aws:
    """A running MiniStack.

    Attributes:
        port: the TCP port it listens on.
        home: the folder that holds everything it writes.
        child: its process.
        engine: the Docker engine that runs its image functions, or None.
    """

    port: int
    home: Path
    child: Child
    engine: Engine | None

    @property
    def endpoint_url(self) -> str:
        """The address of every AWS service."""
        return f"http://{_HOST}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What a program needs in its environment to use this AWS and no other.

        The region is not among it: a project's samconfig.toml names one.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": str(self.home / "aws-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.home / "aws-credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def start(
    home: Path,
    *,
    port: int | None = None,
    auth: bool = False,
    engine: Engine | None = None,
    log: Path | None = None,
    python: Path = Path(sys.executable),
    concurrency: int | None = None,
) -> Aws:
    """Start MiniStack and wait until it answers.

    Args:
        home: folder for its log, temporary files and state; made if missing.
        port: the port to listen on; None takes a free one.
        auth: enforce IAM policies. The sandbox's own key pair is then the account's root user.
        engine: the Docker engine for image functions; None runs zip functions only.
        log: the log file; None means `home`/ministack.log.
        python: the Python that it and its local workers run on.
        concurrency: the account's limit of concurrent executions, each of which is a process
            here; more are throttled. None leaves it to MiniStack, which goes by memory.

    Raises:
        SandboxError: when the port is in use, or MiniStack does not come up.
    """
    port = processes.port_or_free(port, WHAT, "AWS_PORT")
    home.mkdir(parents=True, exist_ok=True)
    addresses = [_HOST]
    # Containers on a Linux engine reach this machine at the bridge's address. Listening on every
    # address would offer code execution to the whole local network.
    if engine is not None and engine.gateway and processes.can_bind(engine.gateway, port):
        addresses.append(engine.gateway)
    command = [*_WITH_ALL_FILES, str(python), "-m", "hypercorn", f"{_APP}:app"]
    command += ["--workers", "0", "--keep-alive", "75"]
    command += [word for address in addresses for word in ("--bind", f"{address}:{port}")]
    env = _environment(home, port, python, auth=auth, engine=engine)
    if concurrency is not None:
        env["LAMBDA_ACCOUNT_CONCURRENCY"] = str(concurrency)
    child = processes.start(
        f"{WHAT} (MiniStack)",
        command,
        env=env,
        cwd=home,
        log=log or home / "ministack.log",
    )
    processes.wait_until_ready(child, lambda: _answers(port), seconds=START_SECONDS)
    return Aws(port=port, home=home, child=child, engine=engine)


def stop(
    child: Child, port: int, engine: Engine | None, grace: float = processes.GRACE_SECONDS
) -> None:
    """End MiniStack, its workers and its containers."""
    processes.stop(child, grace=grace)
    if engine is not None:
        engine.remove_containers(f"ministack.instance={_INSTANCE}:{port}")
        for reference in (registry(port), local_image(port), in_ecr("*", port, "*")):
            engine.remove_images(reference)


def registry(port: int) -> str:
    """Return the image repository in MiniStack's registry.

    Docker trusts registries on 127.0.0.0/8 without TLS, and SAM CLI takes such an address for one
    of ECR: nothing needs to be set up on the machine.
    """
    return f"{_HOST}:{port}/{REPOSITORY}"


def in_ecr(region: str, port: int, version: str) -> str:
    """Return the name that a version of the image would have in ECR."""
    return f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/{REPOSITORY}:{port}-{version}"


def local_image(port: int) -> str:
    """Return the local name of the image that is pushed there."""
    return f"{_INSTANCE}:{port}"


@contextlib.contextmanager
def running_aws(
    home: Path, port: int | None = None, auth: bool = False, *, with_docker: bool = True
) -> Iterator[Aws]:
    """Run MiniStack for the time of a `with` block.

    Args:
        home: folder for everything that it writes; it is left there, for its log.
        port: the port to listen on; None takes a free one.
        auth: enforce IAM policies.
        with_docker: let it use the Docker engine, if one answers.
    """
    engine = docker.find() if with_docker else None
    aws = start(home, port=port, auth=auth, engine=engine)
    try:
        yield aws
    finally:
        stop(aws.child, aws.port, engine)


def _environment(
    home: Path, port: int, python: Path, *, auth: bool, engine: Engine | None
) -> dict[str, str]:
    env = environment.clean(os.environ, home=home, python=python)
    env.update(
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AUTH="true" if auth else "false",
        GATEWAY_PORT=str(port),
        MINISTACK_HOST=_HOST,
        MINISTACK_HOSTNAME=_INSTANCE,
        STATE_DIR=str(home / "state"),
        S3_DATA_DIR=str(home / "s3"),
        # Listeners on fixed ports that nothing here needs.
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        # Its Python workers inherit this: the image sets the same, so that `import covalent`
        # in a task does not load executor plugins.
        COVALENT_PLUGIN_LOAD="false",
    )
    # A socket that does not exist is how MiniStack knows that there is no Docker engine.
    env["DOCKER_HOST"] = engine.host if engine else f"unix://{home}/no-docker-engine.sock"
    return env


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=2)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
