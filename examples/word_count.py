"""The words of many texts counted by map and reduce, as a workflow.

The map is one fan-out electron: a call for each text, which tells words apart into some parts. The
reduction is a second one: a call for each part. Without a folder it reads this repository's pages.
It needs no package.

    make up
    . build/demo.env && python examples/word_count.py [FOLDER]
"""

import re
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin import fan_out

PARTS = 4
PAGES = Path(__file__).resolve().parent.parent / "docs"
on_lambda = AWSLambdaExecutor()


@ct.electron(executor="local")
def read(folder: str) -> list[str]:
    """The texts: they lie on this machine, so this electron stays here."""
    texts = [file.read_text("utf-8") for file in sorted(Path(folder).rglob("*.md"))]
    if not texts:
        raise ValueError(f"there is no text (*.md) in {folder}")
    return texts


@ct.electron(executor=on_lambda)
@fan_out(max_workers=8)  # what a laptop's sandbox stands; leave it out on AWS
def count(text: str) -> list[Counter[str]]:
    """Map: a text's words, in PARTS counters; a word is always in the same one."""
    counters = [Counter[str]() for _ in range(PARTS)]
    for word in re.findall(r"[a-z]{5,}", text.lower()):
        counters[zlib.crc32(word.encode()) % PARTS][word] += 1
    return counters


@ct.electron(executor=on_lambda)
def shuffle(counted: list[list[Counter[str]]]) -> list[list[Counter[str]]]:
    """The counters of each part together."""
    return [list(part) for part in zip(*counted, strict=True)]


@ct.electron(executor=on_lambda)
@fan_out
def total(counters: list[Counter[str]]) -> Counter[str]:
    """Reduce: one counter of one part."""
    return sum(counters, Counter())


@ct.electron(executor=on_lambda)
def commonest(parts: list[Counter[str]]) -> list[tuple[str, int]]:
    return sum(parts, Counter()).most_common(10)


@ct.lattice(executor=on_lambda)
def word_count(folder: str) -> Any:
    """The ten words that are used most."""
    return commonest(total(shuffle(count(read(folder)))))


def main(folder: Path) -> None:
    dispatched = ct.dispatch(word_count)(str(folder))
    # A bar while it runs; in the end what failed, and why.
    if subprocess.run(["covalent-lambda", "show", dispatched], check=False).returncode:
        sys.exit(1)
    found = ct.get_result(dispatched).result
    for word, number in found:
        print(f"{word:<12} {number:>5} {'█' * round(30 * number / found[0][1])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PAGES)
