"""Streams of the standard library's compressors, undone no further than was asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["inflate"]

# What an LZMA stream may take to be decoded: its strongest preset takes 65 MiB.
_LZMA_MEMORY = 2**30
# How much a decoder is given of the second stream and those behind it, at first.
_PIECE = 1024


def inflate(name: str, data: bytes | memoryview, most: int) -> bytes:
    """Decode with the standard library, and no further than one byte beyond ``most``.

    Parameters
    ----------
    name
        ``"gzip"``, ``"zlib"``, ``"bz2"`` or ``"lzma"``.
    data
        One stream, or several behind each other.
    most
        How many bytes may come.

    Raises
    ------
    ValueError
        More bytes came, or a stream breaks off. The decoders raise errors of their own.

    Examples
    --------
    >>> import zlib
    >>> inflate("zlib", zlib.compress(b"pixels"), 6)
    b'pixels'
    """
    parts: list[bytes] = []
    count, start, step = 0, 0, len(data)
    view = memoryview(data)
    while not start or (start < len(view) and count < most):
        stream = _decompressor(name)()
        while not stream.eof and start < len(view):
            piece = view[start : start + step]
            part = stream.decompress(piece, most - count + 1)
            start += len(piece) - len(stream.unused_data)
            count += len(part)
            parts.append(part)
            if count > most:
                raise ValueError(f"wanted {most} decoded bytes, got more")
            step *= 2
        if not stream.eof:
            raise ValueError(f"the {name} stream breaks off after {count} decoded bytes")
        # What is behind a stream is copied by the decoder: of many tiny ones, each time the rest.
        step = _PIECE
        start = _after_zeros(view, start)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _after_zeros(view: memoryview, start: int) -> int:
    """Return where the zeros end that a writer may have put between streams."""
    step = _PIECE
    while piece := bytes(view[start : start + step]):
        start += len(piece) - len(rest := piece.lstrip(b"\0"))
        if rest:
            break
        step *= 2
    return start


@lru_cache
def _decompressor(name: str) -> Callable[[], Any]:
    if name in ("gzip", "zlib"):
        import zlib

        return lambda: zlib.decompressobj(31 if name == "gzip" else 15)
    if name == "bz2":
        import bz2

        return bz2.BZ2Decompressor
    import lzma

    return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
