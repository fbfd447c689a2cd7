"""A server of the chat and completions API on localhost that does what tests want it to do wrong."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Self

FLOOD = 50 * 2**20


@dataclass(frozen=True)
class Request:
    """What a client has sent, and when."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    prompt: str
    at: float


class Exchange:
    """A request, and means to reply to it well or badly."""

    def __init__(self, handler: BaseHTTPRequestHandler, request: Request, nth: int) -> None:
        self.request = request
        self.nth = nth
        self._handler = handler
        self._server: MisbehavingServer = handler.server.owner  # type: ignore[attr-defined]

    def answer(self, text: str) -> None:
        chat = self.request.path.endswith("/chat/completions")
        held = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        self.reply(200, json.dumps({"choices": [{**held, "index": 0, "finish_reason": "stop"}]}))

    def reply(self, status: int, content: str | bytes = b"", **headers: str) -> None:
        content = content.encode() if isinstance(content, str) else content
        self._handler.send_response(status)
        self._handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()
        self.send(content)

    def send(self, content: bytes) -> bool:
        """Whether the client still listened."""
        try:
            self._handler.wfile.write(content)
        except OSError:
            return False
        self._server.sent += len(content)
        return True

    def hang_up(self) -> None:
        self._handler.close_connection = True

    def wait(self, seconds: float) -> bool:
        """Whether the server is still there afterwards."""
        return not self._server.stopped.wait(seconds)


Fault = Callable[[Exchange], None]


class MisbehavingServer:
    """Answers each prompt by ``answer``, and those of ``faults`` as these do.

    Attributes:
        requests: What was asked, in order.
        sent: Bytes that went out.
    """

    def __init__(
        self,
        faults: Mapping[str, Fault] | None = None,
        answer: Callable[[str], str] = str.upper,
        otherwise: Fault | None = None,
    ) -> None:
        self.faults = dict(faults or {})
        self.answer = answer
        self.otherwise = otherwise
        self.requests: list[Request] = []
        self.sent = 0
        self.stopped = Event()
        self.tries: Counter[str] = Counter()
        self._lock = Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self  # type: ignore[attr-defined]
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = json.loads(content)
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        request = Request(handler.path, dict(handler.headers), body, prompt, time.monotonic())
        with self._lock:
            nth = self.tries[prompt]
            self.tries[prompt] += 1
            self.requests.append(request)
        exchange = Exchange(handler, request, nth)
        fault = self.faults.get(prompt, self.otherwise)
        if fault is None:
            exchange.answer(self.answer(prompt))
        else:
            fault(exchange)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        try:
            self.server.owner.serve(self)  # type: ignore[attr-defined]
        except ConnectionError:
            self.close_connection = True

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


# ---------------------------------------------------------------- faults


def says_nothing(exchange: Exchange) -> None:
    exchange.wait(60)
    exchange.hang_up()


def drips_headers(exchange: Exchange) -> None:
    exchange.hang_up()
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 600:
        if not (exchange.send(bytes([byte])) and exchange.wait(0.1)):
            return


def drips_content(exchange: Exchange) -> None:
    exchange.hang_up()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n")
    for _ in range(600):
        if not (exchange.send(b" ") and exchange.wait(0.1)):
            return


def floods(exchange: Exchange) -> None:
    """50 MB, of which nobody should take more than its limit and what buffers hold."""
    exchange.hang_up()
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % FLOOD)
    for _ in range(FLOOD // 2**16):
        if not exchange.send(b" " * 2**16):
            return


def floods_headers(exchange: Exchange) -> None:
    exchange.hang_up()
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(FLOOD // 2**10):
        if not exchange.send(b"X-%d: " % number + b"x" * 2**10 + b"\r\n"):
            return


def hangs_up(exchange: Exchange) -> None:
    exchange.hang_up()


def breaks_off(exchange: Exchange) -> None:
    exchange.hang_up()
    exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{"choices": [')


def speaks_another_protocol(exchange: Exchange) -> None:
    exchange.hang_up()
    exchange.send(b"220 mail.example ESMTP\r\n")


def says(content: str | bytes) -> Fault:
    return lambda exchange: exchange.reply(200, content)


def fails_with(status: int, content: str = "", **headers: str) -> Fault:
    return lambda exchange: exchange.reply(status, content, **headers)


def at_first(fault: Fault, times: int = 1) -> Fault:
    """A fault of the first tries alone."""

    def reply(exchange: Exchange) -> None:
        if exchange.nth < times:
            fault(exchange)
        else:
            exchange.answer(exchange.request.prompt.upper())

    return reply


def refuses(exchange: Exchange) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
    exchange.reply(200, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}))


def filters(exchange: Exchange) -> None:
    message = {"role": "assistant", "content": "As a"}
    choice = {"message": message, "finish_reason": "content_filter"}
    exchange.reply(200, json.dumps({"choices": [choice]}))
