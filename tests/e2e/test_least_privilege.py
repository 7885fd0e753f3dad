"""Least privilege, shown by taking it away: an AWS on this machine that enforces IAM policies.

    IAM user that holds ExecutorPolicy only ──► executor ──► function under FunctionRole only

Everything works with the generated policies; without any single action of either, the check named
for it fails. The function's code runs in a worker process of the embedded AWS, with credentials of
its role: no Docker is needed. What the embedded AWS does not model stands in WITHOUT_EFFECT, and a
test watches that this is still so.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import iam
import pytest
from botocore.exceptions import ClientError
from functions import envelope
from harness import WORKFLOWS, Command
from iam import DENIED, Request, User, as_list

from sandbox import environment
from sandbox.aws import ACCOUNT, Aws, running_aws
from sandbox.deploying import Deploying, client, deploy, scaffold

PROJECT = "covalent-lambda-iam"
SCRIPT = WORKFLOWS / "least_privilege.py"
RESULT_BYTES = 9 * 1024 * 1024
TEXT_CHARACTERS = 2 * 1024 * 1024
ELECTRON_SECONDS = 120.0

Document = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """The deployed stack, and a user who holds nothing but the generated policy.

    Attributes:
        aws: the embedded AWS; its own keys are the account's root user.
        user: who holds the generated ExecutorPolicy.
        work: a folder for homes.
        outputs: the stack's outputs.
        stack: the stack's name.
    """

    aws: Aws
    user: User
    work: Path
    region: str
    stack: str
    outputs: dict[str, str]

    def root(self, service: str) -> Any:
        """A client of the account's root user, who may do everything."""
        return client(self.aws, service, self.region)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program that runs as the user."""
        env = environment.clean(os.environ, home=self.work / "home", python=Path(sys.executable))
        return {**env, **self.user.env, "AWS_DEFAULT_REGION": self.region}

    def run(self, kind: str) -> Command:
        """Run one electron as the user; `kind` as SCRIPT takes it."""
        names = (self.outputs["FunctionName"], self.outputs["BucketName"])
        command = [sys.executable, str(SCRIPT), kind, *names]
        return harness.run(command, self.work, self.env, ELECTRON_SECONDS)

    def call(self, *requests: Request) -> list[str]:
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
    def inline(self) -> dict[str, str]:
        """The role's policy, as IAM's requests name it."""
        role = self.outputs["FunctionRoleArn"].rpartition("/")[2]
        (name,) = self.root("iam").list_role_policies(RoleName=role)["PolicyNames"]
        return {"RoleName": role, "PolicyName": name}

    @property
    def managed(self) -> dict[str, str]:
        """The executor's policy, as IAM's requests name it."""
        return {"PolicyArn": self.outputs["ExecutorPolicyArn"]}

    def document(self, policy: str) -> Document:
        """The policy in force: of "FunctionRole" or "ExecutorPolicy"."""
        root = self.root("iam")
        if policy == "FunctionRole":
            return dict(root.get_role_policy(**self.inline)["PolicyDocument"])
        version = root.get_policy(**self.managed)["Policy"]["DefaultVersionId"]
        answer = root.get_policy_version(**self.managed, VersionId=version)
        return dict(answer["PolicyVersion"]["Document"])

    @contextlib.contextmanager
    def in_force(self, policy: str, document: Document) -> Iterator[None]:
        """Replace a policy's document for the time of the block."""
        before = self.document(policy)
        self._put(policy, document)
        try:
            yield
        finally:
            self._put(policy, before)

    def _put(self, policy: str, document: Document) -> None:
        root, text = self.root("iam"), json.dumps(document)
        if policy == "FunctionRole":
            root.put_role_policy(**self.inline, PolicyDocument=text)
            return
        root.create_policy_version(**self.managed, PolicyDocument=text, SetAsDefault=True)
        for version in root.list_policy_versions(**self.managed)["Versions"]:
            if not version["IsDefaultVersion"]:  # five is the most
                root.delete_policy_version(**self.managed, VersionId=version["VersionId"])


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The stack, deployed by `sam deploy` with IAM policies enforced."""
    work = tmp_path_factory.mktemp("least-privilege")
    answers = {"project_name": PROJECT, "python_version": harness.PYTHON}
    project = scaffold(work / "projects", answers=answers, log=work / "cookiecutter.log")
    with running_aws(work / "aws", auth=True, with_docker=False) as aws:
        deployed = deploy(project, aws, "worker", work=work / "deploy")
        outputs = dict(deployed.outputs)
        user = iam.create_user(aws, "covalent")
        stack = Deploying(project, aws, work, print).stack
        with user.holding(outputs["ExecutorPolicyArn"]):
            yield Account(aws, user, work, deployed.region, stack, outputs)


@pytest.fixture(scope="module")
def over_http(account: Account) -> Command:
    """A large argument, sent while the bucket's policy is as generated; then it is taken away."""
    refused = account.run("large_argument")
    iam.allow_plain_http(account.user, account.region, account.outputs["BucketName"])
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


