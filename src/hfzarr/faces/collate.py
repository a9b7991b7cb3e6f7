"""Rows whose cells are stores become batches of pixels."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hfzarr.errors import MissingDependencyError, TargetError
from hfzarr.rows.cells import parse_cell
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.opened import naming_row
from hfzarr.rows.patching import is_length, lengths_by_dim
from hfzarr.rows.selection import ZarrSelection
from hfzarr.run.pool import for_each, for_each_waiting, workers
from hfzarr.store.options import StorageOptions

__all__ = ["ZarrCollator"]

Kind = Literal["numpy", "torch"]
AnyArray = npt.NDArray[Any]

_IN_FLIGHT = 32
_SHOWN = 20
# What a batch may stack besides pixels.
_NUMBERS = (bool, int, float, np.generic, np.ndarray, list, tuple)


class ZarrCollator:
    """Makes batches of rows whose cells are stores: the ``collate_fn`` of a DataLoader.

    A batch is a dict: ``"pixel_values"``, an array of shape ``(rows, *patch)``; ``"labels"``, if
    the rows have a label; and the further columns by their names. Numbers are stacked, everything
    else is a list. The cells of a batch are read at once, on threads; their order is kept.

    Parameters
    ----------
    patch_size
        Pixels of a patch that is drawn at random from each cell: for the last axes, or by
        dimension; a number is for the last two axes. Other axes stay whole. Without it, cells are
        read whole.
    level
        Which level of an image: 0 is the finest, -1 the coarsest, or its name.
    column_name
        Name of the column whose cells are handles, selections (read as they are), or the text of
        either.
    label_column
        Name of the column that becomes ``"labels"``. ``"label"`` may be absent; None for none.
    columns
        Names of further columns to take along.
    array
        Path of the array to read, where cells are groups that hold several.
    seed
        Decides where patches lie, whatever the order in which they are read: those of the n-th
        batch that a collator makes depend on it and on n, so every epoch has others. In a
        DataLoader's worker they depend on the worker's own seed as well, which torch draws anew
        for each epoch, or no two epochs would differ: to repeat a run with workers, call
        ``torch.manual_seed`` first. Without `seed` and `rng`, every run is another.
    rng
        A Generator in place of a seed: one number is drawn from it for each batch.
    to
        ``"torch"`` or ``"numpy"``. By default tensors, if torch is installed and has the data
        type, else arrays.
    edge
        ``"raise"`` refuses a patch that is larger than the array; ``"pad"`` puts `pad_value`
        behind the array's last pixels.
    pad_value
        What lies outside an array, in pixels of `dtype` if that is given.
    dtype
        Data type to convert pixels to, such as ``"float32"``.
    storage_options
        Options for fsspec, for cells that are text.

    Raises
    ------
    TargetError
        An option is out of its range; on use, a cell is empty, or cells do not fit together.
    MissingDependencyError
        Tensors are wanted and torch is not installed.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/heights.zarr"
    >>> _ = zarr.create_array(folder, data=np.arange(48).reshape(6, 8))
    >>> rows = [{"zarr": folder, "label": 3}, {"zarr": folder, "label": 5}]
    >>> batch = ZarrCollator(patch_size=4, seed=0, to="numpy")(rows)
    >>> batch["pixel_values"].shape, batch["labels"].tolist()
    ((2, 4, 4), [3, 5])
    """

    def __init__(
        self,
        patch_size: int | Sequence[int] | Mapping[str, int] | None = None,
        level: int | str = 0,
        label_column: str | None = "label",
        column_name: str = "zarr",
        rng: np.random.Generator | None = None,
        *,
        columns: Sequence[str] = (),
        array: str | None = None,
        seed: int | None = None,
        to: Kind | None = None,
        edge: Literal["raise", "pad"] = "raise",
        pad_value: Any = 0,
        dtype: npt.DTypeLike | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.patch_size = patch_size
        self.level = level
        self.column_name = column_name
        self.label_column = label_column
        self.columns = _names(columns)
        self.array = array
        self.seed = seed
        self.rng = rng
        self.to = to
        self.edge = edge
        self.pad_value = pad_value
        self.dtype = _data_type(dtype)
        self._storage_options = StorageOptions.of(storage_options)
        self._batches = 0
        self._check()

    def __repr__(self) -> str:
        chosen = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("patch_size", "level", "column_name", "seed", "to")
        )
        return f"ZarrCollator({chosen})"

    def __call__(self, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch of some rows.

        Parameters
        ----------
        rows
            Rows as mappings, or one mapping of columns, as ``Dataset.batch`` makes it.

        Raises
        ------
        TargetError
            A column is missing, a cell is empty, shapes or data types differ.
        ReadError
            A chunk could not be fetched or decoded.
        """
        listed = _as_rows(rows)
        cells = self._cells(listed)
        draws = self._draws(len(cells))
        pixels: list[Any] = [None] * len(cells)

        def read(number: int) -> None:
            with naming_row(f"row {number} of the batch"):
                pixels[number] = self._read(cells[number], draws[number])

        _on_threads(read, cells)
        batch: dict[str, Any] = {"pixel_values": self._stacked(pixels, cells)}
        if self.label_column is not None and self._has_labels(listed):
            batch["labels"] = self._values(_column(listed, self.label_column))
        for name in self.columns:
            batch[name] = self._values(_column(listed, name))
        return batch

    def _check(self) -> None:
        if self.to not in (None, "numpy", "torch"):
            raise TargetError(f"to= is 'numpy', 'torch' or None, not {self.to!r}")
        size = self.patch_size
        kinds = (int, np.integer, Sequence, Mapping)
        if size is not None and (isinstance(size, (bool, str)) or not isinstance(size, kinds)):
            raise TargetError(
                "patch_size= is a number of pixels, one for each of the last axes, or one by "
                f"dimension, not {size!r}"
            )
        lengths: list[Any] = list(size.values()) if isinstance(size, Mapping) else [size]
        if isinstance(size, Sequence):
            lengths = list(size)
        if size is not None and not (len(lengths) and all(map(is_length, lengths))):
            raise TargetError(f"patch_size= is in whole pixels from 1 on, not {size!r}")
        if self.array is not None and not isinstance(self.array, str):
            raise TargetError(f"array= is the path of an array in each group, not {self.array!r}")
        if self.edge not in ("raise", "pad"):
            raise TargetError(f"edge= is 'raise' or 'pad', not {self.edge!r}")
        if self.seed is not None and self.rng is not None:
            raise TargetError("seed= and rng= both decide where patches lie: give one of them")
        bad_seed = isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer))
        if self.seed is not None and (bad_seed or self.seed < 0):
            raise TargetError(f"seed= is a whole number from 0 on, not {self.seed!r}")
        if self.rng is not None and not isinstance(self.rng, np.random.Generator):
            raise TargetError(
                f"rng= is a numpy.random.Generator, not a {type(self.rng).__name__}; a number is a "
                "seed="
            )
        taken = {"pixel_values", "labels"} & set(self.columns)
        if taken:
            raise TargetError(f"columns= names {sorted(taken)}, which a batch uses itself: rename")
        if self.to == "torch" and importlib.util.find_spec("torch") is None:
            raise MissingDependencyError(
                "to='torch' needs the package torch: install it, or take to='numpy'"
            )

    def _has_labels(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        # Rows without labels are as good as rows with them, unless a column was named.
        return self.label_column != "label" or any("label" in row for row in rows)

    # --- cells -----------------------------------------------------------------------------------

    def _cells(self, rows: Sequence[Mapping[str, Any]]) -> list[ZarrHandle | ZarrSelection]:
        cells = []
        for number, cell in enumerate(_column(rows, self.column_name)):
            if cell is None:
                raise TargetError(
                    f"row {number} of the batch has nothing in column {self.column_name!r}, so "
                    "there are no pixels. Leave such rows out first, with filter()."
                )
            with naming_row(f"row {number} of the batch"):
                cells.append(parse_cell(cell, options=self._storage_options))
        return cells

    def _read(self, cell: ZarrHandle | ZarrSelection, entropy: list[int]) -> AnyArray:
        if isinstance(cell, ZarrSelection):
            return self._converted(cell.read())
        target, level = self._target(cell)
        if self.patch_size is None:
            return self._converted(target.read(level=level))
        dims = target.dims
        shape = target.store.pixels(target.node, level).shape
        size = lengths_by_dim(self.patch_size, dims, "patch_size")
        wanted = [size.get(dim, length) for dim, length in zip(dims, shape, strict=True)]
        if self.edge == "raise" and any(w > n for w, n in zip(wanted, shape, strict=True)):
            raise TargetError(
                f"a patch of {tuple(wanted)} pixels does not fit into {target!r}, whose shape is "
                f"{shape} ({', '.join(dims)}). Take a smaller one or a finer level, or give "
                "edge='pad'."
            )
        draw = np.random.default_rng(entropy)
        starts = [
            int(draw.integers(0, max(n - w, 0) + 1)) for w, n in zip(wanted, shape, strict=True)
        ]
        key = tuple(
            slice(start, min(start + w, n))
            for start, w, n in zip(starts, wanted, shape, strict=True)
        )
        return self._padded(self._converted(target.read(key, level=level)), tuple(wanted))

    def _target(self, handle: ZarrHandle) -> tuple[ZarrHandle, int | str]:
        """Return the array or image whose pixels are wanted, and which level of it."""
        if self.array is not None and handle.kind != "array":
            handle = handle.array(self.array)
        if handle.kind == "image":
            return handle, self.level
        if handle.kind != "array":
            handle = self._only_array(handle)
        if self.level not in (0, -1):
            raise TargetError(
                f"level={self.level!r} chooses a level of an image, and {handle!r} is a plain "
                "array. Leave level= out."
            )
        return handle, 0

    def _only_array(self, handle: ZarrHandle) -> ZarrHandle:
        if handle.kind == "group":
            arrays = handle.arrays()
            if len(arrays) == 1:
                return arrays[0]
            paths = list(handle.info().arrays)[:_SHOWN]
            raise TargetError(
                f"{handle!r} is a group of {len(arrays)} arrays, {paths}: say which is to be read "
                "with array=."
            )
        raise TargetError(
            f"{handle!r} is a {handle.kind} of several images, and a row is one image: make a row "
            f"of each, or choose one with array=. Members: {handle.keys()[:_SHOWN]}."
        )

    def _padded(self, pixels: AnyArray, shape: tuple[int, ...]) -> AnyArray:
        if pixels.shape == shape:
            return pixels
        try:
            out = np.full(shape, self.pad_value, pixels.dtype)
            # NumPy 1 lets a number that is too large or below 0 wrap around.
            if pixels.dtype.kind in "iu" and out.size and out.flat[0] != self.pad_value:
                raise OverflowError(f"it would become {out.flat[0]}")
        except (OverflowError, TypeError, ValueError) as error:
            raise TargetError(
                f"pad_value={self.pad_value!r} does not go into pixels of {pixels.dtype}: {error}"
            ) from error
        out[tuple(slice(0, n) for n in pixels.shape)] = pixels
        return out

    def _converted(self, pixels: AnyArray) -> AnyArray:
        return pixels if self.dtype is None else pixels.astype(self.dtype, copy=False)

    # --- batches ---------------------------------------------------------------------------------

    def _draws(self, count: int) -> list[list[int]]:
        """Return what decides the draw of each row: numbers that tell batch and row apart."""
        number, self._batches = self._batches, self._batches + 1
        if self.rng is not None:
            base = [int(self.rng.integers(2**63))]
        elif self.seed is not None:
            base = [int(self.seed), number]
        else:
            base = [int(np.random.SeedSequence().generate_state(1, np.uint64)[0])]
        worker = _worker_seed()
        # Workers have copies of this object, which would all draw the same.
        base += [0] if worker is None else [1, worker]
        return [[*base, row] for row in range(count)]

    def _stacked(
        self, pixels: Sequence[AnyArray], cells: Sequence[ZarrHandle | ZarrSelection]
    ) -> Any:
        shapes = [part.shape for part in pixels]
        if len(set(shapes)) > 1:
            raise TargetError(
                f"cells of different shapes make no batch:\n{_listed(shapes, cells)}\n"
                "Draw patches of one size with patch_size=, or put rows of one shape together."
            )
        types = [part.dtype for part in pixels]
        if len(set(types)) > 1:
            raise TargetError(
                f"cells of different data types make no batch:\n{_listed(types, cells)}\n"
                "Name the one to convert to, such as dtype='float32'."
            )
        return self._delivered(np.stack(pixels))

    def _values(self, values: Sequence[Any]) -> Any:
        """Return a column as an array where its values are numbers, else as a list."""
        plain = [v.numpy() if type(v).__module__ == "torch" else v for v in values]
        if not all(isinstance(value, _NUMBERS) for value in plain):
            return list(values)
        try:
            stacked = np.asarray(plain)
        except ValueError:
            return list(values)
        return self._delivered(stacked) if stacked.dtype.kind in "biufc" else list(values)

    def _delivered(self, values: AnyArray) -> Any:
        if self.to == "numpy" or (self.to is None and importlib.util.find_spec("torch") is None):
            return values
        torch = importlib.import_module("torch")
        try:
            return torch.from_numpy(np.require(values, requirements=["C", "W"]))
        except TypeError as error:
            if self.to is None:
                return values
            raise TargetError(
                f"torch has no tensors of {values.dtype}: convert pixels with dtype=, or take "
                "to='numpy'"
            ) from error


def _names(columns: str | Sequence[str]) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else columns
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TargetError(f"columns= are names of columns, not {columns!r}")
    return tuple(names)


def _data_type(dtype: npt.DTypeLike | None) -> np.dtype[Any] | None:
    try:
        return None if dtype is None else np.dtype(dtype)
    except TypeError as error:
        raise TargetError(
            f"dtype= is a data type of NumPy, such as 'float32', not {dtype!r}"
        ) from error


def _as_rows(rows: Any) -> Sequence[Mapping[str, Any]]:
    if _is_mapping(rows):
        lengths = {name: len(values) for name, values in rows.items()}
        if len(set(lengths.values())) > 1:
            raise TargetError(f"a batch of columns has one length, not {lengths}")
        count = next(iter(lengths.values()), 0)
        rows = [{name: rows[name][i] for name in rows} for i in range(count)]
    if not isinstance(rows, Sequence) or not all(map(_is_mapping, rows)):
        raise TargetError(
            "a batch is made of rows (mappings by column) or of one mapping of columns, not of "
            f"{type(rows).__name__}"
        )
    if not rows:
        raise TargetError("a batch is made of one row at least, and there is none")
    return rows


def _is_mapping(value: Any) -> bool:
    # Handles pass for mappings, and asking one for a column would read metadata.
    return isinstance(value, Mapping) and not isinstance(value, (ZarrHandle, ZarrSelection))


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    for number, row in enumerate(rows):
        if name not in row:
            raise TargetError(
                f"row {number} of the batch has no column {name!r}; it has {list(row)[:_SHOWN]}. "
                "Name the right one with column_name=, label_column= or columns=."
            )
    return [row[name] for row in rows]


def _listed(values: Sequence[Any], cells: Sequence[ZarrHandle | ZarrSelection]) -> str:
    lines = [
        f"  row {number}: {value}  {cell!r}"
        for number, (value, cell) in enumerate(zip(values, cells, strict=True))
    ]
    more = len(lines) - _SHOWN
    return "\n".join(lines[:_SHOWN] + ([f"  and {more} more"] if more > 0 else []))


def _on_threads(work: Callable[[int], None], cells: Sequence[ZarrHandle | ZarrSelection]) -> None:
    places = [cell.handle if isinstance(cell, ZarrSelection) else cell for cell in cells]
    if not any("://" in place.url for place in places):
        for_each(work, range(len(cells)), width=workers())
        return
    # Each of these threads waits for a network: as many as there are cores would be few.
    for_each_waiting(work, range(len(cells)), width=_IN_FLIGHT)


def _worker_seed() -> int | None:
    """Return the seed of the DataLoader's worker that this process is, if it is one."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return None if info is None else int(info.seed)
