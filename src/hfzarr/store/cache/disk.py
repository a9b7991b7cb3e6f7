"""Bytes kept in a folder between runs, up to a bound; those not used for longest go first."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import stat
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from typing import IO, NamedTuple

from hfzarr.errors import CacheWarning
from hfzarr.store.cache.place import CachePlace

__all__ = ["DiskCache", "disk_cache"]

# What is written by other rules is another folder.
_ROOT = "hfzarr-chunks-1"
# Checksum and length of what follows, so that an entry that is damaged or cut is known.
_HEADER = struct.Struct("<4sIQ")
_MAGIC = b"hfzc"
# Files take whole blocks of a disk.
_BLOCK = 4096
# So long after its last use, s, an entry is marked as used anew: a mark is a write.
_FRESH = 60.0
# How names begin of files that are being written.
_UNFINISHED = "."
# A file under way that is older, s, was left behind by a process that ended.
_LEFT_BEHIND = 3600.0
# What one process may add without looking at what others added, as a part of the bound.
_UNSEEN = 16
# A larger part of the bound for one entry would drive out too much.
_LARGEST = 4
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class _Entry(NamedTuple):
    used: float
    nbytes: int
    path: str


class DiskCache:
    """Keeps bytes under names in a folder of this machine.

    It may be used from many threads, and by many processes at once. Entries appear whole or not at
    all, and are checked when they are read. What cannot be written is not kept, with one warning;
    what cannot be read is not there.

    The bound holds to the byte (in blocks of 4 KiB) as long as one process writes; each further
    one that writes at the same time may exceed it by a sixteenth.

    Parameters
    ----------
    place
        The folder, and its bound.

    Examples
    --------
    >>> import tempfile
    >>> cache = DiskCache(CachePlace(folder=tempfile.mkdtemp()))
    >>> cache.put("0c3f", b"pixels")
    >>> cache.get("0c3f"), cache.get("77aa")
    (b'pixels', None)
    """

    def __init__(self, place: CachePlace) -> None:
        self._place = place
        self._root = os.path.join(place.folder, _ROOT)
        self._lock = threading.Lock()
        #: Bytes that the folder holds at most; None before it was looked at.
        self._total: int | None = None
        #: Of these, what this process added since it looked.
        self._unseen = 0
        #: And what it is about to write.
        self._under_way = 0
        self._made = False
        self._writable = True
        self._trusted = self._is_ours()

    def __repr__(self) -> str:
        return f"DiskCache({self._place!r})"

    # Reading

    def get(self, name: str) -> bytes | None:
        """Return what is kept under a name of hexadecimal digits; None where nothing is."""
        # Another process may have made it since.
        if not self._trusted and not self._is_ours():
            return None
        path = self._path(name)
        try:
            opened = os.open(path, os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        try:
            with open(opened, "rb", buffering=0) as file:
                data = _checked(name, file.read(_HEADER.size), file)
                used = os.fstat(opened).st_mtime
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if data is None:
                os.unlink(path)
            elif abs(_now() - used) >= _FRESH:
                os.utime(path, (_now(), _now()))
        return data

    # Writing

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes under a name of hexadecimal digits, and let go of others where needed."""
        cost = _cost(_HEADER.size + len(data))
        if not self._writable or cost * _LARGEST > self._place.size:
            return
        try:
            with self._lock:
                self._make_folder()
                if not self._make_room(cost):
                    return
            try:
                self._write(name, data)
            finally:
                with self._lock:
                    self._under_way -= cost
        except OSError as error:
            self._give_up(error.strerror or str(error))

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name[:2], name[2:])

    def _make_folder(self) -> None:
        """Make the folder, of which nobody else can see what is in it."""
        if self._made:
            return
        os.makedirs(self._place.folder, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._root, 0o700)
        self._trusted = self._is_ours()
        if not self._trusted:
            raise PermissionError(errno.EPERM, f"{_ROOT!r} in it is no folder of this user")
        if stat.S_IMODE(os.stat(self._root).st_mode) & 0o077:
            os.chmod(self._root, 0o700)
        self._made = True

    def _is_ours(self) -> bool:
        """Whether what lies there was put there by this user: others could forge entries."""
        try:
            found = os.lstat(self._root)
        except OSError:
            return False
        mine = getattr(os, "geteuid", lambda: found.st_uid)()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == mine

    def _write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        folder, base = os.path.split(path)
        under_way = os.path.join(
            folder, f"{_UNFINISHED}{os.getpid()}-{base}-{secrets.token_hex(4)}"
        )
        opened = self._created(under_way)
        try:
            with open(opened, "wb") as file:
                file.write(_HEADER.pack(_MAGIC, _checksum(name, data), len(data)))
                file.write(data)
            os.utime(under_way, (_now(), _now()))
            os.replace(under_way, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(under_way)
            # Somebody removed the folder, which may be made again; or, on Windows, reads the entry.
            gone = isinstance(error, FileNotFoundError)
            if not gone and not (isinstance(error, PermissionError) and os.path.exists(path)):
                raise

    def _created(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags, 0o600)
        with self._lock:
            # Somebody may have removed all of it.
            self._made = False
            self._make_folder()
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o700)
        return os.open(path, flags, 0o600)

    def _give_up(self, why: str) -> None:
        with self._lock:
            first, self._writable = self._writable, False
        if first:
            warnings.warn(
                f"chunks cannot be kept in {self._place.folder!r}: {why}. They are read from where "
                "they lie, as without a cache. Make room there, or choose another folder.",
                CacheWarning,
                stacklevel=2,
            )

    # The bound

    def _make_room(self, cost: int) -> bool:
        """Let go of entries so that one of so many bytes fits; return whether it does."""
        size = self._place.size
        total = self._total
        if total is None or total + cost > size or self._unseen > size // _UNSEEN:
            total = self._total = self._sweep(cost)
            self._unseen = 0
        if total + cost > size:
            return False
        self._total = total + cost
        self._unseen += cost
        self._under_way += cost
        return True

    def _sweep(self, cost: int) -> int:
        """Look at what there is, and let go of what is too much; return the bytes that are left."""
        total = self._under_way
        entries = []
        for entry in self._entries():
            total += entry.nbytes
            entries.append(entry)
        if total + cost <= self._place.size:
            return total
        # Some more, so that the next entry does not need another look.
        wanted = self._place.size - self._place.size // _UNSEEN - cost
        for entry in sorted(entries):
            if total <= wanted or entry.used == math.inf:
                break
            try:
                os.unlink(entry.path)
            except FileNotFoundError:
                pass  # Another process let go of it.
            except OSError:
                continue  # Where it cannot be removed, it still counts.
            total -= entry.nbytes
        return total

    def _entries(self) -> Iterator[_Entry]:
        """Yield what lies there, but for what this process has under way."""
        mine = f"{_UNFINISHED}{os.getpid()}-"
        for folder in _listed(self._root):
            for file in _listed(folder.path):
                if file.name.startswith(mine):
                    continue
                with contextlib.suppress(OSError):
                    found = file.stat(follow_symlinks=False)
                    used = found.st_mtime
                    if file.name.startswith(_UNFINISHED):
                        used = 0.0 if _now() - used > _LEFT_BEHIND else math.inf
                    yield _Entry(used, _cost(found.st_size), file.path)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _cost(nbytes: int) -> int:
    return -(-nbytes // _BLOCK) * _BLOCK


def _checksum(name: str, data: bytes) -> int:
    import google_crc32c

    # Of the name too, so that an entry under another name is none.
    return int(google_crc32c.extend(google_crc32c.value(name.encode()), data))


def _checked(name: str, header: bytes, file: IO[bytes]) -> bytes | None:
    """Return what an entry holds; None where it is not as it was written."""
    if len(header) < _HEADER.size:
        return None
    magic, checksum, length = _HEADER.unpack(header)
    data = file.read()
    sound = magic == _MAGIC and len(data) == length and checksum == _checksum(name, data)
    return data if sound else None


def _now() -> float:
    return time.time()


_caches: dict[CachePlace, DiskCache] = {}


def disk_cache(place: CachePlace) -> DiskCache:
    """Return the cache at a place: one for all stores of this process."""
    found = _caches.get(place)
    return _caches.setdefault(place, DiskCache(place)) if found is None else found


# A lock that another thread held when this process was forked would never be released.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_caches.clear)
