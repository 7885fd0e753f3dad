"""What the stack contains when its parameters say so: permissions appear with what needs them.

The template is resolved here as CloudFormation does it, for the parameters it depends on, so that
linters see each variant in plain form.
"""

from __future__ import annotations

import json
import re
import runpy
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from baking import PROJECT, TEMPLATE, Bake, checkov, run, tool
from reading import image_functions

OFF: dict[str, str] = {}
ON = {
    "ReservedConcurrency": "100",
    "Tracing": "Active",
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/0c6f2f6a-0000-4000-8000-3f0d5a5c1d11",
    "SubnetIds": "subnet-0123456789abcdef0,subnet-0fedcba9876543210",
    "SecurityGroupIds": "sg-0123456789abcdef0",
    "DeadLetterQueueArn": "arn:aws:sqs:us-east-1:123456789012:dead-letters",
    "Alarms": "On",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary",
}
VARIANTS = {"default": OFF, "everything_on": ON}

_GONE = object()


class Loader(yaml.SafeLoader):
    """Reads !Ref and the like in their long form."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        value: Any = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.ScalarNode)
        value = loader.construct_scalar(node)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _long_form)


class Stack:
    """A template with values for some parameters: they stand where the parameters stood, and one
    branch of each condition is left."""

    def __init__(self, project: Path, values: Mapping[str, str]) -> None:
        text = (project / "template.yaml").read_text(encoding="utf-8")
        self.template: dict[str, Any] = yaml.load(text, Loader=Loader)
        parameters = self.template["Parameters"]
        self.texts = {name: str(rules["Default"]) for name, rules in parameters.items()}
        self.texts.update(values)
        self.values = values
        self.conditions: dict[str, Any] = self.template.pop("Conditions")
        for name in ON:  # used in conditions, or given a value
            del parameters[name]
        del self.template["Metadata"]  # it lists the parameters
        resources = {
            name: resource
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource or self._holds(self.conditions[resource["Condition"]])
        }
        for resource in resources.values():
            resource.pop("Condition", None)
        self.template["Resources"] = self._branch(resources)

    def write(self, path: Path) -> Path:
        """The stack as a template; JSON, which YAML includes."""
        path.write_text(json.dumps(self.template, indent=1, default=str), encoding="utf-8")
        return path

    def properties(self, logical_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.template["Resources"][logical_id]["Properties"]
        return found

    def statements(self, logical_id: str) -> dict[str, dict[str, Any]]:
        """The policy statements of a role or of a managed policy, by Sid."""
        properties = self.properties(logical_id)
        policies = [*properties.get("Policies", [properties]), *self._attached(logical_id)]
        documents = [each["PolicyDocument"] for each in policies]
        listed = [each for document in documents for each in document["Statement"]]
        by_sid = {each["Sid"]: each for each in listed}
        assert len(by_sid) == len(listed)
        return by_sid

    def _attached(self, role: str) -> list[dict[str, Any]]:
        """The policies of a role that are resources of their own."""
        listed = (each["Properties"] for each in self.template["Resources"].values())
        return [each for each in listed if each.get("Roles") == [{"Ref": role}]]

    @property
    def function(self) -> dict[str, Any]:
        """The properties of the function, whose logical id is the project's own."""
        ((name, _),) = image_functions(self.template).items()
        return self.properties(name)

    def actions(self, logical_id: str) -> set[str]:
        """Every action that is allowed."""
        allowed = [x for x in self.statements(logical_id).values() if x["Effect"] == "Allow"]
        return {action for each in allowed for action in as_list(each["Action"])}

    def _branch(self, value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"Fn::If"}:
                name, true, false = value["Fn::If"]
                return self._branch(true if self._holds(self.conditions[name]) else false)
            if value == {"Ref": "AWS::NoValue"}:
                return _GONE
            if set(value) == {"Ref"} and value["Ref"] in self.values:
                return self.values[value["Ref"]]
            if set(value) == {"Fn::Select"}:
                return self._select(*value["Fn::Select"])
            if set(value) == {"Fn::Split"}:
                delimiter, text = value["Fn::Split"]
                return str(self._branch(text)).split(delimiter)
            pairs = ((key, self._branch(each)) for key, each in value.items())
            return {key: each for key, each in pairs if each is not _GONE}
        if isinstance(value, list):
            return [each for each in map(self._branch, value) if each is not _GONE]
        return value

    def _holds(self, condition: Any) -> bool:
        ((function, argument),) = condition.items()
        if function == "Condition":
            return self._holds(self.conditions[argument])
        if function == "Fn::Not":
            return not self._holds(argument[0])
        if function == "Fn::Or":
            return any(map(self._holds, argument))
        assert function == "Fn::Equals"
        left, right = map(self._text, argument)
        return left == right

    def _select(self, index: Any, items: list[Any]) -> Any:
        return self._branch(items[int(index)])

    def _text(self, value: Any) -> str:
        return self.texts[value["Ref"]] if isinstance(value, dict) else str(value)


