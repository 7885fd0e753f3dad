"""What the generated README says under "Changing and undoing", done to a deployed stack.

The project keeps images and templates in a repository and a bucket of its own, by the lines of
samconfig.toml that offer it: this AWS refuses the unchanged stack of repositories that SAM CLI
would make.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import pytest
from botocore.exceptions import ClientError
from harness import PYTHON, Command, Project

from sandbox.aws import Aws, running_aws
from sandbox.deploying import client, scaffold
from sandbox.engine import Engine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REGION = "us-east-1"
REPOSITORY = "own-repository"
TEMPLATES = "own-templates"
ENVIRONMENTS = ("default", "dev", "prod", "ci")
# What the README says for a terminal that nobody sits at.
UNATTENDED = {"prod": ("--no-confirm-changeset",)}
UNATTENDED_DELETE = {name: ("--no-prompts",) for name in ("default", "dev", "prod")}


@dataclass(frozen=True)
class Site:
    """A generated project with an image, and the AWS it is deployed to."""

    project: Project
    aws: Aws

    @property
    def config(self) -> Path:
        return self.project.folder / "samconfig.toml"

    def sam(self, *words: str) -> Command:
        """Run SAM CLI with nobody at the terminal, the registry at hand."""
        return self.project.sam_at(self.aws, self.aws.env, *words)

    def deploy(self, environment: str = "default", *words: str) -> dict[str, str]:
        """`sam deploy`, which must succeed; the stack's outputs."""
        chosen = () if environment == "default" else ("--config-env", environment)
        done = self.sam("deploy", *chosen, *UNATTENDED.get(environment, ()), *words)
        assert done.code == 0, str(done)
        return self.outputs(environment)

    def name(self, parameter: str, environment: str = "default") -> str:
        """A value of samconfig.toml: stack_name, or a parameter's."""
        tables = tomllib.loads(self.config.read_text(encoding="utf-8"))[environment]
        found = tables["global"]["parameters"]
        pairs = dict(each.split("=", 1) for each in found["parameter_overrides"])
        return str({**found, **pairs}[parameter])

    def edit(self, old: str, new: str) -> None:
        """Change samconfig.toml as a user does."""
        text = self.config.read_text(encoding="utf-8")
        assert old in text
        self.config.write_text(text.replace(old, new, 1), encoding="utf-8")

    def client(self, service: str) -> Any:
        return client(self.aws, service, REGION)

    def stack(self, environment: str = "default") -> dict[str, Any] | None:
        """What CloudFormation says of the stack; None when there is none."""
        try:
            found = self.client("cloudformation").describe_stacks(
                StackName=self.name("stack_name", environment)
            )
        except ClientError as error:
            assert "does not exist" in str(error)
            return None
        return dict(found["Stacks"][0])

    def outputs(self, environment: str = "default") -> dict[str, str]:
        stack = self.stack(environment)
        assert stack is not None
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def function(self, name: str) -> dict[str, Any]:
        """Configuration and code of a function."""
        return dict(self.client("lambda").get_function(FunctionName=name))

    def ping(self, name: str) -> dict[str, Any]:
        event = (self.project.folder / "events" / "ping.json").read_bytes()
        return self.invoke(name, event)

    def invoke(self, name: str, event: bytes) -> dict[str, Any]:
        answer = self.client("lambda").invoke(FunctionName=name, Payload=event)
        found: dict[str, Any] = json.loads(answer["Payload"].read())
        return found

    def log_groups(self) -> set[str]:
        found = self.client("logs").describe_log_groups()["logGroups"]
        return {each["logGroupName"] for each in found}

    def buckets(self) -> set[str]:
        return {each["Name"] for each in self.client("s3").list_buckets()["Buckets"]}

    def clean_up(self, environment: str = "default") -> None:
        """Delete a stack and what it leaves, as the README says."""
        bucket = self.name("BucketName", environment)
        group = f"/aws/lambda/{self.name('FunctionName', environment)}"
        chosen = () if environment == "default" else ("--config-env", environment)
        done = self.sam("delete", *chosen, *UNATTENDED_DELETE.get(environment, ()))
        assert done.code == 0, str(done)
        assert "Deleted successfully" in done.stdout, str(done)
        if group in self.log_groups():
            self.client("logs").delete_log_group(logGroupName=group)
        if bucket in self.buckets():
            self.client("s3").delete_bucket(Bucket=bucket)


