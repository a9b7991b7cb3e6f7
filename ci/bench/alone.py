"""Opening and reading on this disk, each way in a process of its own, the ways taking turns.

``python ci/bench/alone.py`` writes small stores and a volume to a temporary folder, and opens and
reads them with hfzarr, xarray's own engine, zarr-python and tensorstore. A process calls its way
again and again for a while, after a first time that does the imports. README.md beside this file
says what is measured.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import read
import reshard_meter as meter
from open import check, walk
from patches import folder_of

from stores import Pyramid, write_cf

CF, VOLUME = "cf.zarr", "volume"
SHARDED = "v3 zstd, 64³ in shards of (128, 512, 512)"
FILES = "v3 zstd, files of 64³"
OLD = "v2 blosc, files of (1, 256, 256)"
WINDOWS = 30
OURS, XARRAY, ZARR, TENSORSTORE = "hfzarr", "xarray", "zarr-python", "tensorstore"
Call = Callable[[], Any]
Way = Callable[[Path], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that several ways can do."""

    what: str
    """What it is, for the table."""
    ways: dict[str, Way]
    """Each returns what is timed, given the folder of the stores."""


def pyramid(folder: Path) -> Pyramid:
    """Return where the pyramid lies."""
    return Pyramid(folder / "pyramid", 3, True)


# --- ways ---------------------------------------------------------------------------------------


def dataset(engine: str, place: Callable[[Path], Path]) -> Way:
    """Return a way that opens a Dataset."""

    def way(folder: Path) -> Call:
        import xarray as xr

        return functools.partial(xr.open_dataset, place(folder), engine=engine)

    return way


def tree(engine: str, place: Callable[[Path], Path]) -> Way:
    """Return a way that opens a DataTree."""

    def way(folder: Path) -> Call:
        import xarray as xr

        return functools.partial(xr.open_datatree, place(folder), engine=engine)

    return way


def members(folder: Path) -> Call:
    """Let zarr-python make an object of every member of the pyramid."""
    return functools.partial(walk, pyramid(folder).ome, True)


def whole(opener: Callable[[Path, str], read.Read], name: str) -> Way:
    """Return a way that reads an array whole."""

    def way(folder: Path) -> Call:
        reader = opener(folder / VOLUME, name)
        return lambda: reader((slice(None),) * 3)

    return way


def windows(opener: Callable[[Path, str], read.Read], name: str) -> Way:
    """Return a way that reads windows at the same drawn places as all others."""

    def way(folder: Path) -> Call:
        reader, rng = opener(folder / VOLUME, name), np.random.default_rng(1)
        shape = json.loads((folder / VOLUME / name / "zarr.json").read_text("utf-8"))["shape"]
        starts = [rng.integers(0, n - read.WINDOW + 1, WINDOWS).tolist() for n in shape]
        places = [
            tuple(slice(i, i + read.WINDOW) for i in start) for start in zip(*starts, strict=True)
        ]
        return lambda: [reader(place) for place in places]

    return way


READERS = {OURS: read.open_ours, ZARR: read.open_zarr, TENSORSTORE: read.open_tensorstore}


def reading(what: str, way: Callable[..., Way], name: str) -> Job:
    """Return a job of reading one array."""
    return Job(what=what, ways={reader: way(opener, name) for reader, opener in READERS.items()})


JOBS = {
    "image": Job(
        what="open an OME-Zarr image (the others: its finest level, stripped of OME-Zarr)",
        ways={
            OURS: dataset(OURS, lambda folder: pyramid(folder).ome),
            XARRAY: dataset("zarr", lambda folder: pyramid(folder).stripped_level),
        },
    ),
    "cf": Job(
        what="open a CF store of time, lat, lon and four variables",
        ways={
            OURS: dataset(OURS, lambda folder: folder / CF),
            XARRAY: dataset("zarr", lambda folder: folder / CF),
        },
    ),
    "tree": Job(
        what="open a pyramid of 7 levels with labels (xarray: stripped of OME-Zarr)",
        ways={
            OURS: tree(OURS, lambda folder: pyramid(folder).ome),
            XARRAY: tree("zarr", lambda folder: pyramid(folder).stripped),
            ZARR: members,
        },
    ),
    "whole sharded": reading("read a sharded volume whole", whole, SHARDED),
    "whole files": reading("read a volume of files of 64³ whole", whole, FILES),
    "whole v2": reading("read a v2 volume of files of 256² whole", whole, OLD),
    "windows sharded": reading(
        f"read {WINDOWS} random windows of {read.WINDOW}³ from shards", windows, SHARDED
    ),
    "windows files": reading(
        f"read {WINDOWS} random windows of {read.WINDOW}³ from files of 64³", windows, FILES
    ),
}


