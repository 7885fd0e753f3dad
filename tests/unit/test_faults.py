"""The fault harness: its toxics hit what they should, and what breaks a promise is reported."""

import asyncio
import concurrent.futures
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lambda_calls import messages

from faults import __main__ as program
from faults import checking, lab, report, soak, storm, table, toxics, work
from faults.endpoint import Limits, Request, Site, skewed
from faults.toxics import Poison, Strike, Toxic
from faults.ways import SLACK, Settled, Terms

INVOKE = ("lambda", "POST", "/2015-03-31/functions/ours/invocations", "Credential=key/2026")
UNKNOWN = messages.UNKNOWN(call="call", function="f", said="it broke")
DEFECTS = [
    messages.defect(KeyError("x"), call="call", sent=True),
    messages.defect(KeyError("x"), call="call", sent=False),
]


# -- toxics --------------------------------------------------------------------------------------


def chosen(poison: Poison, count: int) -> list[int]:
    """Which of so many invocations are chosen."""
    return [n for n in range(count) if poison.of(*INVOKE)]


def landed(strike: Strike | None) -> None:
    assert strike is not None
    strike.lands()


def test_seed_chooses_the_same_requests_again() -> None:
    """One seed chooses the same ones each time, another one others."""
    made = [Toxic(toxics.RESET_BEFORE, probability=0.1), Toxic(toxics.SILENT, probability=0.1)]
    first = chosen(Poison(made, "1"), 500)
    assert first
    assert first == chosen(Poison(made, "1"), 500)
    assert first != chosen(Poison(made, "2"), 500)


def test_probability_is_the_share_that_is_chosen() -> None:
    """Of 10,000 requests a twentieth, within four standard deviations."""
    found = len(chosen(Poison([Toxic(toxics.SILENT, probability=0.05)], "1"), 10_000))
    assert 413 < found < 587


@pytest.mark.parametrize(
    ("about", "matches"),
    [
        ({}, True),
        ({"service": "lambda"}, True),
        ({"service": "s3"}, False),
        ({"verb": "POST"}, True),
        ({"verb": "PUT"}, False),
        ({"key": "/ours/"}, True),
        ({"key": "/blobs/"}, False),
        ({"credential": "key"}, True),
        ({"credential": "ke"}, False),
    ],
)
def test_toxic_hits_what_it_is_about(about: dict[str, str], matches: bool) -> None:
    """Service, verb, path and key must be those that it names."""
    assert bool(Poison([Toxic(toxics.SILENT, **about)], "1").of(*INVOKE)) is matches


def test_first_requests_are_skipped_and_the_next_hit() -> None:
    """`skip` lets some pass, `times` bounds how many are chosen then."""
    assert chosen(Poison([Toxic(toxics.SILENT, skip=2, times=3)], "1"), 10) == [2, 3, 4]


@pytest.mark.parametrize("kind", sorted(toxics.KINDS - toxics.BOTH_WAYS))
def test_only_some_know_the_way_up(kind: str) -> None:
    """A direction that means nothing is refused."""
    with pytest.raises(ValueError, match="knows no direction"):
        Toxic(kind, direction=toxics.UP)


def test_unknown_kind_is_refused() -> None:
    """A misspelt fault would never hit."""
    with pytest.raises(ValueError, match="there is no fault"):
        Toxic("rset")


def test_environments_are_chosen_when_they_are_invoked() -> None:
    """A request that Lambda may still refuse has no environment; what was done to one is counted
    when it is done."""
    poison = Poison([Toxic(toxics.KILLED_BEFORE, times=1), Toxic(toxics.SILENT, times=1)], "1")
    request = poison.of(*INVOKE)
    environment = poison.of_environment(*INVOKE[1:])
    assert request and request.toxic.kind == toxics.SILENT
    assert environment and environment.toxic.kind == toxics.KILLED_BEFORE
    assert (poison.hits, poison.environments_hit, poison.seen) == ([0, 0], 0, 1)
    landed(request)
    assert (poison.hits, poison.environments_hit) == ([0, 1], 0)
    landed(environment)
    assert (poison.hits, poison.environments_hit) == ([1, 1], 1)


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("service", ["lambda", "s3"])
def test_each_kind_of_request_gets_its_share(service: str, verb: str) -> None:
    """What a storm draws hits a twentieth of each kind of request that there is, not only of those
    that all toxics know."""
    if service == "lambda" and verb != "POST":
        return
    poison = Poison(storm.broken(0.055, 0.02), "1")
    hits = sum(1 for _ in range(10_000) if poison.of(service, verb, "/bucket/key", ""))
    assert hits > 450


