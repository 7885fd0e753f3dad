"""Which answers the template takes, which it refuses, and that a refusal leaves nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
from baking import TEMPLATE, Bake
from cookiecutter.exceptions import FailedHookException
from hypothesis import assume, example, given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement
from reading import (
    image_functions,
    read_overrides,
    read_requirements,
    read_samconfig,
    read_template,
)

sys.path.insert(0, str(TEMPLATE))  # cookiecutter puts it there too, when it loads the extension
import local_extensions
from local_extensions.names import WINDOWS_DEVICES
from local_extensions.packages import requirements
from local_extensions.refusals import shown

AWS_PYTHON = "public.ecr.aws/lambda/python"
PUBLISHED = "public.ecr.aws/covalent/covalent-lambda-executor:stable"

ACCEPTED = [
    ("project_name", "a"),
    ("project_name", "My_project-2"),
    ("region", "eu-central-1"),
    ("region", "us-gov-west-1"),
    ("region", "ap-southeast-7"),
    ("region", "cn-north-1"),
    ("region", "us-isob-east-1"),
    ("region", "eusc-de-east-1"),
    ("python_version", "3.10"),
    ("python_version", "3.13"),
    ("architecture", "arm64"),
    ("memory_size", "128"),
    ("memory_size", "10240"),
    ("timeout", "1"),
    ("timeout", "900"),
    ("function_name", "A_b-9"),
    ("function_name", "f" * 59),
    ("bucket_name", "abc"),
    ("bucket_name", "b" * 58),
    ("base_image", f"{AWS_PYTHON}:3.11"),
    ("base_image", "example.com:5000/team/base@sha256:" + "0" * 64),
    ("base_image", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/base:1.0"),
]

REFUSED = [
    ("project_name", ""),
    ("project_name", "two words"),
    ("project_name", " padded"),
    ("project_name", "1st"),
    ("project_name", "end-"),
    ("project_name", "../up"),
    ("project_name", "C:\\up"),
    ("project_name", "nul"),
    ("project_name", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
    ("project_name", "x" * 51),
    ("region", "europe"),
    ("region", "us-eats-1"),
    ("region", "us-east-0"),
    ("region", "us-east-1\nfoo: bar"),
    ("region", "us-east-1\N{ARABIC-INDIC DIGIT ONE}"),
    ("python_version", "3.8"),
    ("python_version", "3.9"),
    ("python_version", "3.14"),
    ("python_version", "3.11.7"),
    ("architecture", "mips"),
    ("memory_size", "127"),
    ("memory_size", "10241"),
    ("memory_size", "1 GB"),
    ("memory_size", "\N{ARABIC-INDIC DIGIT FIVE}12"),
    ("timeout", "0"),
    ("timeout", "901"),
    ("timeout", "-5"),
    ("timeout", "1e2"),
    ("function_name", ""),
    ("function_name", "f" * 60),
    ("function_name", "a.b"),
    ("function_name", '"; DROP'),
    ("function_name", "${AWS::StackName}"),
    ("bucket_name", "ab"),
    ("bucket_name", "b" * 59),
    ("bucket_name", "Upper"),
    ("bucket_name", "has.dot"),
    ("bucket_name", "under_score"),
    ("bucket_name", "-first"),
    ("bucket_name", "192.168.5.4"),
    ("bucket_name", "xn--abc"),
    ("bucket_name", "abc-s3alias"),
    ("bucket_name", "sthree-abc"),
    ("base_image", ""),
    ("base_image", "Upper/case:1"),
    ("base_image", "a b"),
    ("base_image", "x:1\nRUN true"),
    ("base_image", "x@sha256:12"),
    ("base_image", "a/" * 200 + "a"),
    ("base_image", "python:3.11-slim"),
    ("base_image", "docker.io/python:3.11-slim"),
    ("base_image", f"{AWS_PYTHON}:3.12"),
    ("base_image", f"{AWS_PYTHON}:3.11-arm64"),
    ("base_image", PUBLISHED),
]

PACKAGES = [
    ("", []),
    (" , ", []),
    ("numpy", ["numpy"]),
    ("numpy pandas>=2, scipy", ["numpy", "pandas>=2", "scipy"]),
    ("foo>=1,<2 bar", ["foo>=1,<2", "bar"]),
    ("foo >= 1 , bar", ["foo>=1", "bar"]),
    ("requests [security, socks] == 2.8.*", ["requests[security,socks]==2.8.*"]),
    ("torch==2.1.0+cpu\nx~=1.4.2", ["torch==2.1.0+cpu", "x~=1.4.2"]),
    ("a\u2028b", ["a", "b"]),
    ("a @ https://x.org/a-1.zip#sha256=ab, b", ["a @ https://x.org/a-1.zip#sha256=ab", "b"]),
    ("https://x.org/a-1-py3-none-any.whl", ["https://x.org/a-1-py3-none-any.whl"]),
    # pip reconciles these, or tells why not.
    ("numpy Numpy>=2", ["numpy", "Numpy>=2"]),
    ("a==1.2 A==1.02.0, a[x]==1.*", ["a==1.2", "A==1.02.0", "a[x]==1.*"]),
    (
        "a==1; os_name=='nt' a==2; os_name=='posix'",
        ["a==1 ; os_name=='nt'", "a==2 ; os_name=='posix'"],
    ),
    (
        "x; (os_name=='nt' or python_version < '3.11') and extra == 'y' z",
        ["x ; (os_name=='nt' or python_version < '3.11') and extra == 'y'", "z"],
    ),
]

REFUSED_PACKAGES = [
    "numpy==",
    "numpy 1.2",
    "numpy;",
    "numpy ; foo == '1'",
    "x ; python_version < '3",
    "x ; (python_version < '3'",
    "-r other",
    "--index-url https://x.org",
    "numpy$(id)",
    "${HOME}",
    "numpy'",
    '"numpy"',
    "numpy # comment",
    "a @ file:///etc/passwd",
    "git+https://github.com/a/b",
    "a @ git+https://github.com/a/b",
    "https://x.org/${SECRET}.whl",
    "a~=1",
    "\N{GREEK SMALL LETTER PI}",
    "missing-file.txt",
    "~nobody-has-this-name/requirements.txt",
    "C:\\Users\\me\\requirements.txt",
    '"C:\\Users\\me\\requirements.txt"',
    "C:\\Users\\me\\requirements.in",
    "numpy\\",
    "`id`",
    "a\u202eb",
    "a\x00b",
    "a ; (" + "(" * 2000,
    "a ; " + "(" * 2000 + "os_name == 'x'" + ")" * 2000,
    "1." * 5000 + "1",
]

# What is wrong and where, and how the next step starts.
SENTENCES = [
    ("../x", "'../x' names a file or folder; paths are taken only for"),
    ("numpy wheels/x", "'numpy wheels/x' names a file or folder at 'wheels/x'; paths"),
    ("x-1.whl", "'x-1.whl' names a file or folder; paths"),
    ("requirements.txt numpy", "'requirements.txt numpy' names a file or folder; paths"),
    ("-r requirements.txt", "'-r requirements.txt' has an option; leave it out"),
    ("numpy --pre", "'numpy --pre' has an option at '--pre'; leave it out"),
    ("a git+ssh://x", "'a git+ssh://x' has a version-control address at 'git+ssh://x'; give that"),
    ("a, b;", "'a, b;' has no condition such as python_version < '3.12' at the end; write one"),
    ("a; b", "'a; b' has no condition such as python_version < '3.12' at 'b'; write one"),
    ("a ; (extra=='x'", "\"a ; (extra=='x'\" has no closing parenthesis at the end; write one"),
    ("a @ b", "'a @ b' has no http(s) address at 'b'; write one that starts with https://"),
    ("a=1", "'a=1' cannot be understood at '=1'; give requirements such as"),
    ("'a'", "\"'a'\" has no package name; give requirements such as"),
    ("numpy 1.2", "'numpy 1.2' has the bare version '1.2'; write name==version"),
    ("a==1 b a==1.1", "'a==1 b a==1.1' has both 'a==1' and 'a==1.1'; keep one of the two"),
    ("A_b[x] == 1 a.B==2", "'A_b[x] == 1 a.B==2' has both 'A_b[x]==1' and 'a.B==2'; keep one"),
]

# What cookiecutter would run before any check sees it, or end in a traceback for.
JINJA = ["{{", "{% x", "{# x", "{{ 1/0 }}", "{{ nope }}", "{{ 7*7 }}", "{% for x in y %}"]


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_accepted(bake: Bake, name: str, value: str) -> None:
    """An answer within the rules generates a project that holds it."""
    answers = {"python_version": "3.11", name: value}
    project = bake(**answers)
    if name == "project_name":
        assert project.name == value
    files = ("template.yaml", "samconfig.toml", "function/Dockerfile")
    assert any(value in (project / file).read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_refused(bake: Bake, output: Path, name: str, value: str) -> None:
    """An answer outside the rules is named in one sentence, and nothing is generated."""
    answers = {"python_version": "3.11", name: value}
    with pytest.raises(FailedHookException) as refusal:
        bake(**answers)
    message = str(refusal.value)
    assert message.startswith(f"{name} ")
    assert message.isprintable() and message.endswith(".")
    assert list(output.iterdir()) == []


def test_unknown_python(bake: Bake) -> None:
    """A refusal lists the Pythons that a Covalent server runs on."""
    with pytest.raises(FailedHookException) as refusal:
        bake(python_version="3.9")
    assert "use your Covalent server's: 3.10, 3.11, 3.12, 3.13." in str(refusal.value)


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
@pytest.mark.parametrize("python", local_extensions.image.PYTHON_VERSIONS)
def test_published_image(bake: Bake, output: Path, python: str, architecture: str) -> None:
    """Covalent's published image has a Python of no server's; the way out works."""
    answers = {"python_version": python, "architecture": architecture}
    with pytest.raises(FailedHookException) as refusal:
        bake(**answers, base_image=PUBLISHED)
    assert "has Python 3.8, on which no Covalent server runs; use auto" in str(refusal.value)
    assert list(output.iterdir()) == []
    bake(**answers, base_image="auto")


@pytest.mark.parametrize(("text", "lines"), PACKAGES)
def test_packages(bake: Bake, text: str, lines: list[str]) -> None:
    """Requirements, however separated, end up one a line."""
    written = (bake(packages=text) / "function" / "requirements.txt").read_text(encoding="utf-8")
    assert [line for line in written.splitlines() if not line.startswith("#")] == lines


@pytest.mark.parametrize("text", REFUSED_PACKAGES, ids=lambda text: ascii(text)[:40])
def test_refused_packages(bake: Bake, output: Path, text: str) -> None:
    """What pip inside the build could not install, or might read as an option, is refused, in a
    sentence of bearable length."""
    with pytest.raises(FailedHookException, match=r"^packages .*; .*\.$") as refusal:
        bake(packages=text)
    assert len(str(refusal.value)) < 500
    assert list(output.iterdir()) == []


@pytest.mark.parametrize(("text", "sentence"), SENTENCES)
def test_sentences(bake: Bake, text: str, sentence: str) -> None:
    """A refusal says what is wrong, where unless it is all of it, and what to do."""
    with pytest.raises(FailedHookException) as refusal:
        bake(packages=text)
    assert str(refusal.value).startswith(f"packages {sentence}")


@pytest.mark.parametrize(
    "second",
    ["NumPy==2", "numpy == 2", "numpy==2  # new", f"numpy==2 --hash=sha256:{'0' * 64}"],
)
def test_two_pins_in_a_file(bake: Bake, tmp_path: Path, second: str) -> None:
    """A file that pins a package to two versions is refused as a list is, however written."""
    file = tmp_path / "two.txt"
    file.write_text(f"--prefer-binary\nnumpy==1\n# and\n{second}\n", encoding="utf-8")
    with pytest.raises(FailedHookException, match="has both 'numpy==1' and") as no:
        bake(packages=str(file))
    assert "keep one of the two" in str(no.value)


def test_all_that_does_not_fit_of_an_image_is_said_at_once(bake: Bake) -> None:
    """Python and processor that a tag names are refused together."""
    image = "public.ecr.aws/lambda/python:3.11-x86_64"
    with pytest.raises(
        FailedHookException, match=r"has Python 3\.11, but .* is 3\.12, and is"
    ) as no:
        bake(base_image=image, python_version="3.12", architecture="arm64")
    assert "built for x86_64, but architecture is arm64; make image and" in str(no.value)


def test_windows_path_is_shown_as_typed(bake: Bake) -> None:
    """A file that is not there is named without doubled backslashes."""
    with pytest.raises(FailedHookException) as refusal:
        bake(packages=r"C:\Users\me\requirements.txt")
    assert r"'C:\Users\me\requirements.txt' cannot be read" in str(refusal.value)


def test_nested_marker(bake: Bake) -> None:
    """A marker of as many parentheses as anybody may need is taken."""
    marker = "(" * 20 + "os_name == 'x'" + ")" * 20
    assert read_requirements(bake(packages=f"a ; {marker}")) == [f"a ; {marker}"]


@pytest.mark.parametrize("name", sorted(local_extensions.CHECKS))
@pytest.mark.parametrize("text", JINJA)
def test_jinja_is_refused(bake: Bake, output: Path, name: str, text: str) -> None:
    """An answer that is a template is refused before it is run, whether it would run or not."""
    with pytest.raises(FailedHookException, match=r"^answer '.*' holds a Jinja template, .*\.$"):
        bake(**{name: text})
    assert list(output.iterdir()) == []


def test_json_object(bake: Bake, output: Path) -> None:
    """`sam init --extra-context` can give an object, which no question takes."""
    with pytest.raises(FailedHookException, match=r"^timeout .* JSON object"):
        bake(timeout={"seconds": 900})
    assert list(output.iterdir()) == []


def test_partitions() -> None:
    """ARNs and service names of each region are those that AWS's own SDK knows."""
    session = botocore.session.Session()
    data = session.get_component("data_loader").load_data("partitions")
    for each in data["partitions"]:
        for region in each["regions"]:
            if "global" in region:
                continue
            assert local_extensions.check_region(region, {}) == region
            assert local_extensions.partition(region) == each["id"], region
            assert local_extensions.dns_suffix(region) == each["outputs"]["dnsSuffix"], region


