"""The examples that need no Covalent server, each run as its reader runs it, to its picture.

Real handlers run their calls; the stand-in is what answers as Lambda and S3. (The one with a
server is run by tests/e2e/test_fan_out.py.)
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aws_server import AWS
from fleet import Fleet
from secret_keys import SECRET_KEY
from template_paths import EXECUTOR, REPOSITORY

SAMCONFIG = """
version = 0.1
[default.global.parameters]
region = "eu-west-1"
stack_name = "stack"
parameter_overrides = "FunctionName=fn BucketName=bucket"
"""
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "pictures", "said"),
    [
        ("monte_carlo", ["pi.png", "timeline.png"], "π is about 3.14"),
        ("grid_search", ["grid.png"], "best: {'C': 10.0, 'gamma': 0.0003}"),
        ("dask_reduction", ["waves.png"], "mean intensity 1."),
    ],
)
def test_example(
    fleet: Fleet, reachable: AWS, tmp_path: Path, name: str, pictures: list[str], said: str
) -> None:
    """It says what it found, shows its progress, and leaves its pictures."""
    (tmp_path / "samconfig.toml").write_text(SAMCONFIG)
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / f"{name}.py"), *pictures],
        cwd=tmp_path,
        env={
            **os.environ,
            **keys,
            "AWS_ENDPOINT_URL": reachable.url,
            "PYTHONPATH": str(EXECUTOR),
            "MPLCONFIGDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "100%" in done.stderr
    for picture in pictures:
        assert (tmp_path / picture).read_bytes().startswith(PNG)
