"""Runs the rows of the table, and says which of them did not end as they must."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from lambda_calls import errors, messages, wire
from lambda_calls.messages import Message

from . import work
from .lab import Door, Lab
from .progress import Progress
from .table import RESULT, Fault
from .toxics import ANSWER, Toxic
from .ways import SLACK, WAYS, Settled, Terms, renew

# Rows, each with a door and a bucket of its own. They mostly wait.
_AT_A_TIME = 12
_SENTENCE = 20  # characters of an explanation, at least
# How an error begins that nobody has foreseen: its sentence explains nothing.
_UNFORESEEN = [x.text.partition("{")[0] for x in (messages.DEFECT, messages.DEFECT_BEFORE)]


@dataclass(frozen=True)
class Checked:
    """What a fault led to on one way.

    Args:
        fault: the row.
        way: how the calls were run.
        ends: how they ended: `RESULT`, or names of error classes.
        ran: how often the code of each ran.
        seconds: that it took.
        wrong: what is not as the row says; empty: all is.
    """

    fault: Fault
    way: str
    ends: tuple[str, ...]
    ran: tuple[int, ...]
    seconds: float
    wrong: str


def check(
    lab: Lab, pairs: Sequence[tuple[Fault, str]], seed: str, progress: Progress
) -> list[Checked]:
    """Run rows on ways; those that take longest begin first, those in a container, which is one
    environment, one after the other."""
    ordered = sorted(pairs, key=lambda x: -x[0].takes)
    what = "faults and ways in a container" if lab.image else "faults and ways"

    def one(pair: tuple[Fault, str]) -> Checked:
        found = _checked(lab, pair[0], pair[1], seed)
        progress.one_more(what, len(pairs))
        return found

    # Those that wait for minutes keep no other from its turn.
    long = sum(1 for x, _ in pairs if x.takes)
    with ThreadPoolExecutor(1 if lab.image else _AT_A_TIME + long) as threads:
        return list(threads.map(one, ordered))


def _checked(lab: Lab, fault: Fault, way: str, seed: str) -> Checked:
    number = int.from_bytes(sha256(f"{fault.name} {way}".encode()).digest()[:4], "big")
    name = f"row-{number}"
    ledger = work.Ledger(lab.shared / name)
    # The first request of a fan-out electron takes its arguments apart; its items come after it.
    skip = 1 if way == "fan-out" else 0
    caller = [_skipping(x, skip) for x in fault.caller]
    began = time.monotonic()
    with ExitStack() as stack:
        door = stack.enter_context(lab.door(caller, seed=seed, **fault.limits))
        # Without toxics, too: it counts the function's own requests.
        stack.enter_context(lab.function(fault.function, seed=seed, bucket=name))
        given = dict(fault.terms)
        if "data" in given:  # another argument in each row: equal ones are stored only once
            given["data"] = number.to_bytes(8, "big") + given["data"][8:]
        terms = Terms(door.url, ledger.path, name=name, bucket=name, key=f"key-{number}", **given)
        if fault.away:
            door.away(fault.away)
        if fault.renews:
            stack.enter_context(_renewed(door, ledger, terms.key))
        settled = WAYS[way](terms, range(fault.calls))
        seconds = time.monotonic() - began
        return judged(fault, way, settled, ledger, seconds, settled_state(door, name))


def settled_state(door: Door, bucket: str) -> dict[str, Any]:
    """The door's state, once nothing is left in the bucket, or has been for long: a thread may be
    about to delete what it has stored."""
    end = time.monotonic() + SLACK
    while True:
        state = door.state(bucket=bucket)
        if not state["leaked"] or time.monotonic() > end:
            return state
        time.sleep(0.2)


@contextmanager
def _renewed(door: Door, ledger: work.Ledger, key: str) -> Iterator[None]:
    """Once a first call has begun: the key is renewed, and the old one is not valid any more.

    Not at the first request: that may be a question, and all calls be signed with the new key.
    """
    ended = threading.Event()

    def renews() -> None:
        while not ledger.begun() and not ended.wait(0.05):
            pass
        renew(key, f"{key}-new")
        code = "ExpiredTokenException"
        door.poison([Toxic(ANSWER, service="lambda", credential=key, status=403, code=code)])

    thread = threading.Thread(target=renews)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _skipping(toxic: Any, skip: int) -> Any:
    return replace(toxic, skip=skip) if toxic.service == "lambda" else toxic


def judged(
    fault: Fault,
    way: str,
    settled: Sequence[Settled],
    ledger: work.Ledger,
    seconds: float,
    state: dict[str, Any],
) -> Checked:
    """Compare what became of a row's calls with what must.

    Args:
        fault: the row.
        way: how they were run.
        settled: how they ended.
        ledger: how often their code ran.
        seconds: that it took.
        state: of their door, at the end.
    """
    begun = ledger.begun()
    ran = tuple(begun[x.number] for x in settled)
    ends = tuple(sorted({RESULT if x.error is None else class_of(x.error) for x in settled}))
    wrong = [x for one in settled for x in _wrong_with(fault, one)]
    if len(settled) != fault.calls:
        wrong.append(f"{len(settled)} of {fault.calls} calls were settled")
    if not set(ends) <= set(fault.classes):
        said = next((str(x.error)[:400] for x in settled if x.error is not None), "")
        wrong.append(f"ended in {', '.join(ends)}, not in {', '.join(fault.classes)}: {said}")
    if not set(ran) <= fault.ran:
        wrong.append(f"the code ran {set(ran)} times, not {set(fault.ran)}")
    wrong += _missed(fault, settled, ledger, state)
    if fault.contained and state["environments"] > 1:
        wrong.append("the environment did not outlive it")
    if state["leaked"] and not fault.keeps:
        wrong.append(f"left in the bucket: {', '.join(state['leaked'])}")
    return Checked(fault, way, ends, ran, seconds, "; ".join(wrong))


def _wrong_with(fault: Fault, one: Settled) -> Iterator[str]:
    """The promises to one call that were broken."""
    terms = dict(fault.terms)
    expected = {"data": terms.get("data", b""), "size": terms.get("size", 0)}
    limit = (terms.get("retries", 0) + 1) * (terms.get("timeout", Terms.timeout) + SLACK)
    if one.times != 1:
        yield f"call {one.number} was settled {one.times} times"
    if one.seconds > limit:
        yield f"call {one.number} took {one.seconds:.0f} s"
    if one.error is None:
        if one.value != work.expected(one.number, **expected):
            yield f"call {one.number} has the wrong result {str(one.value)[:100]}"
    elif not _has_sentence(one.error):
        yield f"call {one.number} failed without an explanation: {one.error!r}"
    elif not any(says(one.error, x) for x in fault.by):
        yield f"the error is not the one that explains it: {one.error}"


def _missed(
    fault: Fault, settled: Sequence[Settled], ledger: work.Ledger, state: dict[str, Any]
) -> Iterator[str]:
    """Why a row has shown nothing: what it is about did not happen."""
    if (fault.caller or fault.renews) and not _all_hit(state["hits"]):
        yield "the fault on the caller's way did not hit anything"
    if fault.function and not _all_hit(state["function_hits"]):
        yield "the fault on the function's way did not hit anything"
    if fault.limits and not fault.renews and not state["refused"]:
        yield "nothing was refused"
    if fault.away and min(x.seconds for x in settled) < fault.away / 2:
        yield "a call did not have to wait"
    if fault.terms.get("harm") and not ledger.harmed():
        yield "the code did no harm"
    largest = max(4 * len(fault.terms.get("data", b"")) // 3, fault.terms.get("size", 0))
    if largest > wire.PAYLOAD_LIMIT and fault.ends == RESULT and not state["function_seen"]:
        yield "nothing travelled through the bucket"
    if state["most_under_way"] < fault.at_once:
        yield f"no more than {state['most_under_way']} calls were under way at a time"


def _all_hit(hits: Sequence[int]) -> bool:
    return bool(hits) and all(hits)


def says(error: BaseException, what: Message | str) -> bool:
    """Whether an error says some words, or a sentence of the catalogue with any values in it."""
    if isinstance(what, str):
        return what in str(error)
    own = map(re.escape, re.split(r"\{[^}]*\}", what.text))
    return re.search(".*".join(own), str(error), re.DOTALL) is not None


def is_explained(error: BaseException) -> bool:
    """Whether an error has one of the project's classes and a sentence that somebody has foreseen.

    A fan-out's item is a RuntimeError that begins with the name of the class, since whoever opens
    it may lack the project's classes.
    """
    is_ours = isinstance(error, errors.LambdaCallError)
    is_item = type(error) is RuntimeError and hasattr(errors, class_of(error))
    return (is_ours or is_item) and _has_sentence(error)


def _has_sentence(error: BaseException) -> bool:
    text = str(error)
    return len(text) > _SENTENCE and not any(x in text for x in _UNFORESEEN)


def class_of(error: BaseException) -> str:
    """The core's name of an error's class; a fan-out's item begins its text with it."""
    for kind in type(error).__mro__:
        if kind.__module__ == errors.__name__:
            return kind.__name__
    first = str(error).partition(":")[0]
    return first if first.endswith("Error") and first.isidentifier() else type(error).__name__
