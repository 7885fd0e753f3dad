"""An electron on one function that makes a pool of another; prints what became of it, as JSON."""

import json
import sys
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report

own, others = json.loads(sys.argv[1]), json.loads(sys.argv[2])
LARGE = 9_000_000  # bytes: too many for a request


@ct.electron(executor=AWSLambdaExecutor(**own))
def called(names: dict[str, str], count: int, size: int) -> Any:
    from lambda_calls import LambdaPoolExecutor

    with LambdaPoolExecutor(**names) as pool:
        squares = list(pool.map(lambda x: x * x, range(count)))
        return sum(squares), pool.submit(len, bytes(size)).result()


@ct.lattice
def workflow(names: dict[str, str], count: int, size: int) -> Any:
    return called(names, count, size)


print(json.dumps(report(ct.dispatch(workflow)(others, 20, LARGE))))
