"""The policy of docs/deployer-policy.json, shown by taking it away.

An IAM user who holds it and nothing else deploys, updates and deletes a stack with SAM CLI. What
SAM CLI asks for itself, this AWS checks: without any of those actions a command fails. What
CloudFormation does in the user's name (it makes functions, roles) it does not check: IAM's
simulator is asked about those actions, with the names that the stack really has. Nor does its
image registry check who pushes.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import iam
import pytest
from harness import PYTHON, Command, Project
from iam import DENIED, Request, User, as_list
from patience import wait_until

from sandbox.aws import Aws, running_aws
from sandbox.deploying import Deploying, client, scaffold
from sandbox.engine import Engine

REGION = "us-east-1"

Document = dict[str, Any]

# Which command fails without it.
DEPLOY = (
    "cloudformation:CreateChangeSet",
    "cloudformation:CreateStack",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DescribeStackEvents",
    "cloudformation:DescribeStacks",
    "cloudformation:ExecuteChangeSet",
    "ecr:GetAuthorizationToken",
    "s3:PutObject",
)
DEPLOY_AGAIN = (
    "cloudformation:GetTemplateSummary",
    "cloudformation:ListStackResources",
    "cloudformation:UpdateStack",
)
DELETE = (
    "cloudformation:DeleteStack",
    "cloudformation:GetTemplate",
    "ecr:BatchDeleteImage",
    "ecr:DeleteRepository",
)
# Deleting what an unanswered question of prod's left.
DELETE_UNDER_REVIEW = ("cloudformation:ListChangeSets",)
# Commands of the README, and what reads the template for CloudFormation: this AWS asks nobody for
# these.
NOT_CHECKED = {
    "cloudformation:ContinueUpdateRollback",
    "cloudformation:DescribeEvents",
    "cloudformation:UpdateTerminationProtection",
    "s3:GetObject",
    "s3:GetObjectVersion",
}
# What SAM CLI itself uses; the other statements are for CloudFormation.
SAMS_OWN = ("Stacks", "ServerlessTransform", "LogInToRegistry")


@dataclass(frozen=True)
class Office:
    """An AWS that enforces policies, a built project, and who deploys it.

    Attributes:
        document: the generated policy.
        arn: its name in IAM.
    """

    aws: Aws
    project: Project
    user: User
    document: Document
    arn: str

    def root(self, service: str) -> Any:
        return client(self.aws, service, REGION)

    @property
    def stack(self) -> str:
        return Deploying(self.project.folder, self.aws, self.project.work, print).stack

    def sam(self, *words: str) -> Command:
        """Run SAM CLI as the user."""
        return self.project.sam_at(self.aws, self.user.env, *words)

    def stacks(self) -> list[str]:
        """The project's stacks: its own, and that of its image repository."""
        found = self.root("cloudformation").describe_stacks()["Stacks"]
        return [each["StackName"] for each in found if each["StackName"].startswith(self.stack)]

    @contextlib.contextmanager
    def without(self, action: str) -> Iterator[None]:
        """Take an action away from every statement for the time of the block."""
        less = copy.deepcopy(self.document)
        for statement in less["Statement"]:
            actions = as_list(statement["Action"])
            statement["Action"] = [each for each in actions if each != action]
        less["Statement"] = [each for each in less["Statement"] if each["Action"]]
        assert less != self.document
        self._put(less)
        try:
            yield
        finally:
            self._put(self.document)

    def _put(self, document: Document) -> None:
        root, named = self.root("iam"), {"PolicyArn": self.arn}
        root.create_policy_version(**named, PolicyDocument=json.dumps(document), SetAsDefault=True)
        for version in root.list_policy_versions(**named)["Versions"]:
            if not version["IsDefaultVersion"]:  # five is the most
                root.delete_policy_version(**named, VersionId=version["VersionId"])

    def clear(self) -> None:
        """Delete, as root, whatever an earlier test left of the project."""
        ecr, formation = self.root("ecr"), self.root("cloudformation")
        for repository in ecr.describe_repositories()["repositories"]:
            ecr.delete_repository(repositoryName=repository["repositoryName"], force=True)
        for name in self.stacks():
            formation.delete_stack(StackName=name)
        wait_until(lambda: not self.stacks(), "the stacks' end", 30)
        s3, logs = self.root("s3"), self.root("logs")
        for bucket in (each["Name"] for each in s3.list_buckets()["Buckets"]):
            if bucket.startswith("covalent-lambda"):
                s3.delete_bucket(Bucket=bucket)
                continue
            # SAM CLI does not upload again what is there: templates, in its own bucket.
            for each in s3.list_object_versions(Bucket=bucket).get("Versions", []):
                s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        for group in logs.describe_log_groups()["logGroups"]:
            logs.delete_log_group(logGroupName=group["logGroupName"])

    def decisions(self, actions: list[str], resource: str) -> dict[str, str]:
        """What IAM's simulator says of the user's actions on a resource."""
        answers = self.root("iam").simulate_principal_policy(
            PolicySourceArn=self.user.arn, ActionNames=actions, ResourceArns=[resource]
        )["EvaluationResults"]
        return {each["EvalActionName"]: each["EvalDecision"] for each in answers}


