"""samconfig.toml, the stack's outputs and the other sources become one frozen set of settings."""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.stub import Stubber
from covalent_awslambda_plugin.samconfig import (
    DEFAULTS,
    ExecutorSettings,
    SamConfigError,
    find_samconfig,
    names_from_stack,
    passed_over,
    read_samconfig,
    resolve,
)

OURS = """\
version = 0.1
[default.global.parameters]
stack_name = "my-stack"
region = "eu-west-1"
profile = "lab"
parameter_overrides = ["FunctionName=my-fn", "BucketName=my-bucket", "MemorySize=512"]
[default.deploy.parameters]
resolve_image_repos = true
[prod.global.parameters]
stack_name = "prod-stack"
region = "eu-north-1"
parameter_overrides = ["FunctionName=prod-fn", "BucketName=prod-bucket"]
"""
OTHER_PROJECT = """\
version = 0.1
[default.deploy.parameters]
stack_name = "photo-api"
region = "us-west-2"
profile = "photos"
parameter_overrides = "Stage=dev TableName=photos"
"""
STACK_ONLY = """\
version = 0.1
[default.global.parameters]
stack_name = "my-stack"
region = "eu-west-1"
"""
Stub = tuple[Any, Stubber]


def write(folder: Path, text: str | bytes, name: str = "samconfig.toml") -> Path:
    """Write a file, making its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def overrides(value: str, command: str = "global") -> str:
    """Make a samconfig.toml whose parameter_overrides is the given TOML value."""
    return f"version = 0.1\n[default.{command}.parameters]\nparameter_overrides = {value}\n"


def texts(path: Path, config_env: str = "") -> dict[str, str]:
    """Read a file and drop where each value came from."""
    return {key: value.text for key, value in read_samconfig(path, config_env).values.items()}


@pytest.fixture
def stack() -> Iterator[Stub]:
    """Make a real CloudFormation client whose answers are scripted."""
    session = botocore.session.get_session()
    client = session.create_client(
        "cloudformation",
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    with Stubber(client) as stubber:
        yield client, stubber
        stubber.assert_no_pending_responses()


def answer(stubber: Stubber, name: str = "my-stack", **outputs: str) -> None:
    """Script one describe_stacks answer."""
    body = {
        "StackName": name,
        "CreationTime": "2026-01-01T00:00:00Z",
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()],
    }
    stubber.add_response("describe_stacks", {"Stacks": [body]}, {"StackName": name})


def no_stack(settings: ExecutorSettings) -> Any:
    """Fail the test if the stack's outputs are asked for."""
    raise AssertionError(f"asked for the outputs of {settings.stack_name}")


# ── the forms of parameter_overrides ──

BOTH = {"function_name": "a", "s3_bucket_name": "b"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param('"FunctionName=a BucketName=b"', BOTH, id="string"),
        pytest.param('"  FunctionName=a   BucketName=b "', BOTH, id="spaces"),
        pytest.param('\'FunctionName="a" BucketName="b"\'', BOTH, id="double quotes"),
        pytest.param("\"FunctionName='a' BucketName='b'\"", BOTH, id="single quotes"),
        pytest.param(
            '"ParameterKey=FunctionName,ParameterValue=a ParameterKey=BucketName,'
            'ParameterValue=b"',
            BOTH,
            id="legacy",
        ),
        pytest.param(
            '\'ParameterKey="FunctionName",ParameterValue="a" BucketName=b\'',
            BOTH,
            id="legacy, quoted and mixed",
        ),
        pytest.param('["FunctionName=a", "BucketName=b"]', BOTH, id="list"),
        pytest.param('["FunctionName=a BucketName=b"]', BOTH, id="list of one"),
        pytest.param('[["FunctionName=a"], ["BucketName=b"]]', BOTH, id="nested list"),
        pytest.param('[{FunctionName = "a"}, "BucketName=b"]', BOTH, id="list with a table"),
        pytest.param('{FunctionName = "a", BucketName = "b", MemorySize = 5}', BOTH, id="table"),
        pytest.param('{FunctionName = "a", BucketName = "b", Subnets = ["x"]}', BOTH, id="lists"),
        pytest.param(
            "'Note=\"say FunctionName=x\" FunctionName=a BucketName=b'", BOTH, id="quoted text"
        ),
        pytest.param('"FunctionName=x FunctionName=a BucketName=b"', BOTH, id="the last counts"),
        pytest.param('["FunctionName=a", "BucketName=b", "Tag=c=d"]', BOTH, id="equals sign"),
        pytest.param('"MyFunctionName=x FunctionName=a"', {"function_name": "a"}, id="suffix"),
        pytest.param('"FunctionName= BucketName=b"', {"s3_bucket_name": "b"}, id="empty value"),
        pytest.param('["file://p.yaml", "BucketName=b"]', {"s3_bucket_name": "b"}, id="file"),
        pytest.param('""', {}, id="empty"),
        pytest.param("[]", {}, id="empty list"),
    ],
)
def test_parameter_overrides(clean_surroundings: Path, value: str, expected: object) -> None:
    """Every form of parameter_overrides that SAM CLI accepts gives the names."""
    assert texts(write(clean_surroundings, overrides(value))) == expected


