"""Where the template may come from (a folder, a zip, git), and updates of what it generated."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from baking import FIRST, PROJECT, commit, git, run, tool

COOKIECUTTER = (sys.executable, "-m", "cookiecutter")
CRUFT = (sys.executable, "-m", "cruft")
LATER = "v2"


def address(repository: Path) -> str:
    """A repository as cookiecutter takes it; without git+ it knows git by the word in the name."""
    return f"git+{repository.as_uri()}"


def replace(path: Path, old: str, new: str) -> None:
    """Replace the one place where a text stands in a file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def zipped(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip file that a git host offers for a tag."""
    path = tmp_path_factory.mktemp("zipped") / "template.zip"
    prefix = f"--prefix={published.name}-{FIRST}/"
    git(published, "archive", prefix, f"--output={path}", FIRST)
    return path


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A clone of the published template, for a later version to be committed to."""
    folder = tmp_path / "repository"
    git(tmp_path, "clone", "--quiet", str(published), str(folder))
    return folder


def test_a_folder_a_zip_and_git_generate_the_same(
    published: Path, zipped: Path, output: Path
) -> None:
    """cookiecutter takes each, git by address and tag, and the files are equal."""
    answers = ("--no-input", "bucket_name=same", "packages=numpy pandas>=2")
    sources = {
        "folder": (str(published),),
        "zip": (str(zipped),),
        "git": (address(published), "--checkout", FIRST),
    }
    for name, source in sources.items():
        done = run(*COOKIECUTTER, *source, "-o", name, *answers, cwd=output)
        assert (done.returncode, done.stdout) == (0, ""), name
    for name in sources:  # it says where the project comes from
        (output / name / "covalent-lambda" / "docs" / "origin.md").unlink()
    expected = contents(output / "folder" / "covalent-lambda")
    assert len(expected) > 20
    assert expected == contents(output / "zip" / "covalent-lambda")
    assert expected == contents(output / "git" / "covalent-lambda")


def contents(project: Path) -> dict[str, bytes]:
    """Every file of a project, by its name."""
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file()
    }


def test_a_tag_is_what_is_generated(repository: Path, output: Path) -> None:
    """Without a tag git's newest version is taken, with one that version."""
    replace(repository / PROJECT / "README.md", "## Clean up", "## Clear up")
    commit(repository, "later")
    for name, arguments in {"newest": (), "tagged": ("--checkout", FIRST)}.items():
        command = (*COOKIECUTTER, address(repository), *arguments, "--no-input", "-o", name)
        assert run(*command, cwd=output).returncode == 0
    readme = "covalent-lambda/README.md"
    assert "## Clear up" in (output / "newest" / readme).read_text(encoding="utf-8")
    assert "## Clean up" in (output / "tagged" / readme).read_text(encoding="utf-8")


@pytest.mark.parametrize("source", ["zip", "git"])
def test_sam_init(published: Path, zipped: Path, output: Path, source: str) -> None:
    """sam init takes a zip and git too, with a name and extra context; a wrong answer ends it."""
    location = str(zipped) if source == "zip" else address(published)
    command = [tool("sam"), "init", "--location", location, "--no-input", "--name", "named"]
    assert run(*command, "--extra-context", '{"timeout": 60}', cwd=output).returncode == 0
    assert "Timeout=60" in (output / "named" / "samconfig.toml").read_text(encoding="utf-8")
    shutil.rmtree(output / "named")
    refused = run(*command, "--extra-context", '{"timeout": 901}', cwd=output)
    assert refused.returncode == 1
    assert "timeout '901' is not what Lambda allows" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert list(output.iterdir()) == []


# --- cruft -----------------------------------------------------------------------------------


def later_version(repository: Path) -> None:
    """Publish a version with another wording, setting, file, question and check."""
    project = repository / PROJECT
    replace(project / "README.md", "## Clean up\n", "## Clean up\n\nIn a later version.\n")
    replace(project / "samconfig.toml", "lint = true\n", "lint = true\nregion = 'eu-west-1'\n")
    (project / "function" / "added.py").write_text('"""Added by a later version."""\n')
    replace(
        repository / "cookiecutter.json",
        '  "__stack_name"',
        '  "retention": "30",\n'
        '  "__retention": "{{ cookiecutter | checked(\'retention\') }}",\n'
        '  "__stack_name"',
    )
    replace(
        repository / "local_extensions" / "__init__.py",
        "CHECKS: dict[str, Callable[[str, Given], str]] = {\n",
        "CHECKS: dict[str, Callable[[str, Given], str]] = {\n"
        '    "retention": whole_number("retention", "days", (1, 90)),\n',
    )
    replace(project / "events" / "ping.json", "}", ', "later": true}')
    replace(
        project / "template.yaml",
        "    Description: Name of the Lambda function.\n    Default",
        "    Description: Name of the function, kept {{ cookiecutter.__retention }} days.\n"
        "    Default",
    )
    commit(repository, "later")
    git(repository, "tag", LATER)


