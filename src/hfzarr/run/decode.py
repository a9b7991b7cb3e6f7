"""Encoded bytes become an array; what does not fit becomes a `ReadError`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hfzarr.errors import HfzarrError, LimitError, ReadError
from hfzarr.model.codecs import ByteCodec, CodecChain, ShardIndex
from hfzarr.model.limits import check_object_size
from hfzarr.run.inflate import inflate

__all__ = ["ChunkDecoder", "Place", "decode_index", "undo_codecs"]

Bytes = bytes | memoryview
ByteArray = npt.NDArray[np.uint8]

# Each thread keeps one buffer to decode into: fresh memory costs a page fault per 4 KiB.
_SCRATCH = threading.local()
_SCRATCH_LIMIT = 16 * 2**20
_BLOSC_HEADER = 16
_ZSTD_BLOCK = 128 * 2**10  # what a block decodes to at most (RFC 8878, 3.1.1.2.4)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where encoded bytes came from, for messages.

    Attributes
    ----------
    url
        Name of the store.
    path
        Path of the array in it.
    key
        Key of the object.
    inner
        Index in the array's grid of the inner chunk within a shard, if it is one.
    """

    url: str
    path: str
    key: str
    inner: tuple[int, ...] | None = None

    def __str__(self) -> str:
        """Name the place in a message."""
        inner = "" if self.inner is None else f", inner chunk {self.inner}"
        return f"chunk {self.key!r}{inner} of array {self.path or '/'!r} in {self.url}"


class ChunkDecoder:
    """Decodes the chunks of one array. Holds plain values only; many threads may share it.

    Parameters
    ----------
    chain
        The array's codecs.

    Examples
    --------
    >>> chain = CodecChain(inner_chunk=(3,), dtype=np.dtype(">u2"), order=(0,), byte_codecs=(),
    ...                    sharding=None)
    >>> place = Place(url="file:///s.zarr", path="a", key="a/c/0")
    >>> ChunkDecoder(chain).decode(bytes([0, 1, 0, 2, 0, 3]), place=place).tolist()
    [1, 2, 3]
    """

    __slots__ = ("_axes", "_codecs", "_dtype", "_nbytes", "_order", "_sizes", "_stored_shape")

    def __init__(self, chain: CodecChain) -> None:
        self._codecs = chain.byte_codecs
        self._sizes = chain.decoded_sizes
        self._dtype = chain.dtype
        self._nbytes = chain.nbytes
        self._order = chain.order
        self._axes = chain.axes
        self._stored_shape = chain.stored_shape

    def decode(self, data: Bytes, *, place: Place) -> npt.NDArray[Any]:
        """Return the chunk, its axes as the array has them, its dtype as it is stored.

        The result may lie in a buffer of this thread: it holds until the next call from it.

        Raises
        ------
        ReadError
            The bytes are not those of a chunk of this array.
        """
        return self._shaped(self._guarded(data, None, place))

    def decode_into(self, data: Bytes, target: npt.NDArray[Any], *, place: Place) -> None:
        """Decode a chunk into an array of its shape, without a copy where the layouts agree.

        Raises
        ------
        ReadError
            The bytes are not those of a chunk of this array.
        """
        stored = target.transpose(self._order)
        if stored.dtype == self._dtype and stored.flags.c_contiguous:
            out = stored.reshape(-1).view(np.uint8)
            flat = self._guarded(data, out, place)
            if flat is not out:
                out[:] = flat
        else:
            target[...] = self.decode(data, place=place)

    def check(self, data: Bytes, *, place: Place) -> None:
        """Look for what is cut short or is no chunk, as far as that shows without decoding.

        Raises
        ------
        ReadError
            The bytes are not those of a chunk of this array.
        """
        try:
            _check_header(
                self._codecs[-1] if self._codecs else None, data, self._sizes, self._nbytes
            )
        except HfzarrError:
            raise
        except Exception as error:  # every codec has errors of its own
            raise self._undecodable(data, place, error) from error

    def _shaped(self, flat: ByteArray) -> npt.NDArray[Any]:
        return flat.view(self._dtype).reshape(self._stored_shape).transpose(self._axes)

    def _guarded(self, data: Bytes, out: ByteArray | None, place: Place) -> ByteArray:
        try:
            return self._flat(data, out)
        except LimitError as error:
            raise LimitError(f"{place}: {error}") from error
        except (HfzarrError, MemoryError, ImportError):
            raise
        except Exception as error:  # every codec has errors of its own
            raise self._undecodable(data, place, error) from error

    def _undecodable(self, data: Bytes, place: Place, error: Exception) -> ReadError:
        return ReadError(
            f"{place} cannot be decoded: {error or type(error).__name__} "
            f"(wanted {self._nbytes} bytes from codecs {list(self._codecs)}, got "
            f"{len(data)} encoded bytes). The object may be damaged or cut short."
        )

    def _flat(self, data: Bytes, out: ByteArray | None) -> ByteArray:
        """Return the decoded bytes: `out`, a part of this thread's buffer or of `data`."""
        # Codecs add little to what they cannot compress; more is damage, or a bomb.
        most = 4 * self._nbytes + 2**20
        check_object_size(self._nbytes, "decoded, it")
        if len(data) > most:
            raise ValueError(f"wanted at most {most} encoded bytes, got {len(data)}")
        for outer, size in zip(self._codecs[:0:-1], self._sizes[:0:-1], strict=True):
            data = _decompress(outer, data, size, most)
        name = self._codecs[0] if self._codecs else None
        if name is None or name == "crc32c":
            flat = np.frombuffer(data if name is None else _strip_checksum(data), np.uint8)
            _check_size(flat.nbytes, self._nbytes)
            return flat
        out = _scratch(self._nbytes) if out is None else out
        _decompress_into(name, data, out)
        return out


