"""A store whose metadata came along with its name: only chunks are fetched from where it lies."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hfzarr.errors import ChangedSourceError, InvalidMetadataError, StoreNotFoundError
from hfzarr.model.document import parse_document
from hfzarr.model.report import shorten
from hfzarr.store.connect import connect
from hfzarr.store.location import Location
from hfzarr.store.source import ByteRange, Source, Usage

__all__ = ["CarriedSource"]

_METADATA = ("zarr.json", ".zmetadata", ".zarray", ".zgroup", ".zattrs")
# What of an array's metadata decides about what its chunks mean; v3, then v2.
_DECODING = (
    "shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value",
    "dtype", "chunks", "compressor", "filters", "order", "dimension_separator",
)  # fmt: skip
_ROOTS = ("zarr.json", ".zmetadata", ".zarray", ".zgroup")


class CarriedSource:
    """Answers for metadata from what is carried, and for everything else from the store.

    The store is connected when its first chunk is read. A chunk that is absent reads as the fill
    value, and so would all chunks of a store that is not there at all: at the first absent one,
    it is made sure that there is a store. On this machine, where it costs next to nothing, the
    metadata of an array is compared with the store's own before its first chunk is read.

    In another process what is carried is not there any more, as whoever reads pixels has read
    metadata before.

    Parameters
    ----------
    location
        The store, with its consolidated metadata in ``carried``.

    Raises
    ------
    InvalidMetadataError
        What is carried is no consolidated metadata.
    """

    def __init__(self, location: Location) -> None:
        self._location = replace(location, carried=None)
        self._documents: dict[str, bytes] | None = None
        if location.carried is not None:
            self._documents = {_key(location.carried, location.shown): location.carried.encode()}
        self._lock = threading.Lock()
        self._inner: Source | None = None
        self._there = False
        self._compared: set[str] = set()
        self._arrays: Mapping[str, _Carried] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # A store that is connected may know more: of the Hub, which commit it reads.
        return (_unpickled, (self._location, self._inner))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CarriedSource) and self._location == other._location

    def __hash__(self) -> int:
        return hash(self._location)

    def __repr__(self) -> str:
        return f"CarriedSource({self.url!r})"

    @property
    def _store(self) -> Source:
        with self._lock:
            if self._inner is None:
                self._inner = connect(self._location)
            return self._inner

    def _compare(self, key: str) -> None:
        """Raise if the array that a chunk belongs to is not what was carried of it."""
        if self._documents is None or not self._store.local:
            return
        folder = key.rpartition("/")[0]
        if folder in self._compared:
            return
        found = _array_above(folder, self._members())
        if found is not None:
            where, carried = found
            own = self._store.get(f"{where}/{carried.name}" if where else carried.name)
            if own is not None and not carried.decodes_like(own):
                raise ChangedSourceError(
                    f"array {where or '/'!r} of {self.url!r} is not what the metadata that came "
                    "along tells of it: it was written anew. Make the table anew with hfzarr.scan."
                )
        self._compared.add(folder)

    def _members(self) -> Mapping[str, _Carried]:
        """Return what is carried of each array, by its path."""
        if self._arrays is None:
            self._arrays = _carried_arrays(self._documents or {})
        return self._arrays

    def _make_sure(self, absent: bool) -> None:
        """Raise if something was absent because there is no store."""
        if not absent or self._there:
            return
        if not any(self._store.probe(_ROOTS)):
            raise StoreNotFoundError(
                f"there is no Zarr store at {self.url!r}, though its metadata came along with its "
                "name: it was moved or removed. Make the table anew with hfzarr.scan."
            )
        self._there = True

    @property
    def url(self) -> str:
        """Name of the store in messages."""
        return self._location.shown

    @property
    def local(self) -> bool:
        """Whether a read is a matter of microseconds."""
        return self._store.local

    def _answers(self, keys: Sequence[str]) -> bool:
        return self._documents is not None and all(map(_is_metadata, keys))

    def _answer(self, key: str) -> bytes | None:
        return (self._documents or {}).get(key)

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or a part of it."""
        if self._answers([key]) and byte_range is None:
            return self._answer(key)
        self._compare(key)
        found = self._store.get(key, byte_range)
        self._make_sure(found is None)
        return found

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return the objects of many requests, all under way at once."""
        for key, _ in requests:
            self._compare(key)
        found = self._store.get_many(requests)
        self._make_sure(None in found)
        return found

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many metadata documents, without a request."""
        if self._answers(keys):
            return [self._answer(key) for key in keys]
        return self._store.probe(keys)

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many objects in bytes."""
        return self._store.sizes(keys)

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return what the store tells of many objects."""
        return self._store.stamps(keys)

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read an object, or a part of it, into a buffer."""
        self._compare(key)
        count = self._store.read_into(key, buffer, byte_range)
        self._make_sure(count is None)
        return count

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the event loop."""
        if self._answers([key]) and byte_range is None:
            return self._answer(key)
        self._compare(key)
        found = await self._store.get_async(key, byte_range)
        if found is None and not self._there:
            await asyncio.to_thread(self._make_sure, True)
        return found

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, sorted."""
        return self._store.list_dir(prefix)

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under each of many prefixes."""
        return self._store.list_many(prefixes)

    def list_files(self, prefix: str) -> list[str]:
        """Return the names of the objects directly under ``prefix``, sorted."""
        return self._store.list_files(prefix)

    def usage(self, prefix: str) -> Usage | None:
        """Return how many objects lie below ``prefix``, and their bytes."""
        return self._store.usage(prefix)

    def close(self) -> None:
        """Release what is open."""
        if self._inner is not None:
            self._inner.close()


