"""Least privilege, shown by taking it away: an AWS on this machine that enforces IAM policies.

    IAM user that holds ExecutorPolicy only ──► executor ──► function under FunctionRole only

Everything works with the generated policies; without any single action of either, the check named
for it fails. The function's code runs in a worker process of the embedded AWS, with credentials of
its role: no Docker is needed. What the embedded AWS does not model stands in NOT_SHOWN, and a test
watches that this is still so.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import WORKFLOWS, Command

from sandbox import environment
from sandbox.aws import Aws, running_aws
from sandbox.deploying import Deploying, client, deploy, scaffold

PROJECT = "covalent-lambda-iam"
SCRIPT = WORKFLOWS / "least_privilege.py"
RESULT_BYTES = 9 * 1024 * 1024
ELECTRON_SECONDS = 120.0
DENIED = {"AccessDenied", "AccessDeniedException"}

Document = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """The deployed stack, and a user who holds nothing but the generated policy.

    Attributes:
        aws: the embedded AWS; its own keys are the account's root user.
        work: a folder for homes.
        outputs: the stack's outputs.
        stack: the stack's name.
        keys: the user's credentials, as environment variables.
    """

    aws: Aws
    work: Path
    region: str
    stack: str
    outputs: dict[str, str]
    keys: dict[str, str]

    def root(self, service: str) -> Any:
        """A client of the account's root user, who may do everything."""
        return client(self.aws, service, self.region)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program that runs as the user."""
        env = environment.clean(os.environ, home=self.work / "home", python=Path(sys.executable))
        return {**env, **self.aws.env, **self.keys, "AWS_DEFAULT_REGION": self.region}

    def run(self, kind: str) -> Command:
        """Run one electron as the user; `kind` as SCRIPT takes it."""
        names = (self.outputs["FunctionName"], self.outputs["BucketName"])
        command = [sys.executable, str(SCRIPT), kind, *names]
        return harness.run(command, self.work, self.env, ELECTRON_SECONDS)

    def call(self, *requests: tuple[str, str, dict[str, Any]]) -> list[str]:
        """Requests from inside the function, under its role: "ok", or the error's code."""
        answer = self.run(json.dumps(requests)).json
        assert answer["status"] == "COMPLETED", answer
        codes: list[str] = answer["value"]
        return codes

    def objects(self, prefix: str) -> list[str]:
        """Keys below a prefix."""
        bucket = self.outputs["BucketName"]
        found = self.root("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]

    def written(self, name: str) -> bool:
        """Whether an object of this name was ever written: versions outlive their deletion."""
        bucket = self.outputs["BucketName"]
        found = self.root("s3").list_object_versions(Bucket=bucket, Prefix="tasks/")
        return any(each["Key"].endswith(f"/{name}") for each in found.get("Versions", []))

    def empty(self) -> None:
        """Delete what an earlier check left."""
        s3, bucket = self.root("s3"), self.outputs["BucketName"]
        for key in self.objects(""):
            s3.delete_object(Bucket=bucket, Key=key)

    # -- the two policies --------------------------------------------------------------------

    @property
    def role(self) -> str:
        return self.outputs["FunctionRoleArn"].rpartition("/")[2]

    def document(self, policy: str) -> Document:
        """The policy in force: of "FunctionRole" or "ExecutorPolicy"."""
        iam = self.root("iam")
        if policy == "FunctionRole":
            (name,) = iam.list_role_policies(RoleName=self.role)["PolicyNames"]
            found = iam.get_role_policy(RoleName=self.role, PolicyName=name)["PolicyDocument"]
        else:
            arn = self.outputs["ExecutorPolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            answer = iam.get_policy_version(PolicyArn=arn, VersionId=version)
            found = answer["PolicyVersion"]["Document"]
        return dict(found)

    @contextlib.contextmanager
    def in_force(self, policy: str, document: Document) -> Iterator[None]:
        """Replace a policy's document for the time of the block."""
        before, text = self.document(policy), json.dumps(document)
        iam = self.root("iam")
        if policy == "FunctionRole":
            (name,) = iam.list_role_policies(RoleName=self.role)["PolicyNames"]
            named = {"RoleName": self.role, "PolicyName": name}
            iam.put_role_policy(**named, PolicyDocument=text)
            try:
                yield
            finally:
                iam.put_role_policy(**named, PolicyDocument=json.dumps(before))
            return
        self._make_default(text)
        try:
            yield
        finally:
            self._make_default(json.dumps(before))

    def _make_default(self, document: str) -> None:
        """Give the managed policy a new version, and delete the others: five is the most."""
        iam, named = self.root("iam"), {"PolicyArn": self.outputs["ExecutorPolicyArn"]}
        iam.create_policy_version(**named, PolicyDocument=document, SetAsDefault=True)
        for version in iam.list_policy_versions(**named)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(**named, VersionId=version["VersionId"])


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The stack, deployed by `sam deploy` with IAM policies enforced."""
    work = tmp_path_factory.mktemp("least-privilege")
    answers = {"project_name": PROJECT, "python_version": harness.PYTHON}
    project = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
    with running_aws(work / "aws", auth=True, with_docker=False) as aws:
        deployed = deploy(project, aws, "worker", work=work / "deploy")
        iam = client(aws, "iam", deployed.region)
        iam.create_user(UserName="covalent")
        arn = deployed.outputs["ExecutorPolicyArn"]
        iam.attach_user_policy(UserName="covalent", PolicyArn=arn)
        key = iam.create_access_key(UserName="covalent")["AccessKey"]
        keys = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        stack = Deploying(project, aws, work, print).stack
        outputs = dict(deployed.outputs)
        yield Account(aws, work, deployed.region, stack, outputs, keys)


@pytest.fixture(scope="module")
def over_http(account: Account) -> Command:
    """A large argument, sent while the bucket's policy is as generated: refused, as this AWS has
    no TLS. Then the policy is taken away, so that everything else can be shown at all."""
    refused = account.run("large_argument")
    account.root("s3").delete_bucket_policy(Bucket=account.outputs["BucketName"])
    return refused


@pytest.fixture
def ready(account: Account, over_http: Command) -> Account:
    """The account, its bucket empty."""
    account.empty()
    return account


# -- the checks: each does what users do, and names what it needs ------------------------------


def electron_runs(account: Account) -> None:
    """A trivial electron."""
    answer = account.run("trivial").json
    assert (answer["status"], answer["value"]) == ("COMPLETED", 42), answer["stderr"]


def argument_arrives(account: Account) -> None:
    """An argument of 9 MB."""
    answer = account.run("large_argument").json
    assert answer["status"] == "COMPLETED", answer["stderr"]
    assert [answer["value"]] == answer["sent"]


def argument_is_deleted(account: Account) -> None:
    """Nothing is left of a large argument."""
    argument_arrives(account)
    assert account.objects("blobs/") == []


def result_arrives(account: Account) -> None:
    """A result of 9 MB."""
    answer = account.run("large_result").json
    assert answer["status"] == "COMPLETED", answer["stderr"]
    assert answer["value"] == hashlib.sha256(b"\x5a" * RESULT_BYTES).hexdigest()


def result_is_deleted(account: Account) -> None:
    """Nothing is left of a large result."""
    result_arrives(account)
    assert account.objects("tasks/") == []


def cancelling_stops(account: Account) -> None:
    """A cancelled electron stops within seconds, and what it had printed is there."""
    answer = account.run("cancelled").json
    assert answer["status"] == "CANCELLED", answer["stderr"]
    assert "runs on" not in answer["stderr"], answer["stderr"]
    assert answer["stdout"] == "started\n"
    assert answer["seconds"] < 15


def long_task_leaves_outcome(account: Account) -> None:
    """A task of 20 s leaves its outcome in the bucket; nothing of it stays."""
    answer = account.run("long").json
    assert (answer["status"], answer["value"]) == ("COMPLETED", "slept"), answer["stderr"]
    assert account.written("outcome")
    assert account.objects("tasks/") == []


def names_come_from_stack(account: Account) -> None:
    """An executor whose samconfig.toml lacks the names reads them from the stack's outputs."""
    folder = account.work / "names"
    folder.mkdir(exist_ok=True)
    (folder / "samconfig.toml").write_text(
        "version = 0.1\n[default.global.parameters]\n"
        f'stack_name = "{account.stack}"\nregion = "{account.region}"\n'
    )
    program = (
        "import json; from covalent.executor import AWSLambdaExecutor as E; "
        "e = E(samconfig='samconfig.toml'); print(json.dumps([e.function_name, e.s3_bucket_name]))"
    )
    command = [sys.executable, "-c", program]
    done = harness.run(command, folder, account.env, ELECTRON_SECONDS)
    assert done.json == [account.outputs["FunctionName"], account.outputs["BucketName"]]


def log_has_lines(account: Account) -> None:
    """The function's log group holds what the platform says of an invocation."""
    logs, name = account.root("logs"), f"/aws/lambda/{account.outputs['FunctionName']}"
    for stream in logs.describe_log_streams(logGroupName=name)["logStreams"]:
        logs.delete_log_stream(logGroupName=name, logStreamName=stream["logStreamName"])
    electron_runs(account)
    assert logs.filter_log_events(logGroupName=name)["events"]


Check = Callable[[Account], None]


@dataclass(frozen=True)
class Permission:
    """One action of a statement of one of the two policies, for objects below one prefix."""

    policy: str
    sid: str
    action: str
    prefix: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.policy, self.sid, self.action, self.prefix)))


