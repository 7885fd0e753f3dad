"""A program of a user's that may be killed: runs calls in the pool, or dispatches a workflow.

Usage: python -m faults.client pool|workflow JSON; prints what happens, a line of JSON each
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import cloudpickle

from . import work

cloudpickle.register_pickle_by_value(work)


def main(how: str, said: dict[str, Any]) -> None:
    """Run calls.

    Args:
        how: "pool" or "workflow".
        said: `names` of function and bucket, `numbers` of the calls, and the arguments that all of
            them get as `told`.
    """
    # A shell that starts `make faults` in the background has all below it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    numbers, told = said["numbers"], said["told"]
    told["data"] = work.Data(told.pop("size_of_data", 0))
    {"pool": _in_pool, "workflow": _in_workflow}[how](said["names"], numbers, told)


def _in_pool(names: dict[str, Any], numbers: list[int], told: dict[str, Any]) -> None:
    from lambda_calls import LambdaPoolExecutor

    with LambdaPoolExecutor(**names) as pool:
        futures = [pool.submit(work.worked, n, **told) for n in numbers]
        _say("sent")
        _say([x.result() for x in futures])


def _in_workflow(names: dict[str, Any], numbers: list[int], told: dict[str, Any]) -> None:
    import covalent as ct
    from covalent_awslambda_plugin.awslambda import AWSLambdaExecutor

    electron = ct.electron(work.worked, executor=AWSLambdaExecutor(**names))

    @ct.lattice
    def workflow(numbers: list[int]) -> list[Any]:
        return [electron(n, **told) for n in numbers]

    dispatch_id = ct.dispatch(workflow)(numbers)
    _say(dispatch_id)
    _say(ct.get_result(dispatch_id, wait=True).result)


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
