"""Keeps in a file what runs, so that a later command can end it whatever happened between."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import aws, processes
from sandbox import engine as docker
from sandbox.errors import SandboxError
from sandbox.processes import Child


@dataclass
class Running:
    """The programs of one sandbox.

    Attributes:
        path: the file that this is kept in.
        aws: MiniStack's process.
        aws_port: its port.
        covalent: the Covalent server's process.
        covalent_port: its port.
        facts: what else to show of it.
        image: the image that its function was built as, or an empty string.
        mode: "image" or "worker"; empty until it is known.
        packages: the requirements of its function, as one text.
    """

    path: Path
    aws: Child | None = None
    aws_port: int = 0
    covalent: Child | None = None
    covalent_port: int = 0
    facts: dict[str, str] | None = None
    image: str = ""
    mode: str = ""
    packages: str = ""

    def save(self) -> None:
        """Write it to its file, in one step."""
        content = {
            "aws": self.aws.to_json() if self.aws else None,
            "aws_port": self.aws_port,
            "covalent": self.covalent.to_json() if self.covalent else None,
            "covalent_port": self.covalent_port,
            "facts": self.facts or {},
            "image": self.image,
            "mode": self.mode,
            "packages": self.packages,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1), encoding="utf-8")
        new.replace(self.path)

    def is_whole(self) -> bool:
        """Tell whether all of it runs."""
        return all(child is not None and child.is_running() for child in (self.aws, self.covalent))

    def stop(self, *, grace: float) -> None:
        """End all of it that still runs, and forget it.

        Args:
            grace: the seconds that the servers have to end by themselves.
        """
        with ThreadPoolExecutor() as side_by_side:
            ends = []
            if self.covalent:
                ends.append(side_by_side.submit(processes.stop, self.covalent, grace=grace))
            if self.aws:
                engine = docker.find() if self.mode != "worker" else None
                ends.append(side_by_side.submit(aws.stop, self.aws, self.aws_port, engine, grace))
        for end in ends:
            end.result()
        self.path.unlink(missing_ok=True)


def load(path: Path) -> Running | None:
    """Read what was saved; None if nothing was, or nothing that can be read."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Running(
            path=path,
            aws=Child(**content["aws"]) if content["aws"] else None,
            aws_port=content["aws_port"],
            covalent=Child(**content["covalent"]) if content["covalent"] else None,
            covalent_port=content["covalent_port"],
            facts=content["facts"],
            image=content.get("image", ""),
            mode=content.get("mode", ""),
            packages=content.get("packages", ""),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for the time of a `with` block.

    Raises:
        SandboxError: when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SandboxError(f"another {what} is at work in this folder; wait for it") from None
        yield
