"""Coordinates of stacked rows: shared ones once, others along ``row``; none is lost."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Variable

from hfzarr.faces.row_shapes import Even, RowShape

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["ROW", "lengths", "stacked_coords"]

#: The dimension that rows are stacked along.
ROW = "row"


def stacked_coords(
    first: Dataset,
    shapes: Sequence[RowShape],
    sizes: Mapping[Hashable, int],
    stack: Callable[[Hashable], Variable],
) -> dict[Hashable, Any]:
    """Return the coordinates of stacked rows.

    Where rows lie apart, but are spaced alike, a dimension is measured from its first pixel, and
    ``<dim>_offset`` says where that lies. Where they are spaced differently, ``<dim>_step`` (and
    ``<dim>_unit``) say how. A dimension that is not evenly spaced has ``<dim>_values``. Other
    coordinates that differ, or are too large to be compared, gain the dimension ``row``.

    Parameters
    ----------
    first
        The first row.
    shapes
        What all rows look like.
    sizes
        Length of each dimension of the stack.
    stack
        Stacks the variable of a name, lazily.
    """
    out: dict[Hashable, Any] = {}
    for name, coord in first.coords.items():
        told = [row.positions.get(name) for row in shapes]
        same = None not in told and len(set(told)) == 1
        fits = all(first.sizes[dim] == sizes.get(dim) for dim in coord.dims)
        if same and fits:
            out[name] = coord.variable
        elif all(isinstance(one, Even) for one in told):
            out |= _spaced(name, sizes[name], told, coord.attrs)  # type: ignore[arg-type]
        elif None not in told and not coord.dims:
            out |= _scalars(name, coord, stack)
        elif name not in coord.dims:
            out[name] = stack(name)
        else:
            out[f"{name}_values"] = stack(name)
    return out


def _scalars(
    name: Hashable, coord: DataArray, stack: Callable[[Hashable], Variable]
) -> dict[Hashable, Any]:
    # A grid mapping says everything in its attributes, and those of the rows differ.
    if "crs_wkt" in coord.attrs or "grid_mapping_name" in coord.attrs:
        return {}
    return {name: stack(name)}


def _spaced(
    dim: Hashable, size: int, told: Sequence[Even], attrs: Mapping[str, Any]
) -> dict[Hashable, Any]:
    out: dict[Hashable, Any] = {}
    alike = len({(one.step, one.unit) for one in told}) == 1
    together = alike and len({one.first for one in told}) == 1
    if alike:
        start = told[0].first if together else 0.0
        out[dim] = Variable((dim,), start + told[0].step * np.arange(size), attrs)
    units = {one.unit for one in told}
    kept = {key: value for key, value in attrs.items() if key != "units" or len(units) == 1}
    if not alike:
        out[f"{dim}_step"] = Variable((ROW,), [one.step for one in told], kept)
    if not together:
        out[f"{dim}_offset"] = Variable((ROW,), [one.first for one in told], kept)
    if len(units) > 1:
        out[f"{dim}_unit"] = Variable((ROW,), [one.unit or "" for one in told])
    return out


def lengths(shapes: Sequence[RowShape], sizes: Mapping[Hashable, int]) -> dict[Hashable, Variable]:
    """Return, for each dimension whose length differs, the length in each row."""
    own = [row.sizes for row in shapes]
    return {
        f"{dim}_length": Variable((ROW,), [row[dim] for row in own])
        for dim in sizes
        if len({row[dim] for row in own}) > 1
    }
