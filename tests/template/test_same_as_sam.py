"""The executor looks for what SAM CLI deployed: both read the same samconfig.toml alike."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from baking import tool
from lambda_calls.settings import SettingsError
from lambda_calls.settings.files import Files, toml
from lambda_calls.settings.origin import Kind, Origin
from lambda_calls.settings.overrides import parameters
from lambda_calls.settings.samconfig import read_project

HEAD = "version = 0.1\n[default.deploy.parameters]\nstack_name = 's'\n"
AB = {"FunctionName": "a", "BucketName": "b"}

# Values of parameter_overrides, as TOML.
VALUES = {
    "text": '"FunctionName=a BucketName=b"',
    "blanks": '"  FunctionName=a   BucketName=b  "',
    "tabs": '"FunctionName=a\\tBucketName=b"',
    "line ends": '"FunctionName=a\\nBucketName=b"',
    "double quotes": '\'FunctionName="a" BucketName="b"\'',
    "single quotes": "\"FunctionName='a' BucketName='b'\"",
    "half a quote": "'FunctionName=\"a BucketName=b'",
    "a quote inside": "'FunctionName=a\"c BucketName=b'",
    "an apostrophe inside": '"FunctionName=a\'c BucketName=b"',
    "escapes": r"""'FunctionName="a \"b\" c" BucketName=d\ e'""",
    "backslashes": r"'FunctionName=a\\b BucketName=b\'",
    "legacy": '"ParameterKey=FunctionName,ParameterValue=a ParameterKey=BucketName,'
    'ParameterValue=b"',
    "legacy, quoted": '\'ParameterKey="FunctionName",ParameterValue="a b"\'',
    "legacy hides the short form": '"BucketName=b ParameterKey=FunctionName,ParameterValue=a"',
    "legacy with a comma": '"ParameterKey=FunctionName,ParameterValue=a,b BucketName=b"',
    "legacy, half": '"ParameterKey=FunctionName BucketName=b"',
    "quoted keys": '\'"FunctionName"=a "BucketName"=b\'',
    "quoted and plain key": '\'"FunctionName"=a FunctionName=c "FunctionName"=d\'',
    "plain and quoted key": "'FunctionName=a \"FunctionName\"=c FunctionName=d'",
    "keys alike": '"MyFunctionName=x My_FunctionName=y FunctionName=a"',
    "key in a value": "'Note=\"say FunctionName=x\" FunctionName=a BucketName=b'",
    "twice": '"FunctionName=x FunctionName=a BucketName=b"',
    "equals sign": '"FunctionName=a BucketName=b Tag=c=d"',
    "no value": '"FunctionName= BucketName=b"',
    "only no value": '"FunctionName="',
    "no pair": '"nonsense"',
    "a space around =": '"FunctionName = a BucketName=b"',
    "comma between": '"FunctionName=a,BucketName=b"',
    "empty text": '""',
    "blank text": '" "',
    "number": "3",
    "truth": "true",
    "date": "2026-01-01",
    "list": '["FunctionName=a", "BucketName=b"]',
    "list of one": '["FunctionName=a BucketName=b"]',
    "nested list": '[["FunctionName=a"], [["BucketName=b"]]]',
    "empty list": "[]",
    "empty text in a list": '["", "BucketName=b"]',
    "number in a list": '["FunctionName=a", 3]',
    "no pair in a list": '["FunctionName", "BucketName=b"]',
    "unquoted space in a list": '["FunctionName=a", "Note=two words", "BucketName=b"]',
    "list with a table": '[{FunctionName = "a"}, "BucketName=b"]',
    "table": '{FunctionName = "a", BucketName = "b"}',
    "empty table": "{}",
    "dotted keys": '{Function.Name = "a"}',
    "numbers in a table": "{FunctionName = 7, BucketName = 0x1f, A = 1.10, B = 1e3, C = 1_000}",
    "truths in a table": "{FunctionName = true, BucketName = false}",
    "dates in a table": "{FunctionName = 2026-01-01, BucketName = 10:00:00, "
    "A = 2026-01-01T10:00:00Z, B = 2026-01-01T10:00:00.5, C = 2026-01-01 10:00:00+02:00}",
    "lists in a table": '{Subnets = ["x", " y ", "", 3], None = [], FunctionName = ["a"]}',
    "table in a table": '{FunctionName = "a", BucketName = {b = 1}}',
    "quotes in a table": "{FunctionName = '\"a\"', BucketName = \"'b'\"}",
    "blanks in a table": '{FunctionName = " a ", BucketName = "b"}',
    "the last counts": '["FunctionName=x", {FunctionName = "a"}, "BucketName=b"]',
    "order of quoted keys": '["FunctionName=x", {\'"FunctionName"\' = "y"}, "FunctionName=a"]',
}
# What other files hold, and values that name them.
FILES = {
    "p.toml": 'FunctionName = "from-file"\nBucketName = "file-bucket"\nSince = 2026-01-01\n',
    "p.yaml": "FunctionName: from-yaml\nBucketName: no\nOn: on\nYes: yes\nNothing:\nTilde: ~\n"
    "Count: 010\nHex: 0x1f\nOctal: 0o17\nFloat: 1.10\nTrue: true\nDate: 2026-01-01\n"
    "Size: 1_000\nTime: 10:30\nList: [a, ' b ', '', 3]\n",
    "anchors.yml": "base: &base\n  FunctionName: x\nFunctionName: &name anchored\n"
    "BucketName: *name\n",
    "list.yaml": "- FunctionName=a\n- \n- BucketName: b\n- [Memory=5]\n",
    "text.yaml": "FunctionName=a BucketName=b\n",
    "empty.yaml": "",
    "empty.toml": "",
    "broken.toml": "a = ]",
    "broken.yaml": "a: [",
    "number.yaml": "3",
    "p.json": '{"FunctionName": "a"}',
    "including.toml": '"$include" = "file://p.toml"\nBucketName = "b"\n',
    "deep/outer.yaml": "$include: [file://inner.toml, 'FunctionName=outer']\n",
    "deep/inner.toml": 'FunctionName = "inner"\nBucketName = "inner"\n',
    "circle.toml": '"$include" = "file://circle.toml"\n',
    "twice.toml": '"$include" = ["file://p.toml", "file://p.toml"]\n',
    "quoted.yaml": 'FunctionName: \'"\\"a\\""\'\n',
}
REFERENCES = {
    "file": '"file://p.toml"',
    "file, YAML": '"file://p.yaml"',
    "file, anchors": '"file://anchors.yml"',
    "file, a list": '"file://list.yaml"',
    "file, a text": '"file://text.yaml"',
    "file, empty YAML": '["FunctionName=a", "file://empty.yaml"]',
    "file, empty TOML": '["FunctionName=a", "file://empty.toml"]',
    "file, broken TOML": '["FunctionName=a", "file://broken.toml"]',
    "file, broken YAML": '["FunctionName=a", "file://broken.yaml"]',
    "file, a number": '"file://number.yaml"',
    "file, JSON": '"file://p.json"',
    "file that is missing": '["FunctionName=a", "file://nowhere.toml"]',
    "file that is a folder": '"file://deep"',
    "file after": '["FunctionName=a", "file://p.toml"]',
    "file before": '["file://p.toml", "FunctionName=a"]',
    "file within a text": '"FunctionName=a file://p.toml"',
    "file after a blank": '" file://p.toml"',
    "file in a table": '{FunctionName = "file://p.toml"}',
    "include": '{FunctionName = "a", "$include" = "file://p.toml"}',
    "include before": '{"$include" = "file://p.toml", FunctionName = "a"}',
    "include of a list": '{"$include" = ["file://p.yaml", "file://p.toml"]}',
    "include of pairs": '{"$include" = "FunctionName=a BucketName=b"}',
    "include of nothing": '{"$include" = "", FunctionName = "a"}',
    "include of a number": '{"$include" = 3}',
    "include of a table": '{"$include" = {a = 1}}',
    "include in a file": '"file://including.toml"',
    "include in a folder": '"file://deep/outer.yaml"',
    "include in a circle": '"file://circle.toml"',
    "include twice": '"file://twice.toml"',
    "quotes in a file": '"file://quoted.yaml"',
}
# Whole files: which table counts.
TABLES = {
    "deploy wins over global": HEAD
    + 'region = "d"\nparameter_overrides = "FunctionName=d"\n'
    + '[default.global.parameters]\nregion = "g"\nparameter_overrides = "BucketName=g"\n',
    "global alone": "version = 0.1\n[default.global.parameters]\nstack_name = 's'\n"
    'region = "g"\nparameter_overrides = ["FunctionName=g", "BucketName=b"]\n',
    "an empty value in deploy": HEAD
    + 'parameter_overrides = ""\n'
    + '[default.global.parameters]\nparameter_overrides = "BucketName=g"',
    "written by a guided deployment": HEAD
    + 'parameter_overrides = "FunctionName=\\"a\\" BucketName=\\"b\\" MemorySize=\\"512\\""\n'
    + '[default.global.parameters]\nparameter_overrides = ["FunctionName=x", "MemorySize=1769"]\n',
}
TEXTS = {
    **{name: f"{HEAD}parameter_overrides = {value}\n" for name, value in VALUES.items()},
    **{name: f"{HEAD}parameter_overrides = {value}\n" for name, value in REFERENCES.items()},
    **TABLES,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project's folder for each case."""
    made = {}
    for number, (name, text) in enumerate(TEXTS.items()):
        folder = made[name] = tmp_path_factory.mktemp(f"case{number}")
        (folder / "template.yaml").write_text("Resources: {}\n")
        (folder / "samconfig.toml").write_text(text)
        for path, content in FILES.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(content)
    return made


