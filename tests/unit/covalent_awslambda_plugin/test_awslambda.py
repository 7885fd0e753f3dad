"""The executor's arguments, documented methods and JSON."""

import asyncio
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aws_server import AWS, Answer
from covalent._shared_files.exceptions import TaskCancelledError
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin import awslambda
from covalent_awslambda_plugin.errors import (
    AWSLambdaExecutorError,
    ConfigurationError,
)
from electrons import METADATA, covalents, good, made, request_of


def test_import_covalent_does_not_wait_for_what_runs_electrons() -> None:
    """A script that only writes workflows imports none of it, nor boto3."""
    script = (
        "import sys, covalent\n"
        "from covalent.executor import AWSLambdaExecutor\n"
        "AWSLambdaExecutor('f', 'b')\n"
        "ours = ('lambda_calls.attempt', 'lambda_calls.session', 'lambda_calls.run')\n"
        "modules = ('boto3', 'covalent_awslambda_plugin.running', *ours)\n"
        "print([name for name in modules if name in sys.modules])\n"
        "import importlib\n"
        "print([importlib.import_module(name).__name__ == name for name in modules])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"[]\n{[True] * 5}\n"


def test_unknown_price_is_refused() -> None:
    """A price under a name that the table lacks is refused, not ignored."""
    with pytest.raises(ConfigurationError, match="no entry 'gb_second'"):
        made(prices={"gb_second": 1.0})


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:3001", "localhost:3001", "http://", "ftp://x", "http://[::1", "http://x:port"],
)
def test_endpoint_that_is_no_address_is_refused(address: str) -> None:
    """A forgotten scheme is told where the executor is built, not as a matter of credentials."""
    with pytest.raises(ConfigurationError, match="must be an address such as 'http://127"):
        made(endpoint_url=address)


@pytest.mark.parametrize(
    "node_id", ["../1", "1/2", "1\n2", "\x1b[2J", "", "1e3", "0x10", None, [1], float("nan")]
)
def test_node_that_is_no_number_is_refused(aws: AWS, node_id: Any) -> None:
    """Nothing is sent, stored or looked for under the name of such a node."""
    metadata = {"dispatch_id": "dispatch", "node_id": node_id}
    with pytest.raises((ValueError, TypeError)):
        asyncio.run(made().run(len, [""], {}, metadata))
    with pytest.raises((ValueError, TypeError)):
        asyncio.run(made().cancel(metadata, {"task_id": "dispatch-1-attempt"}))
    assert not aws.requests


@pytest.mark.parametrize(("node_id", "number"), [(" 7\n", "7"), ("１２", "12"), (True, "1")])
def test_node_is_named_by_its_number(aws: AWS, node_id: Any, number: str) -> None:
    """However its number is written, its keys hold digits alone."""
    names: list[str] = []

    def script(event: dict[str, Any]) -> Answer:
        names.append(request_of(event).task_id)
        return good(7)

    aws.script = script
    metadata = {"dispatch_id": "dispatch", "node_id": node_id}
    assert asyncio.run(made().run(len, [""], {}, metadata)) == 7
    assert re.fullmatch(rf"dispatch-{number}-[0-9a-f]{{8}}", names[0])


def test_zero_is_no_default() -> None:
    """A timeout of 0 is refused, not taken for the default."""
    for name in ("timeout", "poll_freq"):
        with pytest.raises(ConfigurationError, match=f"{name}=0 must be"):
            made(**{name: 0})


DOCUMENTED = {
    "run": "function args kwargs task_metadata",
    "setup": "task_metadata",
    "teardown": "task_metadata",
    "cancel": "task_metadata job_handle",
    "submit_task": "function_name func_filename result_filename exception_filename",
    "submit_task_sync": "function_name func_filename result_filename exception_filename",
    "get_status": "object_key",
    "get_status_sync": "object_key",
    "query_result": "workdir result_filename",
    "query_result_sync": "workdir result_filename",
    "query_task_exception": "workdir exception_filename",
    "query_task_exception_sync": "workdir exception_filename",
    "get_session": "",
    "boto_session_options": "",
    "run_async_subprocess": "cmd",
    "to_dict": "",
    "from_dict": "object_dict",
    "get_dispatch_context": "dispatch_info",
    "get_cancel_requested": "",
    "set_job_handle": "handle",
    "set_job_status": "status",
    "validate_status": "status",
    "get_version_info": "",
    "write_streams_to_file": "stream_strings filepaths dispatch_id results_dir",
    "send": "task_specs resources task_group_metadata",
    "poll": "task_group_metadata data",
    "receive": "task_group_metadata data",
}


