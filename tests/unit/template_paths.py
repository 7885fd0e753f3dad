"""Where the template's Python lies; it holds no Jinja, so it is tested in place."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = REPOSITORY / "{{cookiecutter.project_name}}"
FUNCTION = PROJECT / "function"
EXECUTOR = PROJECT / "executor"
PLUGIN = EXECUTOR / "covalent_awslambda_plugin"
LAMBDA_CALLS = EXECUTOR / "lambda_calls"
