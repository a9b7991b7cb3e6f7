"""Rows of a manifest as one lazy Dataset with a leading dimension ``row``."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Coordinates, Dataset, Variable
from xarray.core import indexing

from hfzarr.errors import AmbiguousTargetError, RepairWarning, TargetError
from hfzarr.faces.diagnosis import DIAGNOSIS_KEY
from hfzarr.faces.opening import Options, user_level
from hfzarr.faces.row_attrs import stacked_attrs
from hfzarr.faces.row_coords import ROW, lengths, stacked_coords
from hfzarr.faces.row_shapes import RowShape, check_alike, shape_of
from hfzarr.faces.row_variable import PaddedVariable, RowOpener, RowVariable
from hfzarr.faces.told_shapes import told_shapes
from hfzarr.faces.variables import StackedArray
from hfzarr.run.pool import for_each_waiting

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["named_cells", "stacked_dataset"]


def stacked_dataset(
    manifest: Manifest,
    columns: Mapping[str, Any],
    options: Options,
    place: Mapping[str, Any],
    *,
    pad: bool = False,
) -> Dataset:
    """Return the rows of a manifest stacked along ``row``, lazily.

    Parameters
    ----------
    manifest
        The rows.
    columns
        What becomes a coordinate along ``row``, by its name.
    options, place
        How each row is opened.
    pad
        Whether to fill shorter rows up to the longest.

    Raises
    ------
    AmbiguousTargetError
        The rows differ in shape, dims, dtype or variables.
    TargetError
        There are no rows, or one has no store.
    """
    cells = named_cells(manifest)
    opener = RowOpener(options, place)
    first = opener.open(cells[0])
    if ROW in first.dims or ROW in first.coords:
        raise AmbiguousTargetError(
            f"the rows of this manifest have a {ROW!r} of their own, and cannot be stacked along "
            "one. Open them as a tree with xr.open_datatree."
        )
    told = told_shapes(manifest, cells, shape_of(first), options, place)
    # The first is open, and known better than it could be told.
    shapes = _opened_where_unknown([None, *told[1:]], cells, opener)
    check_alike(shapes, [manifest.row_name(i) for i in range(len(cells))], pad=pad)
    sizes = {dim: max(row.sizes[dim] for row in shapes) for dim in shapes[0].sizes}
    stack = _Stack(first, cells, shapes, sizes, opener)
    variables = {
        name: stack.variable(
            name, one.dims, stacked_attrs(name, shapes), one.dtype, [True] * len(cells)
        )
        for name, one in first.data_vars.items()
    }
    coords = stacked_coords(first, shapes, sizes, stack.variable) | lengths(shapes, sizes)
    coords |= _along_rows(columns, taken={*variables, *coords, *sizes, ROW})
    return Dataset(variables, coords=Coordinates(coords), attrs=stacked_attrs(None, shapes))


def named_cells(manifest: Manifest) -> list[Any]:
    """Return the handles and selections of all rows.

    Raises
    ------
    TargetError
        There are no rows, or one has no store.
    """
    cells = list(manifest.handles())
    if not cells:
        raise TargetError("the manifest has no rows, so there is nothing to open")
    empty = [i for i, cell in enumerate(cells) if cell is None]
    if empty:
        raise TargetError(
            f"{len(empty)} rows of the manifest name no store, the first of them "
            f"{manifest.row_name(empty[0])}. Leave them out with filter()."
        )
    return cells


def _opened_where_unknown(
    told: Sequence[RowShape | None], cells: Sequence[Any], opener: RowOpener
) -> list[RowShape]:
    """Return what each row looks like: as it was told, or by opening it."""
    found: dict[int, RowShape] = {}
    repaired: list[Any] = []

    def look(i: int) -> None:
        dataset = opener.open(cells[i])
        found[i] = shape_of(dataset)
        diagnosis = dataset.encoding.get(DIAGNOSIS_KEY)
        if diagnosis is not None and any(one.severity != "note" for one in diagnosis.findings):
            repaired.append(cells[i])

    for_each_waiting(look, [i for i, shape in enumerate(told) if shape is None])
    if repaired:
        warnings.warn(
            f"{len(repaired)} of the {len(found)} rows that were opened depart from their "
            f"specification, such as {repaired[0]!r}: .to_xarray().hfzarr.diagnose() of a handle "
            "lists what was made of it; on_invalid='raise' refuses what had to be repaired.",
            RepairWarning,
            stacklevel=user_level(),
        )
    return [shape if shape is not None else found[i] for i, shape in enumerate(told)]


class _Stack:
    """The same variable of all rows, as one."""

    def __init__(
        self,
        first: Dataset,
        cells: Sequence[Any],
        shapes: Sequence[RowShape],
        sizes: Mapping[Hashable, int],
        opener: RowOpener,
    ) -> None:
        self._first = first
        self._rows = [(cell, row, row.sizes) for cell, row in zip(cells, shapes, strict=True)]
        self._sizes = sizes
        self._opener = opener

    def variable(
        self,
        name: Hashable,
        dims: tuple[Hashable, ...],
        attrs: Mapping[str, Any],
        dtype: np.dtype[Any],
        has: Sequence[bool],
    ) -> Variable:
        """Return the variable of a name, with ``row`` in front, lazily."""
        known = dict(self._first.sizes) | dict(self._sizes)
        shape = tuple(known[dim] for dim in dims)
        fill = _fill(dtype)
        grid = np.empty(len(self._rows), dtype=object)
        for i, (cell, row, sizes) in enumerate(self._rows):
            own = tuple(sizes.get(dim, known[dim]) for dim in dims)
            inner = RowVariable(
                opener=self._opener, cell=cell, name=name, told=row, shape=own, dtype=dtype
            )
            padded = PaddedVariable(inner=inner, shape=shape, fill=fill)
            grid[i] = None if not has[i] else inner if own == shape else padded
        data = indexing.LazilyIndexedArray(StackedArray(grid, shape, dtype, fill))
        out = Variable((ROW, *dims), data, attrs, fastpath=True)
        there = self._first.variables.get(name)
        chunks = {} if there is None else there.encoding.get("preferred_chunks", {})
        out.encoding = {"preferred_chunks": {ROW: 1, **chunks}}
        return out


def _fill(dtype: np.dtype[Any]) -> Any:
    """Return what stands where a row has no pixels: what xarray takes for missing, else 0."""
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind in "mM":
        return np.array("NaT", dtype)[()]
    return "" if dtype.kind in "UST" else 0


def _along_rows(columns: Mapping[str, Any], taken: set[Hashable]) -> dict[Hashable, Variable]:
    """Return columns as coordinates, under names that nothing else has."""
    out: dict[Hashable, Variable] = {}
    for name, values in columns.items():
        free = name
        while free in taken or free in out or (free != name and free in columns):
            free = f"{ROW}_{free}"
        out[free] = Variable((ROW,), values)
    return out
