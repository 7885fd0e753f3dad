"""The function: whether it can run, and whether its image fits this side."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lambda_calls import wire
from lambda_calls.aws import refusals

from .. import aws
from .finding import Remark, missing, ok, partial
from .packages import differs, normal, required
from .situation import Situation, Unknown


def state(situation: Situation) -> Iterator[Remark]:
    """Whether it exists, and what Lambda says of it."""
    from botocore.exceptions import ClientError

    name = situation.function
    try:
        found = situation.client("lambda").get_function_configuration(FunctionName=name)
    except ClientError as error:
        if refusals.code(error) == "ResourceNotFoundException":
            region = situation.settings.region
            yield missing(
                f"there is no function {name} in {region.value} (from {region.origin})",
                situation.deploy,
            )
        elif aws.is_denied(error):
            yield partial(
                "its state is not checked: lambda:GetFunctionConfiguration is not allowed to "
                "these credentials. The image's answer shows whether it runs"
            )
        else:
            raise
        return
    yield ok(
        f"{name}: {', '.join(found.get('Architectures', ['x86_64']))}, "
        f"{found.get('MemorySize')} MB, {found.get('Timeout')} s"
    )
    yield from _of_state(found, situation)


def _of_state(found: Mapping[str, Any], situation: Situation) -> Iterator[Remark]:
    now, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
    why = found.get("StateReason") or found.get("LastUpdateStatusReason") or "no reason given"
    if now == "Failed" or update == "Failed":
        yield missing(f"state {now}, last update {update}: {why}", situation.deploy)
    elif now == "Inactive":
        yield partial("it sleeps: the first electron wakes it, within minutes")
    elif now != "Active" or update != "Successful":
        yield partial(f"state {now}, last update {update}: {why}", "wait a minute")


def image(situation: Situation) -> Iterator[Remark]:
    """What its image holds, against what is here."""
    from botocore.exceptions import ClientError

    try:
        pong = situation.pong()
    except ClientError as error:
        if refusals.code(error) == "ResourceNotFoundException":
            raise Unknown("there is no function, see Function") from error
        yield missing(
            f"it could not be asked: {refusals.said(error)}",
            _ATTACH if aws.is_denied(error) else "",
        )
        return
    if "said" in pong:
        yield missing(
            f"the function does not answer a ping: {pong['said']!r}. Is it built from this "
            "project?",
            situation.deploy,
        )
        return
    yield from _versions(pong, situation)
    yield from _packages(pong, situation)


_ATTACH = (
    "aws iam attach-user-policy --user-name <you> --policy-arn <the stack's output "
    "ExecutorPolicyArn>"
)


def _versions(pong: Mapping[str, Any], situation: Situation) -> Iterator[Remark]:
    yield ok(f"Python {pong['python']}, cloudpickle {pong['cloudpickle']}, {pong['architecture']}")
    if pong.get(wire.MARK) != wire.PROTOCOL:
        yield missing(
            f"it speaks protocol {pong.get(wire.MARK)}, the executor {wire.PROTOCOL}",
            f"{situation.deploy} && pip install ./executor",
        )
    here = platform.python_version()
    if wire.minor(pong["python"]) != wire.minor(here):
        yield missing(
            f"its Python is {wire.minor(pong['python'])}, this one's {wire.minor(here)}: what "
            "one pickles the other cannot load",
            f"python{wire.minor(pong['python'])} -m venv .venv (for Covalent and your scripts), "
            "or a project with this Python",
        )
    own = _version("cloudpickle")
    if own and differs(own, pong["cloudpickle"]):
        yield partial(
            f"its cloudpickle is {pong['cloudpickle']}, this one's {own}: some functions do not "
            "load",
            f"pip install cloudpickle=={pong['cloudpickle']}",
        )


def _packages(pong: Mapping[str, Any], situation: Situation) -> Iterator[Remark]:
    """The packages of function/requirements.txt, in the image and here."""
    if "packages" not in pong:
        yield partial(
            "it does not tell its packages: it was deployed from an earlier version",
            situation.deploy,
        )
        return
    there = {normal(name): said for name, said in pong["packages"].items()}
    requirements = _requirements(situation)
    if requirements is None:
        return
    names = required(requirements)
    lacking = [name for name in names if normal(name) not in there]
    if lacking:
        yield missing(
            f"{requirements} names {', '.join(lacking)}, which the image lacks", situation.deploy
        )
    for name in names:
        own, its = _version(name), there.get(normal(name))
        if own and its and differs(own, its):
            yield partial(
                f"{name} is {its} in the image and {own} here: what one pickles the other may "
                "not load",
                f"pip install {name}=={its}",
            )
    if names and not lacking:
        found = [f"{name} {there[normal(name)]}" for name in names]
        yield ok(f"your packages in it: {', '.join(found)}")


def _requirements(situation: Situation) -> Path | None:
    if not situation.settings.samconfig:
        return None
    path = Path(situation.settings.samconfig).parent / "function" / "requirements.txt"
    return path if path.is_file() else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
