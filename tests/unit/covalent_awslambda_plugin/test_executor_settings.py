"""The executor's arguments, covalent.conf, and what becomes of them in Covalent's server."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toml
from covalent._shared_files import config
from covalent.executor import _executor_manager
from covalent_awslambda_plugin import AWSLambdaExecutor, ConfigurationError, awslambda
from covalent_awslambda_plugin.options import Conf, Options
from lambda_calls.checked import seconds
from template_paths import EXECUTOR

DEFAULTS = awslambda._EXECUTOR_PLUGIN_DEFAULTS
PUBLIC_BUCKET = "covalent-lambda-job-resources"
METADATA = {"dispatch_id": "d", "node_id": 0}
# What the public plugin, in two of its releases, wrote into covalent.conf.
OLDER = {
    "function_name": "covalent-awslambda-executor",
    "s3_bucket_name": PUBLIC_BUCKET,
    "memory_size": 512,
    "cleanup": True,
    "retries": 0,
    "time_limit": -1,
}


@pytest.fixture
def conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """[executors.awslambda] as Covalent holds it, in a configuration of the test's own."""
    manager = config._config_manager
    monkeypatch.setattr(manager, "config_file", str(tmp_path / "covalent.conf"))
    said: dict[str, Any] = dict(DEFAULTS)
    monkeypatch.setitem(manager.config_data["executors"], "awslambda", said)
    Path(manager.config_file).write_text(toml.dumps(manager.config_data))
    yield said


def by_covalent(conf: dict[str, Any]) -> AWSLambdaExecutor:
    """Make an executor as Covalent's server does for each task."""
    return AWSLambdaExecutor(**conf)


def carried(executor: AWSLambdaExecutor, conf: dict[str, Any]) -> AWSLambdaExecutor:
    """What the server makes of an executor that the user built."""
    return by_covalent(conf).from_dict(json.loads(json.dumps(executor.to_dict())))


def origin_of(executor: AWSLambdaExecutor, name: str) -> str:
    return executor.origins[name]["kind"]


# -- covalent.conf -------------------------------------------------------------------------------