FUNCTION_TASKS = ("FunctionRole", "ReadCancelMarksAndWriteResults")
EXCHANGE = ("ExecutorPolicy", "ExchangeArgumentsAndResults")
LIST = ("TellMissingFromForbidden", "s3:ListBucket")

# What each is for, and how it shows that it is missing.
NEEDED: dict[Permission, tuple[Check, str]] = {
    Permission("FunctionRole", "ReadArguments", "s3:GetObject", "blobs/"): (
        argument_arrives,
        r"The function cannot read blobs/.*AccessDenied",
    ),
    Permission(*FUNCTION_TASKS, "s3:GetObject", "tasks/"): (cancelling_stops, r"'started\\n'"),
    Permission(*FUNCTION_TASKS, "s3:PutObject", "tasks/"): (
        result_arrives,
        r"could not be stored in bucket .*AccessDenied",
    ),
    Permission("ExecutorPolicy", "RunElectrons", "lambda:InvokeFunction"): (
        electron_runs,
        r"Access denied: lambda:InvokeFunction",
    ),
    Permission(*EXCHANGE, "s3:GetObject", "blobs/"): (
        argument_arrives,
        r"Access denied: s3:GetObject",
    ),
    Permission(*EXCHANGE, "s3:GetObject", "tasks/"): (
        result_arrives,
        r"Access denied: s3:GetObject",
    ),
    Permission(*EXCHANGE, "s3:PutObject", "blobs/"): (
        argument_arrives,
        r"Access denied: s3:PutObject",
    ),
    Permission(*EXCHANGE, "s3:PutObject", "tasks/"): (
        cancelling_stops,
        r"Access denied: s3:PutObject",
    ),
    Permission(*EXCHANGE, "s3:DeleteObject", "blobs/"): (argument_is_deleted, r"'blobs/"),
    Permission(*EXCHANGE, "s3:DeleteObject", "tasks/"): (result_is_deleted, r"'tasks/.*/result'"),
    Permission("ExecutorPolicy", "ReadStackOutputs", "cloudformation:DescribeStacks"): (
        names_come_from_stack,
        r"not authorized to perform: cloudformation:DescribeStacks",
    ),
}

