"""Many calls of one function in a task's process, one after the other, and a fan-out's split.

Processes that share a batch take turns: each reads the number of its next call from a file, whose
position they share. One that dies leaves the other turns to its neighbours.

    frames with arguments ──► call ──► frames with what became of it, written at once
                                       (a process that dies takes nothing of them along)

A call that fails does not hurt the next one. Before each, a mark is written to both streams, so
that the parent can tell whose output is whose, that of subprocesses included.
"""

import array
import base64
import fcntl
import json
import os
import sys
import time
from typing import Any, Callable, Dict, Iterator, Optional, Tuple, Type

import cloudpickle

import wire

# Bound here, as a call may replace what a module holds under these names.
_dumps, _loads, _read, _write = cloudpickle.dumps, cloudpickle.loads, os.read, os.write
_lock, _time = fcntl.lockf, time.time
_TURN = array.array("I").itemsize
_LARGEST_EXCEPTION = 1024 * 1024  # bytes of a pickled exception that travel

Described = Callable[[BaseException], Tuple[str, str, str]]  # type, message, traceback


class Calls:
    """The calls of a batch.

    Args:
        function: of all of them.
        shared: keyword arguments that each gets beside its own.
        mark: what separates their output.
        passing: exceptions that are not a call's own, but end all.
        described: tells what is said of an exception.
    """

    def __init__(
        self,
        function: Any,
        shared: Dict[str, Any],
        mark: str,
        passing: Tuple[Any, ...],
        described: Described,
    ) -> None:
        self._function, self._shared, self._mark = function, shared, mark
        self._passing, self._described = passing, described

    def run(self, frames: bytes, answer: int, turns: Optional[int]) -> None:
        """Run them all, or those whose turn is this process's.

        Args:
            frames: their arguments.
            answer: the descriptor that takes what became of them.
            turns: the descriptor of the file that says whose turn it is.
        """
        for item in _taking_turns(frames, turns):
            _write_all(answer, _now(wire.BEGUN, item))
            # At once, as the next turn may be waited for.
            _write_all(answer, self._ending(item).to_bytes() + _now(wire.ENDED, item))
        self._separate(wire.NO_CALL)

    def _ending(self, item: wire.Frame) -> wire.Frame:
        self._separate(item.number)
        try:
            args, kwargs = _loads(item.data)
            value = self._function(*args, **self._shared, **kwargs)
            try:
                return wire.Frame(wire.VALUE, item.number, _dumps(value))
            except Exception as error:
                said = f"The call ran, but its return value cannot be pickled: {error}"
                raise TypeError(said) from error
        except self._passing:
            raise
        except BaseException as error:
            return wire.Frame(wire.RAISED, item.number, self._raised(error).to_bytes())

    def _raised(self, error: BaseException) -> wire.Raised:
        kind, message, traceback = self._described(error)
        return wire.Raised(kind, message, traceback, _pickled(error, self._passing))

    def _separate(self, number: int) -> None:
        for file in (sys.stdout, sys.stderr):
            try:
                file.flush()
            except Exception:
                pass  # a call closed or replaced it
        for fd in (1, 2):
            try:
                _write(fd, f"\0{self._mark}:{number}\0".encode())
            except OSError:
                pass  # a call closed it


def _now(kind: int, item: wire.Frame) -> bytes:
    return wire.Frame(kind, item.number, wire.moment(_time())).to_bytes()


def _taking_turns(frames: bytes, turns: Optional[int]) -> Iterator[wire.Frame]:
    if turns is None:
        yield from wire.read_frames(frames)
        return
    items = list(wire.read_frames(frames))
    while True:
        # Processes that read a memfd at a time may read the same bytes: unlike other files, Linux
        # does not lock its position. The lock is a process's own, and ends with it.
        _lock(turns, fcntl.LOCK_EX)
        turn = _read(turns, _TURN)
        _lock(turns, fcntl.LOCK_UN)
        if len(turn) < _TURN:
            return
        yield items[int.from_bytes(turn, sys.byteorder)]


def _pickled(error: BaseException, passing: Tuple[Type[BaseException], ...]) -> Optional[str]:
    """The exception as base64 of its pickle; None if it cannot be had, or not be opened.

    Args:
        error: it.
        passing: what ends the batch, if it is raised meanwhile.
    """
    try:
        data = _dumps(error)
        if len(data) > _LARGEST_EXCEPTION:
            return None
        _loads(data)  # one whose __init__ asks for other arguments would spoil the whole result
    except passing:
        raise
    except BaseException:
        return None
    return base64.b64encode(data).decode()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[_write(fd, view) :]


def mark_of(function: Any) -> Optional[Dict[str, Any]]:
    """What `fan_out` has left on a function; None if it is not marked."""
    try:
        mark = vars(function).get(wire.FAN_OUT)
    except Exception:  # it has no attributes, or odd ones
        return None
    return mark if isinstance(mark, dict) else None


def spread(mark: Dict[str, Any], args: Any, kwargs: Any) -> bytes:
    """The frames of a fan-out's items.

    Args:
        mark: what `fan_out` has left.
        args, kwargs: of the whole.
    """
    items, shared = mark["split"](args, kwargs)
    frames = [
        wire.Frame(wire.FUNCTION, 0, _dumps(mark["function"])),
        wire.Frame(wire.SHARED, 0, _dumps(shared)),
        wire.Frame(wire.OPTIONS, 0, json.dumps(mark["options"]).encode()),
    ]
    frames += [wire.Frame(wire.ITEM, i, _dumps(item)) for i, item in enumerate(items)]
    return b"".join(frame.to_bytes() for frame in frames)
