"""Keeps what a run has shown, and makes the generated parts of docs/reliability.md from it.

Usage: python -m faults.report LOG..., to keep what `make fuzz` logged of each kind of input
"""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .checking import Checked
from .programs import LONG_SCENES, SCENES, Scene
from .soak import Soak
from .storm import CALLS, Storm, requests, requests_broken
from .table import NEVER, ONCE, PARTS, RESULT, TWICE, Fault
from .ways import WAYS

RESULTS = Path(__file__).resolve().parent / "results.json"
_RAN = {NEVER: "never", ONCE: "once", TWICE: "twice"}
# The targets of `fuzzing`, as the page names them.
_FUZZED = {
    "wire": "envelopes, batches, answers, frames",
    "settings": "samconfig.toml, files of parameters, AWS's files",
    "executor": "covalent.conf",
    "ping": "answers to a ping",
    "answers": "answers to the template's questions",
    "output": "output of calls that share a process",
}


@dataclass
class Shown:
    """What one run has shown.

    Attributes:
        checked: rows of the table.
        scenes: what was wrong with each scene of `programs`.
        storms: among random faults.
        soak: the long run; None: there was none.
        aside: what went wrong beside the calls' own ends.
        not_run: what was left out although it was asked for, and why.
    """

    checked: list[Checked] = field(default_factory=list)
    scenes: dict[str, list[str]] = field(default_factory=dict)
    storms: list[Storm] = field(default_factory=list)
    soak: Soak | None = None
    aside: list[str] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """That it took so far."""
        return time.monotonic() - self.began

    @property
    def broken(self) -> list[str]:
        """The promises that were broken."""
        found = [f"{x.fault.name}, {x.way}: {x.wrong}" for x in self.checked if x.wrong]
        found += [f"{name}: {x}" for name, wrong in self.scenes.items() for x in wrong]
        found += [x for storm in self.storms for x in storm.broken] + self.aside
        return found + ([*self.soak.broken, *self.soak.grown] if self.soak else [])


def keep(shown: Shown) -> None:
    """Write what was shown to results.json; what this run left out stays, and so do the figures of
    a longer one."""
    kept = kept_results()
    run = {**_now(), "seconds": round(shown.seconds)}
    if shown.checked:
        kept.setdefault("rows", {})
        for x in shown.checked:
            ways = kept["rows"].setdefault(x.fault.name, {})
            ways.pop(x.way, None)
            if not x.wrong:
                ways[x.way] = [list(x.ends), sorted(set(x.ran))]
        known = [x.name for part in PARTS.values() for x in part]
        kept["rows"] = {name: kept["rows"][name] for name in known if name in kept["rows"]}
        seen = {x.fault.name for x in shown.checked}
        if seen == set(known):
            kept["table"] = run
            if shown.scenes and shown.storms and all(x.calls <= CALLS for x in shown.storms):
                kept["whole"] = {**run, "calls": sum(x.calls for x in shown.storms)}
            kept.pop("again", None)
        else:  # `--row`
            kept["again"] = {
                **run,
                "rows": sorted(seen | set(kept.get("again", {}).get("rows", ()))),
            }
    scenes = {x.name for x in (*SCENES, *LONG_SCENES)}
    played = kept.get("scenes", {}) | shown.scenes
    kept["scenes"] = {name: wrong for name, wrong in played.items() if name in scenes}
    kept["storms"] = _longest(kept.get("storms", []), [_storm(x, run) for x in shown.storms])
    if shown.soak is not None and shown.soak.minutes >= kept.get("soak", {}).get("minutes", 0):
        kept["soak"] = {**shown.soak.as_dict(), **run}
    _write(kept)


def keep_fuzzed(logs: Sequence[Path]) -> None:
    """Write to results.json how many inputs libFuzzer says that it tried, by the names of logs."""
    kept = kept_results()
    for log in logs:
        done = re.search(r"^Done (\d+) runs in (\d+) second", log.read_text("utf-8"), re.MULTILINE)
        if done is None:
            raise SystemExit(f"{log} does not say how many inputs were tried")
        said = {"when": _now()["when"], "inputs": int(done[1]), "seconds": int(done[2])}
        kept.setdefault("fuzzed", {})[log.stem.removeprefix("fuzz-")] = said
    _write(kept)


def _now() -> dict[str, str]:
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {"when": when, "python": platform.python_version()}


