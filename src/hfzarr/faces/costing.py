"""What reading one variable would cost: whole, or in pieces under windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from xarray import Variable

from hfzarr.faces.regions import DaskRegion, HeldRegion, is_dask
from hfzarr.faces.selected import BoxPlanner, plan_of
from hfzarr.plan.axis import IntArray
from hfzarr.plan.cost import Kind, VariableCost
from hfzarr.plan.overlap import chunks_one_by_one, pixels_covered
from hfzarr.plan.windows import Windows
from hfzarr.run.hold import PatchArrays
from hfzarr.run.job import LOCAL_RUN
from hfzarr.run.pool import workers
from hfzarr.run.survey import Survey, survey

__all__ = ["PatchCosts", "Told", "in_memory", "variable_cost"]

_OF_DASK = "what dask's tasks read is not counted: chunks are dask's blocks"
_OF_OTHERS = "what another library reads from its store is not counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A variable's cost, and what is to be said of it."""

    cost: VariableCost
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatchCosts:
    """What one array costs that patches are cut from.

    Attributes
    ----------
    arrays
        All arrays.
    number
        Which of them.
    windows
        The windows, as they are numbered.
    chosen
        The numbers of those that are cut; None for all.
    """

    arrays: PatchArrays
    number: int
    windows: Windows
    chosen: IntArray | None

    def cost(self, reads: Sequence[IntArray], factor: float, *, tasks: int) -> Told:
        """Return the cost of reading some boxes together, and then some others, and so on."""
        array, name = self.arrays.arrays[self.number], self.arrays.names[self.number]
        region: Any = self.arrays.regions[self.number]
        count = len(self.windows) if self.chosen is None else len(self.chosen)
        pixels, exact = pixels_covered(array, self.windows, self.chosen)
        one_by_one = chunks_one_by_one(array, self.windows, self.chosen)
        shared: dict[str, Any] = {
            "name": name,
            "tasks": tasks,
            "bytes_delivered": count * array.patch_bytes,
            "bytes_distinct": pixels * array.itemsize,
        }
        unsure = () if exact else ("bytes_distinct", "reuse")
        if isinstance(region, HeldRegion):
            return Told(cost=VariableCost(**shared, kind="memory", estimates=unsure))
        planner = None if isinstance(region, DaskRegion) else BoxPlanner(region)
        if planner is not None and planner.reader is not None:
            plans = [plan for boxes in reads for plan in planner.plans(boxes)]
            meta = planner.reader.meta
            found = survey(planner.reader, plans).times(factor, meta)
            chunk_bytes = math.prod(meta.inner_chunk or ()) * meta.dtype.itemsize
            kind: Kind = "store"
        else:
            kind = "dask" if planner is None else "other"
            found = self._elsewhere(reads, kind).times(factor)
            chunk_bytes = array.chunk_bytes
        if isinstance(region, DaskRegion):
            shared["tasks"] = tasks + len(dict(region.array.__dask_graph__()))
        numbers: dict[str, Any] = {one.name: getattr(found, one.name) for one in fields(found)}
        notes = numbers.pop("notes")
        numbers["estimates"] = _with_ratios((*found.estimates, *unsure))
        shared["bytes_one_by_one"] = one_by_one * chunk_bytes
        return Told(cost=VariableCost(**shared, **numbers, kind=kind), notes=notes)

    def _elsewhere(self, reads: Sequence[IntArray], kind: Kind) -> Survey:
        """Return what is computed of an array that hfzarr does not read."""
        array = self.arrays.arrays[self.number]
        every = np.concatenate(reads) if reads else np.zeros((0, len(array.tracks), 2), np.intp)
        if kind == "dask":
            # A block is computed once, however many tasks need it.
            every = np.unique(every, axis=0)
        counts = np.ones(len(every), np.intp)
        for axis, track in enumerate(array.tracks):
            low, high = every[:, axis, 0], every[:, axis, 1]
            counts *= track.cuts.numbers(high - 1) - track.cuts.numbers(low) + 1
        pixels = (every[:, :, 1] - every[:, :, 0]).prod(axis=1)
        _, firsts = np.unique(every, axis=0, return_index=True)
        return Survey(
            chunks=int(counts[firsts].sum()),
            chunk_decodes=int(counts.sum()),
            bytes_decoded=int(pixels.sum()) * array.itemsize,
            estimates=() if kind == "dask" else ("chunks", "chunk_decodes", "bytes_decoded"),
            notes=(_OF_DASK if kind == "dask" else _OF_OTHERS,),
        )

    def scratch(self, block_bytes: int) -> int:
        """Return the bytes that decoding takes besides, on all threads."""
        array, region = self.arrays.arrays[self.number], self.arrays.regions[self.number]
        if array.held:
            return 0
        reader = BoxPlanner(region).reader  # type: ignore[arg-type]
        local = reader is not None and reader.source.local
        run = min(block_bytes, LOCAL_RUN) if local else block_bytes
        encoded = max(array.chunk_bytes, run)
        return workers() * (array.chunk_bytes + encoded)


def _with_ratios(names: Sequence[str]) -> tuple[str, ...]:
    more = {"bytes_decoded": "amplification", "bytes_distinct": "reuse"}
    return tuple(dict.fromkeys([*names, *(more[name] for name in names if name in more)]))


def in_memory(variable: Variable) -> bool:
    """Return whether the values of a variable are there already."""
    return bool(variable._in_memory)


def variable_cost(name: str, variable: Variable) -> Told:
    """Return the cost of computing a variable."""
    size: dict[str, Any] = {"bytes_delivered": variable.nbytes, "bytes_distinct": variable.nbytes}
    data: Any = variable._data
    if is_dask(data):
        cost = VariableCost(
            name=name,
            kind="dask",
            chunks=math.prod(data.numblocks),
            chunk_decodes=math.prod(data.numblocks),
            bytes_decoded=variable.nbytes,
            tasks=len(dict(data.__dask_graph__())),
            **size,
        )
        return Told(cost=cost, notes=(_OF_DASK,))
    if in_memory(variable):
        return Told(cost=VariableCost(name=name, kind="memory", **size))
    found = plan_of(variable)
    if found is None:
        return Told(cost=VariableCost(name=name, kind="other", **size), notes=(_OF_OTHERS,))
    asked = survey(*found)
    numbers: dict[str, Any] = {one.name: getattr(asked, one.name) for one in fields(asked)}
    notes = numbers.pop("notes")
    numbers["estimates"] = _with_ratios(asked.estimates)
    return Told(cost=VariableCost(name=name, **size, **numbers), notes=notes)
