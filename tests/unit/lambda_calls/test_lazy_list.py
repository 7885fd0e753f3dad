"""A pickled list is put together from pickles that nobody opens before it is opened."""

import io
import pickle
import pickletools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lambda_calls.lazy_list import pickled_list

VALUES = st.lists(st.integers() | st.text() | st.binary() | st.none() | st.lists(st.integers()))


@given(VALUES)
def test_it_is_the_list_of_its_members(values: list[Any]) -> None:
    """Whatever they are, in their order."""
    assert pickle.loads(pickled_list(map(pickle.dumps, values))) == values


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 5000])
def test_any_number_of_members(count: int) -> None:
    """Members are appended a thousand at a time; the pickle is a valid one."""
    data = pickled_list(pickle.dumps(x) for x in range(count))
    pickletools.dis(data, out=io.StringIO())
    assert pickle.loads(data) == list(range(count))


def test_members_of_modules_that_are_not_here() -> None:
    """Putting it together opens none of them; opening it does."""
    unknown = b"cno_such_module\nThing\n."
    data = pickled_list([pickle.dumps(1), unknown])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        pickle.loads(data)
