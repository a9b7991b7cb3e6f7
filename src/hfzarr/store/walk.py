"""Where stores lie in a tree of folders, found without looking into any of them."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from hfzarr.errors import HfzarrError, ReadError, StoreNotFoundError, TargetError
from hfzarr.store.glob import Glob
from hfzarr.store.location import Location, hide_secrets, locate
from hfzarr.store.remote import reaching
from hfzarr.store.zipped import ZipSource

__all__ = ["METADATA_FILES", "STORE_SUFFIXES", "FoundStores", "find_stores"]

#: Files beside stores that say more of them.
METADATA_FILES = frozenset(["metadata.csv", "metadata.jsonl", "metadata.parquet"])
#: Suffixes that make a store of whatever bears them.
STORE_SUFFIXES = (".zarr", ".zarr.zip", ".ozx")
_FOLDER = ".zarr"
_ZIPS = (".zarr.zip", ".ozx")
# A file of any of these names says that the folder around it is a node.
_KEYS = frozenset(["zarr.json", ".zgroup", ".zarray", ".zmetadata"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStores:
    """What a walk met.

    Attributes
    ----------
    stores
        Paths of the stores below the place, with ``/`` between names, sorted. ``""`` is the place
        itself. From a web server, they are spelled as its links are (``a%20b.zarr``).
    files
        Paths of the files ``metadata.csv``, ``metadata.jsonl`` and ``metadata.parquet``, alike.
    """

    stores: tuple[str, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One name in a listing; ``place`` is what to list it by, where it is a folder."""

    name: str
    is_folder: Callable[[], bool]
    place: Any


def find_stores(
    place: str,
    options: Mapping[str, Any] | None = None,
    *,
    width: int = 32,
    glob: Glob | None = None,
    on_found: Callable[[int], object] | None = None,
    on_fault: Callable[[str, HfzarrError], object] | None = None,
) -> FoundStores:
    """Find the stores in a tree of folders.

    A folder named ``*.zarr`` is a store and is not looked into, nor is any other folder once its
    listing shows a ``zarr.json``, ``.zgroup``, ``.zarray`` or ``.zmetadata``. Zips named
    ``*.zarr.zip`` or ``*.ozx`` are stores; so is a ``*.zip`` on this machine that holds one.
    Folders whose names begin with ``.`` or ``__`` are passed by. Links to folders are followed,
    unless they lead back to where they lie.

    Parameters
    ----------
    place
        A folder, a store, or an fsspec URL of one.
    options
        Passed to fsspec for a URL.
    width
        How many listings of a URL are under way at once.
    glob
        Leave out what it does not match; paths are those below the place.
    on_found
        Called with the number of stores found so far, now and then.
    on_fault
        Called with the path and the error of each folder below the place that cannot be listed,
        which is then passed by. By default the error is raised.

    Raises
    ------
    StoreNotFoundError
        There is no such folder.
    ReadError
        A folder cannot be listed.
    TargetError
        The place is a file that holds no store.

    Examples
    --------
    >>> import tempfile, zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.zarr", "a/inner.zarr", "a/plain"):
    ...         _ = zarr.create_array(f"{folder}/{name}", shape=(4,), dtype="uint8")
    ...     find_stores(folder).stores
    ('a/inner.zarr', 'a/plain', 'b.zarr')
    """
    location = locate(place, options)
    walk = _Walk(glob, on_found, on_fault)
    if location.kind == "folder":
        _walk_folder(location.url, walk)
    elif location.kind == "zip" or "::" in location.url:
        _check_zip(location)
        walk.add("")
    else:
        _walk_url(location, walk, width)
    return walk.found()


