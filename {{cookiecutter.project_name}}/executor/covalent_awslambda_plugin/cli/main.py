"""The command line: runs a command; what it raises is one line and exit status 1."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from lambda_calls.errors import LambdaCallError
from lambda_calls.settings import SettingsError

from . import clean, configure, cost, doctor, event, logs, result, show
from .errors import CommandError
from .output import Output, plain

PROGRAM = "covalent-lambda"
COMMANDS = (doctor, configure, show, logs, cost, clean, event, result)

_EPILOG = """\
Each command has a --help of its own, and --json for programs.
Exit status: 0 if all is well, 1 if not (a wrong argument, a workflow that failed, a finding).
"""


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
        status: int = options.run(options, Output(as_json=options.json))
        sys.stdout.flush()
        return status
    except (CommandError, SettingsError, LambdaCallError) as error:
        print(f"{options.command}: {plain(_worded(str(error)))}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _worded(message: str) -> str:
    """A message of the executor on one line, with options in place of its arguments."""
    text = re.sub(
        r"(?<![\w/.-])(samconfig|config_env)=", lambda x: f"--{x[1].replace('_', '-')}=", message
    )
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    raw = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)
    parser = _Parser(
        prog=PROGRAM,
        description="Tools of the AWS Lambda executor for Covalent.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            formatter_class=raw,
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="write JSON, for programs")
        command.set_defaults(run=module.run)
    return parser