def test_a_value_may_hold_spaces_and_quotes(clean_surroundings: Path) -> None:
    """Quotes around a value are taken off, and escaped ones stay."""
    path = write(clean_surroundings, overrides(r"""'FunctionName="a \"b\" c" BucketName=d\ e'"""))
    assert texts(path) == {"function_name": 'a "b" c', "s3_bucket_name": "d e"}


def test_a_byte_order_mark_is_accepted(clean_surroundings: Path) -> None:
    """A file saved by Windows Notepad is read."""
    assert texts(write(clean_surroundings, b"\xef\xbb\xbf" + OURS.encode()))["region"]


# ── which table counts ──


def tables(**commands: str) -> str:
    """Make a samconfig.toml with these command tables."""
    return "".join(f"[default.{name}.parameters]\n{text}\n" for name, text in commands.items())


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        (tables(**{"global": 'region = "g"'}), "region", "g"),
        (tables(**{"global": 'region = "g"', "deploy": 'region = "d"'}), "region", "d"),
        (tables(**{"deploy": 'region = "d"', "global": 'region = "g"'}), "region", "d"),
        (tables(**{"build": 'region = "b"', "global": 'region = "g"'}), "region", "g"),
        (tables(build='region = "b"', sync='region = "s"'), "region", "s"),
        (tables(local_start_lambda='region = "l"'), "region", "l"),
        (tables(package='profile = "p"'), "profile", "p"),
        (tables(validate='stack_name = "v"'), "stack_name", "v"),
    ],
)
def test_which_command_table_counts(
    clean_surroundings: Path, text: str, key: str, expected: str
) -> None:
    """The deploy table overrides global, as in SAM CLI; other tables only fill gaps."""
    assert texts(write(clean_surroundings, text))[key] == expected


def test_deploy_overrides_replace_those_of_global(clean_surroundings: Path) -> None:
    """parameter_overrides is replaced whole, not merged: SAM CLI deploys without the others."""
    text = tables(
        **{
            "global": 'parameter_overrides = "FunctionName=g BucketName=g"',
            "deploy": 'parameter_overrides = "FunctionName=d"',
        }
    )
    assert texts(write(clean_surroundings, text)) == {"function_name": "d"}


def test_each_value_knows_its_table(clean_surroundings: Path) -> None:
    """A value's source names the file and the table."""
    path = write(clean_surroundings, OURS)
    source = read_samconfig(path).values["function_name"].source
    assert source == f"{path} [default.global.parameters]"


# ── files that cannot be used ──


def bad(text: str | bytes) -> Callable[[Path], Path]:
    """Make a writer of a broken file."""
    return lambda folder: write(folder, text)


def a_folder(folder: Path) -> Path:
    """Make a folder where a file is expected."""
    return folder