def scaffolded(docker: Engine, work: Path, name: str) -> Project:
    """A project whose images and templates go to a repository and a bucket of one's own, and whose
    stacks have an owner."""
    answers = {"project_name": name, "python_version": PYTHON}
    folder = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
    config = folder / "samconfig.toml"
    text = config.read_text(encoding="utf-8")
    registry = harness.registry_name(REGION)
    for offered, own in (
        ("resolve_image_repos = true\n", ""),
        ("resolve_s3 = true\n", ""),
        (
            '# image_repository = "<account>.dkr.ecr.us-east-1.amazonaws.com/<repository>"',
            f'image_repository = "{registry}/{REPOSITORY}"',
        ),
        ('# s3_bucket = "<bucket>"', f's3_bucket = "{TEMPLATES}"'),
        ('# "owner=<team>"', '"owner=physics"'),
    ):
        assert text.count(offered) == len(ENVIRONMENTS)
        text = text.replace(offered, own)
    config.write_text(text, encoding="utf-8")
    return Project(folder, work, docker)


@pytest.fixture(scope="module")
def cloud(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """An embedded AWS with an image repository."""
    problem = harness.why_no_push(REGION)
    if problem:
        pytest.skip(problem)
    with running_aws(tmp_path_factory.mktemp("changing-aws")) as aws:
        client(aws, "ecr", REGION).create_repository(repositoryName=REPOSITORY)
        client(aws, "s3", REGION).create_bucket(Bucket=TEMPLATES)
        yield aws


@pytest.fixture(scope="module")
def site(docker: Engine, cloud: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A project, built."""
    project = scaffolded(docker, tmp_path_factory.mktemp("changing"), "covalent-lambda-changing")
    built = project.sam("build")
    assert built.code == 0, str(built)
    yield Site(project, cloud)
    project.prune_images()


@pytest.fixture
def deployed(site: Site) -> Iterator[dict[str, str]]:
    """The default environment, deployed; afterwards nothing of it is left."""
    before = site.config.read_text(encoding="utf-8")
    yield site.deploy()
    site.clean_up()
    site.config.write_text(before, encoding="utf-8")
    groups, buckets = site.client("logs"), site.client("s3")
    for name in site.log_groups():
        groups.delete_log_group(logGroupName=name)
    for name in site.buckets():
        if name.startswith("covalent-lambda-changing"):
            buckets.delete_bucket(Bucket=name)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_nobody_at_the_terminal(site: Site, environment: str) -> None:
    """Each environment is deployed, deployed again unchanged, and deleted, without a terminal."""
    outputs = site.deploy(environment)
    assert site.ping(outputs["FunctionName"])["status"] == "ok"
    site.deploy(environment)
    site.clean_up(environment)
    assert site.stack(environment) is None


def test_prod_asks(site: Site) -> None:
    """Without the pipeline's flag, prod changes nothing where nobody can answer; what it leaves
    does not stop the next deployment."""
    refused = site.sam("deploy", "--config-env", "prod")
    assert refused.code != 0
    stack = site.stack("prod")
    assert stack is not None and stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    site.deploy("prod")
    site.clean_up("prod")


def test_repository_bucket_and_tags(site: Site, deployed: dict[str, str]) -> None:
    """Image and template went where samconfig.toml says; the stack has its tags."""
    image = site.function(deployed["FunctionName"])["Code"]["ImageUri"]
    assert image.startswith(f"{harness.registry_name(REGION)}/{REPOSITORY}:")
    assert site.client("s3").list_objects_v2(Bucket=TEMPLATES)["KeyCount"] > 0
    stack = site.stack()
    assert stack is not None
    tags = {each["Key"]: each["Value"] for each in stack["Tags"]}
    assert tags["owner"] == "physics"
    assert (tags["project"], tags["environment"]) == (site.project.folder.name, "default")


def test_termination_protection(site: Site) -> None:
    """The README's command for prod protects its stack from `sam delete`, until it is taken
    back."""
    site.deploy("prod")
    formation, stack = site.client("cloudformation"), site.name("stack_name", "prod")
    formation.update_termination_protection(StackName=stack, EnableTerminationProtection=True)
    try:
        refused = site.sam("delete", "--config-env", "prod", "--no-prompts")
        assert refused.code != 0
        assert "TerminationProtection is enabled" in refused.stderr, str(refused)
        assert site.stack("prod") is not None
    finally:
        formation.update_termination_protection(StackName=stack, EnableTerminationProtection=False)
    site.clean_up("prod")


def test_memory(site: Site, deployed: dict[str, str]) -> None:
    """Another MemorySize updates the function, and every other thing stays the same."""
    site.edit("MemorySize=1769", "MemorySize=2048")
    assert site.deploy() == deployed
    assert site.function(deployed["FunctionName"])["Configuration"]["MemorySize"] == 2048


def test_rename(site: Site, deployed: dict[str, str]) -> None:
    """A renamed function keeps role, bucket and the policy that users hold, which stays attached
    and names the new function; the old log stays."""
    root = site.client("iam")
    root.create_user(UserName="scientist")
    held = {"UserName": "scientist", "PolicyArn": deployed["ExecutorPolicyArn"]}
    root.attach_user_policy(**held)
    site.edit(f"FunctionName={deployed['FunctionName']}", "FunctionName=renamed")
    try:
        after = site.deploy()
        same = ("FunctionRoleArn", "ExecutorPolicyArn", "BucketName")
        assert [after[name] for name in same] == [deployed[name] for name in same]
        assert after["FunctionName"] == "renamed"
        assert site.ping("renamed")["status"] == "ok"
        with pytest.raises(ClientError, match="Function not found"):
            site.function(deployed["FunctionName"])
        policy = root.get_policy(PolicyArn=deployed["ExecutorPolicyArn"])["Policy"]
        document = root.get_policy_version(
            PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"]
        )["PolicyVersion"]["Document"]
        allowed = {each["Sid"]: each["Resource"] for each in document["Statement"]}
        assert allowed["RunElectrons"].endswith(":function:renamed")
        old = f"/aws/lambda/{deployed['FunctionName']}"
        assert {old, "/aws/lambda/renamed"} <= site.log_groups()
    finally:
        root.detach_user_policy(**held)
        root.delete_user(UserName="scientist")


def test_another_bucket(site: Site, deployed: dict[str, str]) -> None:
    """Another BucketName makes a bucket; the old one stays, with what is in it."""
    s3, old = site.client("s3"), deployed["BucketName"]
    s3.put_object(Bucket=old, Key="blobs/kept", Body=b"kept")
    site.edit(f"BucketName={old}", f"BucketName={old}-2")
    try:
        assert site.deploy()["BucketName"] == f"{old}-2"
        assert s3.get_object(Bucket=old, Key="blobs/kept")["Body"].read() == b"kept"
    finally:
        for each in s3.list_object_versions(Bucket=old).get("Versions", []):
            s3.delete_object(Bucket=old, Key=each["Key"], VersionId=each["VersionId"])


def test_packages_and_rollback(site: Site, deployed: dict[str, str]) -> None:
    """Changed packages are a new image under a tag of its own; the template that was kept of the
    deployment before brings the very same image back, with no build."""
    name, folder = deployed["FunctionName"], site.project.folder
    kept = site.client("cloudformation").get_template(
        StackName=site.name("stack_name"), TemplateStage="Original"
    )["TemplateBody"]
    (folder / "deployed-1.yaml").write_text(kept, encoding="utf-8")
    before = site.function(name)["Code"]["ImageUri"]
    requirements = folder / "function" / "requirements.txt"
    text = requirements.read_text(encoding="utf-8")
    requirements.write_text(text + "iniconfig==2.0.0\n", encoding="utf-8")
    try:
        assert site.project.sam("build").code == 0
        site.deploy()
        assert site.function(name)["Code"]["ImageUri"] != before
        site.deploy("default", "--template-file", "deployed-1.yaml")
        assert site.function(name)["Code"]["ImageUri"] == before
        assert site.ping(name)["status"] == "ok"
    finally:
        requirements.write_text(text, encoding="utf-8")
        assert site.project.sam("build").code == 0


def test_a_bucket_that_is_there(site: Site) -> None:
    """A bucket of that name ends the first deployment with "Validation failed", and AWS's events
    name the bucket; the README's remedy for the bucket and for the stack then works. (Real
    CloudFormation, other than this one, refuses to update a stack in ROLLBACK_COMPLETE.)"""
    bucket, s3 = site.name("BucketName"), site.client("s3")
    s3.create_bucket(Bucket=bucket)
    refused = site.sam("deploy")
    assert refused.code != 0
    assert "Validation failed" in refused.stdout + refused.stderr, str(refused)
    stack = site.stack()
    assert stack is not None and stack["StackStatus"] == "ROLLBACK_COMPLETE"
    events = site.client("cloudformation").describe_events(StackName=site.name("stack_name"))
    assert bucket in json.dumps(events["OperationEvents"], default=str)
    s3.delete_bucket(Bucket=bucket)
    deleted = site.sam("delete", "--no-prompts")
    assert deleted.code == 0, str(deleted)
    assert site.stack() is None
    site.deploy()
    site.clean_up()


def test_a_change_that_fails(site: Site, deployed: dict[str, str]) -> None:
    """A deployment that fails leaves everything as it was, and the next one works."""
    site.client("s3").create_bucket(Bucket="covalent-lambda-changing-taken")
    site.edit(f"BucketName={deployed['BucketName']}", "BucketName=covalent-lambda-changing-taken")
    site.edit("MemorySize=1769", "MemorySize=2048")
    refused = site.sam("deploy")
    assert refused.code != 0
    stack = site.stack()
    assert stack is not None and stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert site.function(deployed["FunctionName"])["Configuration"]["MemorySize"] == 1769
    site.edit("BucketName=covalent-lambda-changing-taken", f"BucketName={deployed['BucketName']}")
    assert site.deploy() == deployed
    assert site.function(deployed["FunctionName"])["Configuration"]["MemorySize"] == 2048


def test_alarms_boundary_and_path(site: Site, deployed: dict[str, str]) -> None:
    """Alarms, a permissions boundary and a path arrive with an update; the path makes a new role
    and policy, as the README says. (This AWS's CloudFormation drops the boundary of roles.)"""
    boundary = site.client("iam").create_policy(
        PolicyName="boundary",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
            }
        ),
    )["Policy"]["Arn"]
    topic = site.client("sns").create_topic(Name="alarms")["TopicArn"]
    site.edit('"Alarms=Off"', f'"Alarms=On", "AlarmTopicArn={topic}"')
    site.edit('"RolePath=/"', f'"RolePath=/teams/physics/", "PermissionsBoundaryArn={boundary}"')
    site.edit("AlarmDuration=810", "AlarmDuration=60")
    after = site.deploy()
    assert ":role/teams/physics/" in after["FunctionRoleArn"]
    assert ":policy/teams/physics/" in after["ExecutorPolicyArn"]
    alarms = site.client("cloudwatch").describe_alarms()["MetricAlarms"]
    thresholds = {each["MetricName"]: each["Threshold"] for each in alarms}
    assert thresholds == {"Errors": 1.0, "Throttles": 1.0, "Duration": 60_000.0}
    assert all(each["AlarmActions"] == [topic] for each in alarms)
    name = after["FunctionName"]
    assert site.ping(name)["status"] == "ok"
    (metric,) = site.client("logs").describe_metric_filters(logGroupName=f"/aws/lambda/{name}")[
        "metricFilters"
    ]
    assert metric["filterPattern"] == '"[covalent] An electron failed"'


