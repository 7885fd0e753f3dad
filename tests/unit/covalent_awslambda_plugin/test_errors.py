"""The core's errors at Covalent's face."""

import inspect

import pytest
from covalent._shared_files.exceptions import TaskRuntimeError
from covalent_awslambda_plugin import errors
from lambda_calls import errors as core

OF_A_CALL = [
    x
    for _, x in inspect.getmembers(core, inspect.isclass)
    if issubclass(x, core.LambdaCallError) and x.__module__ == core.__name__
]


@pytest.mark.parametrize("kind", OF_A_CALL, ids=lambda x: x.__name__)
def test_each_is_one_of_covalents_too(kind: type[core.LambdaCallError]) -> None:
    """Either name catches it, and nothing of what it says is lost."""
    error = kind("said", hint="do that", type="ValueError", traceback="its traceback")
    found = errors.as_covalents(error)
    assert isinstance(found, TaskRuntimeError)
    # A class that the face joins with another one is at least told with the same remedy.
    assert isinstance(found, kind) or type(found).__name__ in (
        "ConfigurationError",  # of credentials
        "TaskRejectedError",  # of an initializer, which electrons have none of
    )
    told = found.message, found.hint, found.type, found.traceback
    assert told == ("said", "do that", "ValueError", "its traceback")
