"""Reading from the Hub: requests, bytes and seconds, beside fsspec, obstore and tensorstore.

``python ci/bench/hub.py`` starts the Hub of the tests in a process of its own, with 50 ms of
latency per request, and reads the same stores with each reader, each time in a process of its
own, the readers taking turns. Requests and bytes are counted at the server. README.md beside this
file says what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reshard_meter import start, stop

ROOT = Path(__file__).resolve().parents[2]
REPO = "ada/volumes"
COUNT = "/bench/count"
# Files without redirects, for a reader that follows none.
DIRECT = "/bench/files/"
SIDE = 2048
JOBS = ("open + 1 inner chunk", "+ 4 inner chunks", "64 chunks", "absent chunks")


def write(folder: Path) -> None:
    """Write the stores: 64 KiB inner chunks in 4 MiB shards; 64 KiB chunks; one chunk of 100."""
    import warnings

    import zarr

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    # Small numbers, so that each chunk has zero bytes: the Hub takes what has none for text.
    noise = rng.integers(1, 2**12, (SIDE, SIDE), dtype="uint16")
    for name, layout in [
        ("sharded", {"chunks": (128, 256), "shards": (1024, 2048)}),
        ("plain", {"chunks": (128, 256)}),
    ]:
        data = noise if name == "sharded" else noise[:1024]
        group = zarr.create_group(folder / f"{name}.zarr", attributes={"ome": ome()})
        array = group.create_array("0", shape=data.shape, dtype="uint16", compressors=None,
                                   dimension_names=("y", "x"), **layout)  # fmt: skip
        array[...] = data
        zarr.consolidate_metadata(group.store)
    group = zarr.create_group(folder / "sparse.zarr", attributes={"ome": ome()})
    sparse = group.create_array("0", shape=(1280, 2560), chunks=(128, 256), dtype="uint16",
                                dimension_names=("y", "x"))  # fmt: skip
    sparse[:128, :256] = noise[:128, :256]
    zarr.consolidate_metadata(group.store)


def ome() -> dict[str, Any]:
    """Return the metadata of an image of one level."""
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}


def serve(folder: Path, latency: float) -> None:
    """Run the Hub until standard input ends."""
    sys.path.insert(0, str(ROOT / "tests"))
    from hub import Answer, Asked, running_hub
    from hub.web import serve_bytes
    from hubdownloads import downloads

    with running_hub() as hub:
        hub.add_repo(REPO, folder)

        def count(asked: Asked) -> Answer | None:
            if asked.target != COUNT:
                return None
            seen = [request for request in hub.log if request.path != COUNT]
            hub.log.clear()
            api = sum(r.path.startswith("/api/") and "resolve-cache" not in r.path for r in seen)
            return Answer.json([len(seen), api, sum(request.sent for request in seen)])

        def direct(asked: Asked) -> Answer | None:
            if not asked.target.startswith(DIRECT):
                return None
            file = folder / asked.target.removeprefix(DIRECT)
            return serve_bytes(asked, file.read_bytes(), {}) if file.is_file() else Answer(404)

        hub.faults += [count, direct, downloads(hub)]
        hub.latency = latency
        print(hub.url, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def server(
    folder: Path, latency: float, *, script: str = __file__, more: Sequence[str] = ()
) -> Iterator[str]:
    """Start the Hub in another process, so that it has a lock of its own."""
    command = [sys.executable, script, "--serve", str(folder), "--latency", str(latency), *more]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


# Readers: each returns what opens a store, as something to be indexed.


def hfzarr() -> Callable[[str], Any]:
    """The engine over the store of our own."""
    import xarray as xr
    import zarr

    from hfzarr.store.hub.store import HubStore

    # What is imported at the first opening is no part of reading the Hub.
    memory = zarr.create_group({}, attributes={"ome": ome()})
    memory.create_array("0", shape=(2, 2), dtype="uint16", dimension_names=("y", "x"))
    _ = xr.open_dataset(memory.store, engine="hfzarr")["image"].values
    HubStore(f"hf://datasets/{REPO}")

    def opened(name: str) -> Any:
        store = HubStore(f"hf://datasets/{REPO}/{name}")
        image = xr.open_dataset(store, engine="hfzarr")["image"]
        return lambda *place: image[place].values

    return opened


def fsspec() -> Callable[[str], Any]:
    """zarr-python over huggingface_hub's file system."""
    import zarr
    from huggingface_hub import HfFileSystem  # noqa: F401
    from zarr.storage import FsspecStore

    def opened(name: str) -> Any:
        store = FsspecStore.from_url(f"hf://datasets/{REPO}/{name}", read_only=True)
        array: Any = zarr.open_group(store, mode="r")["0"]
        return lambda *place: array[place]

    return opened


