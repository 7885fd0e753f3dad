"""Whatever is answered: it is refused in one sentence, or the project parses and holds it."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from hypothesis import event, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from reading import (
    image_function,
    read_dockerfile,
    read_overrides,
    read_requirements,
    read_samconfig,
    read_template,
)

INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "LABEL", "RUN", "WORKDIR"}

# Names that YAML would read as something else, if they stood there bare.
NOT_TEXT = ["123", "1e5", "1_000", "0x1F", "0o17", "2024-01-01", "yes", "no", "null", "true", "-"]

# What means something in YAML, TOML, Dockerfiles, shells, pip, CloudFormation, Jinja or terminals.
TROUBLE = [
    *(
        "",
        " ",
        "~",
        "a: b",
        "- a",
        "# a",
        "a # b",
        '"',
        "'",
        "'''",
        '"""',
        "\\",
        "a\\",
        "%s",
        "%d",
    ),
    *("${AWS::StackName}", "$(id)", "`id`", "a;id", "a|id", "a\nRUN id", "a\n  Evil: 1", "!Ref a"),
    *("{{", "{{ 7*7 }}", "{% raw %}", "{# a", "}}", "&a", "*a", "a\tb", "a\r\nb", "-r a", "--pre"),
    *("\x00", "a\x1b[31mb", "a\x85b", "a\u2028b", "a\u202eb", "\ufeffa", "\u212a", "x" * 5000),
    *("C:\\Users\\me\\requirements.txt", "../../etc/passwd", "a/b", "inf", "nan", "1.0", "+1"),
    *("\u0661\u0662", "a;(" + "(" * 2000, "~nobody-here/a.txt", "a" + "[" * 2000),
]

LETTERS = string.ascii_letters
NAME = LETTERS + string.digits + "_-"
BUCKET = string.ascii_lowercase + string.digits + "-"
PACKAGES = [
    *("numpy", "pandas>=2", "requests[socks,security]~=2.31", "torch==2.1.0+cpu", "a>=1,<2"),
    *("b @ https://x.org/b-1.zip#sha256=ab", "https://x.org/c-1-py3-none-any.whl"),
    *("d ; python_version < '3.13'", "e>=1 ; (os_name=='nt' or extra == 'y')"),
]
IMAGES = ["auto", "public.ecr.aws/lambda/python:{}", "example.com:5000/team/base:1.0"]

# Answers within the rules, most of the time; the rest is refused like any other.
LIKELY: dict[str, st.SearchStrategy[str]] = {
    "project_name": st.text(NAME, min_size=1, max_size=52).map(lambda text: f"p{text}"),
    "region": st.sampled_from(["us-east-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"]),
    "python_version": st.sampled_from(["3.8", "3.10", "3.11", "3.12", "3.13", "3.14"]),
    "packages": st.lists(st.sampled_from(PACKAGES), max_size=4).map(" , ".join),
    "architecture": st.sampled_from(["x86_64", "arm64"]),
    "base_image": st.sampled_from(IMAGES),
    "memory_size": st.integers(100, 10300).map(str),
    "timeout": st.integers(0, 910).map(str),
    "function_name": st.sampled_from(NOT_TEXT) | st.text(NAME, min_size=1, max_size=61),
    "bucket_name": st.sampled_from(NOT_TEXT) | st.text(BUCKET, min_size=3, max_size=60),
}


@st.composite
def answers(draw: st.DrawFn) -> dict[str, str]:
    """Some questions answered, at most one of them with what is meant to do harm."""
    given_answers = draw(st.fixed_dictionaries({}, optional=LIKELY))
    python = given_answers.setdefault("python_version", "3.11")
    if "base_image" in given_answers:
        given_answers["base_image"] = given_answers["base_image"].format(python)
    harmed = draw(st.none() | st.sampled_from(list(LIKELY)))
    if harmed:
        given_answers[harmed] = draw(st.sampled_from(TROUBLE) | st.text(max_size=12))
    return given_answers


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cookiecutter's settings, in a folder of the tests'."""
    folder = tmp_path_factory.mktemp("cookiecutter")
    path = folder / "config.yaml"
    path.write_text(f"cookiecutters_dir: {folder}\nreplay_dir: {folder}\n")
    return path


@settings(max_examples=120, deadline=None)
@given(given_answers=answers())
def test_refused_or_held(template: Path, config: Path, given_answers: dict[str, str]) -> None:
    """Refused in one printable sentence with nothing generated, or every file parses and holds
    the answer as text."""
    with tempfile.TemporaryDirectory() as output:
        try:
            project = cookiecutter(
                str(template),
                no_input=True,
                extra_context=given_answers,
                output_dir=output,
                config_file=str(config),
            )
        except FailedHookException as refusal:
            event("refused")
            message = str(refusal)
            assert message.isprintable() and message.endswith(".")
            assert len(message) < 500
            assert list(Path(output).iterdir()) == []
        else:
            event("generated")
            assert [Path(project)] == list(Path(output).resolve().iterdir())
            check_holds(Path(project), {k: v.strip() for k, v in given_answers.items()})


def check_holds(project: Path, said: dict[str, str]) -> None:
    """Each answer stands where it is read, and nothing else does."""
    defaults = {
        name: rules["Default"] for name, rules in read_template(project)["Parameters"].items()
    }
    environments = read_samconfig(project)
    overrides = read_overrides(environments["default"])
    assert list(environments) == ["default", "dev", "prod", "ci"]
    assert project.name == said.get("project_name", "covalent-lambda")
    for question, parameter in (("function_name", "FunctionName"), ("bucket_name", "BucketName")):
        assert defaults[parameter] == overrides[parameter]
        assert defaults[parameter] == said.get(question, defaults[parameter])
    for question, parameter in (("memory_size", "MemorySize"), ("timeout", "Timeout")):
        assert str(defaults[parameter]) == overrides[parameter]
        assert defaults[parameter] == int(said.get(question, defaults[parameter]))
    region = said.get("region", "us-east-1")
    assert {each["global"]["parameters"]["region"] for each in environments.values()} == {region}
    check_image(project, said)


def check_image(project: Path, said: dict[str, str]) -> None:
    """The image's Python, base, processor and packages are those that were asked for."""
    instructions = read_dockerfile(project)
    assert {keyword for keyword, _ in instructions} <= INSTRUCTIONS
    arguments = dict(rest.split("=", 1) for keyword, rest in instructions if keyword == "ARG")
    assert arguments["PROJECT_PYTHON"] == said["python_version"]
    if said.get("base_image", "auto") != "auto":
        assert arguments["BASE_IMAGE"] == said["base_image"]
    assert image_function(project)["Properties"]["Architectures"] == [
        said.get("architecture", "x86_64")
    ]
    lines = read_requirements(project)
    names = [line if "://" in line else Requirement(line).name for line in lines]
    assert all(name in said.get("packages", "") for name in names)
    assert bool(names) == bool(said.get("packages", "").strip(" ,"))
