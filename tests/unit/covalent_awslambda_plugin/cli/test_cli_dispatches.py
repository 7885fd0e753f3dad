"""`show`, `cost` and `logs` of a workflow that ran through a real Covalent server."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import leaks
import pytest
from conftest import FUNCTION, SAMCONFIG, Cloud, Command  # type: ignore[attr-defined]

from sandbox import Server

WORKFLOW = """\
import sys
import covalent as ct
from covalent.executor import AWSLambdaExecutor
import helper_beside

executor = AWSLambdaExecutor(function_name="fn", s3_bucket_name="transfer-bucket",
                             region="us-east-1")

@ct.electron(executor=executor)
def begin(x):
    print("begins with", x)
    return helper_beside.Doubled(x)

@ct.electron(executor=executor)
def fail(doubled):
    print("got", doubled.value)
    raise ValueError("a reason")

@ct.lattice(executor=executor)
def broken(x):
    return fail(begin(x))

@ct.lattice(executor=executor)
def whole(x):
    return begin(x)

@ct.electron(executor="awslambda")
def double(x):
    return 2 * x

@ct.lattice(executor="awslambda")
def by_name(x):
    return double(x)

@ct.electron(executor="awslmbda")
def lost(x):
    return x

@ct.lattice
def misspelt(x):
    return lost(x)

dispatch_id = ct.dispatch(globals()[sys.argv[1]])(4)
outcome = ct.get_result(dispatch_id, wait=True)
value = outcome.result
print(dispatch_id, type(value) is helper_beside.Doubled and value.value)
"""
HELPER = """\
class Doubled:
    def __init__(self, x):
        self.value = 2 * x
"""


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, whole_cloud: Cloud) -> Iterator[None]:
    """As elsewhere; but Covalent's server keeps its connections to the stand-in, which is here."""
    import covalent_awslambda_plugin.awslambda  # noqa: F401  what Covalent opens for itself stays

    with leaks.none(request, urlsplit(whole_cloud.functions.url).port or 0):
        yield


@pytest.fixture(scope="session")
def folder(home: Path) -> Path:
    """A script with a helper module beside it, which no image has."""
    made = home / "scripts"
    made.mkdir()
    (made / "workflow.py").write_text(WORKFLOW)
    (made / "helper_beside.py").write_text(HELPER)
    return made


def dispatched(command: Command, folder: Path, which: str) -> tuple[str, str]:
    """Run the workflow; the dispatch's id, and what the script says of its result."""
    done = command("workflow.py", which, cwd=folder)
    assert done.returncode == 0, done.stderr
    dispatch_id, value = done.stdout.splitlines()[-1].split()
    return dispatch_id, value


def cli(command: Command, folder: Path, *words: str) -> Any:
    return command("-m", "covalent_awslambda_plugin", *words, cwd=folder)


def test_a_misspelt_executor(command: Command, folder: Path, covalent: Server) -> None:
    """`show` says what the server's log alone tells otherwise, and leaves nothing in that log."""
    dispatch_id, _ = dispatched(command, folder, "misspelt")
    shown = cli(command, folder, "show", dispatch_id)
    assert shown.returncode == 1, shown.stderr
    assert "✗ lost (node 0) failed after" in shown.stdout
    assert "No executor found by name: awslmbda" in shown.stdout
    log = (covalent.home / "covalent.log").read_text()
    assert "awslambda.jsonl" not in log  # no invocation is noted, so there is no such file


def test_a_failed_dispatch(command: Command, folder: Path) -> None:
    """`show` names the electron that failed, with output, traceback and cost, and exits with 1;
    `cost` adds up both electrons."""
    dispatch_id, _ = dispatched(command, folder, "broken")
    shown = cli(command, folder, "show", dispatch_id)
    assert shown.returncode == 1, shown.stderr
    assert f"broken  {dispatch_id}  FAILED" in shown.stdout
    assert "✗ fail (node 2) failed after" in shown.stdout
    assert "\n    got 8\n" in shown.stdout
    assert "\n    ValueError: a reason\n" in shown.stdout
    assert "\x1b" not in shown.stdout  # no colours in a pipe

    told = json.loads(cli(command, folder, "show", "--json").stdout)  # the latest
    assert told["dispatch_id"] == dispatch_id
    (failed,) = told["failed"]
    assert (failed["name"], failed["node"], failed["stdout"]) == ("fail", 2, "got 8\n")
    assert failed["cost"]["invocations"] == 1 and failed["cost"]["dollars"] > 0
    assert (told["electrons"]["done"], told["electrons"]["failed"]) == (1, 1)

    cost = cli(command, folder, "cost", dispatch_id, "--json")
    assert cost.returncode == 0, cost.stderr
    added = json.loads(cost.stdout)
    assert [x["name"] for x in added["electrons"]] == ["begin", "fail"]
    assert added["total"]["invocations"] == 2
    assert 0 < added["total"]["dollars_on_arm64"] < added["total"]["dollars"]
    assert "On arm64: about $" in cli(command, folder, "cost", dispatch_id).stdout


def test_a_module_beside_the_script_travels(command: Command, folder: Path) -> None:
    """An electron uses a helper module, and returns an object whose class the script knows."""
    dispatch_id, value = dispatched(command, folder, "whole")
    assert value == "8"
    assert cli(command, folder, "show", dispatch_id).returncode == 0