def edit(project: Path) -> None:
    """What a user changes in a project: packages, sizes, notes, a workflow."""
    with (project / "function" / "requirements.txt").open("a", encoding="utf-8") as requirements:
        requirements.write("scipy==1.14.1\nxarray\n")
    config = project / "samconfig.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("MemorySize=1769", "MemorySize=3008"), encoding="utf-8")
    replace(
        project / "README.md",
        "## Your own workflows\n",
        "## Your own workflows\n\nA note of ours.\n",
    )
    (project / "workflows" / "ours.py").write_text("# ours\n")


def create(repository: Path, output: Path, answers: dict[str, str]) -> Path:
    """A project made by cruft."""
    extra = ("--extra-context", json.dumps(answers))
    done = run(*CRUFT, "create", str(repository), "--no-input", *extra, cwd=output)
    assert done.returncode == 0
    return output / "covalent-lambda"


def update(project: Path) -> None:
    """Update a project to the template's newest version; it ends with what cruft calls that."""
    done = run(*CRUFT, "update", "--skip-apply-ask", cwd=project)
    assert done.returncode == 0
    assert "updated and is as clean as possible" in done.stdout
    assert list(project.rglob("*.rej")) == []


def test_what_cookiecutter_made_can_be_updated(repository: Path, output: Path) -> None:
    """The command in docs/origin.md makes a project ready for `cruft update`, which keeps its
    names in AWS."""
    command = (*COOKIECUTTER, address(repository), "--no-input", "packages=a ; os_name=='posix'")
    assert run(*command, cwd=output).returncode == 0
    project = output / "covalent-lambda"
    before = (project / "samconfig.toml").read_text(encoding="utf-8")
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, "made")
    page = (project / "docs" / "origin.md").read_text(encoding="utf-8")
    (link,) = (line for line in page.splitlines() if line.startswith("cruft link "))
    assert f"--checkout {FIRST} " in link
    link = link.replace("cruft", shlex.join(CRUFT), 1)
    assert run("sh", "-c", link, cwd=project).returncode == 0
    commit(project, "linked")
    later_version(repository)
    update(project)
    wanted = before.replace("lint = true\n", "lint = true\nregion = 'eu-west-1'\n")
    assert (project / "samconfig.toml").read_text(encoding="utf-8") == wanted
    assert (project / "function" / "added.py").is_file()


@pytest.mark.parametrize("in_git", [True, False], ids=["in_git", "not_in_git"])
def test_cruft_update_keeps_what_the_user_changed(
    repository: Path, output: Path, *, in_git: bool
) -> None:
    """A later version's changes arrive and the user's stay, with nothing left to merge by hand."""
    project = create(repository, output, {"packages": "numpy"})
    before = (project / "samconfig.toml").read_text(encoding="utf-8")
    if in_git:
        git(project, "init", "--quiet", "--initial-branch=main")
        commit(project, "made")
    edit(project)
    if in_git:
        commit(project, "edited")
    later_version(repository)

    update(project)

    def read(name: str) -> str:
        return (project / name).read_text(encoding="utf-8")

    assert read("function/requirements.txt").splitlines()[1:] == [
        "numpy",
        "scipy==1.14.1",
        "xarray",
    ]
    assert read("workflows/ours.py") == "# ours\n"
    assert "A note of ours." in read("README.md") and "In a later version." in read("README.md")
    wanted = before.replace("MemorySize=1769", "MemorySize=3008")
    wanted = wanted.replace("lint = true\n", "lint = true\nregion = 'eu-west-1'\n")
    assert read("samconfig.toml") == wanted  # the bucket's random name is the old one
    assert '"later": true' in read("events/ping.json")
    assert (project / "function" / "added.py").is_file()
    assert "kept 30 days" in read("template.yaml")
    assert "<<<<<<<" not in "".join(map(read, ("README.md", "samconfig.toml", "template.yaml")))
    state = json.loads(read(".cruft.json"))
    assert state["commit"] == git(repository, "rev-parse", LATER).strip()
    assert run(*CRUFT, "check", cwd=project).returncode == 0


def test_cruft_update_without_the_requirements_file(
    repository: Path, output: Path, tmp_path: Path
) -> None:
    """A project whose packages came from a file is updated where that file is no more."""
    file = tmp_path / "mine.txt"
    file.write_text("--extra-index-url https://example.org/simple\n# why\nnumpy>=2  # fast\n")
    project = create(repository, output, {"packages": str(file)})
    before = (project / "function" / "requirements.txt").read_text(encoding="utf-8")
    assert "numpy>=2  # fast" in before
    file.unlink()
    later_version(repository)
    update(project)
    assert (project / "function" / "requirements.txt").read_text(encoding="utf-8") == before
    assert "kept 30 days" in (project / "template.yaml").read_text(encoding="utf-8")