def a_link_to_itself(folder: Path) -> Path:
    """Make a link that leads nowhere."""
    path = folder / "samconfig.toml"
    path.symlink_to(path)
    return path


BAD_FILES = [
    pytest.param(lambda f: f / "nope.toml", ["nope.toml", "does not exist"], id="missing"),
    pytest.param(a_folder, ["is a folder", "samconfig.toml"], id="folder"),
    pytest.param(a_link_to_itself, ["cannot be read", "symbolic links"], id="link loop"),
    pytest.param(bad(b"x = '\xff'"), ["not UTF-8", "byte 5"], id="not UTF-8"),
    pytest.param(bad("a = 1\nb = ]\n"), ["not valid TOML", "line 2, column 5"], id="TOML"),
    pytest.param(
        lambda f: write(f, "default:\n  global: {}", "samconfig.yaml"),
        ["not valid TOML", "Only samconfig.toml"],
        id="YAML",
    ),
    pytest.param(bad(""), ["no environment 'default'", "it has none"], id="empty"),
    pytest.param(bad("[defualt.global.parameters]"), ["Did you mean 'defualt'?"], id="typo"),
    pytest.param(bad("[dev.x]\n[prod.x]"), ["it has dev, prod", "config_env="], id="others"),
    pytest.param(bad("[default]\nglobal = 3"), ["[default.global] = 3", "a table"], id="command"),
    pytest.param(
        bad("[default.deploy]\nparameters = []"), ["parameters = []", "a table"], id="parameters"
    ),
    pytest.param(
        bad(tables(deploy="region = 3")),
        ["[default.deploy.parameters] region = 3", "text in quotes, not int"],
        id="region",
    ),
    pytest.param(bad(tables(deploy="profile = true")), ["profile = True"], id="profile"),
    pytest.param(bad(tables(deploy='stack_name = ["a"]')), ["stack_name = ['a']"], id="stack"),
    pytest.param(bad(overrides("3")), ["parameter_overrides = 3", "not int"], id="number"),
    pytest.param(
        bad(overrides('"nonsense"')), ["parameter_overrides is not of", "Name=value"], id="no pair"
    ),
    pytest.param(bad(overrides("[4]")), ["parameter_overrides = 4"], id="number in a list"),
    pytest.param(
        bad(overrides("{FunctionName = {a = 1}}")),
        ["parameter_overrides.FunctionName = {'a': 1}"],
        id="table in a table",
    ),
]


@pytest.mark.parametrize(("make", "said"), BAD_FILES)
def test_a_file_that_cannot_be_used(
    clean_surroundings: Path, make: Callable[[Path], Path], said: list[str]
) -> None:
    """The message names the file and says what is wrong with it."""
    path = make(clean_surroundings)
    with pytest.raises(SamConfigError) as caught:
        resolve(samconfig=path, environ={})
    for part in [str(path), *said]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    # One traceback, not three: what was raised below adds nothing to the message.
    assert type(caught.value.__cause__) in (type(None), OSError)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Give a folder that others may enter, and stop being root for a while."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = write(Path(folder), OURS)
        path.chmod(0o000)
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if as_root:
                os.seteuid(0)


def test_a_file_that_may_not_be_read(unprivileged: Path) -> None:
    """A file without read permission says so, with the cause kept."""
    with pytest.raises(SamConfigError, match=r"cannot be read: Permission denied") as caught:
        resolve(samconfig=unprivileged, environ={})
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
def test_a_strangers_file_is_not_found(clean_surroundings: Path) -> None:
    """A file of another user's met on the way up, in /tmp say, does not name our function."""
    path = write(clean_surroundings, OURS)
    os.chown(path, 1234, 1234)
    assert find_samconfig(clean_surroundings, {}) is None
    assert resolve(samconfig=path, environ={}).samconfig == str(path)  # unless it is named


