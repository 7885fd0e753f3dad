"""What the template generates: parsed, linted, and tested by its own tests."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from baking import Bake, run, tool
from reading import image_functions, read_overrides, read_samconfig, read_template

from sandbox.commands import image_references

ANSWERS: dict[str, dict[str, str]] = {
    "default": {},
    "python310": {"python_version": "3.10"},
    "python313": {"python_version": "3.13"},
    "arm64": {"architecture": "arm64", "python_version": "3.12"},
    "aws_base": {
        "base_image": "public.ecr.aws/lambda/python:3.12",
        "python_version": "3.12",
        "packages": "numpy>=2, requests[socks] ; python_version < '3.13'",
    },
    "other_names": {
        "project_name": "My_project-2",
        "region": "eu-central-1",
        "memory_size": "128",
        "timeout": "1",
        "function_name": "f" * 59,
        "bucket_name": "b" * 58,
    },
}


# What stands in samconfig.toml's comments, and a value for it.
FILLED_IN = {
    "<account>": "123456789012",
    "key/<id>": "key/0c6f2f6a-0000-4000-8000-3f0d5a5c1d11",
    "subnet-<id>": "subnet-0123456789abcdef0",
    "sg-<id>": "sg-0123456789abcdef0",
    "<queue>": "dead-letters",
    "<topic>": "alarms",
    "<boundary>": "boundary",
}


@pytest.fixture(params=ANSWERS, ids=str)
def project(request: pytest.FixtureRequest, bake: Bake) -> Path:
    """A project generated from each set of answers."""
    return bake(**ANSWERS[request.param])


def test_no_jinja_is_left(project: Path) -> None:
    """No file, and no file's name, holds an unrendered piece of the template."""
    for path in project.rglob("*"):
        assert "cookiecutter." not in path.name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            for mark in ("{{", "}}", "{%", "%}", "cookiecutter."):
                # Python's f-strings and drawings may hold braces; nothing renders Python files.
                assert path.suffix == ".py" or mark not in text, (path, mark)


def test_cfn_lint(project: Path) -> None:
    """cfn-lint finds nothing."""
    done = run(tool("cfn-lint"), "--regions", "us-east-1", "--", "template.yaml", cwd=project)
    assert done.returncode == 0


def test_sam_validate(project: Path) -> None:
    """sam validate --lint accepts the template and reads samconfig.toml."""
    assert run(tool("sam"), "validate", "--lint", cwd=project).returncode == 0


def test_own_tests_pass(project: Path) -> None:
    """The generated project's own tests end with exit code 0."""
    # Outside this repository, so that its pytest settings do not apply.
    done = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project
    )
    assert done.returncode == 0


def test_contract_names(bake: Bake) -> None:
    """Parameters, outputs and logical ids are those that other parts rely on."""
    template = read_template(bake())
    assert set(template["Parameters"]) == {
        "FunctionName",
        "BucketName",
        "MemorySize",
        "Timeout",
        "EphemeralStorage",
        "LogRetentionDays",
        "ReservedConcurrency",
        "Tracing",
        "KmsKeyArn",
        "SubnetIds",
        "SecurityGroupIds",
        "DeadLetterQueueArn",
        "Alarms",
        "AlarmDuration",
        "AlarmTopicArn",
        "PermissionsBoundaryArn",
        "RolePath",
    }
    assert set(template["Outputs"]) == {
        "FunctionName",
        "FunctionArn",
        "BucketName",
        "Region",
        "FunctionRoleArn",
        "ExecutorPolicyArn",
        "ExecutorSnippet",
    }
    ((logical_id, function),) = image_functions(template).items()
    # The executor knows a project by the start of it.
    assert logical_id.startswith("ElectronFunction")
    assert "Runtime" not in function["Properties"]
    assert function["Metadata"]["Dockerfile"] == "function/Dockerfile"
    assert function["Metadata"]["DockerContext"] == "."


def test_parameters_have_description_and_default(bake: Bake) -> None:
    """A parameter explains itself, works untouched and limits what it takes."""
    for name, rules in read_template(bake())["Parameters"].items():
        assert rules["Description"] and "Default" in rules, name
        assert {"AllowedPattern", "MinValue", "AllowedValues"} & set(rules), name


