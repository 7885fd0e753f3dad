"""The settings of `make demo` and `make up`, checked before anything is made or installed.

`python -m sandbox.settings COMMAND [--mode MODE] [--port PORT] ...` checks them and does nothing
else. It needs the standard library alone, as the Makefile runs it before there is a venv.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.errors import SandboxError

MODES = ("auto", "image", "worker")


@dataclass(frozen=True)
class Settings:
    """What a user asked for.

    Attributes:
        mode: "auto", "image" or "worker".
        port: the port of the Covalent server; None takes a free one.
        aws_port: the port of the embedded AWS; None takes a free one.
        packages: requirements that electrons import, as the template's question `packages` takes
            them; None leaves those of the last time.
    """

    mode: str = "auto"
    port: int | None = None
    aws_port: int | None = None
    packages: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a parser take the settings."""
    parser.add_argument(
        "--mode",
        default=os.environ.get("SANDBOX_MODE") or "auto",
        help="image, worker, or auto (default, or SANDBOX_MODE): an image if Docker is here",
    )
    parser.add_argument("--port", help="port of Covalent's UI; default: a free one")
    parser.add_argument("--aws-port", help="port of the embedded AWS; default: a free one")
    parser.add_argument("--packages", help="what electrons import, such as: numpy pandas>=2")


def parse(options: argparse.Namespace) -> Settings:
    """Return the settings that a command line gave.

    Raises:
        SandboxError: when one of them cannot be.
    """
    if options.mode not in MODES:
        raise SandboxError(f"MODE={options.mode} is unknown: say one of {', '.join(MODES)}")
    port, aws_port = _port(options.port, "PORT"), _port(options.aws_port, "AWS_PORT")
    if port is not None and port == aws_port:
        raise SandboxError(f"PORT and AWS_PORT are both {port}: each needs its own")
    return Settings(options.mode, port, aws_port, options.packages)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the settings; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.settings")
    parser.add_argument("name", metavar="COMMAND")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        parse(options)
    except SandboxError as error:
        print(f"sandbox {options.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _port(text: str | None, setting: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SandboxError(f"{setting}={text} is not a port: say a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
