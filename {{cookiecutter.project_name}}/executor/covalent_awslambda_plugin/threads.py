"""Blocking calls awaited in daemon threads.

asyncio's own pool is of no use here: it has 6 threads on a machine of 2 cores, where hundreds of
invocations wait at once, and its threads are joined at the interpreter's exit, so that a server
could not stop before its last invocation ended.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await `call(*args, **kwargs)` in a thread of its own.

    If the awaiting task is cancelled, the thread goes on and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            result = call(*args, **kwargs)
        except BaseException as error:
            _hand_over(loop, future, error=error)
        else:
            _hand_over(loop, future, result=result)

    threading.Thread(target=work, name=getattr(call, "__name__", "call"), daemon=True).start()
    return await future


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    future: "asyncio.Future[T]",
    *,
    result: T | None = None,
    error: BaseException | None = None,
) -> None:
    def settle() -> None:
        if future.done():  # cancelled meanwhile
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more
