"""Coordinates of stacked rows: shared ones once, others along ``row``; none is lost."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Variable

from hfzarr.errors import AmbiguousTargetError
from hfzarr.faces.row_attrs import stacked_attrs
from hfzarr.faces.row_shapes import Even, RowShape, alike

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["ROW", "lengths", "stacked_coords"]

#: The dimension that rows are stacked along.
ROW = "row"

# Stacks the coordinate of a name with these dims, attributes and dtype, of the rows that have it.
Stack = Callable[
    [Hashable, tuple[Hashable, ...], Mapping[str, Any], np.dtype[Any], Sequence[bool]], Variable
]


def stacked_coords(
    first: Dataset, shapes: Sequence[RowShape], sizes: Mapping[Hashable, int], stack: Stack
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
        Stacks a variable, lazily.

    Raises
    ------
    AmbiguousTargetError
        A coordinate has other dims in another row.
    """
    out: dict[Hashable, Any] = {}
    for name in _names(first, shapes):
        told = [row.positions.get(name) for row in shapes]
        if name in first.coords and _is_shared(first, name, told, sizes):
            out[name] = first.variables[name]
        elif name in sizes and len(evens := [e for e in told if isinstance(e, Even)]) == len(told):
            out |= _spaced(name, sizes[name], evens, _attrs(first, name))
        elif name in sizes and all(isinstance(one, tuple) or one is None for one in told):
            out[f"{name}_values"] = _texts(name, sizes[name], told)
        else:
            out |= _along_rows(first, name, shapes, stack)
    return out


def _names(first: Dataset, shapes: Sequence[RowShape]) -> list[Hashable]:
    """Return the coordinates of the first row, and those that only others have."""
    others = (name for row in shapes for name in row.coords or ())
    return list(dict.fromkeys([*first.coords, *others]))


def _is_shared(
    first: Dataset, name: Hashable, told: Sequence[Any], sizes: Mapping[Hashable, int]
) -> bool:
    coord = first.coords[name]
    fits = all(first.sizes[dim] == sizes.get(dim) for dim in coord.dims)
    return fits and all(one is not None and alike(told[0], one) for one in told)


def _attrs(first: Dataset, name: Hashable) -> dict[str, Any]:
    return dict(first.coords[name].attrs) if name in first.coords else {}


def _spaced(
    dim: Hashable, size: int, told: Sequence[Even], attrs: Mapping[str, Any]
) -> dict[Hashable, Any]:
    # Of several pixels the longest row tells the step best.
    best = max(told, key=lambda one: (one.step is not None, one.size))
    spaced = all(best.spaced_like(one) for one in told)
    together = spaced and all(best.starts_like(one) for one in told)
    units = {one.unit for one in told}
    kept = {key: value for key, value in attrs.items() if key != "units" or len(units) == 1}
    out: dict[Hashable, Any] = {}
    if spaced:
        start = best.first if together else 0.0
        out[dim] = Variable((dim,), start + best.stride * np.arange(size), kept)
    else:
        out[f"{dim}_step"] = Variable((ROW,), [one.stride for one in told], kept)
    if not together:
        out[f"{dim}_offset"] = Variable((ROW,), [one.first for one in told], kept)
    if len(units) > 1:
        out[f"{dim}_unit"] = Variable((ROW,), [one.unit or "" for one in told])
    return out


def _texts(dim: Hashable, size: int, told: Sequence[tuple[str, ...] | None]) -> Variable:
    """Return names along a dimension, row by row; empty where a row has none."""
    rows = [[*(one or ()), *[""] * size][:size] for one in told]
    return Variable((ROW, dim), np.array(rows).reshape(len(rows), size))


def _along_rows(
    first: Dataset, name: Hashable, shapes: Sequence[RowShape], stack: Stack
) -> dict[Hashable, Any]:
    attrs = _attrs(first, name)
    if "crs_wkt" in attrs or "grid_mapping_name" in attrs:
        # A grid mapping says everything in its attributes, and those of the rows differ.
        return {}
    attrs = stacked_attrs(name, shapes)
    known = [row.coords.get(name) for row in shapes if row.coords is not None]
    layouts = [layout for layout in known if layout is not None]
    dims = layouts[0][0]
    if any(layout[0] != dims for layout in layouts):
        raise AmbiguousTargetError(
            f"coordinate {name!r} has the dims {sorted({str(one[0]) for one in layouts})} in "
            f"different rows; leave it out with drop_variables={name!r}, or open the rows as a "
            "tree with xr.open_datatree"
        )
    has = [row.coords is None or name in row.coords for row in shapes]
    dtype = _common_dtype([layout[1] for layout in layouts], missing=not all(has))
    free = f"{name}_values" if name in dims else name
    return {free: stack(name, dims, attrs, dtype, has)}


def _common_dtype(dtypes: Sequence[np.dtype[Any]], *, missing: bool) -> np.dtype[Any]:
    """Return a dtype that holds the values of all rows, and what stands for a missing one."""
    try:
        common = np.result_type(*dtypes)
    except TypeError:
        return np.dtype(object)
    return np.result_type(common, np.float64) if missing and common.kind in "iub" else common


def lengths(shapes: Sequence[RowShape], sizes: Mapping[Hashable, int]) -> dict[Hashable, Variable]:
    """Return, for each dimension whose length differs, the length in each row."""
    own = [row.sizes for row in shapes]
    return {
        f"{dim}_length": Variable((ROW,), [row[dim] for row in own])
        for dim in sizes
        if len({row[dim] for row in own}) > 1
    }
