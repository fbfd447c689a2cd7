"""A client's training that stops wherever it needs the model, so that several can be served together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch


class Abandoned(BaseException):
    """Ends a client that nobody waits for any more. No method is to catch it."""


class ClientThread:
    """Runs a client's code in a thread of its own, which only moves while :meth:`resume` waits for it.

    So of all clients and the caller one runs at a time, and nothing needs a lock. It is a thread
    because a method asks for the model from any depth of ordinary calls, and because torch keeps its
    gradient and autocast modes by thread.

    Args:
        work: The client's code. It is given this object, to call :meth:`ask` on.
        device: The accelerator the thread is to use.

    Attributes:
        request: What the client waits for; None once it has ended.
        result: What ``work`` gave.
        error: What it raised.

    Example:
        >>> client = ClientThread(lambda me: me.ask("one") + me.ask("two"), torch.device("cpu"))
        >>> client.resume(None)
        >>> client.request
        'one'
        >>> client.resume(1)
        >>> client.resume(2)
        >>> client.request, client.result
        (None, 3)
    """

    def __init__(self, work: Callable[[ClientThread], Any], device: torch.device) -> None:
        self.request: Any = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._device = device
        self._answer: Any = None
        self._goes, self._stops = threading.Semaphore(0), threading.Semaphore(0)
        self._resting = True
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the client has not ended."""
        return self._thread.is_alive()

    def resume(self, answer: Any) -> None:
        """Let the client go on until it asks for something or ends.

        Args:
            answer: What it asked for. An exception is raised in its place. None at the beginning.
        """
        self._answer, self.request = answer, None
        threads = torch.get_num_threads()
        self._resting = False
        self._goes.release()
        self._wait()
        if threads > 1:
            torch.set_num_threads(threads)

    def abandon(self) -> None:
        """End the client, wherever it is."""
        if not self._resting:  # the caller was interrupted while the client ran
            self._wait()
        while self.alive:
            self.resume(Abandoned())

    def ask(self, request: Any) -> Any:
        """Client: stop until the caller has an answer.

        Raises:
            BaseException: Whatever the caller answers with.
        """
        self.request = request
        self._stops.release()
        self._continue()
        return self._answer

    def _continue(self) -> None:
        self._goes.acquire()
        # Each thread has a pool of its own for torch's operations. The heavy ones, which are the
        # model's, run in the caller's thread, and the set number of threads is meant for them.
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)
        if isinstance(self._answer, BaseException):
            raise self._answer

    def _wait(self) -> None:
        self._stops.acquire()
        self._resting = True
        if self.request is None:
            self._thread.join()

    def _main(self) -> None:
        try:
            self._continue()
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)
            self.result = self._work(self)
        except BaseException as error:
            self.error = error
        finally:
            self.request = None
            self._stops.release()
