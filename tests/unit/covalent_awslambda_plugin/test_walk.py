"""The way of an electron from Covalent to the wire, as docs/architecture.md has it."""

import asyncio
import inspect
import re
import threading
from typing import Any

from aws_server import AWS, Answer
from covalent._workflow.transportable_object import TransportableObject
from electrons import METADATA, covalents, good, invoked, made
from template_paths import EXECUTOR, REPOSITORY

MOST = 8  # calls


def awaited(task: "asyncio.Task[Any]") -> list[str]:
    """The executor's own coroutines in which a task waits, outermost first."""
    names, coroutine = [], task.get_coro()
    while inspect.iscoroutine(coroutine):
        if coroutine.cr_code.co_filename.startswith(str(EXECUTOR)):
            names.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await
    return names


def walked(aws: AWS) -> list[str]:
    """The coroutines of all tasks while Lambda has the request, in the order of their making."""
    answer = threading.Event()

    def script(event: dict[str, Any]) -> Answer:
        answer.wait(30)
        return good(1)

    async def work() -> list[str]:
        electron = asyncio.ensure_future(
            made().run(covalents(len), [TransportableObject("x")], {}, METADATA)
        )
        await invoked(aws)
        tasks = sorted(asyncio.all_tasks(), key=lambda task: int(task.get_name()[5:]))
        names = [name for task in tasks for name in awaited(task)]
        answer.set()
        await electron
        return names

    aws.script = script
    return asyncio.run(work())


def test_each_call_is_on_the_page(aws: AWS) -> None:
    """Nothing but the executor's `run` and the calls that the page lists lies in between."""
    walk = walked(aws)
    page = (REPOSITORY / "docs/architecture.md").read_text("utf-8")
    listed = re.findall(r"^\d\. `([^`]+)`", page, re.M)
    assert walk == ["AWSLambdaExecutor.run", *listed]
    assert len(listed) <= MOST