# --- measuring ----------------------------------------------------------------------------------


def write(folder: Path, jobs: Sequence[str], planes: int) -> None:
    """Write the stores of some jobs, unless they are there, and see that all ways agree."""
    if any(job in jobs for job in ("image", "tree")) and not pyramid(folder).ome.exists():
        check(pyramid(folder).write())
    if "cf" in jobs and not (folder / CF).exists():
        write_cf(folder / CF, 3, True)
    if any(" " in job for job in jobs) and not (folder / VOLUME).exists():
        read.write(folder / VOLUME, read.volume(planes))
    for name in jobs:
        if " " in name:
            same_pixels(folder, name)


def same_pixels(folder: Path, name: str) -> None:
    """Raise unless all ways of a job read the same."""
    found = {way: np.asarray(JOBS[name].ways[way](folder)()) for way in able(name, [""])}
    for way, pixels in found.items():
        if not np.array_equal(pixels, found[OURS]):
            raise RuntimeError(f"{name}: {way} reads other pixels than hfzarr")


def able(name: str, prefixes: Sequence[str]) -> list[str]:
    """Return the ways of a job that begin so and can run here."""
    missing = [] if importlib.util.find_spec(TENSORSTORE) else [TENSORSTORE]
    return [
        way for way in JOBS[name].ways if way.startswith(tuple(prefixes)) and way not in missing
    ]


def one(name: str, way: str, folder: Path, lasting: float) -> dict[str, float]:
    """Call a way for a while; return the median of its seconds, and the most memory it took."""
    call = JOBS[name].ways[way](folder)
    call()
    taken: list[float] = []
    held, _ = meter.start()
    end = time.perf_counter() + lasting
    while time.perf_counter() < end or len(taken) < 3:
        start = time.perf_counter()
        made = call()
        taken.append(time.perf_counter() - start)
        del made  # else the next one would be timed while this one is freed
    most, _ = meter.stop()
    return {
        "seconds": statistics.median(taken),
        "peak": most - held,
        "calls": len(taken),
        "load": os.getloadavg()[0],
    }


def measure(folder: Path, name: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the medians of the ways of a job; who goes first changes from round to round."""
    ways = able(name, options.ways)
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for turn in range(options.repeats):
        for way in ways[:: -1 if turn % 2 else 1]:
            command = [sys.executable, "-W", "ignore", __file__, "--seconds", str(options.seconds)]
            command += ["--one", name, way, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name}, {way}: {done.stderr.strip()}")
            rounds[way].append(json.loads(done.stdout))
    return {
        way: {key: statistics.median(told[key] for told in found) for key in found[0]}
        for way, found in rounds.items()
    }


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    print(f"\n{name}: {JOBS[name].what}")
    print(f"  {'':14}{'ms':>10}{'peak MB':>9}{'ours is':>10}")
    for way, told in found.items():
        ratio = f"{told['seconds'] / found[OURS]['seconds']:8.2f} ×" if OURS in found else "–"
        print(f"  {way:14}{told['seconds'] * 1e3:10.2f}{told['peak']:9.0f}{ratio:>10}", flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the stores here, or use those in it")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--ways", nargs="+", default=[""], help="ways whose names begin so")
    parser.add_argument("--planes", type=int, default=256, help="of 512 × 512 pixels")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a process measures")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = parse(argv)
    warnings.simplefilter("ignore")
    if options.one:
        name, way, folder = options.one
        print(json.dumps(one(name, way, Path(folder), options.seconds)))
        return
    results = []
    with folder_of(options.folder) as folder:
        write(folder, options.jobs, options.planes)
        for name in options.jobs:
            found = measure(folder, name, options)
            show(name, found)
            results.append({"job": name, "what": JOBS[name].what, "ways": found})
    if options.json:
        options.json.write_text(json.dumps({"results": results}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
