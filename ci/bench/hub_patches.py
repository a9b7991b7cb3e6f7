"""Patches of a sharded volume on the Hub, over a line of limited bandwidth.

``python ci/bench/hub_patches.py`` starts the Hub of the tests in a process of its own, with 50 ms
of latency per request, and lets all answers of its CDN share a line of 50 MB/s. Patches of a
volume are then read in several ways, each in a process of its own, and compared with what the line
allows: the bytes that the patches need, each once, over the bandwidth, and a latency for each step
that needs the one before (where a shard lies, its index, its chunks).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
REPO = "ada/volumes"
COUNT = "/bench/count"
SHAPE, SHARD, CHUNK = (64, 1024, 1024), (64, 512, 512), (16, 128, 128)
PATCH = {"z": 32, "y": 256, "x": 256}
SMALL = {"z": 16, "y": 128, "x": 128}
STEPS = 3
GOAL = 1.5


def write(folder: Path) -> None:
    """Write the volume: 64 inner chunks of 512 KiB in each shard, noise that zstd makes smaller."""
    import zarr

    rng = np.random.default_rng(0)
    group = zarr.create_group(folder / "volume.zarr", attributes={"ome": ome()})
    array = group.create_array("0", shape=SHAPE, chunks=CHUNK, shards=SHARD, dtype="uint16",
                               dimension_names=("z", "y", "x"))  # fmt: skip
    array[...] = rng.integers(0, 2**12, SHAPE, dtype="uint16")


def ome() -> dict[str, Any]:
    """Return the metadata of an image of one level."""
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}


def serve(folder: Path, latency: float, bandwidth: float) -> None:
    """Run the Hub until standard input ends."""
    sys.path.insert(0, str(ROOT / "tests"))
    from hub import Answer, Asked, running_hub

    line, free = threading.Lock(), 0.0

    with running_hub() as hub:
        hub.add_repo(REPO, folder)
        hub.latency = latency

        def send(asked: Asked) -> Answer | None:
            """Hold an answer back until the line has carried it, behind those before it."""
            nonlocal free
            if asked.target == COUNT:
                seen = [request for request in hub.log if request.path != COUNT]
                hub.log.clear()
                return Answer.json([len(seen), sum(request.sent for request in seen)])
            if asked.origin != "cdn":
                return None
            answer = hub.truth(asked)
            with line:
                free = max(time.monotonic(), free) + len(answer.body) / bandwidth
                done = free
            time.sleep(max(done - time.monotonic(), 0.0))
            return answer

        hub.faults.append(send)
        print(hub.url, flush=True)
        sys.stdin.read()


# Ways to read: each yields arrays of patches of an image.


def lazily(image: Any) -> Iterator[Any]:
    """Compute all patches of the volume, as dask's threads do."""
    yield image.hfzarr.patches(PATCH)["image"].data.compute()


def in_order(image: Any) -> Iterator[Any]:
    """Batches of all patches, in the order in which they lie."""
    for batch in image.hfzarr.batches(8, PATCH, shuffle=False):
        yield batch["image"]


def shuffled(image: Any) -> Iterator[Any]:
    """Batches of all patches, shuffled."""
    for batch in image.hfzarr.batches(8, PATCH, shuffle=True, seed=0):
        yield batch["image"]


def drawn(image: Any) -> Iterator[Any]:
    """64 patches at random places."""
    yield image.hfzarr.random_patches(64, SMALL, seed=0)["image"].data.compute()


WAYS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "patches, all": lazily,
    "batches, in order": in_order,
    "batches, shuffled": shuffled,
    "random patches": drawn,
}


def needed(folder: Path, way: str) -> int:
    """Return the encoded bytes of the chunks that a way needs, each once."""
    files = sum(f.stat().st_size for f in (folder / "volume.zarr" / "0" / "c").rglob("*")
                if f.is_file())  # fmt: skip
    if way != "random patches":
        return files
    import xarray as xr

    image = xr.open_dataset(folder / "volume.zarr", engine="hfzarr")
    drawn = image.hfzarr.random_patches(64, SMALL, seed=0)
    touched = {
        place
        for starts in zip(*(drawn[f"{axis}_start"].values.tolist() for axis in "zyx"), strict=True)
        for place in np.ndindex(2, 2, 2)
        for place in [tuple(
            (start + step * (size - 1)) // chunk
            for start, step, size, chunk in zip(starts, place, SMALL.values(), CHUNK, strict=True)
        )]
    }  # fmt: skip
    chunks = np.prod([n // c for n, c in zip(SHAPE, CHUNK, strict=True)])
    return int(files * len(touched) / chunks)


def one(way: str) -> list[float]:
    """Read in one way; return seconds, requests and bytes."""
    import xarray as xr

    image = xr.open_dataset(f"hf://datasets/{REPO}/volume.zarr", engine="hfzarr")
    counted()
    begin = time.perf_counter()
    for patches in WAYS[way](image):
        assert patches.max() < 2**12
    return [time.perf_counter() - begin, *counted()]


def counted() -> list[int]:
    """Return what the server has counted since it was asked last."""
    with urllib.request.urlopen(os.environ["HF_ENDPOINT"] + COUNT) as answer:
        found: list[int] = json.loads(answer.read())
        return found


def measure(url: str, ways: list[str], repeats: int) -> dict[str, list[float]]:
    """Return medians for each way, the ways taking turns."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    env.pop("HF_TOKEN", None)
    runs: dict[str, list[list[float]]] = {way: [] for way in ways}
    for turn in range(repeats):
        for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            command = [sys.executable, "-W", "ignore", __file__, "--one", way]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise SystemExit(done.stderr)
            runs[way].append(json.loads(done.stdout))
    return {
        way: [statistics.median(values) for values in zip(*made, strict=True)]
        for way, made in runs.items()
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.05, help="of each request, s")
    parser.add_argument("--bandwidth", type=float, default=50.0, help="of the CDN, MB/s")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.latency, options.bandwidth * 1e6)
        return
    if options.one:
        print(json.dumps(one(options.one)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        from hub import server

        more = ["--bandwidth", str(options.bandwidth)]
        with server(folder, options.latency, script=__file__, more=more) as url:
            found = measure(url, options.ways, options.repeats)
        bounds = {
            way: needed(folder, way) / options.bandwidth / 1e6 + STEPS * options.latency
            for way in options.ways
        }
    print("| what | requests | MB | seconds | the line allows | ratio | goal |")
    print("|---|---|---|---|---|---|---|")
    for way, (seconds, requests, size) in found.items():
        ratio = seconds / bounds[way]
        print(
            f"| {way} | {requests:.0f} | {size / 1e6:.1f} | {seconds:.2f} | {bounds[way]:.2f} "
            f"| {ratio:.2f} | {'ok' if ratio <= GOAL else 'MISSED'} |"
        )
    if options.json:
        record = {"ways": found, "the line allows": bounds}
        options.json.write_text(json.dumps(record, indent=1), "utf-8")


if __name__ == "__main__":
    main()