def test_regions_outside_the_usual_partition(bake: Bake) -> None:
    """What is shown for a region of China can be pasted there."""
    project = bake(region="cn-north-1")
    assert "arn:aws-cn:kms:cn-north-1:" in (project / "samconfig.toml").read_text("utf-8")
    assert "logs.cn-north-1.amazonaws.com.cn" in (project / "README.md").read_text("utf-8")


def test_requirements_file(bake: Bake, tmp_path: Path) -> None:
    """A file's lines are taken over: comments, options, hashes and continuations too."""
    file = tmp_path / "my requirements.txt"
    file.write_text(
        "--extra-index-url https://example.org/simple\n"
        "# why numpy\nnumpy>=2  # fast\n\n"
        f"six==1.0 \\\n    --hash=sha256:{'0' * 64}\n",
        encoding="utf-8",
    )
    written = (bake(packages=str(file)) / "function" / "requirements.txt").read_text("utf-8")
    assert written.splitlines()[1:] == [
        "--extra-index-url https://example.org/simple",
        "# why numpy",
        "numpy>=2  # fast",
        "",
        f"six==1.0  --hash=sha256:{'0' * 64}",
    ]


@pytest.mark.parametrize(
    "line", ["-r more.txt", "-e .", "./wheel.whl", "numpy {{", "a\x1bb", "x y"]
)
def test_refused_requirements_file(bake: Bake, output: Path, tmp_path: Path, line: str) -> None:
    """A line that cannot work inside the image build is refused with its place in the file."""
    file = tmp_path / "wrong.txt"
    file.write_text(f"numpy\n{line}\n", encoding="utf-8")
    with pytest.raises(FailedHookException, match="entry 2"):
        bake(packages=str(file))
    assert list(output.iterdir()) == []


