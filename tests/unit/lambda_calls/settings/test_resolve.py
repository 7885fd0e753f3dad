"""Who wins: arguments, samconfig.toml, another configuration, AWS's, the documented defaults."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lambda_calls.settings import (
    DEFAULTS,
    Kind,
    Origin,
    Setting,
    SettingsError,
    SettingsReader,
    data_bucket,
    given,
)
from samconfigs import OTHER_PROJECT, OURS, write
from template_paths import EXECUTOR

CONF = {
    "function_name": "conf-fn",
    "s3_bucket_name": "conf-bucket",
    "region": "ap-south-1",
    "profile": "conf-profile",
    "credentials_file": "/conf/credentials",
}


def conf(values: dict[str, Any]) -> dict[str, Setting]:
    return given(values, lambda name: Origin(Kind.COVALENT_CONF, "c", "executors.x", name))


def arguments(**values: Any) -> dict[str, Setting]:
    return given(values, Origin.argument)


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_an_argument_wins(tmp_path: Path, name: str) -> None:
    """An argument wins over samconfig.toml and over another configuration."""
    write(tmp_path, OURS)
    settings = SettingsReader().resolve(
        arguments(**{name: "given"}), conf=conf(CONF), environ={}, start=tmp_path
    )
    assert getattr(settings, name) == Setting("given", Origin(Kind.ARGUMENT, key=name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("function_name", "my-fn"),
        ("s3_bucket_name", "my-bucket"),
        ("region", "eu-west-1"),
        ("profile", "lab"),
    ],
)
def test_samconfig_wins_over_another_configuration(
    tmp_path: Path, name: str, expected: str
) -> None:
    """samconfig.toml wins over another configuration, unless that comes first."""
    write(tmp_path, OURS)
    reader, said = SettingsReader(), conf(CONF)
    settings = reader.resolve(conf=said, environ={}, start=tmp_path)
    assert getattr(settings, name).value == expected
    assert getattr(settings, name).origin.kind is Kind.SAMCONFIG
    settings = reader.resolve(conf=said, conf_first=True, environ={}, start=tmp_path)
    assert getattr(settings, name) == said[name]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_another_configuration_wins_over_defaults(tmp_path: Path, name: str) -> None:
    """Another configuration wins over the documented defaults, and its place is named."""
    settings = SettingsReader().resolve(conf=conf(CONF), environ={}, start=tmp_path)
    assert getattr(settings, name).value == CONF[name]
    assert str(getattr(settings, name).origin) == f"c [executors.x] {name}"


@pytest.mark.parametrize("conf_first", [False, True])
@pytest.mark.parametrize("name", sorted(DEFAULTS))
@pytest.mark.parametrize("value", ["", None, "the default"])
def test_an_unset_value_in_another_configuration(
    tmp_path: Path, name: str, value: str | None, conf_first: bool
) -> None:
    """Empty values, and the defaults that Covalent wrote there itself, count as not given."""
    said = conf({name: DEFAULTS[name] if value == "the default" else value})
    settings = SettingsReader().resolve(
        conf=said, conf_first=conf_first, environ={}, start=tmp_path
    )
    assert getattr(settings, name).value == DEFAULTS[name]
    assert getattr(settings, name).origin.kind is Kind.DEFAULT


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_an_empty_argument_is_not_given(tmp_path: Path, name: str) -> None:
    """An empty argument leaves the field to the other sources."""
    settings = SettingsReader().resolve(
        arguments(**{name: ""}), conf=conf(CONF), environ={}, start=tmp_path
    )
    assert getattr(settings, name).value == CONF[name]


def test_another_configuration_wins_over_the_region_of_the_environment(tmp_path: Path) -> None:
    """AWS's own region is asked for only if nothing else names one."""
    settings = SettingsReader().resolve(
        conf=conf(CONF), environ={"AWS_DEFAULT_REGION": "a-1"}, start=tmp_path
    )
    assert settings.region.value == "ap-south-1"


def test_config_env_picks_the_environment(tmp_path: Path) -> None:
    """config_env= picks another environment of the file, and nothing leaks from the default."""
    write(tmp_path, OURS)
    settings = SettingsReader().resolve(config_env="prod", environ={}, start=tmp_path)
    assert settings.function_name.value == "prod-fn"
    assert settings.bucket == "prod-bucket"
    assert (settings.region.value, settings.profile.value) == ("eu-north-1", "")
    assert settings.config_env == "prod"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: arguments(function_name=3), "3, from the argument function_name=, must be text"),
        (lambda: conf({"region": 3}), "3, from c [executors.x] region, must be text"),
    ],
)
def test_values_of_a_wrong_type(make: Any, said: str) -> None:
    """A value that is no text is refused, with its place."""
    with pytest.raises(SettingsError) as caught:
        make()
    assert said in str(caught.value)


def test_settings_are_frozen(tmp_path: Path) -> None:
    """Settings cannot be changed after they were resolved."""
    settings = SettingsReader().resolve(environ={}, start=tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.region = settings.profile  # type: ignore[misc]


# ── whether there is a bucket ──


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mine", "mine"), ("", None), ("covalent-lambda-job-resources", None)],
)
def test_data_bucket(name: str, expected: str | None) -> None:
    """The documented default is a name that anybody may own: it is no bucket for data."""
    assert data_bucket(name) == expected


