"""Every source of settings, merged field by field into frozen Settings."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from . import aws_config
from .defaults import DEFAULTS, PARAMETERS, data_bucket
from .errors import SettingsError
from .files import Files
from .locate import (
    FILE_NAME,
    PATH_VARIABLE,
    absolute,
    find_samconfig,
    passed_over,
    working_directory,
)
from .origin import Kind, Origin, Setting
from .samconfig import Project, read_project
from .stack import CloudFormation, Stack, StackOutputs

log = logging.getLogger(__name__)

NOTHING: Mapping[str, Setting] = MappingProxyType({})
Merged = dict[str, Setting]


@dataclass(frozen=True)
class Settings:
    """What a session needs to know; each with its origin.

    Args:
        function_name, s3_bucket_name: of the function and its bucket.
        region, profile, credentials_file: "" where botocore's own chain applies.
        samconfig: path of the file that was read; "" if there was none.
        config_env: the environment in it.
    """

    function_name: Setting
    s3_bucket_name: Setting
    region: Setting
    profile: Setting
    credentials_file: Setting
    samconfig: str = ""
    config_env: str = ""

    def by_name(self) -> dict[str, Setting]:
        """Return the settings that a session needs, by the name of the argument."""
        return {name: getattr(self, name) for name in DEFAULTS}

    @property
    def bucket(self) -> str | None:
        """The bucket that data may go into; None if nobody named one."""
        return data_bucket(self.s3_bucket_name.value)


def documented() -> Settings:
    """Return the documented defaults alone."""
    return _frozen(
        {name: Setting(value, Origin(Kind.DEFAULT)) for name, value in DEFAULTS.items()}
    )


def _frozen(found: Mapping[str, Setting], project: Project | None = None) -> Settings:
    return Settings(
        function_name=found["function_name"],
        s3_bucket_name=found["s3_bucket_name"],
        region=found["region"],
        profile=found["profile"],
        credentials_file=found["credentials_file"],
        samconfig=str(project.path) if project else "",
        config_env=project.environment if project else "",
    )


@dataclass(frozen=True)
class _Asked:
    """Which file and environment somebody named; "" for nobody."""

    path: str
    by: str
    environment: str


class SettingsReader:
    """Reads settings, and remembers files and the outputs of stacks for the next time.

    Args:
        cloudformation: makes the client that reads a stack's outputs; by default boto3's.
        clock: seconds that only grow.
        warn: is told each warning once.
        advice: what to do when no project is found, for who asks where the function's name
            came from.
    """

    def __init__(
        self,
        *,
        cloudformation: Callable[[Stack], CloudFormation] | None = None,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[[str], None] = log.warning,
        advice: str = "",
    ) -> None:
        self.files = Files()
        self._outputs = StackOutputs(cloudformation, clock)
        self._warn, self._advice = warn, advice
        self._warned: set[str] = set()

    def warn(self, message: str) -> None:
        """Give a warning, unless it was given before."""
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)

    def resolve(
        self,
        arguments: Mapping[str, Setting] = NOTHING,
        *,
        conf: Mapping[str, Setting] = NOTHING,
        conf_first: bool = False,
        samconfig: str | os.PathLike[str] | None = None,
        config_env: str | None = None,
        environ: Mapping[str, str],
        start: Path | None = None,
    ) -> Settings:
        """Merge every source of settings, field by field.

        Args:
            arguments: what wins over all else.
            conf: what another configuration says; values that equal the documented defaults count
                as not given.
            conf_first: whether `conf` comes before samconfig.toml.
            samconfig: path of a samconfig.toml; else COVALENT_LAMBDA_SAMCONFIG; else searched
                upward.
            config_env: the file's environment; `default` unless given.
            environ: the environment.
            start: the folder to search from; by default the working directory.

        Raises:
            SettingsError: if a file that was asked for, or that is needed for a name, cannot be
                used, or if the project's file says neither the names nor a stack that knows them.
        """
        start = start or working_directory()
        conf = {name: one for name, one in conf.items() if one.value != DEFAULTS.get(name)}
        if conf_first:
            arguments = {**conf, **arguments}
        asked = _asked_for(samconfig, config_env, environ)
        project = self._project(asked, start, needed=not PARAMETERS.keys() <= arguments.keys())
        said = {
            **conf,
            **(project.settings if project else {}),
            **arguments,
        }
        found = {**self._defaults(said, project, start), **said}
        if "region" not in said:
            known = found["profile"].value, found["credentials_file"].value
            found["region"] = aws_config.region(*known, environ, self.files) or found["region"]
        if project:
            found.update(self._missing_names(arguments, project, said, found))
        return _frozen(found, project)

    def _project(self, asked: _Asked, start: Path | None, *, needed: bool) -> Project | None:
        """Read the file that applies, if any.

        A file that nobody asked for must not stop an executor that has its names already:
        Covalent's server builds one before each task, in whatever folder it was started.
        """
        try:
            if asked.path:
                path: Path | None = absolute(asked.path, start)
            else:
                path = find_samconfig(start, self.files, self.warn)
            if path is not None:
                return read_project(path, asked.environment, self.files, asked_by=asked.by)
        except SettingsError as error:
            if needed or asked.path or asked.environment:
                raise
            self.warn(f"Passed over, as both names are given: {error}")
            return None
        if asked.environment:
            found = passed_over(start, self.files)
            raise SettingsError(
                f"config_env={asked.environment!r} was asked for, but there is no {FILE_NAME} of "
                f"this kind of project in {start} or any folder above"
                f"{f' ({found})' if found else ''}. Run from inside the project, or give its path "
                f"as samconfig= or in {PATH_VARIABLE}."
            )
        return None

    def _defaults(
        self, said: Mapping[str, Setting], project: Project | None, start: Path | None
    ) -> Merged:
        defaults = {name: Setting(value, Origin(Kind.DEFAULT)) for name, value in DEFAULTS.items()}
        if project is None and "function_name" not in said:
            why = passed_over(start, self.files)
            why = why or f"no {FILE_NAME} of this project's kind in {start} or above"
            note = "; ".join(part for part in (why, self._advice) if part)
            origin = Origin(Kind.DEFAULT, note=note)
            defaults["function_name"] = Setting(DEFAULTS["function_name"], origin)
        return defaults

    def _missing_names(
        self,
        arguments: Mapping[str, Setting],
        project: Project,
        said: Mapping[str, Setting],
        found: Mapping[str, Setting],
    ) -> Merged:
        """Read from the stack's outputs those names that a project's file does not say itself."""
        missing = [n for n in PARAMETERS if n not in arguments and n not in project.settings]
        if missing and "stack_name" in project.settings:
            return self._from_stack(missing, project, found)
        lacking = [PARAMETERS[name] for name in missing if name not in said]
        if lacking:
            raise SettingsError(
                f"{project.path} [{project.environment}] lacks {' and '.join(lacking)} in "
                "parameter_overrides, and stack_name to look them up. Add them under "
                f"[{project.environment}.global.parameters], or pass function_name= and "
                "s3_bucket_name=."
            )
        return {}

    def _from_stack(
        self, missing: list[str], project: Project, found: Mapping[str, Setting]
    ) -> Merged:
        stack = Stack(
            project.settings["stack_name"].value,
            region=found["region"].value,
            profile=found["profile"].value,
            credentials_file=found["credentials_file"].value,
            environment=project.environment,
        )
        try:
            outputs = self._outputs.read(stack, [PARAMETERS[name] for name in missing])
        except SettingsError as error:
            unsaid = " and ".join(PARAMETERS[name] for name in missing)
            raise SettingsError(
                f"{project.path} [{project.environment}] lacks {unsaid} in parameter_overrides, "
                f"so the stack was asked. {error}"
            ) from error.__cause__
        return {
            name: Setting(
                outputs[PARAMETERS[name]],
                Origin(
                    Kind.STACK,
                    file=str(project.path),
                    key=PARAMETERS[name],
                    environment=project.environment,
                    stack=stack.name,
                ),
            )
            for name in missing
        }


def _asked_for(
    samconfig: str | os.PathLike[str] | None, config_env: str | None, environ: Mapping[str, str]
) -> _Asked:
    if samconfig:
        if not isinstance(samconfig, (str, os.PathLike)):
            raise SettingsError(f"samconfig={samconfig!r} must be the path of a samconfig.toml.")
        return _Asked(os.fspath(samconfig), "the argument samconfig=", config_env or "")
    named = environ.get(PATH_VARIABLE, "")
    return _Asked(named, PATH_VARIABLE if named else "the search", config_env or "")
