"""Feeds what others may have written to whatever reads it, with bytes that coverage has found.

    wire        requests, batches, answers, frames, what a call raised
    settings    samconfig.toml and the files that it names, AWS's own files
    executor    `[executors.awslambda]` of covalent.conf
    ping        the function's answer to `covalent-lambda doctor`
    answers     to the template's questions
    output      of the calls that share a process

Each target may refuse its input with the one error that says why; whatever else it raises is a
fault, and so is an input that takes seconds. `make fuzz` runs all of them, one after the other; it
needs `atheris`, which the tests do not: they call the same targets with inputs of their own.

Usage: python -m faults.fuzzing TARGET [libFuzzer's options, such as -max_total_time=SECONDS]
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_PROJECT = _ROOT / "{{cookiecutter.project_name}}"
# The image holds wire.py beside app.py.
PLACES = [_ROOT, _PROJECT / "executor", _PROJECT / "function", _PROJECT / "executor/lambda_calls"]

_OWN = ("lambda_calls", "covalent_awslambda_plugin", "local_extensions", "task_streams")
_SECONDS = 10  # that one input may take; libFuzzer calls more a hang


def wire(data: bytes) -> None:
    """Read `data` as everything that comes over the wire."""
    from lambda_calls import wire as envelope

    for read in (_envelope, _frames, envelope.Raised.from_bytes):
        with contextlib.suppress(envelope.EnvelopeError):
            read(data)


def _envelope(data: bytes) -> None:
    from lambda_calls import wire as envelope

    said: Any = envelope.loads(data)
    if isinstance(said, dict):
        said.setdefault(envelope.MARK, envelope.PROTOCOL)
    for kind in (envelope.Request, envelope.Batch, envelope.Response):
        with contextlib.suppress(envelope.EnvelopeError):
            kind.from_json(said)


def _frames(data: bytes) -> None:
    from lambda_calls import wire as envelope

    size = envelope.whole_frames(lambda count, at: data[at : at + count], len(data))
    assert b"".join(x.to_bytes() for x in envelope.read_frames(data[:size])) == data[:size]
    list(envelope.frames_of(data.decode("latin-1")))


def settings(data: bytes) -> None:
    """Read `data` as a samconfig.toml, as a file of parameters, and as AWS's files."""
    from lambda_calls.settings import SettingsError, aws_config, files, samconfig
    from lambda_calls.settings.origin import Kind, Origin
    from lambda_calls.settings.overrides import parameters

    class Held(files.Files):
        """Every file holds `data`, or is read as it."""

        def read(self, path: Path, parse: Callable[[Path, str], Any]) -> Any:
            return parse(path, files.decoded(path, data))

    path = Path("/nowhere/samconfig.toml")
    origin = Origin(Kind.SAMCONFIG, file=str(path))
    held = Held()
    with contextlib.suppress(SettingsError):
        document = held.read(path, files.toml)
        samconfig.names_held(path, document, held)
        for environment in list(document)[:3] or ["default"]:
            with contextlib.suppress(SettingsError):
                samconfig.read_project(path, environment, held)
    with contextlib.suppress(SettingsError):
        parameters(held.read(path, files.yaml), origin, held)
    for parse in (aws_config._of_config, aws_config._of_credentials):
        with contextlib.suppress(SettingsError):
            held.read(path, parse)


def executor(data: bytes) -> None:
    """Make executors from a table of covalent.conf, as a script and as Covalent's server does."""
    from covalent._shared_files import config
    from covalent_awslambda_plugin.awslambda import _EXECUTOR_PLUGIN_DEFAULTS, AWSLambdaExecutor
    from covalent_awslambda_plugin.errors import ConfigurationError
    from lambda_calls.settings import SettingsError, files

    try:
        said = files.toml(Path("covalent.conf"), data.decode("utf-8", "replace"))
    except SettingsError:
        return
    table = {**_EXECUTOR_PLUGIN_DEFAULTS, **said}  # as Covalent writes it
    known = config.get_config
    config.get_config = lambda *_: table
    try:
        with contextlib.suppress(ConfigurationError):
            AWSLambdaExecutor()
        with contextlib.suppress(ConfigurationError):  # as nan, which equals nothing
            AWSLambdaExecutor(**{k: v for k, v in table.items() if k != "self"}).to_dict()
    finally:
        config.get_config = known


def ping(data: bytes) -> None:
    """Read `data` as a ping's answer, and find what doctor says of it."""
    from types import SimpleNamespace

    from covalent_awslambda_plugin.cli.checks import function
    from covalent_awslambda_plugin.cli.checks.situation import pong_in

    pong = pong_in(data)
    situation: Any = SimpleNamespace(
        pong=lambda: pong, deploy="sam deploy", settings=SimpleNamespace(samconfig="")
    )
    for remark in function.image(situation):
        assert remark.text


def answers(data: bytes) -> None:
    """Check `data` as the answer to each question; what is taken is text of one line."""
    from cookiecutter.exceptions import FailedHookException

    from local_extensions import CHECKS

    text = data.decode("utf-8", "replace")
    given = {"__python_version": "3.11", "__architecture": "x86_64", "__project_name": "p"}
    for name, check in CHECKS.items():
        try:
            check(text, {**given, name: text})
        except FailedHookException as refusal:
            assert str(refusal).isprintable()


