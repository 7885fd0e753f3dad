"""Runs an electron that computes with numpy, pandas and scipy; not all of them are installed here.

Usage: python science.py FUNCTION BUCKET REGION
"""

import json
import sys
from importlib.util import find_spec
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report

FUNCTION, BUCKET, REGION = sys.argv[1:]
on_lambda = AWSLambdaExecutor(FUNCTION, BUCKET, region=REGION)


@ct.electron(executor=on_lambda)
def compute() -> dict[str, Any]:
    """One number from each package's compiled code."""
    import numpy
    import pandas
    from scipy import integrate, linalg

    matrix = numpy.arange(9.0).reshape(3, 3) + 10 * numpy.eye(3)
    frame = pandas.DataFrame({"group": list("abab"), "value": range(4)})
    area, _ = integrate.quad(numpy.sin, 0, numpy.pi)
    return {
        "solves": bool(numpy.allclose(matrix @ linalg.inv(matrix), numpy.eye(3))),
        "sums": {k: int(v) for k, v in frame.groupby("group")["value"].sum().items()},
        "area": round(float(area), 6),
    }


@ct.lattice
def science() -> Any:
    return compute()


if __name__ == "__main__":
    here = [name for name in ("scipy", "pandas") if find_spec(name)]
    print(json.dumps({"here": here, **report(ct.dispatch(science)())}))
