"""Processes that share a batch of calls: each call is one process's turn."""

import array
import os
from pathlib import Path

import pytest

import task_calls
import task_channel
import wire

TURNS = 50_000
PROCESSES = 3


def taking(turns: int, gate: int, into: Path) -> int:
    """The id of a process that takes all turns it can get once the gate opens, and tells how
    many."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.read(gate, 1)
        frames = wire.Frame(wire.ITEM, 0, b"").to_bytes()
        into.write_text(str(sum(1 for _ in task_calls._taking_turns(frames, turns))))
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("attempt", range(8))
def test_no_turn_is_taken_twice(tmp_path: Path, attempt: int) -> None:
    """However fast processes take turns, there are as many as there are calls, all of the first
    one here."""
    turns = task_channel.memory_file(str(tmp_path))
    gate, opens = os.pipe()
    try:
        task_channel.write_all(turns, array.array("I", [0] * TURNS).tobytes())
        os.lseek(turns, 0, os.SEEK_SET)
        files = [tmp_path / str(number) for number in range(PROCESSES)]
        started = [taking(turns, gate, file) for file in files]
        os.write(opens, b"x" * PROCESSES)
        assert [os.waitpid(pid, 0)[1] for pid in started] == [0] * PROCESSES
    finally:
        for fd in (turns, gate, opens):
            os.close(fd)
    assert sum(int(file.read_text()) for file in files) == TURNS
