"""Electrons with Covalent's dependencies: shell commands, packages, calls and file transfers.
Prints what became of each, as JSON.

Usage: python dependencies.py WHEEL
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from marks import s3
from report import report_electrons

# Modules beside this script travel by themselves; this one lies elsewhere.
sys.path.append(str(Path(__file__).parent / "elsewhere"))
import greetings

deployed = AWSLambdaExecutor()
bucket, region = deployed.s3_bucket_name, deployed.region
wheel = Path(sys.argv[1])

# Where the user may write and the function read, and the other way round.
SOURCE = "blobs/e2e-files/in.txt"
TARGET = "tasks/e2e-files/result"
# An S3 client of Covalent's own asks for bucket.endpoint, a name that this machine lacks.
BY_PATH = [
    "mkdir -p ~/.aws",
    "printf '[default]\\ns3 =\\n  addressing_style = path\\n' > ~/.aws/config",
]


@ct.electron(
    executor=deployed,
    deps_bash=ct.DepsBash(["echo from bash > /tmp/written", "echo bash runs in $PWD"]),
)
def after_bash() -> str:
    return Path("/tmp/written").read_text()


@ct.electron(executor=deployed, deps_bash=ct.DepsBash(["ls /no-such-folder-$((40 + 2))"]))
def after_bash_that_fails() -> str:
    return "never"


unpack = f"echo {base64.b64encode(wheel.read_bytes()).decode()} | base64 -d > /tmp/{wheel.name}"
packed = ct.DepsPip(packages=[f"/tmp/{wheel.name}"])


@ct.electron(executor=deployed, deps_bash=ct.DepsBash([unpack]), deps_pip=packed)
def after_pip() -> list[str]:
    import fresh_from_a_wheel

    return [fresh_from_a_wheel.GREETING, fresh_from_a_wheel.__file__]


@ct.electron(executor=deployed, deps_pip=ct.DepsPip(packages=["/tmp/no-such-wheel.whl"]))
def after_pip_that_fails() -> str:
    return "never"


def prepare(word: str) -> str:
    print("preparing", word)
    Path("/tmp/prepared").write_text(word)
    return word.upper()


def finish(word: str) -> None:
    print("finishing", word, Path("/tmp/prepared").read_text())


@ct.electron(
    executor=deployed,
    call_before=[
        ct.DepsCall(prepare, args=["one"], retval_keyword="first"),
        ct.DepsCall(prepare, kwargs={"word": "two"}, retval_keyword="second"),
        ct.DepsCall(prepare, args=["three"]),
    ],
    call_after=[ct.DepsCall(finish, args=["with"])],
)
def between_calls(number: int, first: str = "", second: str = "") -> list[Any]:
    print("running")
    Path("/tmp/prepared").write_text("done")
    return [number, first, second]


@ct.electron(
    executor=deployed,
    call_before=[
        ct.DepsCall(prepare, args=["one"], retval_keyword="words"),
        ct.DepsCall(prepare, args=["two"], retval_keyword="words"),
    ],
)
def with_one_keyword_twice(words: list[str] | None = None) -> list[str]:
    return words or []


@ct.electron(executor=deployed, deps_module="greetings")
def greets_from_elsewhere(name: str) -> str:
    return greetings.hello(name)


def fail() -> None:
    raise RuntimeError("the call before failed")


@ct.electron(executor=deployed, call_before=[ct.DepsCall(fail)])
def after_call_that_fails() -> str:
    return "never"


@ct.electron(
    executor=deployed,
    deps_bash=ct.DepsBash(["echo transferred > /tmp/source"]),
    files=[
        ct.fs.FileTransfer("file:///tmp/source", "file:///tmp/copied/target"),
    ],
)
def copies_a_file(files: list[Any] | None = None) -> list[Any]:
    return [Path(files[0][1]).read_text(), files]


@ct.electron(
    executor=deployed,
    deps_bash=ct.DepsBash(BY_PATH),
    files=[
        ct.fs.FileTransfer(
            f"s3://{bucket}/{SOURCE}", "file:///tmp/in.txt", strategy=ct.fs_strategies.S3()
        ),
        ct.fs.FileTransfer(
            "file:///tmp/out.txt",
            f"s3://{bucket}/{TARGET}",
            order=ct.fs.Order.AFTER,
            strategy=ct.fs_strategies.S3(),
        ),
    ],
)
def transfers_by_s3(files: list[Any] | None = None) -> str:
    text = Path("/tmp/in.txt").read_text()
    Path("/tmp/out.txt").write_text(text[::-1])
    return text


ELECTRONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "after_bash": (after_bash, ()),
    "after_bash_that_fails": (after_bash_that_fails, ()),
    "after_pip": (after_pip, ()),
    "after_pip_that_fails": (after_pip_that_fails, ()),
    "between_calls": (between_calls, (7,)),
    "with_one_keyword_twice": (with_one_keyword_twice, ()),
    "greets_from_elsewhere": (greets_from_elsewhere, ("Lambda",)),
    "after_call_that_fails": (after_call_that_fails, ()),
    "copies_a_file": (copies_a_file, ()),
    "transfers_by_s3": (transfers_by_s3, ()),
}


if __name__ == "__main__":
    client = s3(region)
    client.put_object(Bucket=bucket, Key=SOURCE, Body=b"hello")
    answers = report_electrons(ELECTRONS)
    stored = client.get_object(Bucket=bucket, Key=TARGET)["Body"].read().decode()
    client.delete_object(Bucket=bucket, Key=SOURCE)
    print(json.dumps({**answers, "stored": stored}))
