"""`covalent-lambda clean` removes what nobody needs: objects, images, companion stacks."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from lambda_calls import wire
from lambda_calls.errors import LambdaCallError
from lambda_calls.settings import Settings

from . import aws, names
from .errors import CommandError
from .output import Output

HELP = "remove left-over objects, images and companion stacks"
DESCRIPTION = """\
List what a project has left behind in AWS, and with --yes delete it:

  - objects in the bucket that are older than --older-than hours: what the executor
    and the function could not delete, and the versions of what they did delete;
  - images in the stack's repository beside the one that the function runs and the
    ten newest;
  - companion stacks, with their repositories, of this project's stack once that
    is gone.

Without --yes nothing is changed.
"""

_HOURS = 24.0  # results that could not be fetched are kept for somebody to fetch
_KEPT_IMAGES = 10
_COMPANION = "CompanionStack"
_GONE = ("DELETE_COMPLETE",)


@dataclass(frozen=True)
class Leftover:
    """Something that can be deleted.

    Args:
        kind: what it is.
        name: which one.
        size: its bytes; 0 where that is not known.
        delete: deletes it.
    """

    kind: str
    name: str
    size: int
    delete: Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    names.add_arguments(parser)
    parser.add_argument("--yes", action="store_true", help="delete what is listed")
    parser.add_argument(
        "--older-than",
        type=float,
        default=_HOURS,
        metavar="HOURS",
        help="age of objects to delete (default: %(default)g; never less than 1)",
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """List it, and delete it if that was asked for."""
    if not options.older_than >= 1:
        raise CommandError(
            f"--older-than {options.older_than:g} is too short: electrons that run now need their "
            "objects. Give 1 hour or more."
        )
    settings = names.resolved(options)
    found: list[Leftover] = []
    problems: list[str] = []
    for search in (_objects, _images, _companions):
        try:
            found += search(settings, options)
        except (CommandError, LambdaCallError) as error:
            problems.append(" ".join(str(error).split()))
    _list(found, output)
    for problem in problems:
        output.line(("! ", "warning"), problem)
    deleted = _delete(found, problems, output) if options.yes else 0
    if found and not options.yes:
        output.line("Nothing was deleted. To delete these: ", ("add --yes", "command"))
    output.document(
        {
            "found": [{"kind": x.kind, "name": x.name, "bytes": x.size} for x in found],
            "deleted": deleted,
            "problems": problems,
        }
    )
    return 1 if problems else 0


def _list(found: list[Leftover], output: Output) -> None:
    if not found:
        output.line("There is nothing to clean up.")
        return
    shown = [(x.kind, x.name, f"{x.size:,} bytes" if x.size else "") for x in found]
    output.table(("kind", "name", "size"), shown, right="llr")
    kinds = sorted({x.kind for x in found})
    counts = ", ".join(f"{sum(x.kind == kind for x in found)} × {kind}" for kind in kinds)
    output.line(f"{counts}; {sum(x.size for x in found):,} bytes together")


def _delete(found: list[Leftover], problems: list[str], output: Output) -> int:
    deleted = 0
    for leftover in found:
        try:
            leftover.delete()
            deleted += 1
        except (CommandError, LambdaCallError) as error:
            problems.append(" ".join(str(error).split()))
            output.line(("✗ ", "bad"), f"{leftover.kind} {leftover.name}: {problems[-1]}")
    if found:
        output.line(f"Deleted {deleted} of {len(found)}.")
    return deleted


# -- objects -------------------------------------------------------------------------------------


def _objects(settings: Settings, options: argparse.Namespace) -> Iterator[Leftover]:
    """Old objects and old versions, delete markers among them."""
    bucket = settings.bucket
    if bucket is None:
        return
    s3 = aws.client(names.account(settings), "s3")
    before = datetime.now(timezone.utc) - timedelta(hours=options.older_than)
    for prefix in (wire.BLOB_PREFIX, wire.TASK_PREFIX):
        with aws.refusals_worded(f"bucket {bucket}", "s3:ListBucketVersions"):
            pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if found["LastModified"] < before:
                        yield _object(s3, bucket, found)


def _object(s3: Any, bucket: str, found: Any) -> Leftover:
    key, version = found["Key"], found["VersionId"]

    def delete() -> None:
        with aws.refusals_worded(f"bucket {bucket}", "s3:DeleteObjectVersion"):
            s3.delete_object(Bucket=bucket, Key=key, VersionId=version)

    is_marker = "Size" not in found
    kind = "delete marker" if is_marker else "object" if found["IsLatest"] else "old version"
    return Leftover(kind, f"s3://{bucket}/{key}", int(found.get("Size") or 0), delete)


# -- images --------------------------------------------------------------------------------------


def _images(settings: Settings, options: argparse.Namespace) -> Iterator[Leftover]:
    """Images that the function does not run, less the newest ones."""
    account, function = names.account(settings), settings.function_name.value
    code = _code(aws.client(account, "lambda"), function)
    uri = re.fullmatch(r"[^/]+/(?P<repository>.+?)(?::[^@/]+)?(?:@.+)?", code.get("ImageUri", ""))
    if uri is None:  # no image: `sam local`'s or the sandbox's worker
        return
    used = {code["ImageUri"], code.get("ResolvedImageUri", "")}
    ecr, repository = aws.client(account, "ecr"), uri["repository"]
    for image in _unused(_described(ecr, repository), used)[_KEPT_IMAGES:]:
        yield _image(ecr, repository, image)


def _code(client: Any, function: str) -> dict[str, str]:
    """Where the function's code is; empty if there is no function."""
    with aws.refusals_worded(f"function {function}", "lambda:GetFunction"):
        try:
            found: dict[str, str] = client.get_function(FunctionName=function)["Code"]
            return found
        except client.exceptions.ResourceNotFoundException:
            return {}


