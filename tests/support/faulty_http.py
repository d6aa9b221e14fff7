"""A web server that fails where it is told to; what it serves is said by its `site`."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Args:
        route (`str`): Name that the site gives to the kind of request.
        kind (`str`): "status" refuses the request with `status`; "status_after" does so once it is done; "cut_request"
            hangs up while the request arrives, "cut_before" when it has, "cut_after" when it is done, "cut_answer" in
            the middle of the answer; "slow" answers after `seconds`; "corrupt" turns a bit of what is sent.
        status (`int`): Of the two first kinds.
        headers (`dict`): Sent with it.
        seconds (`float`): Of "slow".
    """

    route: str
    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.2


class Answer(NamedTuple):
    """A status, a body and headers."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass
class Request:
    """A request that has arrived, and the groups of its route."""

    route: str
    method: str
    body: bytes
    headers: Any
    group: dict[str, str]

    @property
    def json(self) -> Any:
        """The body, which says what to do."""
        return json.loads(self.body)


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})


class FaultyHandler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with one client on behalf of `server.site`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: the second of two would wait for the first to be acknowledged

    def do_GET(self) -> None:
        """Answer a request of any method, or do it the harm that is planned for it."""
        site, path = self.server.site, urlsplit(self.path).path
        found = site.find_route(self.command, path)
        fault = site.take_fault(found[0] if found else path)
        kind = fault.kind if fault else None
        body = self._read_body(cut=kind == "cut_request")
        if kind in ("cut_request", "cut_before"):
            return self._hang_up()
        if kind == "status":
            return self._send(json_answer({"error": "injected"}, fault.status, fault.headers))
        if found is None:
            return self._send(json_answer({"error": "no such page"}, 404))
        route, group = found
        if kind == "corrupt":
            body = _corrupted(body)
        answer = site.serve(Request(route, self.command, body, self.headers, group))
        if kind == "slow":
            threading.Event().wait(fault.seconds)
        elif kind == "status_after":
            answer = json_answer({"error": "injected"}, fault.status, fault.headers)
        elif kind == "cut_after":
            return self._hang_up()
        self._send(answer, cut=kind == "cut_answer")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _read_body(self, cut: bool) -> bytes:
        """Read the body, or its beginning."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = self._chunks()
            return next(chunks, b"") if cut else b"".join(chunks)
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length // 2 if cut else length)

    def _chunks(self) -> Iterator[bytes]:
        """The pieces of a body whose length was not known when it was sent."""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _send(self, answer: Answer, cut: bool = False) -> None:
        """Send an answer, or half of it under the length of the whole."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        """End the connection as a network does."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: object) -> None:
        """Tests print nothing."""


def _corrupted(content: bytes) -> bytes:
    """The same bytes but for one bit."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else content
