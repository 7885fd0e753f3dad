"""Reading and parsing configuration files, each version of a file once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from .errors import SettingsError

T = TypeVar("T")


class Files:
    """Parsed files, remembered until their time or size changes.

    Programs make many executors, and each one looks at the same few files.
    """

    def __init__(self) -> None:
        self._parsed: dict[tuple[Path, Callable[..., Any]], tuple[tuple[int, int], Any]] = {}

    def read(self, path: Path, parse: Callable[[Path, str], T]) -> T:
        """Return what `parse` makes of the path and its text.

        Raises:
            OSError: if it cannot be read.
            SettingsError: if it is no UTF-8 text, or as `parse` raises it.
        """
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        known, document = self._parsed.get((path, parse), (None, None))
        if known != version:
            document = parse(path, decoded(path, path.read_bytes()))
            self._parsed[path, parse] = (version, document)
        return document  # type: ignore[return-value]


def decoded(path: Path, data: bytes) -> str:
    """The text of a file.

    Raises:
        SettingsError: if it is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from None


def toml(path: Path, text: str) -> dict[str, Any]:
    """Parse TOML."""
    import sys

    if sys.version_info >= (3, 11):  # imported here, as most programs find no such file
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(text)
        return document
    except (ValueError, RecursionError) as error:  # numbers without end, and nesting, too
        raise SettingsError(f"{path} is not valid TOML: {error}. {_toml_remedy(path)}") from None


def _toml_remedy(path: Path) -> str:
    if path.suffix.lower() in {".yaml", ".yml", ".json"}:
        return "Only samconfig.toml is read: keep the settings in that form."
    return "Correct that line."


def yaml(path: Path, text: str) -> Any:
    """Parse YAML 1.2, as SAM CLI does: `no` and `on` are texts.

    Raises:
        SettingsError: if it is not valid, or if PyYAML is missing.
    """
    try:
        import yaml as pyyaml
    except ImportError:
        raise SettingsError(
            f"{path} cannot be read without PyYAML. Install it (pip install pyyaml), or write the "
            "parameters into samconfig.toml."
        ) from None
    # What PyYAML meets in values that have an odd tag, it raises as it is.
    odd = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
    try:
        document = pyyaml.load(text, Loader=_core_loader(pyyaml))
        if _values_in(document, {}) > _MOST_VALUES:
            raise SettingsError(f"{path} holds more than {_MOST_VALUES} values, by its aliases.")
        return document
    except SettingsError:
        raise
    except (pyyaml.YAMLError, *odd) as error:
        said = " ".join(str(error).split())
        raise SettingsError(f"{path} is not valid YAML: {said}. Correct that line.") from None


def _values_in(value: Any, known: dict[int, int]) -> int:
    """How many values there are where each alias stands for a copy.

    Raises:
        ValueError: if a value is within itself.
    """
    if not isinstance(value, (list, dict)):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # until it is counted
        inner = value if isinstance(value, list) else [*value, *value.values()]
        known[id(value)] = 1 + sum(_values_in(x, known) for x in inner)
    if not known[id(value)]:
        raise ValueError("a value is within itself")
    return known[id(value)]


#: More are no parameters: a few lines of aliases can stand for billions of values.
_MOST_VALUES = 10_000


def _core_loader(pyyaml: Any) -> Any:
    """Make PyYAML's safe loader, which speaks YAML 1.1, follow the core schema of 1.2.

    https://yaml.org/spec/1.2.2/#103-core-schema
    """
    import re

    loader: Any = type("CoreLoader", (pyyaml.SafeLoader,), {"yaml_implicit_resolvers": {}})
    for kind, pattern, first in _CORE:
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), list(first))
    loader.add_constructor("tag:yaml.org,2002:int", _core_int)
    return loader


#: The schema's numbers, and the underscores that SAM CLI's own reader takes in them.
_CORE = (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)\Z", ("~", "n", "N", "")),
    ("int", r"(?:[-+]?[0-9][0-9_]*|0b[01]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?\Z",
        "-+.0123456789",
    ),
    ("merge", r"<<\Z", "<"),
)


def _core_int(loader: Any, node: Any) -> int:
    said = loader.construct_scalar(node)
    return int(said, 0 if said[:2] in ("0b", "0o", "0x") else 10)


#: How to read a file of parameters, by the ending of its name, as far as SAM CLI reads it.
PARSERS: Mapping[str, Callable[[Path, str], Any]] = MappingProxyType(
    {".toml": toml, ".yaml": yaml, ".yml": yaml}
)