def test_keys_of_older_plugins(conf: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every electron works in spite of keys that older plugins wrote; one warning names them."""
    warnings: list[str] = []
    monkeypatch.setattr(awslambda.logger.app_log, "warning", warnings.append)
    conf.update(OLDER)
    executors = [by_covalent(conf) for _ in range(3)]
    assert {executor.unresolved for executor in executors} == {""}
    path = config._config_manager.config_file
    assert warnings == [
        f"{path} [executors.awslambda] holds cleanup, memory_size: this executor has no such "
        "option and ignores it. Remove it from the file."
    ]


def test_covalent_makes_an_executor_by_name(conf: dict[str, Any], tmp_path: Path) -> None:
    """Covalent's own way from a short name to an executor survives unknown keys."""
    path = Path(config._config_manager.config_file)
    path.write_text(toml.dumps({"executors": {"awslambda": {**DEFAULTS, **OLDER}}}))
    made = _executor_manager.get_executor("awslambda")
    assert type(made).__name__ == "AWSLambdaExecutor"
    assert made.function_name == "covalent-awslambda-executor"


def test_a_misspelt_argument_is_python_s_error(conf: dict[str, Any]) -> None:
    """An argument that nobody knows is refused as by any function, unknown keys or not."""
    conf.update(OLDER)
    with pytest.raises(TypeError, match=r"argument 'functionname'\. Did you mean 'function_name'"):
        AWSLambdaExecutor(functionname="f")
    with pytest.raises(TypeError, match="unexpected keyword argument 'memory_size'"):
        AWSLambdaExecutor(function_name="f", memory_size=512)


@pytest.mark.parametrize("name", ["timeout", "poll_freq", "time_limit"])
@pytest.mark.parametrize("value", [math.inf, math.nan, 10**400])
def test_numbers_that_json_has_not(name: str, value: float) -> None:
    """The function could not read them."""
    with pytest.raises(ConfigurationError, match=f"{name}=.* must be a number of seconds"):
        AWSLambdaExecutor(**{name: value})


@pytest.mark.parametrize("name", ["timeout", "poll_freq"])
def test_a_bad_number_in_covalent_conf(conf: dict[str, Any], name: str) -> None:
    """A number from covalent.conf that cannot be used is reported with its file and key."""
    conf[name] = "soon"
    where = f"{config._config_manager.config_file} [executors.awslambda] {name}"
    with pytest.raises(ConfigurationError) as caught:
        AWSLambdaExecutor()
    assert f"{name}='soon', from {where}, must be a number" in str(caught.value)
    in_server = by_covalent(conf)
    assert where in in_server.unresolved
    with pytest.raises(ConfigurationError, match="must be a number of seconds"):
        asyncio.run(in_server.run(len, [()], {}, METADATA))
    assert carried(AWSLambdaExecutor(**{name: 3}), conf).unresolved == ""


def test_a_name_in_covalent_conf_that_is_no_text(conf: dict[str, Any]) -> None:
    """A name from covalent.conf that is no text is reported with its file and key."""
    conf["function_name"] = 3
    where = f"{config._config_manager.config_file} [executors.awslambda] function_name"
    with pytest.raises(ConfigurationError, match=r"3, from .*must be text") as caught:
        AWSLambdaExecutor()
    assert where in str(caught.value)
    assert where in by_covalent(conf).unresolved


def test_names_from_covalent_conf_are_reported_as_such(conf: dict[str, Any]) -> None:
    """What Covalent passes is no argument of the user's; what the user passes is."""
    conf.update(function_name="f", region="eu-west-1")
    for executor in (by_covalent(conf), AWSLambdaExecutor()):
        assert executor.function_name == "f"
        assert origin_of(executor, "function_name") == "covalent.conf"
    assert origin_of(AWSLambdaExecutor(function_name="f"), "function_name") == "argument"


def test_covalent_conf_wins_in_the_server(conf: dict[str, Any], clean_surroundings: Path) -> None:
    """executor="awslambda" takes covalent.conf's names from whatever folder the server runs in."""
    conf.update(function_name="f", s3_bucket_name="b")
    text = '[default.global.parameters]\nparameter_overrides = "FunctionName=x BucketName=y"\n'
    (clean_surroundings / "samconfig.toml").write_text(text)
    executor = by_covalent(conf)
    assert (executor.function_name, executor.data_bucket) == ("f", "b")
    assert AWSLambdaExecutor().function_name == "x"


def test_a_problem_is_kept_and_the_default_taken() -> None:
    """Where Covalent made the executor, the first problem is kept for `run`."""
    options = Options({"timeout": "soon"}, Conf({}), by_covalent=True)
    assert options.checked("timeout", seconds, 7.0) == 7.0
    assert "timeout='soon'" in options.problem


# -- the bucket for data -------------------------------------------------------------------------


def test_no_bucket_was_named(conf: dict[str, Any]) -> None:
    """Without a bucket of the user's, the documented attribute stays and no data goes there."""
    executor = AWSLambdaExecutor(function_name="f")
    assert (executor.s3_bucket_name, executor.data_bucket) == (PUBLIC_BUCKET, None)
    assert executor._target().bucket is None


def test_no_bucket_after_json(conf: dict[str, Any]) -> None:
    """An executor that was carried to the server, and one made anew to cancel, know it too."""
    assert carried(AWSLambdaExecutor(function_name="f"), conf).data_bucket is None
    assert carried(AWSLambdaExecutor(function_name="f", s3_bucket_name="b"), conf).data_bucket == (
        "b"
    )


def test_no_bucket_with_a_broken_samconfig(conf: dict[str, Any], clean_surroundings: Path) -> None:
    """A broken samconfig.toml in the server's folder does not bring the public bucket back."""
    (clean_surroundings / "samconfig.toml").write_text("ElectronFunction = [")
    executor = by_covalent(conf)
    assert "not valid TOML" in executor.unresolved
    assert executor.data_bucket is None
    assert executor._target().bucket is None


def test_no_bucket_in_an_older_covalent_conf(conf: dict[str, Any]) -> None:
    """The public plugin wrote the public bucket into covalent.conf by itself: no data there."""
    conf.update(OLDER)
    for executor in (by_covalent(conf), AWSLambdaExecutor()):
        assert executor.data_bucket is None


def test_the_environment_to_deploy(conf: dict[str, Any], clean_surroundings: Path) -> None:
    """An executor of another environment knows, in the server too, how that one is deployed."""
    text = '[prod.global.parameters]\nparameter_overrides = "FunctionName=x BucketName=y"\n'
    (clean_surroundings / "samconfig.toml").write_text(text)
    target = carried(AWSLambdaExecutor(config_env="prod"), conf)._target()
    assert target.advice.option == " --config-env prod"
    where = f"{clean_surroundings}/samconfig.toml [prod.global.parameters] FunctionName"
    assert target.named("function_name", "x") == f"x (from {where})"
    assert AWSLambdaExecutor("f", "b")._target().advice.option == ""


def test_attributes_are_plain_json(conf: dict[str, Any]) -> None:
    """Covalent ships the attributes as JSON: what comes out is what went in."""
    attributes = AWSLambdaExecutor(function_name="f", retries=1).to_dict()["attributes"]
    assert json.loads(json.dumps(attributes)) == attributes
    assert attributes["origins"]["function_name"] == {"kind": "argument", "key": "function_name"}


def test_importing_the_plugin_loads_no_settings() -> None:
    """`import covalent` does not wait for what reads settings: that comes with an executor."""
    script = (
        "import sys; import covalent\n"
        "late = ('lambda_calls.settings', 'boto')\n"
        "print(sorted(name for name in sys.modules if name.startswith(late)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(EXECUTOR)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[]", done.stderr
