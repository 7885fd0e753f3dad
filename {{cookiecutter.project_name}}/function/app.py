"""What runs inside Lambda: one electron an invocation.

    event ─► Request ─► versions ─► blobs ─► hooks, function(*args, **kwargs), hooks ─► pickle
             checked    compared   verified  captured, watched                            │
    answer ◄──────────────────────────── Response: result or failure, streams, usage ◄────┘

It does what Covalent's `wrapper_fn` does to the same serialized parts, without importing
Covalent, which costs seconds of CPU in a cold environment; the user's own pickles import it if
they need it. The user's code runs in this process and in its main thread, so that what it
imports stays warm for the next task.
"""

import contextlib
import importlib
import json
import logging
import os
import platform
import resource
import sys
import time
import traceback
from types import FrameType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import cloudpickle

import task_guard as guard
import task_traceback
import wire
from task_storage import WORK, Storage
from task_streams import Capture, Clipped

_SHOWN = 100_000  # characters of a value's text that are kept for Covalent's UI
_SAID = 100_000  # bytes of an exception's message, and of its traceback
_FILES = "files"  # Covalent's keyword for transferred files: always a list
_PIP_TARGET = os.path.join(WORK, "covalent-packages")
_OWN = (__file__, guard.__file__)

_cold = True
_storage: Optional[Storage] = None


class _Output(NamedTuple):
    """A return value, pickled, as text, and what Covalent keeps of its attributes."""

    data: bytes
    text: str
    attrs: Dict[str, Optional[str]]