async def broken_s3(folder: Path, toxic: Toxic, verb: str, body: bytes = b"") -> list[int]:
    """How often a toxic hit one request to S3 that an endpoint without environments serves."""
    site = Site(folder, "")
    site.objects.objects["/bucket/key"] = b"x" * 1000
    site.function = door = await site.door([toxic], "1", Limits())
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        head = f"{verb} /bucket/key HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await asyncio.wait({asyncio.ensure_future(reader.read(100_000))}, timeout=0.5)
        writer.close()
        await asyncio.sleep(0.1)
        return door.poison.hits
    finally:
        door.close()


@pytest.mark.parametrize(
    ("toxic", "verb", "body", "hits"),
    [
        (Toxic(toxics.TRUNCATED), "GET", b"", 1),
        (Toxic(toxics.TRUNCATED), "HEAD", b"", 0),
        (Toxic(toxics.TRUNCATED), "DELETE", b"", 0),
        (Toxic(toxics.RESET_IN_RESPONSE), "GET", b"", 1),
        (Toxic(toxics.RESET_IN_RESPONSE), "PUT", b"x", 0),
        (Toxic(toxics.CORRUPTED), "GET", b"", 1),
        (Toxic(toxics.CORRUPTED), "HEAD", b"", 0),
        (Toxic(toxics.VANISHED), "GET", b"", 1),
        (Toxic(toxics.RESET_BEFORE), "HEAD", b"", 1),
        (Toxic(toxics.TRUNCATED, direction=toxics.UP), "PUT", b"x" * 100, 1),
        (Toxic(toxics.TRUNCATED, direction=toxics.UP), "GET", b"", 0),
        (Toxic(toxics.DRIP, direction=toxics.UP, amount=0.1), "PUT", b"x" * 100, 1),
    ],
)
def test_hit_is_counted_where_it_is_made(
    tmp_path: Path, toxic: Toxic, verb: str, body: bytes, hits: int
) -> None:
    """An answer without a body cannot be cut off, nor a request without one: then nothing counts
    as broken."""
    assert asyncio.run(broken_s3(tmp_path, toxic, verb, body)) == [hits]


def signed(service: str, date: str) -> Request:
    target = INVOKE[2] if service == "lambda" else "/bucket/key"
    return Request("POST", target, {"x-amz-date": date}, b"")


@pytest.mark.parametrize("service", ["lambda", "s3"])
def test_clock_of_the_endpoint(service: str) -> None:
    """A request is refused if its time is too far from the services' own, and only then."""
    from datetime import datetime, timezone

    request = signed(service, f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}")
    assert skewed(request, 0.0) is None
    assert skewed(request, -120.0) is None
    words = {"lambda": (b"Signature expired", b"not yet current"), "s3": (b"TooSkewed",) * 2}
    for clock, said in zip((3600.0, -3600.0), words[service], strict=True):
        status, headers, body = skewed(request, clock) or (0, {}, b"")
        assert status == 403
        assert said in body
        assert "GMT" in headers["Date"]


# -- the storm's judge ---------------------------------------------------------------------------


def right(number: int) -> Settled:
    return Settled(number, work.expected(number), seconds=1.0)


def judged(*settled: Settled, begun: Counter[int] | None = None, retries: int = 0) -> storm.Way:
    """What the judge says of calls 1 and 2."""
    way = storm.Way()
    terms = Terms("http://nowhere", "nowhere", retries=retries)
    storm.judge(way, [1, 2], settled, Counter([1, 2]) if begun is None else begun, terms)
    return way


def test_right_results_break_nothing() -> None:
    """Two calls with their results, and one that failed as it may."""
    assert judged(right(1), right(2)).broken == []
    assert judged(right(1), Settled(2, error=UNKNOWN)).broken == []
    item = RuntimeError(f"OutcomeUnknownError: {UNKNOWN}")
    assert judged(right(1), Settled(2, error=item)).broken == []


def test_lost_call_is_reported() -> None:
    """One that nobody settled, and one that was settled twice."""
    assert judged(right(1)).lost == [2]
    assert judged(right(1), replace(right(2), times=2)).lost == [2]


