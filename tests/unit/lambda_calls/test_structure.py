"""How the two packages are built: no state in modules, and no class in another one's pockets."""

import ast
import dataclasses
import enum
import importlib
import inspect
import logging
import re
import struct
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from template_paths import EXECUTOR

PACKAGES = ("lambda_calls", "covalent_awslambda_plugin")
FILES = [path for package in PACKAGES for path in sorted((EXECUTOR / package).rglob("*.py"))]

# What is made once for a process of Covalent's, and thrown away by tests; and what Covalent asks
# for, or reads. Names of modules and of what they hold.
KNOWN = {
    ("covalent_awslambda_plugin.server", "server"),
    ("covalent_awslambda_plugin.awslambda", "settings_reader"),
    ("covalent_awslambda_plugin.awslambda", "carrier"),
    ("covalent_awslambda_plugin.awslambda", "_EXECUTOR_PLUGIN_DEFAULTS"),
    # What the interpreter calls at its end, once for all pools:
    ("lambda_calls.pool", "_finished_at_exit"),
    # What is known of wire's own classes, which never change:
    ("lambda_calls.wire", "_types_of"),
    ("lambda_calls.wire", "_shape_of"),
}
# Private names of others: they have no public way to the same.
BORROWED = {
    "config._config_manager",  # Covalent's file of settings
    "awslambda._EXECUTOR_PLUGIN_DEFAULTS",  # the name that Covalent asks for
    "self._kept_session(account)._session",  # boto3's, for the file of certificates
    "threading._register_atexit",  # as the standard library's pools do
    "parts._replace",  # of a named tuple: public
    "self._stats._repr_html_",  # of notebooks: public
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(EXECUTOR).with_suffix("").parts).removesuffix(".__init__")


def assigned(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements give a value, or to functions with decorators."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            yield from (x.id for x in statement.targets if isinstance(x, ast.Name))
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield from [statement.target.id] if isinstance(statement.target, ast.Name) else []
        elif isinstance(statement, ast.FunctionDef) and statement.decorator_list:
            yield statement.name
        elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.For)):
            yield from assigned(statement.body)


def is_constant(value: Any) -> bool:
    """Whether nothing can change a value."""
    plain = (str, int, float, bytes, type(None), type, re.Pattern, enum.Enum, struct.Struct)
    if isinstance(value, (*plain, logging.Logger, typing.TypeVar, typing.ParamSpec)):
        return True
    if isinstance(value, (tuple, frozenset)):
        return all(map(is_constant, value))
    if isinstance(value, types.MappingProxyType):
        return all(map(is_constant, value.values()))
    if dataclasses.is_dataclass(value):
        return bool(value.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    if isinstance(value, (staticmethod, classmethod, types.ModuleType, types.GenericAlias)):
        return True
    if inspect.isfunction(value) or inspect.isdatadescriptor(value):
        return True
    return type(value).__module__ in ("typing", "types")


def held_by(path: Path) -> Iterator[tuple[str, str, Any]]:
    """What a module and its classes hold: the module's name, the value's, the value."""
    tree, name = ast.parse(path.read_text("utf-8")), name_of(path)
    module = importlib.import_module(name)
    holders: list[tuple[Any, list[ast.stmt]]] = [(module, tree.body)]
    holders += [
        (getattr(module, x.name), x.body) for x in tree.body if isinstance(x, ast.ClassDef)
    ]
    for holder, body in holders:
        for held in assigned(body):
            if held in vars(holder) and held != "__all__":
                yield name, held, vars(holder)[held]


def test_no_module_holds_what_changes() -> None:
    """Neither a module nor a class has a value that can change; none gives its names anew."""
    files = [path for path in FILES if path.name != "__main__.py"]  # it runs when it is imported
    held = [x for path in files for x in held_by(path)]
    assert len(held) > 300
    assert {(module, name) for module, name, value in held if not is_constant(value)} == KNOWN
    for path in FILES:
        assert not [x for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, ast.Global)]


def borrowed_by(path: Path) -> Iterator[str]:
    """The private names in a file that are not the own ones of whoever uses them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{x.name}" for x in node.names if is_private(x.name))
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls", "super()"):
                yield f"{owner}.{node.attr}"


def test_private_names_are_used_by_their_owners() -> None:
    """A name that begins with _ is asked of `self` alone, and never imported."""
    assert {name for path in FILES for name in borrowed_by(path)} == BORROWED


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
