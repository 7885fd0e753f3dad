"""The first workflow: two electrons on AWS Lambda, joined into one greeting.

Run it in the project's folder, with the Covalent server up: python workflows/hello.py
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from requests.exceptions import ConnectionError  # Covalent speaks to its server with requests

# Without arguments it finds samconfig.toml, and there the function, the bucket and the region.
executor = AWSLambdaExecutor()


@ct.electron(executor=executor)
def join(first: str, second: str) -> str:
    """Join two words; what it prints comes back to Covalent."""
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "no Lambda function")
    print(f"join({first!r}, {second!r}) ran on {function}, Python {platform.python_version()}")
    return f"{first}, {second}"


@ct.electron(executor=executor)
def exclaim(text: str) -> str:
    """Say it louder."""
    print(f"exclaim({text!r}) ran on {platform.platform()}")
    return f"{text}!"


@ct.lattice
def hello(first: str, second: str) -> str:
    """Greet from Lambda."""
    return exclaim(join(first, second))


def main() -> int:
    """Run the workflow; 0 when it completed, 1 when it did not."""
    try:
        dispatch_id = ct.dispatch(hello)("Hello", "World")
    except ConnectionError as error:
        # Covalent says it too, but only for some of its requests.
        address = error.request.url if error.request else "its address"
        print(
            f"Covalent's server does not answer at {address}: `covalent start` starts it. If it "
            "says that it took another port, stop what holds the usual one and run `covalent "
            f"restart`. ({error})",
            file=sys.stderr,
        )
        return 1
    print(f"Dispatched {dispatch_id}; waiting for Lambda ...")
    outcome = ct.get_result(dispatch_id, wait=True)
    for node in outcome.get_all_node_results():
        report(node)
    if str(outcome.status) != "COMPLETED":
        print(f"The workflow ended {outcome.status}.", file=sys.stderr)
        return 1
    print(outcome.result)
    return 0


def report(node: dict[str, Any]) -> None:
    """Show what an electron printed, and why it failed if it did."""
    for stream in ("stdout", "stderr"):
        for line in (node[stream] or "").splitlines():
            print(f"  {node['node_name']} {stream}: {line}")
    if node["error"]:
        print(f"  {node['node_name']} failed:\n{node['error']}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
