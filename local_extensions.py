"""Checks of the template's answers, as a Jinja extension that cookiecutter loads.

    cookiecutter.json: "timeout" -> "__timeout": "{{ cookiecutter | checked('timeout') }}"
                                      |
    CHECKS["timeout"](value, answers) +-> the value the templates use, in its plain form
                                      +-> Refused: one sentence, exit 1, nothing generated

Every question is followed by its check, so a wrong answer is refused before the next question
is asked. A value that passes is made only of characters that mean nothing special inside a quoted
YAML or TOML string, in a Dockerfile or in a shell. An answer that is itself a Jinja template is
refused before cookiecutter runs it. A filter is used rather than a hook because packaged versions
of SAM CLI refuse templates with Python hooks.

Standard library only, besides cookiecutter and Jinja: neither depends on ``packaging``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import ipaddress
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import NoReturn

from cookiecutter.config import BUILTIN_ABBREVIATIONS
from cookiecutter.exceptions import FailedHookException
from cookiecutter.repository import expand_abbreviations
from jinja2 import Environment
from jinja2.ext import Extension

Given = MutableMapping[str, str]

# What Covalent 0.240 lists; 3.8 is what Covalent's published base image was built for.
PYTHON_VERSIONS = ("3.10", "3.11", "3.12")
DEFAULT_PYTHON = "3.12"
ARCHITECTURES = ("x86_64", "arm64")
PUBLISHED_BASE = "public.ecr.aws/covalent/covalent-lambda-executor"
PUBLISHED_TAG = "stable"
PUBLISHED_PYTHON = "3.8"
PUBLISHED_ARCHITECTURE = "x86_64"

# Other environments of samconfig.toml append at most "-prod" to every name.
LONGEST_SUFFIX = len("-prod")
FUNCTION_NAME_LIMIT = 64 - LONGEST_SUFFIX
BUCKET_NAME_LIMIT = 63 - LONGEST_SUFFIX
# CloudFormation derives role and repository names from the stack's: 128 would be its own limit.
PROJECT_NAME_LIMIT = 50
RANDOM_BYTES = 4
PROJECT_FOLDER = "{{cookiecutter.project_name}}"

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MEMORY_MB = (128, 10240)
TIMEOUT_SECONDS = (1, 900)

# https://docs.aws.amazon.com/general/latest/gr/rande.html; all other regions are in "aws".
OTHER_PARTITIONS = {
    "cn-": ("aws-cn", "amazonaws.com.cn"),
    "us-gov-": ("aws-us-gov", "amazonaws.com"),
    "us-iso-": ("aws-iso", "c2s.ic.gov"),
    "us-isob-": ("aws-iso-b", "sc2s.sgov.gov"),
    "us-isof-": ("aws-iso-f", "csp.hci.ic.gov"),
    "eu-isoe-": ("aws-iso-e", "cloud.adc-e.uk"),
    "eusc-": ("aws-eusc", "amazonaws.eu"),
}

RESERVED_BUCKET_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_BUCKET_SUFFIXES = ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")

WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
SHOWN_LENGTH = 60


class Refused(FailedHookException):  # type: ignore[misc]  # cookiecutter publishes no types
    """An answer the template cannot use; cookiecutter prints the sentence and exits with 1."""


def refuse(what: str, value: object, cause: str, remedy: str) -> NoReturn:
    """Raise Refused with the one sentence every refusal is made of."""
    raise Refused(f"{what} {shown(value)} {cause}; {remedy}.")


def shown(value: object) -> str:
    """The value in quotes, cut, on one line, as it was typed where that can be printed."""
    text = repr(str(value)).replace("\\\\", "\\")  # a Windows path as it was typed
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}...{text[0]}"


# --- names -----------------------------------------------------------------------------------


def check_project_name(value: str, _answers: Given) -> str:
    """Folder and, with hyphens for underscores, CloudFormation stack."""
    remedy = (
        f"use up to {PROJECT_NAME_LIMIT} letters, digits, hyphens and underscores, "
        "a letter first and a letter or digit last"
    )
    if not re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?", value):
        refuse("project_name", value, "cannot name a folder and a CloudFormation stack", remedy)
    if len(value) > PROJECT_NAME_LIMIT:
        refuse("project_name", value, f"has {len(value)} characters", remedy)
    if WINDOWS_DEVICES.fullmatch(value):
        refuse("project_name", value, "is a device on Windows, not a folder", "use another name")
    return value


def check_region(value: str, _answers: Given) -> str:
    """Any region with a name like AWS's: new ones come several times a year."""
    direction = "central|(?:north|south)(?:east|west)?|east|west"
    if not re.fullmatch(rf"[a-z]{{2,4}}(?:-[a-z]{{2,4}})?-(?:{direction})-[1-9][0-9]?", value):
        refuse("region", value, "is not the name of an AWS region", "use one such as us-east-1")
    return value


