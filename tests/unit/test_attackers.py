"""Whoever can write to the bucket, or choose a name or a log line, runs and forges nothing."""

import ast
import asyncio
import json
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import aws_server
import cloudpickle
import pytest
from aws_server import AWS, Answer
from calls import call
from covalent._workflow.transportable_object import TransportableObject
from covalent_awslambda_plugin import stock
from electrons import METADATA, covalents, execute, good, made
from function_box import Function, part, request, returned
from lambda_calls import LambdaPoolExecutor, fan_out, usage
from lambda_calls.errors import LambdaCallError
from lambda_calls.session import Process
from secret_keys import SECRET_KEY, SESSION_TOKEN
from template_paths import EXECUTOR, FUNCTION

import wire

T = TypeVar("T", bound=Callable[..., None])

# -- what is read from the bucket ----------------------------------------------------------------

PLANTED: set[str] = set()


def plants(*kinds: str) -> Callable[[T], T]:
    """Say of a test for which kinds of objects it has a pickle planted in the bucket: a part of
    the envelope as `Class.field`, an object of an attempt by its name, one of the stock protocol
    by how it is named."""
    PLANTED.update(kinds)
    return lambda test: test


def kinds_that_are_read() -> set[str]:
    """All of them: parts that may be blobs, as their types say, the objects of an attempt, and
    what the stock protocol leaves."""
    parts = {
        f"{record.__name__}.{name}"
        for record in (wire.Request, wire.Batch, wire.Response)
        for name, of in get_type_hints(record).items()
        if may_be_blob(of)
    }
    return parts | {*get_args(wire.TaskObject), stock.RESULT_FILENAME, stock.EXCEPTION_FILENAME}


def may_be_blob(of: Any) -> bool:
    return of is wire.Blob or any(may_be_blob(x) for x in get_args(of))


def test_a_pickle_is_planted_under_every_key() -> None:
    """Each kind of object that is read has a test below; a new one needs one."""
    assert kinds_that_are_read() == PLANTED


def test_the_bucket_is_read_at_few_places() -> None:
    """What reads objects, in the executor and in the function, is known: each place verifies what
    it reads, or takes no pickle. `Objects.get` is for sealed objects and the stock protocol."""
    found = set()
    for path in [*EXECUTOR.rglob("*.py"), *FUNCTION.rglob("*.py")]:
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(map(reads_bucket, own(function))):
                found.add((path.name, function.name))
    assert found == {
        ("objects.py", "read"),  # of Objects.get
        ("objects.py", "look"),  # of Objects.exists, whose answer it does not read
        ("objects.py", "load"),  # of Objects.fetch, which compares digests
        ("permissions.py", "get"),  # asks for objects that do not exist
        ("task_guard.py", "_order"),  # text
        ("task_storage.py", "fetch"),  # compares digests
    }


def own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """What is in a function, less the functions in it."""
    pending: list[ast.AST] = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if not isinstance(node, ast.FunctionDef):
            yield node
            pending += ast.iter_child_nodes(node)


def reads_bucket(node: ast.AST) -> bool:
    names = "get_object", "download_file", "download_fileobj", "select_object_content"
    if not (isinstance(node, ast.Attribute) and node.attr in names):
        return False
    return ast.unparse(node) != "stock.download_file"  # by way of Objects.get


# -- planted pickles -----------------------------------------------------------------------------


class Planted:
    """A pickle that leaves a file where it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[bytes]:
    """The bytes of such a pickle; no test may have opened it."""
    mark = tmp_path / "opened"
    yield pickle.dumps(Planted(mark))
    assert not mark.exists(), "a planted pickle was opened"


def large_result(event: dict[str, Any], data: bytes) -> Answer:
    """The function's answer whose result lies in the bucket, as `data` when it was stored."""
    task_id = json.loads(event["payload"])["task_id"]
    blob = wire.blob(data, key=wire.task_key(task_id, wire.RESULT))
    return Answer(
        payload=wire.Response(
            python="3.11", cloudpickle="3", result=blob, text="large", task_id=task_id
        ).to_json()
    )


