"""Shards of Xet: which files are made of which chunks, and which chunks xorbs hold.

The form is that of the Xet protocol's specification, "MDB Shard File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hub.xorbs import to_text

_TAG = b"HFRepoMetaData\0" + bytes.fromhex("5569 67456a7b 815783a5 bdd95ccd d14aa9")
_ENTRY = 48
_BOOKEND = b"\xff" * 32 + b"\0" * 16
_WITH_VERIFICATION = 1 << 31
_WITH_METADATA = 1 << 30
_FOOTER = 200


@dataclass(frozen=True)
class Term:
    """A part of a file: chunks ``[first, last)`` of a xorb, and the bytes that they unpack to."""

    xorb: str
    first: int
    last: int
    size: int


@dataclass(frozen=True)
class XetFile:
    """What a shard says of one file."""

    hash: str
    terms: tuple[Term, ...]
    sha256: str | None
    verified: bool
    """Whether it holds hashes of the terms, as every shard that is uploaded must."""


@dataclass(frozen=True)
class XorbEntry:
    """What a shard says of one xorb."""

    hash: str
    chunks: tuple[str, ...]
    block: bytes
    """The entry as it stands."""


@dataclass(frozen=True)
class Shard:
    files: tuple[XetFile, ...]
    xorbs: tuple[XorbEntry, ...]


def _entries(data: bytes) -> Iterator[bytes]:
    """The entries of all sections."""
    for at in range(_ENTRY, len(data) - _ENTRY + 1, _ENTRY):
        yield data[at : at + _ENTRY]
    raise ValueError("the shard ends before its sections do")


def _take(entries: Iterator[bytes], count: int) -> list[bytes]:
    return [next(entries) for _ in range(count)]


def _file(head: bytes, entries: Iterator[bytes]) -> XetFile:
    flags, count = struct.unpack_from("<2I", head, 32)
    terms = []
    for entry in _take(entries, count):
        _, size, first, last = struct.unpack_from("<4I", entry, 32)
        terms.append(Term(to_text(entry[:32]), first, last, size))
    verified = bool(flags & _WITH_VERIFICATION)
    if verified:
        _take(entries, count)
    # The words of this hash are turned as those of every other.
    sha256 = to_text(next(entries)[:32]) if flags & _WITH_METADATA else None
    return XetFile(to_text(head[:32]), tuple(terms), sha256, verified)


def _xorb(head: bytes, entries: Iterator[bytes]) -> XorbEntry:
    _, count = struct.unpack_from("<2I", head, 32)
    chunks = _take(entries, count)
    hashes = tuple(to_text(chunk[:32]) for chunk in chunks)
    return XorbEntry(to_text(head[:32]), hashes, head + b"".join(chunks))


def parse(data: bytes) -> Shard:
    """Read a shard that was uploaded; raises ``ValueError`` where it is none."""
    if data[:32] != _TAG or int.from_bytes(data[32:40], "little") != 2:
        raise ValueError("not a shard of version 2")
    entries = _entries(data)
    files, xorbs = [], []
    while (head := next(entries)) != _BOOKEND:
        files.append(_file(head, entries))
    while (head := next(entries)) != _BOOKEND:
        xorbs.append(_xorb(head, entries))
    return Shard(tuple(files), tuple(xorbs))


def of_xorbs(blocks: Iterable[bytes], until: int) -> bytes:
    """A shard without files, which says what xorbs hold, until a time (epoch, s)."""
    held = b"".join(blocks)
    start = _ENTRY + len(_BOOKEND)
    end = start + len(held) + len(_BOOKEND)
    places = (1, _ENTRY, start, end, 0, end, 0, end, 0)
    footer = struct.pack("<9Q", *places) + b"\0" * 32 + struct.pack("<2Q", 0, until)
    footer += b"\0" * (_FOOTER - len(footer) - 8) + struct.pack("<Q", end)
    return _TAG + struct.pack("<2Q", 2, _FOOTER) + _BOOKEND + held + _BOOKEND + footer
