"""The commands behind `make demo`, `make up` and `make down`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence

from sandbox import processes, settings, state
from sandbox.errors import SandboxError
from sandbox.journey import BUILD, Journey, configure, write_environment
from sandbox.settings import Settings

ENV_FILE = BUILD / "demo.env"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
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
        journey = _journey("demo", options)
        journey.begin()
        greeted = False
        try:
            aws, covalent, deployment, project = journey.set_up()
            journey.greet(aws, covalent, project)
            greeted = True
            journey.log.step(f"ran in {deployment.where}")
        finally:
            journey.clean_up(keep_project=greeted)
        journey.log.step("done; all has ended")
        _tell_of_project(os.path.relpath(project), "demo")
        _tell_of_image(deployment.image)
    return 0


def up(options: argparse.Namespace) -> int:
    """Do the same and leave it running."""
    with state.alone(BUILD / "up.lock", "make up or make down"):
        journey = _journey("up", options)
        running = state.load(journey.running.path)
        if running and running.is_whole():
            print(f"already up; end it with `make down`{_ignored(journey, running)}")
            print(_summary(running.facts or {}))
            return 0
        journey.begin()
        try:
            aws, covalent, deployment, project = journey.set_up()
            configure(journey, aws, covalent, project)
            write_environment(ENV_FILE, aws, covalent, project)
            journey.running.facts = {
                "Covalent UI": covalent.url,
                "AWS": aws.endpoint_url,
                "function": f"{deployment.outputs.get('FunctionName')}, in {deployment.where}",
                "project": os.path.relpath(project),
            }
            journey.running.image = deployment.image
            journey.running.save()
        except BaseException:
            ENV_FILE.unlink(missing_ok=True)
            journey.clean_up()
            raise
        journey.log.step("up; `make down` ends it")
        print(_summary(journey.running.facts))
    return 0


def down(options: argparse.Namespace) -> int:
    """End what `up` left running, or what a killed `up` or `demo` left behind."""
    with state.alone(BUILD / "up.lock", "make up or make down"):
        found = _end("up", options)
        sourced = ENV_FILE.exists()
        ENV_FILE.unlink(missing_ok=True)
    with state.alone(BUILD / "demo.lock", "make demo"):
        found = _end("demo", options) or found
    print("ended" if found else "nothing is up")
    if sourced:
        env_file = os.path.relpath(ENV_FILE)
        print(f"in a shell that sourced {env_file}: run sandbox_off, or open a new shell")
    return 0


def _end(name: str, options: argparse.Namespace) -> bool:
    journey = _journey(name, options)
    running = state.load(journey.running.path)
    if running:
        journey.running = running
    found = running is not None
    if running:
        project = (running.facts or {}).get("project")
        journey.clean_up(keep_project=project is not None)
        if project:
            _tell_of_project(project, name)
        _tell_of_image(running.image)
    return found


def _journey(name: str, options: argparse.Namespace) -> Journey:
    asked = settings.parse(options) if hasattr(options, "mode") else Settings()
    return Journey(name, asked)


def _ignored(journey: Journey, running: state.Running) -> str:
    """Say which ports were asked for in vain, as it runs on others."""
    asked = journey.settings
    ports = (
        ("PORT", asked.port, running.covalent_port),
        ("AWS_PORT", asked.aws_port, running.aws_port),
    )
    vain = [f"{name}={port}" for name, port, used in ports if port not in (None, used)]
    return f" first: {' and '.join(vain)} had no effect" if vain else ""


def _tell_of_project(project: str, name: str) -> None:
    print(f"the project stays in {project}, until the next `make {name}` or `make clean`")


def _tell_of_image(image: str) -> None:
    if image:
        print(
            f"the image {image} stays on the Docker engine, for a quicker next time; "
            f"`docker image rm {image}` removes it. (Its build cache goes with `docker image "
            "prune`, and with it every other image there that has no name.)"
        )


def _summary(facts: dict[str, str]) -> str:
    width = max((len(name) for name in facts), default=0)
    lines = [f"  {name:<{width}}  {value}" for name, value in facts.items()]
    env_file = shlex.quote(str(ENV_FILE))
    lines.append(f'  run any workflow:  . {env_file} && "$PYTHON" any_workflow.py')
    lines.append(
        "  that shell has `sam` too, but `sam deploy` cannot push an image from it: an electron "
        "gets\n  packages here by deps_pip=ct.DepsPip(packages=[...])"
    )
    lines.append("  `sandbox_off` gives it its own settings back")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, command in (("demo", demo), ("up", up), ("down", down)):
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        if command is not down:
            settings.add_arguments(sub)
    return parser
