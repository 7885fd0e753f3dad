"""``python -m covalent_awslambda_plugin configure`` writes a project's names for Covalent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toml

EXECUTOR = Path(__file__).parents[4] / "{{cookiecutter.project_name}}" / "executor"
SAMCONFIG = """\
version = 0.1
[default.global.parameters]
region = "eu-west-1"
parameter_overrides = ["FunctionName=my-fn", "BucketName=my-bucket"]
[prod.global.parameters]
region = "eu-north-1"
profile = "prod-profile"
parameter_overrides = ["FunctionName=prod-fn", "BucketName=prod-bucket"]
"""


@pytest.fixture
def project(clean_surroundings: Path) -> Path:
    """Make a project folder with a samconfig.toml."""
    folder = clean_surroundings / "project"
    folder.mkdir()
    (folder / "samconfig.toml").write_text(SAMCONFIG)
    return folder


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "covalent_awslambda_plugin", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(EXECUTOR), **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


def covalent_conf() -> Path:
    """Say where Covalent keeps its configuration."""
    return Path.home() / ".config" / "covalent" / "covalent.conf"


def written() -> dict[str, object]:
    """Read the section that was written."""
    section = toml.loads(covalent_conf().read_text())["executors"]["awslambda"]
    names = ("function_name", "s3_bucket_name", "region", "profile")
    return {name: section[name] for name in names}


DEFAULT = {
    "function_name": "my-fn",
    "s3_bucket_name": "my-bucket",
    "region": "eu-west-1",
    "profile": "",
}
PROD = {
    "function_name": "prod-fn",
    "s3_bucket_name": "prod-bucket",
    "region": "eu-north-1",
    "profile": "prod-profile",
}


def test_it_writes_and_overwrites_and_keeps_the_rest(project: Path) -> None:
    """A second project replaces the first one's values, profile included; other keys stay."""
    done = run("configure", "--config-env", "prod", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert written() == PROD

    before = toml.loads(covalent_conf().read_text())
    before["executors"]["awslambda"]["credentials_file"] = "/mine"
    before["executors"]["slurm"] = {"address": "a.example"}
    before["sdk"]["log_level"] = "debug"
    covalent_conf().write_text(toml.dumps(before))

    done = run("configure", "--samconfig", "project/samconfig.toml", cwd=project.parent)
    assert (done.returncode, done.stderr) == (0, "")
    after = toml.loads(covalent_conf().read_text())
    assert written() == DEFAULT
    before["executors"]["awslambda"].update(DEFAULT)
    assert after == before


def test_it_says_what_it_wrote_and_where(project: Path) -> None:
    """The output names the file, each value and each value's source."""
    done = run("configure", cwd=project)
    table = f"{project}/samconfig.toml [default.global.parameters]"
    lines = done.stdout.splitlines()
    assert lines[0] == f"Wrote [executors.awslambda] in {covalent_conf()}:"
    assert lines[1:4] == [
        f'  function_name = "my-fn"  (from {table} FunctionName)',
        f'  s3_bucket_name = "my-bucket"  (from {table} BucketName)',
        f'  region = "eu-west-1"  (from {table} region)',
    ]
    assert lines[4] == '  profile = ""  (from the documented default)'
    assert "no restart" in lines[-1]


def test_a_process_that_runs_already_sees_it(project: Path) -> None:
    """What Covalent's server does before each task reads the new values without a restart."""
    script = (
        "import subprocess, sys\n"
        "from covalent._shared_files import config\n"
        "command = [sys.executable, '-m', 'covalent_awslambda_plugin', 'configure']\n"
        "subprocess.run(command, check=True, stdout=subprocess.DEVNULL)\n"
        "config.update_config()\n"
        "print(config.get_config('executors.awslambda')['function_name'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(EXECUTOR)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1:] == ["my-fn"], done.stderr


def test_another_configuration_folder(project: Path, tmp_path: Path) -> None:
    """COVALENT_CONFIG_DIR decides which covalent.conf is written, as for Covalent itself."""
    done = run("configure", cwd=project, COVALENT_CONFIG_DIR=str(tmp_path / "etc"))
    assert f"in {tmp_path}/etc/covalent.conf:" in done.stdout
    assert not covalent_conf().exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["configure", "--samconfig", "no.toml"], "no.toml (from the argument --samconfig=) does"),
        (["configure", "--samconfig", "."], "is a folder"),
        (["configure", "--config-env", "prd"], "Did you mean 'prod'?"),
        (["configure", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["configure", "--samconfig"], "expected one argument"),
        (["confgure"], "invalid choice: 'confgure'"),
    ],
)
def test_bad_input(project: Path, arguments: list[str], said: str) -> None:
    """Bad input gives one line on stderr, exit status 1, and writes nothing of ours."""
    done = run(*arguments, cwd=project)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_options_are_named_not_arguments(clean_surroundings: Path) -> None:
    """What the executor says of its arguments names the options here."""
    done = run("configure", "--config-env", "prod", cwd=clean_surroundings)
    assert done.returncode == 1
    assert "--config-env='prod' was asked for" in done.stderr
    assert "give its path as --samconfig= or in" in done.stderr


def test_paths_are_named_as_they_are(clean_surroundings: Path) -> None:
    """A folder that is called like an argument keeps its name in a message."""
    folder = clean_surroundings / "config_env=prod"
    folder.mkdir()
    done = run("configure", cwd=folder)
    assert done.returncode == 1
    assert f"in {folder} or" in done.stderr


def test_no_project(clean_surroundings: Path) -> None:
    """Outside of a project, it says so and what to do."""
    done = run("configure", cwd=clean_surroundings)
    assert done.returncode == 1
    assert f"no samconfig.toml of an executor project in {clean_surroundings}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_project_that_lost_its_names(project: Path) -> None:
    """A samconfig.toml right here that was passed over is named, with the reason."""
    path = project / "samconfig.toml"
    path.write_text('version = 0.1\n[default.global.parameters]\nstack_name = "s"\n')
    done = run("configure", cwd=project)
    assert done.returncode == 1
    assert f"(found {path}, but it has no FunctionName or BucketName)" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["configure", "--help"], []])
def test_help(clean_surroundings: Path, arguments: list[str]) -> None:
    """Help lists the command, and no argument at all shows it too."""
    done = run(*arguments, cwd=clean_surroundings)
    assert done.returncode == 0
    assert "configure" in done.stdout


@pytest.mark.parametrize("broken", ["not toml [", "a folder"])
def test_a_covalent_conf_that_cannot_be_used(project: Path, broken: str) -> None:
    """A broken covalent.conf is one line on stderr that says where it is, not a traceback."""
    covalent_conf().parent.mkdir(parents=True)
    if broken == "a folder":
        covalent_conf().mkdir()
    else:
        covalent_conf().write_text(broken)
    done = run("configure", cwd=project)
    assert done.returncode == 1
    assert "covalent.conf could not be used" in done.stderr
    assert done.stderr.count("\n") == 1
