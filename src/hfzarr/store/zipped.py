"""A store in a zip file, here or at any fsspec URL."""

from __future__ import annotations

import bz2
import lzma
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from hfzarr.errors import HfzarrError, LimitError, ReadError, StoreNotFoundError
from hfzarr.model.document import check_document_size
from hfzarr.model.limits import check_object_size, get_limits
from hfzarr.model.report import shorten
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions
from hfzarr.store.remote import reaching
from hfzarr.store.source import ByteRange, Usage, copy_into

__all__ = ["ENCRYPTED", "HEADER", "SIGNATURE", "TAIL", "ZipSource", "inflated"]

#: Any of these at the root of a zip says that the store begins there.
_ROOT_KEYS = frozenset(["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"])
# Fixed part of a local file header: name and extra field follow it (PKWARE APPNOTE 4.3.7).
HEADER = struct.Struct("<4s22xHH")
SIGNATURE = b"PK\x03\x04"
# The least that the directory has for an entry whose name has a letter or more.
_ENTRY = 47
# How far from the end of a file it is told how large the directory is: behind it lies a comment of
# 64 KiB at most.
TAIL = 2**16 + 128
# The most that an LZMA stream may take to be decoded, bytes: its own header names it.
_LZMA_MEMORY = 2**30
# Parts of a chunk's key below its array: one for each dimension, and "c".
_KEY_DEPTH = 65
ENCRYPTED = 1  # the flag of an entry (PKWARE APPNOTE 4.4.4)


