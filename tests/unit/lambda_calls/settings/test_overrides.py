"""parameter_overrides and its files; tests/template compares all forms with SAM CLI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lambda_calls.settings import SettingsError
from lambda_calls.settings.files import Files
from lambda_calls.settings.samconfig import read_project
from samconfigs import overrides, write

BOTH = {"function_name": "a", "s3_bucket_name": "b"}


def names(folder: Path, value: str) -> dict[str, str]:
    """Read the names that a TOML value of parameter_overrides gives."""
    settings = read_project(write(folder, overrides(value)), "", Files()).settings
    return {name: setting.value for name, setting in settings.items()}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param('"FunctionName=a BucketName=b"', BOTH, id="text"),
        pytest.param('["FunctionName=a", "BucketName=b"]', BOTH, id="list"),
        pytest.param(
            '{FunctionName = "a", BucketName = "b", Since = 2026-01-01}', BOTH, id="dates"
        ),
        pytest.param('["file://p.yaml", "FunctionName=a"]', BOTH, id="file before"),
        pytest.param(
            '["FunctionName=a", "file://p.yaml"]',
            {"function_name": "no", "s3_bucket_name": "b"},
            id="file after",
        ),
        pytest.param('{"$include" = "file://p.yaml", FunctionName = "a"}', BOTH, id="include"),
        pytest.param(
            '"ParameterKey=FunctionName,ParameterValue=a BucketName=b"',
            {"function_name": "a"},
            id="legacy hides the short form",
        ),
        pytest.param('{FunctionName = "", BucketName = "b"}', {"s3_bucket_name": "b"}, id="empty"),
    ],
)
def test_names(tmp_path: Path, value: str, expected: dict[str, str]) -> None:
    """What comes last wins, be it a literal or another file."""
    write(tmp_path, "FunctionName: no\nBucketName: b\n", "p.yaml")
    assert names(tmp_path, value) == expected


def test_a_name_from_another_file_knows_that_file(tmp_path: Path) -> None:
    """The origin of an included name is the file that it stands in."""
    included = write(tmp_path, 'FunctionName = "a"\n', "more/p.toml")
    path = write(tmp_path, overrides('["BucketName=b", "file://more/p.toml"]'))
    settings = read_project(path, "", Files()).settings
    assert str(settings["function_name"].origin) == f"{included} FunctionName"
    assert settings["s3_bucket_name"].origin.file == str(path)


def test_a_changed_file_of_parameters_is_read_again(tmp_path: Path) -> None:
    """What is remembered of samconfig.toml does not hide a change in a file that it names."""
    included = write(tmp_path, "FunctionName: a\n", "p.yaml")
    path, files = write(tmp_path, overrides('"file://p.yaml"')), Files()
    assert read_project(path, "", files).settings["function_name"].value == "a"
    included.write_text("FunctionName: other\n")
    assert read_project(path, "", files).settings["function_name"].value == "other"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"file://no.yaml"', "no.yaml, which is not a file"),
        ('"file://p.json"', "p.json, but SAM CLI reads .toml, .yaml and .yml files only"),
        ('"file://circle.toml"', "circle.toml, which includes itself"),
        ('"file://broken.yaml"', "broken.yaml is not valid YAML"),
        ('"file://broken.toml"', "broken.toml is not valid TOML"),
        ('{"$include" = 3}', "$include must be text or a list of texts, not int"),
    ],
)
def test_a_file_of_parameters_that_cannot_be_used(tmp_path: Path, value: str, said: str) -> None:
    """One line says which file, and what is wrong with it."""
    write(tmp_path, "{}", "p.json")
    write(tmp_path, '"$include" = "file://circle.toml"', "circle.toml")
    write(tmp_path, "a: [", "broken.yaml")
    write(tmp_path, "a = [", "broken.toml")
    with pytest.raises(SettingsError) as caught:
        names(tmp_path, value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML the message says how to get it."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    write(tmp_path, "FunctionName: a\n", "p.yaml")
    with pytest.raises(SettingsError, match="pip install pyyaml"):
        names(tmp_path, '"file://p.yaml"')
