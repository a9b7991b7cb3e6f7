"""What lies beside stores and says more of them: names of folders, and tables of metadata."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfzarr.errors import AmbiguousTargetError, HfzarrError, TargetError
from hfzarr.model.report import shorten
from hfzarr.rows.places import climbs, is_absolute

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["labels_of", "merged_metadata", "splits_of"]

# Names of folders, as `datasets` knows them (its word "dev" is for "validation" too).
_SPLITS = {
    **dict.fromkeys(["train", "training"], "train"),
    **dict.fromkeys(["validation", "valid", "val", "dev"], "validation"),
    **dict.fromkeys(["test", "testing", "eval", "evaluation"], "test"),
}
_SUFFIX = re.compile(r"(?i)(\.ome)?(\.zarr)?(\.zip|\.ozx)?$")
_NAMING = "file_name"
_SHOWN = 5


def splits_of(stores: Sequence[str], *, wanted: bool | None = None) -> list[str | None] | None:
    """Return the split of each store by the first folder on its way that is named like one.

    Parameters
    ----------
    stores
        Paths of stores, relative to what was scanned.
    wanted
        True for splits in any case, False for none. By default there are some where every store
        has one, or a folder for training is among them.

    Examples
    --------
    >>> splits_of(["data/train/cat/1.zarr", "data/val/cat/2.zarr"])
    ['train', 'validation']
    """
    if wanted is False:
        return None
    found = [_split_of(store) for store in stores]
    clear = None not in found or "train" in found
    return found if wanted or (clear and found) else None


def _split_of(store: str) -> str | None:
    folders = store.split("/")[:-1]
    return next((_SPLITS[name.lower()] for name in folders if name.lower() in _SPLITS), None)


def labels_of(
    stores: Sequence[str], *, wanted: bool | None = None, splits: bool = False
) -> list[str | None] | None:
    """Return the name of the folder that each store lies in.

    Parameters
    ----------
    stores
        Paths of stores, relative to what was scanned.
    wanted
        True for labels in any case, False for none. By default there are some where stores lie in
        several folders, all at one depth, and none directly in what was scanned.
    splits
        Whether folders such as ``train`` are splits, which are no labels.

    Examples
    --------
    >>> labels_of(["cat/1.zarr", "dog/2.zarr"])
    ['cat', 'dog']
    """
    if wanted is False:
        return None
    folders = [_label_folders(store, splits=splits) for store in stores]
    found = [names[-1] if names else None for names in folders]
    clear = None not in found and len(set(found)) > 1 and len({len(f) for f in folders}) == 1
    return found if wanted or clear else None


def _label_folders(store: str, *, splits: bool) -> list[str]:
    """Return the folders on the way to a store that may be labels: those below its split."""
    folders = store.split("/")[:-1]
    if splits:
        at = next((i for i, name in enumerate(folders) if name.lower() in _SPLITS), -1)
        return folders[at + 1 :]
    return folders


# --- tables of metadata ---------------------------------------------------------------------------


def merged_metadata(
    stores: Sequence[str],
    files: Sequence[str],
    read: Callable[[str], pa.Table],
    *,
    column: str = "zarr",
    others: bool = False,
) -> pa.Table | None:
    """Return what tables of metadata say of each store: a row per store, nulls where nothing is.

    A table names stores in a column ``file_name`` (or ``zarr_file_name``, or another that ends so),
    by their path from the folder that the table lies in, with or without the suffix.

    Parameters
    ----------
    stores
        Paths of stores, relative to what was scanned.
    files
        Paths of the tables (``metadata.csv``, ``.jsonl``, ``.parquet``), alike.
    read
        Returns the rows of such a file.
    column
        Name of the column of stores to be, which no table may have.
    others
        Whether tables may name stores that are not among ``stores``.

    Raises
    ------
    TargetError
        A table cannot be read, or a row names a store that is not there, that lies outside, or
        that another row names; the message names file and row.
    AmbiguousTargetError
        Several stores or columns may be meant.

    Examples
    --------
    >>> import pyarrow as pa
    >>> told = {"metadata.csv": pa.table({"file_name": ["2"], "age": [34]})}
    >>> merged_metadata(["1.zarr", "2.zarr"], list(told), told.get).to_pydict()
    {'age': [None, 34]}
    """
    names = _names_of(stores)
    tables: dict[str, pa.Table] = {}
    rows: dict[int, tuple[str, int]] = {}
    for file in files:
        table = _table_of(file, read)
        naming = _naming_column(file, table.schema.names, column)
        for row, told in enumerate(table.column(naming).to_pylist()):
            index = _find(told, file, row, names, naming=naming, others=others)
            if index is not None:
                _refuse_second(stores[index], rows.setdefault(index, (file, row)), (file, row))
        tables[file] = table.drop_columns([naming])
    return _in_order(tables, rows, len(stores)) if tables else None


def _names_of(stores: Sequence[str]) -> dict[str, list[int]]:
    """Return which stores each name may mean; a store's full path means nothing else."""
    names: dict[str, list[int]] = {}
    for index, store in enumerate(stores):
        bare = {posixpath.splitext(store)[0], _SUFFIX.sub("", store)} - {store}
        for name in bare:
            names.setdefault(name, []).append(index)
    return {**names, **{store: [index] for index, store in enumerate(stores)}}