def _unpickled(location: Location, inner: Source | None) -> CarriedSource:
    source = CarriedSource(location)
    source._inner = inner
    return source


@dataclass(frozen=True, slots=True)
class _Carried:
    """The document of an array, by the name that the store keeps it under."""

    name: str
    document: Mapping[str, Any]

    def decodes_like(self, own: bytes) -> bool:
        """Return whether chunks mean the same by the store's own document."""
        try:
            there = parse_document(own)
        except ValueError:
            return False
        # As text, in which what is not a number equals itself.
        return isinstance(there, dict) and all(
            json.dumps(self.document.get(key)) == json.dumps(there.get(key)) for key in _DECODING
        )


def _carried_arrays(documents: Mapping[str, bytes]) -> dict[str, _Carried]:
    out: dict[str, _Carried] = {}
    for text in documents.values():
        root = json.loads(text)
        if "metadata" in root:
            for path, document in root["metadata"].items():
                if path.rpartition("/")[2] == ".zarray":
                    out[path.rpartition("/")[0]] = _Carried(".zarray", document)
            continue
        below = (root.get("consolidated_metadata") or {}).get("metadata") or {}
        for path, document in {"": root, **below}.items():
            if isinstance(document, dict) and document.get("node_type") == "array":
                out[path] = _Carried("zarr.json", document)
    return out


def _array_above(folder: str, arrays: Mapping[str, _Carried]) -> tuple[str, _Carried] | None:
    """Return the array that a key in a folder belongs to."""
    while folder not in arrays:
        if not folder:
            return None
        folder = folder.rpartition("/")[0]
    return folder, arrays[folder]


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in _METADATA


def _key(text: str, url: str) -> str:
    """Return which document of a store's root the text is."""
    try:
        document = parse_document(text, "it")
    except (TypeError, ValueError) as error:
        raise _unsound(url, f"is no JSON ({error})", text) from error
    if isinstance(document, dict) and isinstance(members := document.get("metadata"), dict):
        if any(name in members for name in (".zgroup", ".zarray", ".zattrs")):
            return ".zmetadata"
    elif isinstance(document, dict) and document.get("zarr_format") == 3:
        below = document.get("consolidated_metadata")
        inline = isinstance(below, dict) and isinstance(below.get("metadata"), dict)
        if document.get("node_type") == "array" or inline:
            return "zarr.json"
    raise _unsound(url, "is neither a .zmetadata nor a root's zarr.json with all below it", text)


def _unsound(url: str, why: str, text: str) -> InvalidMetadataError:
    return InvalidMetadataError(
        f"store {url!r}: the metadata that came along {why}; found {shorten(text)}. Leave it out, "
        "or record it anew with hfzarr.scan(..., metadata=True)."
    )
