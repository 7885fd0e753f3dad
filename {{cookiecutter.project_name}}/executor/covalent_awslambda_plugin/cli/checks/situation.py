"""What all checks start from: the settings, as an executor without arguments has them."""

from __future__ import annotations

import argparse
import re
import threading
from dataclasses import dataclass
from typing import Any

from lambda_calls.aws.clients import Account
from lambda_calls.settings import Settings, SettingsError, deploy_command

from .. import aws, names
from ..errors import CommandError


class Unknown(Exception):
    """A check cannot be made, since something before it is missing."""


@dataclass
class Situation:
    """The settings, or why there are none.

    The mutable state is the function's answer to the ping, which two checks look at.

    Args:
        found: the settings; None if they cannot be read.
        problem: why.
    """

    found: Settings | None
    problem: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._pong: Any = None

    @staticmethod
    def of(options: argparse.Namespace) -> Situation:
        """Read the settings."""
        try:
            return Situation(names.resolved(options))
        except (SettingsError, CommandError) as error:
            return Situation(None, str(error))

    @property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            Unknown: if they cannot be read.
        """
        if self.found is None:
            raise Unknown("the settings cannot be read, see Settings")
        return self.found

    @property
    def account(self) -> Account:
        """Whose credentials, and where."""
        return names.account(self.settings)

    @property
    def function(self) -> str:
        """The function's name."""
        return self.settings.function_name.value

    @property
    def deploy(self) -> str:
        """The command that deploys what the settings name."""
        return deploy_command(self.settings.config_env)

    def client(self, service: str, *, read_timeout: float = 20) -> Any:
        """A client of AWS's."""
        return aws.client(self.account, service, read_timeout=read_timeout)

    def pong(self) -> dict[str, Any]:
        """The function's answer to a ping; asked once, whoever asks.

        Raises:
            botocore.exceptions.ClientError, BotoCoreError: if it cannot be invoked.
            Unknown: if it fails.
        """
        import json

        from lambda_calls import wire

        with self._lock:
            if self._pong is None:
                event = {wire.MARK: wire.PROTOCOL, "ping": True, "packages": True}
                answer = self.client("lambda", read_timeout=120).invoke(
                    FunctionName=self.function, Payload=json.dumps(event).encode()
                )
                self._pong = pong_in(answer["Payload"].read())
            return dict(self._pong)


# Names and versions of packages. They end up in commands that somebody may copy into a shell:
# whoever made the function must not put words of a shell's, or options of pip's, there.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")


def pong_in(body: bytes) -> dict[str, Any]:
    """The function's answer to a ping; what is none, as `said`."""
    from lambda_calls import wire

    pong = wire.object_in(body)
    try:
        if pong.get("status") != "ok":
            raise wire.EnvelopeError("it does not say that it is well")
        for name in ("python", "cloudpickle", "architecture"):
            if not _PLAIN.fullmatch(wire.read_as(pong.get(name), str, name)):
                raise wire.EnvelopeError(f"its {name} is {pong[name]!r}")
        if "packages" in pong:
            packages = wire.read_as(pong["packages"], dict[str, str], "packages")
            plain = (x for x in packages.items() if all(map(_PLAIN.fullmatch, x)))
            pong = {**pong, "packages": dict(plain)}
    except wire.EnvelopeError:
        return {"said": body[:300].decode("utf-8", "replace")}
    return pong