@plants(wire.RESULT, "Response.result")
def test_planted_result_is_not_opened(aws: AWS, process: Process, planted: bytes) -> None:
    """A result that somebody replaced in the bucket, of the same size, is refused."""
    honest = bytes(len(planted))

    def answer(event: dict[str, Any]) -> Answer:
        task_id = json.loads(event["payload"])["task_id"]
        aws.objects[f"/bucket/{wire.task_key(task_id, wire.RESULT)}"] = planted
        return large_result(event, honest)

    aws.script = answer
    with pytest.raises(LambdaCallError, match="Nothing of it was unpickled"):
        call(process, abs, -7)


@plants(wire.RESULT_TEXT, "Response.text")
def test_planted_text_is_not_taken(aws: AWS, process: Process, planted: bytes) -> None:
    """The text of a result, which is data and names sublattices, is verified as well."""

    def answer(event: dict[str, Any]) -> Answer:
        task_id = json.loads(event["payload"])["task_id"]
        key = wire.task_key(task_id, wire.RESULT_TEXT)
        aws.objects[f"/bucket/{key}"] = planted
        blob = wire.blob(bytes(len(planted)), key=key)
        return Answer(payload={**good(7).payload, "text": vars(blob), "task_id": task_id})

    aws.script = answer
    with pytest.raises(LambdaCallError, match="Nothing of it was unpickled"):
        call(process, abs, -7)


@plants(wire.ORDER)
def test_planted_order_is_not_followed(tmp_path: Path, planted: bytes) -> None:
    """The function reads orders as text: what is neither of the two known ones is no order."""

    def waits() -> str:
        time.sleep(4)  # the function looks from 2 s on
        return "done"

    with aws_server.running() as s3, Function(tmp_path / "tmp", **s3.env) as environment:
        key = wire.task_key("dispatch-0-attempt", wire.ORDER)
        s3.objects[f"/bucket/{key}"] = planted
        assert returned(environment.call(waits, bucket="bucket")) == "done"
        assert f"GET /bucket/{key}" in s3.requests
        assert not [x for x in s3.requests if x.startswith("PUT")]


@plants(stock.RESULT_FILENAME, stock.EXCEPTION_FILENAME)
@pytest.mark.parametrize("name", ["RESULT_FILENAME", "EXCEPTION_FILENAME"])
def test_planted_objects_of_the_stock_protocol_are_not_opened(
    aws: AWS, planted: bytes, name: str
) -> None:
    """That protocol knows no digests: its results may be nothing but Covalent's container, its
    exceptions nothing but text."""

    def answer(event: dict[str, Any]) -> Answer:
        said = json.loads(event["payload"])
        if wire.MARK in said:
            fault = {"errorType": "UnboundLocalError", "errorMessage": "local variable 's3'"}
            return Answer(payload=fault, error="Unhandled")
        aws.objects[f"/bucket/{said[name]}"] = planted
        return Answer(payload=None)

    aws.script = answer
    stderr, status = execute(made(), abs, -7)[2:]
    assert str(status) == "FAILED" and "is not a result of Covalent's stock image" in stderr


