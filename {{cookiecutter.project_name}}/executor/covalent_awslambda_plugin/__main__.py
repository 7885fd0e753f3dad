"""The command line: ``python -m covalent_awslambda_plugin configure``.

Each command is a function that takes the parsed arguments and prints what it did. What it cannot
do it raises as a ``CommandError`` or a ``SettingsError``: one line on stderr, exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lambda_calls.settings import (
    PATH_VARIABLE,
    Settings,
    SettingsError,
    SettingsReader,
    passed_over,
)

PROGRAM = "python -m covalent_awslambda_plugin"

#: What a project decides. ``credentials_file`` is not among them: it is the user's own, and stays.
CONFIGURED = ("function_name", "s3_bucket_name", "region", "profile")


class CommandError(Exception):
    """A command cannot do what was asked: says why, and what to do."""


class _Parser(argparse.ArgumentParser):
    """Report bad arguments in one line, as everything else."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message} (--help lists what there is)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        options.run(options)
    except (CommandError, SettingsError) as error:
        print(f"{options.command}: {_worded(str(error))}", file=sys.stderr)
        return 1
    return 0


def _worded(message: str) -> str:
    """A message of the executor on one line, with options in place of its arguments."""
    text = re.sub(
        r"(?<![\w/.-])(samconfig|config_env)=", lambda x: f"--{x[1].replace('_', '-')}=", message
    )
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="Tools of the AWS Lambda executor for Covalent.")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    configure = commands.add_parser(
        "configure",
        help="write a project's names into covalent.conf",
        description="Write function name, bucket, region and profile of a deployed project into "
        '[executors.awslambda] of covalent.conf, so that executor="awslambda" uses them from '
        "any directory.",
    )
    configure.add_argument(
        "--samconfig",
        metavar="PATH",
        help=f"the project's samconfig.toml (default: {PATH_VARIABLE}, else searched upward "
        "from the working directory)",
    )
    configure.add_argument(
        "--config-env", metavar="NAME", help="its environment to use (default: default)"
    )
    configure.set_defaults(run=_configure)
    return parser


def _configure(options: argparse.Namespace) -> None:
    settings = SettingsReader().resolve(
        samconfig=options.samconfig, config_env=options.config_env, environ=os.environ
    )
    if not settings.samconfig:
        found = passed_over(Path.cwd())
        raise CommandError(
            f"there is no samconfig.toml of an executor project in {os.getcwd()} or any folder "
            f"above{f' ({found})' if found else ''}. Run this in the project's folder, or give "
            "--samconfig PATH."
        )
    values = {name: getattr(settings, name).value for name in CONFIGURED}
    print(_report(settings, _write_covalent_conf(values)))


def _write_covalent_conf(values: Mapping[str, str]) -> str:
    """Merge the values into covalent.conf by Covalent's own means; return the file's path.

    ``update_config`` reads the file again under its lock and merges; ``set_config`` would write
    back what this process read at its start, undoing what others have written since.
    """
    try:
        from covalent._shared_files import config

        config.update_config({"executors": {"awslambda": dict(values)}})
        return str(config._config_manager.config_file)
    except ImportError as error:
        raise CommandError(
            f"Covalent cannot be imported ({error}). Run this with the Python that has "
            "Covalent and this plugin installed."
        ) from error
    except Exception as error:  # importing Covalent reads, parses and writes the file itself
        raise CommandError(
            f"covalent.conf could not be written: {type(error).__name__}: {error}. It is in "
            "COVALENT_CONFIG_DIR, else in ~/.config/covalent: check that it is valid TOML, that "
            "this user may write it, and that no other program holds its lock."
        ) from error


def _report(settings: Settings, path: str) -> str:
    lines = [f"Wrote [executors.awslambda] in {path}:"]
    for name in CONFIGURED:
        setting = getattr(settings, name)
        value = json.dumps(setting.value, ensure_ascii=False)
        lines.append(f"  {name} = {value}  (from {setting.origin})")
    lines.append(
        'executor="awslambda" now uses these from any directory. A Covalent server that is '
        "running reads the file anew for each task: no restart is needed."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
