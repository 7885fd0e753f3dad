"""The envelope that the executor and the function exchange: fields, limits and checks. No I/O.

    executor                               Lambda
    Request or Batch ─ to_json ─►  from_json ─►  app.handler
    Response ◄─────── from_json ─  to_json  ◄──  app.handler

A *part* is one pickled object (the electron's function, an argument, a hook, the result). It
travels inline, as base64 text (Covalent's own form: nothing is pickled twice), or as a `Blob`:
the S3 key of its raw bytes with their size and sha256, so that no byte is unpickled before its
digest was compared.

This file is shared by both sides and runs on Python 3.8 and later with the standard library only.
It imports hashlib and hmac when it needs them: OpenSSL would be a twentieth of a cold start's
imports, and a part of each process that the function forks.
"""

import base64
import json
import struct
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import lru_cache
from math import isfinite
from typing import (
    Any,
    Callable,
    Dict,
    Final,
    FrozenSet,
    Iterator,
    List,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

PROTOCOL = 2
_HEX = frozenset("0123456789abcdef")
MARK = "covalent_lambda"  # the key that every envelope carries, with the protocol's number

# Bytes of one synchronous request or response:
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAYLOAD_LIMIT = 6 * 1024 * 1024
# What the envelope itself may need beside its parts: names, headers, JSON punctuation.
PAYLOAD_MARGIN = 256 * 1024

BLOB_PREFIX = "blobs/"  # written by the executor, read by the function
TASK_PREFIX = "tasks/"  # one folder for each attempt of each call
# Written by the executor while the call runs; the function looks for it once a second.
ORDER: Final = "order"
# Written by the function, read by the executor.
RUNNING: Final = "running"
OUTCOME: Final = "outcome"
RESULT: Final = "result"
RESULT_TEXT: Final = "result-text"
# All that may lie in the folder of an attempt.
TaskObject = Literal["order", "running", "outcome", "result", "result-text"]

# What an order says. CANCEL: stop the call. REPORT, followed by a space and a number: the
# connection is lost. The function then stores `seal(order, key)` as RUNNING within two seconds, so
# that the executor knows that the call runs, and in the end its answer as OUTCOME.
CANCEL, REPORT = "cancel", "report"

# Begins the line that the function writes to its log before a call, followed by the `task_id`.
RUNS = "runs "

# A task that ran this many seconds leaves its answer in S3 as well: an idle connection may have
# been dropped by then (NAT gateways do so after 350 s), and the work must not be lost.
LEAVE_OUTCOME_AFTER = 20.0


# The attribute of a function that runs for each item of a list (`fan_out`): a dictionary with
# `function` (what runs for one item), `split` (takes the arguments apart) and `options`.
FAN_OUT = "__covalent_lambda_fan_out__"


class EnvelopeError(ValueError):
    """An event or a response that is no valid envelope; the message says which field is wrong."""


class DigestMismatch(ValueError):
    """The bytes in S3 are not those that were stored: their digest differs."""


@dataclass(frozen=True)
class Blob:
    """Where the raw bytes of a part lie: S3 key, size in bytes, sha256 in hexadecimal.

    Raises:
        EnvelopeError: if size or digest cannot be one; the digest also names files.
    """

    key: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.sha256) != 64 or not set(self.sha256) <= _HEX:
            raise EnvelopeError(f"{self.key} is said to have {self.size} bytes and no sha256")

    def check_size(self, size: int) -> None:
        """Raise DigestMismatch if `size` bytes are not what was stored under this blob."""
        if size != self.size:
            raise DigestMismatch(
                f"S3 object {self.key} has {size} bytes, expected {self.size}. Nothing of it was "
                "unpickled. Somebody changed the object, or the upload was damaged."
            )

    def verified(self, data: bytes) -> bytes:
        """Return `data` if it is what was stored under this blob.

        Raises:
            DigestMismatch: if it is not, naming the key and both digests.
        """
        self.check_size(len(data))
        self.check_digest(digest(data))
        return data

    def check_digest(self, sha256: str) -> None:
        """Raise DigestMismatch if `sha256` is not that of what was stored under this blob."""
        if sha256 != self.sha256:
            raise DigestMismatch(
                f"S3 object {self.key} has the sha256 {sha256}, expected {self.sha256}. Nothing "
                "of it was unpickled. Somebody changed the object, or the upload was damaged."
            )