def partition(region: str) -> str:
    """What ARNs in this region start with, after ``arn:``."""
    return _partition_and_suffix(region)[0]


def dns_suffix(region: str) -> str:
    """What the names of AWS's services in this region end with."""
    return _partition_and_suffix(region)[1]


def _partition_and_suffix(region: str) -> tuple[str, str]:
    for prefix, names in OTHER_PARTITIONS.items():
        if region.startswith(prefix):
            return names
    return "aws", "amazonaws.com"


def check_function_name(value: str, _answers: Given) -> str:
    remedy = f"use 1 to {FUNCTION_NAME_LIMIT} letters, digits, hyphens and underscores"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        refuse("function_name", value, "is not a Lambda function name", remedy)
    if len(value) > FUNCTION_NAME_LIMIT:
        cause = f"has {len(value)} characters, and Lambda allows 64 with '-prod' appended"
        refuse("function_name", value, cause, remedy)
    return value


def check_bucket_name(value: str, _answers: Given) -> str:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, less dots."""
    remedy = (
        f"use 3 to {BUCKET_NAME_LIMIT} lower-case letters, digits and hyphens, "
        "a letter or digit first and last"
    )
    if _is_ip_address(value):
        refuse("bucket_name", value, "is an IP address", remedy)
    if "." in value:
        refuse("bucket_name", value, "has a dot, which breaks TLS to the bucket", remedy)
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", value):
        refuse("bucket_name", value, "is not an S3 bucket name", remedy)
    if not 3 <= len(value) <= BUCKET_NAME_LIMIT:
        cause = f"has {len(value)} characters, and S3 allows 3 to 63 with '-prod' appended"
        refuse("bucket_name", value, cause, remedy)
    if value.startswith(RESERVED_BUCKET_PREFIXES) or value.endswith(RESERVED_BUCKET_SUFFIXES):
        reserved = ", ".join((*RESERVED_BUCKET_PREFIXES, *RESERVED_BUCKET_SUFFIXES))
        cause = "starts or ends with letters reserved by S3"
        refuse("bucket_name", value, cause, f"use a name without {reserved}")
    return value


def _is_ip_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def unique_bucket_name(project_name: str) -> str:
    """A bucket name nobody else has: bucket names are shared by all AWS accounts."""
    return f"{_bucket_stem(project_name)}-{secrets.token_hex(RANDOM_BYTES)}"


def suffix(bucket: str, project_name: str) -> str:
    """The end of the project's other names, as unique as the bucket's.

    With the default answers alone, two projects in one account would otherwise be one stack. It
    follows from an answer, so that an update of the project keeps it.
    """
    digits = 2 * RANDOM_BYTES
    default = re.fullmatch(rf"(.*)-([0-9a-f]{{{digits}}})", bucket)
    if default and default[1] == _bucket_stem(project_name):
        return default[2]
    return hashlib.sha256(bucket.encode()).hexdigest()[:digits]


def _bucket_stem(project_name: str) -> str:
    room = BUCKET_NAME_LIMIT - 2 * RANDOM_BYTES - 1
    slug = re.sub(r"[^a-z0-9]+", "-", project_name.lower())
    if slug.startswith(RESERVED_BUCKET_PREFIXES):
        slug = f"covalent-{slug}"
    return slug[:room].strip("-")


# --- where the template comes from -----------------------------------------------------------


def address(template: str) -> str:
    """Where the template is, as git and cruft take it.

    Without a user and a password or token: projects are published.
    """
    whole = expand_abbreviations(template.removeprefix("git+"), BUILTIN_ABBREVIATIONS)
    return re.sub(r"(?<=://)[^/@]*@", "", whole).removeprefix("file://")


def template_version() -> str:
    """What git calls the version of the template; empty when it does not come from git."""
    folder = Path(__file__).parent
    if not (folder / ".git").exists():  # git would name the version of a folder above
        return ""
    command = ["git", "-C", str(folder), "describe", "--tags", "--always", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


# --- numbers and choices ---------------------------------------------------------------------


def _whole_number(name: str, unit: str, limits: tuple[int, int]) -> Callable[[str, Given], str]:
    low, high = limits

    def check(value: str, _answers: Given) -> str:
        is_number = re.fullmatch(r"[0-9]{1,9}", value)
        if not is_number or not low <= int(value) <= high:
            cause = f"is not what Lambda allows ({low} to {high} {unit})"
            refuse(name, value, cause, f"give a whole number from {low} to {high}")
        return str(int(value))

    return check


def running_python() -> str:
    """Default of python_version: the Python at work here, as client and function must agree."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    return running if running in PYTHON_VERSIONS else DEFAULT_PYTHON