def long_text_arrives(account: Account) -> None:
    """A result whose text is too long for the answer."""
    answer = account.run("long_text").json
    assert answer["status"] == "COMPLETED", answer["stderr"]
    assert answer["value"] == "x" * TEXT_CHARACTERS
    assert account.written("result-text")


def sign_of_life_arrives(account: Account) -> None:
    """A function that is asked whether the task runs says so."""
    _ask_for_life(account, "running")


def outcome_arrives(account: Account) -> None:
    """A function that was asked whether the task runs leaves its outcome."""
    _ask_for_life(account, "outcome")


def _ask_for_life(account: Account, name: str) -> None:
    bucket, folder = account.outputs["BucketName"], "tasks/life-0-a"
    s3 = account.user.client("s3", account.region)
    s3.put_object(Bucket=bucket, Key=f"{folder}/order", Body=b"report 1")
    event = envelope(time.sleep, 4, task_id="life-0-a", bucket=bucket)
    answer = account.user.client("lambda", account.region).invoke(
        FunctionName=account.outputs["FunctionName"],
        Payload=json.dumps(event).encode(),
        LogType="Tail",
    )
    log = base64.b64decode(answer.get("LogResult", "")).decode()
    try:
        s3.get_object(Bucket=bucket, Key=f"{folder}/{name}")
    except ClientError as error:
        raise AssertionError(f"{error}\n{log}") from error


def last_words_arrive(account: Account) -> None:
    """A task that has to be killed at its timeout leaves what it had printed."""
    answer = account.run("killed").json
    assert answer["status"] == "FAILED"
    assert answer["stdout"] == "started\nnot impressed\n", answer["stderr"]
    assert "timeout=4" in answer["stderr"]


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


def function_may_list(account: Account) -> None:
    """A list of the bucket's objects, asked for inside the function."""
    request = {"Bucket": account.outputs["BucketName"]}
    assert account.call(("s3", "list_objects_v2", request)) == ["ok"]


def user_may_list(account: Account) -> None:
    """A list of the bucket's objects, asked for by the user."""
    s3 = account.user.client("s3", account.region)
    try:
        s3.list_objects_v2(Bucket=account.outputs["BucketName"])
    except ClientError as error:
        raise AssertionError(str(error)) from error


def _simulator_allows(account: Account, who: str, actions: list[str], resource: str) -> None:
    answers = account.root("iam").simulate_principal_policy(
        PolicySourceArn=who, ActionNames=actions, ResourceArns=[resource]
    )["EvaluationResults"]
    decisions = {each["EvalActionName"]: each["EvalDecision"] for each in answers}
    assert set(decisions.values()) == {"allowed"}, decisions


def function_may_write_log(account: Account) -> None:
    """IAM's own simulator, asked about the role and a stream of the function's log group."""
    stream = f"log-group:/aws/lambda/{account.outputs['FunctionName']}:log-stream:any"
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resource = f"arn:aws:logs:{account.region}:{ACCOUNT}:{stream}"
    _simulator_allows(account, account.outputs["FunctionRoleArn"], actions, resource)


def user_may_ask_for_quota(account: Account) -> None:
    """IAM's own simulator, asked about the user and the account's settings."""
    _simulator_allows(account, account.user.arn, ["lambda:GetAccountSettings"], "*")


def user_may_ask_for_reserved(account: Account) -> None:
    """IAM's own simulator, asked about the user and what the function has reserved."""
    name = account.outputs["FunctionName"]
    resource = f"arn:aws:lambda:{account.region}:{ACCOUNT}:function:{name}"
    _simulator_allows(account, account.user.arn, ["lambda:GetFunctionConcurrency"], resource)


def quota_is_known(account: Account) -> None:
    """How many calls Lambda allows at a time, asked for by the executor's own code."""
    program = (
        "import json, sys; from lambda_calls.aws.clients import Account, Clients; "
        "from lambda_calls.aws.quota import concurrency; "
        "print(json.dumps(concurrency(Clients(), Account(region=sys.argv[1]), sys.argv[2])))"
    )
    names = account.region, account.outputs["FunctionName"]
    command = [sys.executable, "-c", program, *names]
    known = harness.run(command, account.work, account.env, ELECTRON_SECONDS).json
    assert isinstance(known, int), known


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
    """One action of a statement of one of the two policies, on one pattern of objects' names."""

    policy: str
    sid: str
    action: str
    objects: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.policy, self.sid, self.action, self.objects)))