def resources_of(stack: Stack, kind: str) -> list[dict[str, Any]]:
    """The properties of all resources of a type."""
    resources = stack.template["Resources"].values()
    return [each["Properties"] for each in resources if each["Type"] == kind]


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest, bake: Bake) -> Stack:
    """The stack with its defaults, and with all that can be turned on."""
    return Stack(bake(), VARIANTS[request.param])


def test_cfn_lint(variant: Stack, tmp_path: Path) -> None:
    """cfn-lint finds nothing in what is deployed."""
    path = variant.write(tmp_path / "template.json")
    done = run(tool("cfn-lint"), "--regions", "us-east-1", "--", str(path), cwd=tmp_path)
    assert done.returncode == 0


def test_checkov(variant: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """checkov finds nothing but what the template skips with a reason."""
    # With these two it opens no connection, not even to look for a newer version of itself.
    monkeypatch.setenv("CKV_SKIP_PACKAGE_UPDATE_CHECK", "True")
    command = [checkov(), "--framework", "cloudformation", "--skip-download", "--compact"]
    path = variant.write(tmp_path / "template.json")
    done = run(*command, "--file", str(path), cwd=tmp_path)
    assert done.returncode == 0
    assert "Failed checks: 0" in done.stdout and "Parsing errors" not in done.stdout


def test_each_addition_alone(bake: Bake) -> None:
    """Each parameter brings its own permissions, and no other does."""
    project = bake()
    plain = {
        name: Stack(project, OFF).actions(name) for name in ("FunctionRole", "ExecutorPolicy")
    }
    network = {name: ON[name] for name in ("SubnetIds", "SecurityGroupIds")}
    added = {
        name: {
            "FunctionRole": stack.actions("FunctionRole") - plain["FunctionRole"],
            "ExecutorPolicy": stack.actions("ExecutorPolicy") - plain["ExecutorPolicy"],
        }
        for name, stack in {
            "concurrency": Stack(project, {"ReservedConcurrency": "0"}),
            "tracing": Stack(project, {"Tracing": "Active"}),
            "key": Stack(project, {"KmsKeyArn": ON["KmsKeyArn"]}),
            "network": Stack(project, network),
            "queue": Stack(project, {"DeadLetterQueueArn": ON["DeadLetterQueueArn"]}),
            "alarms": Stack(project, {name: ON[name] for name in ("Alarms", "AlarmTopicArn")}),
            "boundary": Stack(project, {"PermissionsBoundaryArn": ON["PermissionsBoundaryArn"]}),
            "path": Stack(project, {"RolePath": "/teams/physics/"}),
        }.items()
    }
    key = {"kms:Decrypt", "kms:GenerateDataKey"}
    interfaces = {
        *("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"),
        *("ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"),
        *("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"),
    }
    traces = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    assert added == {
        "concurrency": {"FunctionRole": set(), "ExecutorPolicy": set()},
        "tracing": {"FunctionRole": traces, "ExecutorPolicy": set()},
        "key": {"FunctionRole": key, "ExecutorPolicy": key},
        "network": {"FunctionRole": interfaces, "ExecutorPolicy": set()},
        "queue": {"FunctionRole": {"sqs:SendMessage"}, "ExecutorPolicy": set()},
        "alarms": {"FunctionRole": set(), "ExecutorPolicy": set()},
        "boundary": {"FunctionRole": set(), "ExecutorPolicy": set()},
        "path": {"FunctionRole": set(), "ExecutorPolicy": set()},
    }


def test_settings_reach_the_resources(bake: Bake) -> None:
    """What is off leaves no property behind; what is on stands where it is read."""
    project = bake()
    off, on = Stack(project, OFF), Stack(project, ON)
    names = {"ReservedConcurrentExecutions", "Tracing", "VpcConfig"}
    assert not names & set(off.function)
    function = on.function
    assert function["ReservedConcurrentExecutions"] == ON["ReservedConcurrency"]
    assert function["Tracing"] == "Active"
    assert function["VpcConfig"] == {
        name: ON[name].split(",") for name in ("SubnetIds", "SecurityGroupIds")
    }
    asynchronous = "ElectronFunctionEventInvokeConfig"
    for stack in (off, on):
        assert stack.properties(asynchronous)["MaximumRetryAttempts"] == 0
    assert "DestinationConfig" not in off.properties(asynchronous)
    destination = on.properties(asynchronous)["DestinationConfig"]
    assert destination == {"OnFailure": {"Destination": ON["DeadLetterQueueArn"]}}
    assert "KmsKeyId" not in off.properties("FunctionLogGroup")
    assert on.properties("FunctionLogGroup")["KmsKeyId"] == ON["KmsKeyArn"]
    for stack, algorithm in ((off, "AES256"), (on, "aws:kms")):
        encryption = stack.properties("TransferBucket")["BucketEncryption"]
        (rule,) = encryption["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == algorithm


def test_rules_of_the_account_reach_role_and_policy(bake: Bake) -> None:
    """The boundary stands on the role, or is not there; the path on role and policy."""
    project, boundary = bake(), ON["PermissionsBoundaryArn"]
    assert "PermissionsBoundary" not in Stack(project, OFF).properties("FunctionRole")
    assert Stack(project, ON).properties("FunctionRole")["PermissionsBoundary"] == boundary
    moved = Stack(project, {"RolePath": "/teams/physics/"})
    for name in ("FunctionRole", "ExecutorPolicy"):
        assert moved.properties(name)["Path"] == "/teams/physics/"


def test_alarms(bake: Bake) -> None:
    """Alarms are there when they are on only; each says what it means and tells the topic. A
    metric counts the line that the function writes of a failed electron."""
    project, kind = bake(), "AWS::CloudWatch::Alarm"
    assert resources_of(Stack(project, OFF), kind) == []
    found = resources_of(Stack(project, ON), kind)
    assert {each["MetricName"] for each in found} == {"Errors", "Throttles", "Duration"}
    assert all(each["AlarmDescription"] for each in found)
    assert all(each["AlarmActions"] == [ON["AlarmTopicArn"]] for each in found)
    (metric,) = resources_of(Stack(project, ON), "AWS::Logs::MetricFilter")
    line = (project / "function" / "app.py").read_text(encoding="utf-8")
    counted = re.fullmatch(r'"\[covalent\] (.+)"', metric["FilterPattern"])
    assert counted is not None and f'_FAILED_ELECTRON = "{counted[1]}"' in line
    silent = resources_of(Stack(project, {"Alarms": "On"}), kind)
    assert not any("AlarmActions" in each for each in silent)


def test_nothing_is_replaced_for_a_name(bake: Bake) -> None:
    """No property that IAM cannot change holds the function's name: a renamed function must not
    give users a new policy, nor AWS a new role."""
    resources = Stack(bake(), OFF).template["Resources"]
    for name in ("FunctionRole", "ExecutorPolicy"):
        properties = resources[name]["Properties"]
        fixed = {key: properties.get(key) for key in ("Description", "Path", "ManagedPolicyName")}
        assert "FunctionName" not in json.dumps(fixed)


def test_what_holds_data_outlives_the_stack(bake: Bake) -> None:
    """Bucket and log stay when the stack is deleted or a name changes; a deployment that fails at
    once leaves neither."""
    resources = Stack(bake(), OFF).template["Resources"]
    for name in ("TransferBucket", "FunctionLogGroup"):
        assert resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[name]["UpdateReplacePolicy"] == "Retain"


def test_a_function_that_leaves_a_network_keeps_its_rights_until_then(bake: Bake) -> None:
    """The rights in the network are a resource that the function refers to: CloudFormation makes
    it before the function enters, and deletes it after the function has left. (No AWS of ours has
    networks for functions: this looks at the template only.)"""
    text = (bake() / "template.yaml").read_text(encoding="utf-8")
    template = yaml.load(text, Loader=Loader)
    assert template["Resources"]["NetworkPolicy"]["Condition"] == "InVpc"
    (function,) = image_functions(template).values()
    condition, inside, outside = function["Properties"]["Role"]["Fn::If"]
    assert condition == "InVpc"
    assert inside == {"Fn::Select": [0, [outside, {"Ref": "NetworkPolicy"}]]}


def test_electrons_may_not_change_the_network(bake: Bake) -> None:
    """What the service may do with network interfaces, calls from inside the function may not."""
    statements = Stack(bake(), ON).statements("FunctionRole")
    denied, allowed = statements["NotForElectrons"], statements["KeepNetworkInterfaces"]
    assert denied["Effect"] == "Deny"
    assert denied["Action"] == allowed["Action"]
    assert set(denied["Condition"]) == {"ArnEquals"}


def test_subnets_may_belong_to_another_account(bake: Bake) -> None:
    """A VPC is often shared: only subnets and security groups may be another account's. (Seen in
    the template only, as above.)"""
    listed = Stack(bake(), ON).statements("FunctionRole")["KeepNetworkInterfaces"]["Resource"]
    arns = [each["Fn::Sub"] for each in listed]
    start = "arn:${AWS::Partition}:ec2:${AWS::Region}:"
    assert arns == [
        start + "${AWS::AccountId}:*/*",
        start + "*:subnet/*",
        start + "*:security-group/*",
    ]


# Statements of actions for which IAM knows no resources.
NO_RESOURCES = ("WriteTraces", "LookAtNetwork", "ReadQuota")


def test_no_wildcards(variant: Stack) -> None:
    """No action has a wildcard; a resource that is everything has its reason in the template."""
    for name in ("FunctionRole", "ExecutorPolicy"):
        for sid, statement in variant.statements(name).items():
            if statement["Effect"] == "Deny":
                continue
            assert not any("*" in action for action in as_list(statement["Action"])), sid
            assert statement["Resource"] != "*" or sid in NO_RESOURCES, sid


def test_a_bucket_of_another_account_is_denied(variant: Stack) -> None:
    """Neither role nor policy reaches the bucket once somebody else's account owns its name."""
    for name in ("FunctionRole", "ExecutorPolicy"):
        denied = variant.statements(name)["OnlyInThisAccount"]
        assert denied["Effect"] == "Deny" and denied["Action"] == "s3:*"
        wanted = {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}
        assert denied["Condition"]["StringNotEquals"] == wanted


def test_objects_are_those_of_the_protocol(bake: Bake) -> None:
    """Function and executor reach the objects that wire.py names; what one of them writes below
    `tasks/`, the other only reads."""
    project = bake()
    package = project / "executor" / "lambda_calls"
    wire = runpy.run_path(str(package / "wire.py"))
    blobs, tasks = f"{wire['BLOB_PREFIX']}*", f"{wire['TASK_PREFIX']}*"
    order = f"{tasks}/{wire['ORDER']}"
    written = "RUNNING", "OUTCOME", "RESULT", "RESULT_TEXT"
    results = {f"{tasks}/{wire[name]}" for name in written}
    stack = Stack(project, OFF)
    assert objects_by_action(stack, "FunctionRole") == {
        "s3:GetObject": {blobs, order},
        "s3:PutObject": results,
    }
    assert objects_by_action(stack, "ExecutorPolicy") == {
        "s3:GetObject": {blobs, *results},
        "s3:PutObject": {blobs, order},
        "s3:DeleteObject": {blobs, tasks},
    }


def objects_by_action(stack: Stack, logical_id: str) -> dict[str, set[str]]:
    """The objects of the bucket that each action is allowed on, as patterns of their names."""
    start, found = "${TransferBucket.Arn}/", defaultdict(set)
    statements = stack.statements(logical_id).values()
    for statement in (each for each in statements if each["Effect"] == "Allow"):
        resource = statement["Resource"]
        for each in resource if isinstance(resource, list) else [resource]:
            text = each.get("Fn::Sub", "") if isinstance(each, dict) else each
            if text.startswith(start):
                for action in as_list(statement["Action"]):
                    found[action].add(text.removeprefix(start))
    return dict(found)


def test_security_page_lists_every_permission(bake: Bake) -> None:
    """docs/security.md names each statement with its actions, and each skipped check of checkov;
    and none that does not exist."""
    page = (TEMPLATE / PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
    stack = Stack(bake(), ON)
    for role in ("FunctionRole", "ExecutorPolicy", "TransferBucketPolicy"):
        section = page.split(f"### {role}")[1].split("\n#")[0]
        rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
        listed = {
            row[1].strip(" `"): set(re.findall(r"`([a-z0-9]+:[A-Za-z*]+)`", row[2]))
            for row in rows
        }
        found = {sid: set(as_list(each["Action"])) for sid, each in stack.statements(role).items()}
        assert listed == found, role
    skipped = {
        each["id"]
        for resource in stack.template["Resources"].values()
        for each in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
        if each["comment"]
    }
    assert set(re.findall(r"CKV_AWS_\d+", page)) == skipped
