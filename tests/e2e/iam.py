"""IAM users of the embedded AWS: who may do what a policy allows, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.aws import Aws
from sandbox.deploying import client

DENIED = {"AccessDenied", "AccessDeniedException"}

# IAM's endpoint belongs to no region, but a client has to have one.
_ANY_REGION = "us-east-1"

Request = tuple[str, str, dict[str, Any]]


def as_list(value: Any) -> list[str]:
    """What a policy says of actions or resources, where one may stand without a list."""
    return [value] if isinstance(value, str) else list(value)


@dataclass(frozen=True)
class User:
    """An IAM user and its access key.

    Attributes:
        aws: the embedded AWS, whose own keys are the account's root user.
        arn: names the user in policies.
        keys: the access key, as environment variables.
    """

    aws: Aws
    arn: str
    keys: dict[str, str] = field(repr=False)

    @property
    def env(self) -> dict[str, str]:
        """What a program needs in its environment to use this AWS as this user."""
        return {**self.aws.env, **self.keys}

    @contextlib.contextmanager
    def holding(self, policy: str) -> Iterator[None]:
        """Attach a managed policy for the time of a `with` block."""
        root = client(self.aws, "iam", _ANY_REGION)
        named = {"UserName": self.arn.rpartition("/")[2], "PolicyArn": policy}
        root.attach_user_policy(**named)
        try:
            yield
        finally:
            root.detach_user_policy(**named)

    def client(self, service: str, region: str) -> Any:
        """A boto3 client that signs with the user's key."""
        session = boto3.session.Session(
            self.keys["AWS_ACCESS_KEY_ID"],
            self.keys["AWS_SECRET_ACCESS_KEY"],
            region_name=region,
        )
        settings = Config(s3={"addressing_style": "path"}, proxies={})
        return session.client(service, endpoint_url=self.aws.endpoint_url, config=settings)

    def refusal(self, region: str, request: Request) -> str:
        """The code with which AWS refuses a request of the user's, which it must."""
        service, operation, arguments = request
        with pytest.raises(ClientError) as refused:
            getattr(self.client(service, region), operation)(**arguments)
        return str(refused.value.response["Error"]["Code"])


def create_user(aws: Aws, name: str) -> User:
    """Create a user who may do nothing yet."""
    root = client(aws, "iam", _ANY_REGION)
    arn = root.create_user(UserName=name)["User"]["Arn"]
    key = root.create_access_key(UserName=name)["AccessKey"]
    keys = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    return User(aws, arn, keys)


def allow_plain_http(user: User, region: str, bucket: str) -> None:
    """Take a bucket's policy away, once it has refused what the user's own policy allows.

    It denies whatever comes without TLS, and this AWS has none: nothing else could be shown.
    """
    over_http = ("s3", "put_object", {"Bucket": bucket, "Key": "blobs/over-http"})
    assert user.refusal(region, over_http) in DENIED
    client(user.aws, "s3", region).delete_bucket_policy(Bucket=bucket)
