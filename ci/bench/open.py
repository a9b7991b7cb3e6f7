"""How long opening takes, side by side in one run: hfzarr, xarray's own engine, zarr-python.

``python ci/bench/open.py`` writes small stores to a temporary folder, opens each in several ways,
interleaved and many times over, and prints medians, ratios, goals and verdicts. ``--only`` takes
the names of some parts, ``--strict`` makes a missed goal an error. README.md beside this file
says what each part measures and how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from latency import LatencyStore

from stores import Pyramid, write_cf, write_small

OURS, STOCK, WALK = "hfzarr", "zarr", "zarr-python"
Opener = Callable[[], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison."""

    what: str
    """What was opened."""

    ours: float
    """Seconds with hfzarr, or whatever `unit` says."""

    theirs: float
    """The same for the other."""

    other: str = f'engine="{STOCK}"'
    """Who the other is."""

    goal: float | None = None
    """The highest ratio, or the highest value of `ours` where `limit` is set, that is good."""

    limit: bool = False
    """Whether the goal bounds `ours` itself."""

    unit: str = "ms"
    """The unit of `ours` and `theirs` as printed."""

    @property
    def good(self) -> bool | None:
        """Say whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        return (self.ours if self.limit else self.ours / self.theirs) <= self.goal

    def __str__(self) -> str:
        """Return the row as a line of the table."""
        ratio = f"{self.ours / self.theirs:.2f}" if self.theirs else "–"
        goal = "–" if self.goal is None else f"≤ {self.goal:g}{'' if self.limit else '×'}"
        verdict = {True: "met", False: "MISSED", None: ""}[self.good]
        return (
            f"{self.what:<47} {_number(self.ours):>8} {_number(self.theirs):>8} {self.unit:<8} "
            f"{ratio:>6}  {goal:<9} {verdict:<7} {self.other}"
        ).rstrip()


HEADING = (
    f"{'':<47} {'hfzarr':>8} {'other':>8} {'unit':<8} {'ratio':>6}  {'goal':<9} {'':<7} the other"
)


def interleaved(openers: dict[str, Opener], seconds: float = 1.0) -> dict[str, float]:
    """Time openers in turn until the time is up, and return each one's median in milliseconds.

    Parameters
    ----------
    openers
        What to time, by name. Each is called once beforehand.
    seconds
        For how long; at least five rounds are made.

    Returns
    -------
    dict
        Milliseconds by name.
    """
    times: dict[str, list[float]] = {name: [] for name in openers}
    for opener in openers.values():
        _close(opener())
    gc.collect()
    end = time.perf_counter() + seconds
    order = list(openers)
    while time.perf_counter() < end or len(times[order[0]]) < 5:
        # Whoever goes first finds other caches; each takes its turn at it.
        order.append(order.pop(0))
        for name in order:
            start = time.perf_counter()
            opened = openers[name]()
            times[name].append(time.perf_counter() - start)
            _close(opened)
            del opened  # else the next one's clock would run while this one is freed
    return {name: 1000 * statistics.median(taken) for name, taken in times.items()}


def _close(opened: Any) -> None:
    """Close what has been opened, outside the clock."""
    with contextlib.suppress(AttributeError):
        opened.close()


def _number(value: float) -> str:
    """Return a number with three digits or all of its whole ones."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