# This AWS's Lambda writes logs by itself, not in the role's name. Real S3 answers 403 for a
# missing key to whoever may not list the bucket; this one answers 404.
NOT_SHOWN: dict[Permission, Check] = {
    Permission("FunctionRole", "WriteOwnLog", "logs:CreateLogStream"): log_has_lines,
    Permission("FunctionRole", "WriteOwnLog", "logs:PutLogEvents"): log_has_lines,
    Permission("FunctionRole", *LIST): cancelling_stops,
    Permission("ExecutorPolicy", *LIST): argument_arrives,
}

CHECKS = (*dict.fromkeys(check for check, _ in NEEDED.values()), long_task_leaves_outcome)


def without(document: Document, permission: Permission) -> Document:
    """The policy's document less one permission."""
    less, action, prefix = copy.deepcopy(document), permission.action, permission.prefix
    (statement,) = [each for each in less["Statement"] if each["Sid"] == permission.sid]
    resources = as_list(statement["Resource"])
    taken = [each for each in resources if each.endswith(f"/{prefix}*")] if prefix else resources
    kept = [each for each in resources if each not in taken]
    actions = as_list(statement["Action"])
    assert action in actions
    assert taken
    less["Statement"].remove(statement)
    for what, where in (
        ([each for each in actions if each != action], taken),
        (actions, kept),
    ):
        if what and where:
            sid = f"Left{len(less['Statement'])}"
            less["Statement"].append({**statement, "Sid": sid, "Action": what, "Resource": where})
    return less


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def test_bucket_refuses_plain_http(over_http: Command) -> None:
    """The bucket's own policy denies what comes without TLS, whatever the caller may do."""
    answer = over_http.json
    assert answer["status"] == "FAILED"
    assert "Access denied" in answer["stderr"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_generated_policies_suffice(ready: Account, check: Check) -> None:
    """With the generated policies, and no other, everything works."""
    check(ready)


@pytest.mark.parametrize("missing", NEEDED, ids=str)
def test_each_action_is_needed(ready: Account, missing: Permission) -> None:
    """Without one action, the check that is named for it fails, for this reason."""
    check, reason = NEEDED[missing]
    less = without(ready.document(missing.policy), missing)
    fails = pytest.raises(AssertionError, match=f"(?s){reason}")
    with ready.in_force(missing.policy, less), fails:
        check(ready)


@pytest.mark.parametrize("missing", NOT_SHOWN, ids=str)
def test_not_modelled_here(ready: Account, missing: Permission) -> None:
    """This AWS does not tell these actions' absence. If that changes, they belong into NEEDED."""
    with ready.in_force(missing.policy, without(ready.document(missing.policy), missing)):
        NOT_SHOWN[missing](ready)


def test_no_action_is_forgotten(ready: Account) -> None:
    """Every action of both policies, for every prefix, is taken away by a test."""
    found = set()
    for policy in ("FunctionRole", "ExecutorPolicy"):
        for statement in ready.document(policy)["Statement"]:
            resources = as_list(statement["Resource"])
            objects = [each for each in resources if ":s3:" in each and "/" in each]
            prefixes = [each.split("/", 1)[1].rstrip("*") for each in objects]
            for action in as_list(statement["Action"]):
                found |= {
                    Permission(policy, statement["Sid"], action, each) for each in prefixes or [""]
                }
    assert found == set(NEEDED) | set(NOT_SHOWN)


def test_function_may_do_nothing_else(ready: Account) -> None:
    """From inside the function: no other object, no other log, no invocation, no stack."""
    bucket, function = ready.outputs["BucketName"], ready.outputs["FunctionName"]
    requests: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("s3", "put_object", {"Bucket": bucket, "Key": "blobs/forged"}),
        ("s3", "put_object", {"Bucket": bucket, "Key": "elsewhere"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "elsewhere"}),
        ("s3", "delete_object", {"Bucket": bucket, "Key": "tasks/any/result"}),
        ("s3", "list_buckets", {}),
        ("logs", "create_log_group", {"logGroupName": "/aws/lambda/new"}),
        ("logs", "describe_log_groups", {}),
        ("lambda", "invoke", {"FunctionName": function}),
        ("iam", "list_roles", {}),
        ("cloudformation", "describe_stacks", {"StackName": ready.stack}),
    )
    answers = dict(zip([each[:2] for each in requests], ready.call(*requests), strict=True))
    assert set(answers.values()) <= DENIED, answers


