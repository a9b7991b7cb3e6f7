"""Where the cells of a table point, as text: no file is looked at."""

from __future__ import annotations

import os
import posixpath
import re
from typing import Any

__all__ = [
    "absolute_texts",
    "climbs",
    "folder_of",
    "is_remote",
    "join",
    "scheme_of",
    "texts_seen_from",
]

# One letter before a colon is a drive of Windows, not a protocol.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
_ABSOLUTE = r"^([/\\~]|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]+(://|::))"
# Parts that a normal path has not: empty, ".", "..", or ".." in percent signs.
_ODD = r"(^|[/\\])(\.|%2[eE]){0,2}([/\\]|$)"
_OF_THIS_MACHINE = frozenset(["", "file", "local", "memory"])


def scheme_of(text: str) -> str:
    """Return the protocol that bytes come by in the end, in small letters; "" for a local path.

    Examples
    --------
    >>> scheme_of("s3://bucket/a.zarr"), scheme_of("simplecache::HTTPS://host/a"), scheme_of("C:/a")
    ('s3', 'https', '')
    """
    last = text.rpartition("::")[2]
    if not _URL.match(last):
        last = text
    return re.split(r"://|::", last, maxsplit=1)[0].lower() if _URL.match(last) else ""


def is_remote(text: str) -> bool:
    """Return whether a place is on another machine."""
    return scheme_of(text) not in _OF_THIS_MACHINE


def is_absolute(text: str) -> bool:
    """Return whether a text says where it lies without a folder to count from."""
    return re.match(_ABSOLUTE, text) is not None


def folder_of(place: str) -> str:
    """Return the folder that a file lies in, of a local path or a URL.

    Examples
    --------
    >>> folder_of("https://host/data/index.csv?download=true")
    'https://host/data'
    >>> folder_of("index.csv") == os.getcwd()
    True
    """
    if not _URL.match(place):
        return os.path.dirname(os.path.abspath(os.path.expanduser(place)))
    first, chained, rest = _first_link(place)
    if scheme_of(first) in ("http", "https"):
        first = re.split(r"[?#]", first, maxsplit=1)[0]
    head, slash, _ = first.rpartition("/")
    if slash and head.endswith(":/"):
        head += "/"
    return f"{head}{chained}{rest}"


def _first_link(url: str) -> tuple[str, str, str]:
    """Split ``zip://inside::s3://outside``, where the first link holds the path inside."""
    first, chained, rest = url.partition("::")
    if chained and "://" in first:
        return first, chained, rest
    return url, "", ""


def join(base: str, text: str) -> str:
    """Return where a cell points that counts from a folder; an absolute one stays as it is.

    Examples
    --------
    >>> join("s3://bucket/data", "images/./a.zarr")
    's3://bucket/data/images/a.zarr'
    >>> join("s3://bucket/data", "hf://datasets/user/name/a.zarr")
    'hf://datasets/user/name/a.zarr'
    """
    if is_absolute(text):
        return text
    if not _URL.match(base):
        return os.path.normpath(os.path.join(base or os.getcwd(), text))
    first, chained, rest = _first_link(base)
    head, mark, path = first.partition("://")
    joined = posixpath.normpath(posixpath.join("/", path, text)).lstrip("/")
    return f"{head}{mark}{joined}{chained}{rest}"


def climbs(text: str) -> bool:
    r"""Return whether a relative path leaves the folder that it counts from.

    Examples
    --------
    >>> climbs("a/../b.zarr"), climbs("a/../../b.zarr"), climbs("..\\b.zarr")
    (False, True, True)
    """
    depth = 0
    for part in re.split(r"[/\\]", text):
        part = re.sub("%2e", ".", part, flags=re.IGNORECASE)
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False


def absolute_texts(texts: Any, base: str) -> Any:
    """Return a column of texts, each joined to a folder; missing ones stay missing.

    Parameters
    ----------
    texts
        An Arrow string array, chunked or not.
    base
        The folder or URL that relative ones count from.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(texts):
        return texts
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    kept = pc.match_substring_regex(whole, _ABSOLUTE)
    if pc.all(kept, min_count=0).as_py():
        return texts
    # The usual path is put behind the folder as it is; the few others are worked out one by one.
    folder = join(base, "x")[:-1]
    out = pc.if_else(kept, whole, pc.binary_join_element_wise(folder, whole, ""))
    odd = pc.and_not(pc.match_substring_regex(whole, _ODD), kept)
    if "::" in base or os.sep != "/":
        odd = pc.invert(kept)
    if pc.any(odd, min_count=0).as_py():
        fixed = [join(base, text) for text in whole.filter(odd).to_pylist()]
        out = pc.replace_with_mask(out, pc.fill_null(odd, False), pa.array(fixed, pa.string()))
    return out


def texts_seen_from(folder: str, texts: Any) -> Any:
    """Return a column of absolute places, relative to a folder where they lie under it.

    Parameters
    ----------
    folder
        A folder or URL.
    texts
        An Arrow string array, chunked or not.

    Examples
    --------
    >>> import pyarrow as pa
    >>> places = pa.array(["s3://bucket/data/images/a.zarr", "s3://bucket/other/a.zarr"])
    >>> texts_seen_from("s3://bucket/data", places).to_pylist()
    ['images/a.zarr', 's3://bucket/other/a.zarr']
    """
    import pyarrow.compute as pc

    slash = "/" if _URL.match(folder) else os.sep
    head = folder.rstrip("/\\") + slash
    rest = pc.utf8_slice_codeunits(texts, start=len(head))
    # What would be read as another thing on its own stays whole.
    odd = pc.or_(pc.match_substring_regex(rest, _ABSOLUTE), pc.match_substring_regex(rest, _ODD))
    under = pc.and_not(pc.starts_with(texts, head), odd)
    if slash == "\\":
        rest = pc.replace_substring(rest, "\\", "/")
    return pc.if_else(under, rest, texts)
