"""Makes docs/transcripts/: commands and what they print, as the pages show them.

    make up MODE=worker PACKAGES="numpy scikit-learn matplotlib ase pillow tqdm"
    . build/demo.env
    python docs/transcripts.py [NAME ...]    # all of them, if none is named
    make docs                                # puts them into the pages

Those of `LAPTOP` need Docker and the base image, too: they are made only if they are named.
A test performs those of `SANDBOX` anew, and compares all but numbers.
"""

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "transcripts"
WIDTH = 110  # columns of the terminal
SECONDS = 600

# Where commands are given: the repository, the deployed project, a folder with survey.py.
REPOSITORY, PROJECT, WORK = "repository", "project", "work"


@dataclass(frozen=True)
class Scene:
    """Commands that a user gives one after the other.

    Attributes:
        folder: REPOSITORY, PROJECT or WORK.
        commands: lines for the shell, each shown after "$ ".
        codes: how they may end.
        compared: which lines of the output are the same each time, beside their numbers.
        picture: whether the terminal's colours matter, so that an SVG is made as well.
    """

    folder: str
    commands: tuple[str, ...]
    codes: tuple[int, ...] = (0,)
    compared: str = "."
    picture: bool = False


# In this order: the later ones tell of what the earlier ones ran.
SANDBOX = {
    "doctor": Scene(PROJECT, ("covalent-lambda doctor",), compared=r"^\[.\]", picture=True),
    "configure": Scene(PROJECT, ("covalent-lambda configure",)),
    "follow": Scene(WORK, ("python survey.py", "covalent-lambda logs --follow")),
    "show": Scene(WORK, ("covalent-lambda show",), codes=(1,)),
    "logs": Scene(WORK, ("covalent-lambda logs --electron measure",)),
    "cost": Scene(WORK, ("covalent-lambda cost",), compared="^(survey|node|Cold|On arm64)"),
    "clean": Scene(PROJECT, ("covalent-lambda clean",)),
    "event": Scene(
        PROJECT, ("covalent-lambda event workflows/hello.py:join Hello World -o event.json",)
    ),
}
MAKE = {
    "demo": Scene(REPOSITORY, ("make demo MODE=worker",)),
    "status": Scene(REPOSITORY, ("make status",)),
    "digits": Scene(REPOSITORY, ("python examples/digits.py docs/examples/digits.png",)),
    "nitrogen_on_copper": Scene(
        REPOSITORY,
        ("python examples/nitrogen_on_copper.py docs/examples/nitrogen_on_copper.png",),
    ),
    "sublattice": Scene(REPOSITORY, ("python examples/sublattice.py",)),
    "word_count": Scene(REPOSITORY, ("python examples/word_count.py",)),
    "thumbnails": Scene(
        REPOSITORY, ("python examples/thumbnails.py docs/examples/thumbnails.jpg",)
    ),
}
LAPTOP = {
    "laptop": Scene(
        PROJECT, ("sam local invoke -e event.json 2>/dev/null | covalent-lambda result",)
    ),
}
SCENES = {**SANDBOX, **MAKE, **LAPTOP}


@dataclass(frozen=True)
class Stage:
    """Where scenes are performed.

    Attributes:
        env: the environment of the shell.
        folders: the paths of REPOSITORY, PROJECT and WORK.
    """

    env: Mapping[str, str]
    folders: Mapping[str, Path]

    def perform(self, scene: Scene) -> str:
        """Give the commands; return them and what they printed.

        Raises:
            RuntimeError: when one ended otherwise than the scene says.
        """
        shown = []
        for command in scene.commands:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=self.folders[scene.folder],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
            printed = done.stdout.decode()
            if done.returncode not in scene.codes:
                raise RuntimeError(f"{command}: exit code {done.returncode}\n{printed}")
            # Of a line that was drawn anew, such as a bar, the last state stays.
            output = re.sub(r"^.*\r(?!\n)", "", printed, flags=re.M)
            shown.append(f"$ {command}\n{output.rstrip()}\n")
        return self.shortened("".join(shown))

    def draw(self, scene: Scene) -> str:
        """Give the commands on a terminal; return its picture as SVG."""
        from rich.console import Console
        from rich.text import Text

        console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115
        for command in scene.commands:
            printed = self.shortened(self._on_terminal(command, scene.folder))
            console.print(Text.from_ansi(f"$ {command}\n{printed.rstrip()}"))
        picture = console.export_svg(title="", unique_id="terminal")
        # Only fonts that are there: a picture that loads others is shown without any.
        return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S)

    def shortened(self, text: str) -> str:
        """The text without this machine's folders and the name of its kernel."""
        for folder in self.folders.values():
            text = text.replace(f"{folder}/", "…/")
        return re.sub(r"\bLinux-\S+", "Linux-…", text)

    def _on_terminal(self, command: str, folder: str) -> str:
        ours, theirs = pty.openpty()
        env = {**self.env, "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": "50"}
        child = subprocess.Popen(
            ["sh", "-c", command], cwd=self.folders[folder], env=env, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:
            pass  # Linux says so when the last writer has closed a terminal
        finally:
            os.close(ours)
            child.wait()
        return said.decode().replace("\r\n", "\n")


def shape(scene: Scene, text: str) -> list[str]:
    """What of a transcript is the same each time: the scene's lines, in order, without numbers."""
    lines = [line for line in text.splitlines() if re.search(scene.compared, line)]
    plain = (re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", line) for line in lines)
    plain = (re.sub(r"covalent-lambda-\w{8}\b", "NAME", line) for line in plain)
    plain = (re.sub(r"\S*/(?=\w)", "", re.sub("[✓!✗]", "·", line)) for line in plain)
    plain = (re.sub(r"\d[\d.]*", "0", line) for line in plain)
    return sorted({re.sub(r"\s+", " ", line) for line in plain})


def main(names: list[str]) -> None:
    """Perform the scenes of these names, and write what they show."""
    project = Path(os.environ["COVALENT_LAMBDA_SAMCONFIG"]).parent
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(FOLDER / "survey.py", work)
        folders = {PROJECT: project, WORK: Path(work), REPOSITORY: ROOT}
        stage = Stage({**os.environ, "COLUMNS": str(WIDTH)}, folders)
        for name in names or [*SANDBOX, *MAKE]:
            scene = SCENES[name]
            print(f"{name}: {' && '.join(scene.commands)}", flush=True)
            (FOLDER / f"{name}.txt").write_text(stage.perform(scene), "utf-8")
            if scene.picture:
                (FOLDER / f"{name}.svg").write_text(stage.draw(scene), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
