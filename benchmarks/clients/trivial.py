"""The trivial electron as each image's handler takes it, and others for ours; as JSON.

Usage: python -m benchmarks.clients.trivial
"""

from __future__ import annotations

import base64
import json
import uuid
from functools import partial
from typing import Any

import cloudpickle
from covalent import DepsCall
from covalent._workflow.transport import TransportableObject
from covalent.executor.utils.wrappers import wrapper_fn
from covalent_awslambda_plugin.electron import taken_apart

from .. import tasks
from ..paths import BUCKET

cloudpickle.register_pickle_by_value(tasks)


def main() -> None:
    make = TransportableObject.make_transportable
    function, args = partial(wrapper_fn, make(tasks.nothing), [], []), [make(7)]
    others = {
        name: partial(wrapper_fn, make(task), [], [])
        for name, task in (("crash", tasks.crash), ("packages", tasks.use_packages))
    }
    installing = DepsCall(tasks.apply_pip_deps, args=[tasks.MODULES]).apply()
    others["pip"] = partial(wrapper_fn, make(tasks.use_installed), [installing], [])
    pickled = cloudpickle.dumps((function, args, {}))  # as the public plugin uploads it
    found = {
        "envelope": json.loads(_envelope(function, args)),
        **{name: json.loads(_envelope(other, args)) for name, other in others.items()},
        "pickle": base64.b64encode(pickled).decode(),
    }
    print(json.dumps(found))


def _envelope(function: Any, args: list[Any]) -> str:
    request = taken_apart(function, args, {}).request(
        task_id=str(uuid.uuid4()), key="0" * 64, bucket=BUCKET, limit=600.0, blobs={}
    )
    return request.to_json()


if __name__ == "__main__":
    main()