def test_rights_of_electrons(site: Site, deployed: dict[str, str]) -> None:
    """A statement added to FunctionRole arrives in the same role, beside what was there."""
    template = site.project.folder / "template.yaml"
    text = template.read_text(encoding="utf-8")
    known = "              - Sid: WriteOwnLog\n"
    added = (
        "              - Sid: ReadOurData\n"
        "                Effect: Allow\n"
        "                Action: s3:GetObject\n"
        "                Resource: arn:aws:s3:::our-data/*\n"
    )
    assert text.count(known) == 1
    template.write_text(text.replace(known, added + known), encoding="utf-8")
    try:
        assert site.project.sam("build").code == 0
        assert site.deploy() == deployed
        role = deployed["FunctionRoleArn"].rpartition("/")[2]
        policy = site.client("iam").get_role_policy(RoleName=role, PolicyName="electron")
        sids = {each["Sid"] for each in policy["PolicyDocument"]["Statement"]}
        assert {"ReadOurData", "WriteOwnLog", "ReadArguments"} <= sids
    finally:
        template.write_text(text, encoding="utf-8")
        assert site.project.sam("build").code == 0


# As the templates of `sam pipeline init` write it; roles are left out, which this AWS asks for
# nothing.
PACKAGE = "package --s3-bucket {bucket} --image-repository {images} --region {region}"
PACKAGED = "deploy --stack-name {stack} --template packaged.yaml --capabilities CAPABILITY_IAM"
PIPELINE = f"{PACKAGED} --region {{region}} --s3-bucket {{bucket}} --image-repository {{images}}"


