"""Where names come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lambda_calls.settings import Kind, deploy_option, passed_over, shadowed
from lambda_calls.settings.files import Files

from .. import names
from ..errors import CommandError
from .finding import Remark, missing, ok, partial
from .situation import Situation

_CONFIGURE = "covalent-lambda configure"


def check(situation: Situation) -> Iterator[Remark]:
    """Which samconfig.toml applies, and where each setting comes from."""
    if situation.found is None:
        yield missing(situation.problem)
        return
    settings = situation.found
    if settings.samconfig:
        yield ok(f"{settings.samconfig}, environment {settings.config_env}")
        yield from _hidden(Path(settings.samconfig), settings.config_env)
    else:
        why = passed_over(Path.cwd())
        yield ok(f"no samconfig.toml of this kind of project in {Path.cwd()} or above{_and(why)}")
    for name, setting in settings.by_name().items():
        if setting.value:
            yield ok(f"{name} = {setting.value}  (from {setting.origin})")
    if settings.function_name.origin.kind is Kind.DEFAULT:
        yield missing(
            "nobody names the function: the documented default is nobody's in particular",
            f"cd <your project> && {_CONFIGURE}",
        )
    elif settings.bucket is None:
        yield partial(
            "nobody names a bucket: arguments of more than 6 MB, cancelling and re-attaching "
            "need one",
            f"cd <your project> && {_CONFIGURE}",
        )
    yield from _by_name(situation)


def _hidden(samconfig: Path, environment: str) -> Iterator[Remark]:
    """Whether parameters that somebody may edit no longer count."""
    if shadowed(samconfig, environment, Files()):
        yield partial(
            f"parameter_overrides under [{environment}.deploy.parameters] hide all of those under "
            f"[{environment}.global.parameters]; `sam deploy --guided` writes such a table",
            f"delete parameter_overrides under [{environment}.deploy.parameters]",
        )


def _by_name(situation: Situation) -> Iterator[Remark]:
    """What `executor="awslambda"` takes, which the server resolves from covalent.conf."""
    try:
        conf = names.covalent_conf()
    except CommandError:
        return  # the check of Covalent says it
    settings = situation.settings
    said = conf.values["function_name"] or ""
    if said == settings.function_name.value:
        return
    shown = f"names {said!r}" if said else "names no function"
    yield partial(
        f'covalent.conf {shown}: executor="awslambda" does not mean the function above',
        _CONFIGURE + deploy_option(settings.config_env),
    )


def _and(why: str) -> str:
    return f" ({why})" if why else ""