def undo_codecs(codecs: Sequence[ByteCodec], data: Bytes, most: int) -> Bytes:
    """Undo codecs whose result is input to others, which nobody here knows.

    Parameters
    ----------
    codecs
        In the order of encoding.
    data
        The encoded bytes.
    most
        How many bytes any of them may give.

    Raises
    ------
    ValueError
        One gives more, or the bytes are damaged; the decoders raise errors of their own, too.
    """
    for name in reversed(codecs):
        data = _decompress(name, data, None, most)
    return data


def decode_index(sharding: ShardIndex, data: Bytes, *, place: Place) -> npt.NDArray[np.uint64]:
    """Return the index of a shard: offset and size of each inner chunk, shape (chunks, 2).

    Parameters
    ----------
    sharding
        How the index is encoded.
    data
        The encoded index, or a whole shard.
    place
        Where it came from.

    Raises
    ------
    ReadError
        There are too few bytes, or their checksum differs.

    Examples
    --------
    >>> sharding = ShardIndex(location="end", dtype=np.dtype("<u8"), checksum=False,
    ...                       per_shard=(2,))
    >>> place = Place(url="file:///s.zarr", path="a", key="a/c/0")
    >>> decode_index(sharding, bytes([0] * 8 + [9] + [0] * 7 + [255] * 16), place=place).tolist()
    [[0, 9], [18446744073709551615, 18446744073709551615]]
    """
    wanted = sharding.nbytes
    check_object_size(wanted, f"the shard index of {place}")
    if len(data) < wanted:
        raise ReadError(
            f"{place} has no shard index: wanted {wanted} bytes at its {sharding.location}, got "
            f"{len(data)}. The object may be cut short, or may not be a shard."
        )
    encoded = memoryview(data)[:wanted] if sharding.location == "start" else data[-wanted:]
    try:
        entries = _strip_checksum(encoded) if sharding.checksum else encoded
    except ValueError as error:
        raise ReadError(f"{place} has a damaged shard index: {error}.") from error
    return np.frombuffer(entries, sharding.dtype).reshape(-1, 2).astype(np.uint64)


