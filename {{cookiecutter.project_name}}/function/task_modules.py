"""Which modules an electron needs, and importing them before it is forked.

    the electron's pickle ── strings ──► modules the image has ──► imported by the fork server
    a child's sys.modules ── what is new, and came from the image ──►┘

Nothing is unpickled to find them: a pickle names each module that it needs, the ones that are
imported in the body of a function among them, as a short string.
"""

import contextlib
import gc
import importlib
import os
import re
import sys
import warnings
from typing import Any, Dict, FrozenSet, Iterable, List, Set

LARGEST = 1 << 20  # bytes of a pickle that is looked at: a function's own, not its data
MOST = 1500  # names in one report or order, whose packet must not grow too large
_LONGEST = 70  # characters of a name
# SHORT_BINUNICODE of the pickle protocols 4 and 5: its length in one byte, then the text.
_STRING = re.compile(rb"\x8c(.)([A-Za-z_][A-Za-z0-9_.]*)", re.DOTALL)
_OWN = frozenset(["app", "wire", "awslambdaric", "runtime_client", "bootstrap"])


def named(pickles: Iterable[Any]) -> Set[str]:
    """The short strings in `pickles` that could be names of modules."""
    found = set()
    for data in pickles:
        if len(data) <= LARGEST:
            for size, text in _STRING.findall(data):
                if len(text) >= size[0]:
                    found.add(text[: size[0]].decode())
    return found


def of_image(folders: Iterable[str]) -> FrozenSet[str]:
    """Top-level modules that were installed into `folders`, the standard library's left out."""
    standard = os.path.dirname(os.__file__)
    found = set()
    for folder in folders:
        if folder == standard or folder.endswith("lib-dynload"):
            continue
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder):
                name, _, suffix = entry.partition(".")
                if name.isidentifier() and (not suffix or suffix.endswith(("py", "so"))):
                    found.add(name)
    return frozenset(x for x in found - _OWN if not x.startswith(("task_", "__")))


def new(known: FrozenSet[str], folders: Iterable[str]) -> List[str]:
    """The modules that were imported since `known`, as far as their files lie in `folders`."""
    if len(sys.modules) == len(known):
        return []
    image = tuple(os.path.join(x, "") for x in folders if x)
    names = []
    for name, module in list(sys.modules.items()):
        if name in known or name.startswith("__"):
            continue
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if getattr(spec, "name", None) != name or not isinstance(origin, str):
            continue
        if origin in ("built-in", "frozen") or origin.startswith(image):
            names.append(name)
    return [x for x in names if may_be_taught(x)][:MOST]


def may_be_taught(name: str) -> bool:
    """Whether a server may import the module that an electron's process has named.

    That may be any text. A module such as `venv.__main__` is a program, which would run.
    """
    return len(name) < _LONGEST and not any(x.startswith("__") for x in name.split("."))


def bring(names: Iterable[str]) -> Dict[str, Any]:
    """Import `names`; end before the next one when one leaves threads behind.

    A process with threads must not fork: a lock that one of them holds stays locked in the child.

    Returns:
        `threads`: the module that started some; empty if none did.
    """
    for name in names:
        if name in sys.modules:
            continue
        # It may not exist, as any string may name one, or refuse to work here: then the electron
        # meets the same error where it imports the module itself, and is told of it.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
        if not alone():
            return {"threads": name}
    gc.collect()
    gc.freeze()  # the children's collections leave these pages untouched, and so shared
    return {"threads": ""}


def alone() -> bool:
    """Whether this process has one thread, or will have when it forks.

    OpenBLAS starts threads when numpy is imported, and ends them in a handler before each fork.
    """
    if threads() == 1:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the very fork that is to find this out
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return threads() == 1


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))
