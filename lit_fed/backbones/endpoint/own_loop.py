"""Own loop: asynchronous work in an event loop of its own, whoever asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_in_own_loop(function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run asynchronous work in a thread of its own and wait for what it gives.

    A notebook has a loop already, in which no other may be started. Nor does the caller wait for the loop's end, which
    a name that is being looked up may hold up long after its time is over.

    Args:
        function: Makes the work.

    Returns:
        What it gives.

    Raises:
        BaseException: What it raises, or why no loop can be made. Where waiting is broken off, as by Ctrl-C, the work
            is cancelled.

    Example:
        >>> async def work() -> int:
        ...     await asyncio.sleep(0.01)
        ...     return 3
        >>> run_in_own_loop(work)
        3
    """
    begun: Future[Callable[[], object]] = Future()
    done: Future[Result] = Future()

    async def main() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        begun.set_result(lambda: task and loop.call_soon_threadsafe(task.cancel))
        return await function()

    def run() -> None:
        try:
            with asyncio.Runner() as runner:
                try:
                    done.set_result(runner.run(main()))
                except BaseException as error:  # it is raised where the result is waited for
                    done.set_exception(error)
        except BaseException as error:  # there is no loop, as where no file can be opened any more
            if done.done():
                raise
            begun.cancel()
            done.set_exception(error)

    Thread(target=run, daemon=True, name="lit_fed requests").start()
    try:
        return done.result()
    except BaseException:
        if not done.done():
            # of a loop that has ended in this moment, or has never begun
            with suppress(RuntimeError, CancelledError):
                begun.result()()
        raise
