"""`covalent-lambda logs` shows what electrons wrote to the function's log, also while they run.

    the dispatch ─► function ─► its log group ─► the lines `runs <dispatch>-<node>-…`
                                                    └► each one's log stream, from there to END

The lines between do not say whose they are; an environment runs one invocation at a time, so those
that follow in its stream are its.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
"""

from __future__ import annotations

import argparse
import itertools
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lambda_calls import wire
from lambda_calls.aws.clients import Account

from . import aws, names
from .dispatches import ENDED, Dispatch, Dispatches, add_dispatch
from .errors import CommandError
from .output import Output

HELP = "show what electrons wrote to the function's log"
DESCRIPTION = """\
Show the function's log of a dispatch, of one electron of it, or of one request.
With --follow, also what comes while electrons run, until the dispatch has ended.
It reads CloudWatch Logs: whoever runs this needs logs:FilterLogEvents and
logs:GetLogEvents on the function's log group.
"""

_PAUSE = 1.5  # seconds between two looks while following
_AFTER_END = 5.0  # seconds that the last lines may take to get there
_EARLIER = 60.0  # seconds that clocks may differ
_LOOKS_PER_SEARCH = 5  # for sublattices that have begun meanwhile

Chosen = Mapping[int, tuple[str, str]]  # by node: its number as it is shown, and its name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_dispatch(parser)
    parser.add_argument(
        "--electron", metavar="NODE", help="only this one: its node number, or its name"
    )
    parser.add_argument(
        "--request", metavar="ID", help="only this request, as `show` and `usage=True` name it"
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on with what comes, until the dispatch ends"
    )
    names.add_arguments(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Show it."""
    if options.request:
        if options.follow or options.electron or options.dispatch:
            raise CommandError("--request goes alone: a request is one invocation.")
        return _show_request(options, output)
    dispatches = Dispatches.configured()
    dispatch = dispatches.dispatch(dispatches.chosen(options.dispatch))
    followed = _Followed(dispatches, dispatch, options)
    shown = 0
    for number, name, message in _lines(followed, follow=options.follow):
        shown += 1
        _write(number, name, message, output)
    if not shown and not output.as_json:
        output.line(
            "The log has no line of it (yet): CloudWatch takes some seconds, and the group keeps "
            "lines for LogRetentionDays. Functions that were deployed before this command existed "
            "do not name their electrons there: `covalent-lambda logs --request ID` finds those."
        )
    return 0


@dataclass
class _Tail:
    """One invocation's lines, read as they come.

    The mutable state is how far its stream was read.
    """

    group: _Group
    stream: str
    since: int
    first: str  # the message from which on lines are its
    number: str
    name: str
    token: str = ""
    has_begun: bool = False
    has_ended: bool = False

    def read(self) -> Iterator[str]:
        """The lines that have come since the last time."""
        while not self.has_ended:
            events, token = self.group.events(self.stream, self.since, self.token)
            for event in events:
                message = str(event["message"]).rstrip("\n")
                if not self.has_begun:
                    self.has_begun = self.first in message
                elif re.match(r"(END|REPORT) RequestId: ", message):
                    self.has_ended = True
                    return
                elif message.startswith("START RequestId: "):
                    self.has_ended = True  # its own end got lost
                    return
                else:
                    yield message
            if token == self.token or not events:
                return
            self.token = token


@dataclass
class _Group:
    """One function's log group."""

    client: Any
    name: str

    def found(self, pattern: str, since: float) -> list[Mapping[str, Any]]:
        """The events that hold a text, the oldest first."""
        found: list[Mapping[str, Any]] = []
        with aws.refusals_worded(f"log group {self.name}", "logs:FilterLogEvents"):
            pages = self.client.get_paginator("filter_log_events").paginate(
                logGroupName=self.name,
                filterPattern=f'"{pattern}"',
                startTime=max(0, int(1000 * since)),
            )
            for page in pages:
                # Some emulators do not filter.
                found += [event for event in page["events"] if pattern in event["message"]]
        return sorted(found, key=lambda event: int(event["timestamp"]))

    def events(self, stream: str, since: int, token: str) -> tuple[list[Mapping[str, Any]], str]:
        """The next events of a stream, and the token for those after them."""
        more = {"nextToken": token} if token else {}
        with aws.refusals_worded(f"log group {self.name}", "logs:GetLogEvents"):
            answer = self.client.get_log_events(
                logGroupName=self.name,
                logStreamName=stream,
                startTime=since,
                startFromHead=True,
                **more,
            )
        return answer["events"], str(answer["nextForwardToken"])


@dataclass
class _Log:
    """Where the electrons of one function write; the mutable state is what was found there."""

    group: _Group
    tails: dict[tuple[str, str], _Tail] = field(default_factory=dict)
    since: float = 0.0

    def look(self, dispatch_id: str, chosen: Chosen) -> Iterator[tuple[str, str, str]]:
        """The lines that have come since the last look, with their electrons."""
        begins = f"{wire.RUNS}{dispatch_id}-"
        for event in self.group.found(begins, self.since):
            number = _number(event["message"], begins)
            key = (event["logStreamName"], event["message"])
            if number in chosen and key not in self.tails:
                shown, name = chosen[number]
                self.tails[key] = _Tail(
                    self.group,
                    stream=event["logStreamName"],
                    since=int(event["timestamp"]),
                    first=str(event["message"]).strip(),
                    number=shown,
                    name=name,
                )
            self.since = max(self.since, int(event["timestamp"]) / 1000 - _EARLIER)
        for tail in self.tails.values():
            for line in tail.read():
                yield tail.number, tail.name, line


class _Followed:
    """A dispatch and the sublattices below it, which appear as it goes on.

    The mutable state is what was found of them, and how far their logs were read.

    Args:
        dispatches: of the server.
        dispatch: what was asked for.
        options: the command's; its `electron` is the number or name of the only one to show.

    Raises:
        CommandError: if there is no such electron, or none on Lambda.
    """

    def __init__(
        self, dispatches: Dispatches, dispatch: Dispatch, options: argparse.Namespace
    ) -> None:
        self.dispatches, self.dispatch, self._options = dispatches, dispatch, options
        self._members: dict[str, tuple[Chosen, list[_Log]]] = {}
        self._names: set[str] = set()
        self.find_members(dispatch)
        if not any(chosen for chosen, _ in self._members.values()):
            there, electron = ", ".join(sorted(self._names)) or "none", options.electron
            raise CommandError(
                f"Dispatch {dispatch.id} has no electron {electron or 'at all'!r}; it has {there}."
            )
        if dispatch.has_ended and not any(logs for _, logs in self._members.values()):
            raise CommandError(
                f"Dispatch {dispatch.id} has no electron on the executor awslambda, so "
                "the function's log has nothing on it."
            )

    def find_members(self, dispatch: Dispatch) -> None:
        """Take in the sublattices that have come since the last time."""
        for path, member in self.dispatches.family(dispatch):
            if member.id not in self._members:
                chosen = _chosen(member, path, self._options.electron)
                logs = self._logs_of(member, chosen) if chosen else []
                self._members[member.id] = chosen, logs
                own = (node.name for node in member.electrons())
                self._names |= {name for name in own if not name.startswith(":")}

    def _logs_of(self, dispatch: Dispatch, chosen: Chosen) -> list[_Log]:
        """The logs of the functions that its electrons were sent to."""
        targets = {
            self._target(said)
            for number, said in self.dispatches.executors(dispatch.id).items()
            if number in chosen
        }
        since = dispatch.started - _EARLIER
        return [_Log(_group(account, name), since=since) for account, name in targets]

    def _target(self, said: Mapping[str, Any]) -> tuple[Account, str]:
        """Where an executor sends electrons; of `executor="awslambda"` nothing is said."""
        if "function_name" in said:
            account = Account(said["region"], said["profile"], said["credentials_file"])
            return account, said["function_name"]
        settings = names.resolved(self._options, by_name=True)
        return names.account(settings), settings.function_name.value

    def look(self) -> Iterator[tuple[str, str, str]]:
        """The lines that have come since the last look, with their electrons."""
        for dispatch_id, (chosen, logs) in list(self._members.items()):
            for log in logs:
                yield from log.look(dispatch_id, chosen)


def _lines(followed: _Followed, *, follow: bool) -> Iterator[tuple[str, str, str]]:
    dispatches, dispatch = followed.dispatches, followed.dispatch
    end = None if follow and not dispatch.has_ended else time.monotonic()
    for look in itertools.count(1):
        yield from followed.look()
        if end is None and dispatches.status(dispatch.id) in ENDED:
            end = time.monotonic() + _AFTER_END
            followed.find_members(dispatches.dispatch(dispatch.id))
        elif end is None and look % _LOOKS_PER_SEARCH == 0:
            followed.find_members(dispatches.dispatch(dispatch.id))
        if end is not None and time.monotonic() >= end:
            return
        time.sleep(_PAUSE)


def _chosen(dispatch: Dispatch, path: str, electron: str | None) -> Chosen:
    """The electrons that were asked for, by number, with the number that is shown, and name."""
    return {
        node.number: (f"{path}{node.number}", node.name)
        for node in dispatch.electrons()
        if electron is None or electron in (f"{path}{node.number}", node.name)
    }


def _group(account: Account, function: str) -> _Group:
    name = function.rpartition("function:")[2].partition(":")[0]  # of an ARN, its name
    return _Group(aws.client(account, "logs"), f"/aws/lambda/{name}")


def _number(message: str, begins: str) -> int:
    found = re.match(r"\d+", message.partition(begins)[2])
    return int(found[0]) if found else -1


def _show_request(options: argparse.Namespace, output: Output) -> int:
    settings = names.resolved(options)
    group = _group(names.account(settings), settings.function_name.value)
    start = f"START RequestId: {options.request}"
    found = group.found(start, 0.0)
    if not found:
        raise CommandError(
            f"{group.name} has no request {options.request!r}. Is it another function's "
            "(--config-env), or older than LogRetentionDays?"
        )
    event = found[0]
    stream, since = event["logStreamName"], int(event["timestamp"])
    for message in _Tail(group, stream, since, start, number="", name="").read():
        _write("", "", message, output)
    return 0


def _write(number: str, name: str, message: str, output: Output) -> None:
    output.record({"node": number or None, "name": name or None, "line": message})
    output.line((f"{name}[{number}] " if number else "", "quiet"), message)