Part = Union[str, Blob]
Hook = Tuple[Part, Part, Part, str]  # function, args, kwargs, name of the keyword it fills


def digest(data: bytes) -> str:
    """sha256 of `data` in hexadecimal."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


class Sha256:
    """The sha256 of bytes that come piece by piece: a thread hashes one while the next one comes.

    with Sha256() as digest:
        for piece in pieces:
            digest.update(piece)
    digest.hexdigest()
    """

    def __init__(self) -> None:
        import hashlib
        from concurrent.futures import Future, ThreadPoolExecutor  # small parts need no thread

        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._hashing: Optional[Future[None]] = None

    def __enter__(self) -> "Sha256":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def update(self, piece: Union[bytes, bytearray]) -> None:
        """Hash one more piece, once the one before is done: no more than two are kept."""
        self._wait()
        self._hashing = self._thread.submit(self._digest.update, piece)

    def hexdigest(self) -> str:
        """The digest of all pieces, in hexadecimal."""
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()


def blob(data: bytes, *, key: str = "") -> Blob:
    """Describe `data` as a blob under `key` (default: its content address)."""
    sha256 = digest(data)
    return Blob(key=key or BLOB_PREFIX + sha256, size=len(data), sha256=sha256)


def seal(text: str, key: str) -> bytes:
    """`text` with a digest that only holders of `key` can make.

    An outcome is read back from S3 without anybody having named its digest before. The key
    travels in the signed request, so that whoever can write to the bucket cannot forge one.
    """
    return f"{_hmac(text, key)}\n{text}".encode()


def unseal(data: bytes, key: str) -> str:
    """The text of `seal`.

    Raises:
        DigestMismatch: if it was not sealed with `key`.
    """
    import hmac

    mac, _, text = data.decode("utf-8", "replace").partition("\n")
    if not hmac.compare_digest(mac.encode(), _hmac(text, key).encode()):
        raise DigestMismatch("the object was not written by the function that ran the task")
    return text


def _hmac(text: str, key: str) -> str:
    import hmac

    return hmac.digest(key.encode(), text.encode(), "sha256").hex()


def encode(data: bytes) -> str:
    """Base64 text of `data`: an inline part."""
    return base64.b64encode(data).decode("ascii")


def decode(part: str) -> bytes:
    """Raw bytes of an inline part."""
    return base64.b64decode(part)


def task_key(task_id: str, name: TaskObject) -> str:
    """S3 key of what is kept for one attempt of one electron."""
    return f"{TASK_PREFIX}{task_id}/{name}"


def minor(version: str) -> str:
    """`3.11` of `3.11.7`: pickled code runs only on the same minor version of Python."""
    return ".".join(version.split(".")[:2])


class _Record:
    """What has fields.

    A dataclass would compile these methods for each class, in each cold start: half of the time
    that the import of this module took.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __repr__(self) -> str:
        shown = [f"{x.name}={getattr(self, x.name)!r}" for x in fields(self) if x.repr]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


class _Event(_Record):
    """What is sent to the function."""

    def to_json(self) -> str:
        """The event, as JSON text."""
        said = {**vars(self), MARK: PROTOCOL}
        return json.dumps(said, default=asdict, separators=(",", ":"))  # default: of blobs


