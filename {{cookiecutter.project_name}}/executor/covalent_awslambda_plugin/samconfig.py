"""From samconfig.toml (and the stack's outputs) to frozen executor settings.

    arguments ──┐
    samconfig.toml ──┬─ names, region, profile ──┐
                     └─ stack_name ── outputs ───┤  the first source that holds a value wins,
    covalent.conf ───────────────────────────────┤  field by field
    AWS_DEFAULT_REGION, AWS_REGION ──────────────┤
    documented defaults ─────────────────────────┴──► ExecutorSettings

Knows no Covalent and no S3. The environment, the working directory and the values of covalent.conf
are passed in. The forms of samconfig.toml are those of SAM CLI:
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "DEFAULTS",
    "ExecutorSettings",
    "SamConfigError",
    "SamProject",
    "find_samconfig",
    "forget",
    "names_from_stack",
    "passed_over",
    "read_samconfig",
    "resolve",
]

log = logging.getLogger(__name__)

FILE_NAME = "samconfig.toml"
PATH_VARIABLE = "COVALENT_LAMBDA_SAMCONFIG"
DEFAULT_ENVIRONMENT = "default"

#: The documented defaults: the last resort, and, in covalent.conf, no statement of the user's.
#: (Covalent itself writes a plugin's defaults into that file when it first loads the plugin.)
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "function_name": "covalent-awslambda-executor",
        "s3_bucket_name": "covalent-lambda-job-resources",
        "region": "us-east-1",
        "profile": "",
        "credentials_file": "",
    }
)

#: Our field -> the name of both the template's parameter and the stack's output.
PARAMETERS = {"function_name": "FunctionName", "s3_bucket_name": "BucketName"}
PLAIN_KEYS = ("region", "profile", "stack_name")

#: A template beside the file that holds this logical id is one of ours.
TEMPLATE_MARK = "ElectronFunction"

#: What gives `executor="awslambda"` its names in a server that runs outside of the project.
CONFIGURE = "python -m covalent_awslambda_plugin configure"

#: Seconds for which a stack's outputs are remembered: many executors, one request.
STACK_MEMORY_S = 60.0


class SamConfigError(ValueError):
    """The settings cannot be read: names the file, the key, its value and what to do."""


class CloudFormationClient(Protocol):
    """What is used here of botocore's CloudFormation client."""

    @property
    def meta(self) -> Any: ...

    def describe_stacks(self, *, StackName: str) -> Any: ...


class Value(NamedTuple):
    """A setting and where it came from, worded to follow "from"."""

    text: str
    source: str


Layer = Mapping[str, Value]


@dataclass(frozen=True)
class SamProject:
    """What one environment of one samconfig.toml says about the deployed project."""

    path: Path
    config_env: str
    values: Layer


@dataclass(frozen=True)
class ExecutorSettings:
    """Plain strings for the executor; "" where botocore's own default applies."""

    function_name: str
    s3_bucket_name: str
    region: str
    profile: str
    credentials_file: str
    stack_name: str = ""
    samconfig: str = ""
    config_env: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)


# ── the public door ──────────────────────────────────────────────────────────────────────────


def resolve(
    *,
    function_name: str | None = None,
    s3_bucket_name: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    credentials_file: str | None = None,
    samconfig: str | os.PathLike[str] | None = None,
    config_env: str | None = None,
    conf: Mapping[str, object] = MappingProxyType({}),
    environ: Mapping[str, str],
    start: Path | None = None,
    cloudformation: Callable[[ExecutorSettings], CloudFormationClient] | None = None,
) -> ExecutorSettings:
    """Merge every source of settings, field by field.

    The first five are the executor's arguments; ``None`` and ``""`` mean "not given".

    samconfig: path of a samconfig.toml; else COVALENT_LAMBDA_SAMCONFIG; else searched upward.
    config_env: the file's environment; "default" unless given.
    conf: the values of ``[executors.awslambda]`` in covalent.conf; those that are empty or equal
        the documented defaults count as not given.
    environ, start: the environment, and the folder to search from (the working directory).
    cloudformation: makes the client that reads the stack's outputs; called only when a name is
        missing from samconfig.toml. By default a boto3 client of the profile and region.

    Raises SamConfigError when a file that was asked for, or that is needed for a name, cannot be
    used, and when the project's file says neither the names nor a stack to read them from.
    """
    arguments = _given(
        {
            "function_name": function_name,
            "s3_bucket_name": s3_bucket_name,
            "region": region,
            "profile": profile,
            "credentials_file": credentials_file,
        },
        source="the argument {}=",
    )
    start = start or _working_directory()
    asked = _asked_for(samconfig, config_env, environ)
    project = _project(asked, start=start, needed=not PARAMETERS.keys() <= arguments.keys())
    in_file = dict(project.values) if project else {}
    defaults = _default_layer(project, start)
    merged = ChainMap(arguments, in_file, _conf_layer(conf), _environ_layer(environ), defaults)
    names = _missing_names(arguments, project, merged, cloudformation or _boto_client)
    return _freeze(merged.new_child(names), project)


