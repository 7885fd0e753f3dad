"""The pages: generated parts are up to date, links lead somewhere, code can be compiled."""

import importlib.util
import json
import re
import urllib.parse
from pathlib import Path
from types import ModuleType

import pytest
from template_paths import PROJECT, REPOSITORY

import task_prepared
import task_processes

DOCS = REPOSITORY / "docs"


def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
]


def named(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def test_times_on_the_page_of_security_are_the_functions() -> None:
    """It says how long an electron can hold up the next one, and how often a server is looked at,
    as the code has it."""
    page = (DOCS / "security.md").read_text("utf-8")
    assert f"for {task_processes._TIDIED_WITHIN:.0f} s at most" in page
    assert f"within {task_processes._LOOKS_EVERY:g} s" in page
    assert task_processes._TIDIED_WITHIN == task_prepared._FINISHED_WITHIN


@pytest.mark.parametrize("name", generate().PARTS)
def test_parts_are_generated(name: str) -> None:
    """A page holds exactly what the code says; `make docs` writes it."""
    assert generate().written(name) == (DOCS / name).read_text("utf-8"), "run `make docs`"


def test_numbers_of_many_calls_are_the_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What results.json holds of pool and study is on the page; nothing else is."""
    results = tmp_path / "results.json"
    monkeypatch.setattr("benchmarks.report.RESULTS", results)
    results.write_text("{}")
    assert generate().at_once().startswith("Not measured yet")
    measure = {"what": "1,000 items", "contender": "ours", "unit": "s", "note": "scaled"}
    results.write_text(json.dumps({"pool": {"measures": [{**measure, "median": 0.25}]}}))
    assert "| 1,000 items | ours | 0.25 s | scaled |" in generate().at_once()


def test_readme_says_what_was_measured() -> None:
    """Its measured rows are those of benchmarks/results.json; `make docs` writes them."""
    page = generate()
    assert page.readme() == page.README.read_text("utf-8"), "run `make docs`"


def test_readme_says_when_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Date and commit of each benchmark behind its rows, those of one sitting together."""
    results = tmp_path / "results.json"
    monkeypatch.setattr("benchmarks.report.RESULTS", results)
    first, later = {"date": "Monday", "commit": "1a"}, {"date": "Friday"}  # no git: no commit
    measured = {"latency": first, "fanout": later, "shared": first, "warm": later}
    results.write_text(json.dumps({name: {"measured": on} for name, on in measured.items()}))
    said = "Measured Monday, commit 1a (`latency`, `shared`); Friday (`fanout`)."
    assert generate().measured_when() == said


def test_readme_takes_two_minutes() -> None:
    """At most 500 words of prose, beside code and table: 250 are read in a minute."""
    text = (REPOSITORY / "README.md").read_text("utf-8")
    text = re.sub(r"^```.*?^```$|^\|.*?$", "", text, flags=re.S | re.M)
    text = re.sub(r"\]\([^)]*\)", "", text)
    assert len(text.split()) <= 500


def test_every_module_is_in_the_picture() -> None:
    """Who looks for a module finds in docs/architecture.md what it is for."""
    picture = (DOCS / "architecture.md").read_text("utf-8").split("```")[1]
    executor, function = PROJECT / "executor", PROJECT / "function"
    modules = [*executor.rglob("*.py"), *function.glob("*.py")]
    assert len(modules) > 60
    told_by_their_folder = (executor / "covalent_awslambda_plugin/cli").rglob("*.py")
    private = [x for x in modules if x.name.startswith("__")]
    named = {x.name for x in modules} - {x.name for x in (*told_by_their_folder, *private)}
    assert {name for name in named if not re.search(rf"\b{name}\b", picture)} == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link, read from where the page lies, names a file."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M)
    # Only security.md is a link itself: it is a page of every project, too.
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:|#", target):
            continue
        path = page.parent / urllib.parse.unquote(target.partition("#")[0])
        assert path.exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_compiles(page: Path) -> None:
    """All Python on a page, its blocks one after the other, is Python."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.S | re.M)
    compile("\n".join(blocks), named(page), "exec")


# Readers stumbled over these.
STUMBLED = (
    "sentence of their own",
    "sentences of their own",
    "or an address is none",
    "What runs how often",
    "429s",
    "waited out",
    "cookiecutter without a word",
)
TEXTS = [
    path
    for folder in ("docs", "examples", "sandbox", "local_extensions", PROJECT.name)
    for path in sorted((REPOSITORY / folder).rglob("*"))
    if path.suffix in (".md", ".py", ".yaml", ".toml") and "__pycache__" not in path.parts
]


def test_no_stumbling_blocks() -> None:
    """No page and no message holds a phrase that readers had to read twice."""
    for path in [*TEXTS, *PAGES, REPOSITORY / "cookiecutter.json"]:
        text = " ".join(path.read_text("utf-8").split())
        assert not [phrase for phrase in STUMBLED if phrase in text], named(path)
