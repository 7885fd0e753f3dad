"""Covalent's view of the executor: arguments, names, and the methods that are documented.

An executor is built where the workflow is written and rebuilt from JSON in the server, so it
holds strings and numbers only; clients live in `server`, once for the whole process.

`import covalent` waits for this module, and what runs electrons takes three times as long again:
methods import it when they need it, which a script that only writes workflows never does.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from covalent._shared_files import logger
from covalent._shared_files.config import get_config
from covalent._shared_files.util_classes import RESULT_STATUS
from covalent.executor.executor_plugins.remote_executor import RemoteExecutor
from covalent.executor.schemas import TaskUpdate
from lambda_calls import checked

from . import options
from .errors import ConfigurationError

if TYPE_CHECKING:
    from lambda_calls.aws.clients import Account
    from lambda_calls.aws.objects import Objects
    from lambda_calls.carrying import Carrier
    from lambda_calls.session import Target
    from lambda_calls.settings import SettingsReader

    from .running import Terms

T = TypeVar("T")

EXECUTOR_PLUGIN_NAME = "AWSLambdaExecutor"
executor_plugin_name = EXECUTOR_PLUGIN_NAME  # the public plugin's spelling

# Covalent writes these into covalent.conf and passes them back as arguments when the executor is
# named by string. Empty names leave the choice to samconfig.toml; the documented names are the
# last resort.
_EXECUTOR_PLUGIN_DEFAULTS = {
    "function_name": "",
    "s3_bucket_name": "",
    "credentials_file": "",
    "profile": "",
    "region": "",
    "execution_role": "",
    "cache_dir": "",
    "poll_freq": 5,
    "timeout": 900,
}
_OPTIONS = (
    "endpoint_url",
    "timeout",
    "time_limit",
    "retries",
    "usage",
    "prices",
    "log_stdout",
    "log_stderr",
    "poll_freq",
    "cache_dir",
    "execution_role",
)

# What gives `executor="awslambda"` its names in a server that runs outside of the project.
CONFIGURE = "covalent-lambda configure"


class AWSLambdaExecutor(RemoteExecutor):
    """Runs electrons on an AWS Lambda function.

    With no arguments it takes its names from the project's samconfig.toml.

    Args:
        function_name: name of the Lambda function (or its ARN).
        s3_bucket_name: name of the bucket for what is too large for an invocation (6 MB).
        credentials_file: path of a shared AWS credentials file, as Covalent's server sees it.
        profile: name of the AWS profile to use.
        region: AWS region of function and bucket.
        poll_freq: longest seconds between looks at S3, for functions of Covalent's stock image.
        timeout: seconds for one electron, waiting for a turn included.
        execution_role: accepted for compatibility; the function's role is the stack's.
        cache_dir: folder for temporary files of the documented S3 methods.
        log_stdout, log_stderr: files that Covalent also writes the electron's streams to.
        time_limit: seconds that the electron itself may run; -1: no limit beside `timeout`.
        retries: how often to run a failed electron again; 0: never.
        samconfig: path of samconfig.toml; else COVALENT_LAMBDA_SAMCONFIG, else searched upward.
        config_env: which environment of samconfig.toml.
        endpoint_url: Lambda's endpoint if it is not AWS's (`sam local start-lambda`).
        usage: whether to end the electron's stderr with a line on time, memory and cost.
        prices: US dollars, where they differ from `lambda_calls.usage.PRICES`.
        carry: modules, or their names, that travel with electrons; None: those beside the script;
            empty: none.

    Each value is taken from the argument, else samconfig.toml, else `[executors.awslambda]` of
    covalent.conf, else the documented default.

    Raises:
        ConfigurationError: if the samconfig.toml that applies cannot be used, if a number is out
            of range, or if `endpoint_url` is no address.
    """

    def __init__(
        self,
        function_name: str | None = None,
        s3_bucket_name: str | None = None,
        credentials_file: str | None = None,
        profile: str | None = None,
        region: str | None = None,
        poll_freq: float | None = None,
        timeout: float | None = None,
        *,
        execution_role: str | None = None,
        cache_dir: str | None = None,
        log_stdout: str = "",
        log_stderr: str = "",
        time_limit: int = -1,
        retries: int = 0,
        samconfig: str | None = None,
        config_env: str | None = None,
        endpoint_url: str | None = None,
        usage: bool = False,
        prices: Mapping[str, float] | None = None,
        carry: Iterable[str | ModuleType] | None = None,
        **others: Any,
    ) -> None:
        given: dict[str, Any] = {
            "function_name": function_name,
            "s3_bucket_name": s3_bucket_name,
            "credentials_file": credentials_file,
            "profile": profile,
            "region": region,
            "poll_freq": poll_freq,
            "timeout": timeout,
            "execution_role": execution_role,
            "cache_dir": cache_dir,
        }
        conf = options.Conf(_EXECUTOR_PLUGIN_DEFAULTS)
        by_covalent = conf.is_source_of(given)
        if others and not by_covalent:
            raise TypeError(options.unexpected(others, AWSLambdaExecutor))
        if remark := conf.remark_on_unknown(AWSLambdaExecutor):
            settings_reader().warn(remark)
        given.update(time_limit=time_limit, retries=retries)
        given.update(endpoint_url=endpoint_url, prices=prices)
        given.update(usage=usage, log_stdout=log_stdout, log_stderr=log_stderr)
        option = options.Options(given, conf, by_covalent=by_covalent)
        super().__init__(
            poll_freq=option.checked("poll_freq", checked.seconds, 5.0),
            log_stdout=option.argument("log_stdout"),
            log_stderr=option.argument("log_stderr"),
            cache_dir=option.checked("cache_dir", str, "") or _default_cache_dir(),
            time_limit=option.checked("time_limit", options.limit, -1.0),
            retries=option.checked("retries", checked.count, 0),
        )
        self.timeout = option.checked("timeout", checked.seconds, 900.0)
        self.execution_role = option.checked("execution_role", str, "")
        self.endpoint_url = option.checked("endpoint_url", checked.address, "")
        self.usage = option.argument("usage")
        self.prices: dict[str, float] = option.checked("prices", checked.prices, {})
        settings = option.settings(settings_reader(), samconfig=samconfig, config_env=config_env)
        self.function_name = settings.function_name.value
        self.s3_bucket_name = self.remote_cache = settings.s3_bucket_name.value
        self.credentials_file = settings.credentials_file.value
        self.profile = settings.profile.value
        self.region = settings.region.value
        named = {name: one.origin.as_dict() for name, one in settings.by_name().items()}
        self.origins = {**named, **option.origins}  # of what is not at its default
        self.unresolved = option.problem  # what is wrong with covalent.conf; `run` says it
        self.carry: list[str] | None = None
        if not by_covalent:
            carried = _carried(carry)
            self.carry = None if carry is None else carried

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "get_session" in cls.__dict__:
            warnings.warn(
                f"{cls.__name__}.get_session is not asked: Covalent's server rebuilds executors "
                "by their short name, without your class. Name profile= and credentials_file= "
                "instead.",
                stacklevel=2,
            )

    def to_dict(self) -> dict[str, Any]:
        """What Covalent keeps of it; asked when an electron is defined.

        What was imported since the executor was made travels, too.
        """
        if self.carry is None:
            _carried(None)
        said: dict[str, Any] = super().to_dict()
        return said

    def __repr__(self) -> str:
        shown = ("function_name", "s3_bucket_name", "region", "profile")
        return f"AWSLambdaExecutor({', '.join(f'{x}={getattr(self, x)!r}' for x in shown)})"

    def _repr_html_(self) -> str:
        from lambda_calls import html
        from lambda_calls.settings import DEFAULTS, Origin

        rows = []
        for name in (*DEFAULTS, *_OPTIONS):
            said = self.origins.get(name)
            origin = str(Origin.from_dict(said)) if said else "the default"
            rows.append((name, getattr(self, name) or "–", origin))
        carried = "modules beside the script" if self.carry is None else ", ".join(self.carry)
        origin = "the default" if self.carry is None else "the argument carry="
        rows.append(("carry", carried or "nothing", origin))
        return html.table("AWSLambdaExecutor", ("setting", "value", "from"), rows)

    @property
    def data_bucket(self) -> str | None:
        """The bucket for arguments and results; None if nobody named one.

        The documented default of `s3_bucket_name` is a name that anybody may own: the stock
        image's protocol uses it as documented, and nothing else does.
        """
        from lambda_calls.settings import data_bucket

        return data_bucket(self.s3_bucket_name)

    # -- running an electron ---------------------------------------------------------------------

    async def run(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_metadata: Mapping[str, Any],
    ) -> Any:
        """Run one electron on the function.

        Args:
            function: what Covalent assembled (its `wrapper_fn` with the electron's parts), or any
                callable.
            args, kwargs: its arguments, as TransportableObjects or any objects.
            task_metadata: `dispatch_id` and `node_id`.

        Returns:
            The return value: a TransportableObject if Covalent called, else the object itself.

        Raises:
            TaskCancelledError: if the electron was cancelled; the function has been told to stop.
            AWSLambdaExecutorError: if there is no result; the subclass says what can be done.
        """
        from .running import Running
        from .server import server

        if self.unresolved:
            raise ConfigurationError(self.unresolved)
        running = Running(
            server(),
            self._terms(),
            _node(task_metadata),
            stdout=self.task_stdout,
            stderr=self.task_stderr,
            covalent=self if "_send_queue" in self.__dict__ else None,
        )
        return await running.result(function, args, kwargs)

    # -- cancelling one --------------------------------------------------------------------------

    async def cancel(
        self, task_metadata: Mapping[str, Any] | None = None, job_handle: Any = None
    ) -> bool:
        """Stop an electron: before it is sent, while it waits for its turn, or while it runs.

        Args:
            task_metadata: `dispatch_id` and `node_id`.
            job_handle: what `run` told Covalent.

        Returns:
            Whether the electron was told to stop.
        """
        if not task_metadata or not job_handle:
            return False
        from . import running
        from .server import server

        node, task_id = _node(task_metadata), str(job_handle["task_id"])
        with _covalents_errors():
            await running.cancel(server(), self._target(), node, task_id)
        return True

    async def receive(self, task_group_metadata: Mapping[str, Any], data: Any) -> list[TaskUpdate]:
        """Tell Covalent what became of electrons that it did not start.

        Covalent asks this of electrons that were cancelled before their turn; `run` never sees
        them.

        Args:
            task_group_metadata: `dispatch_id` and `node_ids`.
            data: nothing is needed.
        """
        return [
            TaskUpdate(
                dispatch_id=task_group_metadata["dispatch_id"],
                node_id=node_id,
                status=RESULT_STATUS.CANCELLED,
                assets={},
            )
            for node_id in task_group_metadata["node_ids"]
        ]

    # -- AWS -------------------------------------------------------------------------------------

    @contextmanager
    def get_session(self) -> Iterator[Any]:
        """A boto3 session with the executor's credentials, profile and region."""
        from .server import server

        with _covalents_errors():
            session = server().process.clients.session(self._account())
        yield session

    def boto_session_options(self) -> dict[str, str]:
        """The profile and region as arguments of `boto3.Session`."""
        options = {"profile_name": self.profile, "region_name": self.region}
        return {k: v for k, v in options.items() if v}

    async def _validate_credentials(self, raise_exception: bool = True) -> dict[str, Any] | bool:
        """The caller's identity, from AWS STS; False if the credentials are not accepted."""
        from .server import server

        process = server().process
        try:
            with _covalents_errors():
                identity = process.clients.caller_identity
                return await process.requests.run(identity, self._account())
        except ConfigurationError:
            if raise_exception:
                raise
            return False

    # -- the public plugin's S3 protocol, step by step -------------------------------------------

    def submit_task_sync(
        self, function_name: str, func_filename: str, result_filename: str, exception_filename: str
    ) -> dict[str, Any]:
        """Invoke a function of Covalent's stock image asynchronously.

        Args:
            function_name: its name.
            func_filename, result_filename, exception_filename: keys in the executor's bucket.

        Returns:
            Lambda's answer as boto3 gives it (`StatusCode` 202).
        """
        from lambda_calls.session import Session

        from . import stock
        from .server import server

        names_ = (func_filename, result_filename, exception_filename)
        event = stock.event(self.s3_bucket_name, *names_)
        target = replace(self._target(), function=function_name)
        with _covalents_errors():
            return Session(server().process, target).invoke_event(json.dumps(event).encode())

    async def submit_task(
        self, function_name: str, func_filename: str, result_filename: str, exception_filename: str
    ) -> dict[str, Any]:
        """`submit_task_sync` without blocking."""
        names_ = (func_filename, result_filename, exception_filename)
        return await self._in_thread(self.submit_task_sync, function_name, *names_)

    def get_status_sync(self, object_key: str) -> bool:
        """Whether the bucket holds `object_key`; that S3 refuses to say is an error, not a no."""
        with _covalents_errors():
            return self._stock_objects().exists(object_key)

    async def get_status(self, object_key: str) -> bool:
        """`get_status_sync` without blocking."""
        return await self._in_thread(self.get_status_sync, object_key)

    def query_result_sync(self, workdir: str, result_filename: str) -> Any:
        """Download a result into `workdir` and load it.

        Raises:
            FileNotFoundError: if the bucket holds no such object.
            ConfigurationError: if it is not a result of Covalent's stock image.
        """
        from . import stock

        with _covalents_errors():
            data = stock.download_file(self._stock_objects(), workdir, result_filename)
            return stock.load(data, result_filename)

    async def query_result(self, workdir: str, result_filename: str) -> Any:
        """`query_result_sync` without blocking."""
        return await self._in_thread(self.query_result_sync, workdir, result_filename)

    def query_task_exception_sync(self, workdir: str, exception_filename: str) -> Any:
        """Download the text of an electron's exception into `workdir` and return it.

        Raises:
            FileNotFoundError: if the bucket holds no such object.
            ConfigurationError: if it is not what Covalent's stock image leaves.
        """
        from . import stock

        with _covalents_errors():
            data = stock.download_file(self._stock_objects(), workdir, exception_filename)
            return stock.load_exception(data, exception_filename)

    async def query_task_exception(self, workdir: str, exception_filename: str) -> Any:
        """`query_task_exception_sync` without blocking."""
        return await self._in_thread(self.query_task_exception_sync, workdir, exception_filename)

    async def _upload_task(self, workdir: str, func_filename: str) -> None:
        from . import stock

        with _covalents_errors():
            await self._in_thread(stock.upload_file, self._stock_objects(), workdir, func_filename)

    async def _poll_task(self, object_keys: Sequence[str]) -> str:
        from . import stock
        from .server import server

        with _covalents_errors():
            return await stock.poll(
                self._stock_objects(),
                server().process.requests,
                object_keys,
                timeout=self.timeout,
                poll_freq=self.poll_freq,
            )

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        from .server import server

        return await server().process.requests.run(call, *args)

    def _account(self) -> "Account":
        from lambda_calls.aws.clients import Account

        return Account(
            region=self.region,
            profile=self.profile,
            credentials_file=self.credentials_file,
            endpoint_url=self.endpoint_url,
        )

    def _target(self) -> "Target":
        from lambda_calls.session import ADD_PACKAGE, Target
        from lambda_calls.settings import InWords, deploy_option

        from .errors import advice

        return Target(
            self._account(),
            function=self.function_name,
            bucket=self.data_bucket,
            origins=InWords(self.origins),
            advice=advice(
                deploy_option(self.origins["function_name"].get("environment", "")),
                os.environ.get(ADD_PACKAGE, ""),
            ),
        )

    def _terms(self) -> "Terms":
        from lambda_calls.attempt import Limits

        from .running import Terms

        return Terms(
            target=self._target(),
            stock_bucket=self.s3_bucket_name,
            limits=Limits(
                timeout=self.timeout,
                time_limit=self.time_limit if self.time_limit > 0 else None,
                retries=self.retries,
            ),
            poll_freq=self.poll_freq,
            shows_usage=self.usage,
            prices=self.prices,
        )

    def _stock_objects(self) -> "Objects":
        """The bucket as the documented methods use it, the documented default included."""
        from .server import server

        target = replace(self._target(), bucket=self.s3_bucket_name)
        return server().process.objects(target)


@contextmanager
def _covalents_errors() -> Iterator[None]:
    """Raise the core's errors as Covalent's."""
    from lambda_calls.errors import LambdaCallError

    from .errors import as_covalents

    try:
        yield
    except LambdaCallError as error:
        raise as_covalents(error) from error.__cause__


def _carried(modules: Iterable[str | ModuleType] | None) -> list[str]:
    with _covalents_errors():
        return carrier().carry(modules)


def _node(metadata: Mapping[str, Any]) -> tuple[str, int]:
    return str(metadata["dispatch_id"]), int(metadata["node_id"])


@cache
def settings_reader() -> "SettingsReader":
    """What remembers files and stacks for all executors of this process."""
    from lambda_calls.settings import SettingsReader

    return SettingsReader(
        warn=logger.app_log.warning, advice=f"`{CONFIGURE}` in the project's folder sets it"
    )


@cache
def carrier() -> "Carrier":
    """What remembers the modules beside the script for all executors of this process."""
    from lambda_calls.carrying import Carrier

    return Carrier()


def _default_cache_dir() -> str:
    return str(get_config("dispatcher.cache_dir"))