@dataclass(repr=False, eq=False)
class Request(_Event):
    """One electron to run.

    Args:
        task_id: names this attempt; the folder below `tasks/`. The answer repeats it.
        key: seals what this attempt leaves in S3; random, and known to nobody else.
        python, cloudpickle: versions that pickled the electron's function.
        bucket: where blobs lie; empty when there is none.
        limit: seconds the task may take; None: only Lambda's own timeout.
        function: the electron's function.
        args, kwargs: its arguments.
        before, after: Covalent's hooks (deps), in order.
    """

    task_id: str
    key: str = field(repr=False)
    python: str
    cloudpickle: str
    function: Part
    args: List[Part] = field(default_factory=list)
    kwargs: Dict[str, Part] = field(default_factory=dict)
    before: List[Hook] = field(default_factory=list)
    after: List[Hook] = field(default_factory=list)
    bucket: str = ""
    limit: Optional[float] = None

    @staticmethod
    def from_json(event: Mapping[str, Any]) -> "Request":
        """Read an event.

        Raises:
            EnvelopeError: if it is of another protocol, or a field is missing, unknown or
                malformed.
        """
        request: Request = read_as(_unmarked(event), Request, "the envelope")
        return request


@dataclass(repr=False, eq=False)
class Batch(_Event):
    """Calls of one function in one request: they share a process, or a few.

    The answer's `result` is a series of frames (see `Frame`), also where it has a failure: then
    the calls that have begun and not ended are those that failed, and those that have not begun
    certainly did not run.

    Args:
        task_id, key, python, cloudpickle, bucket, limit: as those of a `Request`.
        function: the function of all calls.
        calls: frames of kind ITEM, one for each call, whose numbers are the caller's own.
        count: how many calls there are.
        shared: a pickled dictionary of keyword arguments that each call gets beside its own.
        setup: a pickled `(function, args)`, called once in each environment before the first call;
            what it leaves in its process is there for each of them.
        before: hooks to run before the calls.
        processes: how many calls run at a time, each in a process that runs many.
    """

    task_id: str
    key: str = field(repr=False)
    python: str
    cloudpickle: str
    function: Part
    calls: Part
    count: int
    shared: Optional[Part] = None
    setup: Optional[Part] = None
    before: List[Hook] = field(default_factory=list)
    processes: int = 1
    bucket: str = ""
    limit: Optional[float] = None

    @staticmethod
    def from_json(event: Mapping[str, Any]) -> "Batch":
        """Read an event.

        Raises:
            EnvelopeError: if it is of another protocol, or a field is missing, unknown or
                malformed.
        """
        batch: Batch = read_as(_unmarked(event), Batch, "the envelope")
        for name in ("count", "processes"):
            if getattr(batch, name) < 1:
                raise EnvelopeError(f"{name} is {getattr(batch, name)!r}, expected 1 or more")
        return batch


def is_batch(event: Mapping[str, Any]) -> bool:
    """Whether an envelope is a `Batch`, not a `Request`."""
    return "calls" in event


class Frame(NamedTuple):
    """One of the pieces that a stream of bytes is made of.

    Args:
        kind: one of the constants below.
        number: of the call, from 0 on.
        data: what it carries.
    """

    kind: int
    number: int
    data: bytes

    def to_bytes(self) -> bytes:
        """The frame with its header."""
        return _FRAME.pack(self.kind, self.number, len(self.data)) + self.data


_FRAME = struct.Struct("<BIQ")  # kind, number, bytes that follow

# Of a batch's calls, and of a spread:
ITEM = 8  # the pickled `(args, kwargs)` of one call
# Of a batch's result:
BEGUN = 1  # the call has begun; carries a moment
VALUE = 2  # its pickled return value
RAISED = 3  # what it raised: a `Raised` as JSON
STDOUT, STDERR = 4, 5  # what it wrote, as UTF-8; only where it wrote anything
ENDED = 10  # the call has ended; carries a moment
# The number that stands for none of the calls.
NO_CALL = 0xFFFFFFFF
# Of a spread (see `Response.spread`):
FUNCTION = 6  # the pickled function of one item
SHARED = 7  # a pickled dictionary of the keyword arguments that all items share
OPTIONS = 9  # what `fan_out` was told, as JSON