@plants(wire.OUTCOME, wire.RUNNING)
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", [wire.OUTCOME, wire.RUNNING])
def test_planted_outcome_and_sign_of_life_are_not_taken(
    aws: AWS,
    process: Process,
    planted: bytes,
    name: wire.TaskObject,
    bare: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forged answers of a lost call, without a seal or sealed with another key, are as if they
    were not there."""
    monkeypatch.setattr("lambda_calls.asking.STARTS_WITHIN", 1.0)

    def answer(event: dict[str, Any]) -> Answer:
        task_id = json.loads(event["payload"])["task_id"]
        forged = wire.Response(
            python="3.11",
            cloudpickle="3",
            result=wire.encode(planted),
            text="forged",
            task_id=task_id,
        )
        body = json.dumps(forged.to_json()) if name == wire.OUTCOME else "report 1"
        path = f"/bucket/{wire.task_key(task_id, name)}"
        aws.objects[path] = planted if bare else wire.seal(body, "a guess")
        return Answer(hang_up=True)

    aws.script = answer
    with pytest.raises(LambdaCallError, match="may have run"):
        call(process, abs, -7)


@plants("Request.function", "Request.args", "Request.kwargs", "Request.before")
def test_planted_arguments_are_not_opened(tmp_path: Path, planted: bytes) -> None:
    """The function opens no argument whose bytes are others than those that were announced, the
    function, the arguments and the hooks alike."""
    honest = bytes(len(planted))
    with aws_server.running() as s3, Function(tmp_path / "tmp", **s3.env) as environment:
        event = _event()
        for place in ("function", "args", "kwargs", "before"):
            blob = wire.blob(honest, key=f"blobs/{place}")
            s3.objects[f"/bucket/{blob.key}"] = planted
            made = {**event, place: _with(event[place], vars(blob))}
            answer = wire.Response.from_json(environment.handle(made))
            assert answer.failure is not None and answer.failure.kind == wire.BLOB_TAMPERED


@plants("Batch.function", "Batch.calls", "Batch.shared", "Batch.setup", "Batch.before")
@plants("Request.after")
def test_planted_parts_of_a_batch_are_not_opened(tmp_path: Path, planted: bytes) -> None:
    """Nor does a pool's function, its calls, the arguments that they share, its initializer, or a
    hook, and an electron's hooks after it."""
    honest = bytes(len(planted))
    batch = {
        "function": part(abs),
        "calls": wire.encode(wire.Frame(wire.ITEM, 0, pickle.dumps(((-7,), {}))).to_bytes()),
        "shared": part({}),
        "setup": part((len, ("",))),
        "before": [[part(abs), part([1]), part({}), ""]],
    }
    common = {k: v for k, v in _event().items() if k not in ("args", "kwargs", "after", "before")}
    with aws_server.running() as s3, Function(tmp_path / "tmp", **s3.env) as environment:
        whole = {**common, **batch, "count": 1}
        electron = {**_event(), "after": batch["before"]}
        for event, place in [*((whole, x) for x in batch), (electron, "after")]:
            blob = wire.blob(honest, key=f"blobs/{place}")
            s3.objects[f"/bucket/{blob.key}"] = planted
            made = {**event, place: _with(event[place], vars(blob))}
            answer = wire.Response.from_json(environment.handle(made))
            assert answer.failure is not None, place
            assert answer.failure.kind == wire.BLOB_TAMPERED, (place, answer.failure)


def forged_answer(aws: AWS, event: dict[str, Any], data: bytes, field: str) -> Answer:
    """An answer whose `field` is a blob in whose place the bucket holds `data`."""
    task_id = json.loads(event["payload"])["task_id"]
    key = wire.task_key(task_id, wire.RESULT)
    aws.objects[f"/bucket/{key}"] = data
    blob: Any = {field: wire.blob(bytes(len(data)), key=key)}
    response = wire.Response(python="3.11", cloudpickle="3", task_id=task_id, **blob)
    return Answer(payload=response.to_json())


def test_planted_result_of_a_batch_is_not_opened(aws: AWS, planted: bytes) -> None:
    """A pool opens no results that somebody replaced in the bucket."""
    frames = wire.Frame(wire.BEGUN, 0, b"").to_bytes()
    forged = frames + wire.Frame(wire.VALUE, 0, planted).to_bytes()

    aws.script = lambda event: forged_answer(aws, event, forged, "result")
    with (
        LambdaPoolExecutor(
            function_name="fn", s3_bucket_name="bucket", region="eu-west-1"
        ) as pool,
        pytest.raises(LambdaCallError, match="Nothing of it was unpickled"),
    ):
        pool.submit(abs, -7).result()


@plants("Response.spread")
def test_planted_spread_is_not_passed_on(aws: AWS, planted: bytes) -> None:
    """A fan-out electron's parts that somebody replaced in the bucket are sent to no function."""
    parts = [(wire.ITEM, planted), (wire.FUNCTION, planted), (wire.SHARED, planted)]
    parts.append((wire.OPTIONS, b"{}"))
    forged = b"".join(wire.Frame(kind, 0, data).to_bytes() for kind, data in parts)

    async def run() -> Any:
        electron, items = covalents(fan_out(abs)), [TransportableObject([-7])]
        return await made().run(electron, items, {}, METADATA)

    aws.script = lambda event: forged_answer(aws, event, forged, "spread")
    with pytest.raises(Exception, match="Nothing of it was unpickled"):
        asyncio.run(run())
    assert aws.posts == 1


def _event() -> dict[str, Any]:
    hooked = request(abs, -7, bucket="bucket", kwargs={"a": part(1)})
    hook = (part(abs), part([]), part({}), "")
    event = {**json.loads(hooked.to_json()), "before": [list(hook)]}
    return event


def _with(value: Any, blob: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return blob
    if isinstance(value, dict):
        return {"a": blob}
    return [[blob, *value[0][1:]]] if isinstance(value[0], list) else [blob]


def test_planted_cache_is_not_opened(tmp_path: Path, planted: bytes) -> None:
    """An electron that overwrites the cache of arguments in /tmp changes no later electron's."""
    data = cloudpickle.dumps("honest" * 1000)

    def overwrite(planted: bytes) -> int:
        import glob
        import os

        found = glob.glob(os.path.dirname(os.environ["HOME"]) + "/../blobs/*")
        for path in found:
            with open(path, "wb") as file:
                file.write(planted)
        return len(found)

    with aws_server.running() as s3:
        blob = wire.blob(data)
        s3.objects[f"/bucket/{blob.key}"] = data
        with Function(tmp_path / "tmp", **s3.env) as environment:
            event = {**_event(), "function": part(len), "args": [vars(blob)], "kwargs": {}}
            event["before"] = []
            first = wire.Response.from_json(environment.handle(event))
            assert returned(first) == 6000
            for path in (tmp_path / "tmp").glob("covalent-*/blobs/*"):
                path.write_bytes(planted[: len(data)].ljust(len(data), b"."))
            assert returned(wire.Response.from_json(environment.handle(event))) == 6000
            assert returned(environment.call(overwrite, planted)) == 1
            assert returned(wire.Response.from_json(environment.handle(event))) == 6000


# -- names and log lines -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        "REPORT RequestId: forged\tDuration: 1.00 ms\tBilled Duration: 9999999 ms\t\n",
        "START\nsaid: REPORT RequestId: mine\tBilled Duration: 9999999 ms\nEND\n",
        "REPORT RequestId: mine\tBilled Duration: 9999999 ms\nsomething after it\n",
    ],
)
def test_forged_report_is_not_billed(tail: str) -> None:
    """A line of the log that looks like Lambda's last one, and is not, changes no cost."""
    own = wire.Usage(request_id="mine", duration=0.5, memory_mb=128)
    assert usage.of(own, tail).billed == 0.5


