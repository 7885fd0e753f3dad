"""One environment of one samconfig.toml becomes settings with their origins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lambda_calls.settings import SettingsError, SettingsReader
from lambda_calls.settings.files import Files
from lambda_calls.settings.samconfig import read_project
from samconfigs import OURS, overrides, tables, write

BOTH = {"function_name": "a", "s3_bucket_name": "b"}


def values(path: Path, environment: str = "") -> dict[str, str]:
    """Read a file and drop where each value came from."""
    project = read_project(path, environment, Files())
    return {name: setting.value for name, setting in project.settings.items()}


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    """A file saved by Windows Notepad is read."""
    assert values(write(tmp_path, b"\xef\xbb\xbf" + OURS.encode()))["region"] == "eu-west-1"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        (tables(**{"global": 'region = "g"'}), "region", "g"),
        (tables(**{"global": 'region = "g"', "deploy": 'region = "d"'}), "region", "d"),
        (tables(**{"deploy": 'region = "d"', "global": 'region = "g"'}), "region", "d"),
        (tables(**{"build": 'region = "b"', "global": 'region = "g"'}), "region", "g"),
        (tables(build='region = "b"', sync='region = "s"'), "region", "s"),
        (tables(local_start_lambda='region = "l"'), "region", "l"),
        (tables(validate='stack_name = "v"'), "stack_name", "v"),
    ],
)
def test_which_command_table_counts(tmp_path: Path, text: str, key: str, expected: str) -> None:
    """The deploy table overrides global, as in SAM CLI; other tables only fill gaps."""
    assert values(write(tmp_path, text))[key] == expected


@pytest.mark.parametrize("command", ["deploy", "sync", "package"])
def test_the_deployers_profile_is_not_the_executors(tmp_path: Path, command: str) -> None:
    """A profile under a command belongs to whoever deploys; only that of global counts."""
    text = tables(**{command: 'profile = "admin"'})
    assert "profile" not in values(write(tmp_path, text))
    text = tables(**{command: 'profile = "admin"', "global": 'profile = "user"'})
    assert values(write(tmp_path, text))["profile"] == "user"


def test_deploy_overrides_replace_those_of_global(tmp_path: Path) -> None:
    """parameter_overrides is replaced whole, not merged: SAM CLI deploys without the others."""
    text = tables(
        **{
            "global": 'parameter_overrides = "FunctionName=g BucketName=g"',
            "deploy": 'parameter_overrides = "FunctionName=d"',
        }
    )
    assert values(write(tmp_path, text)) == {"function_name": "d"}


def test_each_value_knows_its_place(tmp_path: Path) -> None:
    """An origin names the file, the table, the key and the environment."""
    path = write(tmp_path, OURS)
    settings = read_project(path, "prod", Files()).settings
    origin = settings["function_name"].origin
    assert (origin.file, origin.table) == (str(path), "prod.global.parameters")
    assert (origin.key, origin.environment) == ("FunctionName", "prod")
    assert str(settings["region"].origin) == f"{path} [prod.global.parameters] region"


# ── files that cannot be used ──


def bad(text: str | bytes) -> Callable[[Path], Path]:
    """Make a writer of a broken file."""
    return lambda folder: write(folder, text)


def a_folder(folder: Path) -> Path:
    """Make a folder where a file is expected."""
    return folder


def a_link_to_itself(folder: Path) -> Path:
    """Make a link that leads nowhere."""
    path = folder / "samconfig.toml"
    path.symlink_to(path)
    return path


BAD_FILES = [
    pytest.param(lambda f: f / "nope.toml", ["nope.toml", "does not exist"], id="missing"),
    pytest.param(a_folder, ["is a folder", "samconfig.toml"], id="folder"),
    pytest.param(a_link_to_itself, ["cannot be read", "symbolic links"], id="link loop"),
    pytest.param(bad(b"x = '\xff'"), ["not UTF-8", "byte 5"], id="not UTF-8"),
    pytest.param(bad("a = 1\nb = ]\n"), ["not valid TOML", "line 2, column 5"], id="TOML"),
    pytest.param(
        lambda f: write(f, "default:\n  global: {}", "samconfig.yaml"),
        ["not valid TOML", "Only samconfig.toml"],
        id="YAML",
    ),
    pytest.param(bad(""), ["no environment 'default'", "it has none"], id="empty"),
    pytest.param(bad("[defualt.global.parameters]"), ["Did you mean 'defualt'?"], id="typo"),
    pytest.param(bad("[dev.x]\n[prod.x]"), ["it has dev, prod", "config_env="], id="others"),
    pytest.param(bad("[default]\nglobal = 3"), ["[default.global] = 3", "a table"], id="command"),
    pytest.param(
        bad("[default.deploy]\nparameters = []"), ["parameters = []", "a table"], id="parameters"
    ),
    pytest.param(
        bad(tables(deploy="region = 3")),
        ["[default.deploy.parameters] region", "3, from", "text in quotes, not int"],
        id="region",
    ),
    pytest.param(
        bad(tables(**{"global": "profile = true"})), ["True, from", "profile"], id="profile"
    ),
    pytest.param(
        bad(tables(deploy='stack_name = ["a"]')), ["['a'], from", "stack_name"], id="stack"
    ),
    pytest.param(bad(overrides("3")), ["parameter_overrides: 3", "not int"], id="number"),
    pytest.param(
        bad(overrides('"nonsense"')), ["parameter_overrides is not of", "Name=value"], id="no pair"
    ),
    pytest.param(bad(overrides("[4]")), ["parameter_overrides: 4"], id="number in a list"),
]


@pytest.mark.parametrize(("make", "said"), BAD_FILES)
def test_a_file_that_cannot_be_used(
    tmp_path: Path, make: Callable[[Path], Path], said: list[str]
) -> None:
    """The message names the file and says what is wrong with it, in one line and one traceback."""
    path = make(tmp_path)
    with pytest.raises(SettingsError) as caught:
        SettingsReader().resolve(samconfig=path, environ={})
    for part in [str(path), *said]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert type(caught.value.__cause__) in (type(None), OSError)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Give a folder that others may enter, and stop being root for a while."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = write(Path(folder), OURS)
        path.chmod(0o000)
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(65534)
        try:
            yield path
        finally:
            if as_root:
                os.seteuid(0)


def test_a_file_that_may_not_be_read(unprivileged: Path) -> None:
    """A file without read permission says so, with the cause kept."""
    with pytest.raises(SettingsError, match=r"cannot be read: Permission denied") as caught:
        SettingsReader().resolve(samconfig=unprivileged, environ={})
    assert isinstance(caught.value.__cause__, PermissionError)


def test_a_secret_among_the_parameters_is_not_quoted(tmp_path: Path) -> None:
    """Errors go into Covalent's database: they name the key, not what it holds."""
    path = write(tmp_path, tables(**{"global": 'parameter_overrides = "DbPassword hunter2"'}))
    with pytest.raises(SettingsError) as caught:
        SettingsReader().resolve(samconfig=path, environ={})
    assert "hunter2" not in str(caught.value)
