"""`covalent-lambda event` writes an electron as the event that `sam local invoke` reads."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import json
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lambda_calls import wire
from lambda_calls.carrying import Carrier

from .errors import CommandError
from .output import Output

HELP = "write an electron as an event file for `sam local invoke`"
DESCRIPTION = """\
Write the call of one electron as the event that the function reads, as the
executor would send it:

  covalent-lambda event workflows/hello.py:join Hello World > events/join.json
  sam local invoke -e events/join.json | covalent-lambda result

An argument is read as Python where it can be (3, 2.5, [1, 2], True, None), else
it is text; NAME=VALUE is a keyword if the electron has such a parameter. The
script is imported, not run: what stands under `if __name__ == "__main__"` is left
out.
"""

# Lambda's own limit: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_SECONDS = 900.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "electron", metavar="SCRIPT:ELECTRON", help="such as workflows/hello.py:join"
    )
    parser.add_argument("arguments", metavar="ARGUMENT", nargs="*", help="its arguments")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the event file (default: standard output)"
    )


def run(options: argparse.Namespace, output: Output) -> int:
    """Write it."""
    path, colon, name = options.electron.rpartition(":")
    if not colon or not path or not name:
        raise CommandError(
            f"{options.electron!r} does not say which electron: write SCRIPT:ELECTRON, such as "
            "workflows/hello.py:join."
        )
    found = _named(_imported(Path(path)), name, path)
    args, kwargs = _arguments(found, options.arguments)
    event = _event(found, args, kwargs)
    if not options.output:
        print(event)
        return 0
    try:
        with open(options.output, "w", encoding="utf-8", opener=_privately) as file:
            file.write(event + "\n")
    except OSError as error:
        raise CommandError(f"{options.output} could not be written: {error.strerror}.") from error
    output.document({"file": options.output, "bytes": len(event)})
    output.line(f"Wrote {options.output}, {len(event)} bytes. To run it where Docker is:")
    file_name = shlex.quote(options.output)
    output.line((f"  sam local invoke -e {file_name} | covalent-lambda result", "command"))
    return 0


def _privately(path: str, flags: int) -> int:
    """Open a file that holds arguments: where it is new, nobody else on this machine reads it."""
    return os.open(path, flags, 0o600)


def _imported(path: Path) -> Any:
    """The script as a module, whose functions travel with the event."""
    if not path.is_file():
        raise CommandError(f"There is no script {path}.")
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is not a Python script: its name does not end in .py.")
    module = importlib.util.module_from_spec(spec)
    # What stands beside a script is found there when it runs, and so it is here.
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise CommandError(
            f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    carrier = Carrier()
    carrier.carry(carrier.modules_in(folder))  # itself among them
    return module


def _named(module: Any, name: str, path: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    electrons = [key for key, value in vars(module).items() if hasattr(value, "electron_object")]
    there = f"it has {', '.join(electrons)}" if electrons else "it has none"
    raise CommandError(f"{path} has no electron {name!r}; {there}.")


def _arguments(
    function: Callable[..., Any], words: Sequence[str]
) -> tuple[list[Any], dict[str, Any]]:
    signature = inspect.signature(function)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in signature.parameters:
            kwargs[name] = _value(value)
        else:
            args.append(_value(word))
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__name__", "The electron")
        raise CommandError(f"{name}{signature} does not take these: {error}.") from error
    return args, kwargs


def _value(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word


def _event(found: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The event as JSON, made by what makes the executor's."""
    from covalent._workflow.transportable_object import TransportableObject
    from covalent.executor.utils.wrappers import wrapper_fn

    from .. import electron

    object_ = getattr(found, "electron_object", None)
    function = found if object_ is None else object_.function
    hooks = {} if object_ is None else object_.metadata.get("hooks") or {}
    made = TransportableObject.make_transportable
    _carry_modules(hooks)
    try:
        call = electron.taken_apart(
            partial(wrapper_fn, made(function), _before(hooks), _after(hooks)),
            [made(value) for value in args],
            {name: made(value) for name, value in kwargs.items()},
        )
    except Exception as error:  # cloudpickle raises what it meets
        raise CommandError(
            f"The electron cannot be pickled: {type(error).__name__}: {error}"
        ) from error
    request = call.request(
        task_id=f"event-{secrets.token_hex(4)}",
        key=secrets.token_hex(32),
        bucket="",
        limit=_SECONDS,
        blobs={},
    )
    event = request.to_json()
    if len(event) > wire.PAYLOAD_LIMIT:
        raise CommandError(
            f"The event has {len(event)} bytes, Lambda takes {wire.PAYLOAD_LIMIT}. The executor "
            "would put its large arguments into the bucket; give smaller ones here."
        )
    return json.dumps(json.loads(event), indent=1)


def _before(hooks: Mapping[str, Any]) -> list[Any]:
    """What Covalent's server has run before an electron, in its order."""
    from covalent import DepsBash, DepsPip

    deps = hooks.get("deps") or {}
    kinds = (("bash", DepsBash), ("pip", DepsPip))
    before = [_applied(kind(), deps[name]) for name, kind in kinds if name in deps]
    return before + _calls(hooks.get("call_before") or [])


def _after(hooks: Mapping[str, Any]) -> list[Any]:
    return _calls(hooks.get("call_after") or [])


def _calls(said: Sequence[Mapping[str, Any]]) -> list[Any]:
    from covalent import DepsCall

    return [_applied(DepsCall(), one) for one in said if one["short_name"] != "depsmodule"]


def _applied(dep: Any, said: Mapping[str, Any]) -> Any:
    dep.from_dict(said)
    return dep.apply()


def _carry_modules(hooks: Mapping[str, Any]) -> None:
    """Have the modules of `deps_module` travel with the electron."""
    import cloudpickle
    from covalent._workflow.transportable_object import TransportableObject

    for one in hooks.get("call_before") or []:
        if one["short_name"] == "depsmodule":
            module = TransportableObject.from_dict(one["attributes"]["pickled_module"])
            cloudpickle.register_pickle_by_value(module.get_deserialized())
