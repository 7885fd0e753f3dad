"""The handler on another Python than that of the tests, whose electrons are pickled by name.

folder, as /var/task: handler, wire.py, cloudpickle, the electrons' modules
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import contained_electrons as electrons
import function_box
import ways
import world
from function_box import Function, returned
from template_paths import FUNCTION, LAMBDA_CALLS

import wire


class Named(Function):
    """One environment."""

    def call(
        self, function: Callable[..., Any], *args: Any, seconds: float = 60, **fields: Any
    ) -> wire.Response:
        python = self.handle({"covalent_lambda": 1, "ping": True})["python"]
        request = wire.Request(
            task_id="dispatch-0-attempt",
            key="the attempt's key",
            python=python,
            cloudpickle=cloudpickle.__version__,
            function=_named(function),
            args=[wire.encode(pickle.dumps(x, 4)) for x in args],
            **fields,
        )
        return wire.Response.from_json(self.handle(json.loads(request.to_json()), seconds))

    def finds_the_world_new_after(self, way: Callable[..., Any], ends: str, new: Any) -> None:
        """An electron that leaves something behind, and one after it.

        Args:
            way: what the first one does.
            ends: the kind of its failure; empty: none.
            new: what the second one must see.
        """
        failure = self.call(way).failure
        assert (failure.kind if failure else "") == ends, failure
        after = self.call(world.seen, ways.WORD)
        assert after.stdout == "seen\n" and after.stderr == ""
        found = returned(after)
        assert {k: (v, new[k]) for k, v in found.items() if v != new[k]} == {}


def _named(function: Callable[..., Any]) -> str:
    """A pickle of a function's name, though `cloudpickle` may have been told to take its code."""
    return wire.encode(pickle.dumps(function, 4))


def lay_out(folder: Path) -> None:
    """Make the folder, readable for all."""
    shutil.copytree(Path(cloudpickle.__file__).parent, folder / "cloudpickle")
    sources = [*FUNCTION.glob("*.py"), LAMBDA_CALLS / "wire.py"]
    sources += [Path(str(module.__file__)) for module in (ways, world, electrons)]
    for source in sources:
        shutil.copy(source, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def serving(folder: str) -> str:
    """The program that serves from such a folder."""
    return f"import sys; sys.path[:0] = [{folder!r}]\n{function_box.SERVING}"
