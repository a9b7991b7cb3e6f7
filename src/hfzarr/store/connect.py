"""A location becomes a source that can be read, or a sink that can be written to."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Mapping
from typing import Any

from hfzarr.errors import ReadError, StoreNotFoundError, TargetError
from hfzarr.store.cache.place import cache_of_environment
from hfzarr.store.folder import FolderSource
from hfzarr.store.folder_sink import FolderSink
from hfzarr.store.location import Location
from hfzarr.store.remote import reaching
from hfzarr.store.sink import Sink
from hfzarr.store.source import Source
from hfzarr.store.zipped import ZipSource

__all__ = ["connect", "connect_sink"]

_ZIP_SUFFIXES = (".zip", ".ozx")


def connect(location: Location, *, carried: bool = True) -> Source:
    """Return the source at a location; nothing of the store is read yet.

    Parameters
    ----------
    location
        Where the store lies.
    carried
        Whether metadata that the location brings along stands for the store's own.

    Raises
    ------
    StoreNotFoundError
        There is no such folder or file.
    TargetError
        What is there is a file, but not a zip.
    ReadError
        This process has too many files open.
    MissingDependencyError
        The URL's protocol needs a package that is not installed.
    """
    if carried and location.carried is not None:
        from hfzarr.store.carried import CarriedSource

        return CarriedSource(location)
    if location.kind == "folder":
        if not os.path.isdir(location.url):
            raise StoreNotFoundError(
                f"No such file or directory: {location.url!r}, so there is no Zarr store. "
                "Check the path; a relative one counts from the current folder."
            )
        return FolderSource(location.url)
    if location.kind == "zip":
        if "://" not in location.url and not _is_zip(location.url):
            raise TargetError(
                f"{location.url!r} is a file, but neither a zip nor a Zarr store. A store is a "
                "folder, a zip (.zarr.zip, .ozx) or a URL; if it is a zip, it is cut short."
            )
        if location.url.startswith("hf://"):
            from hfzarr.store.hub.zip import hub_zip_source

            return hub_zip_source(location)
        return ZipSource(location.url, location.storage_options)
    return _keeping(_connect_zarr(location), location)


def _keeping(source: Source, location: Location) -> Source:
    """Return the source itself, or one that keeps what it reads, where that is wanted."""
    place = cache_of_environment() if location.cache is None else location.cache
    if not place or location.kind != "url":
        return source
    from hfzarr.store.cache.source import cached_source

    return cached_source(source, location, place)


def _is_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return zipfile.is_zipfile(file)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return False
        raise ReadError(
            f"cannot open the zip file {path!r}: {error}. Each zip that was looked at keeps a file "
            "open as long as its handle or Dataset lives: let go of some, or raise `ulimit -n`."
        ) from error


def _connect_zarr(location: Location) -> Source:
    from zarr.abc.store import Store
    from zarr.storage import FsspecStore, LocalStore, MemoryStore

    from hfzarr.store.wrapped import ZarrSource

    held = location.held
    if type(held) is LocalStore:
        return FolderSource(str(held.root))
    if isinstance(held, Store):
        return ZarrSource(held, location.url, held=True)
    if held is not None and hasattr(held, "fs") and hasattr(held, "root"):
        return ZarrSource(FsspecStore.from_mapper(held, read_only=True), location.url)
    if held is not None:
        return ZarrSource(MemoryStore(_buffers(held)), location.url)
    if location.url.startswith("hf://"):
        from hfzarr.store.hub.source import hub_source

        return hub_source(location)
    from hfzarr.store.objects.source import object_source

    if (objects := object_source(location)) is not None:
        return objects
    with reaching(location.url, location.shown):
        store = FsspecStore.from_url(
            location.url, storage_options=dict(location.storage_options), read_only=True
        )
    return ZarrSource(store, location.shown)


def _buffers(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping of keys to bytes as one of keys to zarr buffers."""
    from zarr.core.buffer import default_buffer_prototype

    make = default_buffer_prototype().buffer.from_bytes
    return {
        key: make(value) if isinstance(value, (bytes, bytearray, memoryview)) else value
        for key, value in mapping.items()
    }


def connect_sink(location: Location) -> Sink:
    """Return the sink at a location; nothing is made or written yet.

    Raises
    ------
    TargetError
        Nothing can be written there: a zip, a file, a store that is read-only.
    MissingDependencyError
        The URL's protocol needs a package that is not installed.
    """
    _refuse_files(location)
    if location.kind == "folder":
        return FolderSink(location.url)
    from zarr.storage import FsspecStore

    from hfzarr.store.zarr_sink import ZarrSink

    if location.kind == "object":
        return _held_sink(location)
    with reaching(location.url, location.shown):
        store = FsspecStore.from_url(
            location.url, storage_options=dict(location.storage_options), read_only=False
        )
    return ZarrSink(store, location.shown)


def _refuse_files(location: Location) -> None:
    url = location.url.lower()
    named = url.endswith(_ZIP_SUFFIXES) and not os.path.isdir(location.url)
    if location.kind == "object" or not (location.kind == "zip" or named or _is_chain(url)):
        return
    if "://" not in url and not named:
        raise TargetError(
            f"{location.shown!r} is a file, and a store is written to a folder or a URL. Choose "
            "another target."
        )
    raise TargetError(
        f"{location.shown!r} is a zip, and many tasks cannot write to one file at once. Write to a "
        "folder, and zip that afterwards, with its files stored, not deflated (zip -0 -r)."
    )


def _is_chain(url: str) -> bool:
    return url.startswith(("zip::", "zip://"))


def _held_sink(location: Location) -> Sink:
    from zarr.abc.store import Store
    from zarr.storage import FsspecStore, LocalStore, ZipStore

    from hfzarr.store.zarr_sink import ZarrSink

    held = location.held
    if held is not None and not isinstance(held, Store) and hasattr(held, "fs"):
        held = FsspecStore.from_mapper(held, read_only=False)
    if not isinstance(held, Store) or isinstance(held, ZipStore) or not held.supports_writes:
        raise TargetError(
            f"{location.shown} ({type(location.held).__name__}) cannot be written to by many tasks "
            "at once. Give a folder, a URL, or a zarr store that takes writes, such as LocalStore."
        )
    if held.read_only:
        raise TargetError(
            f"the store {location.shown!r} is read-only. Open it with read_only=False, or choose "
            "another target."
        )
    if type(held) is LocalStore:
        return FolderSink(os.path.join(os.path.abspath(held.root), location.path).rstrip("/\\"))
    if location.path and not isinstance(held, FsspecStore):
        raise TargetError(
            f"the target is the node {location.path!r} in {location.shown}. Give the store itself, "
            "or a folder or URL of its own."
        )
    if location.path and isinstance(held, FsspecStore):
        held = FsspecStore(held.fs, path=f"{held.path.rstrip('/')}/{location.path}")
    return ZarrSink(held, location.url, held=isinstance(location.held, Store))