class _Walk:
    """What was met so far, and what is still to be looked at."""

    def __init__(
        self,
        glob: Glob | None,
        on_found: Callable[[int], object] | None,
        on_fault: Callable[[str, HfzarrError], object] | None,
    ) -> None:
        self.glob = glob
        self._on_fault = on_fault
        self._stores: list[str] = []
        self._files: list[str] = []
        self._tell = on_found

    def add(self, path: str) -> None:
        """Note a store."""
        if self.glob is None or self.glob.matches(path):
            self._stores.append(path)
            if self._tell is not None:
                self._tell(len(self._stores))

    def listed(self, path: str, entries: Callable[[], list[_Entry]]) -> list[_Entry]:
        """Return a listing; nothing of a folder that cannot be listed and is to be passed by."""
        try:
            return entries()
        except HfzarrError as error:
            # Of the place itself there must be a listing.
            if self._on_fault is None or not path:
                raise
            self._on_fault(path, error)
            return []

    def sort_out(self, path: str, entries: Sequence[_Entry]) -> Iterator[tuple[str, Any]]:
        """Note what a listing shows; yield the paths and places of the folders to list next."""
        if any(entry.name in _KEYS for entry in entries):
            self.add(path)
            return
        for entry in entries:
            below = f"{path}/{entry.name}" if path else entry.name
            if entry.name in METADATA_FILES:
                self._files.append(below)
            elif entry.name.startswith((".", "__")):
                continue
            elif entry.is_folder():
                if entry.name.lower().endswith(_FOLDER):
                    self.add(below)
                elif self.glob is None or self.glob.may_hold(below):
                    yield below, entry.place
            elif _is_zip(entry):
                self.add(below)

    def found(self) -> FoundStores:
        """Return all that was met."""
        return FoundStores(stores=tuple(sorted(self._stores)), files=tuple(sorted(self._files)))


def _is_zip(entry: _Entry) -> bool:
    """Whether a file is a store in a zip, by its name or, on this machine, by what it holds."""
    name = entry.name.lower()
    if name.endswith(_ZIPS):
        return True
    local = isinstance(entry.place, os.DirEntry)
    return local and name.endswith((".zip", _FOLDER)) and _holds_store(entry.place.path)


