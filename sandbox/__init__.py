"""The machine's own AWS and Covalent server, for the demo and for the end-to-end tests.

As a library:

    with running_aws(home / "aws") as aws, running_covalent(home / "covalent", aws.env) as server:
        project = scaffold(home / "projects", log=home / "cookiecutter.log")
        deployment = deploy(project, aws, "image")
        env = {**os.environ, **aws.env, **server.env}

Everything is written under the given folders, listens on 127.0.0.1 (and, for containers, on the
Docker bridge's address) and has ended when the blocks are left.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.aws import Aws, running_aws
    from sandbox.deploying import Deploying, Deployment, client, deploy, ping, scaffold
    from sandbox.engine import Engine
    from sandbox.engine import find as find_engine
    from sandbox.errors import SandboxError
    from sandbox.server import Dispatch, Server, running_covalent

__all__ = [
    "Aws",
    "Deploying",
    "Deployment",
    "Dispatch",
    "Engine",
    "SandboxError",
    "Server",
    "client",
    "deploy",
    "find_engine",
    "ping",
    "running_aws",
    "running_covalent",
    "scaffold",
]

_DEFINED_IN = {
    "Aws": "aws",
    "Engine": "engine",
    "SandboxError": "errors",
    "find_engine": "engine",
    "running_aws": "aws",
    **dict.fromkeys(("Dispatch", "Server", "running_covalent"), "server"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `python -m sandbox` passes here before it can act."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"sandbox.{_DEFINED_IN.get(name, 'deploying')}")
    return getattr(module, "find" if name == "find_engine" else name)
