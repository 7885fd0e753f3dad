"""The commands behind `make demo`, `make up` and what belongs to it."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sandbox import engine as docker
from sandbox import function_log, processes, settings, state
from sandbox.aws import Aws
from sandbox.deploying import Deploying
from sandbox.errors import SandboxError
from sandbox.journey import BUILD, Journey, write_environment
from sandbox.settings import Settings

ENV_FILE = BUILD / "demo.env"
LOG_LINES = 20

_STEP = re.compile(r"^ ---> ([0-9a-f]{12,64})$", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options, more = _parser().parse_known_args(arguments)
    if more and options.command is not deploy:
        _parser().error(f"unrecognized arguments: {' '.join(more)}")
    options.more = more
    try:
        with processes.signals_as_exceptions():
            code: int = options.command(options)
            return code
    except SandboxError as error:
        print(f"sandbox {options.name}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, processes.Interrupted) as stop:
        print(
            f"\nsandbox {options.name}: interrupted; all that it started has ended",
            file=sys.stderr,
        )
        return 128 + (signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM)


def demo(options: argparse.Namespace) -> int:
    """Do the whole journey once and end everything."""
    with state.alone(BUILD / "demo.lock", "make demo"):
        journey = Journey("demo", settings.parse(options))
        journey.begin()
        greeted = False
        try:
            aws, covalent, deployment, project = journey.set_up()
            journey.greet(aws, covalent, project)
            greeted = True
            journey.log.step(f"ran in {deployment.where}")
        finally:
            _remember_images(journey)
            journey.clean_up(keep_project=greeted)
        journey.log.step("done; all has ended")
        print(
            f"the project stays in {os.path.relpath(project)}, until the next `make demo` or "
            "`make clean`"
        )
        _tell_of_image(deployment.image)
    return 0


def up(options: argparse.Namespace) -> int:
    """Do the same and leave it running."""
    with state.alone(BUILD / "up.lock", "make up or make down"):
        journey = Journey("up", settings.parse(options))
        running = state.load(journey.running.path)
        if running and running.is_whole():
            print(f"already up; end it with `make down`{_ignored(journey.settings, running)}")
            print(_summary(running.facts or {}))
            return 0
        journey.begin()
        try:
            aws, covalent, deployment, project = journey.set_up()
            journey.configure(aws, covalent, project)
            write_environment(ENV_FILE, aws, covalent, project, journey.python)
            journey.running.facts = {
                "Covalent UI": covalent.url,
                "AWS": aws.endpoint_url,
                "function": f"{deployment.outputs.get('FunctionName')}, in {deployment.where}",
                "packages": ", ".join(journey.running.packages.split("\n")) or "none",
                "project": os.path.relpath(project),
                "server's log": os.path.relpath(covalent.child.log),
            }
            journey.running.save()
        except BaseException:
            ENV_FILE.unlink(missing_ok=True)
            journey.clean_up()
            raise
        finally:
            _remember_images(journey)
        journey.log.step("up; `make down` ends it, `make status` and `make logs` tell of it")
        print(_summary(journey.running.facts))
    return 0


def down(options: argparse.Namespace) -> int:
    """End what `up` left running, or what a killed `up` or `demo` left behind."""
    with state.alone(BUILD / "up.lock", "make up or make down"):
        found = _end("up")
        sourced = ENV_FILE.exists()
        ENV_FILE.unlink(missing_ok=True)
    with state.alone(BUILD / "demo.lock", "make demo"):
        found = _end("demo") or found
    print("ended" if found else "nothing is up")
    if sourced:
        env_file = os.path.relpath(ENV_FILE)
        print(f"in a shell that sourced {env_file}: run sandbox_off, or open a new shell")
    return 0


def status(options: argparse.Namespace) -> int:
    """Say what of `up` runs, and where."""
    running = _up().running
    if not running.path.exists():
        print("nothing is up; `make up` starts it")
        return 0
    for child in (running.covalent, running.aws):
        if child is not None and child.is_running():
            since = time.strftime("%a %H:%M", time.localtime(child.started))
            print(f"{child.name}: runs since {since} (process {child.pid})")
        elif child is not None:
            print(f"{child.name}: HAS ENDED; the end of its log is in `make logs`")
    if running.facts and running.is_whole():
        print(_summary(running.facts))
    else:
        print("not all of it runs: `make down`, then `make up`")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Show the last lines of the logs of `up`: the server, the AWS, the function."""
    journey = _up()
    for name in ("covalent", "ministack"):
        path = journey.logs / f"{name}.log"
        if path.exists():
            print(f"== {os.path.relpath(path)}")
            print(processes.tail(path, LOG_LINES))
    running = journey.running
    if running.is_whole() and running.aws is not None and running.facts:
        aws = _aws(journey)
        project = Path(running.facts["project"]).absolute()
        print("== the function's log")
        print("\n".join(function_log.last_lines(aws, project, LOG_LINES)))
    elif not journey.logs.exists():
        print("there are no logs; `make up` writes some")
    return 0


