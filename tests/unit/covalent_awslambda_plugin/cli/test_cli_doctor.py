"""`doctor` against an embedded AWS that enforces IAM, and the real handler."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aws_server import Answer
from conftest import BUCKET, FUNCTION, Cloud, Command  # type: ignore[attr-defined]
from covalent_awslambda_plugin.cli import doctor
from covalent_awslambda_plugin.cli.checks import (
    account,
    covalent,
    finding,
    function,
    machine,
    packages,
)
from covalent_awslambda_plugin.cli.checks.finding import Remark, Status
from covalent_awslambda_plugin.cli.checks.situation import Situation
from covalent_awslambda_plugin.cli.main import main

# What `doctor` must not have: a way to change something.
READ_ONLY = ("s3:ListBucket", "s3:GetObject")


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the checks by title."""
    status = main(["doctor", "--json", *words])
    told = json.loads(capsys.readouterr().out)
    return status, {check["title"]: check for check in told["checks"]}


def texts(check: dict[str, Any], status: str) -> list[str]:
    return [x["text"] for x in check["remarks"] if x["status"] == status]


def test_all_is_well(cloud: Cloud, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that AWS and the function have to say is ok; every setting has its origin."""
    _, checks = checked(capsys)
    for title in ("Settings", "Credentials", "Clock", "Image", "Bucket", "Permissions"):
        assert checks[title]["status"] in ("ok", "partial"), checks[title]
    origin = f"{project}/samconfig.toml [default.global.parameters] FunctionName"
    assert f"function_name = {FUNCTION}  (from {origin})" in texts(checks["Settings"], "ok")
    assert "s3:PutObject on blobs/*" in texts(checks["Permissions"], "ok")
    assert checks["Image"]["remarks"][0]["text"].startswith("Python ")


def test_the_function_and_its_state(
    cloud: Cloud, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, `sam deploy` is the remedy; then its size is shown."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", cloud.aws.endpoint_url)
    (remark,) = function.state(situation(project))
    assert remark.status is Status.MISSING and remark.remedy == "sam build && sam deploy"
    role = cloud.client("iam").create_role(RoleName="x", AssumeRolePolicyDocument="{}")["Role"]
    cloud.client("lambda").create_function(
        FunctionName=FUNCTION,
        Runtime="python3.11",
        Role=role["Arn"],
        Handler="a.b",
        Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
        MemorySize=640,
    )
    remark, *more = function.state(situation(project))
    assert remark.status is Status.OK and "640 MB" in remark.text
    assert not [x for x in more if x.status is Status.MISSING]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"State": "Active", "LastUpdateStatus": "Successful"}, None),
        ({"State": "Inactive"}, Status.PARTIAL),
        ({"State": "Pending"}, Status.PARTIAL),
        ({"State": "Active", "LastUpdateStatus": "InProgress"}, Status.PARTIAL),
        ({"State": "Failed", "StateReason": "no image"}, Status.MISSING),
        ({"State": "Active", "LastUpdateStatus": "Failed"}, Status.MISSING),
    ],
)
def test_states(project: Path, said: dict[str, str], status: Status | None) -> None:
    """One that fails is missing, one that changes or sleeps works in a while."""
    found = list(function._of_state(said, situation(project)))
    assert [x.status for x in found] == ([] if status is None else [status])


def test_nothing_is_changed(
    cloud: Cloud, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bucket, its uploads and versions are the same afterwards."""
    s3 = cloud.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    checked(capsys)
    listed = s3.list_object_versions(Bucket=BUCKET)
    assert "Versions" not in listed and "DeleteMarkers" not in listed
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_each_missing_permission_is_named(
    cloud: Cloud,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user who may only read is told of both writes that are missing, and of nothing else."""
    for name, value in cloud.user("reader", *READ_ONLY).items():
        monkeypatch.setenv(name, value)
    status, checks = checked(capsys)
    assert status == 1
    assert texts(checks["Permissions"], "missing") == [
        "s3:PutObject on blobs/* is not allowed",
        "s3:PutObject on tasks/*/order is not allowed",
    ]
    assert len(texts(checks["Permissions"], "partial")) == 2  # deleting cannot be tried
    assert "ExecutorPolicyArn" in checks["Permissions"]["remarks"][-3]["remedy"]


def test_no_bucket_and_no_function(
    cloud: Cloud, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are missing, and the remedy is to deploy."""
    cloud.client("s3").delete_bucket(Bucket=BUCKET)
    cloud.functions.script = lambda event: Answer(status=404, code="ResourceNotFoundException")
    status, checks = checked(capsys)
    assert status == 1
    (said,) = texts(checks["Bucket"], "missing")
    assert re.fullmatch(
        rf"there is no bucket {BUCKET} \(from .*samconfig\.toml .*BucketName\)", said
    )
    unknown = "not checked: there is no bucket, see Bucket"
    assert texts(checks["Permissions"], "missing") == []
    assert texts(checks["Permissions"], "partial") == [unknown]
    assert checks["Bucket"]["remarks"][0]["remedy"] == "sam build && sam deploy"
    assert texts(checks["Image"], "partial") == ["not checked: there is no function, see Function"]


def test_an_image_of_another_python(
    cloud: Cloud, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another Python, cloudpickle and package version are each named with what mends them."""
    (project / "function").mkdir()
    (project / "function" / "requirements.txt").write_text("# mine\nrich>=1\nlacking-one==2\n")
    pong = {
        "covalent_lambda": 2,
        "status": "ok",
        "python": "3.8.1",
        "cloudpickle": "1.0.0",
        "architecture": "x86_64",
        "packages": {"Rich": "1.2.3", "only-there": "1.0"},
    }
    cloud.functions.script = lambda event: Answer(payload=pong)
    status, checks = checked(capsys)
    assert status == 1
    assert any("its Python is 3.8" in x for x in texts(checks["Image"], "missing"))
    assert any(
        "names lacking-one, which the image" in x for x in texts(checks["Image"], "missing")
    )
    partial = texts(checks["Image"], "partial")
    assert any("cloudpickle is 1.0.0" in x for x in partial)
    assert any("rich is 1.2.3 in the image" in x for x in partial)


def test_packages_that_the_server_lacks(cloud: Cloud, command: Command, project: Path) -> None:
    """The image's package that the server's own Python lacks is named, with both remedies."""
    pong = {"covalent_lambda": 2, "status": "ok", "python": "3.11.7", "cloudpickle": "3.1.0"}
    pong.update(architecture="x86_64", packages={"only-there": "1.0", "rich": "1"})
    cloud.functions.script = lambda event: Answer(payload=pong)
    done = command("-m", "covalent_awslambda_plugin", "doctor", "--json", cwd=project)
    checks = {x["title"]: x for x in json.loads(done.stdout)["checks"]}
    assert checks["Covalent's server"]["status"] == "ok", checks["Covalent's server"]
    first, second = checks["Packages in the server"]["remarks"]
    assert first["text"].startswith("the server lacks only-there, which the image has")
    assert first["remedy"].endswith("-m pip install only-there")
    assert "workflow_executor=" in second["remedy"]


def test_no_credentials(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are missing once, and what needs them is not checked."""
    status, checks = checked(capsys)
    assert status == 1
    assert checks["Credentials"]["status"] == "missing"
    for title in ("Bucket", "Permissions", "Quota", "Function", "Image"):
        assert texts(checks[title], "partial")[0].startswith("not checked"), checks[title]


def test_no_way_to_aws(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be wrong is said once; each check names its endpoint, and what looks at it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    status, checks = checked(capsys)
    assert status == 1
    (said,) = texts(checks["Credentials"], "missing")
    assert "Check endpoint_url= (AWS_ENDPOINT_URL)" in said
    for title in ("Clock", "Function", "Image", "Bucket", "Permissions", "Quota"):
        assert texts(checks[title], "missing") == ["no connection to 127.0.0.1:1"]
        assert checks[title]["remarks"][0]["remedy"] == "curl -sSI http://127.0.0.1:1"


def test_a_server_that_does_not_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address is named, and what starts it."""
    nobodys = covalent.Dispatches("http://127.0.0.1:1")
    monkeypatch.setattr(covalent.Dispatches, "configured", lambda: nobodys)
    (remark,) = covalent.server(situation(project))
    assert remark.status is Status.MISSING and remark.remedy == "covalent start"
    assert "http://127.0.0.1:1" in remark.text


def test_no_project(clean_surroundings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside of a project nobody names the function; the remedy is `configure`."""
    _, checks = checked(capsys)
    (remark,) = [x for x in checks["Settings"]["remarks"] if x["status"] == "missing"]
    assert "nobody names the function" in remark["text"]
    assert remark["remedy"] == "cd <your project> && covalent-lambda configure"


def test_parameters_that_a_guided_deployment_hides(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `sam deploy --guided` writes counts, and doctor says that the rest does not."""
    with (project / "samconfig.toml").open("a", encoding="utf-8") as config:
        config.write(
            "\n[default.deploy.parameters]\n"
            'parameter_overrides = "FunctionName=\\"guided\\" BucketName=\\"guided-bucket\\""\n'
        )
    _, checks = checked(capsys)
    assert "function_name = guided  (from" in "\n".join(texts(checks["Settings"], "ok"))
    (hidden,) = [x for x in checks["Settings"]["remarks"] if "hide all" in x["text"]]
    assert hidden["status"] == "partial"
    assert hidden["remedy"] == "delete parameter_overrides under [default.deploy.parameters]"


def test_settings_that_cannot_be_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken samconfig.toml is the finding; what needs it is not checked."""
    (project / "samconfig.toml").write_text("not toml [")
    status, checks = checked(capsys)
    assert status == 1
    assert "is not valid TOML" in texts(checks["Settings"], "missing")[0]
    assert texts(checks["Bucket"], "partial") == [
        "not checked: the settings cannot be read, see Settings"
    ]


def test_a_check_that_crashes(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a finding of its own, beside what it had found, and the others go on."""

    def crashing(situation: Situation) -> Iterator[Remark]:
        yield finding.ok("so far")
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(doctor, "ALL", (("Bad", crashing), ("Open files", machine.open_files)))
    status, checks = checked(capsys)
    assert status == 1
    assert checks["Bad"]["status"] == "crashed"
    assert [x["text"] for x in checks["Bad"]["remarks"]] == [
        "so far",
        "this check itself failed: ZeroDivisionError: by zero",
    ]
    assert checks["Open files"]["remarks"]


def test_text_names_the_remedy(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On paper each cross has an arrow with the command, and the end says to run it again."""

    def lacking(situation: Situation) -> Iterator[Remark]:
        yield finding.missing("it is gone", "bring it back")

    monkeypatch.setattr(doctor, "ALL", (("Thing", lacking),))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "[✗] Thing",
        "    ✗ it is gone",
        "      → bring it back",
        "",
        "1 missing. Fix what is marked, then run it again.",
    ]


@pytest.mark.parametrize(
    ("off", "status"), [(0, Status.OK), (100, Status.PARTIAL), (-400, Status.MISSING)]
)
def test_the_clock(
    cloud: Cloud, project: Path, monkeypatch: pytest.MonkeyPatch, off: int, status: Status
) -> None:
    """A minute's difference is remarked on; at five, AWS refuses."""
    there = datetime.now(timezone.utc) - timedelta(seconds=off)
    monkeypatch.setattr(account, "_date", lambda metadata: there)
    (remark,) = account.clock(situation(project))
    assert remark.status is status
    if status:
        assert ("behind" if off < 0 else "ahead of") in remark.text


def situation(project: Path) -> Situation:
    from argparse import Namespace

    return Situation.of(Namespace(samconfig=None, config_env=None))


@pytest.mark.parametrize(
    ("installed", "said", "remedy"),
    [
        ({}, "has no Covalent", 'pip install "covalent'),
        ({"covalent": "0.240.0"}, "lacks this plugin", "pip install ./executor"),
        (
            {"covalent": "0.240.0", "covalent_awslambda.plugin": "0.34.0"},
            "the public plugin 0.34.0",
            "pip install ./executor",
        ),
        (
            {"covalent": "0.240.0", covalent.PLUGIN: "1.0.0+project", "fastapi": "0.132.1"},
            "FastAPI 0.132.1",
            'pip install "fastapi<0.132", then covalent restart',
        ),
        (
            {"covalent": "0.240.0", covalent.PLUGIN: "1.0.0+project", "SQLAlchemy": "2.0.1"},
            "SQLAlchemy 2.0.1",
            'pip install "sqlalchemy<2", then covalent restart',
        ),
    ],
)
def test_what_covalent_needs(installed: dict[str, str], said: str, remedy: str) -> None:
    """Each package that keeps Covalent from working is named with what installs the right one."""
    *_, last = covalent._of_packages(installed, "here")
    assert last.status is Status.MISSING
    assert said in last.text and last.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("1.2.3", "1.9.0", False),
        ("1.2.3", "2.0", True),
        ("0.2.3", "0.3", True),
        ("0.2.3", "0.2.9", False),
    ],
)
def test_versions_that_break_pickles(one: str, other: str, differ: bool) -> None:
    """The first number counts, below 1.0 the second."""
    assert packages.differs(one, other) is differ


def test_docker_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is missing, and one that nobody answers, are told apart."""
    import socket

    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert "is missing" in machine._docker().text
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert "does not answer" in machine._docker().text


def test_ping_brings_no_words_for_a_shell() -> None:
    """Names and versions of packages end up in commands: what is none is left out, or refused."""
    from covalent_awslambda_plugin.cli.checks.situation import pong_in

    plain = {
        "status": "ok",
        "python": "3.13.0rc1",
        "cloudpickle": "3.1.2",
        "architecture": "x86_64",
    }
    odd = {"$(id)": "1", "a": "1; id", "--index-url=x": "1", "b c": "1", "": "1", "d": ""}
    good = {"ruamel.yaml": "0.18.6", "my_own": "1!2.0+local.1"}
    found = pong_in(json.dumps({**plain, "packages": {**odd, **good}}).encode())
    assert found == {**plain, "packages": good}
    for name in ("python", "cloudpickle", "architecture"):
        assert set(pong_in(json.dumps({**plain, name: "3; id"}).encode())) == {"said"}
