"""A variable of one row of a manifest: opened when it is read, and checked then."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import ChangedSourceError
from hfzarr.faces.opening import Options
from hfzarr.rows.opened import naming_row
from hfzarr.rows.selection import ZarrSelection

if TYPE_CHECKING:
    from xarray import Dataset

    from hfzarr.rows.handle import ZarrHandle

    Cell = ZarrHandle | ZarrSelection

__all__ = ["RowOpener", "RowVariable"]

# How many rows stay open, so that shard indexes of those read again and again are kept.
_OPEN_ROWS = 256


class RowOpener:
    """Opens rows as Datasets, all with the same options, and keeps those that were used last.

    Parameters
    ----------
    options, place
        As for `hfzarr.faces.read.dataset`.
    """

    def __init__(self, options: Options, place: Mapping[str, Any]) -> None:
        self._options = options
        self._place = dict(place)
        self._opened: OrderedDict[Cell, Dataset] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return RowOpener, (self._options, self._place)

    def open(self, cell: Cell) -> Dataset:
        """Return a row as a lazy Dataset."""
        with self._lock:
            if cell in self._opened:
                self._opened.move_to_end(cell)
                return self._opened[cell]
        dataset = self._open(cell)
        with self._lock:
            self._opened[cell] = dataset
            if len(self._opened) > _OPEN_ROWS:
                self._opened.popitem(last=False)
        return dataset

    def _open(self, cell: Cell) -> Dataset:
        from hfzarr.faces import read

        if isinstance(cell, ZarrSelection):
            with naming_row(cell.handle.row):
                return cell.to_xarray()
        with naming_row(cell.row):
            return read.dataset(cell, self._options, **self._place)


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
    shape
        Its shape.
    dtype
        Its data type.
    """

    opener: RowOpener
    cell: Cell
    name: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def waits(self) -> bool:
        """Whether a read may wait for a network."""
        handle = self.cell.handle if isinstance(self.cell, ZarrSelection) else self.cell
        return "://" in handle.url

    def read(self, selection: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Read an orthogonal selection of slices and arrays.

        Raises
        ------
        ChangedSourceError
            The store holds something else than when the rows were stacked.
        """
        row = self.cell.handle.row if isinstance(self.cell, ZarrSelection) else self.cell.row
        with naming_row(row):
            variable = self.opener.open(self.cell).variables.get(self.name)
            found = None if variable is None else (variable.shape, variable.dtype)
            if variable is None or found != (self.shape, self.dtype):
                raise ChangedSourceError(
                    f"{self.cell!r} was to hold {self.name!r} of shape {self.shape} and dtype "
                    f"{self.dtype}, and holds {found}. The manifest is older than the store: make "
                    "it anew with hfzarr.scan."
                )
            return np.asarray(variable[selection].values)


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