def test_names_agree_between_samconfig_and_template(project: Path) -> None:
    """The default environment deploys what the template's own defaults say; what is empty there
    stands as a comment to fill in, in every environment."""
    defaults = {
        name: str(rules["Default"]) for name, rules in read_template(project)["Parameters"].items()
    }
    environments = read_samconfig(project)
    pairs = environments["default"]["global"]["parameters"]["parameter_overrides"]
    assert dict(pair.split("=", 1) for pair in pairs) == {k: v for k, v in defaults.items() if v}
    by_name = {name: read_overrides(each) for name, each in environments.items()}
    assert {name for name, found in by_name.items() if found["Alarms"] == "On"} == {"prod"}
    text = (project / "samconfig.toml").read_text(encoding="utf-8")
    for name, value in defaults.items():
        line = f'    "{name}=' if value else f'    # "{name}='
        assert text.count(line) == len(environments), name


def test_commented_parameters_work_once_filled_in(bake: Bake) -> None:
    """Without its mark and with real values, each comment is an override that the template, the
    project's own tests and SAM CLI take."""
    project = bake()
    config = project / "samconfig.toml"
    text = re.sub(r'    # ("[A-Z])', r"    \1", config.read_text(encoding="utf-8"))
    for placeholder, value in FILLED_IN.items():
        text = text.replace(placeholder, value)
    config.write_text(text, encoding="utf-8")
    pairs = read_samconfig(project)["prod"]["global"]["parameters"]["parameter_overrides"]
    assert {pair.split("=", 1)[0] for pair in pairs} == set(read_template(project)["Parameters"])
    done = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=project
    )
    assert done.returncode == 0
    assert ask_sam(SAM_OVERRIDES, *pairs) == dict(pair.split("=", 1) for pair in pairs)


def test_environments(project: Path) -> None:
    """Each environment has names of its own, within AWS's lengths; only prod asks before it
    deploys, and ci not before it deletes. (What the commands then do: tests/e2e.)"""
    environments = read_samconfig(project)
    assert list(environments) == ["default", "dev", "prod", "ci"]
    stacks = [each["global"]["parameters"]["stack_name"] for each in environments.values()]
    assert len(set(stacks)) == len(stacks)
    for kind, limit in (("FunctionName", 64), ("BucketName", 63)):
        names = [
            pair.split("=", 1)[1]
            for each in environments.values()
            for pair in each["global"]["parameters"]["parameter_overrides"]
            if pair.startswith(f"{kind}=")
        ]
        assert len(set(names)) == len(environments)
        assert max(map(len, names)) <= limit
    deploy = {name: each["deploy"]["parameters"] for name, each in environments.items()}
    asking = {name for name, found in deploy.items() if found["confirm_changeset"]}
    assert asking == {"prod"}
    assert {name for name, found in deploy.items() if found.get("no_prompts")} == {"ci"}
    assert not any(found["fail_on_empty_changeset"] for found in deploy.values())


# SAM builds its commands lazily: their parameters show only in the modules that define them.
SAM_PARAMETERS = """
import importlib, json, pkgutil, sys
known = {}
for name in sys.argv[1:]:
    path = name.replace("local_", "local.", 1)
    package = importlib.import_module(f"samcli.commands.{path}")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    module = next(m for m in ("command", "cli", path) if m in modules)
    command = importlib.import_module(f"samcli.commands.{path}.{module}").cli
    known[name] = [parameter.name for parameter in command.params]
print(json.dumps(known))
"""

# How SAM CLI itself reads a list of overrides.
SAM_OVERRIDES = """
import json, sys
from samcli.cli.types import CfnParameterOverridesType
print(json.dumps(CfnParameterOverridesType().convert(sys.argv[1:], None, None)))
"""

# The commands of the generated README: each takes from `global` what it knows.
COMMANDS = ("build", "deploy", "delete", "validate", "local_invoke", "local_start_lambda", "logs")