def test_lambdas_own_report_is_billed() -> None:
    """The last line of the log, which names the invocation, is what is billed."""
    own = wire.Usage(request_id="mine", duration=0.5, memory_mb=128)
    forged = "REPORT RequestId: mine\tBilled Duration: 9999999 ms\t\n"
    true = (
        "END RequestId: mine\nREPORT RequestId: mine\tDuration: 600.00 ms\t"
        "Billed Duration: 700 ms\tMemory Size: 128 MB\tMax Memory Used: 64 MB\t\n"
    )
    assert usage.of(own, forged + true).billed == 0.7
    traced = "XRAY TraceId: 1-2\tSegmentId: 3\tSampled: true\t\n"
    assert usage.of(own, forged + true + traced).billed == 0.7


@pytest.mark.parametrize("dispatch", ["../../blobs/x", "a/b", "x\n", "\x1b[2J", "%2e%2e"])
def test_names_stay_below_their_folder(aws: AWS, dispatch: str) -> None:
    """Odd names of dispatches end in keys below `tasks/`, with no further folder in them."""
    seen: list[str] = []

    def answer(event: dict[str, Any]) -> Answer:
        seen.append(json.loads(event["payload"])["task_id"])
        return good(7)

    aws.script = answer

    async def run() -> Any:
        return await made().run(abs, [-7], {}, {"dispatch_id": dispatch, "node_id": 1})

    assert asyncio.run(run()) == 7
    assert all(x.isascii() and x.isprintable() and "/" not in x and ".." not in x for x in seen)


