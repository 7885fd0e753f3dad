"""What the function's image is made of and runs on: Python, processor, base, sizes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from .refusals import Given, refuse

# What Covalent 0.240 runs on.
PYTHON_VERSIONS = ("3.10", "3.11", "3.12", "3.13")
DEFAULT_PYTHON = "3.12"
ARCHITECTURES = ("x86_64", "arm64")
PUBLISHED_BASE = "public.ecr.aws/covalent/covalent-lambda-executor"

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MEMORY_MB = (128, 10240)
TIMEOUT_SECONDS = (1, 900)


def whole_number(name: str, unit: str, limits: tuple[int, int]) -> Callable[[str, Given], str]:
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
    if value == "3.1":
        cause = "is what YAML and JSON make of the number 3.10"
        refuse("python_version", value, cause, "put '3.10' in quotes")
    if value not in PYTHON_VERSIONS:
        remedy = f"use your Covalent server's: {', '.join(PYTHON_VERSIONS)}"
        refuse("python_version", value, "is not a Python that Covalent's server runs on", remedy)
    return value


def check_architecture(value: str, _answers: Given) -> str:
    if value not in ARCHITECTURES:
        refuse("architecture", value, "is not one that Lambda has", "use x86_64 or arm64")
    return value


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
    """Return ``auto`` or the image to extend."""
    if value == "auto":
        return value
    match = IMAGE.fullmatch(value) if len(value) <= IMAGE_LENGTH_LIMIT else None
    if not match:
        cause = "is not an image reference"
        refuse("base_image", value, cause, "use auto or one such as public.ecr.aws/name:tag")
    repository, tag = match["repository"], match["tag"] or ""
    if repository == PUBLISHED_BASE:
        cause = "has Python 3.8, on which no Covalent server runs"
        refuse("base_image", value, cause, "use auto, which builds that base for your Python")
    _check_image_fits(value, repository, tag, answers)
    return value


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