_MOMENT = struct.Struct("<d")


def moment(seconds: float) -> bytes:
    """A time, in seconds since 1970, as a frame carries it."""
    return _MOMENT.pack(seconds)


def moment_of(data: bytes) -> Optional[float]:
    """The time that a frame carries; None if it carries none."""
    if len(data) != _MOMENT.size:
        return None
    (seconds,) = _MOMENT.unpack(data)
    return float(seconds) if isfinite(seconds) else None


def read_frames(data: bytes) -> Iterator[Frame]:
    """The frames that `data` is made of.

    Raises:
        EnvelopeError: if it ends in the middle of one.
    """
    position = 0
    while position < len(data):
        start = position + _FRAME.size
        if start > len(data):
            raise EnvelopeError(f"a frame's header is cut off at byte {position}")
        kind, number, size = _FRAME.unpack_from(data, position)
        position = start + size
        if position > len(data):
            raise EnvelopeError(f"a frame of {size} bytes is cut off at byte {start}")
        yield Frame(kind, number, data[start:position])


def frames_of(part: str) -> Iterator[Frame]:
    """The frames that an inline part is made of.

    Raises:
        EnvelopeError: if it is no base64, or ends in the middle of a frame.
    """
    try:
        data = decode(part)
    except ValueError as error:
        raise EnvelopeError(f"a part is not base64: {error}") from error
    return read_frames(data)


def whole_frames(read: Callable[[int, int], bytes], size: int) -> int:
    """How many bytes of a file are whole frames: whoever wrote them may have been interrupted.

    Args:
        read: reads as many bytes of it as the first number says, from the second one on.
        size: of the file, in bytes.
    """
    end = 0
    while end + _FRAME.size <= size:
        header = read(_FRAME.size, end)
        if len(header) < _FRAME.size:
            break
        following = end + _FRAME.size + int(_FRAME.unpack(header)[2])
        if following > size:
            break
        end = following
    return end