@pytest.mark.parametrize(
    "error", [TimeoutError("x"), asyncio.TimeoutError(), concurrent.futures.TimeoutError()]
)
def test_hung_call_is_reported(error: Exception) -> None:
    """One that was given up, by whatever name of the class, on any Python."""
    assert judged(right(1), Settled(2, error=error, times=0)).hung == [2]


def test_late_call_is_reported() -> None:
    """One whose result came after its deadline; with `retries` it has as many deadlines more."""
    late = replace(right(2), seconds=Terms.timeout + SLACK + 1)
    assert judged(right(1), late).hung == [2]
    assert judged(right(1), late, retries=1).hung == []


def test_call_that_ran_twice_is_reported() -> None:
    """But not where `retries` allows it: there it is counted."""
    again = Counter([1, 2, 2])
    assert judged(right(1), right(2), begun=again).broken == ["twice: [2]"]
    allowed = judged(right(1), right(2), begun=again, retries=1)
    assert (allowed.broken, allowed.ran_twice) == ([], 1)


def test_wrong_value_is_reported() -> None:
    """The result of another call, for one."""
    assert judged(right(1), Settled(2, work.expected(1))).wrong == [2]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a class of nobody's, with a long sentence"),
        RuntimeError("KeyError: a class of nobody's, with a long sentence"),
        RuntimeError("a long sentence, but no class"),
        messages.UNKNOWN.error("too short"),
        *DEFECTS,
        RuntimeError(f"OutcomeUnknownError: {DEFECTS[0]}"),
    ],
)
def test_unexplained_failure_is_reported(error: Exception) -> None:
    """A class that is not ours, no sentence, or the sentence for what nobody has foreseen."""
    assert len(judged(right(1), Settled(2, error=error)).untyped) == 1


STATE = {
    "hits": [40, 500],
    "function_hits": [10],
    "seen": 9_000,
    "function_seen": 1_000,
    "environments_hit": 40,
    "invocations": 4_000,
}


def shown(calls: int, failed: int, *, retries: int = 0, **state: Any) -> storm.Storm:
    """A storm after which so many calls failed."""
    made = storm.Storm("1", retries, 60.0, state={**STATE, **state})
    ends = Counter({table.RESULT: calls - failed, "OutcomeUnknownError": failed})
    made.ways["pool"] = storm.Way(calls=calls, ends=ends)
    return made


@pytest.mark.parametrize(
    ("calls", "failed", "retries", "broken"),
    [
        (10_000, 10, 3, False),
        (10_000, 11, 3, True),
        (1_000, 1, 3, False),
        (1_000, 2, 3, True),
        (200, 0, 3, False),
        (200, 1, 3, True),
        (200, 20, 0, False),
    ],
)
def test_retries_must_succeed(calls: int, failed: int, retries: int, broken: bool) -> None:
    """With retries 99.9 % succeed; of fewer than a thousand, all."""
    found = shown(calls, failed, retries=retries).broken
    assert bool(found) is broken
    assert all("99.9 % are promised" in x for x in found)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"function_hits": [0]}, []),
        ({"hits": [40, 489]}, ["499 of 10,000 requests were broken"]),
        ({"environments_hit": 39}, ["39 of 4,000 environments were killed or frozen"]),
    ],
)
def test_storm_that_breaks_too_little_fails(state: dict[str, Any], said: list[str]) -> None:
    """Fewer than 5 % of the requests or 1 % of the environments show nothing; among a few calls
    that is chance."""
    assert [
        x.partition(", by")[0].partition(" which")[0] for x in shown(5_000, 0, **state).broken
    ] == said
    assert shown(400, 0, **state).broken == []


def test_what_is_left_fails_a_storm() -> None:
    """Objects that nobody needs, and threads of pools."""
    made = shown(400, 0)
    made.leaked, made.leaks = ["tasks/x/result"], ["thread lambda-pool"]
    assert made.broken == ["left in the bucket: tasks/x/result", "thread lambda-pool"]


@pytest.mark.parametrize("name", ["executor", "fan-out", "pool", "pool.map"])
def test_storm_has_each_call_once(name: str) -> None:
    """Small, large and long ones; those with a large argument have another one in each part."""
    parts = list(storm.parted(name, 1000))
    assert sorted(n for x in parts for n in x.numbers) == list(range(1000))
    kinds = [(bool(x.data), bool(x.size), bool(x.seconds)) for x in parts]
    assert len(set(kinds)) == 4
    large = [x.data for x in parts if x.data]
    assert len(set(large)) == len(large)


# -- the rows ------------------------------------------------------------------------------------

