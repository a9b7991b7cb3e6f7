"""Any target becomes a location: a value that says where a node lies, and nothing more."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from hfzarr.errors import TargetError
from hfzarr.model.report import shorten
from hfzarr.store.cache.place import CachePlace, split_cache
from hfzarr.store.options import StorageOptions

__all__ = ["Location", "join_path", "locate"]

_ZIP_SUFFIXES = (".zip", ".ozx")
_STORE_SUFFIXES = (".zip", ".ozx", ".zarr", ".ome")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Location:
    """Where a node lies.

    Attributes
    ----------
    kind
        ``"folder"`` or ``"zip"`` (which may be remote), ``"url"`` for anything fsspec opens,
        ``"object"`` for a store that the caller holds.
    url
        The place, as a local path or URL; a description for an object.
    path
        Path of the node in the store there.
    storage_options
        Passed to fsspec. Not shown in a repr, as it may hold secrets.
    held
        The caller's object, where there is one.
    carried
        JSON of the store's consolidated metadata, where whoever named the store brought it along,
        so that none is fetched.
    cache
        Where chunks are kept between runs; None where nothing is said of that.
    """

    kind: Literal["folder", "zip", "url", "object"]
    url: str
    path: str = ""
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    held: Any = field(default=None, hash=False, repr=False)
    carried: str | None = field(default=None, hash=False, repr=False, compare=False)
    cache: CachePlace | None = field(default=None, hash=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Whoever has a token for the Hub has logged in where the pickle is opened, too.
        by_reference = self.url.startswith("hf://")
        options = StorageOptions.of(self.storage_options) if by_reference else self.storage_options
        place = (self.kind, self.url, self.path)
        return _again, (*place, options, self.held, self.carried, self.cache)

    def __repr__(self) -> str:
        path = f", path={self.path!r}" if self.path else ""
        return f"Location({self.kind!r}, {self.shown!r}{path})"

    @property
    def shown(self) -> str:
        """The place, without the secrets that a URL may carry."""
        return hide_secrets(self.url)

    @property
    def name(self) -> str:
        """Name of the node: the last part of its place, without the suffixes of a store."""
        if self.path:
            return self.path.rpartition("/")[2]
        if self.kind == "object" and self.url.startswith(("memory://", "<")):
            # Named after its place in memory, which says nothing.
            return ""
        base = self.shown.rstrip("/").replace("\\", "/").rpartition("/")[2]
        while (stem := os.path.splitext(base))[1].lower() in _STORE_SUFFIXES and stem[0]:
            base = stem[0]
        return base


def _again(
    kind: Literal["folder", "zip", "url", "object"],
    url: str,
    path: str,
    options: Mapping[str, Any] | StorageOptions,
    held: Any,
    carried: str | None,
    cache: CachePlace | None,
) -> Location:
    resolved: Any = options
    if isinstance(options, StorageOptions):
        # Raised here, it would end the worker that opens the pickle; the first request raises it.
        with contextlib.suppress(TargetError):
            resolved = options.resolve()
    return Location(
        kind=kind,
        url=url,
        path=path,
        storage_options=resolved,
        held=held,
        carried=carried,
        cache=cache,
    )


def hide_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment.

    Examples
    --------
    >>> hide_secrets("https://user:word@example.org/a.zarr?token=abc")
    'https://example.org/a.zarr'
    """
    return "::".join(_hidden(link) for link in url.split("::"))


def _hidden(link: str) -> str:
    if "://" not in link:
        return link
    parts = urlsplit(link)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def join_path(*parts: str) -> str:
    """Join node paths, resolving ``.`` and ``..``.

    Raises
    ------
    TargetError
        The result would lie outside of the store, or a part is no text.

    Examples
    --------
    >>> join_path("a/b", "../c")
    'a/c'
    """
    if wrong := [part for part in parts if not isinstance(part, str)]:
        raise TargetError(f"a path in a store is text, not {wrong[0]!r}")
    out: list[str] = []
    for part in "/".join(parts).replace("\\", "/").split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            out.append(part)
        elif out:
            out.pop()
        else:
            raise TargetError(
                f"the path {'/'.join(parts)!r} leads out of the store; give one inside it"
            )
    return "/".join(out)


def locate(target: Any, storage_options: Mapping[str, Any] | None = None) -> Location:
    """Say where a target lies, without looking there.

    Parameters
    ----------
    target
        A path, an fsspec URL, a zarr store, group or array, a mapping with a ``"path"``, a
        location, or a handle, which has one.
    storage_options
        Options for fsspec, and ``"cache"`` and ``"cache_size"``, as for `CachePlace.of`.

    Raises
    ------
    TargetError
        The target is of no kind that can be opened, or the cache is none.

    Examples
    --------
    >>> locate("s3://bucket/image.ome.zarr").name
    'image'
    """
    options = dict(storage_options or {})
    if isinstance(target, Location):
        return target
    if isinstance(own := getattr(target, "location", None), Location):
        return own
    if isinstance(target, (str, os.PathLike)):
        text = os.fspath(target)
        if isinstance(text, str) and text:
            return _locate_text(text, options)
    elif (held := _locate_zarr(target)) is not None:
        return held
    elif isinstance(target, Mapping) and isinstance(target.get("path"), (str, os.PathLike)):
        return locate(target["path"], target.get("storage_options") or options)
    elif isinstance(target, MutableMapping) and "path" not in target:
        return Location(kind="object", url=f"<{type(target).__name__}>", held=target)
    raise TargetError(
        "a target is a path, an fsspec URL, a zarr store, group or array, or a mapping with a "
        f"'path'; this is a {type(target).__name__}: {shorten(target)}"
    )


def _locate_text(text: str, options: dict[str, Any]) -> Location:
    if text.startswith("file://"):
        text = url2pathname(urlsplit(text).path) or "/"
    elif text.startswith("local://"):
        text = text.removeprefix("local://")
    remote = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)", text)
    # A folder may be named like a chain of protocols: what is there decides.
    if not remote or ("://" not in text and os.path.lexists(text)):
        text = os.path.abspath(os.path.expanduser(text))
        # A zip may have any name, a folder may end in .zip: what is there decides.
        if os.path.isfile(text):
            return Location(kind="zip", url=text)
        return Location(kind="folder", url=text)
    options, cache = split_cache(options)
    bare = hide_secrets(text).rstrip("/").lower()
    # In a chain such as "zip://::s3://…" fsspec opens the zip by itself.
    zipped = bare.endswith(_ZIP_SUFFIXES) and "::" not in text
    kind: Literal["zip", "url"] = "zip" if zipped else "url"
    return Location(kind=kind, url=text.rstrip("/"), storage_options=options, cache=cache)


def _locate_zarr(target: Any) -> Location | None:
    """Return the location of a zarr-python object; none exists if zarr was never imported."""
    if "zarr" not in sys.modules:
        return None
    import zarr
    from zarr.abc.store import Store
    from zarr.storage import StorePath

    path = ""
    if isinstance(target, (zarr.Group, zarr.Array, StorePath)):
        target, path = target.store, target.path
    if not isinstance(target, Store):
        return None
    return Location(kind="object", url=hide_secrets(str(target)), path=path, held=target)
