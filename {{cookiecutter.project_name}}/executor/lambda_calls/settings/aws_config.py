"""The region that AWS's own tools would use here, without loading any of them.

The order is botocore's: the variable AWS_DEFAULT_REGION, then the profile's `region` in the
credentials file, then in the config file. AWS_REGION comes last: other SDKs know it, botocore
does not. A test compares this with botocore.
https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import SettingsError
from .files import Files
from .origin import Kind, Origin, Setting

PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")

Regions = dict[str, tuple[str, str]]  # by profile: its section and its region


def region(
    profile: str, credentials_file: str, environ: Mapping[str, str], files: Files
) -> Setting | None:
    """Return the region of AWS's configuration; None if it names none.

    Args:
        profile: the profile that was chosen; "": that of the environment, else `default`.
        credentials_file: path of a shared credentials file; "": that of the environment.
        environ: the environment.
        files: reads AWS's files. One that cannot be parsed names no region: botocore says what is
            wrong with it when credentials are needed.
    """
    return (
        _variable("AWS_DEFAULT_REGION", environ)
        or _of_profile(profile, credentials_file, environ, files)
        or _variable("AWS_REGION", environ)
    )


def _variable(name: str, environ: Mapping[str, str]) -> Setting | None:
    value = environ.get(name)
    return Setting(value, Origin(Kind.ENVIRONMENT, key=name)) if value else None


def _of_profile(
    profile: str, credentials_file: str, environ: Mapping[str, str], files: Files
) -> Setting | None:
    chosen = [profile, *(environ.get(name, "") for name in PROFILE_VARIABLES), "default"]
    wanted = next(filter(None, chosen))
    sources = (
        (
            credentials_file
            or environ.get("AWS_SHARED_CREDENTIALS_FILE")
            or os.path.join("~", ".aws", "credentials"),
            _of_credentials,
        ),
        (environ.get("AWS_CONFIG_FILE") or os.path.join("~", ".aws", "config"), _of_config),
    )
    for named, parse in sources:
        path = Path(os.path.expanduser(os.path.expandvars(named)))
        try:
            found = files.read(path, parse).get(wanted)
        except (OSError, ValueError):  # a SettingsError, or a path that can be none
            continue
        if found:
            section, value = found
            origin = Origin(Kind.AWS_CONFIG, file=str(path), table=section, key="region")
            return Setting(value, origin)
    return None


def _of_credentials(path: Path, text: str) -> Regions:
    return {section: (section, value) for section, value in _sections(path, text)}


def _of_config(path: Path, text: str) -> Regions:
    import shlex

    regions: Regions = {}
    for section, value in _sections(path, text):
        try:
            words = shlex.split(section)
        except ValueError:
            continue
        if section == "default":
            regions["default"] = (section, value)
        elif section.startswith("profile") and len(words) == 2:
            regions[words[1]] = (section, value)
    return regions


def _sections(path: Path, text: str) -> Iterator[tuple[str, str]]:
    import configparser  # only where no other source names a region

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise SettingsError(f"{path} cannot be parsed: {error}") from None
    for section in parser.sections():
        value = parser.get(section, "region", fallback="")
        if value and not value.startswith("\n"):
            yield section, value
