"""The region is the one that botocore would use, read without botocore."""

from __future__ import annotations

import os
from pathlib import Path

import botocore.exceptions
import botocore.session
import pytest
from lambda_calls.settings import Kind, SettingsReader
from lambda_calls.settings.aws_config import region
from lambda_calls.settings.files import Files
from samconfigs import OURS, write

CONFIG = """\
[default]
region = default-1
s3 =
    region = nested-1
[profile lab]
region=lab-1
output = json
[profile "two words"]
region = two-1
[profile none]
output = json
[lab2]
region = not-a-profile-1
[profile both]
region = config-1
[sso-session lab3]
region = sso-1
[profile nested]
region =
    a = b
[profile odd"]
region = odd-1
"""
CREDENTIALS = """\
[both]
region = credentials-1
[only]
region = only-1
[profile odd2]
region = odd-2
"""
PROFILES = ["", "default", "lab", "two words", "none", "lab2", "lab3", "both", "only", "nobody"]
PROFILES += ["nested", "odd", "profile odd2", "odd2"]
VARIABLES: list[dict[str, str]] = [
    {},
    {"AWS_PROFILE": "lab"},
    {"AWS_DEFAULT_PROFILE": "both", "AWS_PROFILE": "lab"},
    {"AWS_DEFAULT_REGION": "variable-1"},
    {"AWS_CONFIG_FILE": "~/other/config"},
    {"AWS_SHARED_CREDENTIALS_FILE": "$HOME/other/credentials", "AWS_PROFILE": "other"},
    {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"},
]


def by_botocore(profile: str) -> str | None:
    try:
        session = botocore.session.Session(profile=profile or None)
        value = session.get_config_variable("region")
    except botocore.exceptions.ProfileNotFound:
        return None
    return value if value and isinstance(value, str) else None


@pytest.fixture(autouse=True)
def aws_files() -> None:
    """Write AWS's files into the home of the test."""
    write(Path.home(), CONFIG, ".aws/config")
    write(Path.home(), CREDENTIALS, ".aws/credentials")
    write(Path.home(), "[default]\nregion = other-1\n", "other/config")
    write(Path.home(), "[other]\nregion = other-2\n", "other/credentials")


@pytest.mark.parametrize("variables", VARIABLES, ids=str)
@pytest.mark.parametrize("profile", PROFILES)
def test_same_as_botocore(
    profile: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each profile has the region that botocore finds for it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = region(profile, "", os.environ, Files())
    assert (found.value if found else None) == by_botocore(profile)


def test_comparison_sees_regions() -> None:
    """The files hold regions that botocore finds, or the comparison would say nothing."""
    assert [by_botocore(name) for name in ("", "lab", "both")] == [
        "default-1",
        "lab-1",
        "credentials-1",
    ]


def test_region_of_the_project_s_profile(tmp_path: Path) -> None:
    """A profile from samconfig.toml brings its region, unless the file names one."""
    path = write(tmp_path, OURS.replace('region = "eu-west-1"\n', ""))
    settings = SettingsReader().resolve(samconfig=path, environ={})
    assert (settings.profile.value, settings.region.value) == ("lab", "lab-1")
    origin = settings.region.origin
    assert origin.kind is Kind.AWS_CONFIG
    assert str(origin) == f"{Path.home()}/.aws/config [profile lab] region"
    path.write_text(OURS)
    assert SettingsReader().resolve(samconfig=path, environ={}).region.value == "eu-west-1"


def test_region_of_a_credentials_file_of_one_s_own(tmp_path: Path) -> None:
    """A region in the file of credentials_file= counts, as for botocore."""
    path = write(tmp_path, "[default]\nregion = mine-1\n", "credentials")
    found = region("", str(path), {}, Files())
    assert found and found.value == "mine-1"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"AWS_DEFAULT_REGION": "a-1", "AWS_REGION": "b-1"}, "a-1"),
        ({"AWS_REGION": "b-1"}, "default-1"),
        ({"AWS_REGION": "b-1", "AWS_CONFIG_FILE": "/nowhere"}, "b-1"),
    ],
)
def test_variables(environ: dict[str, str], expected: str) -> None:
    """AWS_REGION, which botocore does not know, comes after what botocore knows."""
    found = region("", "", environ, Files())
    assert found and found.value == expected


@pytest.mark.parametrize("broken", [b"region = x\n", b"[default\n", b"\xff\xfe", b"[a]\n[a]\n"])
def test_a_broken_file_names_no_region(broken: bytes) -> None:
    """What is wrong with it, botocore says when credentials are needed."""
    write(Path.home(), broken, ".aws/config")
    assert region("", "", {}, Files()) is None