def check_python_version(value: str, _answers: Given) -> str:
    if value not in (*PYTHON_VERSIONS, PUBLISHED_PYTHON):
        remedy = (
            f"use your Covalent server's ({', '.join(PYTHON_VERSIONS)}), or {PUBLISHED_PYTHON} "
            "for Covalent's published image"
        )
        refuse("python_version", value, "is not a Python this template knows", remedy)
    return value


def check_architecture(value: str, _answers: Given) -> str:
    if value not in ARCHITECTURES:
        refuse("architecture", value, "is not one that Lambda has", "use x86_64 or arm64")
    return value


# --- base image ------------------------------------------------------------------------------

# https://github.com/distribution/reference: [domain[:port]/]path[:tag][@digest]
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})+(?::[0-9]{{1,5}})?|localhost|{_LABEL}:[0-9]{{1,5}})"
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?P<repository>(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?P<digest>@sha256:[0-9a-f]{64})?"
)
IMAGE_LENGTH_LIMIT = 255
PLAIN_PYTHON = (
    "python",
    "library/python",
    "docker.io/python",
    "docker.io/library/python",
    "public.ecr.aws/docker/library/python",
)


def check_base_image(value: str, answers: Given) -> str:
    """Return ``auto`` or the image to extend; for Python 3.8 ``auto`` is the published image."""
    python = answers["__python_version"]
    if value == "auto":
        if python != PUBLISHED_PYTHON:
            return value
        value = f"{PUBLISHED_BASE}:{PUBLISHED_TAG}"
    match = IMAGE.fullmatch(value) if len(value) <= IMAGE_LENGTH_LIMIT else None
    if not match:
        cause = "is not an image reference"
        refuse("base_image", value, cause, "use auto or one such as public.ecr.aws/name:tag")
    repository, tag = match["repository"], match["tag"] or ""
    if repository == PUBLISHED_BASE:
        _check_published_base(value, answers)
    _check_image_fits(value, repository, tag, answers)
    return value


