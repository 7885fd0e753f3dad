"""The sentences: each can be said, and the page that lists them is what they are."""

import importlib.util
import re
import string
from typing import Any

import pytest
from lambda_calls import messages, wire
from lambda_calls.errors import ConfigurationError, CredentialsError
from lambda_calls.messages import Message
from template_paths import REPOSITORY


@pytest.mark.parametrize("message", messages.ALL, ids=lambda x: x.situation)
def test_each_sentence_can_be_said(message: Message) -> None:
    """Its fields can be filled, and no brace is left."""
    fields = [name for _, name, _, _ in string.Formatter().parse(message.text) if name]
    said = str(message(**{name: 1 for name in fields}))
    assert said and not re.search(r"[{}]", said)


def test_pages_are_generated() -> None:
    """The parts of docs/ that the code knows better are what it says; `make docs` writes them."""
    path = REPOSITORY / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in module.PARTS:
        page = REPOSITORY / "docs" / name
        assert module.written(page) == page.read_text("utf-8"), "run `make docs`"


def failure(kind: str = wire.EXCEPTION, **fields: Any) -> wire.Failure:
    return wire.Failure(kind=kind, **{"message": "m", **fields})


def hint(**fields: Any) -> str:
    return messages.hint(failure(**fields), wire.Usage(memory_mb=512))


def test_missing_package_is_told_from_missing_file() -> None:
    """What is installed here is a package; what is not may be a file of one's own: the remedy
    that fits comes first."""
    package = hint(type="ModuleNotFoundError", message="No module named 'pytest.x'")
    assert "deps_module" not in package and "function/requirements.txt" in package
    file = hint(type="ModuleNotFoundError", message="No module named 'my_helpers'")
    assert file.index("deps_module=my_helpers") < file.index("function/requirements.txt")
    assert "inside the electron's own body" in file


def test_missing_module_while_unpickling() -> None:
    """The function says so in its own words there."""
    said = "The function cannot unpickle argument 0: No module named 'my_helpers'"
    assert "deps_module" in hint(kind=wire.CANNOT_LOAD, type="ModuleNotFoundError", message=said)


def test_what_is_pickled_by_its_name() -> None:
    """functools.lru_cache and the like at the script's top are named as the cause."""
    said = "Can't get attribute 'cached' on <module '__main__' from '/var/task/x.py'>"
    assert "'cached' is defined in your script" in hint(type="AttributeError", message=said)


def test_no_hint_where_none_fits() -> None:
    """An ordinary exception speaks for itself."""
    assert hint(type="ValueError", message="3 rows") == ""


def test_credentials_of_sso() -> None:
    """Where SSO's token has expired, the command that renews it is named."""
    from botocore.exceptions import SSOTokenLoadError, UnauthorizedSSOTokenError

    for error in (UnauthorizedSSOTokenError(), SSOTokenLoadError(error_msg="gone")):
        said = messages.not_signed(error, "")
        assert isinstance(said, CredentialsError) and "aws sso login" in str(said)


def test_other_failures_to_sign_are_settings() -> None:
    """A region that is missing is no matter of credentials."""
    from botocore.exceptions import NoRegionError

    said = messages.not_signed(NoRegionError(), "")
    assert type(said) is ConfigurationError and "region=" in str(said)


def test_emulators_figures_are_not_quoted() -> None:
    """An emulator repeats the limit of memory as the memory used."""
    log = "REPORT RequestId: r\tMemory Size: 512 MB\tMax Memory Used: 512 MB\t\n"
    killed = b'{"errorType": "Runtime.ExitError", "errorMessage": "signal: killed"}'
    values: Any = {"call": "call", "function": "fn"}
    assert "512 of 512" in str(messages.of_crash(killed, log, real=True, **values))
    emulated = str(messages.of_crash(killed, log, real=False, **values))
    assert "512 of 512" not in emulated and "it had used" not in emulated


def test_a_sandbox_says_what_works_there() -> None:
    """Where a package gets into the function in another way, that way is advised."""
    missing = failure(type="ModuleNotFoundError", message="No module named 'numpy'")
    said = messages.hint(missing, wire.Usage(), "run `make up PACKAGES=...`")
    assert "make up PACKAGES" in said and "requirements.txt" not in said
