"""A thousand calls at once, of a pool and of a fan-out electron, with nothing set; prints their
sums as JSON."""

import json
from collections import UserList
from itertools import accumulate

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from covalent_awslambda_plugin import LambdaPoolExecutor, fan_out

COUNT = 1000


def same(x: int) -> int:
    return x


@ct.electron(executor=AWSLambdaExecutor())
@fan_out(batch=10)
def spread(x: int) -> int:
    return x


@ct.lattice
def study(values: UserList[int]) -> list[int]:
    return spread(values)  # type: ignore[no-any-return]


def most_at_a_time(pool: LambdaPoolExecutor) -> int:
    """How many requests ran in the function at the same moment, by its own clock."""
    runs = pool.stats().invocations
    moments = [(x.started, 1) for x in runs] + [(x.ended, -1) for x in runs]
    return max(accumulate(change for _, change in sorted(moments)))


def main() -> None:
    with LambdaPoolExecutor() as pool:
        total = sum(pool.map(same, range(COUNT), chunksize=1))
    summary = pool.stats().summary
    result = ct.get_result(ct.dispatch(study)(UserList(range(COUNT))), wait=True)
    assert str(result.status) == "COMPLETED", result.error
    found = {"pool": total, "electron": sum(result.result), "requests": summary.requests}
    found |= {"nodes": len(result.get_all_node_results())}
    found |= {"throttled": pool.stats().throttled, "environments": summary.environments}
    found |= {"at_a_time": most_at_a_time(pool)}
    print(json.dumps(found))


main()
