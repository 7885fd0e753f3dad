"""Names from the outputs of a deployed stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Protocol

from .errors import SettingsError
from .origin import deploy_command

#: Seconds for which a stack's outputs are remembered: many executors, one request.
REMEMBERED_S = 60.0


class Stack(NamedTuple):
    """A stack, whose credentials read it, and the environment of samconfig.toml that names it."""

    name: str
    region: str
    profile: str
    credentials_file: str
    environment: str = ""


class CloudFormation(Protocol):
    """What is used here of botocore's client."""

    @property
    def meta(self) -> Any: ...

    def describe_stacks(self, *, StackName: str) -> Any: ...


class StackOutputs:
    """Outputs of stacks, remembered for a minute.

    Args:
        client: makes the client that reads a stack; by default boto3's.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        client: Callable[[Stack], CloudFormation] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._clock = client or _boto_client, clock
        self._known: dict[Stack, tuple[float, dict[str, str]]] = {}

    def read(self, stack: Stack, wanted: Collection[str]) -> dict[str, str]:
        """Return the wanted outputs of a stack.

        Raises:
            SettingsError: if the stack is missing, cannot be read, or lacks one of them.
        """
        from botocore.exceptions import BotoCoreError

        until, outputs = self._known.get(stack, (0.0, {}))
        if self._clock() >= until or not outputs.keys() >= set(wanted):
            try:
                client = self._client(stack)
            except BotoCoreError as error:  # an unknown profile, for one
                raise SettingsError(_unreachable(stack, error)) from error
            outputs = _described(client, stack, wanted)
            self._known[stack] = (self._clock() + REMEMBERED_S, outputs)
        return {name: outputs[name] for name in wanted}


def _described(client: CloudFormation, stack: Stack, wanted: Collection[str]) -> dict[str, str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html"""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        said = client.describe_stacks(StackName=stack.name)["Stacks"][0]
    except ClientError as error:
        raise SettingsError(_refusal(stack, client.meta.region_name, error)) from error
    except BotoCoreError as error:
        raise SettingsError(_unreachable(stack, error)) from error
    outputs = {item["OutputKey"]: item["OutputValue"] for item in said.get("Outputs", ())}
    lacking = [name for name in wanted if name not in outputs]
    if lacking:
        raise SettingsError(
            f"Stack {stack.name!r} (status {said.get('StackStatus', 'unknown')}) has no output "
            f"{' and no output '.join(lacking)}; it has {', '.join(outputs) or 'none'}. Is it "
            "this project's stack, and did its deployment finish? Check stack_name in "
            "samconfig.toml, or pass function_name= and s3_bucket_name=."
        )
    return outputs


def _boto_client(stack: Stack) -> CloudFormation:
    """Make a client that gives up soon: it is waited for when an executor is constructed."""
    import boto3
    import botocore.session
    from botocore.config import Config

    core = botocore.session.Session(profile=stack.profile or None)
    if stack.credentials_file:
        core.set_config_variable("credentials_file", stack.credentials_file)
    session = boto3.Session(botocore_session=core, region_name=stack.region)
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    client: CloudFormation = session.client("cloudformation", config=config)
    return client


def _refusal(stack: Stack, region: str, error: Any) -> str:
    from ..aws import refusals

    named = f"Stack {stack.name!r} in {region}"
    code, message = refusals.code(error), refusals.message(error)
    if code == "ValidationError" and "does not exist" in message:
        return (
            f"{named} does not exist in this account. Deploy it first "
            f"({deploy_command(stack.environment)}), or correct stack_name, region or profile in "
            "samconfig.toml."
        )
    if code in {"AccessDenied", "AccessDeniedException"}:
        return (
            f"{named}: reading its outputs is not allowed: {message}. Grant "
            "cloudformation:DescribeStacks on it (the policy in its output ExecutorPolicyArn "
            "does), or pass function_name= and s3_bucket_name=."
        )
    return f"{named} could not be read: {code}: {message}"


def _unreachable(stack: Stack, error: Exception) -> str:
    return (
        f"The outputs of stack {stack.name!r} could not be read: {error}. Check the credentials, "
        "profile and region, or pass function_name= and s3_bucket_name=."
    )