def test_a_secret_among_the_parameters_is_not_quoted(clean_surroundings: Path) -> None:
    """Errors go into Covalent's database: they name the key, not what it holds."""
    write(clean_surroundings, tables(**{"global": 'parameter_overrides = "DbPassword hunter2"'}))
    with pytest.raises(SamConfigError) as caught:
        resolve(samconfig=clean_surroundings / "samconfig.toml", environ={})
    assert "hunter2" not in str(caught.value)


def test_the_variable_names_a_file_that_does_not_exist(clean_surroundings: Path) -> None:
    """A wrong COVALENT_LAMBDA_SAMCONFIG is an error that names the variable."""
    with pytest.raises(SamConfigError, match=r"no\.toml \(from COVALENT_LAMBDA_SAMCONFIG\) does"):
        resolve(environ={"COVALENT_LAMBDA_SAMCONFIG": "no.toml"}, start=clean_surroundings)


# ── the search ──


def test_the_search_goes_upward(clean_surroundings: Path) -> None:
    """The nearest file in a folder above the working directory is found."""
    path = write(clean_surroundings / "project", OURS)
    deep = clean_surroundings / "project" / "a" / "b"
    deep.mkdir(parents=True)
    assert find_samconfig(deep, {}) == path


def test_the_variable_wins_over_the_search(clean_surroundings: Path) -> None:
    """COVALENT_LAMBDA_SAMCONFIG is taken before any file in the working directory."""
    write(clean_surroundings, OURS)
    path = write(clean_surroundings / "x", OURS.replace("my-fn", "x-fn"))
    environ = {"COVALENT_LAMBDA_SAMCONFIG": "x/samconfig.toml"}
    assert find_samconfig(clean_surroundings, environ) == path
    assert resolve(environ=environ, start=clean_surroundings).function_name == "x-fn"


def test_the_argument_wins_over_the_variable(clean_surroundings: Path) -> None:
    """samconfig= is taken before COVALENT_LAMBDA_SAMCONFIG."""
    path = write(clean_surroundings, OURS)
    settings = resolve(samconfig=path, environ={"COVALENT_LAMBDA_SAMCONFIG": "/nowhere"})
    assert settings.function_name == "my-fn"


def test_a_tilde_is_expanded(clean_surroundings: Path) -> None:
    """A path may start with the home directory."""
    write(Path.home() / "project", OURS)
    assert resolve(samconfig="~/project/samconfig.toml", environ={}).function_name == "my-fn"


FOREIGN = [
    pytest.param(OTHER_PROJECT, None, id="other parameters"),
    pytest.param(STACK_ONLY, None, id="only a stack name"),
    pytest.param(STACK_ONLY, "Resources: {Api: {}}", id="another template"),
    pytest.param(overrides('"FunctionName=api"'), "Resources: {Api: {}}", id="one name alike"),
    pytest.param("a = ]", "Resources: {Api: {}}", id="broken, another template"),
    pytest.param(overrides("3"), None, id="overrides of a wrong type"),
]


@pytest.mark.parametrize(("text", "template"), FOREIGN)
def test_another_sam_project_above_is_passed_over(
    clean_surroundings: Path, text: str, template: str | None
) -> None:
    """A stranger's samconfig.toml gives no names, region or profile, and its stack is not read."""
    write(clean_surroundings, text)
    if template:
        write(clean_surroundings, template, "template.yaml")
    settings = resolve(environ={}, start=clean_surroundings, cloudformation=no_stack)
    assert {name: getattr(settings, name) for name in DEFAULTS} == dict(DEFAULTS)
    assert settings.samconfig == ""
    assert (
        f"found {clean_surroundings}/samconfig.toml, but it " in settings.sources["function_name"]
    )


@pytest.mark.parametrize(
    ("text", "template", "reason"),
    [
        (STACK_ONLY, "", "but it has no FunctionName or BucketName"),
        (
            overrides('"FunctionName=api"'),
            "Resources: {Api: {}}",
            "but it has no BucketName, and its template.yaml has no ElectronFunction",
        ),
        ("a = ]", "Resources: {Api: {}}", "samconfig.toml is not valid TOML"),
    ],
)
def test_a_file_that_was_passed_over_says_why(
    clean_surroundings: Path, text: str, template: str, reason: str
) -> None:
    """Nearest first: the file that was met, and why it was not taken."""
    path = write(clean_surroundings, text)
    if template:
        write(clean_surroundings, template, "template.yaml")
    inside = clean_surroundings / "src"
    inside.mkdir()
    assert passed_over(inside).startswith(f"found {path}, but it ")
    assert reason in passed_over(inside)


