"""An origin is data; its prose is made in one place."""

from __future__ import annotations

import json

import pytest
from lambda_calls.settings import Kind, Origin, deploy_command

ORIGINS = [
    (Origin.argument("region"), "the argument region="),
    (
        Origin(Kind.SAMCONFIG, "/p/samconfig.toml", "prod.global.parameters", "region", "prod"),
        "/p/samconfig.toml [prod.global.parameters] region",
    ),
    (Origin(Kind.SAMCONFIG, "/p/more.yaml", key="FunctionName"), "/p/more.yaml FunctionName"),
    (
        Origin(Kind.STACK, "/p/samconfig.toml", key="BucketName", stack="s"),
        "the output BucketName of stack 's'",
    ),
    (
        Origin(Kind.COVALENT_CONF, "/c/covalent.conf", "executors.awslambda", "timeout"),
        "/c/covalent.conf [executors.awslambda] timeout",
    ),
    (Origin(Kind.ENVIRONMENT, key="AWS_REGION"), "the variable AWS_REGION"),
    (Origin(Kind.AWS_CONFIG, "/h/config", "profile x", "region"), "/h/config [profile x] region"),
    (Origin(Kind.DEFAULT), "the documented default"),
    (Origin(Kind.DEFAULT, note="nothing found"), "the documented default: nothing found"),
]


@pytest.mark.parametrize(("origin", "said"), ORIGINS)
def test_words(origin: Origin, said: str) -> None:
    """Each kind of origin has words that follow "from"."""
    assert str(origin) == said


@pytest.mark.parametrize("origin", [origin for origin, _ in ORIGINS])
def test_json(origin: Origin) -> None:
    """An origin survives JSON, as Covalent carries it to its server."""
    assert Origin.from_dict(json.loads(json.dumps(origin.as_dict()))) == origin


def test_every_kind_is_shown() -> None:
    """No kind was forgotten above."""
    assert {origin.kind for origin, _ in ORIGINS} == set(Kind)


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ("", "sam build && sam deploy"),
        ("default", "sam build && sam deploy"),
        ("prod", "sam build && sam deploy --config-env prod"),
        ("a; b", "sam build && sam deploy --config-env 'a; b'"),  # one word for a shell
    ],
)
def test_deploy_command(environment: str, command: str) -> None:
    """The command deploys the environment that the name came from."""
    assert deploy_command(environment) == command
