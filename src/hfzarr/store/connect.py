"""A location becomes a source that can be read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

from hfzarr.errors import StoreNotFoundError, TargetError
from hfzarr.store.folder import FolderSource
from hfzarr.store.location import Location
from hfzarr.store.remote import reaching
from hfzarr.store.source import Source
from hfzarr.store.zipped import ZipSource

__all__ = ["connect"]


def connect(location: Location) -> Source:
    """Return the source at a location; nothing of the store is read yet.

    Raises
    ------
    StoreNotFoundError
        There is no such folder or file.
    TargetError
        What is there is a file, but not a zip.
    MissingDependencyError
        The URL's protocol needs a package that is not installed.
    """
    if location.kind == "folder":
        if not os.path.isdir(location.url):
            raise StoreNotFoundError(
                f"No such file or directory: {location.url!r}, so there is no Zarr store. "
                "Check the path; a relative one counts from the current folder."
            )
        return FolderSource(location.url)
    if location.kind == "zip":
        if "://" not in location.url and not zipfile.is_zipfile(location.url):
            raise TargetError(
                f"{location.url!r} is a file, but neither a zip nor a Zarr store. A store is a "
                "folder, a zip (.zarr.zip, .ozx) or a URL; if it is a zip, it is cut short."
            )
        return ZipSource(location.url, location.storage_options)
    return _connect_zarr(location)


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
