"""A variable of one row of a manifest: opened when it is read, and checked then."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import ChangedSourceError, TargetError
from hfzarr.faces.diagnosis import DIAGNOSIS_KEY
from hfzarr.faces.opening import Options
from hfzarr.faces.row_shapes import RowShape, shape_of
from hfzarr.rows.opened import naming_row
from hfzarr.rows.selection import ZarrSelection

if TYPE_CHECKING:
    from xarray import Dataset

    from hfzarr.rows.handle import ZarrHandle

    Cell = ZarrHandle | ZarrSelection

__all__ = ["ARRAY", "PaddedVariable", "RowOpener", "RowVariable", "handle_of"]

#: Name of the variable of rows that are arrays, whose own names are those of their stores.
ARRAY = "array"
# How many rows stay open, so that shard indexes of those read again and again are kept.
_OPEN_ROWS = 2048
# Of zips far fewer: each keeps a file open, of which a process may have some thousand.
_OPEN_ZIPS = 256


def handle_of(cell: Cell) -> ZarrHandle:
    """Return the handle of a cell, or the one that a selection is of."""
    return cell.handle if isinstance(cell, ZarrSelection) else cell


class RowOpener:
    """Opens rows as Datasets, all with the same options, and keeps those that were used last.

    Parameters
    ----------
    options, place
        As for `hfzarr.faces.read.dataset`.

    Raises
    ------
    TargetError
        A row is a selection, which names a level of its own, and the options choose one.
    """

    def __init__(self, options: Options, place: Mapping[str, Any]) -> None:
        self._options = replace(options, quiet=True)
        self._place = dict(place)
        self._opened: OrderedDict[Cell, Dataset] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return RowOpener, (self._options, self._place)

    def open(self, cell: Cell, told: RowShape | None = None) -> Dataset:
        """Return a row as a lazy Dataset.

        Raises
        ------
        ChangedSourceError
            It is not what the manifest tells of it.
        """
        with self._lock:
            if cell in self._opened:
                self._opened.move_to_end(cell)
                return self._opened[cell]
        with naming_row(handle_of(cell).row):
            dataset = self._open(cell)
            departs = told.departs(shape_of(dataset)) if told is not None else ""
            if departs:
                raise ChangedSourceError(
                    f"{cell!r} is not what the manifest tells of it: {departs}. The store has "
                    "changed since, or the manifest is wrong: make it anew with hfzarr.scan."
                )
        with self._lock:
            self._opened[cell] = dataset
            zipped = handle_of(cell).url.lower().endswith((".zip", ".ozx"))
            most = _OPEN_ZIPS if zipped else _OPEN_ROWS
            while len(self._opened) > most:
                self._opened.popitem(last=False)
        return dataset

    def _open(self, cell: Cell) -> Dataset:
        from hfzarr.faces import read

        options = self._options
        if not isinstance(cell, ZarrSelection):
            dataset = read.dataset(cell, options, **self._place)
            return (
                _one_name(dataset) if dataset.encoding[DIAGNOSIS_KEY].kind == "array" else dataset
            )
        chosen = (options.level, options.image, self._place.get("group"))
        if any(one is not None for one in chosen):
            raise TargetError(
                "level=, image= and group= choose something in a store, and this row is a "
                f"selection, {cell!r}, which names its own. Leave them out."
            )
        # What a handle looked at stays with it, and the handles of all rows stay.
        own = replace(cell, handle=replace(cell.handle))
        dataset = own.to_xarray(**options.decoders)
        kept = dataset.drop_vars([n for n in options.drop_variables if n in dataset.variables])
        return kept if cell.level else _one_name(kept)


def _one_name(dataset: Dataset) -> Dataset:
    """Return the Dataset of one array under a name that all rows share."""
    if not dataset.data_vars and dataset.coords:
        dataset = dataset.reset_coords([next(iter(dataset.coords))])
    names = list(dataset.data_vars)
    if len(names) != 1 or ARRAY in dataset.coords or ARRAY in dataset.dims:
        return dataset
    return dataset.rename_vars({names[0]: ARRAY})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowVariable:
    """A variable of one row, of which selections can be read.

    Attributes
    ----------
    opener
        Opens the row.
    cell
        The row's handle or selection.
    name
        The variable in the row's Dataset.
    told
        What the row was found or told to look like when rows were stacked.
    shape
        The variable's shape.
    dtype
        Its data type.
    """

    opener: RowOpener
    cell: Cell
    name: Any
    told: RowShape
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def waits(self) -> bool:
        """Whether a read may wait for a network."""
        return "://" in handle_of(self.cell).url

    def read(self, selection: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Read an orthogonal selection of slices and arrays.

        Raises
        ------
        ChangedSourceError
            The store holds something else than when the rows were stacked.
        """
        dataset = self.opener.open(self.cell, self.told)
        with naming_row(handle_of(self.cell).row):
            variable = dataset.variables.get(self.name)
            if variable is None or variable.shape != self.shape:
                there = "is not there" if variable is None else f"is {variable.shape}"
                raise ChangedSourceError(
                    f"{self.cell!r} was to have {self.name!r} with shape {self.shape}, like the "
                    f"first row, and it {there}"
                )
            return np.asarray(variable[selection].values).astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaddedVariable:
    """A variable of one row, with a fill value behind its last pixels.

    Attributes
    ----------
    inner
        The variable.
    shape
        The shape that it is given, no smaller along any axis.
    fill
        What stands where the row has no pixels.
    """

    inner: RowVariable
    shape: tuple[int, ...]
    fill: Any

    @property
    def waits(self) -> bool:
        """Whether a read may wait for a network."""
        return self.inner.waits

    def read(self, selection: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Read an orthogonal selection of slices and arrays."""
        places = [np.arange(n)[part] for n, part in zip(self.shape, selection, strict=True)]
        out = np.full([len(some) for some in places], self.fill, self.inner.dtype)
        there = [np.flatnonzero(p < n) for p, n in zip(places, self.inner.shape, strict=True)]
        if all(len(some) for some in there):
            wanted = tuple(_as_slice(some[kept]) for some, kept in zip(places, there, strict=True))
            out[np.ix_(*there)] = self.inner.read(wanted)
        return out


def _as_slice(places: npt.NDArray[np.intp]) -> slice | npt.NDArray[np.intp]:
    """Return increasing neighbours as a slice, which is read faster than an array."""
    first, last = int(places[0]), int(places[-1])
    if last - first + 1 == len(places) and bool((np.diff(places) == 1).all()):
        return slice(first, last + 1)
    return places
