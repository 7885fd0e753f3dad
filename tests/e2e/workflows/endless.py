"""Electrons that never end by themselves. The image lacks this module, so it travels with them."""

import sys
import time

import cloudpickle
import covalent as ct
from covalent.executor import AWSLambdaExecutor
from marks import leave

cloudpickle.register_pickle_by_value(sys.modules[__name__])

BEAT = 0.25  # seconds

deployed = AWSLambdaExecutor()
bucket, region = deployed.s3_bucket_name, deployed.region


def begin(name: str) -> None:
    """Leave the name in the log, and a mark."""
    print("begun:", name)
    leave(bucket, name)


@ct.electron(executor=deployed)
def sleeps(name: str) -> None:
    begin(name)
    time.sleep(600)


@ct.electron(executor=deployed)
def loops(name: str) -> None:
    begin(name)
    beat = 0.0
    while True:
        if time.time() > beat + BEAT:
            beat = time.time()
            print("beat", beat)
