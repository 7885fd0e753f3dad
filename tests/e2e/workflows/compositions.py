"""Workflows put together in each way that Covalent knows: executors for a whole lattice, for what
Covalent itself runs at the end, lattices within lattices. Prints what became of each, as JSON."""

import json
import os
from typing import Any

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from report import report_lattices

deployed = AWSLambdaExecutor()


class Passport:
    """Notes where it was unpickled."""

    def __init__(self) -> None:
        self.stamps: list[str] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.stamps = [*state["stamps"], where()]

    def __repr__(self) -> str:
        return f"Passport({self.stamps})"


def where() -> str:
    return os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "the server's side")


@ct.electron
def here() -> str:
    return where()


@ct.electron
def add(left: int, right: int) -> int:
    return left + right


@ct.electron(executor="awslambda")
def double(number: int) -> int:
    print("doubling in", where())
    return 2 * number


@ct.electron(executor=deployed)
def square(number: int) -> int:
    print("squaring in", where())
    return number * number


@ct.electron(executor="local")
def at_home() -> str:
    return where()


@ct.lattice(executor=deployed)
def whole_by_instance() -> Any:
    return [here(), add(1, 2)]


@ct.lattice(executor="awslambda")
def whole_by_name() -> Any:
    return [here(), add(3, 4)]


@ct.lattice(executor="local", workflow_executor=deployed)
def end_by_instance() -> Any:
    return {"electron": here(), "passport": Passport()}


@ct.lattice(executor="local", workflow_executor="awslambda")
def end_by_name() -> Any:
    return {"electron": here(), "passport": Passport()}


@ct.lattice(executor=deployed)
def mixed(number: int) -> Any:
    return [here(), double(number), square(number), at_home()]


@ct.electron(executor=deployed)
@ct.lattice(executor="awslambda", workflow_executor=deployed)
def inner(number: int) -> Any:
    print("the inner graph is built in", where())
    total = add(double(number), square(number))
    return [total, here()]


@ct.lattice(executor="local", workflow_executor=deployed)
def nested(number: int) -> Any:
    return inner(number)


@ct.lattice(executor=deployed)
def many_inside(numbers: list[int]) -> Any:
    return [inner(number) for number in numbers]


WORKFLOWS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "whole_by_instance": (whole_by_instance, ()),
    "whole_by_name": (whole_by_name, ()),
    "end_by_instance": (end_by_instance, ()),
    "end_by_name": (end_by_name, ()),
    "mixed": (mixed, (6,)),
    "nested": (nested, (5,)),
    "many_inside": (many_inside, ([1, 2],)),
}


if __name__ == "__main__":
    print(json.dumps(report_lattices(WORKFLOWS)))
