"""The commands keep to themselves, remember what runs, and fail in one sentence."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sandbox
from sandbox import commands, deploying, environment, journey, processes, server, state
from sandbox import engine as docker
from sandbox.aws import Aws
from sandbox.errors import SandboxError
from sandbox.processes import Child
from sandbox.server import Server
from sandbox.settings import Settings

pytestmark = pytest.mark.timeout(60)

REPOSITORY = Path(__file__).resolve().parents[2]
GONE = Child(name="gone", pid=2**22 + 1, started=0.0, log="")


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the commands make out of this repository, and a busy Docker engine out of this."""
    folder = tmp_path / "build"
    monkeypatch.setattr(journey, "BUILD", folder)
    monkeypatch.setattr(commands, "BUILD", folder)
    monkeypatch.setattr(commands, "ENV_FILE", folder / "demo.env")
    monkeypatch.setattr(docker, "find", lambda: None)
    sam = tmp_path / "sam's" / "sam"
    sam.parent.mkdir()
    sam.write_text('#!/bin/sh\necho SAM CLI: "$@"\n')
    sam.chmod(0o755)
    monkeypatch.setattr(deploying, "sam_command", lambda: str(sam))
    return folder


def test_outer_settings_stay_outside(tmp_path: Path) -> None:
    """No AWS, Covalent or Python setting of the user's leaks in; proxies and certificates stay."""
    outer = {
        "AWS_PROFILE": "work",
        "COVALENT_SVC_PORT": "48008",
        "PYTHONPATH": "/elsewhere",
        "HOME": "/home/me",
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.com",
        "SSL_CERT_FILE": "/certificates",
        "PATH": "/bin",
    }
    env = environment.clean(outer, home=tmp_path, python=Path("/venv/bin/python"))
    assert env == {
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": "example.com,127.0.0.1,localhost,host.docker.internal",
        "no_proxy": "127.0.0.1,localhost,host.docker.internal",
        "SSL_CERT_FILE": "/certificates",
        "PATH": "/venv/bin:/bin",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
    }


def test_covalent_keeps_everything_in_its_home(tmp_path: Path) -> None:
    """Every folder and file that Covalent's settings name lies in the given home."""
    env = server.client_environment(tmp_path, 48123)
    paths = [value for value in env.values() if "/" in value]
    assert len(paths) == 8
    assert all(path.startswith(str(tmp_path)) for path in paths)


@pytest.fixture
def demo_env(tmp_path: Path) -> Path:
    """Write a demo.env for a home with quotes, blanks and a dollar in its name."""
    home = tmp_path / "it's a $HOME"
    aws = Aws(port=4566, home=home, child=GONE, engine=None)
    covalent = Server(port=48123, home=home, child=GONE)
    python = home / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho the right one "$@"\n')
    python.chmod(0o755)
    journey.write_environment(tmp_path / "demo.env", aws, covalent, home / "project", python)
    return tmp_path / "demo.env"


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in sh with these variables and no others."""
    return subprocess.run(
        ["sh", "-euc", script],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )


def test_the_environment_file_survives_awkward_paths(tmp_path: Path, demo_env: Path) -> None:
    """A shell that reads demo.env gets the values unchanged, is told so, and has python."""
    script = (
        f". '{demo_env}' && printf '%s\\n' \"$COVALENT_LAMBDA_SAMCONFIG\" "
        '"${AWS_PROFILE-none}" "$NO_PROXY" && python'
    )
    done = shell(script, AWS_PROFILE="work", NO_PROXY="a.example")
    assert done.stdout.splitlines() == [
        str(tmp_path / "it's a $HOME" / "project" / "samconfig.toml"),
        "none",
        "a.example,127.0.0.1,localhost",
        "the right one",
    ]
    assert done.stderr.count("\n") == 1
    assert "this shell now uses the sandbox" in done.stderr


def test_the_commands_run_on_the_python_with_the_packages(demo_env: Path) -> None:
    """`covalent-lambda` does; what else the sandbox has is found behind it."""
    done = shell(f". '{demo_env}'; covalent-lambda doctor --json; echo $PATH")
    first, path = done.stdout.splitlines()
    assert first == "the right one -m covalent_awslambda_plugin doctor --json"
    assert path.split(":")[2] == str(Path(sys.executable).parent)


def test_sam_deploy_goes_to_the_sandbox(demo_env: Path) -> None:
    """In that shell; all else that `sam` can do is SAM CLI's own."""
    done = shell(f". '{demo_env}'; sam build --cached; sam deploy || true")
    assert done.stdout == "SAM CLI: build --cached\n"
    assert done.stderr.splitlines()[1].startswith("sandbox deploy: ")  # whatever is up here