def _described(ecr: Any, repository: str) -> list[Any]:
    """A repository's images, the newest first."""
    with aws.refusals_worded(f"repository {repository}", "ecr:DescribeImages"):
        pages = ecr.get_paginator("describe_images").paginate(repositoryName=repository)
        images = [image for page in pages for image in page["imageDetails"]]
    return sorted(images, key=lambda image: image["imagePushedAt"], reverse=True)


def _unused(images: list[Any], used: set[str]) -> list[Any]:
    tags = {uri.rpartition(":")[2] for uri in used if uri}  # a tag, or the digest's end

    def is_used(image: Any) -> bool:
        digest = image["imageDigest"].rpartition(":")[2]
        return bool(tags & {digest, *image.get("imageTags", ())})

    return [image for image in images if not is_used(image)]


def _image(ecr: Any, repository: str, image: Any) -> Leftover:
    def delete() -> None:
        with aws.refusals_worded(f"repository {repository}", "ecr:BatchDeleteImage"):
            ecr.batch_delete_image(
                repositoryName=repository, imageIds=[{"imageDigest": image["imageDigest"]}]
            )

    tags = ", ".join(image.get("imageTags", ())) or image["imageDigest"]
    size = int(image.get("imageSizeInBytes") or 0)
    return Leftover("image", f"{repository}:{tags}", size, delete)


# -- companion stacks ----------------------------------------------------------------------------


def _companions(settings: Settings, options: argparse.Namespace) -> Iterator[Leftover]:
    """Companion stacks that `sam deploy` made for this project's stack, which is gone.

    SAM CLI names them `<stack>-<8 hexadecimal digits>-CompanionStack`.
    """
    stack = names.stack_name(settings)
    if not stack:
        return
    account = names.account(settings)
    cloudformation = aws.client(account, "cloudformation")
    with aws.refusals_worded("the stacks", "cloudformation:ListStacks"):
        pages = cloudformation.get_paginator("list_stacks").paginate()
        stacks = [x for page in pages for x in page["StackSummaries"]]
    there = {x["StackName"] for x in stacks if x["StackStatus"] not in _GONE}
    if stack in there:
        return
    pattern = re.compile(rf"{re.escape(stack[:104])}-[0-9a-f]{{8}}-{_COMPANION}")
    for name in sorted(there):
        if pattern.fullmatch(name):
            yield _companion(account, cloudformation, name)


def _companion(account: Any, cloudformation: Any, name: str) -> Leftover:
    def delete() -> None:
        ecr = aws.client(account, "ecr")
        with aws.refusals_worded(f"stack {name}", "cloudformation:DescribeStackResources"):
            resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        for resource in resources:  # a repository that holds images is not deleted with its stack
            if resource["ResourceType"] == "AWS::ECR::Repository":
                for image in _described(ecr, resource["PhysicalResourceId"]):
                    _image(ecr, resource["PhysicalResourceId"], image).delete()
        with aws.refusals_worded(f"stack {name}", "cloudformation:DeleteStack"):
            cloudformation.delete_stack(StackName=name)

    return Leftover("companion stack", name, 0, delete)
