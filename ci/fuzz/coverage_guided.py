"""Fuzz metadata and chunks with atheris, which looks for inputs that reach new code.

    pip install atheris
    python ci/fuzz/coverage_guided.py documents SEEDS -max_total_time=60
    python ci/fuzz/coverage_guided.py chunks -max_total_time=60

Of documents it finds little by itself: give it a folder of seeds, such as the `zarr.json` and
`.zattrs` of real stores, each with a 3 or a 2 before it.

The first argument says what is fuzzed, the others are libFuzzer's. An input that makes anything
but an error of the package come out is written to the current folder, and ends the run.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from typing import Any

import atheris

with atheris.instrument_imports(include=["hfzarr"]):
    # What is imported later is not looked into.
    import hfzarr
    import hfzarr.faces.backend
    import hfzarr.faces.groups
    import hfzarr.faces.images
    import hfzarr.faces.pyramids
    import hfzarr.faces.read
    import hfzarr.faces.tree
    from hfzarr.model.codecs import CodecChain, ShardIndex
    from hfzarr.run.decode import ChunkDecoder, Place, decode_index

import numpy as np
import xarray as xr

_PLACE = Place(url="s.zarr", path="a", key="a/c/0")
_CHAINS: tuple[tuple[Any, ...], ...] = (
    (), ("zstd",), ("gzip",), ("blosc",), ("lz4",), ("zlib",), ("bz2",), ("lzma",), ("crc32c",),
    ("gzip", "zstd"), ("blosc", "gzip"), ("zstd", "blosc"), ("crc32c", "zstd"),
)  # fmt: skip
_ARRAY = {
    "zarr_format": 3, "node_type": "array", "shape": [8, 8], "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 4]}},
    "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [{"name": "bytes"}],
    "dimension_names": ["y", "x"],
}  # fmt: skip


def documents(data: bytes) -> None:
    """Open a store whose root says what the input says, beside two sound arrays."""
    sound = json.dumps(_ARRAY).encode()
    name = ".zattrs" if data[:1] == b"2" else "zarr.json"
    store = {name: data[1:], "0/zarr.json": sound, "1/zarr.json": sound}
    if name == ".zattrs":
        store[".zgroup"] = b'{"zarr_format": 2}'
    with warnings.catch_warnings(), contextlib.suppress(hfzarr.HfzarrError):
        warnings.simplefilter("ignore")
        repr(xr.open_datatree(store, engine="hfzarr"))


def chunks(data: bytes) -> None:
    """Decode the input as a chunk, by the chain that its first byte chooses."""
    if not data:
        return
    codecs = _CHAINS[data[0] % len(_CHAINS)]
    chain = CodecChain(
        inner_chunk=(64,), dtype=np.dtype("<u2"), order=(0,), byte_codecs=codecs, sharding=None
    )
    decoder = ChunkDecoder(chain)
    with contextlib.suppress(hfzarr.HfzarrError):
        decoder.check(data[1:], place=_PLACE)
    with contextlib.suppress(hfzarr.HfzarrError):
        decoder.decode(data[1:], place=_PLACE)
    with contextlib.suppress(hfzarr.HfzarrError):
        sharding = ShardIndex(
            location="end", dtype=np.dtype("<u8"), checksum=bool(data[0] & 1), per_shard=(2, 2)
        )
        decode_index(sharding, data[1:], place=_PLACE)


def main() -> None:
    """Fuzz what the command line names."""
    targets = {"documents": documents, "chunks": chunks}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        raise SystemExit(f"usage: {sys.argv[0]} {{{','.join(targets)}}} [-max_total_time=60 ...]")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
