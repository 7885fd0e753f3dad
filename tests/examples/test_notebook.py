"""examples/quickstart.ipynb, all cells as a reader's kernel runs them."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest
from in_sandbox import ROOT, SECONDS, Sandbox
from nbclient import NotebookClient

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def cells(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Its code cells with what they showed; a cell that raises fails all tests here."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(
        book, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}, kernel_name="python3"
    )
    client.execute(env=sandbox.env)
    return [cell for cell in book.cells if cell.cell_type == "code"]


def shown(cells: list[Any], source: str, kind: str) -> str:
    """What the cell whose source ends so showed, of one MIME type; "text" is what it printed."""
    (cell,) = (cell for cell in cells if cell.source.endswith(source))
    if kind == "text":
        return "".join(x.text for x in cell.outputs if x.output_type == "stream")
    (data,) = (x.data for x in cell.outputs if "data" in x)
    return str(data[kind])


def rows(html: str) -> dict[str, list[str]]:
    """The rows of tables, by their first cell."""
    found = (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", html))
    return {row[0]: row[1:] for row in found if row}


def test_is_stored_without_outputs() -> None:
    """What a run shows names folders of the machine that ran it."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)


def test_executor_shows_settings_and_origins(cells: list[Any], sandbox: Sandbox) -> None:
    """Names are from samconfig.toml, `usage` from the argument, `retries` from nowhere."""
    table = rows(shown(cells, "\nexecutor", "text/html"))
    assert table["function_name"][0].startswith("covalent-lambda-")
    assert table["function_name"][1].startswith(str(sandbox.project / "samconfig.toml"))
    assert table["usage"] == ["True", "the argument usage="]
    assert table["retries"] == ["–", "the default"]


def test_workflow_ran(cells: list[Any]) -> None:
    """The lattice is COMPLETED, and its electrons' output is there, with the usage line."""
    assert "COMPLETED 3.1" in shown(cells, "print(result.status, result.result)", "text")
    node = shown(cells, 'print(node["stderr"])', "text")
    assert re.search(r"seed 0: \d+ of 100000", node) and "[lambda] " in node
    assert "total" in shown(cells, "covalent-lambda cost", "text")


def test_pool_shows_target_and_figures(cells: list[Any]) -> None:
    """The pool has both tables; its stats the second one."""
    pool = rows(shown(cells, "\npool", "text/html"))
    assert pool["function_name"][0].startswith("covalent-lambda-")
    assert pool["calls"] == ["200, 0 of them failed"]
    stats = rows(shown(cells, "pool.stats()", "text/html"))
    assert stats["calls"] == pool["calls"] and "function_name" not in stats


def test_timeline_is_a_picture(cells: list[Any]) -> None:
    """The plot is shown in the notebook."""
    assert len(shown(cells, 'Image(pool.plot("timeline.png"))', "image/png")) > 10_000
