"""What a result was measured on and with: without it a number says little."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from .paths import PUBLIC, ROOT

# What takes part in a comparison; those that are not installed are left out.
PACKAGES = ("covalent", "boto3", "aiohttp", "lithops", "cookiecutter", "cloudpickle", "uvicorn")
PUBLIC_PLUGIN = "covalent-awslambda-plugin"
# Results are written by the benchmarks themselves: they do not make a commit another one.
NOT_SOURCES = (":!benchmarks/results.json", ":!docs")

# One date for all that is measured in one sitting.
STARTED = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


@functools.cache
def facts() -> dict[str, str]:
    """Date, processor, Python, versions and commit, in words."""
    found = {
        "date": STARTED,
        "cores": str(len(os.sched_getaffinity(0))),
        "cpu": cpu(),
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions()),
    }
    commit = _commit()
    return {**found, "commit": commit} if commit else found


def cpu() -> str:
    """The processor's name as Linux knows it; virtual machines often hide it."""
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model") and value.strip() not in ("", "unknown"):
            return value.strip()
    return platform.machine()


def versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for found in importlib.metadata.distributions(name=PUBLIC_PLUGIN, path=[str(PUBLIC)]):
        yield "public plugin", found.version


def _commit() -> str:
    """The commit that was measured, "+ changes" if the files differ from it; empty without git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = commit and _git("status", "--porcelain", "--", ".", *NOT_SOURCES)
    return f"{commit} + changes" if changed else commit


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
