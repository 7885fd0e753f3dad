"""The sentences: each can be said, and the page that lists them is what they are."""

import re
import string
from typing import Any

import pytest
from covalent_awslambda_plugin.errors import advice
from lambda_calls import messages, wire
from lambda_calls.errors import ConfigurationError, CredentialsError
from lambda_calls.messages import Message


@pytest.mark.parametrize("message", messages.ALL, ids=lambda x: x.situation)
def test_each_sentence_can_be_said(message: Message) -> None:
    """Its fields can be filled, and no brace is left."""
    fields = [name for _, name, _, _ in string.Formatter().parse(message.text) if name]
    said = str(message(**{name: 1 for name in fields}))
    assert said and not re.search(r"[{}]", said)


@pytest.mark.parametrize("message", messages.ALL, ids=lambda x: x.situation)
def test_each_remedy_deploys_the_environment_that_was_asked_for(message: Message) -> None:
    """`sam deploy` alone deploys samconfig.toml's `default`, whatever the executor runs on."""
    assert message.text.count("deploy{option}") == len(re.findall(r"sam\s+deploy", message.text))


PROD = messages.Advice(option=" --config-env prod")
HINTED = [
    {"type": "ModuleNotFoundError", "message": "No module named 'pytest.x'"},
    {"type": "ModuleNotFoundError", "message": "No module named 'my_helpers'"},
    {
        "type": "AttributeError",
        "message": "Can't get attribute 'c' on <module '__main__' from 's'>",
    },
    {"type": "MemoryError"},
    {
        "type": "subprocess.CalledProcessError",
        "message": "Command '['python', '-m', 'pip', 'install', 'x']' returned 1",
    },
]


@pytest.mark.parametrize("fields", HINTED)
def test_hints_speak_the_callers_language(fields: dict[str, str]) -> None:
    """A pool's user has calls, and no Covalent; the environment that was asked for is named."""
    usage = wire.Usage(memory_mb=512)
    said = messages.hint(failure(**fields), usage, call="call", advice=PROD)
    assert said
    assert not re.search(r"\bct\.|electron|Covalent|DepsPip|awslambda", said)
    assert said.count("sam deploy") == said.count("sam deploy --config-env prod")


def test_hints_of_electrons_know_covalent() -> None:
    """Its users may have pip run in the function, and name executors by a text."""
    by_covalent = advice(" --config-env prod")
    missing = failure(**HINTED[1])
    said = messages.hint(missing, wire.Usage(), call="electron", advice=by_covalent)
    assert "not inside the electron" in said and "deps_pip=ct.DepsPip" in said
    assert 'With executor="awslambda"' in said and "sam deploy --config-env prod`" in said


@pytest.mark.parametrize("kind", [wire.OUT_OF_MEMORY, wire.DEADLINE])
def test_failures_name_the_environment_that_was_asked_for(kind: str) -> None:
    error = messages.of_failure(
        failure(kind),
        wire.Usage(duration=3.0),
        call="call",
        function="fn",
        limits={"timeout": 900.0},
        advice=PROD,
    )
    assert "sam deploy --config-env prod`" in str(error)


def failure(kind: str = wire.EXCEPTION, **fields: Any) -> wire.Failure:
    return wire.Failure(kind=kind, **{"message": "m", **fields})


def hint(**fields: Any) -> str:
    usage = wire.Usage(memory_mb=512)
    return messages.hint(failure(**fields), usage, call="call", advice=messages.Advice())


def test_missing_package_is_told_from_missing_file() -> None:
    """What is installed here is a package; what is not may be a file of one's own: the remedy
    that fits comes first."""
    package = hint(type="ModuleNotFoundError", message="No module named 'pytest.x'")
    assert "carry=" not in package and "function/requirements.txt" in package
    file = hint(type="ModuleNotFoundError", message="No module named 'my_helpers'")
    assert file.index("carry=['my_helpers']") < file.index("function/requirements.txt")
    assert "not inside the call" in file


@pytest.mark.parametrize("name", ["lambda_calls", "covalent_awslambda_plugin.awslambda"])
def test_the_executors_own_package_is_not_looked_for_on_an_index(name: str) -> None:
    """An electron with a pool, in an image without it: requirements.txt is the wrong place."""
    said = hint(type="ModuleNotFoundError", message=f"No module named '{name}'")
    assert "requirements.txt" not in said and "carry=" not in said
    assert f"lacks the module '{name.partition('.')[0]}'" in said
    assert '"A pool within an electron" in docs/fan-out.md' in said


def test_missing_module_while_unpickling() -> None:
    """The function says so in its own words there."""
    said = "The function cannot unpickle argument 0: No module named 'my_helpers'"
    assert "carry=" in hint(kind=wire.CANNOT_LOAD, type="ModuleNotFoundError", message=said)


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
    values: Any = {"call": "call", "function": "fn", "option": ""}
    assert "512 of 512" in str(messages.of_crash(killed, log, real=True, **values))
    emulated = str(messages.of_crash(killed, log, real=False, **values))
    assert "512 of 512" not in emulated and "it had used" not in emulated


def test_a_sandbox_says_what_works_there() -> None:
    """Where a package gets into the function in another way, that way is advised."""
    missing = failure(type="ModuleNotFoundError", message="No module named 'numpy'")
    advice = messages.Advice(add_package="run `make up PACKAGES=...`")
    said = messages.hint(missing, wire.Usage(), call="call", advice=advice)
    assert "make up PACKAGES" in said and "requirements.txt" not in said
