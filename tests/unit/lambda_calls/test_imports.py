"""What the core imports, and when."""

import os
import subprocess
import sys


def loaded(statement: str, *modules: str) -> str:
    """Which of `modules` a fresh interpreter has after `statement`."""
    script = f"import sys\n{statement}\nprint([x for x in {modules!r} if x in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_the_core_knows_no_covalent() -> None:
    """Neither Covalent nor boto3 nor aiohttp is loaded by importing all of the core."""
    names = "session, run, attempt, messages, settings"
    statement = f"import lambda_calls\nfrom lambda_calls import {names}"
    assert loaded(statement, "covalent", "boto3", "botocore", "aiohttp", "cloudpickle") == "[]"


def test_no_module_of_the_core_names_covalent() -> None:
    """Its source has no import of it either, however late."""
    from template_paths import LAMBDA_CALLS

    for path in LAMBDA_CALLS.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "import covalent" not in text and "from covalent" not in text, path
