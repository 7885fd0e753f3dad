"""Dispatches electrons that would run for minutes, and ends when they run.

Usage: python left_running.py
"""

import json
import time

import covalent as ct
from covalent.executor import AWSLambdaExecutor
from marks import leave, wait_for

deployed = AWSLambdaExecutor()
bucket, region = deployed.s3_bucket_name, deployed.region


@ct.electron(executor=deployed)
def left_asleep(name: str) -> None:
    print("left alone:", name)
    leave(bucket, name)
    time.sleep(300)


@ct.electron(executor=deployed)
def left_looping(name: str) -> None:
    print("left alone:", name)
    leave(bucket, name)
    while True:
        pass


if __name__ == "__main__":
    for electron in (left_asleep, left_looping):
        ct.dispatch(ct.lattice(electron))(electron.__name__)
    for electron in (left_asleep, left_looping):
        wait_for(bucket, region, electron.__name__)
    print(json.dumps({"running": time.time()}))