def test_two_projects_with_the_same_answers_share_no_name(bake: Bake, tmp_path: Path) -> None:
    """Stack, function, bucket and image of a second project with the default answers are others,
    and each project's own names end alike."""
    names = []
    for number in range(2):
        project = bake().rename(tmp_path / str(number))
        default = read_samconfig(project)["default"]
        pairs = read_overrides(default)
        (function,) = image_functions(read_template(project))
        stack = default["global"]["parameters"]["stack_name"]
        names.append([stack, pairs["FunctionName"], pairs["BucketName"], function])
        assert len({name[-8:] for name in names[-1]}) == 1
    assert all(first != second for first, second in zip(*names, strict=True))


def test_longest_names_are_within_aws_limits(bake: Bake) -> None:
    """With the longest project name, default names fit with every environment's suffix."""
    environments = read_samconfig(bake(project_name="p" * 50))
    for each in environments.values():
        assert len(each["global"]["parameters"]["stack_name"]) <= 104  # sam adds to it, up to 128
        assert len(read_overrides(each)["FunctionName"]) <= 64
        assert len(read_overrides(each)["BucketName"]) <= 63


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://user:secret@example.org/a.git", "https://example.org/a.git"),
        ("https://ghp_token@example.org/a", "https://example.org/a"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("gh:team/a", "https://github.com/team/a.git"),
        ("git+file:///srv/a", "/srv/a"),
        ("/home/ann@home/a", "/home/ann@home/a"),
    ],
)
def test_recorded_address_has_no_credentials(address: str, kept: str) -> None:
    """A password or token in the template's address does not get into the project."""
    assert local_extensions.address(address) == kept


