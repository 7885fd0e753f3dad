"""What is kept of a stream: in order, in bounded memory."""

import os
import subprocess

import pytest

import task_streams as streams


def test_one_chunk_after_the_other() -> None:
    """What is written to the pipe is kept in order, up to its end."""
    stream = streams.Stream()
    os.write(stream.writer, b"first ")
    assert stream.take()
    os.write(stream.writer, b"second")
    os.close(stream.writer)
    stream.drain()
    assert stream.text == "first second"
    stream.close()


def test_does_not_wait_for_a_process_left_behind() -> None:
    """A writer that is still there does not hold the end back."""
    stream = streams.Stream()
    os.write(stream.writer, b"early")
    stream.drain()
    assert stream.text == "early"
    os.close(stream.writer)
    stream.close()


def test_does_not_wait_for_a_process_that_never_stops_writing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more is taken in the end than a pipe can hold."""
    taken: list[bool] = []
    take = streams.Stream.take

    def counted(stream: streams.Stream) -> bool:
        taken.append(take(stream))
        return taken[-1]

    monkeypatch.setattr(streams.Stream, "take", counted)
    stream = streams.Stream()
    left = subprocess.Popen(["yes"], stdout=stream.writer)
    os.close(stream.writer)
    stream.drain()
    left.kill()
    left.wait()
    stream.close()
    assert len(taken) <= streams._LAST_CHUNKS


def test_keeps_head_and_tail_of_a_long_stream() -> None:
    """Of 40 MB, head and tail stay, and the mark counts what was cut."""
    line = b"x" * 999 + b"\n"
    clipped = streams.Clipped(head=5000, tail=7000)
    clipped.add(b"first\n")
    for _ in range(40_000):
        clipped.add(line)
    clipped.add(b"last\n")
    text = clipped.text()
    assert text.startswith("first\n") and text.endswith("last\n")
    assert f"[... {40_000_000 + 11 - 12_000} bytes cut here" in text
    assert len(text) < 12_200


def test_short_stream_is_whole() -> None:
    """A stream longer than the head but shorter than both together is joined without a mark."""
    clipped = streams.Clipped(head=3, tail=10)
    clipped.add("aä€b".encode())
    assert clipped.text() == "aä€b"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("mark", ["60ab", "ffff"])
def test_output_of_calls_is_told_apart(mark: str, size: int) -> None:
    """However the pipe cuts them, marks say whose output is whose; the log has none of them."""
    split = streams.Split(mark, 100)
    written = (
        f"before\n\0{mark}:0\0one\ntwo\n\0{mark}:1\0\0{mark}:2\0a \0 zero\n\0{mark}:4294967295\0"
    ).encode()
    log = b"".join(split.add(written[i : i + size]) for i in range(0, len(written), size))
    assert split.texts() == {-1: "before\n", 0: "one\ntwo\n", 2: "a \0 zero\n"}
    assert log == b"before\none\ntwo\na \0 zero\n"


def test_a_mark_without_an_end_is_no_mark() -> None:
    """A call knows the mark, and may begin one and write on for ever: nothing of that is kept
    back, in memory or from the log."""
    split, chunk = streams.Split("60ab", 3), b"x" * 65_536
    log = split.add(b"\x0060ab:1" + chunk)
    assert log.endswith(chunk) and len(split._unread) < 100
    assert split.add(chunk) == chunk


def test_numbers_of_calls_that_are_not_there_are_not_kept() -> None:
    """Else a call could have the parent keep as many as there are numbers."""
    split = streams.Split("60ab", 3)
    split.add(b"".join(b"\x0060ab:%d\x00x" % number for number in range(1000)))
    assert set(split.texts()) == {0, 1, 2}