WRITE_RESULTS = ("FunctionRole", "WriteResults", "s3:PutObject")
KEEP_ARGUMENTS = ("ExecutorPolicy", "KeepArguments")
READ_RESULTS = ("ExecutorPolicy", "ReadResults", "s3:GetObject")
LIST = ("TellMissingFromForbidden", "s3:ListBucket")

# What each is for, and how it shows that it is missing.
NEEDED: dict[Permission, tuple[Check, str]] = {
    Permission("FunctionRole", "ReadArguments", "s3:GetObject", "blobs/*"): (
        argument_arrives,
        r"The function cannot read blobs/.*AccessDenied",
    ),
    Permission("FunctionRole", "LookForOrders", "s3:GetObject", "tasks/*/order"): (
        cancelling_stops,
        r"'started\\n'",
    ),
    Permission(*WRITE_RESULTS, "tasks/*/running"): (
        sign_of_life_arrives,
        r"cannot look for orders .*AccessDenied.*PutObject",
    ),
    Permission(*WRITE_RESULTS, "tasks/*/outcome"): (
        outcome_arrives,
        r"cannot store the outcome .*AccessDenied",
    ),
    Permission(*WRITE_RESULTS, "tasks/*/result"): (
        result_arrives,
        r"could not be stored in bucket .*AccessDenied",
    ),
    Permission(*WRITE_RESULTS, "tasks/*/result-text"): (
        long_text_arrives,
        r"could not be stored in bucket .*AccessDenied",
    ),
    Permission("ExecutorPolicy", "RunElectrons", "lambda:InvokeFunction"): (
        electron_runs,
        r"Access denied: lambda:InvokeFunction",
    ),
    Permission("ExecutorPolicy", "RunElectrons", "lambda:GetFunctionConcurrency"): (
        user_may_ask_for_reserved,
        r"'lambda:GetFunctionConcurrency': 'implicitDeny'",
    ),
    Permission("ExecutorPolicy", "ReadQuota", "lambda:GetAccountSettings"): (
        user_may_ask_for_quota,
        r"'lambda:GetAccountSettings': 'implicitDeny'",
    ),
    Permission(*KEEP_ARGUMENTS, "s3:GetObject", "blobs/*"): (
        argument_arrives,
        r"Access denied: s3:GetObject",
    ),
    Permission(*KEEP_ARGUMENTS, "s3:PutObject", "blobs/*"): (
        argument_arrives,
        r"Access denied: s3:PutObject",
    ),
    Permission(*KEEP_ARGUMENTS, "s3:DeleteObject", "blobs/*"): (argument_is_deleted, r"'blobs/"),
    Permission(*READ_RESULTS, "tasks/*/running"): (sign_of_life_arrives, r"AccessDenied"),
    Permission(*READ_RESULTS, "tasks/*/outcome"): (outcome_arrives, r"AccessDenied"),
    Permission(*READ_RESULTS, "tasks/*/result"): (result_arrives, r"Access denied: s3:GetObject"),
    Permission(*READ_RESULTS, "tasks/*/result-text"): (
        long_text_arrives,
        r"Access denied: s3:GetObject",
    ),
    Permission("ExecutorPolicy", "LeaveOrders", "s3:PutObject", "tasks/*/order"): (
        cancelling_stops,
        r"Access denied: s3:PutObject",
    ),
    Permission("ExecutorPolicy", "DeleteWhatTasksLeft", "s3:DeleteObject", "tasks/*"): (
        result_is_deleted,
        r"'tasks/.*/result'",
    ),
    Permission("ExecutorPolicy", "ReadStackOutputs", "cloudformation:DescribeStacks"): (
        names_come_from_stack,
        r"not authorized to perform: cloudformation:DescribeStacks",
    ),
    Permission("FunctionRole", *LIST): (function_may_list, r"AccessDenied"),
    Permission("ExecutorPolicy", *LIST): (user_may_list, r"AccessDenied"),
    Permission("FunctionRole", "WriteOwnLog", "logs:CreateLogStream"): (
        function_may_write_log,
        r"'logs:CreateLogStream': 'implicitDeny'",
    ),
    Permission("FunctionRole", "WriteOwnLog", "logs:PutLogEvents"): (
        function_may_write_log,
        r"'logs:PutLogEvents': 'implicitDeny'",
    ),
}