def test_nothing_was_passed_over(clean_surroundings: Path) -> None:
    """Neither a project of this kind nor an empty folder is a reason for a remark."""
    assert passed_over(clean_surroundings) == ""
    write(clean_surroundings, OURS)
    assert passed_over(clean_surroundings) == ""


def test_only_the_functions_name_tells_of_the_search(clean_surroundings: Path) -> None:
    """Where was searched, and what to run, is said once; the other defaults stay short."""
    sources = dict(resolve(environ={}, start=clean_surroundings).sources)
    said = sources.pop("function_name")
    assert said.startswith("the documented default: no samconfig.toml of this project's kind in ")
    assert str(clean_surroundings) in said
    assert "python -m covalent_awslambda_plugin configure" in said
    assert set(sources.values()) == {"the documented default"}


def test_the_search_goes_on_past_another_project(clean_surroundings: Path) -> None:
    """Our project is found from inside another SAM project within it."""
    ours = write(clean_surroundings, OURS)
    write(clean_surroundings / "api", OTHER_PROJECT)
    assert resolve(environ={}, start=clean_surroundings / "api").samconfig == str(ours)


def test_another_project_is_used_when_asked_for(clean_surroundings: Path, stack: Stub) -> None:
    """A file given by name is taken at its word: its stack is asked for the names."""
    path = write(clean_surroundings, OTHER_PROJECT)
    answer(stack[1], "photo-api", FunctionName="f", BucketName="b")
    settings = resolve(samconfig=path, environ={}, cloudformation=lambda _: stack[0])
    assert (settings.function_name, settings.region) == ("f", "us-west-2")


def test_a_broken_file_found_is_an_error_when_names_are_needed(clean_surroundings: Path) -> None:
    """Without names from elsewhere, a broken file in the working directory is not ignored."""
    path = write(clean_surroundings, "a = ]")
    with pytest.raises(SamConfigError, match="not valid TOML"):
        resolve(function_name="f", environ={}, start=path.parent)


