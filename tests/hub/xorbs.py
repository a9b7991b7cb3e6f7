"""Xorbs: chunks of files, each behind a small header, as Xet stores them.

The form is that of the Xet protocol's specification, "Xorb Format" and "Chunk Format".
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

# Larger chunks and xorbs are refused, bytes.
LARGEST_CHUNK = 128 * 1024
LARGEST = 64 * 1024**2
_HEADER = 8


def to_text(raw: bytes) -> str:
    """A hash as it stands in addresses: four little-endian numbers in hexadecimal."""
    return "".join(raw[i : i + 8][::-1].hex() for i in range(0, 32, 8))


def to_raw(text: str) -> bytes:
    return b"".join(bytes.fromhex(text[i : i + 16])[::-1] for i in range(0, 64, 16))


def _ungroup(data: bytes) -> bytes:
    """Undo the grouping of every fourth byte."""
    out = bytearray(len(data))
    start = 0
    for first in range(4):
        count = len(range(first, len(data), 4))
        out[first::4] = data[start : start + count]
        start += count
    return bytes(out)


def _decode(scheme: int, data: bytes, size: int) -> bytes:
    if scheme == 0:
        return data
    import pyarrow

    if scheme not in (1, 2):
        raise ValueError(f"a chunk is compressed by scheme {scheme}")
    plain: bytes = pyarrow.decompress(data, size, codec="lz4", asbytes=True)
    return plain if scheme == 1 else _ungroup(plain)


@dataclass(frozen=True)
class Xorb:
    """The bytes of a xorb as they were sent; raises ``ValueError`` where they are none."""

    data: bytes

    @functools.cached_property
    def _chunks(self) -> list[tuple[int, int, int]]:
        """Scheme, where the data begin, and their size unpacked."""
        found = []
        at = 0
        while at < len(self.data) and not self.data.startswith(b"XETBLOB", at):
            head = self.data[at : at + _HEADER]
            packed, size = int.from_bytes(head[1:4], "little"), int.from_bytes(head[5:], "little")
            if len(head) < _HEADER or head[0] or size > LARGEST_CHUNK:
                raise ValueError(f"no chunk begins at byte {at}")
            found.append((head[4], at, size))
            at += _HEADER + packed
        found.append((0, at, 0))
        if not found[1:] or at > len(self.data):
            raise ValueError("the chunks do not end with the xorb")
        return found

    @property
    def count(self) -> int:
        return len(self._chunks) - 1

    def stretch(self, first: int, last: int) -> tuple[int, int]:
        """Where chunks ``[first, last)`` lie, as ``[start, stop)`` of the bytes."""
        if not 0 <= first < last <= self.count:
            raise ValueError(f"a xorb of {self.count} chunks has no chunks {first} to {last}")
        return self._chunks[first][1], self._chunks[last][1]

    def size(self, first: int, last: int) -> int:
        """Bytes that chunks ``[first, last)`` unpack to."""
        self.stretch(first, last)
        return sum(size for _, _, size in self._chunks[first:last])

    def unpack(self, first: int, last: int) -> bytes:
        self.stretch(first, last)
        spans = zip(self._chunks[first:last], self._chunks[first + 1 : last + 1], strict=True)
        plain = [
            _decode(scheme, self.data[at + _HEADER : end], size)
            for (scheme, at, size), (_, end, _) in spans
        ]
        if [len(one) for one in plain] != [size for _, _, size in self._chunks[first:last]]:
            raise ValueError("a chunk is not as long as it says")
        return b"".join(plain)


def pack(data: bytes, size: int = 64 * 1024) -> Xorb:
    """A xorb of bytes as they are."""
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return Xorb(
        b"".join(
            b"\0" + len(one).to_bytes(3, "little") + b"\0" + len(one).to_bytes(3, "little") + one
            for one in pieces
        )
    )