@given(st.from_regex(r"[A-Za-z](?:[A-Za-z0-9_-]{0,48}[A-Za-z0-9])?", fullmatch=True))
@example("sthree-study")
@example("amzn-s3-demo-x")
@example("xn--x")
def test_default_bucket_name(project_name: str) -> None:
    """The default bucket name is a valid one whatever the project's name is."""
    assume(not WINDOWS_DEVICES.fullmatch(project_name))
    assert local_extensions.check_project_name(project_name, {}) == project_name
    name = local_extensions.unique_bucket_name(project_name)
    assert local_extensions.check_bucket_name(name, {}) == name
    assert local_extensions.suffix(name, project_name) == name[-8:]


def test_names_are_as_unique_as_the_bucket() -> None:
    """Buckets of one's own choice give each project other names, though they end in one date."""
    buckets = ("a-20261126", "b-20261126", "covalent-lambda-2026112", "c")
    ends = {local_extensions.suffix(each, "covalent-lambda") for each in buckets}
    assert len(ends) == len(buckets)
    assert all(re.fullmatch("[0-9a-f]{8}", end) for end in ends)


def test_command_line_refusal(template: Path, tmp_path: Path) -> None:
    """On the command line a refusal is one line and exit code 1."""
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input", "timeout=901"]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.startswith("timeout '901'")
    assert len(done.stdout.splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", r"'\xf8\u03c0\u202e'"), ("cp1252", r"'ø\u03c0\u202e'"), ("utf-8", r"'øπ\u202e'")],
)
def test_encodings(template: Path, tmp_path: Path, encoding: str, printed: str) -> None:
    """An answer is shown as typed as far as the terminal can; controls and marks of direction,
    which would change how the sentence reads, never are."""
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input"]
    command.append("region=øπ\u202e")
    surroundings = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.decode(encoding).startswith(f"region {printed} is not")


