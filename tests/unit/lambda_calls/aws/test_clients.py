"""Clients of AWS's, as the executor and the commands make them."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber
from covalent_awslambda_plugin.cli import aws as commands
from covalent_awslambda_plugin.cli.checks.account import credentials
from covalent_awslambda_plugin.cli.checks.situation import Situation
from lambda_calls.aws.clients import Account, Clients
from lambda_calls.errors import CredentialsError
from lambda_calls.settings import documented
from secret_keys import SECRET_KEY
from urllib3 import HTTPResponse


@pytest.mark.parametrize("maker", [lambda: Clients().client, lambda: commands.client])
@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "https://bucket.s3.eu-west-1.amazonaws.com/key"),
        ({"AWS_ENDPOINT_URL": "http://here:1"}, "http://here:1/bucket/key"),
        ({"AWS_ENDPOINT_URL_S3": "http://there:2"}, "http://there:2/bucket/key"),
    ],
)
def test_an_endpoint_of_ones_own_has_buckets_in_its_paths(
    monkeypatch: pytest.MonkeyPatch,
    maker: Callable[[], Callable[[Account, str], Any]],
    variables: dict[str, str],
    address: str,
) -> None:
    """botocore does so by itself, whichever variable names it; a host bucket.endpoint is rare."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = maker()(Account(region="eu-west-1"), "s3")
    asked: list[str] = []
    client.meta.events.register("before-send.s3", partial(answered, asked))
    client.head_object(Bucket="bucket", Key="key")
    assert asked == [address]
    client.close()


def answered(asked: list[str], request: Any, **_: Any) -> Any:
    """Answer a request that is about to be sent."""
    asked.append(request.url)
    return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO()))


TOKEN = "FwoGZXIvYXdzEBY"
REPEATED = f"It does not match.\n\nThe Canonical String was\nx-amz-security-token:{TOKEN}"


def test_whose_credentials_repeats_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS repeats the request where a signature is wrong; executor and doctor do not."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    clients, account = Clients(), Account(region="eu-west-1")
    sts = clients.client(account, "sts")
    monkeypatch.setattr(Situation, "client", lambda self, service: sts)
    with Stubber(sts) as stubber:
        stubber.add_client_error("get_caller_identity", "SignatureDoesNotMatch", REPEATED)
        with pytest.raises(CredentialsError) as error:
            clients.caller_identity(account)
        stubber.add_client_error("get_caller_identity", "SignatureDoesNotMatch", REPEATED)
        (remark,) = credentials(Situation(documented()))
    for said in (str(error.value), remark.text):
        assert "SignatureDoesNotMatch: It does not match." in said
        assert TOKEN not in said
    clients.close()
