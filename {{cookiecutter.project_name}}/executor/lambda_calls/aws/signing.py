"""Signature Version 4 of Lambda's Invoke, with what is the same for all requests made once.

botocore's signer takes 0.15 ms for each: it parses the URL five times, holds headers in an e-mail
message, and derives the same key anew. Here the key is kept for its day, and the URL's share is
what botocore made of it, once. A test compares both signatures.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_SERVICE = "lambda"


class Signer:
    """Signs requests to one URL.

    The mutable state is the key of the day.

    Args:
        url: without a query.
        region: that the signature names.
    """

    def __init__(self, url: str, region: str) -> None:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        self._region = region
        bare = SigV4Auth(None, _SERVICE, region).canonical_request(AWSRequest("POST", url))
        _, self._path, _, host, *_ = bare.split("\n")
        self._host = host.partition(":")[2]
        # Replaced as a whole, as large requests are signed in threads.
        self._signing_key: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def signed(
        self, payload: bytes, headers: Mapping[str, str], keys: Any, now: datetime
    ) -> dict[str, str]:
        """The headers of a POST with those that sign it.

        Args:
            payload: the body.
            headers: to send and to sign.
            keys: botocore's frozen credentials.
            now: the time, in UTC.
        """
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        sent = {**headers, "X-Amz-Date": moment}
        if keys.token:
            sent["X-Amz-Security-Token"] = keys.token
        signed = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
        signed["host"] = self._host
        names = sorted(signed)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        digest = hashlib.sha256(payload).hexdigest()
        request = f"POST\n{self._path}\n\n{lines}\n{';'.join(names)}\n{digest}"
        scope = f"{moment[:8]}/{self._region}/{_SERVICE}/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
        signature = _mac(self._signing_key_for(moment[:8], keys.secret_key), text).hex()
        sent["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return sent

    def _signing_key_for(self, day: str, secret: str) -> bytes:
        made_for, key = self._signing_key
        if made_for != (day, secret):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, _SERVICE, "aws4_request"):
                key = _mac(key, part)
            self._signing_key = ((day, secret), key)
        return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
