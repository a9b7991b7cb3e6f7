"""How long tables of stores take: scanned, saved, opened, stacked, beside xarray's own way.

``python ci/bench/manifests.py`` writes 10,000 small stores to a temporary folder and prints the
seconds of each job, the median of rounds in which all jobs take turns, each in a process of its
own. ``--small`` makes a tenth of the stores. README.md beside this file says what is measured.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import reshard_meter as meter
import xarray as xr
import zarr

from stores import STEP, consolidate

GOAL = 2.0
SIDE = 64
OURS, STRIPPED = "ome", "stripped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that is timed."""

    what: str
    """What it is called in the table."""

    run: Callable[[Path], Any]
    """Does it, in a folder of stores."""

    share: float
    """How many of the stores it takes, as a part of them."""

    goal: float | None = None
    """Seconds that it may take with all 10,000 stores."""


def index(folder: Path, name: str) -> str:
    """Return where a job finds the table of its stores."""
    return str(folder / f"{name}.parquet")


def scan(folder: Path, *, metadata: bool) -> Any:
    """Find and look at all stores."""
    import hfzarr

    return hfzarr.scan(folder / OURS, metadata=metadata)


def save(folder: Path) -> Any:
    """Write a manifest that is in memory."""
    manifest = open_index(folder, "carried")
    start = time.perf_counter()
    manifest.save(folder / f"written-{os.getpid()}.parquet")
    return time.perf_counter() - start


def open_index(folder: Path, name: str) -> Any:
    """Open a manifest."""
    import hfzarr

    return hfzarr.open_manifest(index(folder, name))


def stack(folder: Path, name: str) -> Any:
    """Stack the rows of a manifest, which is opened from its file."""
    return xr.open_dataset(index(folder, name), engine="hfzarr")


def _stripped(folder: Path) -> list[str]:
    return sorted(str(path) for path in (folder / STRIPPED).iterdir())


def open_mfdataset(folder: Path) -> Any:
    """Let xarray open and stack the stores, stripped to what its own engine can open."""
    return xr.open_mfdataset(
        _stripped(folder), engine="zarr", combine="nested", concat_dim="row", parallel=False
    )


def concat(folder: Path) -> Any:
    """Let xarray open the stores one by one and stack them, checking no more than it must."""
    opened = [xr.open_dataset(path, engine="zarr", chunks={}) for path in _stripped(folder)]
    return xr.concat(opened, "row", coords="minimal", compat="override", join="override")


JOBS = {
    "scan": Job(what="scan, with metadata", run=functools.partial(scan, metadata=True), share=1.0),
    "save": Job(what="save as parquet", run=save, share=1.0),
    "open": Job(
        what="open the manifest", run=functools.partial(open_index, name="carried"), share=1.0
    ),
    "carried": Job(
        what="stack rows that carry their metadata",
        run=functools.partial(stack, name="carried"),
        share=1.0,
        goal=GOAL,
    ),
    "facts": Job(
        what="stack rows with what scan records",
        run=functools.partial(stack, name="facts"),
        share=0.1,
    ),
    "bare": Job(
        what="stack rows of paths alone", run=functools.partial(stack, name="bare"), share=0.1
    ),
    "few carried": Job(
        what="stack rows that carry their metadata",
        run=functools.partial(stack, name="carried"),
        share=0.02,
    ),
    "few bare": Job(
        what="stack rows of paths alone", run=functools.partial(stack, name="bare"), share=0.02
    ),
    "open_mfdataset": Job(what="xr.open_mfdataset, engine=zarr", run=open_mfdataset, share=0.02),
    "concat": Job(what="xr.concat of open_dataset, engine=zarr", run=concat, share=0.02),
}


def write_model(path: Path, *, ome: bool) -> None:
    """Write an image of one chunk; with coordinates as arrays of the store, unless as OME-Zarr."""
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [STEP, STEP]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}}
    group = zarr.create_group(path, attributes=attributes if ome else {})
    image = np.arange(SIDE * SIDE, dtype="uint16").reshape(SIDE, SIDE)
    arrays = (
        {"0": image} if ome else {"image": image, **dict.fromkeys("yx", STEP * np.arange(SIDE))}
    )
    for name, values in arrays.items():
        dims = [name] if name in "yx" else ["y", "x"]
        group.create_array(name, data=values, chunks=values.shape, dimension_names=dims)
    consolidate(path)