@dataclass(repr=False, eq=False)
class Raised(_Record):
    """What a call of a batch raised.

    Args:
        type: qualified name of the exception's class.
        message: its text.
        traceback: the remote traceback as text, chained causes included.
        exception: the pickled exception as base64; None if it cannot be pickled.
    """

    type: str
    message: str
    traceback: str
    exception: Optional[str] = None

    def to_bytes(self) -> bytes:
        """It as a frame carries it."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_bytes(data: bytes) -> "Raised":
        """Read what `to_bytes` wrote.

        Raises:
            EnvelopeError: if it is something else.
        """
        raised: Raised = read_as(loads(data), Raised, "what a call raised")
        return raised


@dataclass(repr=False, eq=False)
class Failure(_Record):
    """Why there is no result.

    Args:
        kind: one of the constants below.
        type: qualified name of the exception's class.
        message: its text.
        traceback: the remote traceback as text, chained causes included.
    """

    kind: str
    message: str
    type: str = ""
    traceback: str = ""


# Nothing of the electron ran:
PROTOCOL_DIFFERS = "protocol"
PYTHON_DIFFERS = "python"
BLOB_MISSING = "blob-missing"
BLOB_TAMPERED = "blob-tampered"
STORAGE = "storage"  # S3 refused the function something
STORAGE_BUSY = "storage-busy"  # S3 was slow or failed for now: the call may be sent again
ENVIRONMENT = "environment"  # the function's environment is unfit (no process, no room in /tmp)
CANNOT_LOAD = "cannot-load"  # the pickles ask for what the image lacks
SETUP_FAILED = "setup-failed"  # what was to prepare the environment for a batch
DID_NOT_RUN = frozenset(
    [
        PROTOCOL_DIFFERS,
        PYTHON_DIFFERS,
        BLOB_MISSING,
        BLOB_TAMPERED,
        STORAGE,
        STORAGE_BUSY,
        ENVIRONMENT,
        CANNOT_LOAD,
        SETUP_FAILED,
    ]
)
# The electron ran, at least in part:
EXCEPTION = "exception"
EXIT = "exit"
UNPICKLABLE = "unpicklable-result"
RESULT_LOST = "result-lost"  # it could not be stored
CRASHED = "crashed"  # its process ended: os._exit, a signal, a crash in a C extension
OUT_OF_MEMORY = "out-of-memory"  # its process was killed for want of memory
DEADLINE = "deadline"
CANCELLED = "cancelled"


@dataclass(repr=False, eq=False)
class Usage(_Record):
    """What one invocation took, as the function itself saw it.

    Args:
        request_id: Lambda's name for the invocation.
        duration: seconds in the handler.
        memory_mb: configured memory in MB.
        max_memory_mb: peak resident memory of the function's processes in MB.
        cold: whether this was the environment's first invocation.
        architecture: the processor's, as `platform.machine()` says.
        started: when the handler began, in seconds since 1970.
        environment: names the environment, so that its invocations can be told to be its.
    """

    request_id: str = ""
    duration: float = 0.0
    memory_mb: int = 0
    max_memory_mb: int = 0
    cold: bool = False
    architecture: str = ""
    started: float = 0.0
    environment: str = ""


@dataclass(repr=False, eq=False)
class Response(_Record):
    """What became of a request: a result, or a failure, with the captured streams.

    Args:
        result: the pickled return value; None if there is a failure.
        text: `str()` of the return value (Covalent shows it, and reads sublattices from it);
            a blob when large.
        attrs: `doc` and `name` of the return value, for Covalent's header.
        python, cloudpickle: versions that pickled the result.
        stdout, stderr: what the task wrote to file descriptors 1 and 2.
        failure: why there is no result.
        usage: what it took.
        spread: frames with the parts of a fan-out electron's arguments, in place of a result: its
            items are to be run one by one. A blob is stored as `RESULT`.
        task_id: the request's, so that no answer is taken for another request's; empty where the
            event was no request.
    """

    python: str
    cloudpickle: str
    result: Optional[Part] = None
    text: Optional[Part] = None
    attrs: Dict[str, Optional[str]] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""
    failure: Optional[Failure] = None
    usage: Usage = field(default_factory=Usage)
    spread: Optional[Part] = None
    task_id: str = ""

    def to_json(self) -> Dict[str, Any]:
        """The response as a JSON-able dict (the runtime client encodes it)."""
        values = {
            name: asdict(value) if isinstance(value, (Blob, Failure, Usage)) else value
            for name, value in vars(self).items()
        }
        values[MARK] = PROTOCOL
        return values

    @staticmethod
    def from_json(answer: Mapping[str, Any]) -> "Response":
        """Read an answer.

        Raises:
            EnvelopeError: if it is of another protocol, or a field is missing, unknown or
                malformed.
        """
        response: Response = read_as(_unmarked(answer), Response, "the envelope")
        return response


def is_envelope(event: Any) -> bool:
    """Whether `event` claims to be an envelope, of whatever protocol."""
    return isinstance(event, dict) and MARK in event


def on_one_line(said: object) -> str:
    """What somebody else said, for a log: nobody can forge another line, or colour a terminal."""
    return "".join(x if x.isprintable() else repr(x)[1:-1] for x in str(said))


def loads(text: Union[str, bytes]) -> Any:
    """Parse JSON that somebody else wrote.

    Raises:
        EnvelopeError: if it is none, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"it is no JSON: {error}") from error


def object_in(text: Union[str, bytes]) -> Dict[str, Any]:
    """The JSON object that somebody else wrote; an empty one if it is anything else."""
    try:
        value = loads(text)
    except EnvelopeError:
        return {}
    return value if isinstance(value, dict) else {}


