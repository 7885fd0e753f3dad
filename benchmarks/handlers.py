"""What the container benchmarks have each image do: its event, and whether it did it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from . import former, images, lab, runtime_api
from .images import Container
from .lab import BenchmarkError
from .paths import BUCKET
from .results import OURS
from .runtime_api import Invocation, RuntimeApi

STOCK, BARE, FORMER = "stock handler", "bare handler", "former handler"
MARK = "covalent_lambda"  # the envelope's key with the protocol's number
_FUNC = "func-trivial.pkl"


class Handler:
    """One image's handler: here the bare one, which returns its event.

    Args:
        name: of the contender.
        image: whose entry point runs it.
        at: the endpoint that is its S3.
        electron: what `clients.trivial` printed.
    """

    def __init__(self, name: str, image: str, at: lab.Endpoint, electron: dict[str, Any]) -> None:
        self.name, self.image, self.at, self.electron = name, image, at, electron

    def event(self) -> bytes:
        """An event with the trivial electron."""
        return json.dumps(self.electron["envelope"]).encode()

    def check(self, event: bytes, answer: bytes) -> None:
        """Raise BenchmarkError unless the electron ran."""
        if json.loads(answer) != json.loads(event):
            raise BenchmarkError(f"the {self.name} did not return its event: {answer[:500]!r}")


class Ours(Handler):
    """The generated project's handler."""

    def check(self, event: bytes, answer: bytes) -> None:
        said = json.loads(answer)
        if said["failure"] or said["text"] != "7":
            raise BenchmarkError(f"our handler did not run the electron: {answer[:2000]!r}")


class Former(Ours):
    """The one that ran electrons in its own process."""

    def event(self) -> bytes:
        return json.dumps({**self.electron["envelope"], MARK: former.PROTOCOL}).encode()


class Stock(Handler):
    """The handler of Covalent's stock image, whose electron and result travel through S3."""

    def event(self) -> bytes:
        self._s3("PUT", _FUNC, base64.b64decode(self.electron["pickle"]))
        names = {
            "S3_BUCKET_NAME": BUCKET,
            "COVALENT_TASK_FUNC_FILENAME": _FUNC,
            "RESULT_FILENAME": f"result-{uuid.uuid4()}.pkl",
            "EXCEPTION_FILENAME": "exception.json",
        }
        return json.dumps(names).encode()

    def check(self, event: bytes, answer: bytes) -> None:
        # Its answer comes after the upload of the result, so the answer is the end.
        try:
            self._s3("GET", json.loads(event)["RESULT_FILENAME"])
        except urllib.error.HTTPError as error:
            raise BenchmarkError("the stock handler left no result in S3") from error

    def _s3(self, method: str, key: str, body: bytes | None = None) -> None:
        url = f"{self.at.url}/{BUCKET}/{key}"
        request = urllib.request.Request(url, data=body, method=method)
        with lab.DIRECTLY.open(request, timeout=lab.SECONDS):
            pass


@dataclass(frozen=True)
class Environment:
    """A container of a handler's image, with the Runtime API that it alone talks to."""

    handler: Handler
    container: Container
    api: RuntimeApi

    def run(self) -> Invocation:
        """One trivial task; its answer is checked."""
        event = self.handler.event()
        try:
            done = self.api.run(event)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{self.container.log()[-3000:]}") from error
        self.handler.check(event, done.answer)
        return done


@contextmanager
def environment(
    of: images.Images, handler: Handler, memory: int, **variables: str
) -> Iterator[Environment]:
    """A container with the limits of a function of `memory` MB, created and not yet started."""
    with runtime_api.serving() as api:
        known = {"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_ENDPOINT_URL": handler.at.url}
        with images.container(of.engine, handler.image, memory, {**known, **variables}) as made:
            yield Environment(handler, made, api)


def all_of(of: images.Images, at: lab.Endpoint) -> list[Handler]:
    """The contenders, ours first; the former handler last, if there is an image of it."""
    electron = lab.client(at, "ours", "trivial")
    found = [
        Ours(OURS, of.ours, at, electron),
        Stock(STOCK, of.stock, at, electron),
        Handler(BARE, of.bare, at, electron),
    ]
    return [*found, Former(FORMER, of.former, at, electron)] if of.former else found