@pytest.mark.parametrize(("name", "arguments"), DOCUMENTED.items())
def test_documented_methods(name: str, arguments: str) -> None:
    """Each documented method exists and takes the documented arguments by name."""
    method = getattr(AWSLambdaExecutor, name)
    names = [p for p in inspect.signature(method).parameters if p != "self"]
    assert names == arguments.split()


def test_documented_constructor(aws: AWS) -> None:
    """The public plugin's positional order and every documented keyword are accepted."""
    executor = AWSLambdaExecutor("fn", "bucket", "/c", "prof", "eu-west-1", 7, 11)
    assert (executor.function_name, executor.s3_bucket_name) == ("fn", "bucket")
    assert (executor.credentials_file, executor.profile) == ("/c", "prof")
    assert (executor.region, executor.poll_freq, executor.timeout) == ("eu-west-1", 7, 11)
    executor = AWSLambdaExecutor(
        execution_role="role",
        cache_dir="/tmp/x",
        log_stdout="o",
        log_stderr="e",
        time_limit=4,
        retries=2,
    )
    assert executor.cache_dir == "/tmp/x" and executor.retries == 2
    assert executor.boto_session_options() == {"region_name": "us-east-1"}


def test_survives_json() -> None:
    """to_dict is plain JSON; an executor rebuilt from it as the server does is the same."""
    executor = made(timeout=33, retries=1)
    carried = json.loads(json.dumps(executor.to_dict()))
    assert carried["short_name"] == "awslambda"
    rebuilt = AWSLambdaExecutor(**awslambda._EXECUTOR_PLUGIN_DEFAULTS).from_dict(carried)
    assert rebuilt.__dict__ == executor.__dict__


def test_repr_names_function_and_bucket() -> None:
    """Printed, an executor says where it sends electrons."""
    assert repr(made()) == (
        "AWSLambdaExecutor(function_name='fn', s3_bucket_name='bucket', region='eu-west-1', "
        "profile='')"
    )


@pytest.mark.parametrize("name", ["timeout", "poll_freq", "time_limit", "retries"])
@pytest.mark.parametrize("value", [-2, "soon", True])
def test_bad_numbers_are_refused(name: str, value: Any) -> None:
    """A timeout that is no positive number is refused when the executor is built."""
    with pytest.raises(ConfigurationError, match=f"{name}="):
        made(**{name: value})


def test_broken_samconfig_does_not_stop_the_server(clean_surroundings: Path) -> None:
    """The server builds an executor from covalent.conf wherever it was started; a broken project
    there matters only to those who have no names of their own."""
    (clean_surroundings / "samconfig.toml").write_text("ElectronFunction = [")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        AWSLambdaExecutor()
    in_server = AWSLambdaExecutor(**awslambda._EXECUTOR_PLUGIN_DEFAULTS)
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        asyncio.run(in_server.run(covalents(len), [], {}, METADATA))
    in_server.from_dict(made().to_dict())
    assert in_server.unresolved == "" and in_server.function_name == "fn"


def test_errors_share_one_base() -> None:
    """All of the executor's errors keep an electron's streams in Covalent."""
    from covalent._shared_files.exceptions import TaskRuntimeError

    assert issubclass(AWSLambdaExecutorError, TaskRuntimeError)
    assert not issubclass(AWSLambdaExecutorError, TaskCancelledError)


def test_a_session_of_ones_own_is_not_asked() -> None:
    """A subclass with a `get_session` is told so where it is made, not in a failed electron."""
    with pytest.warns(UserWarning, match=r"Mine\.get_session is not asked.*profile="):

        class Mine(AWSLambdaExecutor):  # type: ignore[misc]
            def get_session(self) -> Any:
                return None


@pytest.mark.parametrize(
    "value", ["\ud800", type("Odd", (), {"__repr__": lambda self: 1 / 0})()], ids=["text", "repr"]
)
def test_arguments_need_no_text(aws: AWS, value: Any) -> None:
    """A bare function's arguments are pickled, never printed: what cannot be printed goes too."""
    aws.script = lambda event: good(1)
    assert asyncio.run(made().run(id, [value], {}, METADATA)) == 1


def test_coroutines_are_documented_as_such() -> None:
    """What the public plugin's users await can be awaited."""
    names = ("run", "cancel", "setup", "teardown", "submit_task", "get_status")
    for name in (*names, "query_result", "query_task_exception"):
        assert inspect.iscoroutinefunction(getattr(AWSLambdaExecutor, name)), name
