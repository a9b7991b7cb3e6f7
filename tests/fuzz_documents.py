"""Strategies for what nobody should write: metadata documents, chunks and shards, put out of shape.

`HFZARR_FUZZ=100` makes every fuzz test try a hundred times as many examples.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Documents = dict[str, bytes]
_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_MOST = 20_000

#: Names that reach for something, deceive a reader, or are no names.
NAMES = (
    "..", "../..", "/", "/etc/passwd", "~", "C:\\x", "\\\\host\\x", "file:///etc/passwd",
    "http://127.0.0.1:9/x", "s3://b/k", "zip://x::y", "%2e%2e/x", "0/../../..", ".", "", "a//b",
    "\0", "0\0", "\n\r", "\x1b[31m", "\u202egpj", "\ud800", "<script>alert(1)</script>",
    "a" * 300, "a/" * 300, "{0}%s${HOME}",
)  # fmt: skip
#: Numbers at an edge, or beyond one.
NUMBERS = (
    0, -1, 1, 2, 2**31, 2**32 - 1, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**290,
    0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
OTHERS = (
    None, True, False, [], {}, [[]], [{}], [None], [1, [2]], {"a": {"a": {}}}, {"name": "x"},
    "NaN", "Infinity", "0x7fc00000", "days since 0000-00-00", "bytes", "pickle", "sharding_indexed",
)  # fmt: skip


def rounds(count: int) -> settings:
    """Return settings of so many examples, or of as many more as the environment says."""
    factor = int(os.environ.get("HFZARR_FUZZ", "1"))
    return settings(
        max_examples=count * factor,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def junk() -> st.SearchStrategy[Any]:
    """Values that no specification means."""
    deep = st.integers(2, 300).map(_nested)
    return st.one_of(
        st.sampled_from(NAMES), st.sampled_from(NUMBERS), st.sampled_from(OTHERS), deep
    )


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def mutated(draw: st.DrawFn, documents: Mapping[str, bytes]) -> Documents:
    """Return the documents of a store of which one or two say something else."""
    out = dict(documents)
    names = sorted(out)
    # The root's decides what the store is: it is put out of shape most often.
    likely = [name for name in names if "/" not in name] * 3 + names
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(likely))
        if draw(st.integers(0, 9)):
            doc = json.loads(documents[name])
            for _ in range(draw(st.integers(1, 3))):
                doc = _mangled(draw, doc)
            out[name] = json.dumps(doc).encode()
        else:
            out[name] = draw(broken(documents[name]))
    return out


def _mangled(draw: st.DrawFn, doc: Any) -> Any:
    places = _places(doc)
    if not places:
        return draw(junk())
    *above, key = draw(st.sampled_from(places))
    parent = doc
    for step in above:
        parent = parent[step]
    fate = draw(st.sampled_from(["junk", "junk", "junk", "drop", "double", "elsewhere", "key"]))
    if fate == "drop":
        del parent[key]
    elif fate == "double" and isinstance(parent, list):
        parent.extend([parent[key]] * draw(st.integers(1, 70)))
    elif fate == "elsewhere":
        parent[key] = _at(doc, draw(st.sampled_from(places)))
    elif fate == "key" and isinstance(parent, dict):
        parent[draw(st.sampled_from(NAMES))] = parent.pop(key)
    else:
        parent[key] = draw(junk())
    # What was put into itself is written out once.
    return json.loads(_text(doc))


def _text(doc: Any) -> str:
    try:
        return json.dumps(doc)
    except ValueError:
        return "{}"


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if len(at) > 20 or not isinstance(value, (dict, list)):
        return []
    found = []
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        found += [(*at, key), *_places(child, (*at, key))]
    return found


def _at(doc: Any, place: Sequence[Any]) -> Any:
    for step in place:
        doc = doc[step]
    return doc


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes that were cut, that are followed by others, or of which some are others."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(out) - 1, 0)))
        fate = draw(st.sampled_from(["byte", "byte", "byte", "cut", "more", "long"]))
        if fate == "cut":
            del out[at:]
        elif fate == "more":
            out[at:at] = draw(st.binary(min_size=1, max_size=24))
        elif fate == "long":
            number = draw(st.sampled_from([0, 1, 2**31, 2**62, 2**63, 2**64 - 1]))
            out[at : at + 8] = number.to_bytes(8, "little")
        elif out:
            out[at] = draw(st.integers(0, 255))
    return bytes(out)


def documents_of(store: Path) -> Documents:
    """Return the metadata documents of a store that lies in a folder, the small ones."""
    found = (path for path in sorted(store.rglob("*")) if path.name in _METADATA)
    out = {}
    for path in found:
        data = path.read_bytes()
        if len(data) < _MOST and _is_json(data):
            out[path.relative_to(store).as_posix()] = data
    return out


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def write(folder: Path, documents: Mapping[str, bytes]) -> Path:
    """Write files below a folder, and return it."""
    for name, data in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
