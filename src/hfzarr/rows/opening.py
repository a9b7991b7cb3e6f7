"""A source becomes a manifest whose every row was looked at, and no store opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hfzarr.errors import HfzarrError, TargetError
from hfzarr.rows.cells import SELECTION_FIELDS, selection_type
from hfzarr.rows.columns import find_column
from hfzarr.rows.facts import METADATA, THUMBNAIL, option_types
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.rules import Duplicates, check_rows
from hfzarr.rows.tables import FolderOfStores, Sourced, read_source, split_rows
from hfzarr.store.options import StorageOptions

__all__ = ["open_manifest"]

# What the metadata that rows carry of another column's stores is called.
_OTHERS = "other_metadata"


def open_manifest(
    source: Any,
    column: str | None = None,
    split: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    trusted: bool = False,
    duplicates: Duplicates = "raise",
) -> Manifest:
    """Open a table whose rows point to Zarr stores.

    Every row is checked, by its text alone: no store is opened.

    Parameters
    ----------
    source
        A parquet, CSV or JSON lines file, or several by a glob (``data/train-*.parquet``), a
        folder of parquet files, a folder of stores; each a path or a URL that fsspec opens. A
        dataset on the Hub (``"user/name"``, ``"user/name@revision"``, ``"hf://datasets/…"``). A
        ``Dataset``, ``IterableDataset`` or a dictionary of them. An Arrow table, a DataFrame. A
        list of mappings, or of whatever names a store. What exists here goes before the Hub.
    column
        The column of stores. By default the one that is marked, else the one whose name says so
        (``zarr``, ``store``, ``path``, ``url``, ``file_name``, ``image`` …), else the one whose
        values look like stores. Where another than that is named, a column ``zarr_metadata`` is
        not of its stores, and is called ``other_metadata``.
    split
        One split: a key of a dictionary of datasets, files such as
        ``train-00000-of-00002.parquet``, or the rows with this value in a column ``split``. By
        default all rows; where splits are known, a column ``split`` tells them apart.
    storage_options
        Options for fsspec, for the manifest and its stores.
    trusted
        Lift the rules on where rows may point. A manifest from the Hub or any other machine may
        name relative paths, its own kind of place and public ones (``hf``, ``https``, ``s3``,
        ``gs``, ``az`` …), but nothing of this machine; and no manifest may climb out of its folder
        with ``..``.
    duplicates
        ``"raise"`` refuses a store that two rows name, ``"keep"`` allows it. Different selections
        of one store are no duplicates.

    Returns
    -------
    Manifest
        Relative paths in it count from the folder of the file, from the folder or the dataset on
        the Hub that was named, and from the current folder for tables made in this process.

    Raises
    ------
    StoreNotFoundError
        There is no such file, folder or dataset.
    TargetError
        The source holds no rows of stores, or a row breaks a rule; the message names the row.
    AmbiguousTargetError
        Several columns may be meant.
    MissingDependencyError
        pyarrow is not installed, or `datasets` where the source needs it.

    Examples
    --------
    >>> import hfzarr
    >>> manifest = hfzarr.open_manifest({"image": ["a.ome.zarr", "b.ome.zarr"], "label": [0, 1]})
    >>> len(manifest), manifest.column, manifest[0]["label"]
    (2, 'image', 0)
    """
    if duplicates not in ("raise", "keep"):
        raise TargetError(f"duplicates is 'raise' or 'keep', not {duplicates!r}")
    for what, name in (("column", column), ("split", split)):
        if name is not None and (not isinstance(name, str) or not name):
            raise TargetError(f"{what}= is a name, or None for the default; it is {name!r}")
    if not isinstance(trusted, (bool, np.bool_)):
        raise TargetError(f"trusted= is True or False, not {trusted!r}")
    if isinstance(source, Manifest):
        source = _on_column(source, column, trusted=trusted, duplicates=duplicates)
        return _again(source, split, storage_options)
    options = StorageOptions.of(storage_options)
    found = read_source(source, split, options)
    if isinstance(found, FolderOfStores):
        return _again(_scanned(found.place, column, options), split, None)
    manifest = _manifest(found, column, options or found.options, trusted, duplicates)
    return _of_split(manifest, split) if split and not _is_split(found, split) else manifest


def _is_split(found: Sourced, split: str) -> bool:
    return all(part.split == split for part in found.parts)


def _scanned(place: str, column: str | None, options: StorageOptions) -> Manifest:
    from hfzarr.rows.scan import scan

    return scan(place, column=column or "zarr", facts=False, storage_options=options)


def _on_column(
    manifest: Manifest, column: str | None, *, trusted: bool, duplicates: Duplicates
) -> Manifest:
    """Return a manifest whose stores are another column, which was not looked at before."""
    if column in (None, manifest.column):
        return manifest
    column = find_column(manifest.table, column, name=repr(manifest.name))
    stores = _as_stores(manifest.table.column(column))
    check_rows(
        stores,
        base=manifest.base,
        row=manifest.row_name,
        trusted=trusted or manifest.trusted,
        duplicates=duplicates,
    )
    place = manifest.columns.index(column)
    table = _without_others(manifest.table.set_column(place, column, stores))
    return replace(manifest, table=table, column=column)


def _again(
    manifest: Manifest, split: str | None, storage_options: Mapping[str, Any] | None
) -> Manifest:
    if storage_options is not None:
        manifest = replace(manifest, options=StorageOptions.of(storage_options))
    return manifest if split is None else _of_split(manifest, split)


def _of_split(manifest: Manifest, split: str) -> Manifest:
    chosen: Manifest = manifest[np.asarray(split_rows(manifest.table, split, manifest.name))]
    return chosen


def _manifest(
    found: Sourced,
    column: str | None,
    options: StorageOptions,
    trusted: bool,
    duplicates: Duplicates,
) -> Manifest:
    tables = [part.table for part in found.parts]
    table = tables[0] if len(tables) == 1 else _stacked(tables, found.name)
    _check_shape(table, found.name)
    if not _is_natural(table, column):
        table = _without_others(table)
    column = find_column(table, column, name=repr(found.name))
    table = table.set_column(
        table.schema.names.index(column), column, _as_stores(table.column(column))
    )
    starts = np.cumsum([0, *[len(each) for each in tables[:-1]]]).tolist()
    parts = tuple((start, part.name) for start, part in zip(starts, found.parts, strict=True))
    manifest = Manifest(
        table, column, found.parts[0].base, options, found.name, trusted, None, parts
    )
    bases = {part.base for part in found.parts}
    if len(bases) > 1:
        manifest = _on_one_base(manifest, found, trusted)
    check_rows(
        manifest.table.column(column),
        base=manifest.base,
        row=manifest.row_name,
        origin=found.origin,
        trusted=trusted or len(bases) > 1,
        duplicates=duplicates,
    )
    table = _with_picture_type(manifest.table)
    # What the first part says of its columns, such as the names of classes.
    told = tables[0].schema.metadata
    return replace(manifest, table=table.replace_schema_metadata(told))


def _is_natural(table: Any, column: str | None) -> bool:
    """Return whether a column that was named is the one that would have been found."""
    if column is None or METADATA not in table.schema.names:
        return True
    try:
        return find_column(table) == column
    except HfzarrError:
        # Of several that may be meant, nothing tells whose metadata the rows carry.
        return False


def _without_others(table: Any) -> Any:
    """Return a table whose metadata, which is that of other stores, has another name."""
    name = _OTHERS
    while name in table.schema.names:
        name += "_"
    return table.rename_columns([name if n == METADATA else n for n in table.schema.names])


def _stacked(tables: list[Any], name: str) -> Any:
    import pyarrow as pa

    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TargetError(f"the parts of {name!r} have different columns: {error}") from error


def _check_shape(table: Any, name: str) -> None:
    names = table.schema.names
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise TargetError(f"{name!r} has several columns of the name {twice[0]!r}; rename one")
    if not names or not len(table):
        raise TargetError(f"{name!r} is empty: its columns are {names}, and there are no rows")


def _as_stores(column: Any) -> Any:
    """Return a column of stores in one of its two types."""
    import pyarrow as pa
    import pyarrow.types as pt

    if not pt.is_struct(column.type):
        return column.cast(pa.string())
    if column.type == selection_type():
        return column
    cells = [
        None if cell is None else {name: cell[name] for name in SELECTION_FIELDS}
        for cell in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(cells, selection_type())])


def _with_picture_type(table: Any) -> Any:
    """Return the table with its thumbnails as `datasets` keeps pictures, if they are any."""
    import pyarrow.types as pt

    wanted = option_types()[THUMBNAIL]
    if THUMBNAIL not in table.schema.names:
        return table
    found = table.schema.field(THUMBNAIL).type
    if found == wanted or not pt.is_struct(found):
        return table
    if {each.name for each in found} != {"bytes", "path"} or not pt.is_binary(
        found.field("bytes").type
    ):
        return table
    place = table.schema.names.index(THUMBNAIL)
    return table.set_column(place, THUMBNAIL, table.column(THUMBNAIL).cast(wanted))


def _on_one_base(manifest: Manifest, found: Sourced, trusted: bool) -> Manifest:
    """Return rows of files in several folders with absolute paths, each part checked by itself."""
    import pyarrow as pa

    pieces = []
    for (start, _), part in zip(manifest.parts, found.parts, strict=True):
        rows = manifest[start : start + len(part.table)]
        check_rows(
            rows.table.column(manifest.column),
            base=part.base,
            row=rows.row_name,
            origin=found.origin,
            trusted=trusted,
            duplicates="keep",
        )
        pieces.append(replace(rows, base=part.base).absolute_table())
    return replace(manifest, table=pa.concat_tables(pieces))