def test_an_unknown_dispatch(command: Command, folder: Path) -> None:
    """It is one line on stderr and exit status 1."""
    for name in ("show", "cost", "logs"):
        done = cli(command, folder, name, "no such/id")
        assert (done.returncode, done.stdout) == (1, "")
        assert "has no dispatch 'no such/id'" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_server_that_does_not_answer(command: Command, folder: Path, tmp_path: Path) -> None:
    """The address is named, and what starts it."""
    script = (
        "import os, sys; os.environ['COVALENT_SVC_PORT'] = '1'\n"
        "os.environ['COVALENT_CONFIG_DIR'] = sys.argv[1]\n"
        "from covalent_awslambda_plugin.cli.main import main; sys.exit(main(['show']))"
    )
    done = command("-c", script, str(tmp_path), cwd=folder)
    assert done.returncode == 1
    assert "does not answer at http://127.0.0.1:1" in done.stderr
    assert "covalent start" in done.stderr


def test_the_log_of_an_electron(cloud: Cloud, command: Command, folder: Path) -> None:
    """`logs` shows what lies between an electron's line and its end, of its own stream alone."""
    dispatch_id, _ = dispatched(command, folder, "broken")
    log = Log(cloud)
    log.write("one", "START RequestId: r1 Version: $LATEST")
    log.write("one", f"[covalent] runs {dispatch_id}-0-aaaa", "begins with 4")
    log.write("two", "START RequestId: r2 Version: $LATEST")
    log.write("two", f"[covalent] runs {dispatch_id}-2-bbbb", "got 8")
    log.write("one", "END RequestId: r1", "START RequestId: r3", "somebody else's")
    log.write("two", "END RequestId: r2")

    shown = cli(command, folder, "logs", dispatch_id)
    assert shown.returncode == 0, shown.stderr
    assert sorted(shown.stdout.splitlines()) == ["begin[0] begins with 4", "fail[2] got 8"]
    shown = cli(command, folder, "logs", dispatch_id, "--electron", "fail", "--json")
    assert [json.loads(x) for x in shown.stdout.splitlines()] == [
        {"node": "2", "name": "fail", "line": "got 8"}
    ]
    wrong = cli(command, folder, "logs", dispatch_id, "--electron", "fial")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "has no electron 'fial'; it has begin, fail" in wrong.stderr

    (folder / "samconfig.toml").write_text(
        '[default.global.parameters]\nregion = "us-east-1"\n'
        'parameter_overrides = "FunctionName=fn BucketName=transfer-bucket"\n'
    )
    shown = cli(command, folder, "logs", "--request", "r2")
    assert "got 8" in shown.stdout and "begins" not in shown.stdout
    wrong = cli(command, folder, "logs", "--request", "r9")
    assert wrong.returncode == 1 and "has no request 'r9'" in wrong.stderr


def test_the_log_of_an_executor_by_name(cloud: Cloud, command: Command, folder: Path) -> None:
    """Of `executor="awslambda"` Covalent keeps no function: it is that of covalent.conf."""
    (folder / "samconfig.toml").write_text(SAMCONFIG)
    assert cli(command, folder, "configure").returncode == 0
    dispatch_id, _ = dispatched(command, folder, "by_name")
    (folder / "samconfig.toml").write_text(SAMCONFIG.replace(FUNCTION, "another"))
    log = Log(cloud)
    log.write("one", "START RequestId: r1", f"[covalent] runs {dispatch_id}-0-aaaa", "a line")
    shown = cli(command, folder, "logs", dispatch_id)
    assert (shown.returncode, shown.stdout) == (0, "double[0] a line\n"), shown.stderr


def test_what_is_written_now_is_followed(cloud: Cloud, project: Path) -> None:
    """A line that an electron writes while it runs is shown within five seconds."""
    from covalent_awslambda_plugin.cli import logs
    from covalent_awslambda_plugin.cli.dispatches import Dispatch, Node

    node = Node(3, "work", "RUNNING", "awslambda", 1.0, "", False)
    dispatch = Dispatch("d", "flow", "RUNNING", time.time(), 1.0, "", [node])
    status = "RUNNING"

    class Running:
        """Covalent's server, which says that the dispatch runs until the test has seen enough."""

        def status(self, dispatch_id: str) -> str:
            return status

        def dispatch(self, dispatch_id: str) -> Dispatch:
            return dispatch

        def family(self, dispatch: Dispatch) -> list[tuple[str, Dispatch]]:
            return [("", dispatch)]

        def executors(self, dispatch_id: str) -> dict[int, dict[str, str]]:
            names = {"profile": "", "credentials_file": "", "function_name": "fn"}
            return {3: {"region": "us-east-1", **names}}

    log = Log(cloud)
    log.write("s", "START RequestId: r", "[covalent] runs d-3-aa")
    followed = logs._Followed(
        Running(),  # type: ignore[arg-type]
        dispatch,
        argparse.Namespace(electron=None),
    )
    found: dict[str, float] = {}

    def follow() -> None:
        for number, name, line in logs._lines(followed, follow=True):
            assert (number, name) == ("3", "work")
            found[line] = time.monotonic()

    thread = threading.Thread(target=follow)
    thread.start()
    for line in ("first", "second"):
        time.sleep(1)
        log.write("s", line)
        written = time.monotonic()
        while line not in found and time.monotonic() - written < 5:
            time.sleep(0.05)
        assert line in found
    log.write("s", "END RequestId: r")
    status = "COMPLETED"
    thread.join(30)
    assert not thread.is_alive()


class Log:
    """The function's log, written to as Lambda writes."""

    group = "/aws/lambda/fn"

    def __init__(self, cloud: Cloud) -> None:
        self._client = cloud.client("logs")
        self._client.create_log_group(logGroupName=self.group)
        self._streams: set[str] = set()

    def write(self, stream: str, *lines: str) -> None:
        if stream not in self._streams:
            self._client.create_log_stream(logGroupName=self.group, logStreamName=stream)
            self._streams.add(stream)
        now = int(1000 * time.time())
        self._client.put_log_events(
            logGroupName=self.group,
            logStreamName=stream,
            logEvents=[{"timestamp": now, "message": line} for line in lines],
        )
