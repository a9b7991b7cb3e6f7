"""The plumbing: a threaded HTTP server whose handler is a function."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from hub.log import Request, RequestLog


@dataclass(frozen=True)
class Asked:
    """A request, taken apart."""

    origin: str
    method: str
    target: str
    """Path and query, as they came."""
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def parts(self) -> list[str]:
        """Segments of the path: cut first, then unquoted, so that a quoted slash does not cut."""
        return [unquote(part) for part in urlsplit(self.target).path.strip("/").split("/")]

    @property
    def query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[-1] for name, values in found.items()}

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("1", "true")

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode(), keep_blank_values=True)


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    """Close the connection after it."""
    cut: int | None = None
    """Hang up after so many bytes of the body; -1 for before anything is sent."""

    @staticmethod
    def json(value: Any, status: int = 200, **headers: str) -> Answer:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return Answer(status, json.dumps(value).encode(), kind | named)


class Refusal(Exception):
    """Raised where a request cannot be served; becomes its answer."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: str) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message, **more}
        if code:
            headers["X-Error-Code"] = code
        body = json.dumps({"error": message}).encode()
        self.answer = Answer(status, body, {"Content-Type": "application/json", **headers})


def serve_bytes(asked: Asked, data: bytes, headers: Mapping[str, str]) -> Answer:
    """Answer with a file, or with the range of it that was asked for."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("range", ""))
    if wanted is None or wanted.groups() == ("", ""):
        return Answer(200, data, headers)
    first, last = wanted.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    stop = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= min(stop, len(data)):
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
    where = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
    return Answer(206, data[start:stop], headers | where)


class Service(Protocol):
    """What an origin asks of the one that runs it."""

    log: RequestLog

    def answer(self, asked: Asked) -> Answer:
        """Serve one request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    def log_message(self, *args: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _serve(self) -> None:
        headers = {name.lower(): text for name, text in self.headers.items()}
        asked = Asked(self.server.origin, self.command, self.path, headers, self._body())
        try:
            answer = self.server.service.answer(asked)
        except Refusal as refusal:
            answer = refusal.answer
        sent = b"" if self.command == "HEAD" else answer.body
        if answer.cut is not None:
            sent = sent[: max(answer.cut, 0)]
        self.server.service.log.add(
            Request(
                origin=asked.origin,
                method=asked.method,
                path=asked.target,
                host=headers.get("host", ""),
                headers=headers,
                body=asked.body,
                status=answer.status,
                sent=len(sent),
            )
        )
        self._send(answer, sent)

    def _send(self, answer: Answer, sent: bytes) -> None:
        if answer.cut is not None:
            self.close_connection = True
            if answer.cut < 0:
                return
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {text}" for name, text in answer.headers.items()]
        lines += [f"Content-Length: {len(answer.body)}"] * ("Content-Length" not in answer.headers)
        if answer.hang_up:
            lines.append("Connection: close")
            self.close_connection = True
        # In one write: a second one would wait for the other side's acknowledgement.
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + sent)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # clients open many connections at once

    def __init__(self, origin: str, service: Service) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = origin
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up before it has all is none of our business."""


def start(origin: str, service: Service) -> tuple[str, Callable[[], None]]:
    """Start an origin; give its URL, and what stops it."""
    server = _Server(origin, service)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return f"http://127.0.0.1:{server.server_port}", stop
