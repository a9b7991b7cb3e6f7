"""What can go wrong on the way, on demand: each is put into ``Hub.faults``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hub.web import Answer, Asked

if TYPE_CHECKING:
    from hub.server import Hub

Break = Callable[[Answer], Answer | None]


@dataclass
class Fault:
    """Breaks answers: the first ``times`` of those to requests that fit, after ``skip`` of them.

    What was asked is carried out all the same, if ``carried_out``, and only its answer breaks.
    """

    hub: Hub
    broken: Break
    path: str = ""
    """What the path of a request holds."""
    method: str | None = None
    origin: str | None = None
    ranged: bool | None = None
    """Whether it asks for a range."""
    times: float = 1
    skip: int = 0
    carried_out: bool = True
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def _fits(self, asked: Asked) -> bool:
        return (
            self.path in asked.target
            and self.method in (None, asked.method)
            and self.origin in (None, asked.origin)
            and self.ranged in (None, "range" in asked.headers)
        )

    def __call__(self, asked: Asked) -> Answer | None:
        if not self._fits(asked):
            return None
        with self._lock:
            if self.skip:
                self.skip -= 1
                return None
            if self.hits >= self.times:
                return None
            self.hits += 1
        return self.broken(self.hub.truth(asked) if self.carried_out else Answer())


@dataclass
class Outage:
    """The network goes away: once ``after`` requests that fit were let through, nothing is."""

    after: int
    path: str = ""
    """What the path of a request that counts holds."""
    method: str | None = None
    origin: str | None = None
    refusal: Answer = field(default_factory=lambda: Answer(503, cut=-1))
    """What all others get: by default the connection breaks."""
    seen: int = 0
    """Requests that counted, and were let through."""
    refused: int = 0
    over: bool = False
    """Set it, and the network is back."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answer | None:
        with self._lock:
            if self.over:
                return None
            if self.seen >= self.after:
                self.refused += 1
                return self.refusal
            self.seen += (
                self.path in asked.target
                and self.method in (None, asked.method)
                and self.origin in (None, asked.origin)
            )
        return None


def status(code: int, **headers: str) -> Break:
    """An error instead of the answer."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda answer: Answer(code, b"no", named)


def dropped(answer: Answer) -> Answer:
    """The connection breaks before any answer."""
    return replace(answer, cut=-1)


def cut_short(answer: Answer) -> Answer:
    """The connection breaks within the answer's body."""
    return replace(answer, cut=len(answer.body) // 2)


def too_short(answer: Answer) -> Answer:
    """A part of the body is missing, and the answer says that this is all."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def too_long(answer: Answer) -> Answer:
    """There is more than was asked for."""
    return replace(answer, body=answer.body + b"more")


def shifted(answer: Answer) -> Answer | None:
    """Another part than the one that was asked for, of the same length."""
    told = answer.headers.get("Content-Range", "")
    if answer.status != 206:
        return None
    first, _, rest = told.removeprefix("bytes ").partition("-")
    last, _, total = rest.partition("/")
    moved = f"bytes {int(first) + 1}-{int(last) + 1}/{total}"
    return replace(answer, headers={**answer.headers, "Content-Range": moved})


def unlabeled(answer: Answer) -> Answer:
    """A part, without saying which, and as if it were the whole."""
    headers = {name: text for name, text in answer.headers.items() if name != "Content-Range"}
    return replace(answer, status=200, headers=headers)


def whole(data: bytes) -> Break:
    """The whole object where a part was asked for."""
    return lambda answer: Answer(200, data, {"Accept-Ranges": "bytes"})