def _check_published_base(value: str, answers: Given) -> None:
    """Name both ways out at once: half of one may only lead to the next refusal."""
    python, architecture = answers["__python_version"], answers["__architecture"]
    if (python, architecture) != (PUBLISHED_PYTHON, PUBLISHED_ARCHITECTURE):
        published = f"Python {PUBLISHED_PYTHON} on {PUBLISHED_ARCHITECTURE}"
        cause = (
            f"(Covalent's published image, which auto takes for Python {PUBLISHED_PYTHON}) is for "
            f"{published} only, not for {python} on {architecture}"
        )
        remedy = (
            f"answer auto to base_image and {PYTHON_VERSIONS[0]} or later to python_version, or "
            f"{PUBLISHED_PYTHON} to python_version and {PUBLISHED_ARCHITECTURE} to architecture"
        )
        refuse("base_image", value, cause, remedy)


def _check_image_fits(value: str, repository: str, tag: str, answers: Given) -> None:
    """Refuse what the well-known names already tell; the image build checks all others."""
    python, architecture = answers["__python_version"], answers["__architecture"]
    if repository in PLAIN_PYTHON:
        cause = "is a plain Python image without Lambda's runtime client"
        refuse("base_image", value, cause, f"use auto or public.ecr.aws/lambda/python:{python}")
    causes = []
    found = re.match(r"3\.[0-9]+", tag)
    if repository.endswith("/python") and found and found[0] != python:
        causes.append(f"has Python {found[0]}, but python_version is {python}")
    other = re.search(r"(arm64|x86_64|amd64)$", tag)
    if other and other[0].replace("amd64", "x86_64") != architecture:
        causes.append(f"is built for {other[0]}, but architecture is {architecture}")
    if causes:
        remedy = "make image and answers agree, or use auto"
        refuse("base_image", value, ", and ".join(causes), remedy)


# --- packages --------------------------------------------------------------------------------
# https://packaging.python.org/en/latest/specifications/dependency-specifiers/

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_RELEASE = r"v?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)*"
_PRE_POST_DEV = (
    r"(?:[-_.]?(?:alpha|beta|preview|pre|rc|a|b|c)[-_.]?[0-9]*)?"
    r"(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?"
    r"(?:[-_.]?dev[-_.]?[0-9]*)?"
)
_LOCAL = r"(?:\+[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*)?"
_SPECIFIER = (
    rf"(?:(?:==|!=)\s*{_RELEASE}\.\*"
    rf"|(?:==(?!=)|!=)\s*{_RELEASE}{_PRE_POST_DEV}{_LOCAL}"
    rf"|(?:<=|>=|<|>)\s*{_RELEASE}{_PRE_POST_DEV}"
    rf"|~=\s*v?(?:[0-9]+!)?[0-9]+(?:\.[0-9]+)+{_PRE_POST_DEV}"
    r"|===\s*[A-Za-z0-9.+!_-]+)"
)
_VARIABLE = (
    r"(?:python_version|python_full_version|os_name|sys_platform|platform_release"
    r"|platform_system|platform_version|platform_machine|platform_python_implementation"
    r"|implementation_name|implementation_version|extra)"
)
_TEXT = r"""(?:'[\w .,+*/!()-]*'|"[\w .,+*/!()-]*")"""
_OPERATOR = r"(?:===|==|~=|!=|<=|>=|<|>|in\b|not\s+in\b)"
# RFC 3986 characters less quotes and $, which pip would expand.
_URL = r"https?://[A-Za-z0-9\-._~:/?#\[\]@!&()*+,;=%]+"

NAME = re.compile(_NAME, re.ASCII)
EXTRAS = re.compile(rf"\[\s*(?:{_NAME}(?:\s*,\s*{_NAME})*)?\s*\]", re.ASCII)
SPECIFIERS = re.compile(
    rf"{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*|\(\s*{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*\s*\)",
    re.ASCII | re.IGNORECASE,
)
URL = re.compile(_URL)
CONDITION = re.compile(
    rf"(?:{_VARIABLE}|{_TEXT})\s*{_OPERATOR}\s*(?:{_VARIABLE}|{_TEXT})(?!\w)", re.ASCII
)
AT, SEMICOLON, OPENING, CLOSING, AND_OR, SPACE, GAP = (
    re.compile(pattern) for pattern in ("@", ";", r"\(", r"\)", r"(?:and|or)\b", r"\s*", r"[\s,]*")
)
BARE_VERSION = re.compile(r"v?[0-9]+(?:\.[0-9]+)*")
PIN = re.compile(rf"({_NAME})(?:\[.*\])?==([0-9]+(?:\.[0-9]+)*)", re.ASCII)
# 1.02 and 1.2.0 are the same version.
IDLE_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])|(?:\.0+)+$")