def ask_sam(program: str, *arguments: str) -> Any:
    """What a program says, as JSON, that runs in SAM CLI's own environment."""
    python = Path(tool("sam")).with_name("python")
    done = subprocess.run(
        [python, "-c", program, *arguments], text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_samconfig_keys_are_sams_own(bake: Bake) -> None:
    """Every key of every table of samconfig.toml is a parameter of the command it is given to,
    those of `global` of at least `deploy`; a table is of a command that the README names."""
    known = {name: set(found) for name, found in ask_sam(SAM_PARAMETERS, *COMMANDS).items()}
    for environment, tables in read_samconfig(bake()).items():
        assert set(tables) <= {"global", *COMMANDS}, environment
        for command, table in tables.items():
            assert set(table) == {"parameters"}, (environment, command)
            accepted = known["deploy" if command == "global" else command]
            if command == "deploy":  # sam delete reads this table
                accepted |= known["delete"]
            assert set(table["parameters"]) <= accepted, (environment, command)


def test_dockerfile_suits_the_classic_builder(project: Path) -> None:
    """No BuildKit features, no USER, no entry point of a given base replaced."""
    text = (project / "function" / "Dockerfile").read_text(encoding="utf-8")
    for unsupported in ("--mount", "<<", "--chmod", "\nUSER"):
        assert unsupported not in text
    last_stage = text[text.rindex("\nFROM ") :]
    assert "ENTRYPOINT" not in last_stage
    assert 'CMD ["app.handler"]' in last_stage


def test_rule_for_images(bake: Bake) -> None:
    """The README's lifecycle rule for images is the JSON that ECR's documentation describes."""
    text = (bake() / "README.md").read_text(encoding="utf-8")
    rule = text.split("--lifecycle-policy-text '")[1].split("'")[0]
    (found,) = json.loads(rule)["rules"]
    assert found["action"] == {"type": "expire"}
    assert found["selection"]["countType"] == "imageCountMoreThan"
    assert found["selection"]["countNumber"] == 10


# Where AWS's clients look for a region when none is said, another one may be set.
AWS_COMMAND = re.compile(r"\baws (?!configure|sso)[a-z0-9-]+ [a-z-]+[^`\n]*")


def test_every_aws_command_names_the_region(bake: Bake) -> None:
    """Every command of AWS's CLI, and of boto3, in the README says the project's region: in China
    and GovCloud nothing works without."""
    project = bake(region="us-gov-west-1")
    text = (project / "README.md").read_text(encoding="utf-8")
    commands = AWS_COMMAND.findall(text)
    assert len(commands) >= 8
    for command in commands:
        assert "--region us-gov-west-1" in command or "--region <region>" in command, command
    assert "region_name='us-gov-west-1'" in text
    assert "us-east-1" not in text


def test_grants_outside_the_stack_are_narrow(bake: Bake) -> None:
    """The README's statement for a key of one's own is JSON that lets logs of this project only
    use it; that for a topic names the account."""
    project = bake(region="cn-north-1")
    text = (project / "README.md").read_text(encoding="utf-8")
    statement = json.loads(text.split("Add to its key policy:\n\n```\n")[1].split("```")[0])
    assert statement["Principal"] == {"Service": "logs.cn-north-1.amazonaws.com.cn"}
    (pattern,) = statement["Condition"]["ArnLike"].values()
    assert set(statement["Condition"]["ArnLike"]) == {"kms:EncryptionContext:aws:logs:arn"}
    start = "arn:aws-cn:logs:cn-north-1:<account>:log-group:/aws/lambda/covalent-lambda-"
    assert re.fullmatch(re.escape(start) + r"[0-9a-f]{8}\*", pattern)
    (topic,) = (line for line in text.splitlines() if line.startswith("| `AlarmTopicArn`"))
    assert "aws:SourceAccount" in topic


# What samconfig.toml offers as comments beside parameters.
OWN = (
    '# image_repository = "<account>.dkr.ecr.us-east-1.amazonaws.com/<repository>"',
    '# s3_bucket = "<bucket>"',
    '# "owner=<team>",',
    '# "cost-center=<number>",',
)


def test_other_comments_of_samconfig_work_too(bake: Bake) -> None:
    """A repository and a bucket of one's own take the place of those that SAM CLI makes; tags for
    owner and cost center join the others."""
    project = bake()
    config = project / "samconfig.toml"
    text = re.sub(r"resolve_(image_repos|s3) = true\n", "", config.read_text(encoding="utf-8"))
    for line in OWN:
        assert text.count(line) == 4, line
        text = text.replace(line, line.removeprefix("# "))
    config.write_text(text, encoding="utf-8")
    known = set(ask_sam(SAM_PARAMETERS, "deploy")["deploy"])
    for environment, tables in read_samconfig(project).items():
        deploy = tables["deploy"]["parameters"]
        assert {"image_repository", "s3_bucket"} <= set(deploy) <= {*known, "no_prompts"}
        tags = dict(pair.split("=", 1) for pair in deploy["tags"])
        assert tags["environment"] == environment
        assert set(tags) == {"project", "environment", "owner", "cost-center"}


def test_private_base(bake: Bake) -> None:
    """A project on a base image of one's own says how to log in to its registry."""
    base = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/base:1.0"
    assert "docker login" in (bake(base_image=base) / "README.md").read_text(encoding="utf-8")


def test_deployer_policy(project: Path) -> None:
    """The deployer's policy fits into a managed policy, names every resource but those that AWS
    knows no names for, and covers every environment's names."""
    text = (project / "docs" / "deployer-policy.json").read_text(encoding="utf-8")
    statements = {each["Sid"]: each for each in json.loads(text)["Statement"]}
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    assert len(re.sub(r"\s", "", text)) <= 6144
    everything = {sid for sid, each in statements.items() if each["Resource"] == "*"}
    assert everything == {"LogInToRegistry", "LookAround"}
    assert not any("*" in json.dumps(each["Action"]) for each in statements.values())
    for each in read_samconfig(project).values():
        names = {**read_overrides(each), **each["global"]["parameters"]}
        for sid, resource in (
            ("Stacks", f"stack/{names['stack_name']}"),
            ("Function", f"function:{names['FunctionName']}"),
            ("Log", f"log-group:/aws/lambda/{names['FunctionName']}"),
            ("Bucket", f":::{names['BucketName']}"),
            ("Alarms", f"alarm:{names['stack_name']}"),
        ):
            found = statements[sid]["Resource"]
            listed = found if isinstance(found, list) else [found]
            ends = [pattern.rpartition(resource[:9])[2].rstrip("*") for pattern in listed]
            assert any(resource[9:].startswith(end) for end in ends), (sid, resource)


def test_bill_of_materials(bake: Bake, tmp_path: Path) -> None:
    """What is installed is listed in CycloneDX's form: name, version, address, license."""
    spec = importlib.util.spec_from_file_location(
        "install", bake() / "function" / "build" / "install.py"
    )
    assert spec is not None and spec.loader is not None
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    package = tmp_path / "Some_package-1.2+local.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: Some_package\nVersion: 1.2+local\nLicense: MIT\n")
    install.write_bill_of_materials(tmp_path)
    bill = json.loads((tmp_path / "bill-of-materials.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    by_name = {each["name"]: each for each in bill["components"]}
    assert by_name["Some_package"] == {
        "type": "library",
        "name": "Some_package",
        "version": "1.2+local",
        "purl": "pkg:pypi/some-package@1.2%2Blocal",
        "licenses": [{"license": {"name": "MIT"}}],
    }
    assert "pytest" in by_name  # what the interpreter itself has counts too


def test_readme_lists_every_parameter(project: Path) -> None:
    """The table of settings in the README is the template's, its defaults included."""
    text = (project / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if re.match(r"\| `[A-Z]\w+`", line)]
    listed = {name: row[2] for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    parameters = read_template(project)["Parameters"]
    assert set(listed) == set(parameters)
    for name in ("MemorySize", "Timeout", "EphemeralStorage", "LogRetentionDays", "Tracing"):
        assert str(parameters[name]["Default"]) in listed[name], name


@pytest.mark.parametrize("python", ["3.10", "3.13"])
def test_pythons(bake: Bake, python: str) -> None:
    """README and image are for the project's Python; that Lambda deprecated one is said of it."""
    project = bake(python_version=python)
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert f"server must run Python {python}" in readme
    assert ("Lambda deprecated Python 3.10" in readme) is (python == "3.10")
    built = (project / "function" / "Dockerfile").read_text(encoding="utf-8")
    assert f"docker/library/python:{python}-slim" in built and "awslambdaric" in built


def test_sam_init(template: Path, output: Path) -> None:
    """sam init generates the same project, with its name and extra context."""
    context = json.dumps({"memory_size": 512, "packages": "numpy"})
    command = [tool("sam"), "init", "--location", str(template), "--no-input", "--name", "named"]
    assert run(*command, "--extra-context", context, cwd=output).returncode == 0
    assert "MemorySize=512" in (output / "named" / "samconfig.toml").read_text(encoding="utf-8")
    assert "numpy" in (output / "named/function/requirements.txt").read_text(encoding="utf-8")


def test_replay(template: Path, output: Path) -> None:
    """A replay generates the very same files, the random bucket name included."""
    command = [sys.executable, "-m", "cookiecutter", str(template)]
    assert run(*command, "--no-input", "-o", "first", cwd=output).returncode == 0
    assert run(*command, "--replay", "-o", "second", cwd=output).returncode == 0
    name = "covalent-lambda/samconfig.toml"
    assert (output / "first" / name).read_text() == (output / "second" / name).read_text()


def test_the_sandbox_removes_the_images_of_its_project(bake: Bake) -> None:
    """`make clean` finds what `sam build` and `sam local` name after the project."""
    bucket = "covalent-lambda-0123abcd"
    (function,) = image_functions(read_template(bake(bucket_name=bucket)))
    built, local = image_references(bucket)
    assert fnmatch(f"{function.lower()}:{bucket}-python3.11", built)
    assert fnmatch(f"{function.lower()}:rapid-x86_64", local)
