"""What docs/fan-out.md says to change for a pool within an electron, in a generated project."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from baking import TEMPLATE, Bake, run, tool
from reading import CloudFormationLoader, read_dockerfile, read_template

PAGE = (TEMPLATE / "docs" / "fan-out.md").read_text("utf-8")
SECTION = PAGE.partition("### A pool within an electron")[2].partition("\n### ")[0]


def block(language: str) -> str:
    """The section's block of code in a language, without the list's indentation."""
    found = re.search(rf"^    ```{language}\n(.*?)^    ```$", SECTION, re.M | re.S)
    assert found
    return re.sub(r"^    ", "", found[1], flags=re.M)


def test_the_role_may_be_given_another_stacks_policy(bake: Bake, tmp_path: Path) -> None:
    """The page's lines fit into the template, and CloudFormation's linter has nothing to say."""
    project = bake()
    given = yaml.load(block("yaml"), CloudFormationLoader)["FunctionRole"]
    role = read_template(project)["Resources"]["FunctionRole"]
    assert given["Type"] == role["Type"]
    assert not given["Properties"].keys() & role["Properties"].keys()
    (line,) = [x for x in block("yaml").splitlines() if "ManagedPolicyArns" in x]
    text = (project / "template.yaml").read_text("utf-8")
    properties = "  FunctionRole:\n    Type: AWS::IAM::Role\n    Properties:\n"
    assert text.count(properties) == 1
    changed = tmp_path / "template.yaml"
    changed.write_text(text.replace(properties, f"{properties}      {line.strip()}\n"), "utf-8")
    done = run(tool("cfn-lint"), "--regions", "us-east-1", "--", str(changed), cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_that_policy_is_what_a_pool_needs(bake: Bake) -> None:
    """It is the one that executors use, of which each action is tested; the role's own has no
    right to invoke anything."""
    template = read_template(bake())
    assert "ExecutorPolicyArn" in template["Outputs"]
    policy = template["Resources"]["ExecutorPolicy"]["Properties"]["PolicyDocument"]
    assert "lambda:InvokeFunction" in str(policy)
    role = template["Resources"]["FunctionRole"]["Properties"]
    assert "lambda:Invoke" not in str(role)


def test_the_image_gets_the_package(bake: Bake) -> None:
    """The page's paths are those of the project, all folders with Python of the package are
    among them, and the last stage of the build knows where they go."""
    project = bake()
    package = project / "executor" / "lambda_calls"
    allowed = re.findall(r"`!(executor/[^`]+)`", SECTION)
    seen = {path for pattern in allowed for path in project.glob(pattern)}
    assert seen == set(package.rglob("*.py"))
    instructions = read_dockerfile(project)
    begin = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    assert ("ARG", "LAMBDA_TASK_ROOT=/var/task") in instructions[begin:]
    assert block("dockerfile") == "COPY executor/lambda_calls/ ${LAMBDA_TASK_ROOT}/lambda_calls/\n"
