"""`covalent.get_context()` in an electron: its dispatch and node, whoever imports Covalent when.

It is not imported for this, as that takes seconds in a cold environment. Where it is there, it is
told; where it comes later (a hook, the electron's own code), it is told as soon as it is imported.
"""

import contextlib
import sys
from typing import Any, Optional, Tuple

_MODULE = "covalent.executor.utils.context"


class Context:
    """A finder of `sys.meta_path`, which sees Covalent's module come.

    The mutable state is what that is to be told: dispatch and node.
    """

    def __init__(self) -> None:
        self._known: Optional[Tuple[str, int]] = None

    def tell(self, task_id: str) -> None:
        """Have Covalent know which electron this is.

        Args:
            task_id: dispatch, node and attempt, between hyphens; others name no electron.
        """
        dispatch, _, node = task_id.rpartition("-")[0].rpartition("-")
        if dispatch and node.isdigit():
            self._known = dispatch, int(node)
            module = sys.modules.get(_MODULE)
            if module is not None:
                self._told(module)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Let others find Covalent's module, and be told when it was executed."""
        if name != _MODULE:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                with contextlib.suppress(AttributeError):  # a loader that takes no method
                    self._listen(spec.loader)
                return spec
        return None

    def _listen(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self._told(module)

        loader.exec_module = exec_module

    def _told(self, module: Any) -> None:
        with contextlib.suppress(Exception):  # another version of it
            if self._known is not None:
                dispatch, node = self._known
                known = module.Context(dispatch_id=dispatch, task_id=node)
                module.current_context = known
