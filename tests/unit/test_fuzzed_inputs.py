"""What `make fuzz` feeds for hours is fed here for seconds: files, answers, pings, reports."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import fuzzing

pytestmark = pytest.mark.filterwarnings("ignore")
some = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PIECES = [
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"'",
    b"=",
    b"\n",
    b"\0",
    b"\xff",
    b"*a",
    b"&a ",
    b"9" * 30,
]
PIECES += [b"!!int ", b"null", b"1e400", b"file://x.yaml", b"\\u0000", b"-1", b"true", b"a.b"]


@st.composite
def spoiled(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the inputs that are right, less or more a few bytes in a few places."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        put = draw(st.sampled_from([b"", data[start:end] * 2, *PIECES]) | st.binary(max_size=6))
        data = data[:start] + put + data[end:]
    return data


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_inputs_to_begin_with(name: str) -> None:
    """Those that `make fuzz` begins with, what once did harm among them, are read or refused."""
    for seed in fuzzing.SEEDS[name]:
        fuzzing.TARGETS[name](seed)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
@some
@given(data=st.data())
def test_spoiled_inputs(name: str, data: st.DataObject) -> None:
    """So are those that differ from them in a few places, and bytes of any kind."""
    short = [seed for seed in fuzzing.SEEDS[name] if len(seed) < 1000]
    fuzzing.TARGETS[name](data.draw(spoiled(short) | st.binary(max_size=200)))
