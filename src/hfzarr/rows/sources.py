"""What a user names to be scanned becomes places with stores in them."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, takewhile
from typing import Any
from urllib.parse import unquote

from hfzarr.errors import HfzarrError, StoreNotFoundError, TargetError
from hfzarr.model.report import shorten
from hfzarr.rows.columns import REGION_TEXT
from hfzarr.rows.places import folder_of, is_absolute, join, scheme_of
from hfzarr.store.glob import Glob
from hfzarr.store.location import hide_secrets, locate
from hfzarr.store.walk import find_stores

__all__ = ["Gathered", "Source", "gather"]

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All stores that were found.

    Attributes
    ----------
    base
        The folder or URL that `cells` count from; empty where they are absolute.
    cells
        What names each store in a table.
    places
        Where each store lies: absolute paths and URLs.
    names
        Path of each store below the folder that all have in common, as its files are called.
    files
        Tables of metadata: their names, alike, and where they lie.
    partial
        Whether there may be stores beside them that were left out.
    faults
        Folders that could not be listed, and why.
    """

    base: str
    cells: tuple[str, ...]
    places: tuple[str, ...]
    names: tuple[str, ...]
    files: Mapping[str, str]
    partial: bool
    faults: tuple[tuple[str, HfzarrError], ...] = ()

    def unfit(self) -> dict[int, str]:
        """Return which stores have names that no table of stores can keep, and why."""
        return {
            index: why
            for index, cell in enumerate(self.cells)
            if (why := _unfit(cell, scheme_of(self.base)))
        }

    def kept(self, keep: Sequence[bool]) -> Gathered:
        """Return the same with some of the stores alone."""
        return replace(
            self,
            cells=tuple(compress(self.cells, keep)),
            places=tuple(compress(self.places, keep)),
            names=tuple(compress(self.names, keep)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    base: str
    stores: tuple[str, ...]
    files: tuple[str, ...] = ()
    partial: bool = False
    faults: tuple[tuple[str, HfzarrError], ...] = ()


def _unfit(cell: str, scheme: str) -> str:
    """Return what is wrong with the name of a store, if anything is."""
    if re.search(r"[\x00\r\n]", cell):
        return "a line break"
    if re.search(REGION_TEXT, cell):
        return "what names a region, '#…[…]', at its end"
    return "'::', which chains protocols in a URL" if scheme and "::" in cell else ""


def gather(
    source: Source,
    options: Mapping[str, Any],
    *,
    width: int,
    on_found: Callable[[int], object],
    passing: bool = False,
) -> Gathered:
    """Find the stores of a folder, a URL, a pattern of either, or a list of them.

    Parameters
    ----------
    source
        What the user names.
    options
        Options for fsspec.
    width
        How many listings are under way at once.
    on_found
        Called with the number of stores so far.
    passing
        Whether folders that cannot be listed are passed by, and told as faults.

    Raises
    ------
    StoreNotFoundError
        There is no such place, or no store in it.
    TargetError
        The source is of another kind.
    """
    texts = _texts(source)
    places: list[_Place] = []
    for text in texts:
        before = sum(len(place.stores) for place in places)
        place = _look(text, options, width, _counting(on_found, before), passing)
        if not place.stores:
            raise next((fault for _, fault in place.faults), None) or _nothing(text)
        places.append(place)
    if len(places) == 1:
        return _alone(places[0])
    return _together(places)


def _counting(tell: Callable[[int], object], before: int) -> Callable[[int], object]:
    return lambda count: tell(before + count)


def _texts(source: Source) -> list[str]:
    single = isinstance(source, (str, os.PathLike))
    if not single and (isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable)):
        raise _no_source(source)
    texts = []
    for one in [source] if single else source:  # type: ignore[union-attr]
        text = os.fspath(one) if isinstance(one, (str, os.PathLike)) else None
        if not isinstance(text, str) or not text:
            raise _no_source(one)
        texts.append(text)
    if not texts:
        raise TargetError("there is nothing to scan: the list of folders is empty")
    return texts


def _no_source(source: object) -> TargetError:
    return TargetError(
        "what is scanned is a folder, a store, a URL, a pattern such as 'data/*/*.zarr', or a list "
        f"of these; this is a {type(source).__name__}: {shorten(source)}"
    )


def _nothing(text: str) -> StoreNotFoundError:
    web = (
        " A web server may answer with a page that lists nothing: give the URLs of the stores "
        "themselves, as a list."
        if scheme_of(text) in ("http", "https")
        else ""
    )
    return StoreNotFoundError(
        f"no Zarr store in {hide_secrets(text)!r}. A store is a folder with a zarr.json, .zgroup "
        "or .zarray in it, or a zip (.zarr.zip, .ozx); folders whose names begin with '.' or '__' "
        f"are passed by.{web}"
    )


def _look(
    text: str,
    options: Mapping[str, Any],
    width: int,
    on_found: Callable[[int], object],
    passing: bool,
) -> _Place:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:/+", text):
        raise TargetError(f"{text!r} is a protocol without a place: add a bucket, host or folder")
    glob = Glob.of(text)
    location = locate(text if glob is None else glob.base, options)
    faults: list[tuple[str, HfzarrError]] = []
    found = find_stores(
        location.url,
        options,
        width=width,
        glob=glob,
        on_found=on_found,
        on_fault=(lambda path, error: faults.append((path, error))) if passing else None,
    )
    if found.stores != ("",):
        return _Place(
            base=location.url,
            stores=found.stores,
            files=found.files,
            partial=glob is not None or bool(faults),
            faults=tuple(faults),
        )
    url = location.url
    base = folder_of(url)
    # A signed URL, a chain of protocols and a whole bucket have no folder that they count from.
    rest = url[len(base) :].lstrip("/\\")
    if "::" in url or "?" in rest or not rest or not url.startswith(base) or base.endswith("/"):
        return _Place(base="", stores=(url,), partial=True)
    return _Place(base=base, stores=(rest,), partial=True)


def _alone(place: _Place) -> Gathered:
    web = scheme_of(place.base) in ("http", "https")
    return Gathered(
        base=place.base,
        cells=tuple(_cell(place.base, store) for store in place.stores),
        places=tuple(join(place.base, _cell(place.base, store)) for store in place.stores),
        names=tuple(unquote(store) if web else store for store in place.stores),
        files={file: join(place.base, file) for file in place.files},
        partial=place.partial,
        faults=place.faults,
    )


def _cell(base: str, store: str) -> str:
    """Return a path that counts from a folder, whatever it begins with, such as ``~a.zarr``."""
    return f"./{store}" if base and is_absolute(store) else store


def _together(places: Sequence[_Place]) -> Gathered:
    """Return the stores of several places by absolute paths, each once."""
    found = [
        join(place.base, _cell(place.base, store)) for place in places for store in place.stores
    ]
    stores = tuple(dict.fromkeys(found))
    files = tuple(dict.fromkeys(join(place.base, f) for place in places for f in place.files))
    names = _below_common([*stores, *files])
    return Gathered(
        base="",
        cells=stores,
        places=stores,
        names=tuple(names[: len(stores)]),
        files=dict(zip(names[len(stores) :], files, strict=True)),
        partial=any(place.partial for place in places),
        faults=tuple(fault for place in places for fault in place.faults),
    )


def _below_common(places: Sequence[str]) -> list[str]:
    """Return paths below the folder that all places have in common."""
    paths = [
        posixpath.normpath(
            unquote(place) if scheme_of(place) in ("http", "https") else place.replace(os.sep, "/")
        )
        for place in places
    ]
    parts = [path.split("/") for path in paths]
    folders = zip(*(part[:-1] for part in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, folders))
    return ["/".join(part[shared:]) for part in parts]
