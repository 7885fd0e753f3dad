"""The bucket, and each permission of the executor's policy, tried without changing anything.

lambda:InvokeFunction   a dry run
s3:GetObject            a key that does not exist: 404 if it is allowed, 403 if not
s3:PutObject            a part of an upload that does not exist: the same
s3:DeleteObject         cannot be tried so (in a bucket with versions it leaves a marker): asked
                        of IAM's policy simulator, where that is allowed
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from lambda_calls import wire
from lambda_calls.aws import refusals

from .. import aws
from .finding import Remark, missing, ok, partial
from .situation import Situation, Unknown

_POLICY = "attach the policy that the stack's output ExecutorPolicyArn names to this user or role"
_READ: tuple[wire.TaskObject, ...] = (
    wire.RUNNING,
    wire.OUTCOME,
    wire.RESULT,
    wire.RESULT_TEXT,
)


def bucket(situation: Situation) -> Iterator[Remark]:
    """Whether it exists, here, and may be listed."""
    from botocore.exceptions import ClientError

    name = _bucket(situation)
    region = situation.settings.region
    try:
        answer = situation.client("s3").head_bucket(Bucket=name)
    except ClientError as error:
        status = refusals.status(error)
        if status == 404:
            origin = situation.settings.s3_bucket_name.origin
            yield missing(f"there is no bucket {name} (from {origin})", situation.deploy)
        elif status == 403:
            yield missing(
                f"bucket {name}: s3:ListBucket is not allowed, or it is somebody else's", _POLICY
            )
        elif status in (301, 400):
            yield missing(
                f"bucket {name} is not in {region.value} (from {region.origin})",
                "correct region in samconfig.toml, or the bucket's name",
            )
        else:
            raise
        return
    there = answer.get("BucketRegion") or region.value
    if there != region.value:
        yield missing(f"bucket {name} is in {there}, the function in {region.value}")
    else:
        yield ok(f"{name}, in {there}")


def permissions(situation: Situation) -> Iterator[Remark]:
    """Each one of the executor's policy."""
    for action, resource, attempt in _attempts(situation):
        allowed = attempt()
        if allowed is None:
            yield partial(
                f"{action} on {resource} is not checked: it cannot be tried without changing "
                "something, and iam:SimulatePrincipalPolicy is not allowed to these credentials"
            )
        elif allowed:
            yield ok(f"{action} on {resource}")
        else:
            yield missing(f"{action} on {resource} is not allowed", _POLICY)


_Attempt = tuple[str, str, Callable[[], "bool | None"]]


def _attempts(situation: Situation) -> Iterator[_Attempt]:
    function = situation.function
    functions = situation.client("lambda")

    def dry_run() -> bool:
        return _allowed(
            lambda: functions.invoke(FunctionName=function, InvocationType="DryRun"),
            "ResourceNotFoundException",
        )

    yield "lambda:InvokeFunction", function, dry_run
    if situation.settings.bucket is None:
        return
    s3, name = situation.client("s3"), _bucket(situation)
    nobodys = f"doctor-{secrets.token_hex(8)}"

    def get(key: str) -> Callable[[], bool]:
        return lambda: _allowed(lambda: s3.get_object(Bucket=name, Key=key), "NoSuchKey", "404")

    def put(key: str) -> Callable[[], bool]:
        return lambda: _allowed(
            lambda: s3.upload_part(Bucket=name, Key=key, UploadId=nobodys, PartNumber=1, Body=b""),
            "NoSuchUpload",
            "404",
        )

    blob = f"{wire.BLOB_PREFIX}{nobodys}"
    yield "s3:GetObject", f"{wire.BLOB_PREFIX}*", get(blob)
    for leaf in _READ:
        yield "s3:GetObject", wire.task_key("*", leaf), get(wire.task_key(nobodys, leaf))
    yield "s3:PutObject", f"{wire.BLOB_PREFIX}*", put(blob)
    yield "s3:PutObject", wire.task_key("*", wire.ORDER), put(wire.task_key(nobodys, wire.ORDER))
    for prefix in (wire.BLOB_PREFIX, wire.TASK_PREFIX):
        yield "s3:DeleteObject", f"{prefix}*", _simulated(situation, name, prefix)


def _allowed(request: Callable[[], Any], *expected: str) -> bool:
    """Whether a request is allowed; `expected` are refusals that come after that was decided."""
    from botocore.exceptions import ClientError

    try:
        request()
    except ClientError as error:
        if refusals.code(error) in expected:
            return True
        if aws.is_denied(error):
            return False
        if refusals.code(error) == "NoSuchBucket":
            raise Unknown("there is no bucket, see Bucket") from error
        raise
    return True


def _simulated(situation: Situation, bucket: str, prefix: str) -> Callable[[], bool | None]:
    """Ask IAM whether objects below a prefix may be deleted; None if it does not say."""

    def ask() -> bool | None:
        from botocore.exceptions import ClientError

        try:
            who = situation.client("sts").get_caller_identity()["Arn"]
            if who.endswith(":root"):
                return True  # the account itself may do everything
            partition = who.split(":")[1]
            answer = situation.client("iam").simulate_principal_policy(
                PolicySourceArn=_principal(who),
                ActionNames=["s3:DeleteObject"],
                ResourceArns=[f"arn:{partition}:s3:::{bucket}/{prefix}x"],
            )
            return bool(answer["EvaluationResults"][0]["EvalDecision"] == "allowed")
        except (ClientError, LookupError):
            return None

    return ask


def _principal(arn: str) -> str:
    """The role of an assumed one's ARN; its path is not told, and taken for `/`."""
    if ":assumed-role/" not in arn:
        return arn
    head, _, rest = arn.replace(":sts:", ":iam:").partition(":assumed-role/")
    return f"{head}:role/{rest.partition('/')[0]}"


def _bucket(situation: Situation) -> str:
    name = situation.settings.bucket
    if name is None:
        raise Unknown("nobody names a bucket, see Settings")
    return name
