"""All files of a store, as they lie there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hfzarr.errors import ReadError
from hfzarr.model.report import shorten
from hfzarr.store.folder import FolderSource
from hfzarr.store.sink import WORK
from hfzarr.store.source import Source

__all__ = ["StoreFile", "stored_files"]

# What systems and runs of ours leave behind, and what is no file of the store.
_RUBBISH = frozenset([".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".git", WORK])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFile:
    """A file of a store.

    Attributes
    ----------
    key
        Its path in the store.
    size
        In bytes.
    stamp
        A text that changes when the file does.
    """

    key: str
    size: int
    stamp: str


def stored_files(source: Source, prefix: str = "") -> list[StoreFile]:
    """Return every file below a node, sorted; without what systems leave behind.

    Parameters
    ----------
    source
        The store.
    prefix
        Path of the node.

    Raises
    ------
    UnsupportedError
        The store cannot be listed.
    """
    found: list[StoreFile] = []
    folders = [prefix]
    while folders:
        keys = [
            f"{folder}/{name}" if folder else name
            for folder, names in zip(folders, source.list_many(folders), strict=True)
            for name in names
            if name not in _RUBBISH
        ]
        files = _files(source, folders, keys)
        found.extend(files)
        known = {one.key for one in files}
        folders = [key for key in keys if key not in known]
        _refuse_rounds(source, folders)
    return sorted(found, key=lambda one: one.key)


def _files(source: Source, folders: Sequence[str], keys: Sequence[str]) -> list[StoreFile]:
    if not source.local:
        # A store behind a network may not tell a folder's size from that of nothing.
        names = {
            f"{folder}/{name}" if folder else name
            for folder in folders
            for name in source.list_files(folder)
        }
        keys = [key for key in keys if key in names]
    sizes = source.sizes(keys)
    there = [(key, size) for key, size in zip(keys, sizes, strict=True) if size is not None]
    stamps = source.stamps([key for key, _ in there])
    return [
        StoreFile(key=key, size=size, stamp=stamp or "")
        for (key, size), stamp in zip(there, stamps, strict=True)
    ]


def _refuse_rounds(source: Source, folders: Sequence[str]) -> None:
    """Raise for a link to a folder that it lies in, which would be followed for ever."""
    if not isinstance(source, FolderSource):
        return
    for key in folders:
        path = f"{source.root}/{key}"
        if os.path.islink(path) and os.path.isdir(path):
            above = key
            while above:
                above = above.rpartition("/")[0]
                if os.path.samefile(path, f"{source.root}/{above}"):
                    raise ReadError(
                        f"store {source.root!r}: {shorten(key)} is a link to a folder that it lies "
                        "in. Remove it."
                    )
