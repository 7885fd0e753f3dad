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

import pytest
from lambda_calls import errors
from template_paths import EXECUTOR

ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.LambdaCallError)
}
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
    # What SIGTERM calls, once for all who have work to do then:
    ("lambda_calls.shutdown", "_at_sigterm"),
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


OWN_NAMES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(EXECUTOR).with_suffix("").parts).removesuffix(".__init__")


def assigned(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements give a value, or to functions with decorators."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from [statement.name] if statement.decorator_list else []
        elif isinstance(statement, ast.AnnAssign) and statement.value is None:
            pass
        elif not isinstance(statement, ast.ClassDef):
            for node in walked(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id  # of tuples, loops, `with` and `:=`, too, in each branch


def walked(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for what has names of its own."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and child.decorator_list:
            yield ast.Name(id=child.name, ctx=ast.Store())
        elif not isinstance(child, OWN_NAMES):
            yield from walked(child)


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


@pytest.mark.parametrize(
    "source",
    [
        "x = []",
        "x: list = []",
        "a, (b, *x) = 1, (2, 3)",
        "if a:\n    pass\nelif b:\n    pass\nelse:\n    x = []",
        "try:\n    pass\nexcept OSError:\n    x = []",
        "try:\n    pass\nfinally:\n    x = []",
        "for x in []:\n    pass",
        "with a as x:\n    pass",
        "a = (x := [])",
        "try:\n    pass\nexcept OSError:\n    @cached\n    def x(): pass",
    ],
)
def test_what_a_module_holds_is_seen(source: str) -> None:
    """However a module gives a name to what may change, it is looked at."""
    assert "x" in list(assigned(ast.parse(source).body))
    hidden = "def f():\n    x = []\ny = [x for x in ()]\nx: list"
    assert list(assigned(ast.parse(hidden).body)) == ["y"]


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


# What is wrong with a setting, or with the reader's own program, is not about a call.
NO_CALL = {
    ("lambda_calls.pool", "_target"),  # says what the settings' own error says
    ("lambda_calls.progress", "__init__"),
    ("lambda_calls.stats", "plot"),
    ("lambda_calls.timeline", "figure"),
}


def written_in_place(path: Path) -> Iterator[tuple[str, str]]:
    """The functions of the core that make an error of a sentence of their own."""
    for function in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS:
                    yield name_of(path), function.name


def test_sentences_about_a_call_are_in_the_catalogue() -> None:
    """No module but messages.py words an error of a call's."""
    core = [x for x in FILES if x.is_relative_to(EXECUTOR / "lambda_calls")]
    found = {x for path in core if path.name != "messages.py" for x in written_in_place(path)}
    assert found == NO_CALL


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