# The readers of pip and of the project's own tests recurse.
DEEPEST_MARKER = 20
# First line of a requirements file that was read once and is kept among the answers.
REMEMBERED = "# requirements file"

PACKAGES_REMEDY = (
    "give requirements such as numpy==2.1 pandas>=2,<3 name @ https://... without quotes, "
    "separated by spaces or commas, or the path of a requirements file that ends in .txt"
)
# Often given as a requirement: what it looks like, what it is, and what to do.
MISTAKES = (
    (
        re.compile(r"-"),
        "has an option",
        "leave it out, or give the path of a requirements file that ends in .txt, which may hold "
        "the options that name an index",
    ),
    (
        re.compile(r"(?:[^\s,;@]+\s*@\s*)?(?:git|hg|svn|bzr)\+"),
        "has a version-control address",
        "give that of an archive (https://....zip), as the image has no version-control client",
    ),
    (
        # pip takes a name that ends like an archive's for a file.
        re.compile(
            r"(?!\w\w+:)(?:\.|[^\s,;@]*[/\\]"
            r"|[\w.-]*\.(?:txt|whl|zip|tgz|tar(?:\.(?:gz|bz2|xz))?)(?![\w.-]))"
        ),
        "names a file or folder",
        "paths are taken only for a requirements file that ends in .txt, alone and without quotes",
    ),
)
# What pip accepts in a requirements file and what makes sense inside an image build.
FILE_OPTION = re.compile(
    r"(?:(?:--index-url|-i|--extra-index-url|--find-links|-f)[ =]\s*https?://[^\s'\"]+"
    r"|--trusted-host[ =]\s*[\w.:-]+|--(?:no-binary|only-binary)[ =]\s*[\w.,:-]+"
    r"|--prefer-binary|--pre|--require-hashes)",
    re.ASCII,
)
HASH = re.compile(r"\s--hash[ =]sha(?:256|384|512):[0-9a-f]+")
CONTINUATION = re.compile(r"\\\n\s*")