def test_sandbox_off_gives_a_shell_its_own_settings_back(demo_env: Path) -> None:
    """Also when it was sourced twice: set, empty and missing variables are as before."""
    script = f"set > before; . '{demo_env}'; . '{demo_env}'; sandbox_off; set > after; env"
    outer = {"AWS_PROFILE": 'it\'s "mine" $x', "AWS_REGION": "", "NO_PROXY": "a.example"}
    done = shell(script, **outer)
    after = dict(line.split("=", 1) for line in done.stdout.splitlines())
    for name in ("PWD", "OLDPWD", "_", "SHLVL"):
        after.pop(name, None)
    assert after == {"PATH": "/usr/bin:/bin", **outer}
    assert not [line for line in Path("after").read_text().splitlines() if "SANDBOX" in line]


def test_what_runs_is_remembered(tmp_path: Path) -> None:
    """Saved state reads back equal; what has ended is not taken for running."""
    running = state.Running(
        path=tmp_path / "state.json", aws=GONE, aws_port=4566, facts={"a": "b"}
    )
    running.save()
    loaded = state.load(running.path)
    assert loaded == running
    assert not loaded.is_whole()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"aws": {"pid": 1}}'])
def test_unreadable_state_counts_as_none(tmp_path: Path, content: str) -> None:
    """A file that a crash cut short does not stop the next command."""
    path = tmp_path / "state.json"
    path.write_text(content)
    assert state.load(path) is None


def test_two_commands_do_not_work_at_once(tmp_path: Path) -> None:
    """The second of two equal commands is told to wait."""
    second = state.alone(tmp_path / "lock", "make demo")
    with (
        state.alone(tmp_path / "lock", "make demo"),
        pytest.raises(SandboxError, match="another make demo is at work"),
    ):
        second.__enter__()