def test_user_may_do_nothing_else(ready: Account) -> None:
    """The executor's user reaches no other object, and changes neither function nor policies."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    session = boto3.session.Session(
        ready.keys["AWS_ACCESS_KEY_ID"],
        ready.keys["AWS_SECRET_ACCESS_KEY"],
        region_name=ready.region,
    )
    bucket, function = ready.outputs["BucketName"], ready.outputs["FunctionName"]
    for service, operation, arguments in (
        ("s3", "put_object", {"Bucket": bucket, "Key": "elsewhere"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "elsewhere"}),
        ("s3", "put_bucket_policy", {"Bucket": bucket, "Policy": "{}"}),
        ("s3", "delete_bucket", {"Bucket": bucket}),
        ("lambda", "get_function", {"FunctionName": function}),
        ("lambda", "update_function_configuration", {"FunctionName": function, "Timeout": 1}),
        ("lambda", "list_functions", {}),
        ("logs", "describe_log_groups", {}),
        ("iam", "list_users", {}),
        ("cloudformation", "list_stacks", {}),
        ("cloudformation", "delete_stack", {"StackName": ready.stack}),
    ):
        made = session.client(
            service,
            endpoint_url=ready.aws.endpoint_url,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        with pytest.raises(ClientError) as refusal:
            getattr(made, operation)(**arguments)
        code = refusal.value.response["Error"]["Code"]
        assert code in DENIED, (service, operation, code)


def test_everything_on_deploys(tmp_path: Path) -> None:
    """With every comment of samconfig.toml filled in, `sam deploy` creates the stack: the role has
    what each needs, the log its key. (This AWS ignores VPC, concurrency and the bucket's key.)"""
    project = scaffold(tmp_path / "projects", log=tmp_path / "cookiecutter.log")
    with running_aws(tmp_path / "aws", with_docker=False) as aws:
        key = client(aws, "kms", "us-east-1").create_key()["KeyMetadata"]["Arn"]
        config = project / "samconfig.toml"
        text = config.read_text(encoding="utf-8").replace('    # "', '    "')
        for placeholder, value in (
            ("arn:aws:kms:us-east-1:<account>:key/<id>", key),
            ("subnet-<id>", "subnet-0123456789abcdef0"),
            ("sg-<id>", "sg-0123456789abcdef0"),
            ("ReservedConcurrency=-1", "ReservedConcurrency=5"),
            ("Tracing=Disabled", "Tracing=Active"),
        ):
            text = text.replace(placeholder, value)
        config.write_text(text, encoding="utf-8")
        deployed = deploy(project, aws, "worker", work=tmp_path / "deploy")
        iam = client(aws, "iam", deployed.region)
        role = deployed.outputs["FunctionRoleArn"].rpartition("/")[2]
        policies = iam.list_role_policies(RoleName=role)["PolicyNames"]
        assert sorted(policies) == ["electron", "network", "traces"]
        electron = iam.get_role_policy(RoleName=role, PolicyName="electron")
        statements = electron["PolicyDocument"]["Statement"]
        resources = {each["Sid"]: each["Resource"] for each in statements}
        assert resources["UseKeyThroughBucket"] == key
        logs = client(aws, "logs", deployed.region).describe_log_groups()["logGroups"]
        assert [each["kmsKeyId"] for each in logs] == [key]
        name = deployed.outputs["FunctionName"]
        function = client(aws, "lambda", deployed.region).get_function(FunctionName=name)
        assert function["Configuration"]["TracingConfig"] == {"Mode": "Active"}
