"""How long reading takes, side by side in one run: hfzarr, zarr-python, tensorstore, the codecs.

``python ci/bench/read.py`` writes three arrays to a temporary folder, reads each whole and in
random windows in several ways, interleaved, and prints medians and ratios to hfzarr. "codecs" is
the limit: the encoded chunks, already in memory, decoded on as many threads and thrown away.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from hfzarr.model.array import parse_array
from hfzarr.run.read import ArrayReader
from hfzarr.store.bridge import resolve_types
from hfzarr.store.folder import FolderSource

CHUNK = (64, 64, 64)
SHARD = (128, 512, 512)
WINDOW = 64
OURS = "hfzarr"
Read = Callable[[tuple[slice, ...]], np.ndarray]


def volume(planes: int) -> np.ndarray:
    """Return an image that compresses about as well as a micrograph."""
    rng = np.random.default_rng(0)
    smooth = 400 + 200 * np.sin(np.arange(planes * 512 * 512) / 3000)
    return (smooth + rng.normal(0, 6, smooth.size)).astype("<u2").reshape(planes, 512, 512)


def write(root: Path, data: np.ndarray) -> None:
    """Write the volume in three layouts."""
    common: dict[str, Any] = {"store": str(root), "shape": data.shape, "dtype": data.dtype}
    v2 = zarr.create_array(
        **common,
        name="v2 blosc, files of (1, 256, 256)",
        zarr_format=2,
        chunks=(1, 256, 256),
        compressors=numcodecs.Blosc(cname="lz4", clevel=5, shuffle=1),
    )
    v3 = zarr.create_array(
        **common, name="v3 zstd, files of 64³", chunks=CHUNK, compressors=ZstdCodec(level=1)
    )
    sharded = zarr.create_array(
        **common,
        name="v3 zstd, 64³ in shards of (128, 512, 512)",
        chunks=CHUNK,
        shards=SHARD,
        compressors=ZstdCodec(level=1),
    )
    for array in (v2, v3, sharded):
        array[...] = data


def open_ours(root: Path, name: str) -> Read:
    """Read through hfzarr."""
    v3 = root / name / "zarr.json"
    doc = json.loads((v3 if v3.exists() else root / name / ".zarray").read_text())
    meta = parse_array(name, doc, {}, resolve=resolve_types)
    reader = ArrayReader(FolderSource(str(root)), meta)
    if not reader.is_fast:
        raise RuntimeError(f"{name!r} is not read by the fast route")
    return reader.read


def open_zarr(root: Path, name: str) -> Read:
    """Read through zarr-python."""
    array = zarr.open_array(str(root), path=name, mode="r")
    return lambda window: np.asarray(array[window])


def open_tensorstore(root: Path, name: str) -> Read:
    """Read through tensorstore, without a cache."""
    import tensorstore

    driver = "zarr" if name.startswith("v2") else "zarr3"
    kvstore = {"driver": "file", "path": str(root / name)}
    array = tensorstore.open({"driver": driver, "kvstore": kvstore}).result()
    return lambda window: np.asarray(array[window].read().result())


def codec_limit(root: Path, name: str) -> Callable[[], None]:
    """Decode all chunks of the array, its files read beforehand."""
    # A shard's inner chunks are those that the other v3 array has in files.
    name = "v3 zstd, files of 64³" if name.startswith("v3") else name
    codec = numcodecs.Blosc() if name.startswith("v2") else numcodecs.Zstd()
    size = 2 * (256 * 256 if name.startswith("v2") else 64**3)
    files = [path for path in (root / name).rglob("*") if path.is_file()]
    chunks = [path.read_bytes() for path in files if path.name[0].isdigit()]
    threads = min(32, os.cpu_count() or 1)
    shares = [chunks[i::threads] for i in range(threads)]

    def decode(share: list[bytes]) -> None:
        out = np.empty(size, np.uint8)
        for chunk in share:
            codec.decode(chunk, out=out)

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, shares))

    return run


def medians(calls: dict[str, Callable[[], Any]], *, repeats: int) -> dict[str, float]:
    """Return each call's median time in seconds, the calls interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, found: dict[str, float], *, megabytes: float) -> None:
    """Print one comparison."""
    print(f"\n{title}")
    for name, seconds in found.items():
        rate, ratio = megabytes / seconds, seconds / found[OURS]
        print(
            f"  {name:12} {seconds * 1e3:9.1f} ms {rate:7.0f} MB/s   {ratio:6.2f} × {OURS}'s time"
        )


def compare(root: Path, name: str, data: np.ndarray, *, windows: int, repeats: int) -> None:
    """Read one array in all ways; they must agree."""
    ways = {OURS: open_ours, "zarr-python": open_zarr}
    if importlib.util.find_spec("tensorstore"):
        ways["tensorstore"] = open_tensorstore
    reads = {way: opener(root, name) for way, opener in ways.items()}
    whole = tuple(slice(0, n) for n in data.shape)
    for way, read in reads.items():
        if not np.array_equal(read(whole), data):
            raise RuntimeError(f"{way} reads {name!r} wrongly")
    calls: dict[str, Callable[[], Any]] = {
        way: lambda read=read: read(whole) for way, read in reads.items()
    }
    calls["codecs"] = codec_limit(root, name)
    report(f"{name}: whole", medians(calls, repeats=repeats), megabytes=data.nbytes / 2**20)

    rng = np.random.default_rng(1)
    starts = [rng.integers(0, n - WINDOW + 1, windows).tolist() for n in data.shape]
    places = [tuple(slice(i, i + WINDOW) for i in start) for start in zip(*starts, strict=True)]
    calls = {way: lambda read=read: [read(p) for p in places] for way, read in reads.items()}
    title = f"{name}: {windows} random windows of {WINDOW}³"
    report(title, medians(calls, repeats=repeats), megabytes=windows * WINDOW**3 * 2 / 2**20)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=256, help="of 512 × 512 pixels")
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    print(f"zarr {zarr.__version__}, numcodecs {numcodecs.__version__}, {os.cpu_count()} cores")
    data = volume(options.planes)
    with tempfile.TemporaryDirectory(prefix="hfzarr-bench-") as folder:
        root = Path(folder)
        write(root, data)
        for name in sorted(path.name for path in root.iterdir() if path.is_dir()):
            compare(root, name, data, windows=options.windows, repeats=options.repeats)


if __name__ == "__main__":
    main()
