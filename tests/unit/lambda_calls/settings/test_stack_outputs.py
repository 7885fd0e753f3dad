"""Names that the project's file does not say come from its stack's outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.stub import Stubber
from lambda_calls.settings import Kind, Setting, Settings, SettingsError, SettingsReader
from lambda_calls.settings.origin import Origin
from lambda_calls.settings.stack import REMEMBERED_S, Stack
from samconfigs import OTHER_PROJECT, STACK_ONLY, overrides, tables, write

Stub = tuple[Any, Stubber]


@pytest.fixture
def stack() -> Iterator[Stub]:
    """Make a real CloudFormation client whose answers are scripted."""
    client = botocore.session.get_session().create_client(
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


def conf(**values: str) -> dict[str, Setting]:
    return {name: Setting(value, Origin(Kind.COVALENT_CONF)) for name, value in values.items()}


def arguments(**values: str) -> dict[str, Setting]:
    return {name: Setting(value, Origin.argument(name)) for name, value in values.items()}


def names(settings: Settings) -> tuple[str, str]:
    return settings.function_name.value, settings.s3_bucket_name.value


def test_names_missing_from_the_file_come_from_the_stack(tmp_path: Path, stack: Stub) -> None:
    """A project's file without names gives them through its stack's outputs."""
    path = write(tmp_path, STACK_ONLY)
    write(tmp_path, "Resources:\n  ElectronFunction: {}\n", "template.yaml")
    answer(stack[1], FunctionName="f", BucketName="b", Region="x")
    settings = SettingsReader(cloudformation=lambda _: stack[0]).resolve(
        conf=conf(function_name="c", s3_bucket_name="c"), environ={}, start=tmp_path
    )
    assert names(settings) == ("f", "b")
    origin = settings.function_name.origin
    assert (origin.kind, origin.stack, origin.file) == (Kind.STACK, "my-stack", str(path))
    assert str(origin) == "the output FunctionName of stack 'my-stack'"


def test_one_missing_name_comes_from_the_stack(tmp_path: Path, stack: Stub) -> None:
    """What the file says is kept; only the missing name is taken from the stack."""
    write(tmp_path, STACK_ONLY + 'parameter_overrides = "FunctionName=mine"\n')
    answer(stack[1], FunctionName="theirs", BucketName="b")
    reader = SettingsReader(cloudformation=lambda _: stack[0])
    assert names(reader.resolve(environ={}, start=tmp_path)) == ("mine", "b")


def test_another_project_is_used_when_asked_for(tmp_path: Path, stack: Stub) -> None:
    """A file given by name is taken at its word: its stack is asked for the names."""
    path = write(tmp_path, OTHER_PROJECT)
    answer(stack[1], "photo-api", FunctionName="f", BucketName="b")
    reader = SettingsReader(cloudformation=lambda _: stack[0])
    settings = reader.resolve(samconfig=path, environ={})
    assert (settings.function_name.value, settings.region.value) == ("f", "us-west-2")


def test_the_stack_is_not_read_for_names_that_are_given(tmp_path: Path) -> None:
    """Arguments for the missing names make the stack's outputs unnecessary."""
    asked: list[Stack] = []
    settings = SettingsReader(cloudformation=asked.append).resolve(  # type: ignore[arg-type]
        arguments(function_name="f", s3_bucket_name="b"),
        samconfig=write(tmp_path, STACK_ONLY),
        environ={},
    )
    assert (settings.function_name.value, settings.region.value) == ("f", "eu-west-1")
    assert asked == []


def test_the_stack_is_read_with_the_resolved_settings(tmp_path: Path, stack: Stub) -> None:
    """Region, profile and credentials of the stack's client are those that won."""
    asked: list[Stack] = []

    def client(stack_: Stack) -> Any:
        asked.append(stack_)
        return stack[0]

    answer(stack[1], FunctionName="f", BucketName="b")
    SettingsReader(cloudformation=client).resolve(
        arguments(profile="p"),
        samconfig=write(tmp_path, STACK_ONLY),
        conf=conf(credentials_file="/c"),
        environ={},
    )
    assert asked == [Stack("my-stack", "eu-west-1", "p", "/c", "default")]


