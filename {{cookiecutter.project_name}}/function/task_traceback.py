"""Tracebacks as text, told from where the electron's own code begins.

cloudpickle pickles by value what a script or a notebook defines. Since 3.1.3 it leaves out the
file, but keeps the `__file__` of the globals, after which frames are named here. A notebook has
none; what a script generates (a dataclass's `__init__`) is named like the script.
"""

import pickle
import traceback
from types import FrameType
from typing import Any, Collection, Iterable, List, Tuple

import cloudpickle

_Frames = Iterable[Tuple[FrameType, int]]  # each with its line

_NAMELESS = "<dynamic-code>"
_PICKLING = (cloudpickle.cloudpickle.__file__, pickle.__file__)


def of_error(error: BaseException, own: Collection[str]) -> str:
    """The traceback of `error`, chained causes included.

    Args:
        error: what was raised.
        own: files whose frames are left out where they come first, as those that pickle are.
    """
    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename in (*own, *_PICKLING):
        start = start.tb_next
    shown = traceback.TracebackException(type(error), error, start)
    pending: List[Tuple[Any, Any, Any]] = [(shown, error, start)]
    while pending:
        text, raised, frames = pending.pop()
        _name_files(text.stack, traceback.walk_tb(frames))
        inner = [(text.__cause__, raised.__cause__), (text.__context__, raised.__context__)]
        if getattr(text, "exceptions", None):  # of a group only; the raised one may have any
            inner += zip(text.exceptions, raised.exceptions)
        pending += [(t, e, e.__traceback__) for t, e in inner if t is not None and e is not None]
    return "".join(shown.format())


def of_place(frames: _Frames, own: Collection[str]) -> str:
    """Where code stood when it was stopped, the outermost frame first, without the files `own`."""
    return "Stopped in:\n" + of_frames(frames, own)


def of_frames(frames: _Frames, own: Collection[str]) -> str:
    """`frames` as text, the outermost first, without the files `own`."""
    frames = [x for x in frames if x[0].f_code.co_filename not in own]
    stack = traceback.StackSummary.extract(iter(frames))
    _name_files(stack, frames)
    return "".join(stack.format())


def _name_files(stack: traceback.StackSummary, frames: _Frames) -> None:
    for i, (frame, line) in enumerate(frames):
        file = dict.get(frame.f_globals, "__file__")  # the electron's, so of any type
        if frame.f_code.co_filename == _NAMELESS and type(file) is str and i < len(stack):
            # No line of source: the file of this name here, if there is one, is another.
            stack[i] = traceback.FrameSummary(file, line, frame.f_code.co_name, line="")