class Scanner:
    """A position in a text that moves over what is taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def take(self, pattern: re.Pattern[str]) -> str:
        """Skip blanks, then take a match of the pattern; empty when there is none."""
        start = self._after(SPACE)
        match = pattern.match(self.text, start)
        if not match or not match[0]:
            return ""
        self.position = match.end()
        return match[0]

    def need(self, pattern: re.Pattern[str], what: str, remedy: str) -> str:
        return self.take(pattern) or self.fail(f"has no {what}", remedy)

    def fail(self, cause: str, remedy: str) -> NoReturn:
        rest = self.text[self.position :].strip()
        place = f"at {shown(rest)}" if rest else "at the end"
        where = "" if rest == self.text.strip() else f" {place}"
        refuse("packages", self.text, f"{cause}{where}", remedy)

    def skip_gap(self) -> bool:
        """Move over blanks and commas; False when a next word follows without either."""
        before, self.position = self.position, self._after(GAP)
        return self.position > before or self.at_end()

    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def _after(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.position)
        return match.end() if match else self.position


def requirements(text: str) -> Iterator[str]:
    """Yield each requirement of a text, on one line and evenly spaced."""
    scanner = Scanner(text)
    scanner.skip_gap()
    while not scanner.at_end():
        yield _requirement(scanner)
        if not scanner.skip_gap():
            scanner.fail("cannot be understood", PACKAGES_REMEDY)


def _requirement(scanner: Scanner) -> str:
    _refuse_mistakes(scanner)
    bare_url = _url(scanner)
    if bare_url:
        return bare_url + _marker(scanner)
    name = scanner.need(NAME, "package name", PACKAGES_REMEDY)
    if BARE_VERSION.fullmatch(name):
        cause = f"has the bare version {shown(name)}"
        refuse("packages", scanner.text, cause, "write name==version")
    head = name + re.sub(r"\s", "", scanner.take(EXTRAS))
    if scanner.take(AT):
        address = _url(scanner) or scanner.fail(
            "has no http(s) address", "write one that starts with https:// there"
        )
        return f"{head} @ {address}{_marker(scanner)}"
    versions = re.sub(r"[\s()]", "", scanner.take(SPECIFIERS))
    return head + versions + _marker(scanner)


def _refuse_mistakes(scanner: Scanner) -> None:
    for pattern, cause, remedy in MISTAKES:
        if pattern.match(scanner.text, scanner.position):
            scanner.fail(cause, remedy)


def _url(scanner: Scanner) -> str:
    """Take an address; a comma or semicolon at its end belongs to what follows."""
    taken = scanner.take(URL)
    address = taken.rstrip(",;")
    scanner.position -= len(taken) - len(address)
    return address


def _marker(scanner: Scanner) -> str:
    if not scanner.take(SEMICOLON):
        return ""
    start = scanner.position
    _conditions(scanner)
    return " ; " + " ".join(scanner.text[start : scanner.position].split())


def _conditions(scanner: Scanner) -> None:
    depth = 0
    while True:
        while scanner.take(OPENING):
            depth += 1
        if depth > DEEPEST_MARKER:
            remedy = f"use at most {DEEPEST_MARKER} around a condition"
            scanner.fail("has too many parentheses", remedy)
        remedy = "write one there, or separate packages by spaces or commas only"
        scanner.need(CONDITION, "condition such as python_version < '3.12'", remedy)
        while depth and scanner.take(CLOSING):
            depth -= 1
        if not scanner.take(AND_OR):
            break
    if depth:
        scanner.fail("has no closing parenthesis", "write one there")


def check_packages(value: str, answers: Given) -> str:
    """Return the lines for requirements.txt from a list of requirements or from a file."""
    value = value.strip()
    if is_jinja(value):
        refuse("packages", value, "has braces that belong to no requirement", PACKAGES_REMEDY)
    if _is_text_file(value):
        lines = list(_checked_lines(_read(value), Path(value).name))
        _refuse_two_pins(value, lines)
        # What is kept for a replay or for `cruft update` must do without the file, which may
        # have changed by then, or be on another machine.
        answers["packages"] = "\n".join([REMEMBERED, *lines])
        return "\n".join(lines)
    if value.startswith(REMEMBERED):
        return "\n".join(_checked_lines(value.removeprefix(REMEMBERED)[1:], "remembered file"))
    lines = list(requirements(value))
    _refuse_two_pins(value, lines)
    return "\n".join(lines)


def _is_text_file(value: str) -> bool:
    is_one_line = "\n" not in value and "://" not in value
    return is_one_line and value.lower().endswith(".txt") and not value.startswith("-")


def _refuse_two_pins(value: str, lines: list[str]) -> None:
    """Refuse two versions of a package; whether ranges overlap, pip tells in the image build."""
    pins: dict[str, tuple[str, str]] = {}
    for line in lines:
        content = _content(line)
        listed = [] if FILE_OPTION.fullmatch(content) else requirements(content)
        pin = PIN.fullmatch("".join(listed))
        if not pin:
            continue
        # https://packaging.python.org/en/latest/specifications/name-normalization/
        name = re.sub(r"[-_.]+", "-", pin[1]).lower()
        version = IDLE_ZEROS.sub("", pin[2])
        other, first = pins.setdefault(name, (version, line))
        if version != other:
            cause = f"has both {shown(first)} and {shown(line)}"
            refuse("packages", value, cause, "keep one of the two")


def _read(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8-sig")
    # RuntimeError: the home of a user who does not exist.
    except (OSError, UnicodeError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "give only the path of a text file in UTF-8"
        refuse("packages", name, f"cannot be read ({reason})", remedy)


def _checked_lines(text: str, source: str) -> Iterator[str]:
    for number, line in enumerate(CONTINUATION.sub(" ", text).splitlines(), 1):
        yield _checked_line(line.rstrip(), f"{shown(source)}, entry {number}")


def _content(line: str) -> str:
    """What stands in a line of a requirements file besides comment and hashes."""
    return HASH.sub("", re.sub(r"(?:^|\s)#.*", "", line)).strip()


def _checked_line(line: str, where: str) -> str:
    """Return a line of a requirements file unchanged if pip can use it inside the image."""
    line = line.expandtabs(1)
    content = _content(line)
    if not line.isprintable() or is_jinja(line):
        refuse("packages", line, f"({where}) has characters no requirement has", "remove them")
    if not content or FILE_OPTION.fullmatch(content):
        return line
    try:
        found = list(requirements(content))
    except Refused:
        found = []
    if len(found) != 1:
        cause = f"({where}) is no single requirement that an image build can install"
        remedy = "keep requirements, https addresses and index options, but no -r, -c, -e or paths"
        refuse("packages", line, cause, remedy)
    return line


# --- the extension ---------------------------------------------------------------------------

CHECKS: dict[str, Callable[[str, Given], str]] = {
    "project_name": check_project_name,
    "region": check_region,
    "python_version": check_python_version,
    "packages": check_packages,
    "architecture": check_architecture,
    "base_image": check_base_image,
    "memory_size": _whole_number("memory_size", "MB", MEMORY_MB),
    "timeout": _whole_number("timeout", "seconds", TIMEOUT_SECONDS),
    "function_name": check_function_name,
    "bucket_name": check_bucket_name,
}


def checked(answers: Given, name: str) -> str:
    """The filter: the answer to one question in its plain form, or Refused."""
    # cookiecutter asks for JSON objects last, so that one is not there yet.
    if name not in answers:
        refuse(name, "{...}", "is a JSON object, not a text", "give one value")
    value = str(answers[name])
    # The folder is named by the answer itself, so blanks around it are not forgiven.
    return CHECKS[name](value if name == "project_name" else value.strip(), answers)


def is_jinja(text: str) -> bool:
    """Whether Jinja would see more than plain text in it."""
    return any(mark in text for mark in ("{{", "{%", "{#"))


class Answers(Extension):
    """What cookiecutter.json names under ``_extensions``."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        forget_this_module()
        entries = json.loads(Path(__file__).with_name("cookiecutter.json").read_text("utf-8"))
        self.own = {PROJECT_FOLDER, *(text for text in entries.values() if isinstance(text, str))}
        filters = (checked, partition, dns_suffix, suffix, address)
        environment.filters.update({each.__name__: each for each in filters})
        functions = (running_python, unique_bucket_name, template_version)
        environment.globals.update({each.__name__: each for each in functions})

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Refuse an answer that is a Jinja template: cookiecutter would run it.

        It renders each answer that was not typed in; Jinja calls this before. Files of the
        template have a name; nameless are the answers, the questions' own defaults, and paths.
        """
        if name is None and is_jinja(source) and source not in self.own:
            cause = "holds a Jinja template, which no question takes"
            refuse("answer", source, cause, "leave out {{, {% and {#")
        return source


def forget_this_module() -> None:
    """Let the next import read this file anew.

    ``cruft update`` generates the project's version and a later one in one process and from one
    folder; the module of the first would check the answers of the second. The compiled file goes
    too: Python tells whether it is old by times in whole seconds.
    """
    sys.modules.pop(__name__, None)
    with contextlib.suppress(OSError):
        Path(importlib.util.cache_from_source(__file__)).unlink()