def _holds_store(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    source = ZipSource(path)
    try:
        return not _KEYS.isdisjoint(source.list_dir(""))
    except HfzarrError:
        # Named like any other zip, it may well be none of ours.
        return False
    finally:
        source.close()


def _check_zip(location: Location) -> None:
    local = "://" not in location.url
    if local and not location.url.lower().endswith(_ZIPS) and not _holds_store(location.url):
        raise TargetError(
            f"{location.url!r} is a file that holds no Zarr store. Give a folder, a store, a URL, "
            "or a list of them; a table of stores is opened with hfzarr.open_manifest()."
        )


# --- folders of this machine ----------------------------------------------------------------------


def _walk_folder(root: str, walk: _Walk) -> None:
    if not os.path.isdir(root):
        raise StoreNotFoundError(
            f"no such folder: {root!r}. Check the path; a relative one counts from the current "
            "folder."
        )
    if _named_store(root) and any(os.path.exists(os.path.join(root, key)) for key in _KEYS):
        walk.add("")
        return
    # With each folder go the real places of the links that led to it.
    waiting: list[tuple[str, str, tuple[str, ...]]] = [("", root, ())]
    while waiting:
        path, folder, links = waiting.pop()
        entries = walk.listed(path, partial(_scan, folder))
        for below, entry in walk.sort_out(path, entries):
            after = _follow(entry, links)
            if after is not None:
                waiting.append((below, entry.path, after))


def _scan(folder: str) -> list[_Entry]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError as error:
        raise ReadError(
            f"cannot list the folder {folder!r}: {error}. Make it readable, or scan the folders "
            "beside it by a list."
        ) from error
    return [_Entry(entry.name, _asking(entry), entry) for entry in listed]


def _asking(entry: os.DirEntry[str]) -> Callable[[], bool]:
    def is_folder() -> bool:
        # A link that leads to itself is neither; asking for it is an error of the system.
        with contextlib.suppress(OSError):
            if entry.is_dir():
                return True
        # A store whose link leads nowhere is a broken store, not none.
        return (
            entry.name.lower().endswith(_FOLDER)
            and entry.is_symlink()
            and not os.path.exists(entry.path)
        )

    return is_folder


def _follow(entry: os.DirEntry[str], links: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the links behind a folder, itself included; None where it leads back."""
    if not entry.is_symlink():
        return links
    target = os.path.realpath(entry.path)
    here = os.path.realpath(os.path.dirname(entry.path))
    way = (*links, here)
    if any(f"{place}{os.sep}".startswith(f"{target.rstrip(os.sep)}{os.sep}") for place in way):
        return None
    return way


def _named_store(place: str) -> bool:
    return place.rstrip("/\\").lower().endswith(_FOLDER)


# --- anything that fsspec lists -------------------------------------------------------------------


def _walk_url(location: Location, walk: _Walk, width: int) -> None:
    if _named_store(hide_secrets(location.url)):
        # A web server that lists nothing serves stores all the same.
        walk.add("")
        return
    import fsspec

    with reaching(location.url, location.shown):
        fs, root = fsspec.core.url_to_fs(location.url, **location.storage_options)
    # fsspec keeps listings for good, and others may have written since.
    fs.invalidate_cache()
    try:
        first = _list(fs, root, location.shown)
    except HfzarrError:
        first = []
        if not _is_node(fs, root):
            raise
    if not first and _is_node(fs, root):
        walk.add("")
        return
    level = list(walk.sort_out("", first))
    with ThreadPoolExecutor(max(width, 1), thread_name_prefix="hfzarr-walk") as pool:
        while level:
            folders = [path for path, _ in level]
            asked = [partial(_list, fs, place, f"{location.shown}/{path}") for path, place in level]
            listings = pool.map(walk.listed, folders, asked)
            level = [
                after
                for path, entries in zip(folders, listings, strict=True)
                for after in walk.sort_out(path, entries)
            ]


def _list(fs: Any, place: str, shown: str) -> list[_Entry]:
    try:
        listed = fs.ls(place, detail=True)
    except FileNotFoundError as error:
        raise StoreNotFoundError(
            f"there is no folder at {shown!r} that can be listed ({error}).{_remedy(fs)}"
        ) from error
    except Exception as error:
        raise ReadError(
            f"cannot list {shown!r}: {type(error).__name__}: {error}. Where it is a matter of "
            f"login, give storage_options=, such as {{'anon': True}}.{_remedy(fs)}"
        ) from error
    return list(_entries(fs, place, listed))


def _remedy(fs: Any) -> str:
    if not _is_web(fs):
        return " Check the URL."
    return (
        " Many web servers do not list their folders: give the URLs of the stores themselves as a "
        "list, or a manifest to hfzarr.open_manifest()."
    )


def _is_web(fs: Any) -> bool:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return bool(protocols & {"http", "https"})


def _entries(fs: Any, place: str, listed: Iterable[Mapping[str, Any]]) -> Iterator[_Entry]:
    web = _is_web(fs)
    folder = place.rstrip("/")
    for item in sorted(listed, key=lambda item: str(item["name"])):
        where = str(item["name"])
        path = where.rstrip("/")
        above, _, name = path.rpartition("/")
        # An object store may show the folder itself; a page has links to anywhere.
        if path == folder or not name or (web and (above != folder or set(name) & set("?#"))):
            continue
        # Some web servers link to folders without a slash.
        inside = item["type"] == "directory" or (web and name.lower().endswith(_FOLDER))
        yield _Entry(name, _saying(inside), where)


def _saying(answer: bool) -> Callable[[], bool]:
    return lambda: answer


def _is_node(fs: Any, root: str) -> bool:
    """Whether a place that shows no listing is a store, by its own files."""
    for key in sorted(_KEYS):
        try:
            if fs.exists(f"{root.rstrip('/')}/{key}"):
                return True
        except Exception:
            # What is said of the listing says more.
            return False
    return False