def deploy(options: argparse.Namespace) -> int:
    """Do what `sam deploy` does, to the sandbox of `up`: for the project in this folder."""
    journey = _up()
    if not journey.running.is_whole():
        raise SandboxError("nothing is up to deploy to; `make up` starts it")
    if journey.running.mode != "image":
        raise SandboxError(
            "this sandbox runs the function without an image, so there is nothing that `sam "
            "build` and `sam deploy` could change. A change of the project is taken by `make "
            'down` and `make up`, packages by `make up PACKAGES="..."`'
        )
    project = Path.cwd()
    if not (project / "template.yaml").is_file():
        raise SandboxError(f"there is no template.yaml in {project}: run this in a project")
    work = journey.logs / "sam"
    work.mkdir(parents=True, exist_ok=True)
    steps = Deploying(project, _aws(journey), work, print)
    built = steps.built_image(*options.more, push=False)
    _remember_images(journey)
    print(f"deployed {built} to the sandbox; it was not pushed, as the engine here has it")
    print("the server and scripts get new packages with `make down` and `make up`")
    return 0


def clean(options: argparse.Namespace) -> int:
    """End everything, and remove the images that were made."""
    down(options)
    engine = docker.find()
    names = [Journey(name, Settings()).answers(None)["bucket_name"] for name in ("demo", "up")]
    if engine is not None:
        for name in names:
            for reference in image_references(name):
                engine.remove_images(reference)
        # The last ones build on the first ones.
        engine.remove_nameless(reversed(_remembered_images()))
    _image_list().unlink(missing_ok=True)
    return 0


def image_references(bucket: str) -> tuple[str, str]:
    """What matches the images of the sandbox's project: of `sam build`, and of `sam local`.

    The second is named after the function's logical id, which ends as the bucket does.
    """
    return f"*:{bucket}-*", f"electronfunction{bucket.rpartition('-')[2]}:rapid-*"


def _up() -> Journey:
    journey = Journey("up", Settings())
    journey.running = state.load(journey.running.path) or journey.running
    return journey


def _aws(journey: Journey) -> Aws:
    running = journey.running
    assert running.aws is not None
    engine = docker.find() if running.mode == "image" else None
    return Aws(port=running.aws_port, home=journey.home / "aws", child=running.aws, engine=engine)


def _end(name: str) -> bool:
    journey = Journey(name, Settings())
    running = state.load(journey.running.path)
    if running is None:
        return False
    journey.running = running
    journey.clean_up()
    stays = [folder for folder in journey.kept if (journey.home / folder).exists()]
    if stays:
        print(
            f"the project, dispatches and results stay in {os.path.relpath(journey.home)} for the "
            "next `make up`; `make clean` removes them"
        )
    _tell_of_image(running.image)
    return True


def _ignored(asked: Settings, running: state.Running) -> str:
    """Say which settings were given in vain, as it runs with others."""
    vain = [
        f"{name}={value}"
        for name, value, used in (
            ("PORT", asked.port, running.covalent_port),
            ("AWS_PORT", asked.aws_port, running.aws_port),
            ("MODE", None if asked.mode == "auto" else asked.mode, running.mode),
        )
        if value not in (None, used)
    ]
    if asked.packages is not None and _plain(asked.packages) != _plain(running.packages):
        vain.append(f"PACKAGES={shlex.quote(asked.packages)}")
    return f" first: {' and '.join(vain)} had no effect" if vain else ""


def _plain(packages: str) -> str:
    return re.sub(r"[\s,]", "", packages)


def _image_list() -> Path:
    return BUILD / "images.txt"


def _remembered_images() -> list[str]:
    with contextlib.suppress(OSError):
        return _image_list().read_text(encoding="utf-8").split()
    return []


def _remember_images(journey: Journey) -> None:
    """Note the images that Docker named as it built: most have no other name."""
    found = dict.fromkeys(_remembered_images())
    for log in journey.logs.glob("*/*.log"):
        found.update(dict.fromkeys(_STEP.findall(log.read_text("utf-8", errors="replace"))))
    if found:
        _image_list().write_text("\n".join(found) + "\n", encoding="utf-8")


def _tell_of_image(image: str) -> None:
    if image:
        print(
            f"the image {image} stays on the Docker engine, for a quicker next time; `make clean` "
            "removes it and its build cache"
        )


def _summary(facts: dict[str, str]) -> str:
    width = max((len(name) for name in facts), default=0)
    lines = [f"  {name:<{width}}  {value}" for name, value in facts.items()]
    env_file = shlex.quote(os.path.relpath(ENV_FILE))
    lines.append(f"  run any workflow:  . {env_file} && python any_workflow.py")
    lines.append("  `sandbox_off` gives that shell its own settings back")
    lines.append('  more packages:     make down && make up PACKAGES="numpy pandas"')
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for command in (demo, up, down, status, logs, deploy, clean):
        name, text = command.__name__, command.__doc__
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        if command in (demo, up):
            settings.add_arguments(sub)
    return parser
