"""Print what `sam deploy` would deploy with from each folder; run by SAM CLI's own Python.

Usage: python sam_reads.py FOLDER ...

A line of JSON for each folder: region, stack_name and the template's parameters; null where SAM
CLI refuses. The command itself is replaced, all that comes before it is SAM CLI's: which tables
count, files of parameters, and the forms of parameter_overrides.
"""

import inspect
import json
import os
import sys
from typing import Any
from unittest import mock

from samcli.cli.main import cli
from samcli.commands.deploy import command


def read(folder: str) -> dict[str, Any] | None:
    os.chdir(folder)
    signature = inspect.signature(command.do_cli)
    with mock.patch.object(command, "do_cli") as deploying:
        try:
            cli.main(["deploy"], standalone_mode=False)
        except Exception as refusal:
            print(f"{folder}: {refusal}", file=sys.stderr)
            return None
    said = signature.bind(*deploying.call_args.args, **deploying.call_args.kwargs).arguments
    return {name: said[name] for name in ("region", "stack_name", "parameter_overrides")}


for folder in sys.argv[1:]:
    print(json.dumps(read(folder)))
