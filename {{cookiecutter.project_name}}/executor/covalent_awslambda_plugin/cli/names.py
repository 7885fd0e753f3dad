"""Function, bucket and account that a command works on, from where the executor takes them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from lambda_calls.aws.clients import Account
from lambda_calls.settings import DEFAULTS, PATH_VARIABLE, Settings, SettingsReader, given

from .errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a project."""
    parser.add_argument(
        "--samconfig",
        metavar="PATH",
        help=f"the project's samconfig.toml (default: {PATH_VARIABLE}, else searched upward "
        "from the working directory)",
    )
    parser.add_argument(
        "--config-env", metavar="NAME", help="its environment to use (default: default)"
    )


def resolved(options: argparse.Namespace, *, by_name: bool = False) -> Settings:
    """Where an executor without arguments would send electrons.

    Args:
        options: those of `add_arguments`.
        by_name: where `executor="awslambda"` would: covalent.conf comes first.

    Raises:
        CommandError: if Covalent cannot be imported or read.
        SettingsError: if samconfig.toml cannot be used.
    """
    conf = covalent_conf()
    said = {name: conf.values[name] for name in DEFAULTS}
    return SettingsReader().resolve(
        conf=given(said, conf.origin),
        conf_first=by_name,
        samconfig=options.samconfig,
        config_env=options.config_env,
        environ=os.environ,
    )


def account(settings: Settings) -> Account:
    """Whose credentials, and where."""
    return Account(
        region=settings.region.value,
        profile=settings.profile.value,
        credentials_file=settings.credentials_file.value,
    )


def stack_name(settings: Settings) -> str:
    """The stack that the project's samconfig.toml names; "" if there is none."""
    if not settings.samconfig:
        return ""
    from lambda_calls.settings.files import Files
    from lambda_calls.settings.samconfig import read_project

    project = read_project(Path(settings.samconfig), settings.config_env, Files())
    found = project.settings.get("stack_name")
    return found.value if found else ""


def covalent_conf() -> Any:
    """`[executors.awslambda]` of covalent.conf; a `covalent_awslambda_plugin.options.Conf`.

    Raises:
        CommandError: if Covalent cannot be imported, or its file not be read.
    """
    try:
        from .. import awslambda, options

        return options.Conf(awslambda._EXECUTOR_PLUGIN_DEFAULTS)
    except Exception as error:  # importing Covalent reads and parses the file
        raise without_covalent(error) from error


def without_covalent(error: Exception) -> CommandError:
    """What a command says where Covalent cannot be used."""
    if isinstance(error, ImportError):
        return CommandError(
            f"Covalent cannot be imported ({error}). Run this with the Python that has "
            "Covalent and this plugin installed."
        )
    return CommandError(
        f"covalent.conf could not be used: {type(error).__name__}: {error}. It is in "
        "COVALENT_CONFIG_DIR, else in ~/.config/covalent: check that it is valid TOML, that "
        "this user may write it, and that no other program holds its lock."
    )