def _check_header(
    outermost: str | None, data: Bytes, sizes: Sequence[int | None], nbytes: int
) -> None:
    """Compare what the outermost codec wrote about the bytes with what they are."""
    wanted = sizes[-1] if sizes else nbytes
    if outermost is None:
        _check_size(len(data), nbytes)
    elif outermost == "blosc":
        came = _check_blosc(data)
        if wanted is not None:
            _check_size(came, wanted)
    elif outermost == "zstd":
        _check_zstd_frames(data)
        size = _zstd_content_size(data)
        if size and wanted is not None and size > wanted:
            _check_size(size, wanted)
    elif outermost == "crc32c":
        _strip_checksum(data)
    elif outermost == "gzip":
        if bytes(data[:2]) != b"\x1f\x8b":
            raise ValueError("it does not begin as a gzip stream does")
        # The last four bytes are the decoded size (RFC 1952, 2.3.1), of the last member if there
        # are several: only decoding tells then.
        if wanted is not None and int.from_bytes(data[-4:], "little") != wanted & 0xFFFFFFFF:
            _check_size(len(inflate("gzip", data, wanted)), wanted)


def _check_size(came: int, wanted: int) -> None:
    if came != wanted:
        raise ValueError(f"wanted {wanted} decoded bytes, got {came}")


def _scratch(nbytes: int) -> ByteArray:
    """Return memory that the next call from this thread may hand out again."""
    if nbytes > _SCRATCH_LIMIT:
        return np.empty(nbytes, np.uint8)
    buffer: ByteArray | None = getattr(_SCRATCH, "buffer", None)
    if buffer is None or buffer.nbytes < nbytes:
        buffer = _SCRATCH.buffer = np.empty(nbytes, np.uint8)
    return buffer[:nbytes]


def _strip_checksum(data: Bytes) -> memoryview:
    """Return the bytes before a crc32c, which must be theirs."""
    from google_crc32c import value  # zarr-python depends on it

    view = memoryview(data)
    if len(view) < 4:
        raise ValueError(f"wanted at least the 4 bytes of a checksum, got {len(view)}")
    body, stored = view[:-4], int.from_bytes(view[-4:], "little")
    # The C function takes read-only buffers that need no release: an array, not a memoryview.
    found = value(np.frombuffer(body, np.uint8)) if len(body) else 0
    if found != stored:
        raise ValueError(f"wanted the crc32c {stored:#010x}, got {found:#010x}")
    return body


def _decompress(name: str, data: Bytes, size: int | None, most: int) -> Bytes:
    """Undo a codec whose result is input to another; ``size`` may not be known, ``most`` is."""
    if name == "crc32c":
        return _strip_checksum(data)
    if size is not None:
        out = np.empty(size, np.uint8)
        _decompress_into(name, data, out)
        return out.data
    if name == "blosc":
        _check_most(_check_blosc(data), most)
    elif name == "lz4":
        _check_most(int.from_bytes(data[:4], "little"), most)
    elif name == "zstd":
        _check_most(_check_zstd_frames(data), most)
    else:
        return inflate(name, data, most)
    return memoryview(_decoder(name)(data))


def _check_most(came: int, most: int) -> None:
    if came > most:
        raise ValueError(f"wanted at most {most} bytes between two codecs, got {came} or so")


def _decompress_into(name: str, data: Bytes, out: ByteArray) -> None:
    """Undo a compressor; the result must fill ``out`` exactly."""
    if name == "blosc":
        _check_size(_check_blosc(data), out.nbytes)
    elif name == "lz4":
        # numcodecs puts the size before the block.
        _check_size(int.from_bytes(data[:4], "little"), out.nbytes)
    elif name == "zstd":
        _zstd_into(data, out)
        return
    else:
        decoded = inflate(name, data, out.nbytes)
        _check_size(len(decoded), out.nbytes)
        out[:] = np.frombuffer(decoded, np.uint8)
        return
    _decoder(name)(data, out)