# Here the check asks for the permission itself, because what AWS needs it for goes well without
# it: this AWS's Lambda writes logs by itself, not in the role's name. Real S3 answers 403 for a
# missing key to whoever may not list the bucket; this one answers 404. It tells everybody what the
# account's settings are.
WITHOUT_EFFECT: dict[Permission, Check] = {
    Permission("FunctionRole", "WriteOwnLog", "logs:CreateLogStream"): log_has_lines,
    Permission("FunctionRole", "WriteOwnLog", "logs:PutLogEvents"): log_has_lines,
    Permission("ExecutorPolicy", "ReadQuota", "lambda:GetAccountSettings"): quota_is_known,
    Permission("FunctionRole", *LIST): cancelling_stops,
    Permission("ExecutorPolicy", *LIST): argument_arrives,
}

CHECKS = (
    *dict.fromkeys(check for check, _ in NEEDED.values()),
    long_task_leaves_outcome,
    last_words_arrive,
)


def without(document: Document, permission: Permission) -> Document:
    """The policy's document less one permission."""
    less, action, objects = copy.deepcopy(document), permission.action, permission.objects
    (statement,) = [each for each in less["Statement"] if each["Sid"] == permission.sid]
    resources = as_list(statement["Resource"])
    taken = [each for each in resources if each.endswith(f"/{objects}")] if objects else resources
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


@pytest.mark.parametrize("missing", WITHOUT_EFFECT, ids=str)
def test_not_modelled_here(ready: Account, missing: Permission) -> None:
    """What these actions are for goes well without them here. If that changes, NEEDED can say
    more."""
    with ready.in_force(missing.policy, without(ready.document(missing.policy), missing)):
        WITHOUT_EFFECT[missing](ready)


def test_reserved_concurrency_is_told_to_nobody_here(ready: Account) -> None:
    """This AWS takes the question for an order to reserve some, and refuses it; the executor then
    goes by the account's quota."""
    name = ready.outputs["FunctionName"]
    with pytest.raises(ClientError, match="perform: lambda:PutFunctionConcurrency"):
        ready.user.client("lambda", ready.region).get_function_concurrency(FunctionName=name)
    quota_is_known(ready)


def test_no_action_is_forgotten(ready: Account) -> None:
    """Every action of both policies, on each of its resources, is taken away by a test."""
    found = set()
    for policy in ("FunctionRole", "ExecutorPolicy"):
        for statement in ready.document(policy)["Statement"]:
            if statement["Effect"] == "Deny":
                continue
            resources = as_list(statement["Resource"])
            objects = [each for each in resources if ":s3:" in each and "/" in each]
            patterns = [each.split("/", 1)[1] for each in objects]
            for action in as_list(statement["Action"]):
                found |= {
                    Permission(policy, statement["Sid"], action, each) for each in patterns or [""]
                }
    assert found == set(NEEDED)


@pytest.mark.parametrize("policy", ["FunctionRole", "ExecutorPolicy"])
def test_bucket_of_another_account(ready: Account, policy: str) -> None:
    """Where the bucket belongs to another account than the one the policy was made in, a large
    argument is refused."""
    document = ready.document(policy)
    (statement,) = [each for each in document["Statement"] if each["Effect"] == "Deny"]
    owner = statement["Condition"]["StringNotEquals"]
    assert owner == {"aws:ResourceAccount": ACCOUNT}
    owner["aws:ResourceAccount"] = "111111111111"
    fails = pytest.raises(AssertionError, match=r"(?s)Access ?[dD]enied")
    with ready.in_force(policy, document), fails:
        argument_arrives(ready)