def test_a_broken_file_found_does_not_stop_who_has_names(
    clean_surroundings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With both names given, a broken file that nobody asked for is only warned about."""
    write(clean_surroundings, "a = ]")
    with caplog.at_level(logging.WARNING):
        settings = resolve(
            function_name="f", s3_bucket_name="b", environ={}, start=clean_surroundings
        )
    assert (settings.function_name, settings.s3_bucket_name) == ("f", "b")
    assert "not valid TOML" in caplog.text


def test_an_environment_asked_for_without_a_file(clean_surroundings: Path) -> None:
    """config_env= with no file to read is an error: the defaults would be another function."""
    with pytest.raises(SamConfigError, match=r"config_env='prod' .* no samconfig\.toml"):
        resolve(config_env="prod", environ={}, start=clean_surroundings)
    write(clean_surroundings, OTHER_PROJECT)
    with pytest.raises(SamConfigError, match=r"\(found .*, but it has no FunctionName or Bucket"):
        resolve(config_env="prod", environ={}, start=clean_surroundings)


def test_an_environment_misspelt_in_a_file_found(clean_surroundings: Path) -> None:
    """An unknown config_env is an error even when both names are given."""
    write(clean_surroundings, OURS)
    with pytest.raises(SamConfigError, match=r"it has default, prod\. Did you mean 'prod'"):
        resolve(
            function_name="f",
            s3_bucket_name="b",
            config_env="prd",
            environ={},
            start=clean_surroundings,
        )


def test_a_working_directory_that_is_gone(
    clean_surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removed working directory means that nothing is found, not an error."""
    gone = clean_surroundings / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert resolve(environ={}).function_name == DEFAULTS["function_name"]


# ── who wins ──

CONF = {
    "function_name": "conf-fn",
    "s3_bucket_name": "conf-bucket",
    "region": "ap-south-1",
    "profile": "conf-profile",
    "credentials_file": "/conf/credentials",
    "poll_freq": 5,
}


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_an_argument_wins(clean_surroundings: Path, name: str) -> None:
    """An argument wins over samconfig.toml and covalent.conf."""
    write(clean_surroundings, OURS)
    arguments: dict[str, Any] = {name: "given"}
    settings = resolve(**arguments, conf=CONF, environ={}, start=clean_surroundings)
    assert getattr(settings, name) == "given"
    assert settings.sources[name] == f"the argument {name}="


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("function_name", "my-fn"),
        ("s3_bucket_name", "my-bucket"),
        ("region", "eu-west-1"),
        ("profile", "lab"),
    ],
)
def test_samconfig_wins_over_covalent_conf(
    clean_surroundings: Path, name: str, expected: str
) -> None:
    """samconfig.toml wins over covalent.conf."""
    path = write(clean_surroundings, OURS)
    settings = resolve(conf=CONF, environ={}, start=clean_surroundings)
    assert getattr(settings, name) == expected
    assert settings.sources[name] == f"{path} [default.global.parameters]"


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_covalent_conf_wins_over_defaults(clean_surroundings: Path, name: str) -> None:
    """covalent.conf wins over the documented defaults."""
    settings = resolve(conf=CONF, environ={}, start=clean_surroundings)
    assert getattr(settings, name) == CONF[name]
    assert settings.sources[name] == f"covalent.conf [executors.awslambda] {name}"


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@pytest.mark.parametrize("value", ["", None, "the default"])
def test_an_unset_value_in_covalent_conf(
    clean_surroundings: Path, name: str, value: str | None
) -> None:
    """Empty values, and the defaults that Covalent wrote there itself, count as not given."""
    conf = {name: DEFAULTS[name] if value == "the default" else value}
    settings = resolve(conf=conf, environ={}, start=clean_surroundings)
    assert getattr(settings, name) == DEFAULTS[name]
    assert settings.sources[name].startswith("the documented default")


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_an_empty_argument_is_not_given(clean_surroundings: Path, name: str) -> None:
    """An empty argument, as covalent.conf passes it, leaves the field to the other sources."""
    arguments: dict[str, Any] = {name: ""}
    settings = resolve(**arguments, conf=CONF, environ={}, start=clean_surroundings)
    assert getattr(settings, name) == CONF[name]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"AWS_DEFAULT_REGION": "a-1"}, "a-1"),
        ({"AWS_REGION": "b-1"}, "b-1"),
        ({"AWS_REGION": "b-1", "AWS_DEFAULT_REGION": "a-1"}, "a-1"),
    ],
)
def test_the_region_of_the_environment(
    clean_surroundings: Path, environ: dict[str, str], expected: str
) -> None:
    """The region that other AWS tools use comes before the documented default."""
    assert resolve(environ=environ, start=clean_surroundings).region == expected


def test_covalent_conf_wins_over_the_region_of_the_environment(clean_surroundings: Path) -> None:
    """What covalent.conf says wins over AWS_DEFAULT_REGION."""
    environ = {"AWS_DEFAULT_REGION": "a-1"}
    assert resolve(conf=CONF, environ=environ, start=clean_surroundings).region == "ap-south-1"


def test_config_env_picks_the_environment(clean_surroundings: Path) -> None:
    """config_env= picks another environment of the file, and nothing leaks from the default."""
    write(clean_surroundings, OURS)
    settings = resolve(config_env="prod", environ={}, start=clean_surroundings)
    assert settings.function_name == "prod-fn"
    assert settings.s3_bucket_name == "prod-bucket"
    assert (settings.region, settings.profile) == ("eu-north-1", "")
    assert settings.config_env == "prod"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"function_name": 3}, "the argument function_name= = 3 must be text"),
        ({"conf": {"region": 3}}, "[executors.awslambda] region = 3 must be text"),
    ],
)
def test_values_of_a_wrong_type(given: dict[str, Any], said: str) -> None:
    """A value that is no text is refused, with its place."""
    with pytest.raises(SamConfigError) as caught:
        resolve(**given, environ={})
    assert said in str(caught.value)


