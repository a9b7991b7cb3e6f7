"""Rows of a manifest as one lazy Dataset with a leading dimension ``row``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Coordinates, Dataset, Variable
from xarray.core import indexing

from hfzarr.errors import AmbiguousTargetError, TargetError
from hfzarr.faces.opening import Options
from hfzarr.faces.row_shapes import Even, RowShape, check_alike, shape_of
from hfzarr.faces.row_variable import PaddedVariable, RowOpener, RowVariable
from hfzarr.faces.variables import StackedArray
from hfzarr.rows.selection import ZarrSelection
from hfzarr.run.pool import for_each_waiting

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["ROW", "stacked_dataset"]

#: The dimension that rows are stacked along.
ROW = "row"
# The columns of a manifest that say what a row looks like.
_TOLD = ("kind", "shape", "dtype", "axes", "scale", "translation", "channels", "levels")


def stacked_dataset(
    manifest: Manifest, options: Options, place: Mapping[str, Any], *, pad: bool = False
) -> Dataset:
    """Return the rows of a manifest stacked along ``row``, lazily.

    Parameters
    ----------
    manifest
        The rows.
    options, place
        How each is opened.
    pad
        Whether to fill shorter rows up to the longest.

    Raises
    ------
    AmbiguousTargetError
        The rows differ in shape, dims, dtype or variables.
    TargetError
        There are no rows, or one has no store.
    """
    cells = _cells(manifest)
    opener = RowOpener(options, place)
    first = opener.open(cells[0])
    if ROW in first.dims or ROW in first.coords:
        raise AmbiguousTargetError(
            f"the rows of this manifest have a {ROW!r} of their own, and cannot be stacked along "
            "one. Open them as a tree with xr.open_datatree."
        )
    shapes = _shapes(manifest, cells, opener, first, options, place)
    names = [f"row {i}" for i in range(len(cells))]
    check_alike(shapes, names, pad=pad)
    sizes = {dim: max(row.sizes[dim] for row in shapes) for dim in shapes[0].sizes}
    variables = {
        name: _stacked(first, name, cells, shapes, sizes, opener) for name in first.data_vars
    }
    coords = _shared_coords(first, shapes, sizes)
    coords |= _lengths(shapes, sizes)
    coords |= _columns(manifest, taken={*variables, *coords, *sizes})
    attrs = {key: value for key, value in first.attrs.items() if key != "name"}
    return Dataset(variables, coords=Coordinates(coords), attrs=attrs)


def _cells(manifest: Manifest) -> list[Any]:
    cells = list(manifest.handles())
    if not cells:
        raise TargetError("the manifest has no rows, so there is nothing to stack")
    empty = [i for i, cell in enumerate(cells) if cell is None]
    if empty:
        raise TargetError(
            f"{len(empty)} rows of the manifest name no store, the first of them row {empty[0]}. "
            "Leave them out with filter()."
        )
    return cells


def _shapes(
    manifest: Manifest,
    cells: Sequence[Any],
    opener: RowOpener,
    first: Dataset,
    options: Options,
    place: Mapping[str, Any],
) -> list[RowShape]:
    """Return what each row looks like: as the manifest recorded it, or by opening the row."""
    known = _recorded(manifest, cells, first, options, place)
    unknown = [i for i, shape in enumerate(known) if shape is None]

    def look(i: int) -> RowShape:
        return shape_of(first if i == 0 else opener.open(cells[i]))

    found: dict[int, RowShape] = {}
    for_each_waiting(lambda i: found.setdefault(i, look(i)), unknown)
    return [shape or found[i] for i, shape in enumerate(known)]


def _recorded(
    manifest: Manifest,
    cells: Sequence[Any],
    first: Dataset,
    options: Options,
    place: Mapping[str, Any],
) -> list[RowShape | None]:
    """Return what the manifest's own columns say of each row, None where they do not.

    They speak of arrays and of the finest level of images, opened whole. Of another level they
    say something where a row is told like the first one, which was opened.
    """
    unknown: list[RowShape | None] = [None] * len(cells)
    if options.image is not None or place.get("group") or len(first.data_vars) != 1:
        return unknown
    if not {*_TOLD} <= set(manifest.columns):
        return unknown
    name, variable = next(iter(first.data_vars.items()))
    table = manifest.to_arrow()
    told = list(zip(*(table.column(column).to_pylist() for column in _TOLD), strict=True))
    finest = options.level in (None, 0)
    opened = shape_of(first)
    shapes: dict[str, RowShape | None] = {}
    for values in told:
        key = repr(values)
        if key not in shapes and finest:
            shapes[key] = _told(name, variable, dict(zip(_TOLD, values, strict=True)))
        elif key not in shapes:
            shapes[key] = opened if values == told[0] and values[0] == "image" else None
    known = shapes[repr(told[0])]
    # What is recorded of the first row is known to be true, or is not what was opened.
    if known is None or known.variables != opened.variables:
        return unknown
    return [
        None if isinstance(cell, ZarrSelection) else shapes[repr(values)]
        for cell, values in zip(cells, told, strict=True)
    ]


def _told(name: Hashable, variable: Any, told: Mapping[str, Any]) -> RowShape | None:
    if told["kind"] not in ("array", "image") or not isinstance(told["shape"], (list, tuple)):
        return None
    shape = tuple(told["shape"])
    dims = variable.dims if told["kind"] == "array" else tuple(told["axes"] or ())
    if len(dims) != len(shape) or not isinstance(told["dtype"], str):
        return None
    positions: dict[Hashable, Any] = {}
    scale, translation = told["scale"], told["translation"]
    if scale is not None and translation is not None:
        positions = {
            dim: Even(first, step)
            for dim, first, step in zip(dims, translation, scale, strict=True)
        }
    if told["channels"]:
        positions["c"] = tuple(told["channels"])
    return RowShape(variables=((name, dims, shape, told["dtype"]),), positions=positions)


def _stacked(
    first: Dataset,
    name: Hashable,
    cells: Sequence[Any],
    shapes: Sequence[RowShape],
    sizes: Mapping[Hashable, int],
    opener: RowOpener,
) -> Variable:
    variable = first.variables[name]
    shape = tuple(sizes[dim] for dim in variable.dims)
    fill = _fill(variable.dtype)
    grid = np.empty(len(cells), dtype=object)
    at = [known[0] for known in shapes[0].variables].index(name)
    for i, (cell, row) in enumerate(zip(cells, shapes, strict=True)):
        own = row.variables[at][2]
        inner = RowVariable(opener=opener, cell=cell, name=name, shape=own, dtype=variable.dtype)
        grid[i] = inner if own == shape else PaddedVariable(inner=inner, shape=shape, fill=fill)
    data = indexing.LazilyIndexedArray(StackedArray(grid, shape, variable.dtype, fill))
    out = Variable((ROW, *variable.dims), data, variable.attrs, fastpath=True)
    out.encoding = {"preferred_chunks": {ROW: 1, **variable.encoding.get("preferred_chunks", {})}}
    return out


def _fill(dtype: np.dtype[Any]) -> Any:
    """Return what stands where a row has no pixels: what xarray takes for missing, else 0."""
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind in "mM":
        return dtype.type("NaT")
    return "" if dtype.kind in "UST" else 0


def _shared_coords(
    first: Dataset, shapes: Sequence[RowShape], sizes: Mapping[Hashable, int]
) -> dict[Hashable, Any]:
    """Return the coordinates that all rows share.

    Where rows lie apart, but are spaced alike, a dimension is measured from its first pixel, and
    ``<dim>_offset`` says where that lies; where they are spaced differently, ``<dim>_step`` says
    how.
    """
    out: dict[Hashable, Any] = {}
    for dim, size in sizes.items():
        if dim not in first.coords:
            continue
        told = [row.positions.get(dim) for row in shapes]
        attrs = first[dim].attrs
        if len(set(told)) == 1 and None not in told and first.sizes[dim] == size:
            out[dim] = first.variables[dim]
            continue
        evens = [one for one in told if isinstance(one, Even)]
        if len(evens) < len(told):
            # Nobody can tell where the pixels of every row lie.
            continue
        if len({one.step for one in evens}) == 1:
            shared = len({one.first for one in evens}) == 1
            start = evens[0].first if shared else 0.0
            out[dim] = Variable((dim,), start + evens[0].step * np.arange(size), attrs)
            if shared:
                continue
        else:
            out[f"{dim}_step"] = Variable((ROW,), [one.step for one in evens], attrs)
        out[f"{dim}_offset"] = Variable((ROW,), [one.first for one in evens], attrs)
    for name, coord in first.coords.items():
        told = [row.positions.get(name) for row in shapes]
        if not coord.dims and None not in told and len(set(told)) == 1:
            out[name] = coord.variable
    return out


def _lengths(shapes: Sequence[RowShape], sizes: Mapping[Hashable, int]) -> dict[Hashable, Any]:
    """Return, for each dimension whose length differs, the length in each row."""
    return {
        f"{dim}_length": Variable((ROW,), [row.sizes[dim] for row in shapes])
        for dim in sizes
        if len({row.sizes[dim] for row in shapes}) > 1
    }


def _columns(manifest: Manifest, taken: set[Hashable]) -> dict[Hashable, Any]:
    """Return the manifest's columns as coordinates along ``row``."""
    from hfzarr.faces.manifests import column_values

    return {
        f"{ROW}_{name}" if name in taken or name == ROW else name: Variable((ROW,), values)
        for name, values in column_values(manifest).items()
    }