@pytest.mark.parametrize(
    ("environment", "added"), [("ci", ""), ("prod", "--no-confirm-changeset")]
)
def test_what_sam_pipeline_writes(site: Site, environment: str, added: str) -> None:
    """With the README's changes, a pipeline's commands deploy each stage's own function and
    bucket; without them SAM CLI refuses two repositories at once."""
    names = {
        "bucket": TEMPLATES,
        "images": f"{harness.registry_name(REGION)}/{REPOSITORY}",
        "region": REGION,
        "stack": site.name("stack_name", environment),
    }
    command = [*PIPELINE.format(**names).split(), "--no-fail-on-empty-changeset"]
    before = site.config.read_text(encoding="utf-8")
    packaged = site.project.folder / "packaged.yaml"
    try:
        made = site.sam(*PACKAGE.format(**names).split(), "--output-template-file", packaged.name)
        assert made.code == 0, str(made)
        # The line that the README has deleted, and this project lacks.
        site.edit("image_repository = ", "resolve_image_repos = true\n# image_repository = ")
        refused = site.sam(*command)
        site.config.write_text(before, encoding="utf-8")
        assert refused.code != 0
        assert "Only one of the following can be provided" in refused.stderr, str(refused)
        done = site.sam(*command, "--config-env", environment, *added.split())
        assert done.code == 0, str(done)
        outputs = site.outputs(environment)
        for parameter in ("FunctionName", "BucketName"):
            assert outputs[parameter] == site.name(parameter, environment)
        assert site.ping(outputs["FunctionName"])["status"] == "ok"
        site.clean_up(environment)
    finally:
        packaged.unlink(missing_ok=True)
        site.config.write_text(before, encoding="utf-8")


