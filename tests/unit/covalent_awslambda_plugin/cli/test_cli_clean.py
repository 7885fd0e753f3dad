"""`clean` against an embedded AWS."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import BUCKET, Cloud  # type: ignore[attr-defined]
from covalent_awslambda_plugin.cli import clean
from covalent_awslambda_plugin.cli.main import main

REPOSITORY = """\
Resources:
  Repo:
    Type: AWS::ECR::Repository
    Properties: {RepositoryName: mystack/repo}
"""


@pytest.fixture(autouse=True)
def no_stand_in(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded AWS answers for Lambda, too: it has no function."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", cloud.aws.endpoint_url)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is two days later, for the command."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(clean, "datetime", Later)


def cleaned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    status = main(["clean", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


def test_old_objects(
    cloud: Cloud, project: Path, later: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run lists objects, old versions and markers, and changes nothing; --yes deletes them,
    and what is not the executor's stays."""
    s3 = cloud.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for key in ("blobs/a", "blobs/a", "tasks/t/outcome", "mine"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"12345")
    s3.delete_object(Bucket=BUCKET, Key="tasks/t/outcome")
    before = versions(s3)

    status, told = cleaned(capsys)
    assert status == 0 and told["deleted"] == 0
    kinds = sorted((x["kind"], x["name"].partition(f"{BUCKET}/")[2]) for x in told["found"])
    assert kinds == [
        ("delete marker", "tasks/t/outcome"),
        ("object", "blobs/a"),
        ("old version", "blobs/a"),
        ("old version", "tasks/t/outcome"),
    ]
    assert versions(s3) == before

    status, told = cleaned(capsys, "--yes")
    assert (status, told["deleted"]) == (0, 4)
    assert versions(s3) == ["mine"]


def versions(s3: Any) -> list[str]:
    listed = s3.list_object_versions(Bucket=BUCKET)
    return sorted(
        x["Key"] for x in (*listed.get("Versions", ()), *listed.get("DeleteMarkers", ()))
    )


def test_objects_of_today_stay(
    cloud: Cloud, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What electrons may need still is not listed."""
    cloud.client("s3").put_object(Bucket=BUCKET, Key="blobs/a", Body=b"1")
    _, told = cleaned(capsys, "--yes")
    assert (told["found"], told["deleted"]) == ([], 0)


def test_companion_stacks(cloud: Cloud, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The companion of a stack that is gone is deleted; other stacks' companions stay, and its own
    while the stack is there."""
    stacks = cloud.client("cloudformation")
    for name in ("my-stack", "my-stack-0123abcd-CompanionStack", "other-0123abcd-CompanionStack"):
        body = REPOSITORY.replace("mystack/repo", f"{name.lower()}/repo")
        stacks.create_stack(StackName=name, TemplateBody=body)
    assert not companions(capsys)
    stacks.delete_stack(StackName="my-stack")
    assert companions(capsys) == ["my-stack-0123abcd-CompanionStack"]
    assert companions(capsys, "--yes") == ["my-stack-0123abcd-CompanionStack"]
    assert not companions(capsys)
    left = {
        x["StackName"]
        for x in stacks.list_stacks()["StackSummaries"]
        if x["StackStatus"] != "DELETE_COMPLETE"
    }
    assert left == {"other-0123abcd-CompanionStack"}


def companions(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    told = cleaned(capsys, *words)[1]
    return [x["name"] for x in told["found"] if x["kind"] == "companion stack"]


def test_images_beside_the_ten_newest() -> None:
    """The image that the function runs counts as used by tag or by digest; ten more are kept."""
    now = datetime.now(timezone.utc)
    images = [
        {
            "imageDigest": f"sha256:{number:064}",
            "imageTags": [f"tag-{number}"],
            "imagePushedAt": now - timedelta(hours=number),
        }
        for number in range(13)
    ]
    used = {"000000000000.dkr.ecr.us-east-1.amazonaws.com/repo:tag-12", ""}
    assert [x["imageTags"] for x in clean._unused(images, used)[clean._KEPT_IMAGES :]] == [
        ["tag-10"],
        ["tag-11"],
    ]
    used = {f"000000000000.dkr.ecr.us-east-1.amazonaws.com/repo@sha256:{11:064}"}
    assert [x["imageTags"] for x in clean._unused(images, used)[clean._KEPT_IMAGES :]] == [
        ["tag-10"],
        ["tag-12"],
    ]


def test_refusals_are_told(
    cloud: Cloud,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without permissions each part says which one it lacks, and the exit status is 1."""
    for name, value in cloud.user("nobody").items():
        monkeypatch.setenv(name, value)
    status, told = cleaned(capsys)
    assert status == 1
    assert any("s3:ListBucketVersions on bucket" in x for x in told["problems"])
    assert any("cloudformation:ListStacks" in x for x in told["problems"])


def test_too_young(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An age at which electrons may still need their objects is refused."""
    assert main(["clean", "--older-than", "0.5"]) == 1
    assert "is too short" in capsys.readouterr().err
