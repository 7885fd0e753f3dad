"""CPython's own tests of executors, run on a pool whose calls real handlers run.

They come with Python's test-suite, which some installations leave out: the tests are skipped then.
Of the Pythons on which CI runs them, 3.10 and 3.13 have it.
"""

import unittest
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from fleet import Fleet, pool
from lambda_calls import LambdaPoolExecutor

# In Python 3.12 a package; before that, one module.
_PARTS = {
    "util": "ExecutorMixin",
    "executor": "ExecutorTest",
    "test_wait": "WaitTests",
    "test_as_completed": "AsCompletedTests",
    "test_shutdown": "ExecutorShutdownTest",
    "test_init": "InitializerMixin",
}
# Why some of them make no sense here; each has a counterpart in test_pool.py.
_IN_A_SCRIPT = "its script imports the class by its name from concurrent.futures"
EXCEPTIONS = {
    "test_cancel_futures": "it counts on a call having begun within microseconds",
    "test_interpreter_shutdown": _IN_A_SCRIPT,
    "test_submit_after_interpreter_shutdown": _IN_A_SCRIPT,
    "test_hang_gh83386": _IN_A_SCRIPT,
}
# Two more parts are left out whole. FailingInitializerMixin looks at the private `_broken`, and in
# this process's log of concurrent.futures; its counterpart is in test_environments.py.
# ExecutorDeadlockTest makes pools with `mp_context`, as only processes have one; what it fears
# (crashes, and values that cannot be pickled or unpickled) is in test_pool.py.


def _suite() -> SimpleNamespace:
    try:
        whole = import_module("test.test_concurrent_futures")
        if hasattr(whole, "ExecutorTest"):
            found = {name: getattr(whole, name) for name in _PARTS.values()}
        else:
            found = {
                name: getattr(import_module(f"{whole.__name__}.{part}"), name)
                for part, name in _PARTS.items()
            }
    except ImportError as error:
        pytest.skip(f"this Python came without its tests: {error}", allow_module_level=True)
    return SimpleNamespace(**found)


suite = _suite()


class Pool(LambdaPoolExecutor):
    """A pool on the stand-in's function."""

    def __new__(cls, *args: Any, **arguments: Any) -> Any:
        return pool(**arguments)


class OnThePool(suite.ExecutorMixin, unittest.TestCase):  # type: ignore[name-defined, misc]
    """Gives CPython's mixins the executor that they test."""

    executor_type: Any = Pool
    worker_count = 2

    @pytest.fixture(autouse=True)
    def _environments(self, fleet: Fleet) -> None:
        """Two of them answer."""

    def setUp(self) -> None:
        if self._testMethodName in EXCEPTIONS:
            self.skipTest(EXCEPTIONS[self._testMethodName])
        super().setUp()
        if self._testMethodName == "test_map_timeout":
            # It allows two calls five seconds: not the start of the environments, too.
            list(self.executor.map(abs, range(8), chunksize=1))


class TestExecutor(suite.ExecutorTest, OnThePool):  # type: ignore[name-defined, misc]
    pass


class TestWait(suite.WaitTests, OnThePool):  # type: ignore[name-defined, misc]
    pass


class TestAsCompleted(suite.AsCompletedTests, OnThePool):  # type: ignore[name-defined, misc]
    pass


class TestShutdown(suite.ExecutorShutdownTest, OnThePool):  # type: ignore[name-defined, misc]
    pass


class TestInitializer(suite.InitializerMixin, OnThePool):  # type: ignore[name-defined, misc]
    pass


def test_the_exceptions_are_still_tests_of_cpython() -> None:
    """An exception for a test that is no more would hide nothing, and say so for ever."""
    found = {name for part in vars(suite).values() for name in dir(part)}
    newer = {"test_hang_gh83386"}  # not in all versions
    assert set(EXCEPTIONS) - found <= newer
