"""URLs of the Hub, and what its answers say: text and numbers, without a server."""

from __future__ import annotations

import datetime
import email.utils
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.errors import ReadError, StoreNotFoundError, TargetError
from hfzarr.store.hub.answers import (
    Reply,
    Span,
    address_of,
    origin,
    range_header,
    refusal,
    retry_delay,
    shown,
    span_of,
    take,
)
from hfzarr.store.hub.listing import UNKNOWN, Listing
from hfzarr.store.hub.paths import HubPlace, parse_hub_url

# URLs

NAMES = st.from_regex(r"[A-Za-z0-9][\w.-]{0,9}", fullmatch=True).filter(
    lambda name: name not in ("models", "datasets", "spaces", "buckets")
)
PARTS = st.text(st.characters(exclude_characters="/", exclude_categories=["C"]), min_size=1)
PATHS = st.lists(PARTS.filter(lambda part: part not in (".", "..")), max_size=4).map("/".join)
REVISIONS = st.one_of(
    st.none(),
    st.sampled_from(["main", "refs/pr/12", "refs/convert/parquet", "a/b", "50%", "refs/x", "a@b"]),
    PARTS,
)


@given(st.sampled_from(["models", "datasets", "spaces", "buckets"]), NAMES, NAMES, REVISIONS, PATHS)
def test_a_url_is_read_back(kind: Any, owner: str, name: str, revision: Any, path: str) -> None:
    revision = None if kind == "buckets" else revision
    place = HubPlace(kind=kind, repo=f"{owner}/{name}", revision=revision, path=path)
    assert parse_hub_url(place.url) == place


@pytest.mark.parametrize(
    "url",
    [
        "hf://", "hf://ada", "hf://datasets/ada", "hf://datasets/ada/", "hf://@v1/x",
        "s3://a/b", "hf://datasets/ada/cells@", "hf://datasets/ada/cells@/a.zarr",
        "hf://buckets/ada/cells@v1/a.zarr", "hf://datasets/ada/cells/../secret", "hf://a@b/c",
    ],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(TargetError, match=re.escape(url)):
        parse_hub_url(url)


def test_urls_are_those_of_huggingface_hub() -> None:
    hub = pytest.importorskip("huggingface_hub")
    for kind, of in [("models", "model"), ("datasets", "dataset"), ("spaces", "space")]:
        for revision in (None, "refs/pr/1", "v1 b"):
            place = HubPlace(kind=kind, repo="ada/x", revision=revision, path="é a.zarr")  # type: ignore[arg-type]
            there = hub.hf_hub_url(
                "ada/x", "é a.zarr/c/0#1", repo_type=of, revision=revision, endpoint="http://h"
            )
            assert f"http://h{place.file('c/0#1')}" == there


# Parts of objects

RANGES = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 40))),
    st.tuples(st.integers(-40, -1), st.none()),
)


def served(data: bytes, headers: dict[str, str]) -> Reply:
    """What a server answers that does all right."""
    wanted = headers.get("Range")
    if wanted is None:
        return Reply(url="", status=200, headers={}, body=data)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(len(data) - int(last), 0)
    stop = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= stop:
        told = {"content-range": f"bytes */{len(data)}"}
        return Reply(url="", status=416, headers=told)
    told = {"content-range": f"bytes {start}-{stop - 1}/{len(data)}"}
    return Reply(url="", status=206, headers=told, body=data[start:stop])


@given(st.binary(max_size=30), RANGES, st.booleans())
def test_what_a_server_sends_is_what_was_wanted(data: bytes, wanted: Any, known: bool) -> None:
    size = len(data) if known else None
    span = span_of(wanted, size)
    expected = data if wanted is None else data[slice(*wanted)] if _forward(wanted) else b""
    if span is not None and span.empty:
        assert expected == b""
        return
    assert take(served(data, range_header(span)), span, size) == expected
    if known:
        whole = Reply(url="", status=200, headers={}, body=data)
        assert take(whole, span, size) == expected


def _forward(wanted: tuple[int, int | None]) -> bool:
    return wanted[1] is None or wanted[0] < wanted[1]