def output(data: bytes) -> None:
    """Read `data` as what a batch's processes write, forged marks among it, in chunks."""
    from task_streams import Split

    split = Split("mark", 1 << 32)
    said = data.replace(b"M", b"\0mark:")
    logged = b"".join(split.add(said[at : at + 16]) for at in range(0, len(said), 16))
    assert len(logged) <= len(said)
    split.texts()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wire": wire,
    "settings": settings,
    "executor": executor,
    "ping": ping,
    "answers": answers,
    "output": output,
}

# Inputs to begin with: what is right, and what differs from it in one place.
SEEDS: dict[str, list[bytes]] = {
    "wire": [
        b'{"covalent_lambda": 2, "task_id": "d-0-a", "key": "k", "python": "3.11", '
        b'"cloudpickle": "3", "function": "Tg==", "args": [], "kwargs": {}, "limit": 1.5}',
        b'{"covalent_lambda": 2, "task_id": "d", "key": "k", "python": "3", "cloudpickle": "3", '
        b'"function": {"key": "b", "size": 1, "sha256": "0"}, "calls": "Tg==", "count": 1}',
        b'{"covalent_lambda": 2, "python": "3.11", "cloudpickle": "3", "failure": '
        b'{"kind": "exception", "message": ""}, "usage": {"duration": 1.0, "cold": true}}',
        b"\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00x",
    ],
    "settings": [
        b'version = 0.1\n[default.global.parameters]\nregion = "eu-west-1"\n'
        b'parameter_overrides = ["FunctionName=f", "BucketName=b"]\n',
        b'[default.deploy.parameters]\nparameter_overrides = "ParameterKey=A,ParameterValue=1"\n',
        b'[a.global.parameters]\nparameter_overrides = {FunctionName = "f", "$include" = "file://x"}',
        b"FunctionName: &a f\nBucketName: *a\n$include: [file://a.yaml]\n",
        b"[profile x]\nregion = us-east-1\n",
        b"a = " + b"[" * 3000,
        b"a = " + b"9" * 5000,
        b"a" + b".a" * 3000 + b" = 1",
        b"[" * 3000,
        b"{a: " * 2000,
        b"- " * 3000,
        b"a: " + b"9" * 5000,
        b"a: !!int x",
        b"a: !!bool x",
        b"a: !!float x",
        b"a: !!timestamp x",
        b"a: !!binary x",
        b"&a [*a]",
        b"&a {b: *a}",
        b"a: 0o",
        b"a: 0b",
        b"? [a]\n: b",
        b"$include: &a [*a]",
        b"$include: 'file://\\0.yaml'",
        b'$include: "file://\\0.yaml"',
        b'[default.global.parameters]\nparameter_overrides = "file://\\u0000.toml"\n',
        b"a: &a [x,x,x,x,x,x,x,x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 8))
            for n in range(9)
        ),
    ],
    "executor": [
        b'function_name = "f"\ns3_bucket_name = "b"\ntimeout = 5\npoll_freq = 1.5\nretries = 2\n',
        b'profile = "p"\nprices = {request = 1.0}\nusage = true\nendpoint_url = "http://h:1"\n',
        b"samconfig = [1]",
        b'samconfig = "\\u0000"',
        b'credentials_file = "\\u0000"',
        b"config_env = 5",
        b"prices = [['a']]",
        b"prices = true",
        b"prices = {request = 'x'}",
        b"prices = {request = nan}",
        b"timeout = nan",
        b"retries = 1e400",
        b"poll_freq = 07:00:00",
        b"region = [1]",
        b"carry = 1",
        b"others = {a = 1}",
    ],
    "ping": [
        b'{"covalent_lambda": 2, "status": "ok", "python": "3.11.7", "cloudpickle": "3.1", '
        b'"covalent": "0.240.0", "architecture": "x86_64", "memory_mb": 512, '
        b'"packages": {"numpy": "2"}}',
    ],
    "answers": [
        b"numpy, pandas>=2 ; python_version < '3.13'",
        b"public.ecr.aws/lambda/python:3.11",
        b"my-bucket.name",
        b"us-gov-west-1",
        b"b @ https://x.org/b-1.zip#sha256=ab",
    ],
    "output": [
        b"aM1\0bM4294967295\0c",
        b"M" + b"9" * 5000 + b"\0",
    ],
}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A home and a working folder of one's own, and nobody else's settings."""
    with tempfile.TemporaryDirectory(prefix="covalent-lambda-fuzzing-") as folder:
        for name in list(os.environ):
            if name.startswith(("AWS_", "COVALENT_", "XDG_", "SAM_")):
                del os.environ[name]
        os.environ["HOME"] = folder
        os.chdir(folder)
        logging.disable(logging.CRITICAL)
        yield


def main(arguments: list[str]) -> None:
    """Run libFuzzer on one target; it ends the process."""
    import atheris  # type: ignore[import-not-found]

    sys.path[:0] = map(str, PLACES[:2])
    sys.path += map(str, PLACES[2:])
    name, *options = arguments
    with alone():
        with atheris.instrument_imports(include=[*_OWN]):
            for seed in SEEDS[name]:  # imports all that the target needs
                TARGETS[name](seed)
        corpus = Path("corpus")
        corpus.mkdir()
        # Deeply nested ones take seconds, which others are worth more.
        for number, seed in enumerate(x for x in SEEDS[name] if len(x) < 1000):
            (corpus / str(number)).write_bytes(seed)
        found = f"-artifact_prefix={_ROOT}/build/"
        atheris.Setup(
            [sys.argv[0], f"-timeout={_SECONDS}", found, *options, str(corpus)], TARGETS[name]
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
