"""A value and where it came from, as data; the one place that makes prose of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from .errors import SettingsError


class Kind(Enum):
    """What kind of source holds a value; the values are written into JSON."""

    ARGUMENT = "argument"
    SAMCONFIG = "samconfig"
    STACK = "stack"
    COVALENT_CONF = "covalent.conf"
    ENVIRONMENT = "environment"
    AWS_CONFIG = "aws config"
    DEFAULT = "default"


@dataclass(frozen=True)
class Origin:
    """Where a value came from.

    Args:
        kind: what kind of source it is.
        file: the file that holds the value, or that named the stack.
        table: the table of that file, such as `prod.global.parameters`.
        key: the key in it; or the argument, the variable, the stack's output.
        environment: the environment of samconfig.toml.
        stack: the stack's name.
        note: why no better source was found; shown, never looked at.
    """

    kind: Kind
    file: str = ""
    table: str = ""
    key: str = ""
    environment: str = ""
    stack: str = ""
    note: str = ""

    def __str__(self) -> str:
        """Say it in words that follow "from"."""
        return _WORDS[self.kind](self)

    def as_dict(self) -> dict[str, str]:
        """Return it as plain strings, for JSON."""
        said = {name: text for name, text in vars(self).items() if text}
        return {**said, "kind": self.kind.value}

    @classmethod
    def from_dict(cls, said: Mapping[str, str]) -> Origin:
        """Make it again from what `as_dict` returned."""
        return cls(**{**said, "kind": Kind(said["kind"])})  # type: ignore[arg-type]

    @classmethod
    def argument(cls, name: str) -> Origin:
        """The origin of what a caller passed."""
        return cls(Kind.ARGUMENT, key=name)


class InWords(Mapping[str, str]):
    """Origins as prose, by the setting's name; made when somebody asks, as only messages do.

    Args:
        said: what `Origin.as_dict` returned for each.
    """

    def __init__(self, said: Mapping[str, Mapping[str, str]]) -> None:
        self._said = said

    def __getitem__(self, name: str) -> str:
        return str(Origin.from_dict(self._said[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)


@dataclass(frozen=True)
class Setting:
    """A setting's value, "" where there is none, and its origin."""

    value: str
    origin: Origin


def given(values: Mapping[str, object], origin: Callable[[str], Origin]) -> dict[str, Setting]:
    """Keep what was given, as text; ``None`` and ``""`` mean "not given".

    Args:
        values: by the field's name.
        origin: makes a field's origin from its name.

    Raises:
        SettingsError: if a value is no text.
    """
    return {
        name: Setting(text(value, origin(name)), origin(name))
        for name, value in values.items()
        if value is not None and value != ""
    }


def text(value: object, origin: Origin) -> str:
    """Return a value that has to be text, without blanks around it."""
    if not isinstance(value, str):
        raise SettingsError(
            f"{value!r}, from {origin}, must be text in quotes, not {type(value).__name__}."
        )
    return value.strip()


def deploy_command(environment: str = "") -> str:
    """Return the command that deploys an environment of samconfig.toml."""
    return f"sam build && sam deploy{deploy_option(environment)}"


def deploy_option(environment: str) -> str:
    """Return what `sam deploy` needs beside to deploy an environment."""
    if environment in ("", "default"):
        return ""
    import shlex

    return f" --config-env {shlex.quote(environment)}"


def _in_file(origin: Origin) -> str:
    table = f"[{origin.table}]" if origin.table else ""
    return " ".join(part for part in (origin.file, table, origin.key) if part)


_WORDS: Mapping[Kind, Callable[[Origin], str]] = MappingProxyType(
    {
        Kind.ARGUMENT: lambda o: f"the argument {o.key}=",
        Kind.SAMCONFIG: _in_file,
        Kind.STACK: lambda o: f"the output {o.key} of stack {o.stack!r}",
        Kind.COVALENT_CONF: _in_file,
        Kind.ENVIRONMENT: lambda o: f"the variable {o.key}",
        Kind.AWS_CONFIG: _in_file,
        Kind.DEFAULT: lambda o: f"the documented default{f': {o.note}' if o.note else ''}",
    }
)