@given(st.text(), st.sampled_from(["ascii", "utf-8"]))
@example("\x1b[31m\u202e\u200b\ud800\n\N{NO-BREAK SPACE}", "utf-8")
def test_shown_on_one_line(text: str, encoding: str) -> None:
    """Whatever is shown is one line of bearable length that can be printed."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding=encoding)):
        line = shown(text)
    assert line.isprintable() and len(line.encode(encoding).decode(encoding)) <= 64


def test_every_question_is_checked_and_explained() -> None:
    """Each question has a prompt and a check right behind it; SAM's reserved name is not used."""
    entries = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    names = list(entries)
    questions = [name for name in names if not name.startswith("_")]
    assert "architectures" not in names
    assert set(entries["__prompts__"]) == set(questions) == set(local_extensions.CHECKS)
    for question in questions:
        following = entries[names[names.index(question) + 1]]
        assert following == f"{{{{ cookiecutter | checked('{question}') }}}}"
    assert not (TEMPLATE / "hooks").exists()


# Texts made of what requirements are made of: near misses, rather than noise.
PIECES = st.sampled_from(
    [
        *("numpy", "a-b.c", "1.0", "1.0rc1", "2.*", "[x,y]", "https://x.org/y.zip"),
        *("==", ">=", "~=", " ", ",", ";", "@", "(", ")", "'", "#", "$"),
        *("python_version < '3.9'", " and ", " or "),
    ]
)


@given(st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=20))
def test_accepted_requirements_are_valid(text: str) -> None:
    """Whatever the check lets through, the reference implementation reads as a requirement."""
    try:
        lines = list(requirements(text))
    except FailedHookException:
        return
    for line in lines:
        assert line.isascii() and line.isprintable()
        if not line.startswith("https://"):
            Requirement(line)


@given(st.lists(PIECES, min_size=1, max_size=6).map("".join))
def test_valid_requirements_are_accepted(text: str) -> None:
    """A single valid requirement with an index name or http(s) address is never refused."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return
    name, url = requirement.name, requirement.url
    # The reference takes any characters for an address; of these, pip would expand the last.
    assume(url is None or (url.startswith(("http://", "https://")) and not set("<>'$") & set(url)))
    # Formally a name, but nobody's: it was meant as the version of the word before it.
    assume(not re.fullmatch(r"[0-9.]+", name))
    # Formally `===` and a version that starts with `=`, which no package has.
    assume("====" not in text)
    assert len(list(requirements(text))) == 1


@given(st.text(max_size=70))
def test_any_text_is_refused_or_harmless(text: str) -> None:
    """No check lets through a character that could mean something in a generated file."""
    answers = {"__python_version": "3.11", "__architecture": "x86_64"}
    for name, check in local_extensions.CHECKS.items():
        if name == "packages":
            continue
        try:
            value = check(text, answers)
        except FailedHookException as refusal:
            assert "\n" not in str(refusal)
        else:
            assert re.fullmatch(r"[A-Za-z0-9._:/@-]+", value, re.ASCII)
