"""JSON of a store becomes plain values, within limits."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from hfzarr.errors import LimitError
from hfzarr.model.limits import get_limits

__all__ = ["check_document_size", "check_nesting", "parse_document"]

# A text in JSON; one that is never closed reaches to the end, so that nothing is looked at twice.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# A number that Python holds and no array does: as a float, it overflows.
_ENDLESS = re.compile(rb"(?<!\d)\d{300}")
_OTHER = bytes(byte for byte in range(256) if byte not in b"[]{}")


def parse_document(data: bytes | str, name: str = "the document") -> Any:
    """Return what a JSON document of a store says.

    Parameters
    ----------
    data
        The document.
    name
        What it is called in errors.

    Raises
    ------
    LimitError
        It is longer, or its lists and objects lie deeper in each other, than `Limits` allow.
    ValueError
        It is no JSON.
    TypeError
        It is no text.

    Examples
    --------
    >>> parse_document(b'{"zarr_format": 3}')
    {'zarr_format': 3}
    """
    if not isinstance(data, (bytes, str)):
        raise TypeError(f"JSON is bytes or text, not {type(data).__name__}")
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    check_document_size(len(raw), name)
    check_nesting(raw, name)
    if _ENDLESS.search(raw) and _ENDLESS.search(_TEXT.sub(b"", raw)):
        raise ValueError(f"{name} has a number of 300 digits or more")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise _too_deep(name, "deeper than Python reads") from error


def check_nesting(raw: bytes, name: str = "the document") -> None:
    """Refuse JSON that nests too deep, before it is parsed: a parser may end the process.

    Raises
    ------
    LimitError
        Its lists and objects lie deeper in each other than `Limits` allow.
    """
    most = get_limits().max_depth
    depth = _nesting(raw) if raw.count(b"[") + raw.count(b"{") > most else 0
    if depth > most:
        raise _too_deep(name, f"{depth:,} deep")


def check_document_size(nbytes: int, name: str = "the document") -> None:
    """Refuse a document that is too long, before it is read.

    Raises
    ------
    LimitError
        It has more bytes than `Limits` allow.
    """
    most = get_limits().max_document
    if nbytes > most:
        raise LimitError(
            f"{name} has {nbytes:,} bytes, and metadata may have {most:,}. If the store is to be "
            f"trusted, allow it with hfzarr.set_limits(max_document={nbytes})."
        )


def _too_deep(name: str, depth: str) -> LimitError:
    most = get_limits().max_depth
    return LimitError(
        f"the lists and objects of {name} lie {depth} in each other, and {most:,} is the limit. If "
        "the store is to be trusted, raise it with hfzarr.set_limits(max_depth=...)."
    )


def _nesting(raw: bytes) -> int:
    """Return how deep brackets lie in each other, those in texts left out."""
    if raw[:4].count(0):
        return 0  # UTF-16 or UTF-32, which no store is written in: the parser tells how deep
    bare = _TEXT.sub(b"", raw) if b'"' in raw else raw
    brackets = np.frombuffer(bare.translate(None, _OTHER), np.uint8)
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    steps = np.where(opening, np.int8(1), np.int8(-1))
    return int(steps.cumsum(dtype=np.int64).max(initial=0))
