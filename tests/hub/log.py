"""What was asked of the Hub and of its CDN."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request, as it came in, and how it was answered."""

    origin: str
    """``hub``, ``cdn`` or ``xet``."""
    method: str
    path: str
    """With the query."""
    host: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = field(repr=False, default=b"")
    status: int = 0
    sent: int = 0
    """Bytes of the answer's body."""

    def holds(self, secret: str) -> bool:
        """Whether a text is anywhere in the request."""
        texts = (self.path, *self.headers.values())
        return any(secret in text for text in texts) or secret.encode() in self.body


class RequestLog:
    """Every request, in the order of the answers."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(tuple(self._requests))

    def __len__(self) -> int:
        return len(self._requests)

    def find(
        self, path: str = "", *, method: str | None = None, origin: str | None = None
    ) -> list[Request]:
        """Requests whose path contains a text."""
        return [
            request
            for request in self
            if path in request.path
            and method in (None, request.method)
            and origin in (None, request.origin)
        ]

    def holding(self, secret: str) -> list[Request]:
        """Requests that carry a secret, in whatever place."""
        return [request for request in self if request.holds(secret)]
