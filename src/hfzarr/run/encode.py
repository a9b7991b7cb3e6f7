"""An array becomes encoded bytes: the other direction of `hfzarr.run.decode`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.model.array import ArrayMeta
from hfzarr.model.codecs import CodecChain, ShardIndex
from hfzarr.run.scratch import Scratch

__all__ = ["ChunkEncoder", "absent_entries", "encode_index", "inner_codecs"]

Bytes = bytes | memoryview
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def inner_codecs(meta: ArrayMeta) -> list[Mapping[str, Any]]:
    """Return the codecs of what is encoded as one, of an array of format v3."""
    codecs: list[Mapping[str, Any]] = list(meta.doc["codecs"])
    if meta.shard is not None:
        return list(codecs[0]["configuration"]["codecs"])
    return codecs


class ChunkEncoder:
    """Encodes the chunks of one array. Many threads may share it.

    Parameters
    ----------
    meta
        The array, of format v3.
    chain
        Its codecs, as `fast_chain` knows them.
    fill
        What absent chunks are filled with: an array without axes.
    scratch
        Where a chunk is laid out before it is compressed.
    """

    def __init__(
        self,
        meta: ArrayMeta,
        chain: CodecChain,
        fill: npt.NDArray[Any],
        scratch: Scratch | None = None,
    ) -> None:
        self._chain = chain
        self._fill = fill.astype(chain.dtype)
        self._pattern = _words(np.full(1, self._fill))
        self._scratch = Scratch() if scratch is None else scratch
        # What comes before the compressors is told by the chain: the order of axes and bytes.
        codecs = inner_codecs(meta)
        count = len(chain.byte_codecs)
        self._steps = [_step(c, chain) for c in codecs[len(codecs) - count :]]

    def encode(self, part: npt.NDArray[Any]) -> Bytes | None:
        """Return a chunk encoded, or None if it holds nothing but the fill value.

        Parameters
        ----------
        part
            The chunk; shorter than one where it sticks out of the array, which is padded.
        """
        flat = self._laid_out(part)
        words = _words(flat)
        # The first word tells in nearly every case; equal to the last bit, so that -0.0 is kept.
        if (words[0] == self._pattern[0]).all() and (words == self._pattern).all():
            return None
        data: Bytes = flat.view(np.uint8).data
        for step in self._steps:
            data = step(data)
        # The scratch is written over by this thread's next chunk.
        return data if self._steps else bytes(data)

    def _laid_out(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the chunk as it is stored, flat, in memory of this thread."""
        chain = self._chain
        memory = self._scratch.get("inner chunk", chain.nbytes)
        scratch = memory.view(chain.dtype).reshape(chain.stored_shape)
        as_seen = scratch.transpose(chain.axes)
        if part.shape != chain.inner_chunk:
            scratch[...] = self._fill
        as_seen[tuple(slice(n) for n in part.shape)] = part
        flat: npt.NDArray[Any] = scratch.reshape(-1)
        return flat


def _words(flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the bytes of elements as words that compare bit by bit: shape (elements, words)."""
    size = flat.dtype.itemsize
    word = next(n for n in (8, 4, 2, 1) if size % n == 0)
    return flat.view(f"u{word}").reshape(len(flat), -1)


def _step(codec: Mapping[str, Any], chain: CodecChain) -> Callable[[Bytes], Bytes]:
    """Return a codec from bytes to bytes as a function."""
    name, config = codec["name"], codec.get("configuration") or {}
    if name == "blosc":
        return _blosc(config, chain.dtype.itemsize)
    if name == "zstd":
        from numcodecs import zstd

        level, checksum = int(config.get("level", 0)), bool(config.get("checksum", False))
        return lambda data: zstd.compress(data, level, checksum)
    if name == "gzip":
        return _gzip(int(config.get("level", 5)))
    return _with_checksum


def _blosc(config: Mapping[str, Any], itemsize: int) -> Callable[[Bytes], Bytes]:
    from numcodecs import blosc

    cname = str(config.get("cname", "zstd")).encode()
    level, blocksize = int(config.get("clevel", 5)), int(config.get("blocksize", 0))
    shuffle = _SHUFFLES[config.get("shuffle", "noshuffle")]
    typesize = int(config.get("typesize", itemsize))
    return lambda data: blosc.compress(data, cname, level, shuffle, blocksize, typesize)


def _gzip(level: int) -> Callable[[Bytes], Bytes]:
    import zlib

    def compress(data: Bytes) -> bytes:
        # Not gzip.compress: it writes the time of day, so that no two runs would agree.
        stream = zlib.compressobj(level, zlib.DEFLATED, 31)
        return stream.compress(data) + stream.flush()

    return compress


def _with_checksum(data: Bytes) -> bytes:
    return bytes(data) + _checksum(data)


def _checksum(data: Bytes) -> bytes:
    from google_crc32c import value

    return int(value(np.frombuffer(data, np.uint8)) if len(data) else 0).to_bytes(4, "little")


def absent_entries(sharding: ShardIndex) -> npt.NDArray[np.uint64]:
    """Return the index of a shard without chunks: shape (chunks, 2)."""
    count = int(np.prod(sharding.per_shard, dtype=np.int64))
    return np.full((count, 2), np.iinfo(np.uint64).max, np.uint64)


def encode_index(sharding: ShardIndex, entries: npt.NDArray[np.uint64]) -> bytes:
    """Return the index of a shard as it is stored.

    Parameters
    ----------
    sharding
        How it is encoded.
    entries
        Offset and size of each inner chunk, 2^64-1 twice where it is absent: shape (chunks, 2).
    """
    data = entries.astype(sharding.dtype).tobytes()
    return data + _checksum(data) if sharding.checksum else data