# --- the parts ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Bench:
    """The stores that the parts share, in one temporary folder."""

    folder: Path
    pyramids: dict[tuple[int, bool], Pyramid] = field(default_factory=dict)

    def pyramid(self, zarr_format: int, consolidated: bool) -> Pyramid:
        """Return a pyramid of 7 levels with labels, written once."""
        key = (zarr_format, consolidated)
        if key not in self.pyramids:
            name = f"{zarr_format}-{'consolidated' if consolidated else 'plain'}"
            self.pyramids[key] = Pyramid(self.folder / name, zarr_format, consolidated).write()
        return self.pyramids[key]

    def each_pyramid(self) -> Iterator[tuple[str, Pyramid, dict[str, Any]]]:
        """Yield each kind of pyramid: its name, the stores, the arguments for opening it."""
        for zarr_format, consolidated in _KINDS:
            pyramid = self.pyramid(zarr_format, consolidated)
            version = "0.4 (v2)" if zarr_format == 2 else "0.5 (v3)"
            yield f"OME {version}, {_said(consolidated)}", pyramid, _arguments(consolidated)

    # Each part is a method whose docstring's first line is its heading.

    def image(self) -> Iterator[Row]:
        """open_dataset: an OME image, against one level in a group of its own."""
        for name, pyramid, arguments in self.each_pyramid():
            times = interleaved(
                {
                    OURS: partial(_dataset, pyramid.ome, OURS, arguments),
                    STOCK: partial(_dataset, pyramid.stripped_level, STOCK, arguments),
                }
            )
            yield Row(what=name, ours=times[OURS], theirs=times[STOCK], goal=1.0)

    def cf(self) -> Iterator[Row]:
        """open_dataset: a CF store of time, lat, lon and 4 variables, the same for both."""
        for zarr_format, consolidated in _KINDS:
            path = self.folder / f"cf-{zarr_format}-{consolidated}.zarr"
            write_cf(path, zarr_format, consolidated)
            arguments = _arguments(consolidated)
            ours, theirs = _dataset(path, OURS, arguments), _dataset(path, STOCK, arguments)
            xr.testing.assert_identical(ours.drop_attrs(), theirs.drop_attrs())
            times = interleaved(
                {engine: partial(_dataset, path, engine, arguments) for engine in (OURS, STOCK)}
            )
            name = f"CF v{zarr_format}, {_said(consolidated)}"
            yield Row(what=name, ours=times[OURS], theirs=times[STOCK], goal=1.0)

    def tree(self) -> Iterator[Row]:
        """open_datatree: a pyramid of 7 levels with labels, against the same in groups."""
        for name, pyramid, arguments in self.each_pyramid():
            times = interleaved(
                {
                    OURS: partial(_tree, pyramid.ome, OURS, arguments),
                    STOCK: partial(_tree, pyramid.stripped, STOCK, arguments),
                    WALK: partial(walk, pyramid.ome, pyramid.consolidated),
                },
                seconds=2.5,
            )
            yield Row(what=name, ours=times[OURS], theirs=times[STOCK], goal=0.5)
            other = f"{WALK} walks the members"
            yield Row(what=name, ours=times[OURS], theirs=times[WALK], other=other, goal=2.0)

    def imports(self) -> Iterator[Row]:
        """Fresh processes: the import over xarray's, and a first open with all its imports."""
        added = "import time, xarray; start = time.perf_counter(); import hfzarr; print({clock})"
        alone = "import time; start = time.perf_counter(); import xarray; print({clock})"
        times = _in_processes({OURS: added, "xarray": alone}, repeats=5)
        yield Row(
            what="import hfzarr, once xarray is imported",
            ours=times[OURS],
            theirs=times["xarray"],
            other="import xarray",
            goal=30,
            limit=True,
        )
        pyramid = self.pyramid(3, True)
        targets = {OURS: pyramid.ome, STOCK: pyramid.stripped_level}
        scripts = {
            engine: "import time; start = time.perf_counter(); import xarray; "
            f"xarray.open_dataset({str(path)!r}, engine={engine!r}); print({{clock}})"
            for engine, path in targets.items()
        }
        times = _in_processes(scripts, repeats=3)
        yield Row(what="import xarray + first open_dataset", ours=times[OURS], theirs=times[STOCK])

    def many(self) -> Iterator[Row]:
        """1,000 small stores opened one after the other, per store."""
        ome, stripped = write_small(self.folder / "small", 1000)
        openers: dict[str, Callable[[Path], Any]] = {
            OURS: lambda path: _dataset(path, OURS, {}),
            STOCK: lambda path: _dataset(stripped / path.name, STOCK, {}),
            WALK: lambda path: walk(path, True),
        }
        times: dict[str, list[float]] = {name: [] for name in openers}
        for path in sorted(ome.iterdir()):
            for name, opener in openers.items():
                start = time.perf_counter()
                opener(path)
                times[name].append(time.perf_counter() - start)
        mean = {name: 1000 * statistics.fmean(taken) for name, taken in times.items()}
        what = "OME 0.5, one level, consolidated"
        yield Row(what=what, ours=mean[OURS], theirs=mean[STOCK], goal=1.0)
        yield Row(what=what, ours=mean[OURS], theirs=mean[WALK], other=f"{WALK} walks the members")

    def latency(self) -> Iterator[Row]:
        """A store that takes 20 ms to answer: a pyramid of 7 levels with labels as a tree."""
        for name, pyramid, arguments in self.each_pyramid():
            store = LatencyStore.load(pyramid.ome)
            ours = store.tally_of(partial(_tree, store, OURS, arguments))
            theirs = store.tally_of(partial(walk, store, pyramid.consolidated))
            other = f"{WALK} walks the members"
            requests = 2.0 if pyramid.consolidated else float(theirs.requests)
            # Root, its levels and labels, the label images, their levels.
            rounds = 2.0 if pyramid.consolidated else 4.0
            figures = {
                "requests": (ours.requests, theirs.requests, requests),
                "rounds": (ours.rounds, theirs.rounds, rounds),
                "ms": (1000 * ours.seconds, 1000 * theirs.seconds, None),
            }
            for unit, (mine, other_one, goal) in figures.items():
                yield Row(
                    what=name,
                    ours=mine,
                    theirs=other_one,
                    unit=unit,
                    goal=goal,
                    limit=goal is not None,
                    other=other,
                )