ROW = table.Fault("a row", table.RESULT, table.ONCE, "Why.")
DOOR = {
    "hits": [],
    "function_hits": [],
    "function_seen": 0,
    "refused": 0,
    "most_under_way": 1,
    "environments": 1,
    "leaked": [],
}
RESET = [Toxic(toxics.RESET_BEFORE)]
FAILS = replace(ROW, ends="OutcomeUnknownError", by=[messages.UNKNOWN])


def wrong(
    tmp_path: Path,
    row: table.Fault,
    *settled: Settled,
    ran: int = 1,
    harmed: bool = False,
    **state: Any,
) -> str:
    """What a check says of a row whose one call ended so."""
    ledger = work.Ledger(tmp_path / "ledger")
    Path(f"{ledger.path}.begun").write_text("1\n" * ran)
    if harmed:
        Path(f"{ledger.path}.harmed").write_text("1\n")
    return checking.judged(row, "pool", settled, ledger, 1.0, {**DOOR, **state}).wrong


def test_rows_that_are_as_they_must(tmp_path: Path) -> None:
    """A result where one must be, and the error that explains."""
    assert wrong(tmp_path, ROW, right(1)) == ""
    assert wrong(tmp_path, FAILS, Settled(1, error=UNKNOWN)) == ""
    assert wrong(tmp_path, replace(ROW, caller=RESET), right(1), hits=[1]) == ""
    retried = replace(ROW, ran=table.TWICE, terms={"retries": 1})
    assert wrong(tmp_path, retried, right(1), ran=2) == ""


NOT_RUNNING = messages.NOT_RUNNING(call="call", function="f", said="x", seconds=1.0)
HUNG = Settled(1, error=TimeoutError("it is not settled"), times=0)


@pytest.mark.parametrize(
    ("row", "settled", "more", "said"),
    [
        (ROW, replace(right(1), times=2), {}, "settled 2 times"),
        (ROW, HUNG, {}, "settled 0 times"),
        (ROW, replace(right(1), seconds=1000.0), {}, "took 1000 s"),
        (ROW, Settled(1, work.expected(2)), {}, "wrong result"),
        (ROW, right(1), {"ran": 2}, "ran {2} times"),
        (ROW, right(1), {"ran": 0}, "ran {0} times"),
        (ROW, Settled(1, error=UNKNOWN), {}, "ended in OutcomeUnknownError"),
        (FAILS, right(1), {}, "ended in result"),
        (FAILS, Settled(1, error=NOT_RUNNING), {}, "not the one that explains"),
        (FAILS, Settled(1, error=DEFECTS[0]), {}, "without an explanation"),
        (replace(FAILS, by=["unexpected"]), Settled(1, error=DEFECTS[0]), {}, "explanation"),
        (replace(FAILS, by=()), Settled(1, error=UNKNOWN), {}, "not the one that explains"),
        (ROW, right(1), {"leaked": ["tasks/x"]}, "left in the bucket: tasks/x"),
        (replace(ROW, calls=2), right(1), {}, "1 of 2 calls were settled"),
        # What a row is about has not happened.
        (replace(ROW, caller=RESET), right(1), {"hits": [0]}, "did not hit"),
        (replace(ROW, caller=RESET * 2), right(1), {"hits": [1, 0]}, "did not hit"),
        (replace(ROW, function=RESET), right(1), {"function_hits": [0]}, "did not hit"),
        (replace(ROW, renews=True), right(1), {"hits": []}, "did not hit"),
        (replace(ROW, limits={"concurrency": 1}), right(1), {}, "nothing was refused"),
        (replace(ROW, away=9.0), right(1), {}, "did not have to wait"),
        (replace(ROW, terms={"harm": "kills its process"}), right(1), {}, "did no harm"),
        (replace(ROW, at_once=2), right(1), {}, "no more than 1 calls"),
        (replace(ROW, contained=True), right(1), {"environments": 2}, "did not outlive"),
        (
            replace(ROW, terms={"size": 7_000_000}),
            Settled(1, work.expected(1, size=7_000_000)),
            {},
            "nothing travelled",
        ),
    ],
)
def test_row_that_is_not_as_it_must_is_reported(
    tmp_path: Path, row: table.Fault, settled: Settled, more: dict[str, Any], said: str
) -> None:
    """Each promise, broken by hand, and each fault that did not happen."""
    assert said in wrong(tmp_path, row, settled, **more)