def test_errors_are_one_line(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused setting: exit code 1, one line on standard error, no folder."""
    assert commands.main(["demo", "--mode", "dokcer"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "sandbox demo: MODE=dokcer is unknown: say one of auto, image, worker"
    ]
    assert not (build / "demo").exists()


@pytest.mark.parametrize(("name", "letter"), [("my repo", " "), ("größe", "ö"), ("a+b", "+")])
def test_a_folder_in_which_covalent_finds_no_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    letter: str,
) -> None:
    """A path that Covalent cannot use is refused at once, with the letter that is in its way."""
    folder = tmp_path / name / "build"
    monkeypatch.setattr(journey, "BUILD", folder)
    assert commands.main(["demo"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder}/demo" in line
    assert repr(letter) in line
    assert not (folder / "demo").exists()


@pytest.mark.parametrize("text", ["80808", "0", "-1", "abc", "8 8", "٤٢"])
@pytest.mark.parametrize("setting", ["PORT", "AWS_PORT"])
def test_what_is_no_port_is_refused(
    build: Path, capsys: pytest.CaptureFixture[str], setting: str, text: str
) -> None:
    """One sentence on standard error and exit code 1, before anything is made."""
    option = f"--{setting.lower().replace('_', '-')}={text}"
    assert commands.main(["demo", option]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"sandbox demo: {setting}={text} is not a port: say a number from 1 to 65535"
    ]
    assert not (build / "demo").exists()


def test_a_port_in_use_is_refused_at_once(
    build: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after a project was scaffolded and the first server started."""
    monkeypatch.setattr(journey, "plugin_version", lambda: "1.0")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert commands.main(["demo", f"--port={port}"]) == 1
    captured = capsys.readouterr()
    assert f"PORT={port}, is in use: the Covalent server needs" in captured.err
    assert captured.out == ""


def test_one_port_for_two_servers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """PORT and AWS_PORT must differ."""
    assert commands.main(["demo", "--port=4000", "--aws-port=4000"]) == 1
    assert "PORT and AWS_PORT are both 4000" in capsys.readouterr().err


@pytest.fixture
def is_up(build: Path, monkeypatch: pytest.MonkeyPatch) -> state.Running:
    """Let a sandbox seem to run."""
    monkeypatch.setattr(state.Running, "is_whole", lambda _self: True)
    monkeypatch.setattr(Child, "is_running", lambda _self: True)
    running = state.Running(
        path=build / "up" / "state.json",
        aws=GONE,
        aws_port=4001,
        covalent=GONE,
        covalent_port=4000,
        facts={"Covalent UI": "http://127.0.0.1:4000", "project": "build/up/project/x"},
        mode="worker",
        packages="numpy\npandas>=2",
    )
    running.save()
    return running


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], ""),
        (["--port=4000", "--aws-port=4001", "--mode=worker"], ""),
        (["--packages=numpy, pandas >= 2"], ""),
        (["--port=5000", "--aws-port=4001"], " first: PORT=5000 had no effect"),
        (
            ["--mode=image", "--packages=numpy"],
            " first: MODE=image and PACKAGES=numpy had no effect",
        ),
        (["--packages="], " first: PACKAGES='' had no effect"),
    ],
)
def test_up_says_what_it_ignored(
    is_up: state.Running, capsys: pytest.CaptureFixture[str], asked: list[str], said: str
) -> None:
    """A second `make up` cannot change what runs; a setting that it has already is no remark."""
    assert commands.main(["up", *asked]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"already up; end it with `make down`{said}"


def test_status_tells_what_runs(is_up: state.Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program with its process, and the addresses."""
    assert commands.main(["status"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^gone: runs since .* \(process {GONE.pid}\)$", said, re.MULTILINE)
    assert "Covalent UI  http://127.0.0.1:4000" in said


def test_status_tells_what_has_ended(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that died is named, with what to do."""
    state.Running(path=build / "up" / "state.json", aws=GONE, covalent=GONE).save()
    assert commands.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "gone: HAS ENDED; the end of its log is in `make logs`",
        "gone: HAS ENDED; the end of its log is in `make logs`",
        "not all of it runs: `make down`, then `make up`",
    ]


def test_status_with_nothing_up(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says how to start it."""
    assert commands.main(["status"]) == 0
    assert capsys.readouterr().out == "nothing is up; `make up` starts it\n"


def test_logs_outlive_what_wrote_them(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines are shown after `make down`, too."""
    log = build / "logs" / "up" / "covalent.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(str(number) for number in range(100)))
    assert commands.main(["logs"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.endswith("logs/up/covalent.log")
    assert lines == [str(number) for number in range(80, 100)]


def test_logs_before_the_first_up(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There are none, which is no error."""
    assert commands.main(["logs"]) == 0
    assert capsys.readouterr().out == "there are no logs; `make up` writes some\n"


def test_deploying_needs_images(is_up: state.Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Docker, `sam deploy` is refused with what does the same."""
    assert commands.main(["deploy"]) == 1
    assert 'packages by `make up PACKAGES="..."`' in capsys.readouterr().err


def test_deploying_needs_a_build(
    is_up: state.Running,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    clean_surroundings: Path,
) -> None:
    """A folder that is no project, and a project that was not built, are each told so."""
    is_up.mode = "image"
    is_up.save()
    engine = docker.Engine(host="", architecture="x86_64", gateway=None, env={})
    monkeypatch.setattr(docker, "find", lambda: engine)
    assert commands.main(["deploy"]) == 1
    assert "there is no template.yaml in" in capsys.readouterr().err
    (clean_surroundings / "template.yaml").touch()
    (clean_surroundings / "samconfig.toml").write_text(
        '[default.global.parameters]\nregion = "us-east-1"\nstack_name = "x"\n'
    )
    assert commands.main(["deploy", "--config-env", "dev"]) == 1
    assert "run `sam build` in" in capsys.readouterr().err


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Only `deploy` hands on what it does not know."""
    with pytest.raises(SystemExit):
        commands.main(["down", "--all"])
    assert "unrecognized arguments: --all" in capsys.readouterr().err


def test_ctrl_c_during_the_imports_is_one_line(tmp_path: Path) -> None:
    """No traceback in the half second before the commands can be run at all."""
    (tmp_path / "psutil.py").write_text("import time; print('importing', flush=True)\n")
    with (tmp_path / "psutil.py").open("a") as module:
        module.write("time.sleep(30)\n")
    program = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "down"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "importing\n"
        program.send_signal(signal.SIGINT)
        assert program.communicate(timeout=20)[1] == "\ninterrupted\n"
    assert program.returncode == 130


def test_the_names_of_the_library_are_all_there() -> None:
    """What the package lists can be imported from it, though it imports nothing itself."""
    for name in sandbox.__all__:
        assert callable(getattr(sandbox, name))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sandbox.nonsense  # noqa: B018  (the access is the test)


def test_the_project_is_configured_in_the_sandbox(
    tmp_path: Path, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`configure` runs in the project, with the sandbox's covalent.conf and nothing of ours."""
    monkeypatch.setenv("COVALENT_CONFIG_DIR", "/ours")
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        processes, "run", lambda _name, command, **rest: seen.update(rest, c=command)
    )
    aws = Aws(port=4566, home=tmp_path, child=GONE, engine=None)
    covalent = Server(port=48123, home=tmp_path, child=GONE)
    project = tmp_path / "project"
    journey.Journey("up", Settings()).configure(aws, covalent, project)
    assert seen["c"][1:] == ["-m", "covalent_awslambda_plugin", "configure"]
    assert seen["cwd"] == project
    assert seen["env"]["COVALENT_CONFIG_DIR"] == str(tmp_path / "config")


def test_down_with_nothing_up(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ending nothing is no error."""
    assert commands.main(["down"]) == 0
    assert capsys.readouterr().out == "nothing is up\n"


def test_down_keeps_what_is_the_users(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The project, with its changes, and the dispatches are still there; all else goes."""
    home = build / "up"
    for name in ("project/covalent-lambda", "covalent/results", "aws", "venv"):
        (home / name).mkdir(parents=True)
        (home / name / "mine.py").touch()
    state.Running(path=home / "state.json", aws=GONE, covalent=GONE).save()
    assert commands.main(["down"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("the project, dispatches and results stay in ")
    assert sorted(path.name for path in home.iterdir()) == ["covalent", "project"]
    assert (home / "project" / "covalent-lambda" / "mine.py").exists()


def test_an_up_that_fails_keeps_what_is_the_users(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong, project and dispatches of the last time stay."""
    result = build / "up" / "covalent" / "results" / "mine"
    result.parent.mkdir(parents=True)
    result.touch()
    monkeypatch.setattr(journey, "plugin_version", lambda: "1.0")
    monkeypatch.setattr(deploying, "scaffold", lambda *_args, **_named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        commands.main(["up"])
    assert result.exists()


@pytest.mark.parametrize("name", ["demo", "up"])
def test_a_refused_command_deletes_nothing(
    build: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The project that an earlier run left outlives a command that is refused."""
    mine = build / name / "project" / "covalent-lambda" / "mine.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("")
    assert commands.main([name, "--mode", "imge"]) == 1
    assert "MODE=imge is unknown" in capsys.readouterr().err
    assert mine.exists()


def test_each_folder_has_an_image_of_its_own(build: Path) -> None:
    """The image is named after the bucket: the same for every run in a folder, so that images do
    not pile up, and another than that of any other project, so that none is replaced."""
    buckets = [
        journey.Journey(name, Settings()).answers(None)["bucket_name"]
        for name in ("demo", "up", "up")
    ]
    assert buckets[0] != buckets[1] == buckets[2]


def test_down_after_a_reboot(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """State of processes that are gone is cleared away."""
    path = build / "up" / "state.json"
    state.Running(path=path, aws=GONE, covalent=GONE, image="mine:latest").save()
    (build / "demo.env").write_text("")
    assert commands.main(["down"]) == 0
    image, ended, shells = capsys.readouterr().out.splitlines()
    assert image.startswith("the image mine:latest stays on the Docker engine")
    assert ended == "ended"
    assert "run sandbox_off, or open a new shell" in shells
    assert not (build / "up").exists()
    assert not (build / "demo.env").exists()


def test_images_are_remembered(build: Path) -> None:
    """Those that builds named by their ids only, each once, so that `make clean` finds them."""
    up = journey.Journey("up", Settings())
    log = up.logs / "deploy" / "sam-build.log"
    log.parent.mkdir(parents=True)
    for ids in (("aaaaaaaaaaaa", "bbbbbbbbbbbb"), ("bbbbbbbbbbbb", "cccccccccccc")):
        steps = [f"Step 1/2 : RUN x\n ---> Running in 123\n ---> {name}\n" for name in ids]
        log.write_text("".join(steps))
        commands._remember_images(up)
    assert commands._remembered_images() == ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"]