_KINDS = ((2, True), (2, False), (3, True), (3, False))
PARTS = {
    "image": Bench.image,
    "cf": Bench.cf,
    "tree": Bench.tree,
    "imports": Bench.imports,
    "many": Bench.many,
    "latency": Bench.latency,
}


def _dataset(target: Any, engine: str, arguments: dict[str, Any]) -> xr.Dataset:
    """Open a Dataset."""
    return xr.open_dataset(target, engine=engine, **arguments)


def _tree(target: Any, engine: str, arguments: dict[str, Any]) -> xr.DataTree:
    """Open a DataTree."""
    return xr.open_datatree(target, engine=engine, **arguments)


def walk(target: Any, consolidated: bool) -> list[tuple[str, Any]]:
    """Make zarr-python's object of every member of a store."""
    use = None if consolidated else False
    group = zarr.open_group(target, mode="r", use_consolidated=use)
    return list(group.members(max_depth=None, use_consolidated_for_children=consolidated))


def _arguments(consolidated: bool) -> dict[str, Any]:
    """Return the arguments that spare both engines a vain look for consolidated metadata."""
    return {} if consolidated else {"consolidated": False}


def _said(consolidated: bool) -> str:
    """Return how a store's metadata lie, in words."""
    return "consolidated" if consolidated else "not consolidated"


def _in_processes(scripts: dict[str, str], repeats: int) -> dict[str, float]:
    """Run scripts in turn, each in a fresh process, and return the medians of what they print.

    Parameters
    ----------
    scripts
        Python by name; ``{clock}`` stands for the milliseconds since ``start``.
    repeats
        How many times.

    Returns
    -------
    dict
        Milliseconds by name.
    """
    clock = "1000 * (time.perf_counter() - start)"
    times: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(repeats):
        for name, script in scripts.items():
            command = [sys.executable, "-W", "ignore", "-c", script.replace("{clock}", clock)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{script}\n{done.stderr.strip()}")
            times[name].append(float(done.stdout.split()[-1]))
    return {name: statistics.median(taken) for name, taken in times.items()}


# --- the run ------------------------------------------------------------------------------------


def check(pyramid: Pyramid) -> None:
    """Raise unless both engines give the same coordinates and sizes, level by level."""
    ours = xr.open_datatree(pyramid.ome, engine=OURS)
    theirs = xr.open_datatree(pyramid.stripped, engine=STOCK)
    for level in pyramid.levels:
        mine, other = ours[level].dataset, theirs[level].dataset
        if mine.sizes != other.sizes:
            raise RuntimeError(f"level {level}: sizes {mine.sizes} and {other.sizes}")
        for dim in "yx":
            np.testing.assert_allclose(mine[dim].values, other[dim].values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, print a table for each, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a goal is missed")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="bench-open-"))
    try:
        rows = _run(Bench(folder), options.only)
    finally:
        shutil.rmtree(folder)
    missed = sum(row.good is False for row in rows)
    with_goal = sum(row.good is not None for row in rows)
    print(f"\n{with_goal - missed} of {with_goal} goals met", end=", ")
    print(f"took {time.perf_counter() - started:.0f} s")
    return 1 if missed and options.strict else 0


def _run(bench: Bench, names: Sequence[str]) -> list[Row]:
    """Run parts and print each row as it comes."""
    packages = ("xarray", "zarr", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(f"Python {platform.python_version()}, {versions}; warm, local, medians")
    for zarr_format, consolidated in _KINDS:
        check(bench.pyramid(zarr_format, consolidated))
    rows = []
    for name in names:
        part = PARTS[name]
        print(f"\n{name}: {(part.__doc__ or '').partition(chr(10))[0]}\n{HEADING}")
        for row in part(bench):
            print(row, flush=True)
            rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