def test_outputs_are_remembered_for_a_minute(tmp_path: Path, stack: Stub) -> None:
    """Executors of one minute make one request; the next minute's first one makes another."""
    path, now = write(tmp_path, STACK_ONLY), [0.0]
    reader = SettingsReader(cloudformation=lambda _: stack[0], clock=lambda: now[0])
    answer(stack[1], FunctionName="f", BucketName="b")
    for moment in (0.0, REMEMBERED_S - 1):
        now[0] = moment
        assert names(reader.resolve(samconfig=path, environ={})) == ("f", "b")
    stack[1].assert_no_pending_responses()
    answer(stack[1], FunctionName="renamed", BucketName="b")
    now[0] = REMEMBERED_S
    assert names(reader.resolve(samconfig=path, environ={})) == ("renamed", "b")


@pytest.mark.parametrize("text", [tables(deploy='region = "r"'), overrides('"FunctionName=f"')])
def test_a_file_without_names_or_stack(tmp_path: Path, text: str) -> None:
    """A project's file that says neither the names nor the stack is an error."""
    with pytest.raises(SettingsError, match=r"lacks .*BucketName in parameter_overrides, and s"):
        SettingsReader().resolve(samconfig=write(tmp_path, text), environ={})


def test_covalent_conf_fills_a_file_without_names_or_stack(tmp_path: Path) -> None:
    """Names that the user wrote elsewhere do for a file that has none."""
    settings = SettingsReader().resolve(
        samconfig=write(tmp_path, tables(deploy='region = "r"')),
        conf=conf(function_name="conf-fn", s3_bucket_name="conf-bucket"),
        environ={},
    )
    assert (settings.function_name.value, settings.region.value) == ("conf-fn", "r")


def test_an_unknown_profile(tmp_path: Path) -> None:
    """A profile that does not exist is named when the stack's client is made."""
    path = write(tmp_path, STACK_ONLY + 'profile = "nobody"\n')
    with pytest.raises(SettingsError, match=r"'my-stack' could not be read: .*\(nobody\)"):
        SettingsReader().resolve(samconfig=path, environ={})


def test_no_credentials(tmp_path: Path) -> None:
    """Missing credentials say which stack was wanted and what to pass instead."""
    path = write(tmp_path, STACK_ONLY)
    with pytest.raises(SettingsError, match=r"'my-stack' .*credentials.*function_name="):
        SettingsReader().resolve(samconfig=path, environ={})


def test_a_misspelt_parameter_is_said_before_what_the_stack_says(tmp_path: Path) -> None:
    """A name missing from the file is the cause; that the stack cannot be read comes second."""
    text = STACK_ONLY + 'parameter_overrides = ["FuctionName=f", "BucketName=b"]\n'
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        SettingsReader().resolve(environ={}, start=tmp_path)
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
            [
                "Stack 'my-stack' in eu-west-1 does not exist",
                "sam build && sam deploy --config-env prod",
            ],
        ),
        (
            "AccessDenied",
            "User: arn:aws:iam::1:user/x is not authorized",
            ["not authorized", "cloudformation:DescribeStacks", "function_name="],
        ),
        ("ExpiredToken", "The token is expired", ["could not be read: ExpiredToken: The token"]),
        ("ValidationError", "1 error detected", ["ValidationError: 1 error detected"]),
        (
            "SignatureDoesNotMatch",
            "It does not match.\n\nThe Canonical String was\nx-amz-security-token:FwoGZXIv",
            ["SignatureDoesNotMatch: It does not match."],
        ),
    ],
)
def test_a_stack_that_refuses(
    tmp_path: Path, stack: Stub, code: str, message: str, said: list[str]
) -> None:
    """Each refusal has its own sentence, and only its own code; no token is repeated."""
    path = write(tmp_path, STACK_ONLY.replace("default", "prod"))
    stack[1].add_client_error(
        "describe_stacks", code, message, 400, expected_params={"StackName": "my-stack"}
    )
    with pytest.raises(SettingsError) as caught:
        SettingsReader(cloudformation=lambda _: stack[0]).resolve(
            samconfig=path, config_env="prod", environ={}
        )
    for part in said:
        assert part in str(caught.value)
    assert "FwoGZ" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "no output FunctionName and no output BucketName; it has none"),
        ({"FunctionName": "f", "Api": "u"}, "no output BucketName; it has FunctionName, Api"),
    ],
)
def test_a_stack_without_the_outputs(
    tmp_path: Path, stack: Stub, outputs: dict[str, str], said: str
) -> None:
    """A stack without the outputs is named with its status and what it has."""
    answer(stack[1], **outputs)
    with pytest.raises(SettingsError) as caught:
        SettingsReader(cloudformation=lambda _: stack[0]).resolve(
            samconfig=write(tmp_path, STACK_ONLY), environ={}
        )
    assert said in str(caught.value)
    assert "(status CREATE_COMPLETE)" in str(caught.value)