@pytest.mark.parametrize("conf_first", [False, True])
def test_the_public_default_is_no_bucket_whoever_says_it(tmp_path: Path, conf_first: bool) -> None:
    """No source makes the public default a bucket for data."""
    public = DEFAULTS["s3_bucket_name"]
    write(tmp_path, OURS.replace("my-bucket", public))
    reader = SettingsReader()
    assert reader.resolve(environ={}, start=tmp_path).bucket is None
    assert reader.resolve(environ={}, start=tmp_path.parent).bucket is None
    said = arguments(s3_bucket_name=public)
    assert reader.resolve(said, environ={}, start=tmp_path).bucket is None


# ── files that are broken, and who must care ──


def test_a_broken_file_found_is_an_error_when_names_are_needed(tmp_path: Path) -> None:
    """Without names from elsewhere, a broken file in the working directory is not ignored."""
    write(tmp_path, "a = ]")
    with pytest.raises(SettingsError, match="not valid TOML"):
        SettingsReader().resolve(arguments(function_name="f"), environ={}, start=tmp_path)


def test_a_broken_file_found_does_not_stop_who_has_names(tmp_path: Path) -> None:
    """With both names given, a broken file that nobody asked for is only warned about, once."""
    write(tmp_path, "a = ]")
    said: list[str] = []
    reader = SettingsReader(warn=said.append)
    for _ in range(2):
        settings = reader.resolve(
            arguments(function_name="f", s3_bucket_name="b"), environ={}, start=tmp_path
        )
        assert (settings.function_name.value, settings.bucket) == ("f", "b")
    assert len(said) == 1 and "not valid TOML" in said[0]


def test_an_environment_asked_for_without_a_file(tmp_path: Path) -> None:
    """config_env= with no file to read is an error: the defaults would be another function."""
    with pytest.raises(SettingsError, match=r"config_env='prod' .* no samconfig\.toml"):
        SettingsReader().resolve(config_env="prod", environ={}, start=tmp_path)
    write(tmp_path, OTHER_PROJECT)
    with pytest.raises(SettingsError, match=r"\(found .*, but it has no FunctionName or Bucket"):
        SettingsReader().resolve(config_env="prod", environ={}, start=tmp_path)


def test_an_environment_misspelt_in_a_file_found(tmp_path: Path) -> None:
    """An unknown config_env is an error even when both names are given."""
    write(tmp_path, OURS)
    with pytest.raises(SettingsError, match=r"it has default, prod\. Did you mean 'prod'"):
        SettingsReader().resolve(
            arguments(function_name="f", s3_bucket_name="b"),
            config_env="prd",
            environ={},
            start=tmp_path,
        )


def test_only_the_function_s_name_tells_of_the_search(tmp_path: Path) -> None:
    """Where was searched, and the advice, are said once; the other defaults stay short."""
    settings = SettingsReader(advice="do this").resolve(environ={}, start=tmp_path)
    said = str(settings.function_name.origin)
    assert said == (
        "the documented default: no samconfig.toml of this project's kind in "
        f"{tmp_path} or above; do this"
    )
    assert str(settings.region.origin) == "the documented default"


# ── memory ──


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A file that was edited gives its new values."""
    path, reader = write(tmp_path, OURS), SettingsReader()
    assert reader.resolve(samconfig=path, environ={}).function_name.value == "my-fn"
    write(tmp_path, OURS.replace("my-fn", "your-fn"))
    assert reader.resolve(samconfig=path, environ={}).function_name.value == "your-fn"


def test_an_unchanged_file_is_parsed_once(tmp_path: Path) -> None:
    """Many executors of one project parse its file once."""
    path, reader = write(tmp_path, OURS), SettingsReader()
    parsed: list[Path] = []

    def parse(path: Path, text: str) -> int:
        parsed.append(path)
        return len(text)

    assert [reader.files.read(path, parse) for _ in range(3)] == [len(OURS)] * 3
    assert parsed == [path]


def test_readers_share_nothing(tmp_path: Path) -> None:
    """What one reader remembers and has warned of is its own."""
    write(tmp_path, "a = ]")
    said: list[str] = []
    for _ in range(2):
        SettingsReader(warn=said.append).resolve(
            arguments(function_name="f", s3_bucket_name="b"), environ={}, start=tmp_path
        )
    assert len(said) == 2


@pytest.mark.parametrize("region", ["", "[default]\nregion = eu-west-1\n"])
def test_nothing_heavy_is_imported(tmp_path: Path, region: str) -> None:
    """Reading a project's settings loads neither Covalent nor AWS's libraries."""
    write(tmp_path, OURS.replace('region = "eu-west-1"\n', "", 1))
    write(Path.home(), region, ".aws/config")
    script = (
        "import os, sys\n"
        "from lambda_calls.settings import SettingsReader\n"
        "print(SettingsReader().resolve(environ=os.environ).function_name.value)\n"
        "heavy = {'covalent', 'boto3', 'botocore', 'aiohttp', 'yaml'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(EXECUTOR), "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["my-fn", "[]"], done.stderr