def test_function_may_do_nothing_else(ready: Account) -> None:
    """From inside the function: no other object, no other log, no invocation, no stack."""
    bucket, function = ready.outputs["BucketName"], ready.outputs["FunctionName"]
    requests: tuple[Request, ...] = (
        ("s3", "put_object", {"Bucket": bucket, "Key": "blobs/forged"}),
        ("s3", "put_object", {"Bucket": bucket, "Key": "tasks/any/order"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "tasks/any/running"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "tasks/any/outcome"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "tasks/any/result"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "tasks/any/result-text"}),
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
    answers = list(zip(requests, ready.call(*requests), strict=True))
    assert [each for each in answers if each[1] not in DENIED] == []


def test_user_may_do_nothing_else(ready: Account) -> None:
    """The executor's user reaches no other object, and changes neither function nor policies."""
    bucket, function = ready.outputs["BucketName"], ready.outputs["FunctionName"]
    requests: tuple[Request, ...] = (
        ("s3", "put_object", {"Bucket": bucket, "Key": "elsewhere"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "elsewhere"}),
        ("s3", "put_object", {"Bucket": bucket, "Key": "tasks/any/running"}),
        ("s3", "put_object", {"Bucket": bucket, "Key": "tasks/any/outcome"}),
        ("s3", "put_object", {"Bucket": bucket, "Key": "tasks/any/result"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": "tasks/any/order"}),
        ("s3", "put_bucket_policy", {"Bucket": bucket, "Policy": "{}"}),
        ("s3", "delete_bucket", {"Bucket": bucket}),
        ("lambda", "get_function", {"FunctionName": function}),
        ("lambda", "update_function_configuration", {"FunctionName": function, "Timeout": 1}),
        ("lambda", "list_functions", {}),
        ("logs", "describe_log_groups", {}),
        ("iam", "list_users", {}),
        ("cloudformation", "list_stacks", {}),
        ("cloudformation", "delete_stack", {"StackName": ready.stack}),
    )
    answers = [(each, ready.user.refusal(ready.region, each)) for each in requests]
    assert [each for each in answers if each[1] not in DENIED] == []


def test_everything_on_deploys(tmp_path: Path) -> None:
    """With every comment of samconfig.toml filled in, `sam deploy` creates the stack: the role has
    what each needs, the log its key. (This AWS ignores VPC, concurrency and the bucket's key.)"""
    project = scaffold(tmp_path / "projects", log=tmp_path / "cookiecutter.log")
    with running_aws(tmp_path / "aws", with_docker=False) as aws:
        key = client(aws, "kms", "us-east-1").create_key()["KeyMetadata"]["Arn"]
        queues = client(aws, "sqs", "us-east-1")
        url = queues.create_queue(QueueName="dead-letters")["QueueUrl"]
        attributes = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        queue = attributes["Attributes"]["QueueArn"]
        config = project / "samconfig.toml"
        text = re.sub(r'    # ("[A-Z])', r"    \1", config.read_text(encoding="utf-8"))
        topic = client(aws, "sns", "us-east-1").create_topic(Name="alarms")["TopicArn"]
        for placeholder, value in (
            ("arn:aws:kms:us-east-1:<account>:key/<id>", key),
            ("subnet-<id>", "subnet-0123456789abcdef0"),
            ("sg-<id>", "sg-0123456789abcdef0"),
            ("arn:aws:sqs:us-east-1:<account>:<queue>", queue),
            ("arn:aws:sns:us-east-1:<account>:<topic>", topic),
            ("arn:aws:iam::<account>:policy/<boundary>", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
            ("Alarms=Off", "Alarms=On"),
            ("ReservedConcurrency=-1", "ReservedConcurrency=5"),
            ("Tracing=Disabled", "Tracing=Active"),
        ):
            text = text.replace(placeholder, value)
        config.write_text(text, encoding="utf-8")
        deployed = deploy(project, aws, "worker", work=tmp_path / "deploy")
        root = client(aws, "iam", deployed.region)
        role = deployed.outputs["FunctionRoleArn"].rpartition("/")[2]
        policies = root.list_role_policies(RoleName=role)["PolicyNames"]
        assert sorted(policies) == ["dead-letters", "electron", "network", "traces"]
        electron = root.get_role_policy(RoleName=role, PolicyName="electron")
        statements = electron["PolicyDocument"]["Statement"]
        resources = {each["Sid"]: each["Resource"] for each in statements}
        assert resources["UseKeyThroughBucket"] == key
        logs = client(aws, "logs", deployed.region).describe_log_groups()["logGroups"]
        assert [each["kmsKeyId"] for each in logs] == [key]
        alarms = client(aws, "cloudwatch", deployed.region).describe_alarms()["MetricAlarms"]
        assert [each["AlarmActions"] for each in alarms] == [[topic]] * 3
        name = deployed.outputs["FunctionName"]
        functions = client(aws, "lambda", deployed.region)
        function = functions.get_function(FunctionName=name)
        assert function["Configuration"]["TracingConfig"] == {"Mode": "Active"}
        asynchronous = functions.get_function_event_invoke_config(
            FunctionName=name, Qualifier="$LATEST"
        )
        assert asynchronous["MaximumRetryAttempts"] == 0
        assert asynchronous["DestinationConfig"]["OnFailure"]["Destination"] == queue
