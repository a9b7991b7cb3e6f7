"""The arrays of a group as Arrow columns: axis 0 is rows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hfzarr.errors import NodeNotFoundError, ReadError, TargetError, UnsupportedError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.report import Report, shorten
from hfzarr.plan.row_shards import Column, RowPlan, plan_rows
from hfzarr.run.pool import for_each, for_each_waiting
from hfzarr.run.read import ArrayReader
from hfzarr.store.connect import connect
from hfzarr.store.finding import Found, find_node
from hfzarr.store.location import Location, join_path
from hfzarr.store.options import StorageOptions

__all__ = ["RowTable", "arrow_array", "open_row_table"]

# The offsets of Arrow's lists and strings are 32 bits wide.
_MOST_VALUES = 2**31 - 1
_PIECE_BYTES = 2**30
_IN_FLIGHT = 32
_NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_TEXT = frozenset(["string", "variable_length_utf8", "fixed_length_utf32", "vlen-utf8"])
_BYTES = frozenset(["bytes", "variable_length_bytes", "vlen-bytes"])
#: Units of NumPy's times, and those of Arrow's that hold them.
_UNITS = {"W": "s", "D": "s", "h": "s", "m": "s", "s": "s", "ms": "ms", "us": "us", "ns": "ns"}
_CALENDAR = {"Y": "s", "M": "s"}


# --- the columns of a group --------------------------------------------------------------------


def open_row_table(
    location: Location,
    *,
    group: str | None = None,
    columns: Sequence[str] | None = None,
    rows: int | None = None,
) -> RowTable:
    """Read the metadata of a group and see its arrays as columns.

    Parameters
    ----------
    location
        The store.
    group
        Path of the group, or of a single array.
    columns
        Paths of the arrays below the group; all those directly in it, if None.
    rows
        Rows of a row shard.

    Raises
    ------
    TargetError
        There are no arrays, or their lengths along axis 0 differ.
    NodeNotFoundError
        There is no such group or array.
    UnsupportedError
        Arrow has no data type for an array.
    """
    found = find_node(location, group or "", report=Report())
    metas = _arrays(found, location, columns)
    _check_lengths(metas, found, named=columns is not None)
    made = tuple(_column(name, meta, found) for name, meta in metas.items())
    length = next(iter(metas.values())).shape[0]
    options = StorageOptions.of(location.storage_options)
    return RowTable(
        location=replace(location, storage_options={}, carried=None),
        options=options,
        metas=tuple(replace(meta, attrs={}) for meta in metas.values()),
        plan=plan_rows(made, length, rows),
    )


def _arrays(
    found: Found, location: Location, columns: Sequence[str] | None
) -> dict[str, ArrayMeta]:
    """Return the arrays that become columns, by the name of their column."""
    hierarchy, node = found.hierarchy, found.node
    if node.kind == "array":
        name = node.path.rpartition("/")[2] or location.name or "data"
        if columns is not None and list(columns) != [name]:
            raise TargetError(
                f"{_named(found)} is a single array, a table of the one column {name!r}; columns= "
                f"names {list(columns)}. Leave it out."
            )
        return {name: _array(found, node.path)}
    if columns is not None:
        names = list(dict.fromkeys(columns))
    else:
        kinds = {path: hierarchy.node(path) for path in hierarchy.children(node.path)}
        below = [path for path, child in kinds.items() if child and child.kind == "array"]
        names = [path.rpartition("/")[2] for path in below]
        if not names:
            raise TargetError(
                f"{_named(found)} holds no arrays that could be columns, but the groups "
                f"{[path.rpartition('/')[2] for path in kinds][:20]}. Name one with group=, or "
                "arrays below them with columns=['group/array', …]."
            )
    paths = {name: join_path(node.path, name) for name in names}
    hierarchy.load(paths.values())
    return {name: _array(found, path) for name, path in paths.items()}


def _array(found: Found, path: str) -> ArrayMeta:
    try:
        meta = found.hierarchy.array(path)
    except UnsupportedError as error:
        remedy = "For a table of the others, name them with columns=."
        raise UnsupportedError(f"{error} {remedy}") from error
    if meta is None:
        parent = path.rpartition("/")[0]
        near = [child.rpartition("/")[2] for child in found.hierarchy.children(parent)]
        raise NodeNotFoundError(
            f"{_named(found)} has no array {path!r}, which columns= names; below {parent or '/'!r} "
            f"there is {near[:20]}"
        )
    return meta


def _named(found: Found) -> str:
    return f"store {found.hierarchy.source.url!r}: {found.node.kind} {found.node.path or '/'!r}"


def _check_lengths(metas: Mapping[str, ArrayMeta], found: Found, *, named: bool) -> None:
    lengths = {name: meta.shape[0] if meta.shape else None for name, meta in metas.items()}
    if len(set(lengths.values())) == 1 and None not in lengths.values():
        return
    wide = max(map(len, lengths), default=0)
    lines = [
        f"  {name:<{wide}}  {'no axis 0' if n is None else f'{n} rows'}"
        for name, n in lengths.items()
    ]
    shared: dict[int, list[str]] = {}
    for name, n in lengths.items():
        if n is not None:
            shared.setdefault(n, []).append(name)
    fits = max(shared.values(), key=len, default=[])
    remedy = f"Name columns that belong together, such as columns={fits}" if fits else ""
    what = "the arrays in columns=" if named else "its arrays"
    raise TargetError(
        f"{_named(found)} is no table: {what} differ in their length along axis 0, which is "
        "rows.\n" + "\n".join(lines) + (f"\n{remedy}." if remedy else "")
    )


def _column(name: str, meta: ArrayMeta, found: Found) -> Column:
    value = _value(meta)
    if value is None:
        raise UnsupportedError(
            f"{_named(found)}: array {name!r} has the data type {meta.dtype}, for which Arrow has "
            "none. Name the others with columns=, or rewrite the array, a complex number or a "
            "record as arrays of its parts."
        )
    inner, file = meta.inner_chunk, meta.write_unit
    size = 32 if meta.dtype.kind in "OT" else meta.dtype.itemsize
    return Column(
        name=name,
        value=value,
        cell=meta.shape[1:],
        row_bytes=math.prod(meta.shape[1:]) * size,
        chunk=_rows(inner, meta),
        file=_rows(file, meta),
    )


def _rows(chunk: tuple[int, ...] | None, meta: ArrayMeta) -> int:
    """Return how many rows a chunk has that is not larger than the array."""
    return 0 if chunk is None else max(min(chunk[0], meta.shape[0]), 1)


def _value(meta: ArrayMeta) -> str | None:
    """Return Arrow's name of a data type, or None where it has none."""
    dtype = meta.dtype
    if dtype.name in _NUMBERS:
        return dtype.name
    if dtype.kind in "Mm":
        unit = _arrow_unit(dtype)
        return unit and f"{'timestamp' if dtype.kind == 'M' else 'duration'}[{unit}]"
    if dtype.kind in "UT":
        return "string"
    if dtype.kind == "S" or (dtype.type is np.void and dtype.names is None):
        return "binary" if dtype.subdtype is None else None
    if dtype.kind == "O":
        words = _type_words(meta.doc)
        return "string" if words & _TEXT else "binary" if words & _BYTES else None
    return None


