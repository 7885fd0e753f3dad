"""``parameter_overrides`` in all the forms that SAM CLI takes, read as it reads them.

    "A=1 B=2"  "ParameterKey=A,ParameterValue=1"  ["A=1", ...]  {A = 1, ...}
    "file://parameters.yaml"  {"$include" = "file://more.toml"}

What wins, what is skipped and what is refused is SAM CLI's way, odd as some of it is: the executor
must look for the function that SAM deployed. A test compares the two on each form.
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference-sam-deploy.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import SettingsError
from .files import PARSERS, Files
from .origin import Origin, Setting

FILE_PREFIX = "file://"
INCLUDE = "$include"

_KEY = r"""([A-Za-z0-9"']+)"""
_VALUE = r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|[^ "\\])+)"""
#: The first form that occurs in a text is the only one that counts in it.
_FORMS = (rf"ParameterKey={_KEY},ParameterValue={_VALUE}", rf" {_KEY}={_VALUE}")

Found = dict[str, Setting]


def parameters(value: Any, origin: Origin, files: Files, within: tuple[Path, ...] = ()) -> Found:
    """Read a value of ``parameter_overrides``, or what a file of parameters holds.

    Args:
        value: as TOML or YAML gave it.
        origin: where it stands; files are named relative to its folder.
        files: reads those.
        within: the files that are being read, outermost first.

    Raises:
        SettingsError: if SAM CLI would refuse it. What it holds is not quoted: it may be a secret.
    """
    if value is None or value == "":
        return {}
    found: Found = {}
    for item in _flat(value):
        if isinstance(item, str) and item.startswith(FILE_PREFIX):
            found.update(_of_file(item, origin, files, within))
        elif isinstance(item, str):
            found.update(_of_text(item, origin))
        elif isinstance(item, dict):
            found.update(_of_table(item, origin, files, within))
        elif item is not None:
            raise SettingsError(
                f"{origin}: {item!r} must be text in quotes or a table, not {type(item).__name__}."
            )
    return {
        _unquoted(key): replace(setting, value=_unquoted(setting.value))
        for key, setting in found.items()
    }


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _of_text(text: str, origin: Origin) -> Found:
    for form in _FORMS:
        pairs = re.findall(form, f" {text.strip()}")
        if pairs:
            return {key: Setting(value, _keyed(origin, key)) for key, value in pairs}
    raise SettingsError(f'{origin} is not of the form "Name=value Other=value".')


def _of_table(
    table: Mapping[Any, Any], origin: Origin, files: Files, within: tuple[Path, ...]
) -> Found:
    found: Found = {}
    for key, value in table.items():
        if key == INCLUDE and value is not None:
            if not isinstance(value, (str, list)):
                raise SettingsError(
                    f"{origin} {INCLUDE} must be text or a list of texts, not "
                    f"{type(value).__name__}."
                )
            found.update(parameters(value, origin, files, within))
        else:
            found[str(key)] = Setting(_plain(value), _keyed(origin, str(key)))
    return found


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(str(item).strip() for item in value if item not in (None, ""))
    return str(value)


def _of_file(named: str, origin: Origin, files: Files, within: tuple[Path, ...]) -> Found:
    try:
        path = (Path(origin.file).parent / named.removeprefix(FILE_PREFIX)).resolve()
    except (ValueError, OSError) as error:
        raise SettingsError(f"{origin} names {named!r}, which is not a path: {error}.") from None
    parse = PARSERS.get(path.suffix)
    if path in within:
        raise SettingsError(f"{origin} names {path}, which includes itself. Remove the circle.")
    if not path.is_file():
        raise SettingsError(f"{origin} names {path}, which is not a file. Correct the path.")
    if parse is None:
        raise SettingsError(
            f"{origin} names {path}, but SAM CLI reads .toml, .yaml and .yml files only."
        )
    try:
        document = files.read(path, parse)
    except OSError as error:
        raise SettingsError(
            f"{origin} names {path}, which cannot be read: {error.strerror or error}."
        ) from error
    inside = replace(origin, file=str(path), table="", key="")
    return parameters(document, inside, files, (*within, path))


def _keyed(origin: Origin, key: str) -> Origin:
    return replace(origin, key=_unquoted(key))


def _unquoted(text: str) -> str:
    if text and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text.replace("\\ ", " ").replace('\\"', '"').replace("\\'", "'")
