"""Arrays, windows and chunks to cut patches from, and the plain slicing that they must equal."""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from hfzarr.plan.cuts import Cuts
from hfzarr.plan.patches import Group, PatchPlan, plan_patches
from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import AxisWindows, WindowGrid, WindowList
from hfzarr.run.tasks import PatchJob

EDGES = ("drop", "shift", "pad")
DTYPES = ("u1", "u2", "f4", "i8", "M8[ns]", "?")


# --- what patches must be ------------------------------------------------------------------------


def sliced(array: np.ndarray, starts: Sequence[int], size: Sequence[int], pad: Any) -> np.ndarray:
    """Return one patch, cut with NumPy; what lies outside the array is ``pad``."""
    out = np.full(size, pad, array.dtype)
    inside = [
        (max(s, 0), min(s + n, length))
        for s, n, length in zip(starts, size, array.shape, strict=True)
    ]
    if all(low < high for low, high in inside):
        into = tuple(slice(a - s, b - s) for (a, b), s in zip(inside, starts, strict=True))
        out[into] = array[tuple(slice(a, b) for a, b in inside)]
    return out


def values(shape: Sequence[int], dtype: str) -> np.ndarray:
    """Return an array in which neighbours differ."""
    count = np.arange(math.prod(shape), dtype="i8").reshape(shape) * 7 + 3
    if dtype == "?":
        return count // 7 % 3 == 0
    return (count % 251 if np.dtype(dtype).itemsize == 1 else count % 60_013).astype(dtype)


def pad_of(dtype: str) -> Any:
    return np.datetime64("NaT", "ns") if np.dtype(dtype).kind == "M" else 0


# --- regions that keep a log ---------------------------------------------------------------------


@dataclass
class LoggingRegion:
    """Hands out copies of an array's boxes; notes each, and the bytes that are still alive."""

    array: np.ndarray
    log: list[Any] = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0
    lock: Any = field(default_factory=threading.RLock)
    on_read: Any = None

    def read_boxes(self, boxes):
        if self.on_read is not None:
            self.on_read(boxes)
        parts = [self.array[tuple(slice(a, b) for a, b in box)] for box in boxes]
        # As stores do: what is read together is one array, alive as long as a part of it is.
        held = np.empty(sum(part.size for part in parts), self.array.dtype)
        with self.lock:
            self.log += [tuple(box) for box in boxes]
            self.alive += held.nbytes
            self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(held, self._freed, held.nbytes)
        found, stop = [], 0
        for part in parts:
            start, stop = stop, stop + part.size
            found.append(held[start:stop].reshape(part.shape))
            found[-1][...] = part
        return found

    def _freed(self, nbytes: int) -> None:
        with self.lock:
            self.alive -= nbytes


# --- cases for the plan and its tasks ------------------------------------------------------------


@dataclass
class Case:
    """Windows, and the arrays under them."""

    windows: WindowGrid | WindowList
    arrays: list[Sampled]
    regions: list[LoggingRegion]
    pads: list[Any]
    max_bytes: int

    def __repr__(self) -> str:
        shapes = [(r.array.shape, r.array.dtype.str) for r in self.regions]
        return f"Case({self.windows}, {self.arrays}, {shapes}, {self.max_bytes})"

    @property
    def plan(self) -> PatchPlan:
        return plan_patches(self.windows, self.arrays, max_bytes=self.max_bytes)

    def job(self) -> PatchJob:
        return PatchJob(
            plan=self.plan,
            regions=tuple(self.regions),
            dtypes=tuple(region.array.dtype for region in self.regions),
            pads=tuple(self.pads),
        )

    def expected(self, array: int, origins: np.ndarray) -> np.ndarray:
        """Return the patches of windows at some places, cut with NumPy."""
        tracks = self.arrays[array].tracks
        size = [track.size for track in tracks]
        source, pad = self.regions[array].array, self.pads[array]
        found = [sliced(source, on_tracks(tracks, row), size, pad) for row in origins.tolist()]
        return np.array(found, source.dtype).reshape(len(origins), *size)


def on_tracks(tracks: Sequence[Track], origin: Sequence[int]) -> list[int]:
    """Return where one window starts along each axis of an array."""
    return [
        0 if t.window is None else math.floor(t.ratio * origin[t.window] + t.offset + 0.5)
        for t in tracks
    ]


def touched(sampled: Sampled, origins: np.ndarray) -> set[tuple[int, ...]]:
    """Return the chunks that windows touch, found one pixel interval at a time."""
    found: set[tuple[int, ...]] = set()
    for row in origins.tolist():
        sides = []
        for track, start in zip(sampled.tracks, on_tracks(sampled.tracks, row), strict=True):
            intervals = [track.cuts.interval(k) for k in range(track.cuts.count)]
            sides.append(
                [
                    k
                    for k, (low, high) in enumerate(intervals)
                    if max(low, start) < min(high, start + track.size)
                ]
            )
        found.update(itertools.product(*sides))
    return found


