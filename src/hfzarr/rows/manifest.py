"""Manifests: tables whose cells are Zarr stores."""

from __future__ import annotations

import bisect
import io
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.rows.cells import cell_text, parse_cell
from hfzarr.rows.columns import mark
from hfzarr.rows.facts import METADATA
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.places import absolute_texts
from hfzarr.rows.selection import ZarrSelection
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Manifest"]

_BATCH = 1024


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Manifest:
    """A table whose rows point to Zarr stores, each a lazy handle or selection.

    Made by `hfzarr.open_manifest` and `hfzarr.scan`. Nothing of a store is read until a handle is
    used. A manifest does not change: slicing and filtering give another, whose rows remember
    which rows of the file they were.

    Parameters
    ----------
    table
        The rows, an Arrow table.
    column
        The column of stores: text (paths and URLs), or the structs of selections.
    base
        Folder or URL that relative paths count from; by default the current folder.
    options
        Options for fsspec, by reference.
    name
        What errors call the table.
    trusted
        Whether the rows may point anywhere, wherever they came from.
    numbers
        Number of each row in what it came from; by default they are counted.
    parts
        Where the rows came from several files: the number of the first row of each, and its name.

    Raises
    ------
    TargetError
        The table has no such column.

    Examples
    --------
    >>> import hfzarr
    >>> stores = ["s3://bucket/a.zarr", "s3://bucket/b.zarr"]
    >>> manifest = hfzarr.open_manifest({"zarr": stores, "label": [0, 1]})
    >>> manifest[1]
    {'zarr': ZarrHandle('s3://bucket/b.zarr'), 'label': 1}
    >>> len(manifest.filter(label=0)), manifest["label"]
    (1, [0, 1])
    """

    table: Any
    column: str
    base: str = ""
    options: StorageOptions = field(default_factory=StorageOptions)
    name: str = "manifest"
    trusted: bool = False
    numbers: npt.NDArray[np.int64] | None = None
    parts: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if self.column not in self.table.schema.names:
            raise TargetError(
                f"{self.name!r} has no column {self.column!r}; it has "
                f"{', '.join(map(repr, self.table.schema.names)) or 'none'}"
            )
        if not self.base:
            object.__setattr__(self, "base", os.getcwd())

    # -- its rows

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self.table.schema.names)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _BATCH):
            for place, row in enumerate(self.table.slice(start, _BATCH).to_pylist(), start):
                yield self._decoded(row, place)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._values(key)
        if isinstance(key, slice):
            return self._taken(np.arange(len(self))[key])
        if isinstance(key, (list, tuple, np.ndarray)) or hasattr(key, "__arrow_c_array__"):
            return self._taken(self._places(np.asarray(key)))
        place = self._place(key)
        return self._decoded(self.table.slice(place, 1).to_pylist()[0], place)

    def _values(self, column: str) -> list[Any]:
        self._check_columns([column])
        if column == self.column:
            return self.handles()
        values: list[Any] = self.table.column(column).to_pylist()
        return values

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.columns:
                raise TargetError(
                    f"{self.name!r} has no column {name!r}; it has "
                    f"{', '.join(map(repr, self.columns))}"
                )

    def _place(self, key: Any) -> int:
        try:
            if isinstance(key, (bool, np.bool_)):
                raise TypeError  # it would be row 0 or 1
            place = operator.index(key)
        except TypeError:
            raise TargetError(
                "rows are chosen by an integer, a slice, a list of integers or a mask, and a "
                f"column by its name; this is a {type(key).__name__}"
            ) from None
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {place} of a manifest of {len(self)} rows")
        return place % len(self)

    def _places(self, key: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if key.ndim != 1 or (key.size and key.dtype.kind not in "biu"):
            raise TargetError(
                f"rows are chosen by a list of integers or a mask, not by {key.dtype} values of "
                f"shape {key.shape}"
            )
        if key.dtype == bool:
            if len(key) != len(self):
                raise TargetError(
                    f"a mask has a value for each row: {len(self)} are wanted, {len(key)} came"
                )
            return np.flatnonzero(key)
        places = key.astype(np.int64)
        outside = places[(places < -len(self)) | (places >= len(self))]
        if len(outside):
            raise IndexError(f"row {outside[0]} of a manifest of {len(self)} rows")
        return np.where(places < 0, places + len(self), places)

    def _taken(self, places: npt.NDArray[Any]) -> Manifest:
        first, count = (int(places[0]), len(places)) if len(places) else (0, 0)
        # A run of rows shares the memory of this table.
        run = bool(np.array_equal(places, np.arange(first, first + count)))
        table = self.table.slice(first, count) if run else self.table.take(places)
        return replace(self, table=table, numbers=self._numbers()[places])

    def _numbers(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self)) if self.numbers is None else self.numbers

    def row_name(self, place: int) -> str:
        """Return how errors name a row: by its number in the file that it came from.

        Examples
        --------
        >>> import hfzarr
        >>> hfzarr.open_manifest(["a.zarr", "b.zarr", "c.zarr"])[1:].row_name(0)
        "row 1 of 'list'"
        """
        number = place if self.numbers is None else int(self.numbers[place])
        part = bisect.bisect_right([first for first, _ in self.parts], number) - 1
        if part < 0:
            return f"row {number} of {self.name!r}"
        first, name = self.parts[part]
        return f"row {number - first} of {name!r}"

    # -- its stores

    def _decoded(self, row: dict[str, Any], place: int) -> dict[str, Any]:
        metadata = row.get(METADATA)
        row[self.column] = self.cell(
            row[self.column], place, metadata if isinstance(metadata, str) else None
        )
        return row

    def cell(
        self, value: Any, place: int = 0, metadata: str | None = None
    ) -> ZarrHandle | ZarrSelection | None:
        """Return what a cell refers to, as if it stood in a row of this manifest.

        Parameters
        ----------
        value
            Text, or the struct of a selection; None stays None.
        place
            Position of the row, which errors of the handle name.
        metadata
            JSON of the store's consolidated metadata, where the row carries it.
        """
        if value is None:
            return None
        return parse_cell(
            value,
            base=self.base,
            options=self.options,
            row=self.row_name(place),
            metadata=metadata,
        )

    def handle(self, index: int) -> ZarrHandle | ZarrSelection | None:
        """Return the store of a row; None where the cell is missing.

        Parameters
        ----------
        index
            Position of the row; negative ones count from the end.

        Raises
        ------
        IndexError
            There is no such row.
        """
        place = self._place(index)
        names = [name for name in (self.column, METADATA) if name in self.columns]
        row = self.table.select(names).slice(place, 1).to_pylist()[0]
        cell: ZarrHandle | ZarrSelection | None = self._decoded(row, place)[self.column]
        return cell

    def handles(self) -> list[ZarrHandle | ZarrSelection | None]:
        """Return the store of each row."""
        names = [name for name in (self.column, METADATA) if name in self.columns]
        rows = self.table.select(names).to_pylist()
        return [self._decoded(row, place)[self.column] for place, row in enumerate(rows)]

    @property
    def stores(self) -> tuple[str | None, ...]:
        """Where each row points, as absolute text; None where the cell is missing."""
        return tuple(self._texts().to_pylist())

    def _absolute(self) -> Any:
        """Return the column of stores with absolute paths."""
        import pyarrow as pa
        import pyarrow.types as pt

        column = self.table.column(self.column)
        if not pt.is_struct(column.type):
            return absolute_texts(column, self.base)
        whole = column.combine_chunks()
        fields = {kind.name: whole.field(kind.name) for kind in whole.type}
        if whole.null_count:
            # field() knows nothing of the cells that are missing, flatten() does.
            fields = dict(zip(fields, whole.flatten(), strict=True))
        fields["path"] = absolute_texts(fields["path"], self.base)
        return pa.StructArray.from_arrays(
            list(fields.values()), fields=list(whole.type), mask=whole.is_null()
        )

    def _texts(self) -> Any:
        import pyarrow as pa
        import pyarrow.types as pt

        column = self._absolute()
        if not pt.is_struct(column.type):
            return column
        texts = [None if cell is None else cell_text(cell) for cell in column.to_pylist()]
        return pa.array(texts, pa.string())

    # -- fewer rows

    def filter(self, predicate: Any = None, /, **equals: Any) -> Manifest:
        """Return the rows that fit.

        Parameters
        ----------
        predicate
            A function of a row (a dictionary, its store a handle) that returns a truth value, or
            an expression of ``pyarrow.compute``.
        **equals
            Column and value; of a list of values, any fits. None fits a cell that is missing.

        Raises
        ------
        TargetError
            A column does not exist, or the predicate is of neither kind.

        Examples
        --------
        >>> import hfzarr
        >>> manifest = hfzarr.open_manifest({"zarr": ["a.zarr", "b.zarr"], "label": ["x", "y"]})
        >>> manifest.filter(label=["x", "z"])["label"]
        ['x']
        >>> manifest.filter(lambda row: row["label"] > "x")["label"]
        ['y']
        """
        from hfzarr.rows.filtering import rows_equal, rows_fitting

        self._check_columns(list(equals))
        found = self
        for name, value in equals.items():
            found = found._taken(rows_equal(found, name, value))
        return found if predicate is None else found._taken(rows_fitting(found, predicate))

    # -- as other things

    def absolute_table(self) -> Any:
        """Return the Arrow table with absolute paths."""
        place = self.columns.index(self.column)
        return self.table.set_column(place, self.column, self._absolute())

    def to_arrow(self) -> Any:
        """Return an Arrow table with absolute paths, its column of stores marked.

        The marker is the one that `datasets` writes, so `open_manifest` and `datasets` know the
        column wherever the table goes.
        """
        return mark(self.absolute_table(), self.column)

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame; the stores are absolute texts."""
        place = self.columns.index(self.column)
        table = self.table.set_column(place, self.column, self._texts())
        frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
        return frame

    def save(self, path: Any, *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the rows to a file, whole or not at all.

        Folders on the way that are not there are made. Stores that lie under the new file's folder
        are named relative to it, all others by their absolute paths. A parquet file keeps every
        type and marks its column of stores, so who has only `datasets` loads it too. In CSV, lists
        are JSON, and selections text; in JSON lines, times are text, and what is no number is null.
        `open_manifest` gives the columns that `scan` made their types back.

        Parameters
        ----------
        path
            A ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` file, here or at a URL.
        storage_options
            Options for fsspec; by default those of the manifest.

        Raises
        ------
        TargetError
            The name has none of these endings, the file would lie in a store, or the name of a
            store is one that no manifest opens, such as one with a line break.
        WriteError
            It could not be written.
        """
        from hfzarr.rows.save import save_table

        given = self.options if storage_options is None else StorageOptions.of(storage_options)
        save_table(self.to_arrow(), self.column, path, given.resolve())

    # -- what makes it a value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        if (self.column, self.columns) != (other.column, other.columns):
            return False
        return self.stores == other.stores and all(
            _same(self.table.column(name), other.table.column(name))
            for name in self.columns
            if name != self.column
        )

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # dask would take slices of one table for the same.
        again, parts = self.__reduce__()
        return again.__qualname__, parts

    def __getattr__(self, name: str) -> Any:
        from hfzarr.rows.habits import no_attribute

        raise no_attribute(self, name)

    def __reduce__(self) -> tuple[Any, ...]:
        import pyarrow as pa

        # Arrow's own pickle of a slice holds all that it was cut from.
        file = io.BytesIO()
        with pa.ipc.new_stream(file, self.table.schema) as writer:
            writer.write_table(self.table)
        rest = (self.options, self.name, self.trusted, self.numbers, self.parts)
        return _unpickled, (file.getvalue(), self.column, self.base, *rest)

    def __repr__(self) -> str:
        from hfzarr.rows.shown import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from hfzarr.rows.shown import as_html

        return as_html(self)

    @property
    def title(self) -> str:
        """What it is, in a line."""
        count = f"{len(self):,} row" + ("" if len(self) == 1 else "s")
        return f"Manifest {hide_secrets(self.name)!r}: {count}, stores in {self.column!r}"


def _unpickled(data: bytes, *rest: Any) -> Manifest:
    import pyarrow as pa

    return Manifest(pa.ipc.open_stream(data).read_all(), *rest)


def _same(one: Any, other: Any) -> bool:
    """Return whether two columns hold the same; what is no number equals itself."""
    import pyarrow.types as pt

    if one.type != other.type:
        return False
    if pt.is_floating(one.type):
        ours, theirs = (np.asarray(column.to_numpy(), dtype=float) for column in (one, other))
        there = np.array_equal(np.asarray(one.is_valid()), np.asarray(other.is_valid()))
        return there and bool(np.array_equal(ours, theirs, equal_nan=True))
    return bool(one.equals(other))