def _longest(
    kept: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """One storm for each number of retries: the new one, if it has not fewer calls."""
    found = {x["retries"]: x for x in kept}
    for x in new:
        if x["retries"] not in found or _calls(x) >= _calls(found[x["retries"]]):
            found[x["retries"]] = x
    return [found[retries] for retries in sorted(found)]


def _calls(storm: Mapping[str, Any]) -> int:
    return sum(way["calls"] for way in storm["ways"].values())


def _write(kept: Mapping[str, Any]) -> None:
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


def kept_results() -> dict[str, Any]:
    """What runs have shown so far."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return found


def faults() -> str:
    """The table of faults with what the latest run has seen."""
    rows = kept_results().get("rows", {})
    lines = []
    for part, found in PARTS.items():
        lines += [
            f"### {part}",
            "",
            "| what goes wrong | how the call ends | its code ran | why |",
        ]
        lines += ["| --- | --- | --- | --- |"]
        lines += [_row(fault, rows.get(fault.name, {})) for fault in found]
        lines.append("")
    lines += ["### Programs and servers", ""]
    lines += ["| what goes wrong | how the calls end | their code ran | why |"]
    lines += ["| --- | --- | --- | --- |"]
    played = kept_results().get("scenes", {})
    lines += [_scene(x, played) for x in (*SCENES, *LONG_SCENES)]
    lines.append("")
    run = kept_results().get("table", {})
    again = kept_results().get("again")
    later = (
        f" {len(again['rows'])} rows were run by themselves, the latest on {again['when']}."
        if again
        else ""
    )
    lines.append(f"Run on {run.get('when')}, in {run.get('seconds')} s.{later}")
    whole = kept_results().get("whole")
    if whole:
        lines.append(
            f"All of `make faults`, with {whole['calls']:,} calls among random faults, took "
            f"{whole['seconds'] / 60:.1f} minutes on {whole['when']}; the goal is ten."
        )
    return "\n".join(lines)


def figures() -> str:
    """What the latest runs with random faults have shown."""
    kept = kept_results()
    lines = [
        "| | calls | requests | of them broken | the function's to S3 | of them broken | "
        "invocations | environment killed or frozen | lost, hung, run twice, wrong, untyped | "
        "with a result | failed, explained |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_figures(x) for x in kept.get("storms", [])]
    if "soak" in kept:
        lines += ["", _soaked(kept["soak"])]
    return "\n".join(lines)


def fuzzed() -> str:
    """How many inputs the latest `make fuzz` has tried."""
    found = kept_results().get("fuzzed", {})
    lines = ["| what is read | inputs | seconds | run on |", "| --- | --- | --- | --- |"]
    for name, what in _FUZZED.items():
        if name in found:
            run = found[name]
            lines.append(f"| {what} | {run['inputs']:,} | {run['seconds']} | {run['when']} |")
    return "\n".join(lines)


def _row(fault: Fault, seen: Mapping[str, Any]) -> str:
    ends = " or ".join("its result" if x == RESULT else f"`{x}`" for x in fault.classes)
    ran = _RAN[fault.ran]
    missing = [way for way in fault.ways or WAYS if way not in seen]
    note = f" (not shown: {', '.join(missing)})" if missing else ""
    return f"| {fault.name} | {ends} | {ran} | {fault.does}{note} |"


def _scene(scene: Scene, played: Mapping[str, Any]) -> str:
    note = "" if played.get(scene.name) == [] else " (not shown)"
    return f"| {scene.name} | {scene.ends} | {scene.ran} | {scene.does}{note} |"


def _storm(storm: Storm, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **run,
        "seed": storm.seed,
        "retries": storm.retries,
        "broken": storm.broken,
        "state": storm.state,
        "left": len(storm.left),
        "ways": {
            name: {
                "calls": way.calls,
                "ends": dict(way.ends),
                "ran_twice": way.ran_twice,
                "seconds": round(way.seconds, 1),
            }
            for name, way in storm.ways.items()
        },
    }


def _figures(storm: Mapping[str, Any]) -> str:
    ways, state, calls = storm["ways"].values(), storm["state"], _calls(storm)
    good = sum(x["ends"].get(RESULT, 0) for x in ways)
    twice = sum(x["ran_twice"] for x in ways)
    again = f", retries={storm['retries']} (ran again: {twice})" if storm["retries"] else ""
    cells = (
        f"seed {storm['seed']}{again}, {storm['when']}, Python {storm['python']}",
        f"{calls:,}",
        f"{requests(state):,}",
        _share(requests_broken(state), requests(state)),
        f"{state['function_seen']:,}",
        _share(sum(state["function_hits"]), state["function_seen"]),
        f"{state['invocations']:,}",
        _share(state["environments_hit"], state["invocations"]),
        "; ".join(storm["broken"]) or "0",
        _share(good, calls),
        f"{calls - good:,}",
    )
    return f"| {' | '.join(cells)} |"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / max(1, whole):.2f} %)"


def _soaked(soak: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {soak['first'][name]:g} and {soak['last'][name]:g}" for name in soak["first"]
    ]
    return (
        f"Soak: {soak['calls']:,} calls in {soak['minutes']:g} minutes, the same faults, one "
        f"process. Means of the first and the last quarter: {', '.join(parts)}. Run on "
        f"{soak['when']}, Python {soak['python']}."
    )


if __name__ == "__main__":
    keep_fuzzed([Path(x) for x in sys.argv[1:]])