class ZipSource:
    """Reads keys as entries of a zip file.

    Where the whole store lies in one folder of the zip, keys are relative to that folder, and
    `prefix` names it. Entries that are stored, not deflated, are read by range.

    Parameters
    ----------
    path
        The file: a local path, or an fsspec URL.
    storage_options
        Passed to fsspec for a URL.
    """

    def __init__(self, path: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.storage_options = dict(storage_options or {})
        self._lock = threading.RLock()
        self._zip: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        self._dirs: dict[str, set[str]] = {}
        self._offsets: dict[str, int] = {}
        self._prefix = ""
        self._end = 0

    def __getstate__(self) -> tuple[str, dict[str, Any] | StorageOptions]:
        # Whoever has a token for the Hub has logged in where the pickle is opened, too.
        by_reference = self.path.startswith("hf://")
        options = StorageOptions.of(self.storage_options) if by_reference else self.storage_options
        return self.path, options

    def __setstate__(self, state: tuple[str, dict[str, Any] | StorageOptions]) -> None:
        path, options = state
        resolved = options.resolve() if isinstance(options, StorageOptions) else options
        self.__init__(path, resolved)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZipSource) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash((type(self), self.path))

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ZipSource({self.url!r})"

    @property
    def url(self) -> str:
        """The zip file, without the secrets that a URL may carry."""
        return hide_secrets(self.path)

    @property
    def local(self) -> bool:
        """Whether the file is one of this machine."""
        return "://" not in self.path

    @property
    def prefix(self) -> str:
        """The folder of the zip that holds the store, with a slash at its end; ``""`` for none."""
        self._open()
        return self._prefix

    def store_folders(self) -> list[str]:
        """Return the folders of the zip that a store may begin in."""
        self._open()
        return sorted(path for path, names in self._dirs.items() if path and names & _ROOT_KEYS)

    def _open(self) -> zipfile.ZipFile:
        with self._lock:
            if self._zip is None:
                self._file = self._open_file()
                try:
                    self._zip = self._read_directory(self._file)
                except BaseException:
                    self._file.close()
                    self._zip = self._file = None
                    raise
            return self._zip

    def _read_directory(self, file: IO[bytes]) -> zipfile.ZipFile:
        most = get_limits().max_entries
        try:
            self._end = file.seek(0, os.SEEK_END)
            self._check_entries(_directory_size(file, self._end) // _ENTRY, most)
            archive = zipfile.ZipFile(file)
            self._check_entries(len(archive.filelist), most)
        except HfzarrError:
            raise
        # struct.error, RuntimeError … : what a file that is no zip makes of zipfile is open.
        except Exception as error:
            raise ReadError(
                f"{self.url!r} is not a readable zip file ({error or type(error).__name__}); it "
                "may be cut short. Fetch or write it again."
            ) from error
        self._index(archive)
        return archive

    def _check_entries(self, count: int, most: int) -> None:
        if count > most:
            raise LimitError(
                f"the zip {self.url!r} has {count:,} entries, and {most:,} is the limit. If it is "
                f"to be trusted, raise it with hfzarr.set_limits(max_entries={count})."
            )

    def _open_file(self) -> IO[bytes]:
        try:
            if self.local:
                return open(self.path, "rb")
            import fsspec

            with reaching(self.path, self.url):
                opened: IO[bytes] = fsspec.open(self.path, "rb", **self.storage_options).open()
            return opened
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"there is no zip file at {self.url!r}") from error
        except OSError as error:
            raise ReadError(f"cannot open the zip file {self.url!r}: {error}") from error

    def _index(self, archive: zipfile.ZipFile) -> None:
        most = get_limits().max_depth + _KEY_DEPTH
        names = []
        for info in archive.infolist():
            name = info.filename
            if name.count("/") > most:
                raise LimitError(
                    f"the zip {self.url!r} has an entry in {name.count('/'):,} folders, "
                    f"{shorten(name)}, and {most} is the limit. If it is to be trusted, raise it "
                    "with hfzarr.set_limits(max_depth=...)."
                )
            # What climbs out, or is no name in a store, is nobody's key.
            if not info.is_dir() and ".." not in name.split("/"):
                names.append(name)
        tops = {name.split("/", 1)[0] for name in names}
        folders = {t for t in tops if t != "__MACOSX" and not t.startswith(".")}
        if not tops & _ROOT_KEYS and len(folders) == 1:
            folder = folders.pop() + "/"
            if any(name == folder + key for name in names for key in _ROOT_KEYS):
                self._prefix = folder
        self._dirs = {"": set()}
        for name in names:
            if not name.startswith(self._prefix):
                continue
            key = name[len(self._prefix) :]
            while key:
                parent, _, base = key.rpartition("/")
                children = self._dirs.setdefault(parent, set())
                if base in children:
                    break
                children.add(base)
                key = parent

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the entry at ``key``, or a part of it."""
        return self._get(key, byte_range, check_object_size)

    def _get(
        self, key: str, byte_range: ByteRange, check: Callable[[int, str], None]
    ) -> bytes | None:
        info = self._info(key)
        if info is None:
            return None
        if info.compress_type != zipfile.ZIP_STORED or byte_range is None:
            size = max(info.file_size, info.compress_size)
            check(size, f"store {self.url!r}: {shorten(key)}")
        if info.flag_bits & ENCRYPTED:
            raise self.encrypted(key)
        try:
            if info.compress_type == zipfile.ZIP_STORED and byte_range is not None:
                return self._get_stored(info, byte_range)
            data = inflated(self._pread(self._offset(info), info.compress_size), info)
        except (HfzarrError, MemoryError):
            raise
        # Each decompressor has errors of its own.
        except Exception as error:
            raise ReadError(
                f"store {self.url!r}: cannot read {shorten(key)}: {error or type(error).__name__}"
            ) from error
        return data if byte_range is None else data[_as_slice(byte_range, len(data))]

    def encrypted(self, key: str) -> ReadError:
        """Return the error for an entry that nobody here has the password of."""
        return ReadError(
            f"store {self.url!r}: {shorten(key)} is encrypted, and nobody here has the password. "
            "Write the zip without one."
        )

    def _get_stored(self, info: zipfile.ZipInfo, byte_range: ByteRange) -> bytes:
        size = min(info.file_size, info.compress_size)
        start, stop, _ = _as_slice(byte_range, size).indices(size)
        return self._pread(self._offset(info) + start, max(stop - start, 0))

    def _offset(self, info: zipfile.ZipInfo) -> int:
        offset = self._offsets.get(info.filename)
        if offset is None:
            header = self._pread(info.header_offset, HEADER.size)
            signature, name_length, extra_length = HEADER.unpack(header.ljust(HEADER.size, b"\0"))
            if signature != SIGNATURE:
                raise ValueError("it does not lie where the zip's directory says")
            offset = info.header_offset + HEADER.size + int(name_length) + int(extra_length)
            self._offsets[info.filename] = offset
        return offset

    def _pread(self, start: int, count: int) -> bytes:
        file = self._file
        if file is None:
            raise ReadError(f"the zip file {self.url!r} was closed while it was read")
        # A directory may promise more than the file has: nothing is allocated for that.
        count = min(count, max(self._end - start, 0))
        if self.local and hasattr(os, "pread"):
            parts: list[bytes] = []
            # One call returns 2 GiB at most, and less on some file systems.
            while count and (more := os.pread(file.fileno(), count, start)):
                parts.append(more)
                start, count = start + len(more), count - len(more)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        with self._lock:
            file.seek(start)
            return file.read(count)

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return many entries; a zip is one file, so one after the other."""
        return [self.get(key, byte_range) for key, byte_range in requests]

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many entries that may or may not be there."""
        return [self._get(key, None, check_document_size) for key in keys]

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many entries in bytes, inflated, as the zip's directory has them."""
        found = [self._info(key) for key in keys]
        return [None if one is None else one.file_size for one in found]

    def _info(self, key: str) -> zipfile.ZipInfo | None:
        info = self._open().NameToInfo.get(self._prefix + key)
        return None if info is None or info.is_dir() else info

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return checksum and size of many entries, as the zip's directory has them."""
        found = [self._info(key) for key in keys]
        return [None if one is None else f"{one.CRC:08x}-{one.file_size}" for one in found]

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the entry at ``key``, or a part of it, to the beginning of a buffer."""
        return copy_into(key, self.get(key, byte_range), buffer)

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, in a thread where the file is remote."""
        if self.local:
            return self.get(key, byte_range)
        import asyncio

        return await asyncio.to_thread(self.get, key, byte_range)

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names under ``prefix``."""
        self._open()
        return sorted(self._dirs.get(prefix.strip("/"), ()))

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under many prefixes."""
        return [self.list_dir(prefix) for prefix in prefixes]

    def list_files(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix`` that are entries, not folders."""
        base = prefix.strip("/")
        keys = {name: f"{base}/{name}" if base else name for name in self.list_dir(base)}
        return [name for name, key in keys.items() if self._info(key) is not None]

    def usage(self, prefix: str) -> Usage:
        """Return how many entries lie below ``prefix``, and their bytes, inflated."""
        known = self._open().NameToInfo
        base = prefix.strip("/")
        start = f"{self._prefix}{base}/" if base else self._prefix
        found = [one for name, one in known.items() if name.startswith(start) and not one.is_dir()]
        return Usage(len(found), sum(one.file_size for one in found), sum(one.CRC for one in found))

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        with self._lock:
            if self._zip is not None:
                self._zip.close()
            if self._file is not None:
                self._file.close()
            self._zip = self._file = None
            self._offsets = {}


def inflated(data: bytes, info: zipfile.ZipInfo) -> bytes:
    """Return an entry, of which no more is inflated than the directory says that there is.

    zipfile itself inflates all there is, and cuts it afterwards.

    Parameters
    ----------
    data
        The entry's bytes in the file.
    info
        What the directory says of it.

    Raises
    ------
    ValueError
        It is something else than the directory says, or cannot be inflated; each decompressor has
        errors of its own besides.
    """
    size, most = info.file_size, info.file_size + 1
    if info.compress_type == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-15).decompress(data, most)
    elif info.compress_type == zipfile.ZIP_BZIP2:
        data = bz2.BZ2Decompressor().decompress(data, most)
    elif info.compress_type == zipfile.ZIP_LZMA:
        begin = 4 + int.from_bytes(data[2:4], "little")
        how: dict[str, Any] = lzma._decode_filter_properties(lzma.FILTER_LZMA1, data[4:begin])  # type: ignore[attr-defined]
        if how["dict_size"] > _LZMA_MEMORY:
            raise ValueError(f"to inflate it takes {how['dict_size']:,} bytes")
        unpack = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[how])
        data = unpack.decompress(data[begin:], most)
    elif info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"nobody here knows method {info.compress_type}, by which it is compressed"
        )
    if len(data) != size or zlib.crc32(data) != info.CRC:
        raise ValueError(f"it is not the {size:,} bytes that the zip's directory tells the sum of")
    return data


def _directory_size(file: IO[bytes], end: int) -> int:
    """Return how many bytes the directory of a zip has, before it is read; 0 if it is not found.

    See PKWARE APPNOTE 4.3.14 to 4.3.16.
    """
    file.seek(max(end - TAIL, 0))
    tail = file.read(TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0":
        at = len(tail) - 22  # where zipfile looks first
    if at < 0:
        return 0
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if tail[max(at - 20, 0) : at][:4] == b"PK\x06\x07":
        # zipfile takes the wide record wherever there is one, whatever the other says.
        for wide in {at - 76, tail.rfind(b"PK\x06\x06", 0, at)}:
            if wide >= 0 and tail[wide : wide + 4] == b"PK\x06\x06":
                size = max(size % 0xFFFFFFFF, int.from_bytes(tail[wide + 40 : wide + 48], "little"))
    return min(size, end)


def _as_slice(byte_range: ByteRange, size: int) -> slice:
    if byte_range is None:
        return slice(0, size)
    return slice(*byte_range)