def test_what_hit_is_enough(tmp_path: Path) -> None:
    """The same rows pass once what they are about has happened."""
    limited = replace(ROW, limits={"concurrency": 1})
    assert wrong(tmp_path, limited, right(1), refused=1) == ""
    harmful = replace(ROW, terms={"harm": "kills its process in the end"})
    assert wrong(tmp_path, harmful, right(1), harmed=True) == ""


ROWS = [row for part in table.PARTS.values() for row in part]


def test_rows_have_names_of_their_own() -> None:
    """What one run has shown is kept by name."""
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", [x for x in ROWS if x.ends != table.RESULT], ids=lambda x: x.name)
def test_rows_that_fail_say_which_sentence_explains(row: table.Fault) -> None:
    """None may end in just any error of its class."""
    assert row.by


def test_sentence_of_the_catalogue_is_found_with_any_values() -> None:
    """Also where a fan-out's item begins with the class; another sentence is not."""
    assert checking.says(UNKNOWN, messages.UNKNOWN)
    assert checking.says(RuntimeError(f"OutcomeUnknownError: {UNKNOWN}"), messages.UNKNOWN)
    assert not checking.says(UNKNOWN, messages.NOT_RUNNING)
    assert checking.says(UNKNOWN, "may have run")


# -- what is kept, and how a run ends ------------------------------------------------------------


def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *storms: storm.Storm) -> list[Any]:
    """What results.json holds of storms after a run with these."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    report.keep(report.Shown(storms=list(storms)))
    found: list[Any] = json.loads((tmp_path / "results.json").read_text())["storms"]
    return [(x["retries"], report._calls(x), x["seed"]) for x in found]


def test_short_run_replaces_no_figures_of_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is as long does; those with retries are figures of their own."""
    long, short = shown(10_000, 0), shown(400, 0)
    assert kept(tmp_path, monkeypatch, short) == [(0, 400, "1")]
    assert kept(tmp_path, monkeypatch, long) == [(0, 10_000, "1")]
    retried = shown(400, 0, retries=3)
    assert kept(tmp_path, monkeypatch, short, retried) == [(0, 10_000, "1"), (3, 400, "1")]
    again = replace(long, seed="2")
    assert kept(tmp_path, monkeypatch, again) == [(0, 10_000, "2"), (3, 400, "1")]
    assert "10,000 | 10,000 | 510 (5.10 %)" in report.figures()


def test_short_soak_replaces_no_long_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty minutes stay when two are run."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    for minutes in (20.0, 2.0):
        report.keep(report.Shown(soak=soak.Soak(minutes, 1, {"MB": 1.0}, {"MB": 1.0}, [])))
    assert report.kept_results()["soak"]["minutes"] == 20


def test_inputs_of_make_fuzz_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libFuzzer counts them in the end; a log without an end is refused."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    log = tmp_path / "fuzz-wire.log"
    log.write_text("#2 INITED\nDone 1234567 runs in 61 second(s)\n")
    report.keep_fuzzed([log])
    assert "| envelopes, batches, answers, frames | 1,234,567 | 61 |" in report.fuzzed()
    log.write_text("#2 INITED\n")
    with pytest.raises(SystemExit, match="does not say"):
        report.keep_fuzzed([log])


def test_rows_in_a_container_are_not_silently_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without Docker's image they are named, and the run fails where all must be run."""
    made = report.Shown()
    row = replace(ROW, contained=True)
    monkeypatch.setattr("faults.lab.base_image", lambda: "")
    program._check_contained([(row, "pool")], None, made, None)  # type: ignore[arg-type]
    assert "a row" in made.not_run[0]
    assert program.code_of(made, {}) == 0
    assert program.code_of(made, {"COVALENT_LAMBDA_REQUIRE_E2E": "1"}) == 1
    assert program.code_of(report.Shown(), {"COVALENT_LAMBDA_REQUIRE_E2E": "1"}) == 0
    assert program.code_of(report.Shown(aside=["a call was settled again"]), {}) == 1


def test_secret_that_a_run_wrote_breaks_a_promise(tmp_path: Path) -> None:
    """The key that its requests are signed with may stand in AWS's own file alone."""
    (tmp_path / "credentials").write_text(f"aws_secret_access_key = {lab.SECRET_KEY}")
    assert program.secrets_in(tmp_path) == []
    (tmp_path / "endpoint.log").write_text(f"signed with {lab.SECRET_KEY}")
    assert program.secrets_in(tmp_path) == [f"Secret… stands in {tmp_path / 'endpoint.log'}"]
