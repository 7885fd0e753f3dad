"""The Python of the other pages, all blocks of a page as one script in the sandbox.

A block may use what the page only speaks of (a workflow, a model): that is put before each here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from in_sandbox import ROOT, Sandbox

LATTICE = """
import covalent as ct

@ct.electron(executor="awslambda")
def work(seconds=0):
    import time
    time.sleep(seconds)
    print("worked")
    return 1

@ct.lattice(executor="awslambda")
def workflow(seconds=0):
    return work(seconds)

def value(dispatched):
    result = ct.get_result(dispatched, wait=True)
    assert str(result.status) == "COMPLETED", (result.status, result.error)
    return result.result
"""

# What a page takes for granted, before each of its blocks; in the end, what shows that it worked.
PAGES = {
    "README.md": (
        "import helpers\nestimate, seeds = abs, range(-3, 0)\n",
        "assert callable(score) and callable(simulate) and callable(workflow)\n"
        "assert results == [3, 2, 1]",
    ),
    "docs/executor.md": (
        "",
        "@ct.lattice(executor=AWSLambdaExecutor())\n"
        "def flow(x):\n    return work(x)\n"
        "assert ct.get_result(ct.dispatch(flow)(2), wait=True).result == 4",
    ),
    "docs/fan-out.md": (
        "import covalent as ct\nimport numpy as np\n"
        "from sklearn.model_selection import GridSearchCV\nfrom sklearn.svm import SVC\n"
        "summarise = ct.electron(lambda values: len(values))\n"
        "seeds, model, grid = [1, 2], SVC(), {'C': [1, 2]}\nsimulate = abs\n"
        "X, y = np.random.default_rng(0).normal(size=(20, 2)), [0, 1] * 10\n",
        "result = ct.get_result(dispatch_id, wait=True)\n"
        "assert result.result == len(seeds), (result.status, result.error)\n"
        "nodes = [x['node_name'] for x in result.get_all_node_results()]\n"
        "assert nodes.count('simulate') == 1, nodes",
    ),
    "docs/how-to/cancel.md": (
        LATTICE.replace("seconds=0", "seconds=60"),
        "assert str(ct.get_result(dispatch_id, wait=True).status) == 'CANCELLED'",
    ),
    "docs/how-to/cost.md": ("", "assert executor.usage"),
    "docs/how-to/environments.md": ("", "assert executor.function_name.endswith('-dev')"),
    "docs/how-to/packages.md": (
        LATTICE,
        "drawn = value(ct.dispatch(workflow)([1, 2]))\nassert len(drawn) == 2, drawn",
    ),
    "docs/how-to/troubleshooting.md": (
        LATTICE + "dispatch_id = ct.dispatch(workflow)()\nvalue(dispatch_id)\n",
        "",
    ),
    "docs/reference/settings.md": ("", "assert callable(fan_out) and LambdaPoolExecutor"),
}
# Run by a test of their own.
ELSEWHERE = {"docs/tutorial/index.md"}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)


def test_no_page_is_forgotten() -> None:
    """Each page that holds Python is run."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    with_code = {str(page.relative_to(ROOT)) for page in pages if blocks(page)}
    assert with_code == PAGES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", PAGES)
def test_code_runs(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """It ends without an exception, and does what the page says."""
    before, after = PAGES[name]
    script = "\n".join([*(f"{before}\n{block}" for block in blocks(ROOT / name)), after])
    (tmp_path / "page.py").write_text(script, "utf-8")
    (tmp_path / "helpers.py").write_text("def prepare(x):\n    return 2 * x\n", "utf-8")
    (tmp_path / "my_module.py").write_text("answer = 42\n", "utf-8")
    done = sandbox.python("page.py", cwd=tmp_path)
    assert done.code == 0, f"{script}\n{done}"


def test_projects_readme(sandbox: Sandbox) -> None:
    """The code of a generated project's README runs in the project's folder."""
    script = [*blocks(sandbox.project / "README.md")]
    assert len(script) == 4
    script.append("result = ct.get_result(ct.dispatch(workflow)(3), wait=True)")
    script.append("assert result.result == [9, 10], (result.status, result.error)")
    path = sandbox.project / "readme_code.py"
    path.write_text("\n".join(script), "utf-8")
    done = sandbox.python(path.name, cwd=sandbox.project)
    assert done.code == 0, str(done)


def test_projects_live_test(sandbox: Sandbox) -> None:
    """A generated project's test of what is deployed runs on request, and not without."""
    words = ("-m", "pytest", "-rs", "tests/test_live.py")
    assert "1 skipped" in sandbox.python(*words, cwd=sandbox.project).stdout
    asked = Sandbox({**sandbox.env, "COVALENT_LAMBDA_LIVE": "1"}, sandbox.project)
    done = asked.python(*words, cwd=sandbox.project)
    assert done.code == 0 and "1 passed" in done.stdout, str(done)
