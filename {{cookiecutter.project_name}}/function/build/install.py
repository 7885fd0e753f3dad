"""Install an electron's packages into the image: run by function/Dockerfile, inside the build.

    requirements.txt --pip, held to the versions the base has--> folder, less what the base has
                                                                 and a bill of materials

The folder is then copied over the base's task root. Since no distribution is in both, neither
half-replaces the other's files. Checked first: that the base is a Lambda base, and that its
Python is the project's, because a pickle made by one Python can crash another.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import os
import py_compile
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Sequence
from urllib.parse import quote

# What the handler itself imports.
HANDLER_NEEDS = ("cloudpickle", "boto3")
# Where AWS's own base images keep their runtime client and, before Python 3.12, boto3.
AWS_RUNTIME = "/var/runtime"
BILL_OF_MATERIALS = "bill-of-materials.json"


class BuildError(Exception):
    """A reason to end the build, with the remedy."""


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    sys.path[1:1] = [options.task_root, AWS_RUNTIME]
    check_python(options.python)
    check_lambda_runtime()
    options.into.mkdir(parents=True, exist_ok=True)
    in_base = installed(options.task_root)
    install(options.into, in_base, ["--requirement", str(options.requirements)])
    install_what_handler_lacks(options.into, in_base)
    remove_what_base_has(options.into, in_base)
    write_bill_of_materials(options.into)
    compile_bytecode(options.into)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Install the packages of a Covalent function.")
    parser.add_argument("--python", required=True, help="version the project was made for")
    parser.add_argument("--requirements", required=True, type=Path)
    parser.add_argument("--task-root", required=True, help="where the base keeps its packages")
    parser.add_argument("--into", required=True, type=Path, help="folder to install into")
    return parser.parse_args(arguments)


def check_python(wanted: str) -> None:
    found = f"{sys.version_info.major}.{sys.version_info.minor}"
    if found != wanted:
        raise BuildError(
            f"The base image has Python {found}, but this project is for Python {wanted}. "
            f"Either name a base image with Python {wanted} in function/Dockerfile, or, if your "
            f"Covalent server runs Python {found}, set PROJECT_PYTHON={found} there."
        )


def check_lambda_runtime() -> None:
    if importlib.util.find_spec("awslambdaric") is None and not Path(AWS_RUNTIME).is_dir():
        raise BuildError(
            "The base image has no Lambda runtime (awslambdaric), so Lambda could not start it. "
            "Name a Lambda base image in function/Dockerfile, such as "
            "public.ecr.aws/lambda/python, or make the project anew with base_image=auto."
        )


def installed(folder: str) -> dict[str, str]:
    """Name and version of every distribution in a folder."""
    return {key(found): found.version for found in distributions(path=[folder])}


def key(distribution: Distribution) -> str:
    return distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")


def install(into: Path, constraints: dict[str, str], what: list[str]) -> None:
    pinned = into.parent / "constraints.txt"
    pinned.write_text("".join(f"{name}=={found}\n" for name, found in constraints.items()))
    command = [sys.executable, "-m", "pip", "install", "--target", str(into)]
    command += ["--no-cache-dir", "--no-compile", "--disable-pip-version-check"]
    command += ["--constraint", str(pinned), *what]
    # Debian's own Python refuses any pip install unless told that this is no system to protect.
    quiet = {"PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    if subprocess.run(command, env={**os.environ, **quiet}).returncode:
        raise BuildError(
            "The packages of function/requirements.txt could not be installed; pip's reason is "
            "above. Where it names a conflict with a constraint, the base image already has "
            "that package in the version shown: ask for this version, or use a base without it."
        )


def install_what_handler_lacks(into: Path, in_base: dict[str, str]) -> None:
    here = installed(str(into))
    lacking = [
        name
        for name in HANDLER_NEEDS
        if name not in here and importlib.util.find_spec(name) is None
    ]
    if lacking:
        install(into, {**in_base, **here}, lacking)


def remove_what_base_has(into: Path, in_base: dict[str, str]) -> None:
    """Keep one copy: the pins made both the same version."""
    for distribution in distributions(path=[str(into)]):
        if in_base.get(key(distribution)) != distribution.version:
            continue
        for name in distribution.files or ():
            path = Path(str(distribution.locate_file(name)))
            # Scripts are recorded outside the folder that pip then moves them to.
            if into in path.resolve().parents and path.is_file():
                path.unlink()
    for folder in sorted(into.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def write_bill_of_materials(into: Path) -> None:
    """Tell scanners and approvers what the image holds, in the form that CycloneDX publishes.

    No time and no serial number, which the form allows: the same packages make the same layer.
    https://cyclonedx.org/docs/1.5/json/
    """
    found = {
        (key(each), each.version): each for each in distributions(path=[str(into), *sys.path])
    }
    components = [component(name, found[name, version]) for name, version in sorted(found)]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": components,
    }
    (into / BILL_OF_MATERIALS).write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")


def component(name: str, distribution: Distribution) -> dict[str, Any]:
    """One package, by what pip keeps of it."""
    metadata: Any = distribution.metadata  # typed without what all messages have
    described: dict[str, Any] = {
        "type": "library",
        "name": metadata["Name"],
        "version": distribution.version,
        "purl": f"pkg:pypi/{name}@{quote(distribution.version)}",
    }
    license_name = metadata.get("License-Expression") or metadata.get("License")
    # Some packages put the whole text there.
    if license_name and "\n" not in license_name.strip():
        described["licenses"] = [{"license": {"name": license_name.strip()}}]
    return described


def compile_bytecode(into: Path) -> None:
    """Compile now, as Lambda cannot write; hashes instead of times keep it valid when copied."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # Some packages ship files for other Pythons, which need not compile.
    compileall.compile_dir(str(into), quiet=2, invalidation_mode=mode)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BuildError as error:
        sys.exit(f"\nERROR: {error}\n")