def obstore() -> Callable[[str], Any]:
    """zarr-python over obstore, at the address of the repo."""
    import zarr
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    def opened(name: str) -> Any:
        url = f"{os.environ['HF_ENDPOINT']}/datasets/{REPO}/resolve/main/{name}"
        http = HTTPStore.from_url(url, client_options={"allow_http": True})
        array: Any = zarr.open_group(ObjectStore(http, read_only=True), mode="r")["0"]
        return lambda *place: array[place]

    return opened


def tensorstore() -> Callable[[str], Any]:
    """tensorstore, from a server that has the files itself: it follows no redirect of the Hub."""
    import tensorstore as ts

    def opened(name: str) -> Any:
        url = f"{os.environ['HF_ENDPOINT']}{DIRECT}{name}/0/"
        kvstore = {"driver": "http", "base_url": url}
        array = ts.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()
        return lambda *place: array[place].read().result()

    return opened


READERS = {
    "hfzarr": hfzarr, "fsspec hf://": fsspec, "obstore": obstore,
    "tensorstore, no redirects": tensorstore,
}  # fmt: skip


def one(name: str) -> dict[str, list[float]]:
    """Do all jobs with one reader; return seconds, requests, calls of the API, bytes, peak MiB."""
    opened, told = READERS[name](), {}
    rows, columns = slice(0, 128), slice(0, 256)

    def timed(job: str, work: Callable[[], Any]) -> Any:
        counted()
        held, _ = start()
        begin = time.perf_counter()
        result = work()
        seconds, (most, _) = time.perf_counter() - begin, stop()
        told[job] = [seconds, *counted(), most - held]
        return result

    array: Any = None

    def first() -> Any:
        nonlocal array
        array = opened("sharded.zarr")
        return array(rows, columns)

    timed(JOBS[0], first)
    timed(JOBS[1], lambda: [array(slice(256 * n, 256 * n + 128), slice(512, 768))
                            for n in range(4)])  # fmt: skip
    plain = opened("plain.zarr")
    timed(JOBS[2], lambda: plain(slice(0, 1024), slice(0, 2048)))
    sparse = opened("sparse.zarr")
    sparse(rows, columns)
    timed(JOBS[3], lambda: sparse(slice(128, None), slice(None)))
    return told


def counted() -> list[int]:
    """Return what the server has counted since it was asked last."""
    with urllib.request.urlopen(os.environ["HF_ENDPOINT"] + COUNT) as answer:
        found: list[int] = json.loads(answer.read())
        return found


def measure(url: str, readers: list[str], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return medians for each reader and job; who goes first changes from round to round."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    env.pop("HF_TOKEN", None)
    runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in readers}
    for turn in range(repeats):
        order = readers[turn % len(readers) :] + readers[: turn % len(readers)]
        for name in order:
            command = [sys.executable, "-W", "ignore", __file__, "--one", name]
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, timeout=120, check=False
            )
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:]
                if turn == 0:
                    print(f"{name}: {last[0][:200] if last else 'failed'}", file=sys.stderr)
                continue
            runs[name].append(json.loads(done.stdout))
    return {
        name: {
            job: [
                statistics.median(values)
                for values in zip(*(run[job] for run in made), strict=True)
            ]
            for job in JOBS
        }
        for name, made in runs.items()
        if made
    }


def show(found: dict[str, dict[str, list[float]]]) -> None:
    """Print a table."""
    print("| job | reader | requests | of the API | MB | seconds | hfzarr ÷ it | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for job in JOBS:
        ours = found.get("hfzarr", {}).get(job, [float("nan")])[0]
        for name, told in found.items():
            seconds, requests, api, size, peak = told[job]
            print(
                f"| {job} | {name} | {requests:.0f} | {api:.0f} | {size / 1e6:.2f} "
                f"| {seconds:.3f} | {ours / seconds:.2f} | {peak:.0f} |"
            )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.05, help="of each request, s")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; medians are printed")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=list(READERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.latency)
        return
    if options.one:
        print(json.dumps(one(options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        with server(Path(folder), options.latency) as url:
            found = measure(url, options.readers, options.repeats)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
