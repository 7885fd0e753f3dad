"""Dispatches electrons that never end by themselves, and ends when they run."""

import json
import time

import covalent as ct
from endless import bucket, loops, region, sleeps
from marks import wait_for

LEFT = {"left_asleep": sleeps, "left_looping": loops}

if __name__ == "__main__":
    for name, electron in LEFT.items():
        ct.dispatch(ct.lattice(electron))(name)
    for name in LEFT:
        wait_for(bucket, region, name)
    print(json.dumps({"running": time.time()}))
