"""A store in a zip file on the Hub, read by ranges."""

from __future__ import annotations

import io
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO, Any, cast

from zarr.core.sync import sync

from hfzarr.errors import ReadError, StoreNotFoundError
from hfzarr.model.document import check_document_size
from hfzarr.model.limits import check_object_size
from hfzarr.model.report import shorten
from hfzarr.store.hub.answers import span_of
from hfzarr.store.hub.source import HubSource
from hfzarr.store.hub.store import HubStore
from hfzarr.store.location import Location
from hfzarr.store.options import StorageOptions
from hfzarr.store.source import ByteRange
from hfzarr.store.zipped import ENCRYPTED, HEADER, SIGNATURE, TAIL, ZipSource, inflated

__all__ = ["HubZipSource", "hub_zip_source"]

# A data descriptor (4.3.9) with its signature, as most writers add it.
_DESCRIPTOR = 16
_HAS_DESCRIPTOR = 0x08


def hub_zip_source(location: Location) -> HubZipSource:
    """Return the source of a zip file on the Hub; nothing is read yet.

    Parameters
    ----------
    location
        Its URL begins with ``hf://`` and names a file.

    Raises
    ------
    TargetError
        The URL or an option is none of the Hub's.
    MissingDependencyError
        A package is not installed.
    """
    options = StorageOptions.of(location.storage_options)
    whole = HubStore(location.url, options).place
    folder, _, name = whole.path.rpartition("/")
    if not name:
        raise StoreNotFoundError(f"{location.shown!r} names a {whole.noun}, and no zip file in it")
    return HubZipSource(HubStore(replace(whole, path=folder).url, options), name, location.shown)