def make(folder: Path, count: int) -> None:
    """Write stores, each twice: as OME-Zarr, and stripped to what xarray's own engine can open."""
    import hfzarr

    for kind in (OURS, STRIPPED):
        write_model(folder / "model" / kind, ome=kind == OURS)
        for number in range(count):
            place = folder / kind / f"{number:05}.zarr"
            # Links are made faster than copies, and read alike.
            shutil.copytree(folder / "model" / kind, place, copy_function=os.link)
    table = hfzarr.scan(folder / OURS, metadata=True).to_arrow()
    # Stores of the world have metadata of their own, which does not pack into one value.
    place = table.column_names.index("zarr_metadata")
    own = [
        text.replace('"version"', f'"name": "image {number}", "version"', 1)
        for number, text in enumerate(table["zarr_metadata"].to_pylist())
    ]
    table = table.set_column(place, "zarr_metadata", [own])
    hfzarr.open_manifest(table).save(folder / "carried.parquet")
    without = [name for name in table.column_names if name != "zarr_metadata"]
    hfzarr.open_manifest(table.select(without)).save(folder / "facts.parquet")
    hfzarr.open_manifest(table.select(["zarr"])).save(folder / "bare.parquet")


def timed(job: Job, folder: Path, tiny: Path) -> list[float]:
    """Return seconds and MiB of a job, after the same on a few stores, which does all imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job.run(tiny)
        held, _ = meter.start()
        start = time.perf_counter()
        said = job.run(folder)
        seconds = time.perf_counter() - start
        most, _ = meter.stop()
    # A job that must prepare something says itself how long the rest took.
    return [said if isinstance(said, float) else seconds, most - held]


def in_own_process(name: str, folder: Path, tiny: Path) -> list[float]:
    """Return the seconds and the MiB of a job that a fresh process measured."""
    command = [sys.executable, __file__, "--one", name, str(folder), str(tiny)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: list[float] = json.loads(ran.stdout)
    return answer


def same_pixels(folder: Path) -> None:
    """Raise unless all ways to stack give the same pixels."""
    ours = [stack(folder, name)["image"] for name in ("carried", "facts", "bare")]
    theirs = [way(folder)["image"] for way in (open_mfdataset, concat)]
    for other in (*ours[1:], *theirs):
        if not np.array_equal(ours[0].values, other.values):
            raise ValueError("two ways to stack the same stores differ")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a tenth of the stores")
    parser.add_argument("--tiny", action="store_true", help="a few stores, to see that it runs")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median is printed")
    parser.add_argument("--only", nargs="+", choices=sorted(JOBS), help="some of the jobs")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        name, folder, tiny = options.one
        print(json.dumps(timed(JOBS[name], Path(folder), Path(tiny))))
        return
    count = 100 if options.tiny else 1_000 if options.small else 10_000
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measured(Path(temporary), count, options.only or list(JOBS), options.repeats)
    times, peaks = ({name: [n[i] for n in told] for name, told in found.items()} for i in (0, 1))
    print_table(times, count)
    if options.json is not None:
        record = {"stores": count, "seconds": times, "peaks": peaks}
        options.json.write_text(json.dumps(record, indent=1))


def measured(
    root: Path, count: int, names: list[str], repeats: int
) -> dict[str, list[list[float]]]:
    """Return the seconds and the MiB of each job in each round."""
    sizes = {share: max(2, round(count * share)) for share in {job.share for job in JOBS.values()}}
    folders = {share: root / str(size) for share, size in sizes.items()}
    for share, size in sizes.items():
        if any(JOBS[name].share == share for name in names):
            make(folders[share], size)
    tiny = root / "tiny"
    make(tiny, 3)
    same_pixels(tiny)
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    order = list(names)
    for _ in range(repeats):
        for name in order:
            times[name].append(in_own_process(name, folders[JOBS[name].share], tiny))
        # Whoever goes first finds other caches; each takes its turn at it.
        order.append(order.pop(0))
    return times


def print_table(times: dict[str, list[float]], count: int) -> None:
    """Print the medians, goals and verdicts."""
    print(f"{'':<42} {'rows':>7} {'seconds':>8}  goal")
    for name, taken in times.items():
        job, seconds = JOBS[name], statistics.median(taken)
        rows = max(2, round(count * job.share))
        goal = ""
        if job.goal is not None:
            allowed = job.goal * rows / 10_000
            goal = f"≤ {allowed:g} {'met' if seconds <= allowed else 'MISSED'}"
        print(f"{job.what:<42} {rows:>7,} {seconds:>8.3f}  {goal}".rstrip())


if __name__ == "__main__":
    main()
