"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
TEMPLATE = ROOT / "{{cookiecutter.project_name}}"
FUNCTION = TEMPLATE / "function"
EXECUTOR = TEMPLATE / "executor"
# The bucket of all benchmarks.
BUCKET = "benchmark"
# Each plugin is installed into a folder of its own, since they carry the same name.
OURS = BUILD / "ours"
PUBLIC = BUILD / "public"
