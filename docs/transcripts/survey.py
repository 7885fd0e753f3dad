"""Six measurements side by side, one of which fails: the workflow of the transcripts."""

import time

import covalent as ct


@ct.electron(executor="awslambda")
def measure(number):
    """Measure for two seconds."""
    print("measuring", number, flush=True)
    time.sleep(2)
    if number == 2:
        raise ValueError("sensor 2 is not connected")
    return number / 2


@ct.electron(executor="awslambda")
def mean(values):
    """The mean of all measurements."""
    return sum(values) / len(values)


@ct.lattice(executor="awslambda")
def survey(count):
    """Measure `count` times; return the mean."""
    return mean([measure(number) for number in range(count)])


print("dispatched", ct.dispatch(survey)(6))
