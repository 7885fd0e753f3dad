"""Signatures are those that botocore makes."""

from datetime import datetime, timedelta, timezone

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from lambda_calls.aws.signing import Signer

NOW = datetime(2026, 11, 26, 23, 59, 59, tzinfo=timezone.utc)
ARN = "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Afn%3Alive"


def botocores(
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    payload: bytes,
    headers: dict[str, str],
    keys: ReadOnlyCredentials,
    now: datetime,
) -> dict[str, str]:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: now)
    request = AWSRequest(method="POST", url=url, headers=headers, data=payload)
    SigV4Auth(keys, "lambda", "eu-west-1").add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("token", [None, "a session's  token=="])
@pytest.mark.parametrize(
    "host",
    ["https://lambda.eu-west-1.amazonaws.com", "http://127.0.0.1:4566", "http://[::1]:8080/base"],
)
def test_a_signature_is_botocores(
    monkeypatch: pytest.MonkeyPatch, host: str, token: str | None
) -> None:
    """Header for header, for names and ARNs, on two days and with two keys."""
    for function in ("fn", ARN):
        url = f"{host}/2015-03-31/functions/{function}/invocations"
        signer = Signer(url, "eu-west-1")
        for now in (NOW, NOW + timedelta(seconds=1)):
            for secret in ("one/secret+", "another"):
                for headers in ({"Accept-Encoding": "identity"}, {"X-Amz-Log-Type": "Tail"}):
                    keys = ReadOnlyCredentials("AKID", secret, token)
                    payload = f"{now} {secret} {function}".encode()
                    expected = botocores(monkeypatch, url, payload, headers, keys, now)
                    assert signer.signed(payload, headers, keys, now) == expected