def test_settings_are_frozen(clean_surroundings: Path) -> None:
    """Settings cannot be changed after they were resolved."""
    settings = resolve(environ={}, start=clean_surroundings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.region = "x"  # type: ignore[misc]


# ── names from the stack ──


def test_names_missing_from_the_file_come_from_the_stack(
    clean_surroundings: Path, stack: Stub
) -> None:
    """A project's file without names gives them through its stack's outputs."""
    path = write(clean_surroundings, STACK_ONLY)
    write(clean_surroundings, "Resources:\n  ElectronFunction: {}\n", "template.yaml")
    answer(stack[1], FunctionName="f", BucketName="b", Region="x")
    settings = resolve(conf=CONF, environ={}, start=path.parent, cloudformation=lambda _: stack[0])
    assert (settings.function_name, settings.s3_bucket_name) == ("f", "b")
    assert settings.sources["function_name"] == "the outputs of stack 'my-stack' in eu-west-1"


def test_one_missing_name_comes_from_the_stack(clean_surroundings: Path, stack: Stub) -> None:
    """What the file says is kept; only the missing name is taken from the stack."""
    text = STACK_ONLY + 'parameter_overrides = "FunctionName=mine"\n'
    answer(stack[1], FunctionName="theirs", BucketName="b")
    settings = resolve(
        environ={},
        start=write(clean_surroundings, text).parent,
        cloudformation=lambda _: stack[0],
    )
    assert (settings.function_name, settings.s3_bucket_name) == ("mine", "b")


def test_the_stack_is_not_read_for_names_that_are_given(clean_surroundings: Path) -> None:
    """Arguments for the missing names make the stack's outputs unnecessary."""
    path = write(clean_surroundings, STACK_ONLY)
    settings = resolve(
        function_name="f",
        s3_bucket_name="b",
        samconfig=path,
        environ={},
        cloudformation=no_stack,
    )
    assert (settings.function_name, settings.region) == ("f", "eu-west-1")


def test_the_stack_is_read_with_the_resolved_settings(
    clean_surroundings: Path, stack: Stub
) -> None:
    """Region, profile and credentials of the stack's client are those that won."""
    seen: list[ExecutorSettings] = []

    def client(settings: ExecutorSettings) -> Any:
        seen.append(settings)
        return stack[0]

    answer(stack[1], FunctionName="f", BucketName="b")
    resolve(
        samconfig=write(clean_surroundings, STACK_ONLY),
        profile="p",
        conf={"credentials_file": "/c"},
        environ={},
        cloudformation=client,
    )
    (asked,) = seen
    assert (asked.region, asked.profile, asked.credentials_file) == ("eu-west-1", "p", "/c")


def test_the_stack_is_read_once_for_many_executors(clean_surroundings: Path, stack: Stub) -> None:
    """A second executor of the same project makes no second request."""
    path = write(clean_surroundings, STACK_ONLY)
    answer(stack[1], FunctionName="f", BucketName="b")
    for _ in range(2):
        settings = resolve(samconfig=path, environ={}, cloudformation=lambda _: stack[0])
        assert settings.function_name == "f"


@pytest.mark.parametrize("text", [tables(deploy='region = "r"'), overrides('"FunctionName=f"')])
def test_a_file_without_names_or_stack(clean_surroundings: Path, text: str) -> None:
    """A project's file that says neither the names nor the stack is an error."""
    with pytest.raises(SamConfigError, match=r"lacks .*BucketName in parameter_overrides, and s"):
        resolve(samconfig=write(clean_surroundings, text), environ={})


def test_covalent_conf_fills_a_file_without_names_or_stack(clean_surroundings: Path) -> None:
    """Names that the user wrote into covalent.conf do for a file that has none."""
    path = write(clean_surroundings, tables(deploy='region = "r"'))
    settings = resolve(samconfig=path, conf=CONF, environ={})
    assert (settings.function_name, settings.region) == ("conf-fn", "r")


def test_an_unknown_profile(clean_surroundings: Path) -> None:
    """A profile that does not exist is named when the stack's client is made."""
    path = write(clean_surroundings, STACK_ONLY + 'profile = "nobody"\n')
    with pytest.raises(SamConfigError, match=r"'my-stack' could not be read: .*\(nobody\)"):
        resolve(samconfig=path, environ={})


def test_no_credentials(clean_surroundings: Path) -> None:
    """Missing credentials say which stack was wanted and what to pass instead."""
    path = write(clean_surroundings, STACK_ONLY)
    with pytest.raises(SamConfigError, match=r"'my-stack' .*credentials.*function_name="):
        resolve(samconfig=path, environ={})


def test_a_misspelt_parameter_is_said_before_what_the_stack_says(clean_surroundings: Path) -> None:
    """A name missing from the file is the cause; that the stack cannot be read comes second."""
    text = STACK_ONLY + 'parameter_overrides = ["FuctionName=f", "BucketName=b"]\n'
    path = write(clean_surroundings, text)
    with pytest.raises(SamConfigError) as caught:
        resolve(environ={}, start=clean_surroundings)
    assert str(caught.value).startswith(
        f"{path} [default] lacks FunctionName in parameter_overrides, so the stack was asked. "
        "The outputs of stack 'my-stack' could not be read"
    )


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            "ValidationError",
            "Stack with id my-stack does not exist",
            ["Stack 'my-stack' in eu-west-1 does not exist", "sam build && sam deploy"],
        ),
        (
            "AccessDenied",
            "User: arn:aws:iam::1:user/x is not authorized",
            ["not authorized", "cloudformation:DescribeStacks", "function_name="],
        ),
        ("ExpiredToken", "The token is expired", ["could not be read: ExpiredToken: The token"]),
        ("ValidationError", "1 error detected", ["ValidationError: 1 error detected"]),
    ],
)
def test_a_stack_that_refuses(stack: Stub, code: str, message: str, said: list[str]) -> None:
    """Each refusal has its own sentence, and only its own code."""
    stack[1].add_client_error(
        "describe_stacks", code, message, 400, expected_params={"StackName": "my-stack"}
    )
    with pytest.raises(SamConfigError) as caught:
        names_from_stack(stack[0], "my-stack")
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "no output FunctionName and no output BucketName; it has none"),
        ({"FunctionName": "f", "Api": "u"}, "no output BucketName; it has FunctionName, Api"),
    ],
)
def test_a_stack_without_the_outputs(stack: Stub, outputs: dict[str, str], said: str) -> None:
    """A stack without the outputs is named with its status and what it has."""
    answer(stack[1], **outputs)
    with pytest.raises(SamConfigError) as caught:
        names_from_stack(stack[0], "my-stack")
    assert said in str(caught.value)
    assert "(status CREATE_COMPLETE)" in str(caught.value)


# ── memory ──


def test_a_changed_file_is_read_again(clean_surroundings: Path) -> None:
    """A file that was edited gives its new values."""
    path = write(clean_surroundings, OURS)
    assert resolve(samconfig=path, environ={}).function_name == "my-fn"
    write(clean_surroundings, OURS.replace("my-fn", "your-fn"))
    assert resolve(samconfig=path, environ={}).function_name == "your-fn"


def test_a_thousand_executors_are_cheap(clean_surroundings: Path) -> None:
    """Resolving costs at most a millisecond each."""
    write(clean_surroundings, OURS)
    resolve(environ={}, start=clean_surroundings)
    began = time.process_time()
    for _ in range(1000):
        resolve(environ={}, start=clean_surroundings)
    assert time.process_time() - began < 1.0