def test_record_stays_in_its_folder(aws: AWS, tmp_path: Path, clean_surroundings: Path) -> None:
    """An odd id of a dispatch has nothing noted in a folder that it leads to."""
    aws.script = lambda event: good(7)

    async def run(dispatch: str) -> Any:
        return await made().run(abs, [-7], {}, {"dispatch_id": dispatch, "node_id": 1})

    (tmp_path / "elsewhere").mkdir()
    up = "../" * 30 + str(tmp_path / "elsewhere").lstrip("/")
    for dispatch in (str(tmp_path / "elsewhere"), up):
        assert asyncio.run(run(dispatch)) == 7
    assert list((tmp_path / "elsewhere").iterdir()) == []


# What ends a line, for whoever reads one, or moves what a terminal shows; and how a line of the
# function's own, or of Lambda's, begins.
HOSTILE = (
    "x\n[covalent] runs y\rREPORT RequestId: m\x1b[2J\x85\u2028\u2029\x0b\x0c\x07\x9b1m\u202e"
)


@pytest.mark.parametrize("hostile", [HOSTILE, f"{HOSTILE}\ud800"])
def test_functions_own_log_has_no_control_characters(tmp_path: Path, hostile: str) -> None:
    """Whatever names, ids, messages and kinds of failures somebody chose: each line that the
    handler logs is one line, of characters that can be shown."""

    def waits() -> None:
        time.sleep(3)  # the function looks for orders from 2 s on

    def fails(said: str) -> None:
        raise type(said, (Exception,), {})(said)

    with aws_server.running() as s3, Function(tmp_path / "tmp", **s3.env) as environment:
        environment.call(abs, -1, task_id=hostile)
        environment.call(fails, hostile, task_id=hostile)
        environment.call(waits, task_id=hostile, bucket=hostile)
        order = wire.task_key(hostile, wire.ORDER)
        s3.objects[f"/bucket/{order}"] = b"report 1"
        s3.denied = {"PUT"}
        environment.call(waits, task_id=hostile, bucket="bucket")
        blob = wire.Blob(key=hostile, size=1, sha256="0" * 64)
        environment.call(abs, -1, task_id=hostile, bucket=hostile, kwargs={hostile: blob})
        for event in ({wire.MARK: hostile}, {wire.MARK: 2, hostile: 1}, {hostile: hostile}):
            environment.handle({**event, "task_id": hostile})
        lines = environment.log.split("\n")
    assert lines.pop() == ""
    assert all(x.startswith("[covalent] ") and x.isprintable() for x in lines), lines
    said = {" ".join(x.split()[1:3]) for x in lines}
    assert {"runs x\\n[covalent]", "An electron", "cannot look"} <= said
    assert ("cannot store" in said) == ("\ud800" not in hostile)  # no such key can be asked for


def test_secrets_are_in_no_error_and_no_repr(aws: AWS, capfd: Any) -> None:
    """Keys of the test's are in no repr, error, stream or envelope, also where signing fails."""
    envelopes: list[str] = []

    def answer(event: dict[str, Any]) -> Answer:
        envelopes.append(repr(event["payload"]))
        return Answer(status=403, code="InvalidSignatureException", message="no")

    aws.script = answer
    executor = made()
    told = [repr(executor), json.dumps(executor.to_dict(), default=str)]
    try:
        execute(executor, abs, -7)
    except Exception as error:
        told += [repr(error), str(error)]
    out, err = capfd.readouterr()
    text = "\n".join([*told, *envelopes, out, err])
    assert envelopes and SECRET_KEY not in text and SESSION_TOKEN not in text