def _unmarked(raw: Any) -> Dict[str, Any]:
    """The fields of an envelope of this protocol."""
    if not is_envelope(raw):
        raise EnvelopeError(f"it has no `{MARK}`, so it is not an envelope of this executor")
    if raw[MARK] != PROTOCOL:
        raise EnvelopeError(
            f"the envelope speaks protocol {_shown(raw[MARK])}, this side speaks {PROTOCOL}: the "
            "function and the executor come from different versions of the project. Run "
            "`sam build && sam deploy` and `pip install ./executor` from the same folder."
        )
    return {k: v for k, v in raw.items() if k != MARK}


def read_as(value: Any, kind: Any, name: str) -> Any:
    """`value`, parsed from JSON, as one of the type `kind`; what has another shape is refused.

    Whoever reads an envelope may then rely on its annotations, whoever wrote it.

    Args:
        kind: str, int, float, bool, a dataclass, or List, Dict, Tuple and Union of such.
        name: of the value, for messages.
    """
    origin, inner = _shape_of(kind)
    if origin is Union:
        return _read_union(value, inner, name)
    if origin is list and isinstance(value, list):
        return [read_as(x, inner[0], f"an entry of {name}") for x in value]
    if origin is dict and isinstance(value, dict):
        return {k: read_as(x, inner[1], f"{_shown(k)} of {name}") for k, x in value.items()}
    if origin is tuple and isinstance(value, (list, tuple)) and len(value) == len(inner):
        return tuple(read_as(x, k, f"an entry of {name}") for x, k in zip(value, inner))
    if origin is None and _is_a(value, kind):
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        return _read_fields(value, kind, name)
    raise EnvelopeError(f"{name} is malformed: {_shown(value)}")


def _read_union(value: Any, kinds: Tuple[Any, ...], name: str) -> Any:
    """`value` as the one of several types that its JSON can be."""
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if isinstance(value, dict) == (is_dataclass(kind) or _shape_of(kind)[0] is dict):
            return read_as(value, kind, name)
    raise EnvelopeError(f"{name} is malformed: {_shown(value)}")


def _read_fields(values: Dict[str, Any], kind: Any, name: str) -> Any:
    types, required, taken = _types_of(kind)
    wrong = sorted(values.keys() - types.keys())
    if wrong:
        raise EnvelopeError(f"unknown field(s) in {name}: {', '.join(map(_shown, wrong))}")
    missing = sorted(required - values.keys())
    if missing:
        raise EnvelopeError(f"missing field(s) in {name}: {', '.join(missing)}")
    made = kind(
        **{
            k: v if type(v) in taken[k] else read_as(v, types[k], f"{k} of {name}")
            for k, v in values.items()
        }
    )
    if isinstance(made, Blob) and made.size < 0:
        raise EnvelopeError(f"size of {name} is {_shown(made.size)}")
    return made


@lru_cache(maxsize=None)
def _types_of(kind: Any) -> Tuple[Dict[str, Any], FrozenSet[str], Dict[str, FrozenSet[Any]]]:
    """The fields of a dataclass with their types, those that have no default, and what each takes
    without a further look."""
    required = [
        f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING
    ]
    types = get_type_hints(kind)
    return types, frozenset(required), {name: _taken(of) for name, of in types.items()}


def _taken(kind: Any) -> FrozenSet[Any]:
    """The types of JSON's values of which any is a `kind`: most fields are text."""
    origin, inner = _shape_of(kind)
    kinds = inner if origin is Union else (kind,)
    return frozenset(x for x in kinds if x in (str, bool, type(None)))


@lru_cache(maxsize=None)
def _shape_of(kind: Any) -> Tuple[Any, Tuple[Any, ...]]:
    """`List` of `List[str]`, and `(str,)`; looked up for each value of each answer."""
    return get_origin(kind), get_args(kind)


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a simple type; a number has to be one to reckon with."""
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return abs(value) < 1e15
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 63
    return kind in (str, bool) and isinstance(value, kind)


def _shown(value: Any) -> str:
    simple = isinstance(value, (str, int, float, type(None)))
    text = repr(value) if simple else type(value).__name__
    return text if len(text) <= 100 else f"{text[:100]} […]"
