"""The benchmarks' modules import each other in one direction."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter

from template_paths import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"


def test_no_circle() -> None:
    """No module imports, in a function or on top, what imports it; a circle is named."""
    names = {path.stem for path in FOLDER.glob("*.py")}
    imported = {name: _imported(name) & names for name in names}
    assert imported["plot"] >= {"plotted", "comparing"}
    TopologicalSorter(imported).prepare()  # raises CycleError, which lists the modules


def _imported(name: str) -> set[str]:
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    found = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1
    ]
    return {name for node in found for name in _named(node)}


def _named(node: ast.ImportFrom) -> list[str]:
    return [node.module.partition(".")[0]] if node.module else [each.name for each in node.names]
