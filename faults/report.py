"""Keeps what a run has shown, and makes the generated parts of docs/reliability.md from it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .checking import Checked
from .programs import LONG_SCENES, SCENES, Scene
from .soak import Soak
from .storm import Storm
from .table import PARTS, RESULT, Fault
from .ways import WAYS

RESULTS = Path(__file__).resolve().parent / "results.json"


@dataclass
class Shown:
    """What one run has shown.

    Attributes:
        checked: rows of the table.
        scenes: what was wrong with each scene of `programs`.
        storms: among random faults.
        soak: the long run; None: there was none.
        aside: what went wrong beside the calls' own ends.
    """

    checked: list[Checked] = field(default_factory=list)
    scenes: dict[str, list[str]] = field(default_factory=dict)
    storms: list[Storm] = field(default_factory=list)
    soak: Soak | None = None
    aside: list[str] = field(default_factory=list)
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
    """Write what was shown to results.json; what this run left out stays."""
    kept = kept_results()
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    run = {"when": when, "python": platform.python_version(), "seconds": round(shown.seconds)}
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
            if shown.scenes and shown.storms:
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
    if shown.storms:
        kept["storms"], kept["storm"] = [_storm(x) for x in shown.storms], run
    if shown.soak is not None:
        kept["soak"] = {**shown.soak.as_dict(), **run}
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
    """What the latest run with random faults has shown."""
    kept = kept_results()
    lines = [
        "| | calls | requests | broken | environments killed or frozen | lost, hung, run twice, "
        "wrong, untyped | with a result | failed, typed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_figures(x) for x in kept.get("storms", [])]
    if "soak" in kept:
        lines += ["", _soaked(kept["soak"])]
    run = kept.get("storm", {})
    lines += ["", f"Run on {run.get('when')}, Python {run.get('python')}, on 2 shared cores."]
    return "\n".join(lines)


def _row(fault: Fault, seen: Mapping[str, Any]) -> str:
    ends = " or ".join("its result" if x == RESULT else f"`{x}`" for x in fault.classes)
    ran = {frozenset([0]): "never", frozenset([1]): "once"}.get(fault.ran, "at most once")
    missing = [way for way in fault.ways or WAYS if way not in seen]
    note = f" (not shown: {', '.join(missing)})" if missing else ""
    return f"| {fault.name} | {ends} | {ran} | {fault.does}{note} |"


def _scene(scene: Scene, played: Mapping[str, Any]) -> str:
    note = "" if played.get(scene.name) == [] else " (not shown)"
    return f"| {scene.name} | {scene.ends} | {scene.ran} | {scene.does}{note} |"


def _storm(storm: Storm) -> dict[str, Any]:
    return {
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
    ways, state = storm["ways"].values(), storm["state"]
    calls = sum(x["calls"] for x in ways)
    good = sum(x["ends"].get(RESULT, 0) for x in ways)
    hit = sum(state["fired"]) + sum(state["function_fired"])
    requests = state["seen"] + state["function_seen"]
    twice = sum(x["ran_twice"] for x in ways)
    broken = "0" if not storm["broken"] else "; ".join(storm["broken"])
    again = f", retries={storm['retries']} (ran again: {twice})" if storm["retries"] else ""
    return (
        f"| seed {storm['seed']}{again} | {calls:,} | {requests:,} | {hit:,} | "
        f"{sum(state['fired'][:4]):,} | {broken} | {good:,} ({100 * good / calls:.2f} %) | "
        f"{calls - good:,} |"
    )


def _soaked(soak: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {soak['first'][name]:g} and {soak['last'][name]:g}" for name in soak["first"]
    ]
    return (
        f"Soak: {soak['calls']:,} calls in {soak['minutes']:g} minutes, the same faults, one "
        f"process. Means of the first and the last quarter: {', '.join(parts)}."
    )
