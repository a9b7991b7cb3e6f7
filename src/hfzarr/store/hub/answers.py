"""What an answer of the Hub, or of its CDN, says: bytes, an address, a delay, a refusal."""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urljoin, urlsplit

from hfzarr.errors import HfzarrError, ReadError, StoreNotFoundError
from hfzarr.model.report import shorten
from hfzarr.store.hub.paths import HubPlace
from hfzarr.store.source import ByteRange

__all__ = [
    "Address",
    "Reply",
    "Span",
    "address_of",
    "origin",
    "range_header",
    "refusal",
    "retry_delay",
    "shown",
    "span_of",
    "take",
]

# An address without a date on it is asked for anew after so long, s.
_UNDATED = 300.0
# Addresses are renewed so long before they expire, s, or a tenth of their life if that is less.
_MARGIN = 30.0
_HOW = (
    "Log in with `hf auth login`, set the environment variable HF_TOKEN, or give "
    "storage_options={'token': ...}."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, whole.

    Attributes
    ----------
    url
        What was asked; it may hold a signature.
    status
        Of HTTP.
    headers
        By lower-case name.
    body
        Its bytes, as many as were announced.
    """

    url: str = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False, default=b"")

    @property
    def location(self) -> str | None:
        """Where a redirect leads."""
        if self.status not in (301, 302, 303, 307, 308) or "location" not in self.headers:
            return None
        return urljoin(self.url, self.headers["location"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an object's bytes can be had for a while.

    Attributes
    ----------
    url
        The address; it may hold a signature.
    until
        When it is of no more use, on the clock of `time.monotonic`, s.
    size
        Bytes of the object, where that was told.
    etag
        Which object it is, where that was told.
    """

    url: str = field(repr=False)
    until: float
    size: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that are wanted of an object: from ``start`` to ``stop``, or the last ``last``.

    Attributes
    ----------
    start, stop
        In bytes; ``stop`` is None for the end of the object.
    last
        How many bytes from the end, where ``start`` is not known yet.
    """

    start: int = 0
    stop: int | None = None
    last: int | None = None

    @property
    def empty(self) -> bool:
        """Whether no byte is wanted."""
        return self.last == 0 or (self.stop is not None and self.stop <= self.start)

    @property
    def length(self) -> int | None:
        """How many bytes are wanted at most; None for all that follow."""
        if self.last is not None:
            return self.last
        return None if self.stop is None else self.stop - self.start


def span_of(byte_range: ByteRange, size: int | None) -> Span | None:
    """Return the bytes of an object that a range names; None for all of it.

    Examples
    --------
    >>> span_of((-4, None), 10)
    Span(start=6, stop=10, last=None)
    >>> span_of((-4, None), None)
    Span(start=0, stop=None, last=4)
    """
    if byte_range is None:
        return None
    start, stop = byte_range
    if start < 0:
        if size is None:
            return Span(last=-start)
        start = max(size + start, 0)
    if size is not None:
        stop = size if stop is None else min(stop, size)
        start = min(start, stop)
    return Span(start, stop)


def range_header(span: Span | None) -> dict[str, str]:
    """Return the headers that ask for bytes of an object.

    ``identity`` as a range counts the bytes of what is sent, which must not be compressed.
    """
    headers = {"Accept-Encoding": "identity"}
    if span is not None and span.last is not None:
        headers["Range"] = f"bytes=-{span.last}"
    elif span is not None:
        last = "" if span.stop is None else span.stop - 1
        headers["Range"] = f"bytes={span.start}-{last}"
    return headers


def take(reply: Reply, span: Span | None, size: int | None) -> bytes | str:
    """Return the bytes that were wanted, or what is wrong with an answer that should hold them.

    Parameters
    ----------
    reply
        An answer of a status from 200 to 299, or 416.
    span
        Which bytes were asked for; None for all.
    size
        Bytes of the object, where they are known.
    """
    body, told = reply.body, reply.headers.get("content-range", "")
    if reply.status == 416 and span is not None:
        total = re.fullmatch(r"bytes \*/(\d+)", told.strip())
        beyond = total is not None and (int(total[1]) <= span.start or int(total[1]) == 0)
        return b"" if beyond else f"it refused the range ({told or 'without saying why'})"
    if reply.status == 206:
        return _taken_part(body, span, size, told, reply.headers.get("content-encoding", ""))
    if reply.status != 200:
        return f"it answered {reply.status}"
    if size is not None and len(body) != size:
        return f"it sent {len(body)} bytes of an object that has {size}"
    if span is None:
        return body
    if size is None:
        # Nothing says whether these are all bytes or those that were asked for.
        return f"it sent {len(body)} bytes without saying which (200, not 206)"
    whole = span_of((-span.last, None) if span.last is not None else (span.start, span.stop), size)
    return body if whole is None else body[whole.start : whole.stop]


def _taken_part(
    body: bytes, span: Span | None, size: int | None, told: str, encoding: str
) -> bytes | str:
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", told.strip())
    if span is None or found is None:
        return f"it sent a part ({told or 'without saying which'}), wanted {_wanted(span)}"
    if encoding not in ("", "identity"):
        return f"it sent a part, encoded as {encoding!r}"
    start, stop = int(found[1]), int(found[2]) + 1
    total = size if found[3] == "*" else int(found[3])
    if size is not None and total != size:
        return f"it sent a part of {total} bytes, and the object has {size}"
    wanted = span
    if total is not None:
        exact = span_of((-span.last, None) if span.last else (span.start, span.stop), total)
        wanted = span if exact is None else exact
    if wanted.last is not None or (start, stop) != (wanted.start, wanted.stop):
        return f"it sent bytes {start} to {stop}, wanted {_wanted(wanted)}"
    if len(body) != stop - start:
        return f"it sent {len(body)} bytes, and said they were {stop - start}"
    return body


def _wanted(span: Span | None) -> str:
    if span is None:
        return "all bytes"
    if span.last is not None:
        return f"the last {span.last} bytes"
    return f"bytes {span.start} to {'the end' if span.stop is None else span.stop}"


def address_of(reply: Reply, url: str, *, size: int | None, etag: str | None) -> Address:
    """Return an address that a redirect led to, and how long it serves."""
    return Address(url=url, until=time.monotonic() + _life(reply, url), size=size, etag=etag)


def _life(reply: Reply, url: str) -> float:
    query = {name.lower(): values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    ends: list[float] = []
    if re.fullmatch(r"\d+(\.\d+)?", text := query.get("expires", "")):
        ends.append(float(text))
    began, lasts = query.get("x-amz-date", ""), query.get("x-amz-expires", "")
    if re.fullmatch(r"\d{8}T\d{6}Z", began) and lasts.isdecimal():
        since = datetime.datetime.strptime(began, "%Y%m%dT%H%M%SZ")
        ends.append(since.replace(tzinfo=datetime.UTC).timestamp() + int(lasts))
    if not ends:
        return _UNDATED
    # By the clock of the server, which may differ from ours.
    life = min(ends) - (_seconds(reply.headers.get("date")) or time.time())
    return life - min(_MARGIN, life / 10)


def _seconds(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def retry_delay(headers: Mapping[str, str]) -> float | None:
    """Return how long a server asks to be left alone, s; None where it says nothing.

    ``Retry-After`` is a number of seconds or a date (RFC 9110, 10.2.3). The Hub's ``RateLimit``
    tells in ``t`` when its window ends.

    Examples
    --------
    >>> retry_delay({"retry-after": "7"}), retry_delay({"ratelimit": '"api";r=0;t=55'})
    (7.0, 55.0)
    """
    told = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", told):
        return float(told)
    if (when := _seconds(told)) is not None:
        return max(when - (_seconds(headers.get("date")) or time.time()), 0.0)
    window = re.search(r"\br\s*=\s*0\b.*?\bt\s*=\s*(\d+)", headers.get("ratelimit", ""))
    return float(window[1]) if window else None


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL, for comparison.

    Examples
    --------
    >>> origin("https://Hub.example/a") == origin("https://hub.example:443/b")
    True
    """
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").rstrip("."), port


def shown(url: str) -> str:
    """Return a URL without user, password, query and fragment, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def refusal(reply: Reply, place: HubPlace, *, key: str, endpoint: str, login: str) -> HfzarrError:
    """Return the error that an answer of the Hub stands for.

    Parameters
    ----------
    reply
        The answer.
    place, key
        What was asked for.
    endpoint
        The Hub.
    login
        Who asks, as a part of a sentence: ``"nobody is logged in"``.
    """
    code, said = reply.headers.get("x-error-code"), reply.headers.get("x-error-message", "")
    repo = f"{place.noun} {place.repo!r}"
    if code == "RevisionNotFound":
        return StoreNotFoundError(
            f"{repo} at {endpoint} has no revision {place.revision or 'main'!r}. Name a branch, a "
            "tag or a commit that it has."
        )
    if code == "GatedRepo":
        return ReadError(
            f"{repo} is gated, and access was refused ({login}). Ask for access at "
            f"{endpoint}{place.page}, and {_HOW[0].lower()}{_HOW[1:]}"
        )
    if reply.status == 401 and "invalid cred" in said.lower():
        return ReadError(f"{endpoint} does not know the token for {repo} ({login}). {_HOW}")
    if code == "RepoNotFound" or reply.status == 401:
        return StoreNotFoundError(
            f"there is no {repo} at {endpoint}, or it is private and may not be seen ({login}). "
            f"Check its name, and if it is private: {_HOW}"
        )
    what = f"store {place.url!r}: cannot read {key!r}" if key else f"cannot list {place.url!r}"
    text = f" ({shorten(said, 200)})" if said else ""
    if reply.status == 403:
        return ReadError(f"{what}: {endpoint} refused it{text}; {login}. {_HOW}")
    if reply.status == 404:
        return StoreNotFoundError(f"{what}: {endpoint} knows nothing there{text}. Check the URL.")
    return ReadError(f"{what}: {shown(reply.url)} answered {reply.status}{text}. Try again later.")