def _find(
    told: Any,
    file: str,
    row: int,
    names: Mapping[str, list[int]],
    *,
    naming: str,
    others: bool,
) -> int | None:
    """Return the store that a row names; None for one of others."""
    where = f"row {row} of {file!r}"
    if isinstance(told, int) and not isinstance(told, bool):
        # Names that are all numerals were read as numbers, and are written as they were.
        told = str(told)
    if not isinstance(told, str) or not told.strip():
        raise TargetError(
            f"{where}: {naming} is {told!r}; it names a store, such as 'images/a.zarr'. "
            "Fill it in, or drop the row."
        )
    if is_absolute(told) or climbs(told):
        way = "is absolute" if is_absolute(told) else "climbs out of it"
        raise TargetError(
            f"{where}: {naming} is {shorten(told)}, a path relative to the folder that the table "
            f"lies in is wanted, and this one {way}. Name a store beside or below the table."
        )
    folder = posixpath.dirname(file)
    path = posixpath.normpath(posixpath.join(folder, told.replace("\\", "/")))
    found = names.get(path, [])
    if len(found) > 1:
        raise AmbiguousTargetError(
            f"{where}: {naming} is {shorten(told)}, which {len(found)} stores may be: give the "
            "suffix too"
        )
    if not found and not others:
        raise TargetError(
            f"{where}: {naming} is {shorten(told)}, and there is no store {path!r}; there are "
            f"{_some(names, folder)}. Mend the row or drop it, or scan with merge=False."
        )
    return found[0] if found else None


def _some(names: Collection[str], folder: str) -> str:
    start = f"{folder}/" if folder else ""
    near = sorted(name for name in names if name.startswith(start)) or sorted(names)
    return str(near[:_SHOWN]) + (" and more" if len(near) > _SHOWN else "")


def _refuse_second(store: str, first: tuple[str, int], second: tuple[str, int]) -> None:
    if first != second:
        raise TargetError(
            f"row {second[1]} of {second[0]!r} and row {first[1]} of {first[0]!r} both name the "
            f"store {store!r}. Keep one of them."
        )


def _naming_column(file: str, columns: Sequence[str], column: str) -> str:
    twins = sorted({name for name in columns if columns.count(name) > 1})
    if twins or column in columns:
        problem = f"has several columns {twins[0]!r}" if twins else f"has a column {column!r}"
        remedy = "rename them" if twins else "rename it, or give another name as column="
        raise TargetError(f"{file!r} {problem}: {remedy}")
    for name in (_NAMING, f"{column}_{_NAMING}", f"zarr_{_NAMING}"):
        if name in columns:
            return name
    found = [name for name in columns if name.endswith(f"_{_NAMING}")]
    if len(found) > 1:
        raise AmbiguousTargetError(
            f"{file!r} has the columns {found}, each of which may name the stores: call the one "
            f"that does {_NAMING!r}"
        )
    if not found:
        raise TargetError(
            f"{file!r} has no column {_NAMING!r} that names the store of each row; it has "
            f"{list(columns)}. Add it, or scan with merge=False."
        )
    return found[0]


def _table_of(file: str, read: Callable[[str], pa.Table]) -> pa.Table:
    try:
        return read(file).replace_schema_metadata(None)
    except HfzarrError as error:
        raise type(error)(f"{file!r}: {error} (merge=False scans without it)") from error


def _in_order(
    tables: Mapping[str, pa.Table], rows: Mapping[int, tuple[str, int]], count: int
) -> pa.Table:
    """Return the rows of all tables in the order of the stores."""
    import pyarrow as pa

    try:
        whole = pa.concat_tables(tables.values(), promote_options="permissive")
    except pa.ArrowException as error:
        raise TargetError(
            f"the tables {list(tables)} differ in the types of their columns ({error}): give each "
            "column one type"
        ) from error
    starts, start = {}, 0
    for file, table in tables.items():
        starts[file], start = start, start + len(table)
    at = [starts[rows[i][0]] + rows[i][1] if i in rows else None for i in range(count)]
    if not whole.num_columns:
        return pa.table({})
    return whole.take(pa.array(at, pa.int64()))