class _Failed(Exception):
    """Carries a failure from where it happened to the answer."""

    def __init__(self, failure: wire.Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def handler(event: Any, context: Any) -> Dict[str, Any]:
    """Lambda's entry point.

    Args:
        event: `Request.to_json()`, or a ping: `{"covalent_lambda": 1, "ping": true}`.
        context: Lambda's context object.

    Returns:
        `Response.to_json()`, or the ping's answer. Nothing is raised: what the task raised is in
        the answer.
    """
    global _cold
    cold, _cold = _cold, False
    started = time.monotonic()
    if wire.is_envelope(event) and event.get("ping"):
        return _ping(context)
    try:
        request = wire.Request.from_json(event)
    except (ValueError, TypeError, AttributeError) as error:
        message = f"The event is not one that this function runs: {error}"
        failure = wire.Failure(kind=wire.PROTOCOL_DIFFERS, message=message)
        return _response(context, started, cold, failure=failure).to_json()
    return _Invocation(request, context, started, cold).answer()


class _Invocation:
    """One request on its way to its response."""

    def __init__(self, request: wire.Request, context: Any, started: float, cold: bool) -> None:
        self.request, self.context, self.started, self.cold = request, context, started, cold
        self.storage = _storage_of(request.bucket)
        self.streams = Capture()

    def answer(self) -> Dict[str, Any]:
        _prepare_environment()
        guard.start()
        with _environment_kept(), self.streams, _logging_as_at_home():
            produced = self._run()
        self.storage.settle()
        try:
            fields = self._fitted(produced) if isinstance(produced, _Output) else {}
        except _Failed as failed:
            produced = failed.failure
        if isinstance(produced, wire.Failure):
            fields = {"failure": produced}
        answer = self._response(**fields).to_json()
        if time.monotonic() - self.started >= wire.LEAVE_OUTCOME_AFTER:
            self._leave(answer)
        return answer

    def _run(self) -> Union[_Output, wire.Failure]:
        try:
            _check_python(self.request)
            with guard.watching(self._orders()):
                return _pickled(_Parts(self.request, self.storage).call())
        except _Failed as failed:
            return failed.failure
        except guard.Stopped as stop:
            return wire.Failure(
                kind=_KINDS[stop.reason],
                message=_MESSAGES[stop.reason],
                traceback=_stood(traceback.walk_tb(stop.__traceback__)),
            )

    def _orders(self) -> guard.Orders:
        left = self.context.get_remaining_time_in_millis() / 1000
        seconds = left - min(guard.MARGIN, 0.1 * left)
        if self.request.limit is not None:
            seconds = min(seconds, self.request.limit)
        return guard.Orders(
            seconds=seconds,
            bucket=self.request.bucket,
            cancel_key=wire.task_key(self.request.task_id, wire.CANCEL),
            outcome_key=wire.task_key(self.request.task_id, wire.OUTCOME),
            last_words=self._last_words,
        )

    def _last_words(self, reason: str, stack: Optional[FrameType]) -> bytes:
        stood = _stood(reversed(list(traceback.walk_stack(stack)))) if stack else ""
        failure = wire.Failure(kind=_KINDS[reason], message=_MESSAGES[reason], traceback=stood)
        return self._sealed(self._response(failure=failure).to_json())

    def _sealed(self, answer: Dict[str, Any]) -> bytes:
        return wire.seal(json.dumps(answer), self.request.key)

    def _response(self, **fields: Any) -> wire.Response:
        fields.update(stdout=self.streams.stdout, stderr=self.streams.stderr)
        return _response(self.context, self.started, self.cold, **fields)

    def _fitted(self, output: "_Output") -> Dict[str, Any]:
        """The response's fields for `output`, its large parts put into S3 to fit the limit."""
        room = wire.PAYLOAD_LIMIT - wire.PAYLOAD_MARGIN
        room -= sum(len(json.dumps(x)) for x in (self.streams.stdout, self.streams.stderr))
        text: wire.Part = output.text
        # The text is nearly always short; where it is not, the data is rarely shorter.
        if len(output.text) > room // 8:
            text = self._store(wire.RESULT_TEXT, output.text.encode())
        else:
            room -= len(json.dumps(output.text))
        fits = 4 * len(output.data) // 3 + 4 <= room
        result: wire.Part = (
            wire.encode(output.data) if fits else self._store(wire.RESULT, output.data)
        )
        return {"result": result, "text": text, "attrs": output.attrs}

    def _store(self, name: str, data: bytes) -> wire.Blob:
        try:
            if not self.storage.bucket:
                raise ValueError("the executor named no bucket (s3_bucket_name is empty)")
            return self.storage.store(wire.task_key(self.request.task_id, name), data)
        except Exception as error:
            message = (
                f"The electron ran, but its result of {len(data)} bytes is larger than a Lambda "
                f"response may be, and could not be stored in bucket {self.storage.bucket!r}: "
                f"{error}"
            )
            raise _Failed(wire.Failure(kind=wire.RESULT_LOST, message=message)) from error

    def _leave(self, answer: Dict[str, Any]) -> None:
        if not self.storage.bucket:
            return
        key = wire.task_key(self.request.task_id, wire.OUTCOME)
        try:
            self.storage.leave(key, self._sealed(answer))
        except Exception as error:  # the answer itself is still on its way
            print(f"[covalent] cannot store the outcome as {key}: {error}", file=sys.stderr)


class _Parts:
    """The electron's parts: fetched and verified all, then unpickled one after the other."""

    def __init__(self, request: wire.Request, storage: Storage) -> None:
        self._storage = storage
        self._function = self._bytes(request.function)
        self._args = [self._bytes(x) for x in request.args]
        self._kwargs = {k: self._bytes(x) for k, x in request.kwargs.items()}
        self._before = [self._hook(x) for x in request.before]
        self._after = [self._hook(x) for x in request.after]

    def call(self) -> Any:
        """Run hooks, function and hooks; the return value is the function's."""
        values: Dict[str, List[Any]] = {}
        for function, args, kwargs, keyword in self._before:
            value = self._call_hook(function, args, kwargs)
            if keyword:
                values.setdefault(keyword, []).append(value)
        importlib.invalidate_caches()  # a hook may have installed packages
        function = _load(self._function, "the electron's function")
        args = [_load(x, f"argument {i}") for i, x in enumerate(_drained(self._args))]
        kwargs = {k: _load(self._kwargs.pop(k), f"argument {k!r}") for k in list(self._kwargs)}
        # A list only where several hooks fill the same keyword, and for files always.
        kwargs.update({k: v if len(v) > 1 or k == _FILES else v[0] for k, v in values.items()})
        with _failing_as(wire.EXCEPTION):
            output = function(*args, **kwargs)
        for after, after_args, after_kwargs, _ in self._after:
            self._call_hook(after, after_args, after_kwargs)
        return output

    @staticmethod
    def _call_hook(function: bytes, args: bytes, kwargs: bytes) -> Any:
        call = _load(function, "a hook (DepsPip, DepsBash, DepsCall)")
        call_args, call_kwargs = (
            _load(args, "a hook's arguments"),
            _load(kwargs, "a hook's kwargs"),
        )
        with _failing_as(wire.EXCEPTION):
            return call(*call_args, **call_kwargs)

    def _hook(self, hook: wire.Hook) -> Tuple[bytes, bytes, bytes, str]:
        function, args, kwargs, keyword = hook
        return self._bytes(function), self._bytes(args), self._bytes(kwargs), keyword

    def _bytes(self, part: wire.Part) -> bytes:
        if isinstance(part, str):
            return _decoded(part)
        try:
            return self._storage.fetch(part)
        except wire.DigestMismatch as error:
            raise _Failed(wire.Failure(kind=wire.BLOB_TAMPERED, message=str(error))) from error
        except Exception as error:
            answer: Any = getattr(error, "response", None) or {}
            missing = answer.get("Error", {}).get("Code") in ("NoSuchKey", "404")
            kind = wire.BLOB_MISSING if missing else wire.STORAGE
            message = (
                f"The function cannot read {part.key} of bucket {self._storage.bucket}: {error}"
            )
            raise _Failed(wire.Failure(kind=kind, message=message)) from error


def _drained(parts: List[bytes]) -> Iterator[bytes]:
    """Each part, and no longer kept: the task may need the memory."""
    while parts:
        yield parts.pop(0)


def _decoded(part: str) -> bytes:
    try:
        return wire.decode(part)
    except ValueError as error:
        message = f"A part of the envelope is not base64: {error}"
        raise _Failed(wire.Failure(kind=wire.PROTOCOL_DIFFERS, message=message)) from error


def _ping(context: Any) -> Dict[str, Any]:
    return {
        wire.MARK: wire.PROTOCOL,
        "status": "ok",
        "python": platform.python_version(),
        "cloudpickle": cloudpickle.__version__,
        "covalent": _version("covalent"),
        "boto3": _version("boto3"),
        "architecture": platform.machine(),
        "memory_mb": int(context.memory_limit_in_mb),
    }


def _version(package: str) -> Optional[str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _storage_of(bucket: str) -> Storage:
    global _storage
    if _storage is None or _storage.bucket != bucket:
        _storage = Storage(bucket)
    return _storage


def _response(context: Any, started: float, cold: bool, **fields: Any) -> wire.Response:
    usage = wire.Usage(
        request_id=context.aws_request_id,
        duration=round(time.monotonic() - started, 4),
        memory_mb=int(context.memory_limit_in_mb),
        max_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        cold=cold,
        architecture=platform.machine(),
    )
    return wire.Response(
        python=platform.python_version(),
        cloudpickle=cloudpickle.__version__,
        usage=usage,
        **fields,
    )


def _check_python(request: wire.Request) -> None:
    here = platform.python_version()
    if wire.minor(request.python) == wire.minor(here):
        return
    message = (
        f"The electron was pickled by Python {request.python}, the function runs Python {here}: "
        "pickled code does not carry over between them, and nothing of it was unpickled. Either "
        f"run the workflow with Python {wire.minor(here)}, or generate the project again with "
        f"python_version {wire.minor(request.python)} and deploy it."
    )
    raise _Failed(wire.Failure(kind=wire.PYTHON_DIFFERS, message=message))


def _pickled(output: Any) -> _Output:
    with _failing_as(wire.UNPICKLABLE):
        data = cloudpickle.dumps(output)
        attrs = {"doc": getattr(output, "__doc__", ""), "name": getattr(output, "__name__", "")}
        plain = {k: _clean(v) if isinstance(v, str) else None for k, v in attrs.items()}
        return _Output(data, _clean(_text(output)), plain)


def _clipped(text: str) -> str:
    """`text` in a length that leaves room in the answer, its head and tail kept."""
    clipped = Clipped(_SAID // 2, _SAID // 2)
    clipped.add(_clean(text).encode())
    return clipped.text()


def _clean(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def _prepare_environment() -> None:
    os.environ["HOME"] = WORK
    os.chdir(WORK)
    # What DepsPip installs must land where one may write, and be importable.
    os.environ.update(PIP_TARGET=_PIP_TARGET, PIP_NO_CACHE_DIR="1", PIP_UPGRADE="1")
    os.makedirs(_PIP_TARGET, exist_ok=True)  # Python remembers that a folder was missing
    if _PIP_TARGET not in sys.path:
        sys.path.insert(0, _PIP_TARGET)


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what a task does to the environment: the next one may be somebody else's."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if os.environ != before:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _logging_as_at_home() -> Iterator[None]:
    """Let `logging` behave as in a fresh interpreter, so that its records reach stderr.

    Lambda's runtime puts a handler on the root logger that writes past descriptors 1 and 2.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _load(data: bytes, what: str) -> Any:
    """Unpickle `data`, whose digest was checked or which came with the signed request."""
    try:
        return cloudpickle.loads(data)
    except guard.Stopped:
        raise
    except BaseException as error:
        message = f"The function cannot unpickle {what}: {_exception_text(error)}"
        raise _Failed(_failure(wire.CANNOT_LOAD, error, message)) from error


@contextlib.contextmanager
def _failing_as(kind: str) -> Iterator[None]:
    """Turn what the body raises into a failure of `kind`."""
    try:
        yield
    except (_Failed, guard.Stopped):
        raise
    except SystemExit as error:
        message = f"The electron called sys.exit({_exit_code(error)})."
        raise _Failed(_failure(wire.EXIT, error, message)) from error
    except BaseException as error:
        _show_output_of_command(error)
        raise _Failed(_failure(kind, error, _exception_text(error))) from error


def _exit_code(error: SystemExit) -> str:
    try:
        return repr(error.code)
    except Exception:
        return object.__repr__(error.code)


def _show_output_of_command(error: BaseException) -> None:
    """Print what a failed command said: Covalent's DepsPip captures it and lets it go."""
    import subprocess  # here, as few tasks need it and a cold start is billed

    if not isinstance(error, subprocess.CalledProcessError):
        return
    for output in (error.stdout, error.stderr):
        if output:
            text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
            print(text, file=sys.stderr)


def _failure(kind: str, error: BaseException, message: str) -> wire.Failure:
    return wire.Failure(
        kind=kind,
        type=_qualified(type(error)),
        message=_clipped(message),
        traceback=_traceback(error),
    )


def _traceback(error: BaseException) -> str:
    try:
        return _clipped(task_traceback.of_error(error, own=_OWN))
    except Exception as broken:  # what is read of the error may be the electron's own code
        return f"<the traceback cannot be told: {type(broken).__name__}>\n"


def _stood(frames: Iterable[Tuple[FrameType, int]]) -> str:
    return _clipped(task_traceback.of_place(frames, own=_OWN))


def _qualified(cls: type) -> str:
    return (
        cls.__qualname__
        if cls.__module__ == "builtins"
        else f"{cls.__module__}.{cls.__qualname__}"
    )


def _exception_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<its str() raised {type(broken).__name__}>"


def _text(output: Any) -> str:
    """`str(output)`, as Covalent shows it. Sublattices travel as this text of a string, so that
    is never cut; the text of other large values is not worth its own megabytes."""
    try:
        # Bytes take up to four characters each: 200 MB would take 800 only to be cut.
        text = str(output[:_SHOWN] if isinstance(output, (bytes, bytearray)) else output)
    except Exception:
        text = object.__repr__(output)
    if isinstance(output, str) or len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]} [... the rest is cut ...]"


_KINDS: Mapping[str, str] = {
    guard.DEADLINE: wire.DEADLINE,
    guard.CANCELLED: wire.CANCELLED,
}
_MESSAGES: Mapping[str, str] = {
    guard.DEADLINE: "The electron was stopped at its deadline.",
    guard.CANCELLED: "The electron was cancelled while it ran.",
}