def chunks_in(sampled: Sampled, box) -> list[tuple[int, ...]]:
    """Return the chunks that a box is made of; it must end where chunks end."""
    sides = []
    for track, (start, stop) in zip(sampled.tracks, box, strict=True):
        intervals = [track.cuts.interval(k) for k in range(track.cuts.count)]
        inside = [k for k, (low, high) in enumerate(intervals) if start <= low < high <= stop]
        assert sum(intervals[k][1] - intervals[k][0] for k in inside) == stop - start, box
        sides.append(inside)
    return list(itertools.product(*sides))


def origins_of(plan: PatchPlan, group: Group) -> np.ndarray:
    return plan.windows.starts(np.arange(group.first, group.stop))


@st.composite
def axis_windows(draw, longest=14, edges=EDGES):
    edge = draw(st.sampled_from(edges))
    length = draw(st.integers(1, longest))
    size = draw(st.integers(1, length + 3 if edge == "pad" else length))
    return AxisWindows(length=length, size=size, stride=draw(st.integers(1, size + 6)), edge=edge)


@st.composite
def window_grids(draw, most_axes=3, longest=10):
    axes = draw(st.lists(axis_windows(longest), min_size=1, max_size=most_axes))
    tile = tuple(draw(st.integers(1, axis.count + 1)) for axis in axes)
    return WindowGrid(axes=tuple(axes), tile=draw(st.sampled_from([tile, ()])))


@st.composite
def window_lists(draw, most_axes=3, longest=10):
    axes = draw(st.lists(axis_windows(longest), min_size=1, max_size=most_axes))
    # Drawn windows may lie outside, lie twice, and come in any order.
    place = st.tuples(*[st.integers(-2, axis.length + 1) for axis in axes])
    origins = draw(st.lists(place, max_size=25))
    return WindowList(
        lengths=tuple(axis.length for axis in axes),
        size=tuple(axis.size for axis in axes),
        origins=np.array(origins, np.intp).reshape(-1, len(axes)),
    )


@st.composite
def cuts(draw, length):
    if length and draw(st.booleans()):
        inner = draw(st.sets(st.integers(0, length), max_size=4))
        return Cuts(stop=length, bounds=(0, *sorted(inner - {0, length}), length))
    step = draw(st.integers(1, length + 4))
    return Cuts(stop=length, step=step, origin=-draw(st.integers(0, step - 1)))


@st.composite
def _tracks(draw, windows):
    followed = draw(st.sets(st.integers(0, len(windows.size) - 1), min_size=1))
    tracks = []
    for axis in followed:
        length, size, ratio, offset = windows.lengths[axis], windows.size[axis], 1.0, 0.0
        if draw(st.integers(0, 4)) == 0:
            ratio = draw(st.sampled_from([0.5, 2.0, 1 / 3, 1.0]))
            offset = draw(st.integers(-4, 4)) / 2
            length, size = draw(st.integers(1, 12)), draw(st.integers(1, 5))
        tracks.append(
            Track(cuts=draw(cuts(length)), size=size, window=axis, ratio=ratio, offset=offset)
        )
    for _ in range(draw(st.integers(0, min(1, 4 - len(tracks))))):
        length = draw(st.integers(0, 3))
        tracks.append(Track(cuts=draw(cuts(length)), size=length))
    return tuple(draw(st.permutations(tracks)))


@st.composite
def cases(draw, windows=None):
    """Draw windows and one to three arrays under them, cut in all ways."""
    grid_or_list = draw(st.one_of(window_grids(), window_lists()) if windows is None else windows)
    arrays, regions, pads = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        tracks = draw(_tracks(grid_or_list))
        dtype = draw(st.sampled_from(DTYPES))
        array = values([track.cuts.stop for track in tracks], dtype)
        held = draw(st.integers(0, 3)) == 0
        arrays.append(Sampled(tracks=tracks, itemsize=array.itemsize, held=held))
        regions.append(LoggingRegion(array))
        pads.append(pad_of(dtype))
    max_bytes = draw(st.sampled_from([1, 100, 1000, 4000, 20_000, 1 << 24]))
    return Case(grid_or_list, arrays, regions, pads, max_bytes)


# --- Datasets ------------------------------------------------------------------------------------

KINDS = ("memory", "dask", "store", "zarr", "packed")


@dataclass
class Drawn:
    """A Dataset, how windows lie on it, and how much memory they may take."""

    dataset: xr.Dataset
    size: dict[str, int]
    stride: dict[str, int]
    edge: str
    max_memory: int
    kind: str

    def patches(self) -> xr.Dataset:
        return self.dataset.hfzarr.patches(
            self.size, stride=self.stride, edge=self.edge, max_memory=self.max_memory
        )