def find_samconfig(start: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Say which samconfig.toml applies: COVALENT_LAMBDA_SAMCONFIG, else the nearest one upward.

    The variable's file is returned unchecked: reading it says what is wrong with it. A file met on
    the way up counts only when it belongs to a project of this kind (see ``_why_not_ours``).
    """
    named = environ.get(PATH_VARIABLE)
    if named:
        return _absolute(named, start)
    return next((path for path in _upward(start) if not _why_not_ours(path)), None)


def passed_over(start: Path | None) -> str:
    """Say which samconfig.toml the search met first and did not take, and why; "" if none."""
    path = next(_upward(start), None)
    if path is None:
        return ""
    try:
        reason = _why_not_ours(path)
    except SamConfigError as error:
        reason = f"it cannot be used: {error}"
    return f"found {path}, but {reason}" if reason else ""


def read_samconfig(
    path: Path, config_env: str = "", *, asked_by: str = "the search"
) -> SamProject:
    """Read one environment of a samconfig.toml; ``asked_by`` says in errors who named the file."""
    config_env = config_env or DEFAULT_ENVIRONMENT
    tables = _command_tables(path, config_env, _load(path, asked_by))
    values: dict[str, Value] = {}
    for command, table in tables.items():
        where = f"{path} [{config_env}.{command}.parameters]"
        for key in PLAIN_KEYS:
            if key in table and key not in values:
                values[key] = Value(_text(table[key], f"{where} {key}"), where)
    values.update(_project_names(path, config_env, tables))
    said = {key: value for key, value in values.items() if value.text}
    return SamProject(path, config_env, said)


def names_from_stack(
    client: CloudFormationClient,
    stack_name: str,
    *,
    wanted: Collection[str] = tuple(PARAMETERS.values()),
) -> dict[str, str]:
    """Read the wanted outputs of a stack (by default FunctionName and BucketName).

    Raises SamConfigError when the stack is missing, may not be described, or lacks an output.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        stack = client.describe_stacks(StackName=stack_name)["Stacks"][0]
    except ClientError as error:
        named = f"Stack {stack_name!r} in {client.meta.region_name}"
        raise SamConfigError(_stack_refusal(named, error.response["Error"])) from error
    except BotoCoreError as error:
        raise SamConfigError(_stack_unreachable(stack_name, error)) from error
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", ())}
    lacking = [name for name in wanted if name not in outputs]
    if lacking:
        raise SamConfigError(
            f"Stack {stack_name!r} (status {stack.get('StackStatus', 'unknown')}) has no output "
            f"{' and no output '.join(lacking)}; it has {_listed(outputs)}. Is it this project's "
            "stack, and did its deployment finish? Check stack_name in samconfig.toml, or pass "
            "function_name= and s3_bucket_name=."
        )
    return {name: outputs[name] for name in wanted}


def forget() -> None:
    """Drop what is remembered of files and stacks."""
    _parse.cache_clear()
    _stack_memory.clear()


# ── which file ───────────────────────────────────────────────────────────────────────────────


class _Asked(NamedTuple):
    path: str  # "" when nobody named a file
    by: str
    config_env: str  # "" when nobody named an environment


def _asked_for(
    samconfig: str | os.PathLike[str] | None, config_env: str | None, environ: Mapping[str, str]
) -> _Asked:
    if samconfig:
        return _Asked(os.fspath(samconfig), "the argument samconfig=", config_env or "")
    named = environ.get(PATH_VARIABLE, "")
    return _Asked(named, PATH_VARIABLE if named else "the search", config_env or "")


def _project(asked: _Asked, *, start: Path | None, needed: bool) -> SamProject | None:
    """Read the file that applies, if any.

    A file that nobody asked for must not stop an executor that has its names already: Covalent's
    server builds one from covalent.conf before each task, in whatever folder it was started.
    """
    try:
        path = _absolute(asked.path, start) if asked.path else find_samconfig(start, {})
        if path is not None:
            return read_samconfig(path, asked.config_env, asked_by=asked.by)
    except SamConfigError as error:
        if needed or asked.path or asked.config_env:
            raise
        log.warning("Passed over, as both names are given: %s", error)
        return None
    if asked.config_env:
        found = passed_over(start)
        raise SamConfigError(
            f"config_env={asked.config_env!r} was asked for, but there is no {FILE_NAME} of this "
            f"kind of project in {start} or any folder above{f' ({found})' if found else ''}. Run "
            f"from inside the project, or give its path as samconfig= or in {PATH_VARIABLE}."
        )
    return None


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # removed under us: nothing to search from
        return None


def _absolute(path: str, start: Path | None) -> Path:
    return Path(os.path.abspath((start or Path(".")) / os.path.expanduser(path)))


def _upward(start: Path | None) -> Iterator[Path]:
    if start is None:
        return
    for folder in (start, *start.parents):
        path = folder / FILE_NAME
        if os.path.isfile(path) and _is_trusted(path):  # False in folders we may not enter
            yield path


def _is_trusted(path: Path) -> bool:
    """Whether this user or root owns a file that nobody named.

    Somebody else's, /tmp/samconfig.toml say, could name a function of theirs, and electrons and
    their data would go there.
    """
    if not hasattr(os, "geteuid") or path.stat().st_uid in (0, os.geteuid()):
        return True
    log.warning("Passed over %s: it belongs to another user", path)
    return False


def _why_not_ours(path: Path) -> str:
    """Say why a samconfig.toml met on the way up is of another kind of project; "" if it is not.

    Many people keep other SAM projects in the folders above. Taking one for ours would invoke a
    stranger's function; failing on one would break a workflow that has nothing to do with it. So:
    both names, or a template beside it with our function's logical id, make it ours. A single
    name does when there is no template to ask. Any other file is passed over, and the names of
    its stack are never asked for.
    """
    marked = _template_is_ours(path.with_name("template.yaml"))
    if marked:
        return ""
    try:
        held = _names_held(_load(path, "the search"))
    except SamConfigError as error:
        if marked is None:
            raise
        return f"it cannot be used: {error}"
    if len(held) == len(PARAMETERS) or (marked is None and held):
        return ""
    lacking = " or ".join(name for name in PARAMETERS.values() if name not in held)
    beside = "" if marked is None else f", and its template.yaml has no {TEMPLATE_MARK}"
    return f"it has no {lacking}{beside}"


def _template_is_ours(template: Path) -> bool | None:
    try:
        return TEMPLATE_MARK in template.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _names_held(document: Mapping[str, Any]) -> set[str]:
    """Collect which of our parameters any environment sets, whatever else is wrong there."""
    held: set[str] = set()
    for environment in filter(_is_table, document.values()):
        for command in filter(_is_table, environment.values()):
            parameters = command.get("parameters")
            if _is_table(parameters):
                try:
                    held |= _overrides(parameters.get("parameter_overrides", ""), "").keys()
                except SamConfigError:
                    continue
    return held & set(PARAMETERS.values())


# ── reading it ───────────────────────────────────────────────────────────────────────────────


def _load(path: Path, asked_by: str) -> Mapping[str, Any]:
    try:
        if path.is_dir():
            raise SamConfigError(
                f"{path} (from {asked_by}) is a folder. Name the file: {path / FILE_NAME}"
            )
        status = path.stat()
        return _parse(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        raise SamConfigError(
            f"{path} (from {asked_by}) does not exist. Correct the path, or leave it out: "
            f"{FILE_NAME} is then searched upward from the working directory."
        ) from None
    except OSError as error:
        raise SamConfigError(
            f"{path} (from {asked_by}) cannot be read: {error.strerror or error}. "
            "Make it readable for this user, or name another file."
        ) from error


@lru_cache(maxsize=32)
def _parse(path: Path, mtime_ns: int, size: int) -> Mapping[str, Any]:
    """Parse the file; its time and size are part of the cache's key."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        return document
    except UnicodeDecodeError as error:
        raise SamConfigError(
            f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as error:
        hint = "Correct that line."
        if path.suffix.lower() in {".yaml", ".yml", ".json"}:
            hint = f"Only {FILE_NAME} is read: keep the settings in that form."
        raise SamConfigError(f"{path} is not valid TOML: {error}. {hint}") from None


def _command_tables(
    path: Path, config_env: str, document: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """List an environment's ``parameters`` tables by command, the one that counts most first.

    SAM CLI lets a command's table override ``global``, key by key. What is deployed is what
    ``deploy`` sees; other commands only fill what neither says.
    """
    environments = [name for name, table in document.items() if _is_table(table)]
    if config_env not in environments:
        raise SamConfigError(_unknown_environment(path, config_env, environments))
    environment = document[config_env]
    first = [name for name in ("deploy", "global", "sync") if name in environment]
    tables: dict[str, Mapping[str, Any]] = {}
    for command in [*first, *sorted(environment.keys() - set(first))]:
        where = f"{path} [{config_env}.{command}]"
        parameters = _table(environment[command], where).get("parameters", {})
        tables[command] = _table(parameters, f"{where} parameters")
    return tables


def _unknown_environment(path: Path, config_env: str, environments: list[str]) -> str:
    import difflib  # for a mistake only, and `import covalent` waits for this module

    close = difflib.get_close_matches(config_env, environments, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else "Choose one with config_env=."
    return f"{path} has no environment {config_env!r}; it has {_listed(environments)}. {hint}"


def _project_names(path: Path, config_env: str, tables: Mapping[str, Mapping[str, Any]]) -> Layer:
    """Take the names from the first table that has ``parameter_overrides``.

    One table only: SAM CLI replaces the whole value, it does not merge the parameters in it.
    """
    for command, table in tables.items():
        if "parameter_overrides" in table:
            where = f"{path} [{config_env}.{command}.parameters]"
            found = _overrides(table["parameter_overrides"], f"{where} parameter_overrides")
            return {
                name: Value(found[parameter], where)
                for name, parameter in PARAMETERS.items()
                if found.get(parameter)
            }
    return {}


_QUOTED = r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_PAIR = re.compile(
    rf"""(?:^|\s)
    (?:ParameterKey=(?P<legacy>[^\s,=]+),ParameterValue=|(?P<key>[^\s=]+)=)
    (?P<value>{_QUOTED}|(?:\\.|[^\s"\\])*)""",
    re.VERBOSE,
)


def _overrides(value: Any, where: str) -> dict[str, str]:
    """Read ``parameter_overrides``: a string, a table, or a list of either.

    Items that name another file (``file://...``) are left to SAM: the names are then read from
    the stack's outputs.
    """
    if _is_table(value):
        return {key: _override_text(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        found: dict[str, str] = {}
        for item in value:
            found.update(_overrides(item, where))
        return found
    text = _text(value, where)
    if not text.strip() or text.startswith("file://"):
        return {}
    pairs = list(_PAIR.finditer(text))
    if not pairs:
        # What it holds instead may be a secret.
        raise SamConfigError(f'{where} is not of the form "Name=value Other=value".')
    return {_unquote(pair["legacy"] or pair["key"]): _unquote(pair["value"]) for pair in pairs}


def _override_text(value: Any, where: str) -> str:
    if isinstance(value, list):
        return ",".join(_override_text(item, where) for item in value)
    if isinstance(value, (bool, int, float)):
        return str(value)
    return _text(value, where)


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return re.sub(r"\\([ \"'])", r"\1", text)


# ── the layers, and the names that none of them holds ────────────────────────────────────────


def _given(values: Mapping[str, object], *, source: str) -> dict[str, Value]:
    """Keep what was given, as text; ``{}`` in ``source`` stands for the field's name."""
    return {
        name: Value(_text(value, source.format(name)), source.format(name))
        for name, value in values.items()
        if value is not None and value != ""
    }


def _conf_layer(conf: Mapping[str, object]) -> dict[str, Value]:
    said = {name: conf[name] for name in DEFAULTS if name in conf and conf[name] != DEFAULTS[name]}
    return _given(said, source="covalent.conf [executors.awslambda] {}")


def _environ_layer(environ: Mapping[str, str]) -> dict[str, Value]:
    """Prefer the region that other AWS tools on this machine use to a guess of our own."""
    for variable in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        if environ.get(variable):
            return {"region": Value(environ[variable], f"the variable {variable}")}
    return {}


def _default_layer(project: SamProject | None, start: Path | None) -> dict[str, Value]:
    layer = {name: Value(text, "the documented default") for name, text in DEFAULTS.items()}
    if project is None:
        found = passed_over(start)
        why = found or f"no {FILE_NAME} of this project's kind in {start} or above"
        where = f"the documented default: {why}; `{CONFIGURE}` in the project's folder sets it"
        layer["function_name"] = Value(DEFAULTS["function_name"], where)
    return layer


def _missing_names(
    arguments: Layer,
    project: SamProject | None,
    merged: Layer,
    cloudformation: Callable[[ExecutorSettings], CloudFormationClient],
) -> dict[str, Value]:
    """Read from the stack's outputs those names that a project's file does not say itself."""
    if project is None:
        return {}
    missing = [n for n in PARAMETERS if n not in arguments and n not in project.values]
    if missing and "stack_name" in project.values:
        settings = _freeze(merged, project)
        try:
            outputs = _remembered_stack(settings, missing, cloudformation)
        except SamConfigError as error:
            unsaid = " and ".join(PARAMETERS[n] for n in missing)
            raise SamConfigError(
                f"{project.path} [{project.config_env}] lacks {unsaid} in parameter_overrides, "
                f"so the stack was asked. {error}"
            ) from error.__cause__
        where = f"the outputs of stack {settings.stack_name!r} in {settings.region}"
        return {name: Value(outputs[PARAMETERS[name]], where) for name in missing}
    lacking = [PARAMETERS[n] for n in missing if merged[n].text == DEFAULTS[n]]
    if lacking:
        raise SamConfigError(
            f"{project.path} [{project.config_env}] lacks {' and '.join(lacking)} in "
            "parameter_overrides, and stack_name to look them up. Add them under "
            f"[{project.config_env}.global.parameters], or pass function_name= and "
            "s3_bucket_name=."
        )
    return {}


def _freeze(merged: Layer, project: SamProject | None) -> ExecutorSettings:
    texts = {name: value.text for name, value in merged.items()}
    return ExecutorSettings(
        **texts,
        samconfig=str(project.path) if project else "",
        config_env=project.config_env if project else "",
        sources={name: value.source for name, value in merged.items()},
    )


# ── the stack ────────────────────────────────────────────────────────────────────────────────

_stack_memory: dict[tuple[str, ...], tuple[float, dict[str, str]]] = {}


def _remembered_stack(
    settings: ExecutorSettings,
    missing: Collection[str],
    cloudformation: Callable[[ExecutorSettings], CloudFormationClient],
) -> dict[str, str]:
    from botocore.exceptions import BotoCoreError

    where = (settings.stack_name, settings.region, settings.profile, settings.credentials_file)
    key = (*where, *missing)
    until, outputs = _stack_memory.get(key, (0.0, {}))
    if time.monotonic() < until:
        return outputs
    try:
        client = cloudformation(settings)
    except BotoCoreError as error:  # an unknown profile, for one
        raise SamConfigError(_stack_unreachable(settings.stack_name, error)) from error
    outputs = names_from_stack(
        client, settings.stack_name, wanted=[PARAMETERS[name] for name in missing]
    )
    _stack_memory[key] = (time.monotonic() + STACK_MEMORY_S, outputs)
    return outputs


def _boto_client(settings: ExecutorSettings) -> CloudFormationClient:
    """Make a client that gives up soon: it is waited for when an executor is constructed."""
    import boto3
    import botocore.session
    from botocore.config import Config

    core = botocore.session.Session(profile=settings.profile or None)
    if settings.credentials_file:
        core.set_config_variable("credentials_file", settings.credentials_file)
    session = boto3.Session(botocore_session=core, region_name=settings.region)
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    client: CloudFormationClient = session.client("cloudformation", config=config)
    return client


def _stack_refusal(stack: str, error: Mapping[str, str]) -> str:
    code, message = error.get("Code", ""), error.get("Message", "")
    if code == "ValidationError" and "does not exist" in message:
        return (
            f"{stack} does not exist in this account. Deploy it first (sam build && sam deploy), "
            "or correct stack_name, region or profile in samconfig.toml."
        )
    if code in {"AccessDenied", "AccessDeniedException"}:
        return (
            f"{stack}: reading its outputs is not allowed: {message}. Grant "
            "cloudformation:DescribeStacks on it (the policy in its output ExecutorPolicyArn "
            "does), or pass function_name= and s3_bucket_name=."
        )
    return f"{stack} could not be read: {code}: {message}"


def _stack_unreachable(stack_name: str, error: Exception) -> str:
    return (
        f"The outputs of stack {stack_name!r} could not be read: {error}. Check the credentials, "
        "profile and region, or pass function_name= and s3_bucket_name=."
    )


# ── small checks ─────────────────────────────────────────────────────────────────────────────


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SamConfigError(f"{where} = {value!r} must be a table, not {type(value).__name__}.")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise SamConfigError(
            f"{where} = {value!r} must be text in quotes, not {type(value).__name__}."
        )
    return value.strip()


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
