"""The executor's arguments and `[executors.awslambda]` of covalent.conf: checked, with origins."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from covalent._shared_files import config
from lambda_calls.checked import seconds

from .errors import ConfigurationError

if TYPE_CHECKING:
    from lambda_calls.settings import Origin, Settings, SettingsReader

T = TypeVar("T")
TABLE = "executors.awslambda"


class Conf:
    """What covalent.conf says of this executor, as Covalent read it last.

    Args:
        defaults: what Covalent writes there by itself.
    """

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        try:
            said = config.get_config(TABLE)
        except KeyError:
            said = {}
        self._defaults, self._said = defaults, said
        self.values = {**defaults, **said}

    def is_source_of(self, given: Mapping[str, Any]) -> bool:
        """Whether Covalent passed its own configuration, as for `executor="awslambda"`.

        It then calls the class with everything that the table holds.
        """
        return bool(self._said) and all(
            name in self._said and self._said[name] == value for name, value in given.items()
        )

    def origin(self, name: str) -> "Origin":
        """Where a value of this table stands."""
        from lambda_calls.settings import Kind, Origin

        file = str(config._config_manager.config_file)
        return Origin(Kind.COVALENT_CONF, file=file, table=TABLE, key=name)

    def remark_on_unknown(self, constructor: Callable[..., Any]) -> str:
        """Say which keys an executor does not know; older plugins wrote some. "" if none."""
        more = self._said.keys() - self._defaults.keys()
        if more:
            more -= inspect.signature(constructor).parameters.keys()
        if not more:
            return ""
        table = f"{config._config_manager.config_file} [{TABLE}]"
        unknown = ", ".join(sorted(more))
        return (
            f"{table} holds {unknown}: this executor has no such option and ignores it. Remove it "
            "from the file."
        )


class Options:
    """The executor's options beside its names: from an argument, else from covalent.conf.

    Args:
        given: the arguments; None and "" mean "not given".
        conf: what covalent.conf says.
        by_covalent: whether the arguments are those of covalent.conf. Covalent makes an executor
            from it before it fills in the attributes of the user's own, so a mistake there is
            noted as `problem`, and the default is taken instead.

    Attributes:
        origins: where options that are not at their defaults came from, as JSON.
    """

    def __init__(self, given: Mapping[str, Any], conf: Conf, *, by_covalent: bool) -> None:
        self._given, self._conf, self._by_covalent = given, conf, by_covalent
        self.problem = ""
        self.origins: dict[str, dict[str, str]] = {}

    def checked(self, name: str, check: Callable[[Any], T], default: T) -> T:
        """The option's value as `check` returns it; `default` if nobody gave one.

        Raises:
            ConfigurationError: if `check` raises ValueError, whose text says what it must be.
        """
        value, is_argument = self._given[name], not self._by_covalent
        if value in (None, ""):
            value, is_argument = self._conf.values.get(name), False
        if value in (None, ""):
            return default
        try:
            found = check(value)
        except ValueError as error:
            where = "" if is_argument else f", from {self._conf.origin(name)},"
            self.note(ConfigurationError(f"{name}={value!r}{where} {error}"))
            return default
        if found != default:
            self._note_origin(name, is_argument=is_argument)
        return found

    def argument(self, name: str) -> Any:
        """The value of an option that covalent.conf does not hold."""
        if value := self._given[name]:
            self._note_origin(name, is_argument=True)
        return value

    def _note_origin(self, name: str, *, is_argument: bool) -> None:
        from lambda_calls.settings import Origin

        origin = Origin.argument(name) if is_argument else self._conf.origin(name)
        self.origins[name] = origin.as_dict()

    def note(self, error: ConfigurationError) -> None:
        """Raise an error in the user's own program; keep it for `run` in Covalent's server."""
        if not self._by_covalent:
            raise error from None  # it says all there is
        self.problem = self.problem or str(error)

    def settings(
        self, reader: "SettingsReader", *, samconfig: str | None, config_env: str | None
    ) -> "Settings":
        """Where electrons go, from every source there is; see `SettingsReader.resolve`.

        Raises:
            ConfigurationError: if they cannot be read.
        """
        from lambda_calls.settings import DEFAULTS, Origin, SettingsError, documented, given

        arguments = {} if self._by_covalent else {name: self._given[name] for name in DEFAULTS}
        said = {name: self._conf.values[name] for name in DEFAULTS}
        try:
            return reader.resolve(
                given(arguments, Origin.argument),
                conf=given(said, self._conf.origin),
                conf_first=self._by_covalent,
                samconfig=samconfig,
                config_env=config_env,
                environ=os.environ,
            )
        except SettingsError as error:
            self.note(ConfigurationError(str(error)))
            return documented()


def limit(value: Any) -> float:
    """A number of seconds, or -1: no limit."""
    return -1 if value == -1 else seconds(value)


def unexpected(given: Mapping[str, Any], constructor: Callable[..., Any]) -> str:
    """What Python says of an argument that a constructor does not have."""
    import difflib

    name = next(iter(given))
    close = difflib.get_close_matches(name, inspect.signature(constructor).parameters, n=1)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    return f"AWSLambdaExecutor() got an unexpected keyword argument {name!r}{hint}"
