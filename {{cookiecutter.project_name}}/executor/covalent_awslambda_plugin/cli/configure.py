"""`covalent-lambda configure` writes a project's names into covalent.conf."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path

from lambda_calls.settings import Settings, SettingsReader, passed_over

from . import names
from .errors import CommandError
from .output import Output

HELP = "write a project's names into covalent.conf"
DESCRIPTION = """\
Write function name, bucket, region and profile of a deployed project into
[executors.awslambda] of covalent.conf, so that executor="awslambda" uses them
from any directory.
"""

#: What a project decides. ``credentials_file`` is not among them: it is the user's own, and stays.
CONFIGURED = ("function_name", "s3_bucket_name", "region", "profile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    names.add_arguments(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Write them."""
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
    path = _write_covalent_conf(values)
    origins = {name: str(getattr(settings, name).origin) for name in CONFIGURED}
    output.document({"file": path, "values": values, "origins": origins})
    _report(settings, path, output)
    return 0


def _write_covalent_conf(values: Mapping[str, str]) -> str:
    """Merge the values into covalent.conf by Covalent's own means; return the file's path.

    ``update_config`` reads the file again under its lock and merges; ``set_config`` would write
    back what this process read at its start, undoing what others have written since.
    """
    try:
        from covalent._shared_files import config

        config.update_config({"executors": {"awslambda": dict(values)}})
        return str(config._config_manager.config_file)
    except Exception as error:  # importing Covalent reads, parses and writes the file itself
        raise names.without_covalent(error) from error


def _report(settings: Settings, path: str, output: Output) -> None:
    output.line(f"Wrote [executors.awslambda] in {path}:")
    for name in CONFIGURED:
        setting = getattr(settings, name)
        value = json.dumps(setting.value, ensure_ascii=False)
        output.line(f"  {name} = {value}  ", (f"(from {setting.origin})", "quiet"))
    output.line(
        'executor="awslambda" now uses these from any directory. A Covalent server that is '
        "running reads the file anew for each task: no restart is needed."
    )
