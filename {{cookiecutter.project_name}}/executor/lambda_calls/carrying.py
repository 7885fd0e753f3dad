"""Modules that travel with the calls that use them: helper files, which no image has.

cloudpickle writes what a module defines by its name, which the function then imports. Of a module
that is registered here it writes the code itself. That is so for the whole program, from then on:
a function is pickled when it is dispatched or submitted, long after the executor was made.
https://github.com/cloudpipe/cloudpickle#overriding-pickles-serialization-mechanism-for-importable-constructs
"""

import importlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType
from typing import NamedTuple

from . import messages

# Ours, and what brought them here: their calls are not the user's.
_NEVER = frozenset(["__main__", "covalent", "covalent_awslambda_plugin", "lambda_calls"])


class Carrier:
    """Has modules travel with the calls of this program.

    The mutable state is what was found in folders. To look through a few thousand modules takes
    half a millisecond, for each executor that is made: so it is done again only after an import.
    Whether a folder holds installed packages is looked up once.
    """

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}
        self._holds_packages: dict[str, bool] = {}
        self._installed = frozenset(sysconfig.get_paths().values())

    def carry(self, modules: Iterable[str | ModuleType] | None) -> list[str]:
        """Have modules travel; their names.

        Args:
            modules: themselves or their names; a package brings its submodules along. None: those
                that lie beside the script and were imported so far.

        Raises:
            ConfigurationError: if one cannot be imported, or is compiled.
        """
        import cloudpickle

        chosen = self._beside_the_script() if modules is None else [_imported(x) for x in modules]
        for module in chosen:
            cloudpickle.register_pickle_by_value(module)
        return [module.__name__ for module in chosen]

    def modules_in(self, folder: str) -> list[ModuleType]:
        """The imported modules and packages that a folder holds."""
        imported = sys.modules
        mark = len(imported), next(reversed(imported))
        found = self._found.get(folder)
        if found is None or found.mark != mark:
            self._found[folder] = found = _Found(mark, _names_in(folder))
        return [imported[name] for name in found.names if name in imported]

    def _beside_the_script(self) -> list[ModuleType]:
        """Those in the folder where Python looks for a script's own; none among installed ones."""
        folder = _folder_of_script()
        if folder in self._installed or "site-packages" in folder.split(os.sep):
            return []
        if folder not in self._holds_packages:
            self._holds_packages[folder] = _holds_packages(folder)
        if self._holds_packages[folder]:
            return []
        return self.modules_in(folder)


class _Found(NamedTuple):
    mark: tuple[int, str]  # how many modules were imported, and the latest: an import changes it
    names: list[str]


def _names_in(folder: str) -> list[str]:
    return [
        name
        for name, module in list(sys.modules.items())
        if "." not in name and name not in _NEVER and _lies_in(module, folder)
    ]


def _folder_of_script() -> str:
    """The folder of the program, or the working directory of a notebook; "" if there is none."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    try:
        if file is None:
            return os.getcwd()
        folder = os.path.dirname(os.path.realpath(str(file)))  # Python follows links, too
    except OSError:  # the working directory is gone
        return ""
    spec = getattr(main, "__spec__", None)  # there is one after `python -m package.module`
    for _ in range(spec.name.count(".") if spec else 0):
        folder = os.path.dirname(folder)
    return folder


def _holds_packages(folder: str) -> bool:
    """Whether pip has installed packages there, as into a Lambda function's folder, where its
    runtime client is the script and all else lies beside it."""
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))
    except OSError:  # it is gone, or there is none
        return False


def _lies_in(module: ModuleType, folder: str) -> bool:
    place = _place(module)
    # Most are elsewhere, which the first comparison tells in a fraction of the second one's time.
    is_there = place.startswith(folder) and os.path.dirname(place) == folder
    return bool(folder) and is_there and not _is_compiled(place)


def _place(module: ModuleType) -> str:
    """The module's file, or the package's folder; "" if there is none.

    Some modules import others when an attribute is asked for: they are not asked.
    """
    held = getattr(module, "__dict__", {})
    if "__path__" in held:
        return str(next(iter(held["__path__"]), ""))
    return str(held.get("__file__") or "")


def _is_compiled(place: str) -> bool:
    return place.endswith(tuple(EXTENSION_SUFFIXES))


def _imported(module: str | ModuleType) -> ModuleType:
    if isinstance(module, ModuleType):
        found = module
    else:
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            raise messages.NOT_CARRIED_UNKNOWN(name=module, said=error) from error
    place = _place(found)
    if not place or _is_compiled(place):
        raise messages.NOT_CARRIED_COMPILED(name=found.__name__)
    return found
