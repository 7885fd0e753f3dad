"""What Covalent's server process keeps for all electrons: made once, at the first one.

Covalent builds an executor for each electron, and another one to cancel it; only here do they
meet.
"""

from functools import cache
from typing import TYPE_CHECKING

from covalent._shared_files import logger
from lambda_calls.session import Process
from lambda_calls.usage import Totals

if TYPE_CHECKING:
    from .running import Running

Node = tuple[str, int]  # dispatch and node


class Server:
    """The mutable state is the process's clients, the electrons that run, and sums of their use.

    Args:
        process: whose clients, connections and threads electrons share.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.running: dict[Node, Running] = {}
        self.totals = Totals()


@cache
def server() -> Server:
    """This process's one."""
    return Server(Process(log=logger.app_log))
