"""Chunks that decode to more than they should: refused before memory is taken for them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest

from hfzarr.errors import HfzarrError, LimitError, ReadError
from hfzarr.model.codecs import ByteCodec, CodecChain
from hfzarr.run.decode import ChunkDecoder, Place, decode_index
from rawstores import write_array
from strangers import grid, open_dataset, put

PLACE = Place(url="s.zarr", path="a", key="a/c/0")


def blosc(data: bytes) -> bytes:
    compressed: bytes = numcodecs.blosc.compress(data, b"zstd", 5)
    return compressed


def zstd_of_unknown_size(nbytes: int) -> bytes:
    """Return a frame of blocks of one byte, repeated, that does not say how long it is."""
    block, count = 2**17, nbytes // 2**17
    blocks = [
        (block << 3 | 1 << 1 | (i == count - 1)).to_bytes(3, "little") + b"a" for i in range(count)
    ]
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(blocks)


def xz_of_large_dictionary() -> bytes:
    """Return a stream that wants 1.5 GiB of memory (The .xz File Format, 3.1 and 5.3.1)."""
    data = bytearray(lzma.compress(b"a" * 1000))
    data[16] = 37
    data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
    return bytes(data)


def deflated(nbytes: int, wbits: int) -> bytes:
    stream = zlib.compressobj(9, wbits=wbits)
    return b"".join(stream.compress(bytes(2**24)) for _ in range(nbytes // 2**24)) + stream.flush()


LARGE = 2**26
SMALL = numcodecs.zstd.compress(b"a" * 10)
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
BOMBS: dict[str, tuple[tuple[ByteCodec, ...], Callable[[], bytes]]] = {
    "zstd": (("zstd",), lambda: numcodecs.zstd.compress(bytes(LARGE))),
    "zstd of unknown size": (("zstd",), lambda: zstd_of_unknown_size(LARGE)),
    "zstd behind a small frame": (("zstd",), lambda: SMALL + zstd_of_unknown_size(LARGE)),
    "zstd in many frames": (("zstd",), lambda: SMALL + 4 * numcodecs.zstd.compress(bytes(2**24))),
    "zstd behind what is skipped": (("zstd",), lambda: SKIPPED + zstd_of_unknown_size(LARGE)),
    "gzip": (("gzip",), lambda: deflated(LARGE, 31)),
    "zlib": (("zlib",), lambda: deflated(LARGE, 15)),
    "bz2": (("bz2",), lambda: bz2.compress(bytes(LARGE))),
    "lzma": (("lzma",), lambda: lzma.compress(bytes(LARGE), preset=0)),
    "lzma of a large dictionary": (
        ("lzma",),
        lambda: xz_of_large_dictionary(),
    ),
    "blosc": (("blosc",), lambda: blosc(bytes(LARGE))),
    "lz4": (("lz4",), lambda: struct.pack("<I", 2**31 - 1) + b"a" * 100),
    "gzip in gzip": (("gzip", "gzip"), lambda: gzip.compress(deflated(LARGE, 31))),
    "anything in gzip": (("blosc", "gzip"), lambda: deflated(LARGE, 31)),
    "anything in zstd": (("gzip", "zstd"), lambda: zstd_of_unknown_size(LARGE)),
    "anything in blosc": (("gzip", "blosc"), lambda: blosc(bytes(LARGE))),
    "crc32c in gzip": (("crc32c", "gzip"), lambda: deflated(LARGE, 31)),
}  # fmt: skip


def chain(*codecs: ByteCodec, count: int = 1000) -> CodecChain:
    return CodecChain(
        inner_chunk=(count,), dtype=np.dtype("u1"), order=(0,), byte_codecs=codecs, sharding=None
    )


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_not_decoded(name: str) -> None:
    import tracemalloc

    codecs, make = BOMBS[name]
    data = make()
    decoder = ChunkDecoder(chain(*codecs))
    tracemalloc.start()
    try:
        with pytest.raises(ReadError):
            decoder.decode(data, place=PLACE)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


# Decoders in C take memory that tracemalloc does not see.
IN_LITTLE_MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from test_bombs import BOMBS, PLACE, ChunkDecoder, ReadError, chain
made = {name: (codecs, make()) for name, (codecs, make) in BOMBS.items()}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 40 * 2**20,) * 2)
for name, (codecs, data) in made.items():
    try:
        ChunkDecoder(chain(*codecs)).decode(data, place=PLACE)
    except ReadError:
        print(name)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_bombs_are_not_decoded_where_there_is_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.split("\n")[:-1] == list(BOMBS), done.stderr


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress], ids=["gzip", "bz2"])
def test_many_empty_streams_take_time_that_is_linear(compress: Callable[[bytes], bytes]) -> None:
    name: ByteCodec = "gzip" if compress is gzip.compress else "bz2"
    decoder = ChunkDecoder(chain(name, count=2**18))
    body = compress(b"a" * 2**18)
    data = compress(b"") * 30_000 + body
    assert decoder.decode(data, place=PLACE).sum() == 97 * 2**18


@pytest.mark.parametrize("zeros", [1, 2000, 10**5])
def test_zeros_between_streams(zeros: int) -> None:
    data = gzip.compress(b"a" * 600) + bytes(zeros) + gzip.compress(b"b" * 400) + bytes(zeros)
    found = ChunkDecoder(chain("gzip")).decode(data, place=PLACE)
    assert bytes(found) == b"a" * 600 + b"b" * 400


@pytest.mark.parametrize(
    ("frames", "sound"),
    [
        ([600, 400], True), ([10, 990], True), ([0, 1000], False), ([600], False),
        ([600, 399], False), ([600, 401], False), ([1000], True), ([1001], False),
    ],
    ids=str,
)  # fmt: skip
def test_zstd_of_several_frames(frames: list[int], sound: bool) -> None:
    data = b"".join(numcodecs.zstd.compress(b"a" * count) for count in frames if count)
    data += b"" if all(frames) else b"junk"
    decoder = ChunkDecoder(chain("zstd"))
    for front in (b"", SKIPPED):
        if sound:
            assert decoder.decode(front + data, place=PLACE).sum() == 97_000
        else:
            with pytest.raises(ReadError):
                decoder.decode(front + data, place=PLACE)


@pytest.mark.parametrize("codec", ["zlib", "gzip"])
def test_bombs_that_zarr_python_would_decode(tmp_path: Path, codec: str) -> None:
    bomb = deflated(LARGE, 15 if codec == "zlib" else 31)
    filters = [{"id": "shuffle", "elementsize": 1}]
    write_array(tmp_path, (4,), 2, filters=filters, compressor={"id": codec, "level": 1})
    put(tmp_path / "0", bomb)
    [array] = open_dataset(tmp_path).data_vars.values()
    with pytest.raises(ReadError, match="wanted"):
        array.load()
    put(tmp_path / "0", gzip.compress(b"abcd") if codec == "gzip" else zlib.compress(b"abcd"))
    assert bytes(open_dataset(tmp_path)[array.name].values) == b"abcd"


def test_the_index_of_a_shard_of_too_many_chunks(tmp_path: Path) -> None:
    index = [{"name": "bytes", "configuration": {"endian": "little"}}]
    config = {"chunk_shape": [1], "codecs": [{"name": "bytes"}], "index_codecs": index}
    codecs = [{"name": "sharding_indexed", "configuration": config}]
    write_array(tmp_path, (2**40,), 3, chunk_grid=grid(2**40), codecs=codecs)
    put(tmp_path / "c/0", b"x" * 100)
    [array] = open_dataset(tmp_path).data_vars.values()
    with pytest.raises(HfzarrError, match="shard index"):
        array[:3].load()


def test_an_index_is_refused_before_it_is_looked_at() -> None:
    from hfzarr.model.codecs import ShardIndex

    sharding = ShardIndex(
        location="end", dtype=np.dtype("<u8"), checksum=True, per_shard=(2**30, 2**10)
    )
    with pytest.raises(LimitError, match="max_chunk"):
        decode_index(sharding, b"x" * 100, place=PLACE)


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b", b"\x1f\x8b\x9e\x1f\x8b", b"", b"\x1f\x8b" + b"\0" * 30]
)
def test_what_a_look_at_a_chunk_finds_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(ReadError):
        ChunkDecoder(chain("gzip")).check(data, place=PLACE)