def _arrow_unit(dtype: np.dtype[Any]) -> str | None:
    unit, _ = np.datetime_data(dtype)
    # A span of months has no length in seconds, a date does.
    return _UNITS.get(unit) or (_CALENDAR.get(unit) if dtype.kind == "M" else None)


def _type_words(doc: Mapping[str, Any]) -> set[str]:
    """Return what the metadata of an array says of objects in it."""
    declared = doc.get("data_type")
    words = {declared.get("name") if isinstance(declared, Mapping) else declared}
    words |= {codec.get("id") for codec in doc.get("filters") or ()}
    return {word for word in words if isinstance(word, str)}


# --- rows --------------------------------------------------------------------------------------


class RowTable:
    """A group whose arrays are columns. It pickles to metadata, and without secrets.

    Parameters
    ----------
    location
        The store, without its options.
    options
        The options.
    metas
        The arrays, as `plan` has them as columns.
    plan
        Where rows are cut.
    """

    def __init__(
        self,
        location: Location,
        options: StorageOptions,
        metas: tuple[ArrayMeta, ...],
        plan: RowPlan,
    ) -> None:
        self.location = location
        self.options = options
        self.metas = metas
        self.plan = plan
        self._opened: tuple[int, list[ArrayReader]] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return RowTable, (self.location, self.options, self.metas, self.plan)

    def __repr__(self) -> str:
        plan = self.plan
        names = [column.name for column in plan.columns]
        return (
            f"RowTable({self.location.shown!r}, {plan.length} rows of {shorten(names)}, "
            f"{len(plan.bounds)} row shards of {plan.shard_rows} rows and {plan.shard_bytes} "
            f"bytes, chunks decoded {plan.cost:.3g} times)"
        )

    def read(self, start: int, stop: int) -> list[npt.NDArray[Any]]:
        """Read some rows of all columns at once, on threads.

        Raises
        ------
        ReadError
            A chunk could not be fetched or decoded.
        """
        readers = self._readers()
        out: list[Any] = [None] * len(readers)

        def read_one(number: int) -> None:
            out[number] = readers[number].read((slice(start, stop),))

        _on_threads(read_one, len(readers), local=readers[0].source.local)
        return out

    def arrow(self, start: int, stop: int) -> Iterator[list[pa.Array]]:
        """Read some rows; yield their columns as Arrow arrays, in pieces that Arrow can address.

        Raises
        ------
        ReadError
            A chunk could not be fetched or decoded, or a value is not of its column's type.
        """
        arrays = self.read(start, stop)
        step = self._piece_rows()
        for first in range(0, stop - start, step):
            yield [
                arrow_array(column, values[first : first + step])
                for column, values in zip(self.plan.columns, arrays, strict=True)
            ]

    def _piece_rows(self) -> int:
        for column in self.plan.columns:
            if math.prod(column.cell) > _MOST_VALUES:
                raise UnsupportedError(
                    f"column {column.name!r}: one cell has the shape {column.cell}, more than the "
                    f"{_MOST_VALUES} values that Arrow takes. Open the store with "
                    'xr.open_dataset(…, engine="hfzarr") instead.'
                )
        return max(_PIECE_BYTES // max(self.plan.row_bytes, 1), 1)

    def _readers(self) -> list[ArrayReader]:
        # A forked process must not share the connections and open files of its parent.
        if self._opened is None or self._opened[0] != os.getpid():
            place = replace(self.location, storage_options=self.options.resolve())
            source = connect(place)
            self._opened = os.getpid(), [ArrayReader(source, meta) for meta in self.metas]
        return self._opened[1]


def _on_threads(work: Callable[[int], None], count: int, *, local: bool) -> None:
    if local or count < 2:
        for_each(work, range(count), width=count)
        return
    # Each of these threads waits for a network: as many as there are cores would be few.
    for_each_waiting(work, range(count), width=_IN_FLIGHT)


def arrow_array(column: Column, values: npt.NDArray[Any]) -> pa.Array:
    """Return rows of a column as an Arrow array; numbers are not copied.

    Parameters
    ----------
    column
        The column.
    values
        Shape ``(rows, *column.cell)``.

    Raises
    ------
    ReadError
        A value is not of the column's type, or a time is beyond what Arrow can say.

    Examples
    --------
    >>> from hfzarr.plan.row_shards import Column
    >>> column = Column(name="a", value="uint8", cell=(2,), row_bytes=2, chunk=1, file=1)
    >>> arrow_array(column, np.array([[1, 2], [3, 4]], "u1")).to_pylist()
    [[1, 2], [3, 4]]
    """
    try:
        out = _leaf(column.value, np.ascontiguousarray(values).reshape(-1))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError) as error:
        raise ReadError(
            f"column {column.name!r} cannot become {column.value!r}: {error}. Leave it out by "
            "naming the others with columns=."
        ) from error
    for axis in range(len(column.cell) - 1, -1, -1):
        count, length = math.prod(values.shape[: axis + 1]), column.cell[axis]
        if column.is_fixed and length:
            out = pa.FixedSizeListArray.from_arrays(out, length)
        else:
            offsets = np.arange(count + 1, dtype="int64") * length
            out = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), out)
    return out


def _leaf(value: str, flat: npt.NDArray[Any]) -> pa.Array:
    if flat.dtype.kind in "Mm":
        return pa.array(_in_unit(flat, value.partition("[")[2].rstrip("]")))
    if value == "string":
        return pa.array(flat.astype(object) if flat.dtype.kind == "T" else flat, pa.string())
    if value == "binary":
        return pa.array(flat.tolist(), pa.binary())
    return pa.array(flat)


def _in_unit(times: npt.NDArray[Any], unit: str) -> npt.NDArray[Any]:
    made = times.astype(f"{times.dtype.kind}8[{unit}]", copy=False)
    if made.dtype != times.dtype:
        lost = ~np.isnat(times) & (made.astype(times.dtype) != times)
        if lost.any():
            raise OverflowError(f"{times[lost][0]!r} is beyond what 64 bits of {unit!r} can hold")
    return made