@pytest.fixture(scope="module")
def office(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Everything ready for the user's first `sam deploy`."""
    problem = harness.why_no_push(REGION)
    if problem:
        pytest.skip(problem)
    work: Path = tmp_path_factory.mktemp("deployer")
    answers = {"project_name": "covalent-lambda-deployer", "python_version": PYTHON}
    folder = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
    project = Project(folder, work, docker)
    built = project.sam("build")
    assert built.code == 0, str(built)
    document = json.loads((folder / "docs" / "deployer-policy.json").read_text(encoding="utf-8"))
    with running_aws(work / "aws", auth=True) as aws:
        user = iam.create_user(aws, "deployer")
        arn = client(aws, "iam", REGION).create_policy(
            PolicyName="deployer", PolicyDocument=json.dumps(document)
        )["Policy"]["Arn"]
        with user.holding(arn):
            ready = Office(aws, project, user, document, arn)
            refuse_plain_http_once(ready)
            yield ready
    project.prune_images()


def refuse_plain_http_once(office: Office) -> None:
    """SAM CLI's own bucket denies whatever comes without TLS, and this AWS has none."""
    refused = office.sam("deploy")
    assert "AccessDenied" in refused.stderr, str(refused)
    s3 = office.root("s3")
    (bucket,) = (each["Name"] for each in s3.list_buckets()["Buckets"])
    s3.delete_bucket_policy(Bucket=bucket)
    office.clear()


@pytest.fixture
def empty(office: Office) -> Office:
    """Nothing of the project is deployed."""
    office.clear()
    return office


@pytest.fixture
def standing(office: Office) -> Office:
    """The project is deployed, by the user."""
    if len(office.stacks()) != 2:
        office.clear()
        deployed = office.sam("deploy")
        assert deployed.code == 0, str(deployed)
    return office


def test_policy_suffices(empty: Office) -> None:
    """With the generated policy, and no other, a stack is deployed, updated and deleted."""
    deployed = empty.sam("deploy")
    assert deployed.code == 0, str(deployed)
    config = empty.project.folder / "samconfig.toml"
    text = config.read_text(encoding="utf-8")
    # This AWS refuses an unchanged stack of repositories, so the same one is named instead.
    (repository,) = empty.root("ecr").describe_repositories()["repositories"]
    named = f'image_repository = "{repository["repositoryUri"]}"'
    changed = text.replace("resolve_image_repos = true", named, 1)
    config.write_text(changed.replace("MemorySize=1769", "MemorySize=2048", 1), encoding="utf-8")
    try:
        updated = empty.sam("deploy")
        assert updated.code == 0, str(updated)
        deleted = empty.sam("delete", "--no-prompts")
    finally:
        config.write_text(text, encoding="utf-8")
    assert deleted.code == 0, str(deleted)
    assert "Deleted successfully" in deleted.stdout
    assert empty.stacks() == []


@pytest.mark.parametrize("action", DEPLOY)
def test_deploying_needs(empty: Office, action: str) -> None:
    """Without this action `sam deploy` fails."""
    with empty.without(action):
        refused = empty.sam("deploy")
    assert refused.code != 0, str(refused)
    # Who may not describe a stack is not told so: SAM CLI takes it for one that is not there.
    reason = {"cloudformation:DescribeStacks": r"\[InitialCreation\] already exists"}
    expected = reason.get(action, f"not authorized to perform: {action}")
    assert re.search(expected, refused.stdout + refused.stderr), str(refused)


@pytest.mark.parametrize("action", DEPLOY_AGAIN)
def test_deploying_again_needs(standing: Office, action: str) -> None:
    """Without this action a second `sam deploy` fails."""
    config = standing.project.folder / "samconfig.toml"
    text = config.read_text(encoding="utf-8")
    if action.endswith("Summary"):  # asked for after the stack of repositories, see above
        (repository,) = standing.root("ecr").describe_repositories()["repositories"]
        named = f'image_repository = "{repository["repositoryUri"]}"'
        config.write_text(text.replace("resolve_image_repos = true", named, 1), encoding="utf-8")
    try:
        with standing.without(action):
            refused = standing.sam("deploy")
    finally:
        config.write_text(text, encoding="utf-8")
    assert refused.code != 0, str(refused)
    assert f"not authorized to perform: {action}" in refused.stdout + refused.stderr, str(refused)


@pytest.mark.parametrize("action", DELETE)
def test_deleting_needs(standing: Office, action: str) -> None:
    """Without this action `sam delete` fails."""
    with standing.without(action):
        refused = standing.sam("delete", "--no-prompts")
    assert refused.code != 0, str(refused)
    assert f"not authorized to perform: {action}" in refused.stdout + refused.stderr, str(refused)


@pytest.mark.parametrize("action", DELETE_UNDER_REVIEW)
def test_deleting_what_nobody_confirmed_needs(empty: Office, action: str) -> None:
    """prod asks, and nobody answers: without this action, what that left cannot be deleted; with
    it, it can."""
    asked = empty.sam("deploy", "--config-env", "prod")
    assert asked.code != 0
    delete = ("delete", "--config-env", "prod", "--no-prompts")
    with empty.without(action):
        refused = empty.sam(*delete)
    assert refused.code != 0, str(refused)
    assert f"not authorized to perform: {action}" in refused.stdout + refused.stderr, str(refused)
    deleted = empty.sam(*delete)
    assert deleted.code == 0, str(deleted)


def test_no_action_is_forgotten(office: Office) -> None:
    """Each action that SAM CLI itself uses is taken away by a test, or is known not to be checked
    here."""
    found = set()
    for statement in office.document["Statement"]:
        if statement["Sid"] in SAMS_OWN:
            found |= set(as_list(statement["Action"]))
    tested = {*DEPLOY, *DEPLOY_AGAIN, *DELETE, *DELETE_UNDER_REVIEW}
    assert found - tested <= NOT_CHECKED
    everywhere = {a for each in office.document["Statement"] for a in as_list(each["Action"])}
    assert tested | NOT_CHECKED <= everywhere


def arns(office: Office) -> dict[str, str]:
    """A resource of the deployed stack for each statement that CloudFormation uses."""
    resources = office.root("cloudformation").list_stack_resources(StackName=office.stack)
    names = {
        each["LogicalResourceId"]: each["PhysicalResourceId"]
        for each in resources["StackResourceSummaries"]
    }
    (function,) = (name for logical, name in names.items() if logical[:-8] == "ElectronFunction")
    (repository,) = office.root("ecr").describe_repositories()["repositories"]
    account = repository["registryId"]
    role = office.root("iam").get_role(RoleName=names["FunctionRole"])["Role"]["Arn"]
    return {
        "Images": repository["repositoryArn"],
        "Function": f"arn:aws:lambda:{REGION}:{account}:function:{function}",
        "RoleOfTheFunction": role,
        "GiveItToLambda": role,
        "PolicyOfTheExecutor": names["ExecutorPolicy"],
        "Bucket": f"arn:aws:s3:::{names['TransferBucket']}",
        "Log": f"arn:aws:logs:{REGION}:{account}:log-group:{names['FunctionLogGroup']}",
        "Alarms": f"arn:aws:cloudwatch:{REGION}:{account}:alarm:{office.stack}-LongInvocations-X",
    }


def test_cloudformation_may_act_on_what_the_stack_has(standing: Office) -> None:
    """IAM's simulator allows each action on the resource of the stack that it is for, and none of
    them on another project's."""
    found = arns(standing)
    statements = {each["Sid"]: each for each in standing.document["Statement"]}
    rest = {*SAMS_OWN, "BucketOfSamCli", "LookAround"}
    assert set(found) == set(statements) - rest
    # The simulator of this AWS takes no context: it cannot say which service a role is passed to.
    assert set(statements["GiveItToLambda"]["Condition"]) == {"StringEquals"}
    del found["GiveItToLambda"]
    for sid, resource in found.items():
        actions = as_list(statements[sid]["Action"])
        allowed = standing.decisions(actions, resource)
        assert set(allowed.values()) == {"allowed"}, (sid, allowed)
        start = "covalentlambdadeployer" if sid == "Images" else "covalent-lambda-deployer"
        assert start in resource, (sid, resource)
        others = standing.decisions(actions, resource.replace(start, "another"))
        assert "allowed" not in others.values(), (sid, others)


def test_deployer_may_do_nothing_else(standing: Office) -> None:
    """Who deploys may not invoke the function, read its data, or touch anything else."""
    found = arns(standing)
    bucket, function = (found[name].rpartition(":")[2] for name in ("Bucket", "Function"))
    requests: tuple[Request, ...] = (
        ("lambda", "invoke", {"FunctionName": function}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "blobs/any"}),
        ("s3", "put_object", {"Bucket": bucket, "Key": "blobs/any"}),
        ("s3", "list_buckets", {}),
        ("iam", "create_user", {"UserName": "another"}),
        ("iam", "create_access_key", {"UserName": "deployer"}),
        ("iam", "attach_user_policy", {"UserName": "deployer", "PolicyArn": standing.arn}),
        ("cloudformation", "delete_stack", {"StackName": "aws-sam-cli-managed-other"}),
        ("logs", "delete_log_group", {"logGroupName": "/aws/lambda/another"}),
        ("ecr", "delete_repository", {"repositoryName": "another"}),
    )
    answers = [(each, standing.user.refusal(REGION, each)) for each in requests]
    assert [each for each in answers if each[1] not in DENIED] == []
