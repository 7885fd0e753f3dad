"""One environment of one samconfig.toml.

https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .defaults import PARAMETERS
from .errors import SettingsError
from .files import Files, toml
from .origin import Kind, Origin, Setting, text
from .overrides import parameters

DEFAULT_ENVIRONMENT = "default"
OVERRIDES = "parameter_overrides"
#: What is deployed is what `deploy` sees, and a command's table overrides `global`.
DEPLOYED = ("region", "stack_name")


@dataclass(frozen=True)
class Project:
    """What one environment of one samconfig.toml says about the deployed project."""

    path: Path
    environment: str
    settings: Mapping[str, Setting]


def load(path: Path, asked_by: str, files: Files) -> Mapping[str, Any]:
    """Return a samconfig.toml as TOML gives it.

    Args:
        path: the file.
        asked_by: who named it, for errors.
        files: reads it.

    Raises:
        SettingsError: if it cannot be used.
    """
    try:
        if path.is_dir():
            raise SettingsError(
                f"{path} (from {asked_by}) is a folder. Name the file: {path / 'samconfig.toml'}"
            )
        return files.read(path, toml)
    except FileNotFoundError:
        raise SettingsError(
            f"{path} (from {asked_by}) does not exist. Correct the path, or leave it out: "
            "samconfig.toml is then searched upward from the working directory."
        ) from None
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{path} (from {asked_by}) is not a path: {error}.") from None
    except OSError as error:
        raise SettingsError(
            f"{path} (from {asked_by}) cannot be read: {error.strerror or error}. "
            "Make it readable for this user, or name another file."
        ) from error


def read_project(
    path: Path, environment: str, files: Files, *, asked_by: str = "the search"
) -> Project:
    """Read one environment of a samconfig.toml; "" means `default`.

    Raises:
        SettingsError: if the file, the environment or a value that is needed cannot be used.
    """
    environment = environment or DEFAULT_ENVIRONMENT
    tables = _command_tables(path, environment, load(path, asked_by, files))
    found = {
        **_plain_keys(path, environment, tables),
        **_names(path, environment, tables, files),
    }
    return Project(path, environment, {name: one for name, one in found.items() if one.value})


def shadowed(path: Path, environment: str, files: Files) -> bool:
    """Tell whether `deploy` has ``parameter_overrides`` that hide those of `global`.

    `sam deploy --guided` writes such a table; what one then changes under `global` does nothing.

    Raises:
        SettingsError: as `read_project` does.
    """
    tables = _command_tables(path, environment, load(path, "the search", files))
    return all(OVERRIDES in tables.get(command, {}) for command in ("deploy", "global"))


def names_held(path: Path, document: Mapping[str, Any], files: Files) -> set[str]:
    """Collect which of our parameters any environment sets, whatever else is wrong there."""
    held: set[str] = set()
    for environment, commands in document.items():
        for command, table in commands.items() if isinstance(commands, dict) else ():
            said = table.get("parameters") if isinstance(table, dict) else None
            if isinstance(said, dict):
                origin = _origin(path, environment, command, OVERRIDES)
                try:
                    held |= parameters(said.get(OVERRIDES), origin, files).keys()
                except SettingsError:
                    continue
    return held & set(PARAMETERS.values())


def _origin(path: Path, environment: str, command: str, key: str) -> Origin:
    return Origin(
        Kind.SAMCONFIG,
        file=str(path),
        table=f"{environment}.{command}.parameters",
        key=key,
        environment=environment,
    )


def _command_tables(
    path: Path, environment: str, document: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """List an environment's ``parameters`` tables by command, the one that counts most first.

    After `deploy` and `global`, other commands only fill what neither says.
    """
    environments = [name for name, table in document.items() if isinstance(table, dict)]
    if environment not in environments:
        raise SettingsError(_unknown_environment(path, environment, environments))
    commands = document[environment]
    first = [name for name in ("deploy", "global", "sync") if name in commands]
    tables: dict[str, Mapping[str, Any]] = {}
    for command in [*first, *sorted(commands.keys() - set(first))]:
        where = f"{path} [{environment}.{command}]"
        said = _table(commands[command], where).get("parameters", {})
        tables[command] = _table(said, f"{where} parameters")
    return tables


def _unknown_environment(path: Path, environment: str, environments: list[str]) -> str:
    import difflib  # for a mistake only

    close = difflib.get_close_matches(environment, environments, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else "Choose one with config_env=."
    there = ", ".join(environments) or "none"
    return f"{path} has no environment {environment!r}; it has {there}. {hint}"


def _plain_keys(
    path: Path, environment: str, tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, Setting]:
    """Take region and stack from where they were deployed, and the profile from ``global`` alone.

    A profile under a command belongs to whoever deploys; running needs fewer rights than that.
    """
    found: dict[str, Setting] = {}
    for command, table in tables.items():
        keys = (*DEPLOYED, "profile") if command == "global" else DEPLOYED
        for key in keys:
            if key in table and key not in found:
                origin = _origin(path, environment, command, key)
                found[key] = Setting(text(table[key], origin), origin)
    return found


def _names(
    path: Path, environment: str, tables: Mapping[str, Mapping[str, Any]], files: Files
) -> dict[str, Setting]:
    """Take the names from the first table that has ``parameter_overrides``.

    One table only: SAM CLI replaces the whole value, it does not merge the parameters in it.
    """
    for command, table in tables.items():
        if OVERRIDES in table:
            found = parameters(
                table[OVERRIDES], _origin(path, environment, command, OVERRIDES), files
            )
            return {
                name: found[parameter]
                for name, parameter in PARAMETERS.items()
                if parameter in found
            }
    return {}


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where} = {value!r} must be a table, not {type(value).__name__}.")
    return value