@pytest.fixture(scope="module")
def by_sam(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What SAM CLI makes of each case; one process for all."""
    command = [tool("python"), str(Path(__file__).with_name("sam_reads.py"))]
    home = str(tmp_path_factory.mktemp("home"))
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    done = subprocess.run(
        [*command, *map(str, folders.values())],
        env={**os.environ, **keys, "HOME": home, "SAM_CLI_TELEMETRY": "0"},
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("{", "null"))]
    return dict(zip(folders, map(json.loads, lines), strict=True))


def by_us(folder: Path) -> dict[str, Any] | None:
    """What the executor makes of a case, in the words of SAM CLI."""
    path, files = folder / "samconfig.toml", Files()
    tables = files.read(path, toml)["default"]
    overrides = {
        **tables.get("global", {}).get("parameters", {}),
        **tables.get("deploy", {}).get("parameters", {}),
    }["parameter_overrides"]
    try:
        settings = read_project(path, "", files).settings
        origin = Origin(Kind.SAMCONFIG, file=str(path))
        found = {key: one.value for key, one in parameters(overrides, origin, files).items()}
    except SettingsError:
        return None
    names = {"FunctionName": "function_name", "BucketName": "s3_bucket_name"}
    for parameter, name in names.items():
        value = settings[name].value if name in settings else ""
        assert value == found.get(parameter, "")
    region = settings["region"].value if "region" in settings else None
    stack_name = settings["stack_name"].value
    return {"region": region, "stack_name": stack_name, "parameter_overrides": found}


@pytest.mark.parametrize("name", TEXTS)
def test_same_as_sam(name: str, folders: dict[str, Path], by_sam: dict[str, Any]) -> None:
    """Region, stack and every parameter are those that `sam deploy` takes, or both refuse."""
    assert by_us(folders[name]) == by_sam[name]


def test_cases_are_of_all_kinds(by_sam: dict[str, Any]) -> None:
    """SAM CLI accepts some cases and refuses others, so that the comparison says something."""
    refused = [name for name, said in by_sam.items() if said is None]
    assert 10 < len(refused) < len(by_sam) / 2
    assert by_sam["text"]["parameter_overrides"] == AB