@st.composite
def datasets(draw, kinds=KINDS):
    """Draw a Dataset of 1 to 4 dimensions and 1 to 3 variables, from memory, dask or a store."""
    names = "tzyx"[-draw(st.integers(1, 4)) :]
    lengths = {dim: draw(st.integers(1, 9)) for dim in names}
    kind = draw(st.sampled_from(kinds))
    variables, encoding = {}, {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        dims = draw(st.permutations(names))[: draw(st.integers(1, len(names)))]
        dtype = draw(st.sampled_from(DTYPES))
        array = values([lengths[dim] for dim in dims], "f4" if kind == "packed" else dtype)
        # Chunks of nothing but the fill value are absent from a store.
        array[: len(array) // 2] = np.zeros((), array.dtype)
        variables[name] = (dims, array)
        encoding[name] = _encoding(draw, array.shape, kind)
    dataset = xr.Dataset(variables)
    dataset["whole"] = ((), np.int64(7))
    if kind == "dask":
        chunks = {dim: draw(_dask_chunks(n)) for dim, n in dataset.sizes.items()}
        dataset = dataset.chunk(chunks)
    elif kind != "memory":
        dataset = _stored(dataset, encoding, "zarr" if kind == "zarr" else "hfzarr")
    dataset = dataset.isel(draw(_selections(dataset)))
    dims = sorted({dim for one in dataset.data_vars.values() for dim in one.dims})
    windowed = draw(st.sets(st.sampled_from(dims), min_size=1, max_size=3))
    size, stride, edge = {}, {}, draw(st.sampled_from(EDGES))
    for dim in sorted(windowed):
        n = dataset.sizes[dim]
        size[dim] = draw(st.integers(1, n + 2 if edge == "pad" else n))
        stride[dim] = draw(st.integers(1, size[dim] + 3))
    max_memory = draw(st.sampled_from([1, 500, 5000, 1 << 24]))
    return Drawn(dataset, size, stride, edge, max_memory, kind)


def _encoding(draw, shape: tuple[int, ...], kind: str) -> dict[str, Any]:
    chunks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    encoding: dict[str, Any] = {"chunks": chunks}
    if draw(st.booleans()):
        encoding["shards"] = tuple(n * draw(st.integers(1, 3)) for n in chunks)
    if kind == "packed":
        encoding |= {"dtype": "i2", "scale_factor": 2.0, "add_offset": 5.0, "_FillValue": -9}
    return encoding


@st.composite
def _dask_chunks(draw, length):
    inner = draw(st.sets(st.integers(0, length), max_size=3))
    bounds = [0, *sorted(inner - {0, length}), length]
    return tuple(b - a for a, b in itertools.pairwise(bounds))


@st.composite
def _selections(draw, dataset):
    """Draw an offset, a step or an integer along some dimensions; something is always left."""
    chosen: dict[Any, Any] = {}
    kept = dataset["a"].dims[0]
    for dim, n in dataset.sizes.items():
        how = draw(st.sampled_from(["all", "all", "part", "step", "one"]))
        start = draw(st.integers(0, n - 1))
        if how == "part":
            chosen[dim] = slice(start, draw(st.integers(start + 1, n)))
        elif how == "step":
            chosen[dim] = slice(start, n, draw(st.integers(1, 3)))
        elif how == "one" and dim != kept:
            chosen[dim] = start
    return chosen


def _stored(dataset: xr.Dataset, encoding: dict[str, Any], engine: str) -> xr.Dataset:
    store = MemoryStore()
    dataset.to_zarr(store, encoding=encoding, zarr_format=3, consolidated=False)
    return xr.open_dataset(store, engine=engine, consolidated=False, chunks=None)


def expected_patches(dataset: xr.Dataset, name: str, patches: xr.Dataset) -> np.ndarray:
    """Return what a variable's patches must be where the patches say that they start."""
    variable = dataset[name].variable
    pad = pad_of(variable.dtype.str)
    found = []
    for number in range(patches.sizes["patch"]):
        starts, size = [], []
        for dim in variable.dims:
            windowed = f"{dim}_start" in patches
            starts.append(int(patches[f"{dim}_start"][number]) if windowed else 0)
            size.append(patches[f"{dim}_start"].attrs["size"] if windowed else dataset.sizes[dim])
        found.append(sliced(variable.values, starts, size, pad))
    return np.stack(found)


def check(dataset: xr.Dataset, patches: xr.Dataset) -> None:
    """Check every variable of patches against slicing of the loaded Dataset."""
    loaded = dataset.load()
    windowed = {dim for dim in dataset.dims if f"{dim}_start" in patches}
    for name, variable in dataset.data_vars.items():
        if not windowed & set(variable.dims):
            xr.testing.assert_identical(patches[name].variable, loaded[name].variable)
            continue
        assert patches[name].dims == ("patch", *variable.dims)
        assert patches[name].dtype == variable.dtype
        np.testing.assert_array_equal(patches[name], expected_patches(loaded, name, patches))
