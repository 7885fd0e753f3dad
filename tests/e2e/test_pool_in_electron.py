"""A pool that an electron makes, by the steps that docs/fan-out.md gives for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import harness
import iam
import pytest
from harness import PROJECT, PYTHON, Node, Outcome, Project, Workbench

from sandbox.deploying import Deploying, client, scaffold

PAGE = Path(__file__).parents[2] / "docs" / "fan-out.md"
SECTION = re.compile(r"### A pool within an electron\n(.*?)\n### ", re.DOTALL)


def blocks(section: str, language: str) -> str:
    """The one block of a language that stands in a list of the page, without its indent."""
    (found,) = re.findall(rf"    ```{language}\n(.*?)    ```", section, re.DOTALL)
    return "".join(line.removeprefix("    ") for line in found.splitlines(keepends=True))


def follow(folder: Path, policy: str) -> None:
    """Change a project as the page says.

    Args:
        folder: the project's.
        policy: the ARN of the other project's ExecutorPolicy.
    """
    found = SECTION.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    section = found[1]
    ignored = folder / ".dockerignore"
    lines = re.findall(r"`(!executor/[^`]+)`", section)
    assert len(lines) == 3
    ignored.write_text(ignored.read_text() + "".join(f"{line}\n" for line in lines))
    dockerfile = folder / "function" / "Dockerfile"
    head, last, rest = dockerfile.read_text().rpartition("COPY --from=handler")
    line, end, rest = rest.partition("\n")
    copied = blocks(section, "dockerfile")
    dockerfile.write_text(head + last + line + end + copied + rest)
    requirements = folder / "function" / "requirements.txt"
    (needed,) = re.findall(r"requirements.txt add `([^`]+)`", section)
    requirements.write_text(requirements.read_text() + f"{needed}\n")
    role, arn = re.subn(r"arn:aws:iam::\d+:policy/[\w-]+", policy, blocks(section, "yaml"))
    assert arn == 1
    template = folder / "template.yaml"
    # The lines of the block that are in the template already say where the others belong.
    known = "  FunctionRole:\n    Type: AWS::IAM::Role\n    Properties:\n"
    whole = "".join(f"  {line}" for line in role.splitlines(keepends=True))
    text = template.read_text()
    assert text.count(known) == 1
    assert whole.startswith(known)
    template.write_text(text.replace(known, whole))


@dataclass(frozen=True)
class Calling:
    """A project whose electrons may call the other project's function."""

    workbench: Workbench
    outputs: Mapping[str, str]

    def run(self) -> Outcome:
        """Run the workflow of it."""
        own, others = (
            {"function_name": x["FunctionName"], "s3_bucket_name": x["BucketName"]}
            for x in (self.outputs, self.workbench.deployed.outputs)
        )
        script = harness.WORKFLOWS / "pool_in_electron.py"
        answer = self.workbench.run(script, json.dumps(own), json.dumps(others)).json
        return Outcome.from_json(answer)


@pytest.fixture(scope="module")
def calling(workbench: Workbench, work: Path) -> Iterator[Calling]:
    """It, deployed beside the one that the other tests use."""
    deployed = workbench.deployed
    answers = {"project_name": f"{PROJECT}-calling", "python_version": PYTHON}
    folder = scaffold(work / "calling", answers=answers, log=work / "calling.log")
    follow(folder, deployed.outputs["ExecutorPolicyArn"])
    project = Project(folder, work, deployed.project.engine)
    for words, env in (("build",), None), (("deploy",), deployed.aws.env):
        done = project.sam(*words) if env is None else project.sam_at(deployed.aws, env, *words)
        assert done.code == 0, str(done)
    steps = Deploying(folder, deployed.aws, work, print)
    outputs = steps.outputs()
    with deployed.user.holding(outputs["ExecutorPolicyArn"]):
        iam.allow_plain_http(deployed.user, steps.region, outputs["BucketName"])
        yield Calling(workbench, outputs)


def only(outcome: Outcome) -> Node:
    return outcome.only("called")


def test_an_electron_calls_another_function(calling: Calling) -> None:
    """Twenty small calls, and one with an argument that travels through the other's bucket."""
    outcome = calling.run()
    assert outcome.status == "COMPLETED", outcome
    assert outcome.result == f"({sum(x * x for x in range(20))}, 9000000)"


def test_without_the_policy_it_says_so(calling: Calling) -> None:
    """The role of a generated function may invoke nothing: AWS's own words are the error."""
    deployed = calling.workbench.deployed
    root = client(deployed.aws, "iam", deployed.region)
    role = calling.outputs["FunctionRoleArn"].rpartition("/")[2]
    policy = deployed.outputs["ExecutorPolicyArn"]
    root.detach_role_policy(RoleName=role, PolicyArn=policy)
    node = only(calling.run())
    assert node.status == "FAILED"
    assert "not authorized to perform: lambda:InvokeFunction" in node.complaint