def test_two_people(
    site: Site, docker: Engine, cloud: Aws, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two projects with the same answers share no stack, function, bucket or image."""
    other = scaffolded(docker, tmp_path_factory.mktemp("other"), "covalent-lambda-changing")
    second = Site(other, cloud)
    assert other.sam("build").code == 0
    try:
        first_outputs, second_outputs = site.deploy(), second.deploy()
        assert site.project.local_repository() != other.local_repository()
        assert site.name("stack_name") != second.name("stack_name")
        for name in ("FunctionName", "BucketName", "FunctionRoleArn", "ExecutorPolicyArn"):
            assert first_outputs[name] != second_outputs[name], name
        for outputs in (first_outputs, second_outputs):
            assert site.ping(outputs["FunctionName"])["status"] == "ok"
    finally:
        site.clean_up()
        second.clean_up()
        other.prune_images()


def test_images_are_cleaned_up(site: Site) -> None:
    """The README's command removes all images of this project from this machine, those that were
    pushed too, and none of another's."""
    site.deploy()
    site.clean_up()
    kept = image_names(site.project)
    mine = {name for name in kept if site.project.local_repository() in name}
    assert len(mine) >= 2
    end_environments(site)
    site.project.prune_images()
    assert kept - image_names(site.project) == mine
    assert site.project.sam("build").code == 0


def end_environments(site: Site) -> None:
    """End the containers in which the embedded AWS ran the project's functions: it keeps them for
    a while after a function is deleted, and Docker keeps the images of containers."""
    env, folder = site.project.engine.env, site.project.folder
    title = f"label=org.opencontainers.image.title={site.name('stack_name')}"
    listed = ["docker", "ps", "--all", "--quiet", "--filter", title]
    found = harness.run(listed, folder, env, 60).stdout.split()
    if found:
        done = harness.run(["docker", "rm", "--force", *found], folder, env, 60)
        assert done.code == 0, str(done)


def image_names(project: Project) -> set[str]:
    """The names of all images on this machine."""
    form = "{{.Repository}}:{{.Tag}}"
    command = ["docker", "image", "ls", "--format", form]
    done = harness.run(command, project.folder, project.engine.env, 60)
    return {name for name in done.stdout.split() if "<none>" not in name}
