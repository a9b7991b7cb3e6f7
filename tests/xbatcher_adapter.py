"""xbatcher's `BatchGenerator` on top of patches, and a pytest plugin that puts it in its place.

``pytest -p xbatcher_adapter --pyargs xbatcher.tests.test_generators`` runs xbatcher's own tests
against hfzarr. Outcomes are written as JSON to the file that ``XBATCHER_OUTCOMES`` names.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

import hfzarr  # noqa: F401  (registers the accessor)

_NAME = "an array without a name"


class BatchGenerator:
    """Batches as xbatcher makes them, out of `Dataset.hfzarr.patches`.

    The patches do not keep the coordinates of what they were cut from: those are put back by
    means of ``D_start``, which tells where each patch lies.
    """

    made = 0

    def __new__(cls, *args, **kwargs):
        cls.made += 1
        return super().__new__(cls)

    def __init__(
        self,
        ds: xr.Dataset | xr.DataArray,
        input_dims: Mapping[Hashable, int],
        input_overlap: Mapping[Hashable, int] | None = None,
        batch_dims: Mapping[Hashable, int] | None = None,
        concat_input_dims: bool = False,
        preload_batch: bool = True,
    ) -> None:
        self.ds = ds
        self.input_dims = dict(input_dims)
        self.input_overlap = dict(input_overlap or {})
        self.batch_dims = dict(batch_dims or {})
        self.concat_input_dims = concat_input_dims
        self.preload_batch = preload_batch
        only_batch = {d: n for d, n in self.batch_dims.items() if d not in self.input_dims}
        self._size = {**only_batch, **self.input_dims}
        self._source = ds.to_dataset(name=_NAME) if isinstance(ds, xr.DataArray) else ds
        overlap = {dim: self.input_overlap.get(dim, 0) for dim in self._size}
        patches = self._source.hfzarr.patches(self._size, overlap=overlap)
        self._patches = patches.load() if preload_batch else patches
        self._starts = {dim: patches[f"{dim}_start"].values for dim in self._size}
        self._batches = self._members() if concat_input_dims else [[n] for n in self._ordered()]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[xr.Dataset | xr.DataArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> xr.Dataset | xr.DataArray:
        if not isinstance(index, int):
            raise NotImplementedError("wanted one whole number")
        cut = [self._labeled(number) for number in self._batches[index]]
        dims = list(self.input_dims)
        batch = cut[0]
        if self.concat_input_dims:
            batch = xr.concat([self._renamed(one) for one in cut], dim="input_batch")
            dims = [f"{dim}_input" for dim in dims]
        others = [dim for dim in batch.sizes if dim not in dims]
        if len(others) > 1:
            batch = batch.stack(sample=others).transpose("sample", *dims)
        if isinstance(self.ds, xr.DataArray):
            return batch[_NAME].rename(self.ds.name)
        return batch

    def _ordered(self) -> list[int]:
        """Return all windows in xbatcher's order: the dimensions in the order in which they came.

        Here, they are numbered in the order of the array's dimensions, tile by tile.
        """
        return np.lexsort([self._starts[dim] for dim in reversed(self._size)]).tolist()

    def _members(self) -> list[list[int]]:
        """Return the windows of each batch, where a batch has all windows in a box."""
        batches: dict[tuple[int, ...], list[int]] = {}
        for number in self._ordered():
            box = self._box(number)
            if box is not None:
                batches.setdefault(box, []).append(number)
        return list(batches.values())

    def _box(self, number: int) -> tuple[int, ...] | None:
        box = []
        for dim, length in self.batch_dims.items():
            stride = self._size[dim] - self.input_overlap.get(dim, 0)
            place = int(self._starts[dim][number]) // stride // math.ceil(length / stride)
            if place >= self.ds.sizes[dim] // length:
                return None
            box.append(place)
        return tuple(box)

    def _labeled(self, number: int) -> xr.Dataset:
        patch = self._patches.isel(patch=number)
        patch.attrs.pop("left_out", None)
        own = [f"{dim}{end}" for dim in self._size for end in ("", "_start", "_origin", "_values")]
        patch = patch.drop_vars(["patch", *own], errors="ignore")
        place = {
            dim: slice(int(starts[number]), int(starts[number]) + self._size[dim])
            for dim, starts in self._starts.items()
        }
        coords = {dim: self._source[dim].isel({dim: part}) for dim, part in place.items()}
        return patch.assign_coords({d: c for d, c in coords.items() if d in self._source.coords})

    def _renamed(self, patch: xr.Dataset) -> xr.Dataset:
        """Return a patch whose input dims have another name than their coordinates."""
        kept = {dim: patch[dim] for dim in self.input_dims if dim in patch.coords}
        patch = patch.drop_vars(kept).rename({dim: f"{dim}_input" for dim in self.input_dims})
        return patch.assign_coords(
            {dim: ((f"{dim}_input",), c.values, c.attrs) for dim, c in kept.items()}
        )


# --- the plugin ----------------------------------------------------------------------------------

#: The outcome of each test that made a generator.
_outcomes: dict[str, str] = {}
_made_before = 0


def pytest_configure(config) -> None:
    if not os.environ.get("XBATCHER_OUTCOMES"):
        return
    import xbatcher

    for module in (xbatcher, xbatcher.generators, xbatcher.accessors):
        module.BatchGenerator = BatchGenerator


def pytest_runtest_setup(item) -> None:
    global _made_before
    _made_before = BatchGenerator.made


def pytest_runtest_logreport(report) -> None:
    if report.when != "call" or BatchGenerator.made == _made_before:
        return
    name = report.nodeid.rpartition("::")[2]
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
    _outcomes[name] = outcome


def pytest_sessionfinish(session) -> None:
    path = os.environ.get("XBATCHER_OUTCOMES")
    if path:
        Path(path).write_text(json.dumps(_outcomes))
