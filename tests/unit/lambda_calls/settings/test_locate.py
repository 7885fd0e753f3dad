"""Which samconfig.toml applies: named, or found upward, and of a project of this kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lambda_calls.settings import DEFAULTS, SettingsError, SettingsReader, passed_over
from lambda_calls.settings.files import Files
from lambda_calls.settings.locate import find_samconfig
from samconfigs import OTHER_PROJECT, OURS, STACK_ONLY, overrides, write


def found(start: Path) -> Path | None:
    return find_samconfig(start, Files())


def no_stack(stack: object) -> object:
    """Fail the test if a stack's outputs are asked for."""
    raise AssertionError(f"asked for the outputs of {stack}")


def test_the_search_goes_upward(tmp_path: Path) -> None:
    """The nearest file in a folder above the working directory is found."""
    path = write(tmp_path / "project", OURS)
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    assert found(deep) == path


def test_the_variable_wins_over_the_search(clean_surroundings: Path) -> None:
    """COVALENT_LAMBDA_SAMCONFIG is taken before any file in the working directory."""
    write(clean_surroundings, OURS)
    path = write(clean_surroundings / "x", OURS.replace("my-fn", "x-fn"))
    environ = {"COVALENT_LAMBDA_SAMCONFIG": "x/samconfig.toml"}
    settings = SettingsReader().resolve(environ=environ, start=clean_surroundings)
    assert settings.function_name.value == "x-fn"
    assert settings.samconfig == str(path)


def test_the_variable_names_a_file_that_does_not_exist(tmp_path: Path) -> None:
    """A wrong COVALENT_LAMBDA_SAMCONFIG is an error that names the variable."""
    environ = {"COVALENT_LAMBDA_SAMCONFIG": "no.toml"}
    with pytest.raises(SettingsError, match=r"no\.toml \(from COVALENT_LAMBDA_SAMCONFIG\) does"):
        SettingsReader().resolve(environ=environ, start=tmp_path)


def test_the_argument_wins_over_the_variable(tmp_path: Path) -> None:
    """samconfig= is taken before COVALENT_LAMBDA_SAMCONFIG."""
    environ = {"COVALENT_LAMBDA_SAMCONFIG": "/nowhere"}
    settings = SettingsReader().resolve(samconfig=write(tmp_path, OURS), environ=environ)
    assert settings.function_name.value == "my-fn"


def test_a_tilde_is_expanded() -> None:
    """A path may start with the home directory."""
    write(Path.home() / "project", OURS)
    settings = SettingsReader().resolve(samconfig="~/project/samconfig.toml", environ={})
    assert settings.function_name.value == "my-fn"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file somebody else's")
def test_a_strangers_file_is_not_found(tmp_path: Path) -> None:
    """A file of another user's met on the way up does not name our function, and that is said."""
    path = write(tmp_path, OURS)
    os.chown(path, 1234, 1234)
    said: list[str] = []
    reader = SettingsReader(warn=said.append)
    for _ in range(2):
        assert reader.resolve(environ={}, start=tmp_path).samconfig == ""
    assert said == [f"Passed over {path}: it belongs to another user"]
    assert reader.resolve(samconfig=path, environ={}).samconfig == str(path)  # unless it is named


FOREIGN = [
    pytest.param(OTHER_PROJECT, None, id="other parameters"),
    pytest.param(STACK_ONLY, None, id="only a stack name"),
    pytest.param(STACK_ONLY, "Resources: {Api: {}}", id="another template"),
    pytest.param(overrides('"FunctionName=api"'), "Resources: {Api: {}}", id="one name alike"),
    pytest.param("a = ]", "Resources: {Api: {}}", id="broken, another template"),
    pytest.param(overrides("3"), None, id="overrides of a wrong type"),
    pytest.param(overrides('"file://gone.toml"'), None, id="overrides in a missing file"),
]


@pytest.mark.parametrize(("text", "template"), FOREIGN)
def test_another_sam_project_above_is_passed_over(
    tmp_path: Path, text: str, template: str | None
) -> None:
    """A stranger's samconfig.toml gives no names, region or profile, and its stack is not read."""
    write(tmp_path, text)
    if template:
        write(tmp_path, template, "template.yaml")
    settings = SettingsReader(cloudformation=no_stack).resolve(  # type: ignore[arg-type]
        environ={}, start=tmp_path
    )
    assert {name: getattr(settings, name).value for name in DEFAULTS} == dict(DEFAULTS)
    assert settings.samconfig == ""
    assert f"found {tmp_path}/samconfig.toml, but it " in str(settings.function_name.origin)


@pytest.mark.parametrize(
    ("text", "template", "reason"),
    [
        (STACK_ONLY, "", "but it has no FunctionName or BucketName"),
        (
            overrides('"FunctionName=api"'),
            "Resources: {Api: {}}",
            "but it has no BucketName, and its template.yaml has no ElectronFunction",
        ),
        ("a = ]", "Resources: {Api: {}}", "samconfig.toml is not valid TOML"),
    ],
)
def test_a_file_that_was_passed_over_says_why(
    tmp_path: Path, text: str, template: str, reason: str
) -> None:
    """Nearest first: the file that was met, and why it was not taken."""
    path = write(tmp_path, text)
    if template:
        write(tmp_path, template, "template.yaml")
    inside = tmp_path / "src"
    inside.mkdir()
    assert passed_over(inside).startswith(f"found {path}, but it ")
    assert reason in passed_over(inside)


def test_nothing_was_passed_over(tmp_path: Path) -> None:
    """Neither a project of this kind nor an empty folder is a reason for a remark."""
    assert passed_over(tmp_path) == ""
    write(tmp_path, OURS)
    assert passed_over(tmp_path) == ""


def test_the_search_goes_on_past_another_project(tmp_path: Path) -> None:
    """Our project is found from inside another SAM project within it."""
    ours = write(tmp_path, OURS)
    write(tmp_path / "api", OTHER_PROJECT)
    assert found(tmp_path / "api") == ours


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed working directory means that nothing is found, not an error."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    settings = SettingsReader().resolve(environ={})
    assert settings.function_name.value == DEFAULTS["function_name"]
