"""Files of a store put into an outbox as they are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence

from hfzarr.errors import ReadError
from hfzarr.store.files import StoreFile
from hfzarr.store.folder import FolderSource
from hfzarr.store.hub.outbox import Outbox
from hfzarr.store.sink import write_error
from hfzarr.store.source import Source

__all__ = ["copy_files"]

# What makes a folder a store comes last, the root's at the very end.
_METADATA = frozenset(["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"])
# Fetched at once from another place.
_TOGETHER = 64
_TOGETHER_BYTES = 64 * 2**20
_PART = 16 * 2**20


def copy_files(
    source: Source, prefix: str, files: Sequence[StoreFile], outbox: Outbox, path: str
) -> None:
    """Put files of a node into an outbox; what else is there, below the same folder, is deleted.

    Parameters
    ----------
    source, prefix
        The store, and the path of the node in it.
    files
        The files; a file whose key is ``prefix`` itself becomes the file at ``path``.
    outbox, path
        Where they go.

    Raises
    ------
    ReadError
        A file is gone, or is not what it was.
    WriteError
        A batch could not be sent.
    """
    wanted = {_moved(one.key, prefix, path): one for one in files}
    for old in outbox.paths(path):
        if old not in wanted:
            outbox.delete(old)
    ordered = sorted(wanted, key=_rank)
    if isinstance(source, FolderSource):
        for name in ordered:
            one = wanted[name]
            outbox.put(name, f"{source.root}/{one.key}", one.size, owned=False)
        return
    for some in _batches([(name, wanted[name]) for name in ordered]):
        _fetch(source, some, outbox)


def _moved(key: str, prefix: str, path: str) -> str:
    below = key[len(prefix) :].strip("/")
    return f"{path}/{below}" if below else path


def _rank(name: str) -> tuple[bool, int, str]:
    is_metadata = name.rpartition("/")[2] in _METADATA
    return is_metadata, -name.count("/") if is_metadata else 0, name


def _batches(
    files: Sequence[tuple[str, StoreFile]],
) -> Iterator[list[tuple[str, StoreFile]]]:
    some: list[tuple[str, StoreFile]] = []
    nbytes = 0
    for name, one in files:
        if some and (len(some) >= _TOGETHER or nbytes + one.size > _TOGETHER_BYTES):
            yield some
            some, nbytes = [], 0
        some.append((name, one))
        nbytes += one.size
    if some:
        yield some


def _fetch(source: Source, some: Sequence[tuple[str, StoreFile]], outbox: Outbox) -> None:
    if len(some) == 1 and some[0][1].size > _PART:
        parts: Iterator[bytes | None] = _in_parts(source, some[0][1])
        _keep(source, some[0][0], some[0][1], parts, outbox)
        return
    for (name, one), data in zip(
        some, source.get_many([(one.key, None) for _, one in some]), strict=True
    ):
        _keep(source, name, one, iter([data]), outbox)


def _in_parts(source: Source, one: StoreFile) -> Iterator[bytes | None]:
    for start in range(0, one.size, _PART):
        yield source.get(one.key, (start, min(start + _PART, one.size)))


def _keep(
    source: Source, name: str, one: StoreFile, parts: Iterator[bytes | None], outbox: Outbox
) -> None:
    file = f"{outbox.folder}/{uuid.uuid4().hex}"
    size = 0
    try:
        with open(file, "wb") as out:
            for data in parts:
                if data is None:
                    raise _gone(source, one)
                size += out.write(data)
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise write_error(os.path.dirname(file), name, error) from error
    if size != one.size:
        raise ReadError(
            f"the file {one.key!r} in {source.url} had {one.size:,} bytes, and has {size:,} now. "
            "Push again when nobody writes to it."
        )
    outbox.put(name, file, size, owned=True)


def _gone(source: Source, one: StoreFile) -> ReadError:
    return ReadError(f"the file {one.key!r} in {source.url} is no longer there. Push again.")