class HubZipSource(ZipSource):
    """Reads keys as entries of a zip file on the Hub.

    The directory is read once, at the end of the file, and kept; it says where every entry lies.
    Parts of many entries are asked for at once, and near ones together. All copies of a source
    that are unpickled in a process are one.

    Parameters
    ----------
    store
        The folder that the file lies in.
    name
        The file.
    url
        Its name in messages.
    """

    def __init__(self, store: HubStore, name: str, url: str) -> None:
        super().__init__(url)
        self._folder = HubSource(store, url)
        self._name = name
        self._starts: list[int] = []
        self._near = 0, b""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._folder.store, self._name, self.path)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HubZipSource)
            and self._folder == other._folder
            and self._name == other._name
        )

    def __hash__(self) -> int:
        return hash((type(self), self._folder, self._name))

    def __repr__(self) -> str:
        return f"HubZipSource({self.url!r})"

    def _open(self) -> zipfile.ZipFile:
        with self._lock:
            if self._zip is None:
                file = _HubFile(self._size(), self._fetch)
                archive = self._read_directory(cast(IO[bytes], file))
                entries = archive.infolist()
                self._starts = sorted([*(one.header_offset for one in entries), archive.start_dir])
                self._near = file.before(archive.start_dir)
                self._zip = archive
            return self._zip

    def _size(self) -> int:
        size: int | None = sync(self._folder.store.reader.size(self._name))
        if size is None:
            raise StoreNotFoundError(f"there is no zip file at {self.url!r}")
        return size

    def _fetch(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of the file, all requests under way at once."""
        begin, near = self._near
        held = [begin <= start and stop <= begin + len(near) for start, stop in ranges]
        asked = [part for part, here in zip(ranges, held, strict=True) if not here]
        found = iter(self._folder.get_many([(self._name, part) for part in asked]) if asked else [])
        parts = [
            near[start - begin : stop - begin] if here else next(found)
            for (start, stop), here in zip(ranges, held, strict=True)
        ]
        if any(part is None for part in parts):
            raise ReadError(f"the zip file {self.url!r} is gone. Open the store again.")
        return [part for part in parts if part is not None]

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the entry at ``key``, or a part of it."""
        return self.get_many([(key, byte_range)])[0]

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return many entries or parts of them, all requests under way at once."""
        return self._take(requests, check_object_size)

    def _take(
        self, requests: Sequence[tuple[str, ByteRange]], check: Callable[[int, str], None]
    ) -> list[bytes | None]:
        infos = [self._info(key) for key, _ in requests]
        found: list[bytes | None] = [None] * len(requests)
        parts = [
            _Part(self, number, requests[number], info, check)
            for number, info in enumerate(infos)
            if info is not None
        ]
        # A part whose guess was wrong, as only the entry's own header tells, is asked for again.
        while parts:
            asked = [part.wanted() for part in parts]
            replies = iter(self._fetch([one for ranges in asked for one in ranges]))
            for part, ranges in zip(parts, asked, strict=True):
                found[part.number] = part.take([next(replies) for _ in ranges])
            parts = [part for part in parts if found[part.number] is None]
        return found

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many entries that may or may not be there."""
        return list(self._take([(key, None) for key in keys], check_document_size))

    def end_of(self, info: zipfile.ZipInfo) -> int:
        """Return where the next entry begins, or the directory."""
        place = bisect_right(self._starts, info.header_offset)
        return self._starts[place] if place < len(self._starts) else info.header_offset

    def data_of(self, info: zipfile.ZipInfo) -> int | None:
        """Return where an entry's bytes begin, if its own header was read already."""
        return self._offsets.get(info.filename)

    def learn(self, info: zipfile.ZipInfo, header: bytes) -> int:
        """Return where an entry's bytes begin, as its own header says."""
        signature, name, extra = HEADER.unpack(header.ljust(HEADER.size, b"\0"))
        offset = info.header_offset + HEADER.size + int(name) + int(extra)
        if signature != SIGNATURE or offset + info.compress_size > self.end_of(info):
            raise self.misplaced(info)
        self._offsets[info.filename] = offset
        return offset

    def misplaced(self, info: zipfile.ZipInfo) -> ReadError:
        """Return the error for an entry that is not where it should be."""
        return ReadError(
            f"store {self.url!r}: {info.filename!r} does not lie where the zip's directory says. "
            "The file is damaged; write it again."
        )

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return checksum and size of many entries, as the zip's directory has them."""
        store = self._folder.store
        if not store.place.pinned:
            with self._lock:
                store.reader.forget()
                self._zip, self._near, self._offsets = None, (0, b""), {}
        return super().stamps(keys)

    def close(self) -> None:
        """Keep the directory: nothing is open."""


class _Part:
    """An entry of a zip, or a range of one, that is being fetched."""

    def __init__(
        self,
        source: HubZipSource,
        number: int,
        request: tuple[str, ByteRange],
        info: zipfile.ZipInfo,
        check: Callable[[int, str], None],
    ) -> None:
        self._key, byte_range = request
        self.number = number
        self._source = source
        self._info = info
        self._span = span_of(byte_range, info.file_size)
        # Of what is compressed, or wanted whole, all is fetched and its checksum compared.
        self._ranged = info.compress_type == zipfile.ZIP_STORED and self._span is not None
        self._begins: int | None = None
        if info.header_offset + HEADER.size + info.compress_size > source.end_of(info):
            raise source.misplaced(info)
        if info.flag_bits & ENCRYPTED:
            raise source.encrypted(self._key)
        if not self._ranged:
            size = max(info.file_size, info.compress_size)
            check(size, f"store {source.url!r}: {shorten(self._key)}")

    def wanted(self) -> list[tuple[int, int]]:
        """Return the ranges of the file to be fetched: the entry's bytes, and its header first."""
        info = self._info
        known = self._source.data_of(info)
        self._begins = self._guess() if known is None else known
        first, last = 0, info.compress_size
        if self._ranged and self._span is not None and self._span.stop is not None:
            first, last = self._span.start, self._span.stop
        body = self._begins + first, self._begins + last
        if known is not None:
            return [body]
        return [(info.header_offset, info.header_offset + HEADER.size), body]

    def _guess(self) -> int:
        """Return where an entry's bytes begin if the next entry begins right behind them."""
        info = self._info
        behind = _DESCRIPTOR if info.flag_bits & _HAS_DESCRIPTOR else 0
        guess = self._source.end_of(info) - behind - info.compress_size
        lowest = info.header_offset + HEADER.size
        return guess if lowest <= guess <= lowest + 2**17 else lowest + len(info.filename)

    def take(self, replies: Sequence[bytes]) -> bytes | None:
        """Return what was wanted, or None if other bytes than the entry's came."""
        if len(replies) == 2 and self._source.learn(self._info, replies[0]) != self._begins:
            return None
        data = replies[-1]
        if self._ranged:
            return data
        try:
            data = inflated(data, self._info)
        except MemoryError:
            raise
        except Exception as error:
            # Every way to compress has errors of its own.
            url = self._source.url
            raise ReadError(f"store {url!r}: cannot read {self._key!r}: {error}") from error
        return data if self._span is None else data[self._span.start : self._span.stop]


class _HubFile(io.RawIOBase):
    """The end of a file on the Hub, and as much before that as is asked for."""

    def __init__(
        self, size: int, fetch: Callable[[Sequence[tuple[int, int]]], list[bytes]]
    ) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._start = max(size - TAIL, 0)
        self._data = fetch([(self._start, size)])[0] if size else b""
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"cannot go to byte {base + offset}")
        self._place = base + offset
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._place + size, self._size)
        if self._place >= stop:
            return b""
        if self._place < self._start:
            self._data = self._fetch([(self._place, self._start)])[0] + self._data
            self._start = self._place
        data = self._data[self._place - self._start : stop - self._start]
        self._place = stop
        return data

    def before(self, stop: int) -> tuple[int, bytes]:
        """Return what was fetched before a place, and where it begins."""
        return self._start, self._data[: max(stop - self._start, 0)]


def _again(store: HubStore, name: str, url: str) -> HubZipSource:
    # Copies of a store of one commit share their reader, and so what was learned of a zip there.
    found: HubZipSource = store.reader.zips.setdefault(name, HubZipSource(store, name, url))
    return found
