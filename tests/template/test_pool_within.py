"""What docs/fan-out.md says to change for a pool within an electron, in a generated project; it is
deployed so in tests/e2e/test_pool_in_electron.py."""

from __future__ import annotations

import re

from baking import TEMPLATE, Bake
from reading import read_dockerfile, read_template

PAGE = (TEMPLATE / "docs" / "fan-out.md").read_text("utf-8")
SECTION = PAGE.partition("### A pool within an electron")[2].partition("\n### ")[0]


def block(language: str) -> str:
    """The section's block of code in a language, without the list's indentation."""
    found = re.search(rf"^    ```{language}\n(.*?)^    ```$", SECTION, re.M | re.S)
    assert found
    return re.sub(r"^    ", "", found[1], flags=re.M)


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