def _zstd_into(data: Bytes, out: ByteArray) -> None:
    size = _zstd_content_size(data)
    if size is not None and size > out.nbytes:
        _check_size(size, out.nbytes)
    if size is not None and size < out.nbytes and _fits(data, out[:-1]):
        # Several frames that state all their sizes, or one too short: numcodecs would leave the
        # rest of `out` as it is. Without `out`, it would allocate whatever they state.
        raise ValueError(f"wanted {out.nbytes} decoded bytes, got fewer")
    _decoder("zstd")(data, out)


def _fits(data: Bytes, out: ByteArray) -> bool:
    """Whether frames decode to no more than ``out`` holds."""
    try:
        _decoder("zstd")(data, out)
    except Exception:  # which it raises where they do not, or are damaged: decoding tells
        return False
    return True


def _check_zstd_frames(data: Bytes) -> int:
    """Follow the headers of frames and blocks, which tell where each ends.

    See RFC 8878, 3.1.1 and 3.1.2. Return how many bytes they decode to at most.
    """
    view, start, most = memoryview(data), 0, 0
    while start < len(view) or not start:
        head = bytes(view[start : start + 18])
        if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
            start += 8 + int.from_bytes(head[4:8], "little")
        elif head[:4] == _ZSTD_MAGIC and len(head) > 5:
            size = _zstd_content_size(head)
            start, blocks = _zstd_frame_end(view, start)
            most += blocks if size is None else size
        else:
            raise ValueError("it does not begin as a zstd frame does")
    if start != len(view):
        raise ValueError(f"wanted {start} bytes of zstd, got {len(view)}")
    return most


def _zstd_frame_end(view: memoryview, start: int) -> tuple[int, int]:
    """Return where a frame ends, and how many bytes its blocks decode to at most."""
    descriptor = view[start + 4]
    single_segment = descriptor >> 5 & 1
    width = (single_segment, 2, 4, 8)[descriptor >> 6]
    at = start + 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3] + width
    most = 0
    while True:
        header = int.from_bytes(view[at : at + 3], "little")
        kind, size = header >> 1 & 3, header >> 3
        # A block of one byte, repeated, is stored as that byte.
        at += 3 + (1 if kind == 1 else size)
        most += _ZSTD_BLOCK if kind == 2 else size
        if header & 1 or at > len(view):
            return at + 4 * (descriptor >> 2 & 1), most


def _check_blosc(data: Bytes) -> int:
    """Return the decoded size that a blosc header states.

    Blosc trusts its header and reads past the end of a buffer that is cut short.
    """
    encoded = int.from_bytes(data[12:16], "little")
    if len(data) < _BLOSC_HEADER or encoded > len(data):
        raise ValueError(f"wanted {max(encoded, _BLOSC_HEADER)} bytes of blosc, got {len(data)}")
    return int.from_bytes(data[4:8], "little")


def _zstd_content_size(data: Bytes) -> int | None:
    """Return the decoded size that the first frame states, or None where it states none.

    See RFC 8878, 3.1.1.1. Skippable frames and what is no frame at all have none to state: 0.
    """
    head = bytes(data[:18])
    if head[:4] != _ZSTD_MAGIC or len(head) < 6:
        return 0
    descriptor = head[4]
    flag, single_segment = descriptor >> 6, descriptor >> 5 & 1
    width = (single_segment, 2, 4, 8)[flag]
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(head[start : start + width], "little")
    if not width:
        return None
    return size + 256 if width == 2 else size


@lru_cache
def _decoder(name: str) -> Callable[..., Any]:
    """Return a function of numcodecs, which lets go of the GIL while it decodes."""
    import importlib

    # The package first: of threads that begin with different modules of it, which import each
    # other in circles, one would find half of a module.
    importlib.import_module("numcodecs")
    return cast(Callable[..., Any], importlib.import_module(f"numcodecs.{name}").decompress)