@given(
    st.binary(min_size=1, max_size=30),
    RANGES,
    st.booleans(),
    st.sampled_from(["cut", "more", "moved", "no part", "other size", "unlabeled", "encoded"]),
)
def test_what_is_wrong_is_never_taken(data: bytes, wanted: Any, known: bool, fault: str) -> None:
    size = len(data) if known else None
    span = span_of(wanted, size)
    if span is not None and span.empty:
        return
    right = served(data, range_header(span))
    headers, body, status = dict(right.headers), right.body, right.status
    if fault == "cut":
        body = body[:-1]
    elif fault == "more":
        body += b"x"
    elif fault == "moved":
        headers["content-range"] = re.sub(
            r"(\d+)-(\d+)/(\d+)", lambda m: f"{int(m[1]) + 1}-{int(m[2]) + 1}/*",
            headers.get("content-range", ""),
        )  # fmt: skip
    elif fault == "other size":
        headers["content-range"] = headers.get("content-range", "").rpartition("/")[0] + "/999"
    elif fault == "unlabeled":
        status = 200 if status == 206 else status
        headers.pop("content-range", None)
    elif fault == "encoded":
        headers["content-encoding"] = "gzip"
    else:
        headers.pop("content-range", None)
    taken = take(Reply(url="", status=status, headers=headers, body=body), span, size)
    expected = data if wanted is None else data[slice(*wanted)]
    whole_and_unknown = status == 200 and wanted is None and size is None
    assert isinstance(taken, str) or taken == expected or whole_and_unknown


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"api";r=7;t=55'}, None),
        ({"retry-after": "2", "ratelimit": '"api";r=0;t=55'}, 2.0),
        (
            {
                "retry-after": "Fri, 02 Jan 2026 00:00:30 GMT",
                "date": "Fri, 02 Jan 2026 00:00:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Fri, 02 Jan 1970 00:00:30 GMT"}, 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert retry_delay(headers) == wait


def test_addresses_are_renewed_before_they_expire() -> None:
    now = time.time()
    began = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    skewed = {"date": email.utils.formatdate(now + 5000, usegmt=True)}
    for query, headers, low, high in [
        (f"Expires={now + 3600:.0f}&Signature=x", {}, 3500, 3600),
        (f"X-Amz-Date={began}&X-Amz-Expires=600", {}, 500, 600),
        (f"Expires={now + 5600:.0f}", skewed, 500, 600),  # their clock is ahead of ours
        (f"Expires={now + 1}", {}, 0.5, 1),
        (f"Expires={now - 5}", {}, -10, 0),
        ("", {}, 100, 400),
        ("Expires=never", {}, 100, 400),
    ]:
        reply = Reply(url="", status=302, headers=headers)
        address = address_of(reply, f"https://cdn.example/x?{query}", size=None, etag=None)
        assert low < address.until - time.monotonic() < high, query
        assert "Signature" not in repr(address)


def test_origins() -> None:
    same = ["https://hub.example/a", "https://HUB.example:443/b", "https://hub.example./c"]
    assert len({origin(url) for url in same}) == 1
    other = ["http://hub.example/a", "https://hub.example:444", "https://evil.example",
             "https://hub.example.evil.example/", "https://hub.example@evil.example/"]  # fmt: skip
    assert not {origin(url) for url in other} & {origin(same[0])}
    assert shown("https://u:p@cdn.example/a?Signature=x#y") == "https://cdn.example/a"


@pytest.mark.parametrize(
    ("status", "code", "said", "kind", "text"),
    [
        (404, "RevisionNotFound", "", StoreNotFoundError, "no revision 'v1'"),
        (401, "RepoNotFound", "", StoreNotFoundError, "hf auth login"),
        (404, "RepoNotFound", "", StoreNotFoundError, "there is no dataset repo 'ada/cells'"),
        (401, None, "Invalid credentials in Authorization header", ReadError, "does not know"),
        (403, "GatedRepo", "", ReadError, "http://hub/datasets/ada/cells"),
        (403, None, "no rights", ReadError, "no rights"),
        (404, None, "", StoreNotFoundError, "knows nothing"),
        (418, None, "teapot", ReadError, "418"),
    ],
)
def test_refusals(status: int, code: str | None, said: str, kind: type, text: str) -> None:
    headers = {"x-error-message": said, **({"x-error-code": code} if code else {})}
    reply = Reply(url="http://hub/x?Signature=1", status=status, headers=headers)
    place = HubPlace(kind="datasets", repo="ada/cells", revision="v1", path="a.zarr")
    error = refusal(reply, place, key="zarr.json", endpoint="http://hub", login="as nobody")
    assert type(error) is kind
    assert text in str(error)
    assert "Signature" not in str(error)


# Listings

KEYS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), unique=True)


@given(KEYS, st.integers(1, 4))
def test_a_listing_knows_what_is_there(keys: list[str], page: int) -> None:
    # A file is no folder at the same time.
    keys = [key for key in keys if not any(one.startswith(f"{key}/") for one in keys)]
    items = [{"type": "file", "path": f"r/{key}", "size": 1, "oid": key} for key in keys]
    items.append({"type": "file", "path": "rr/a", "size": 9, "oid": "x"})
    listing = Listing("r")
    for start in range(0, len(items), page):
        assert not listing.complete
        assert listing.find("zz") is UNKNOWN
        listing.add(items[start : start + page])
        listing.turn("more" if start + page < len(items) else None)
    assert listing.keys() == sorted(keys)
    assert listing.find("zz") is None
    for folder in ["", "a", "a/b", "zz"]:
        start = f"{folder}/" if folder else ""
        below = {k[len(start) :].partition("/")[0] for k in keys if k.startswith(start)}
        assert listing.names(folder) == sorted(below)
    usage = listing.usage("")
    assert usage is not None
    assert usage[:2] == (len(keys), len(keys))


def test_spans_print() -> None:
    assert span_of((3, None), 2) == Span(2, 2)
    assert span_of((-9, None), 4) == Span(0, 4)
