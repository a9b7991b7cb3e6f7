"""Whatever holds rows becomes an Arrow table, with the place that it came from."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hfzarr.errors import StoreNotFoundError, TargetError
from hfzarr.model.report import shorten
from hfzarr.rows.dataset_tables import (
    dataset_origin,
    dataset_table,
    import_datasets,
    is_dataset,
    is_dataset_dict,
    load_from_hub,
)
from hfzarr.rows.files import file_format, file_name, local_path, read_file
from hfzarr.rows.folders import table_files
from hfzarr.rows.places import folder_of, is_remote
from hfzarr.rows.records import (
    as_cells,
    cells_options,
    column_of,
    record_columns,
    with_fact_types,
)
from hfzarr.store.hub.paths import HubPlace, parse_hub_url
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions

__all__ = ["FolderOfStores", "Part", "Sourced", "read_source"]

SPLIT = "split"
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(.+))?")
_GLOB = re.compile(r"[*\[]")
# How `datasets` names files of one split: train-00000-of-00004.parquet.
_SPLIT_FILE = re.compile(r"(?P<split>.+?)-\d+(?:-of-\d+)?(?:-[0-9a-f]+)?$")
_SPLIT_NAMES = frozenset(
    ["train", "training", "test", "testing", "val", "valid", "validation", "dev"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one file, or one split.

    Attributes
    ----------
    table
        The rows, an Arrow table.
    name
        What errors call it.
    base
        The folder or URL that its relative paths count from.
    split
        The split that it is, if that is known.
    """

    table: Any
    name: str
    base: str
    split: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourced:
    """Rows, and where they came from.

    Attributes
    ----------
    parts
        The rows, file by file or split by split.
    name
        What errors call the whole.
    origin
        The place that the rows came from; empty where they were made in this process.
    options
        Options for fsspec that the rows brought along.
    """

    parts: tuple[Part, ...]
    name: str
    origin: str = ""
    options: StorageOptions = field(default_factory=StorageOptions)


@dataclass(frozen=True, slots=True)
class FolderOfStores:
    """A folder in which no table was found: its stores are to be looked for."""

    place: str


def read_source(
    source: Any, split: str | None, options: StorageOptions
) -> Sourced | FolderOfStores:
    """Return the rows of a source, of one split if that is named.

    Parameters
    ----------
    source
        See `hfzarr.open_manifest`.
    split
        A split, or None for all rows.
    options
        Options for fsspec.

    Raises
    ------
    TargetError
        The source is of no kind that holds rows, or has no such split.
    StoreNotFoundError
        There is nothing at the place that is named.
    """
    if isinstance(source, (str, os.PathLike)):
        found = _from_place(os.fspath(source), split, options)
        return found if isinstance(found, FolderOfStores) else _chosen(found, split)
    return _chosen(_from_object(source, split), split)


# -- values of this process


def _from_object(source: Any, split: str | None) -> Sourced:
    if is_dataset_dict(source):
        return _from_splits(source, split, "dataset")
    if is_dataset(source):
        return _from_dataset(source, "dataset")
    if (table := _arrow_table(source)) is not None:
        return _in_memory(table, "table")
    if isinstance(source, Mapping) and source and all(_is_column(v) for v in source.values()):
        columns = {str(name): list(values) for name, values in source.items()}
        return _from_columns(columns, "table")
    if isinstance(source, Iterable) and not isinstance(source, (Mapping, bytes)):
        return _from_list(list(source))
    raise TargetError(
        "a manifest is opened from a file, a folder, a URL, the name of a dataset on the Hub, a "
        "Dataset, an Arrow table, a DataFrame, or a list of rows or stores; this is a "
        f"{type(source).__name__}: {shorten(source)}"
    )


def _is_column(values: Any) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, (str, bytes))


def _in_memory(table: Any, name: str, options: StorageOptions | None = None) -> Sourced:
    part = Part(table=table, name=name, base=os.getcwd())
    return Sourced(parts=(part,), name=name, options=options or StorageOptions())


def _from_list(values: list[Any]) -> Sourced:
    from hfzarr.rows.handle import ZarrHandle
    from hfzarr.rows.selection import ZarrSelection

    rows = [
        isinstance(v, Mapping) and not isinstance(v, (ZarrHandle, ZarrSelection)) for v in values
    ]
    if values and any(rows):
        return _from_columns(record_columns(values, "list"), "list")
    import pyarrow as pa

    table = pa.table({"zarr": as_cells(values, "list")})
    return _in_memory(table, "list", cells_options(values))


def _from_columns(columns: Mapping[str, list[Any]], name: str) -> Sourced:
    import pyarrow as pa

    if len({len(values) for values in columns.values()}) > 1:
        lengths = {column: len(values) for column, values in columns.items()}
        raise TargetError(f"the columns differ in length: {lengths}")
    table = pa.table({key: column_of(values, key, name) for key, values in columns.items()})
    return _in_memory(table, name, cells_options(v for each in columns.values() for v in each))


def _arrow_table(source: Any) -> Any:
    """Return what pyarrow, pandas and their like hold as an Arrow table; None for anything else."""
    if "pandas" in sys.modules:
        import pandas as pd

        if isinstance(source, pd.DataFrame):
            return _from_pandas(source)
    if "pyarrow.dataset" in sys.modules:
        import pyarrow.dataset as pads

        if isinstance(source, pads.Dataset):
            return source.to_table()
    if not (hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")):
        return None
    import pyarrow as pa
    import pyarrow.types as pt

    if isinstance(source, pa.Table):
        return source
    if isinstance(source, (pa.Array, pa.ChunkedArray)) and not pt.is_struct(source.type):
        return pa.table({"zarr": source})
    return pa.table(source)


def _from_pandas(frame: Any) -> Any:
    import pyarrow as pa

    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    columns = {}
    for place, name in enumerate(frame.columns):
        series = frame.iloc[:, place]
        if series.dtype == object:
            gone = series.isna()
            values = [None if no else v for v, no in zip(series, gone, strict=True)]
            columns[str(name)] = column_of(values, str(name), "table")
        else:
            column = pa.Array.from_pandas(series)
            large = pa.types.is_large_string(column.type)
            columns[str(name)] = column.cast(pa.string()) if large else column
    return pa.table(columns)


def _from_dataset(dataset: Any, name: str, origin: str = "", split: str = "") -> Sourced:
    origin = origin or dataset_origin(dataset)
    table = dataset_table(dataset)
    part = Part(table=table, name=name, base=origin or os.getcwd(), split=split)
    return Sourced(parts=(part,), name=name, origin=origin)


def _from_splits(
    splits: Mapping[Any, Any], split: str | None, name: str, origin: str = ""
) -> Sourced:
    names = {str(key): dataset for key, dataset in splits.items()}
    _check_split(split, names, name)
    wanted = names if split is None else {split: names[split]}
    found = [_from_dataset(one, key, origin, key) for key, one in wanted.items()]
    if not found:
        raise TargetError(f"the {name} has no splits, so there is no manifest in it")
    # One that came from elsewhere speaks for all: they are checked together.
    origins = [one.origin for one in found if one.origin]
    parts = tuple(part for one in found for part in one.parts)
    remote = [one for one in origins if is_remote(one)]
    return Sourced(parts=parts, name=name, origin=next(iter([*remote, *origins]), ""))


# -- places


def _from_place(text: str, split: str | None, options: StorageOptions) -> Sourced | FolderOfStores:
    if not isinstance(text, str) or not text.strip():
        raise TargetError("the path of a manifest is empty; give a file, a folder or a URL")
    if text.startswith("hf://datasets/") and not _GLOB.search(text):
        place = parse_hub_url(text)
        if not place.path:
            return _from_hub(place, split, options)
    here = local_path(text)
    if here is None:
        return _from_url(text, split, options)
    if os.path.isfile(here):
        return _from_files([here], file_name(here), split, options)
    if os.path.isdir(here):
        return _from_folder(here, split, options)
    if _GLOB.search(here):
        files = sorted(path for path in glob.glob(here, recursive=True) if os.path.isfile(path))
        if files:
            return _from_files(files, file_name(here), split, options)
    found = _HUB_ID.fullmatch(text)
    if found and not file_format(text):
        place = HubPlace(kind="datasets", repo=found[1], revision=found[2])
        return _from_hub(place, split, options)
    remedy = (
        "A pattern of stores is scanned: hfzarr.scan()."
        if _GLOB.search(here)
        else "A dataset of the Hub is named as 'user/name'."
    )
    raise StoreNotFoundError(
        f"there is no file or folder {text!r}, so there is no manifest. Check the path; a relative "
        f"one counts from the current folder. {remedy}"
    )


def _from_hub(place: HubPlace, split: str | None, options: StorageOptions) -> Sourced:
    loaded = load_from_hub(place.repo, split, place.revision, options.resolve())
    if is_dataset_dict(loaded):
        return _from_splits(loaded, None, place.repo, place.url)
    return _from_dataset(loaded, place.repo, place.url, split or "")


def _from_url(url: str, split: str | None, options: StorageOptions) -> Sourced | FolderOfStores:
    if not _GLOB.search(url) and file_format(url):
        return _from_files([url], file_name(url), split, options)
    files = table_files(url, options.resolve())
    if not files and _GLOB.search(url):
        raise StoreNotFoundError(f"no files match {hide_secrets(url)!r}, so there is no manifest")
    if not files:
        return FolderOfStores(url)
    base = "" if _GLOB.search(url) else url.rstrip("/")
    return _from_files(files, file_name(url), split, options, base=base)


def _from_folder(
    folder: str, split: str | None, options: StorageOptions
) -> Sourced | FolderOfStores:
    names = set(os.listdir(folder))
    if names & {"dataset_dict.json", "state.json"} and not names & {"zarr.json", ".zgroup"}:
        saved = import_datasets(f"the folder {folder!r}").load_from_disk(folder)
        if is_dataset_dict(saved):
            return _from_splits(saved, split, file_name(folder))
        return _from_dataset(saved, file_name(folder))
    files = table_files(folder, {})
    if not files:
        return FolderOfStores(folder)
    return _from_files(files, file_name(folder), split, options, base=folder)


def _from_files(
    files: Sequence[str],
    name: str,
    split: str | None,
    options: StorageOptions,
    base: str = "",
) -> Sourced:
    """Return the rows of files, which count from a folder, or each from that which it lies in."""
    splits = {file: _split_of(file) for file in files}
    named = all(splits.values())
    if split is not None and named and split in splits.values():
        files = [file for file in files if splits[file] == split]
    parts = []
    for file in files:
        table = read_file(file, options.resolve())
        if file_format(file) != "parquet":
            table = with_fact_types(table)
        told = splits[file] or ""
        known = told if (named and len(splits) > 1) or split == told else ""
        parts.append(
            Part(table=table, name=file_name(file), base=base or folder_of(file), split=known)
        )
    return Sourced(parts=tuple(parts), name=name, origin=folder_of(files[0]))


def _split_of(file: str) -> str | None:
    """Return the split that a file's name tells, or None.

    Examples
    --------
    >>> _split_of("data/train-00000-of-00002.parquet"), _split_of("index.csv")
    ('train', None)
    """
    stem = file_name(file).split(".")[0]
    if found := _SPLIT_FILE.match(stem):
        return found["split"]
    return stem if stem.lower() in _SPLIT_NAMES else None


# -- splits


def _check_split(split: str | None, names: Iterable[str], name: str) -> None:
    known = sorted(names)
    if split is not None and split not in known:
        raise TargetError(
            f"{name!r} has no split {split!r}; it has {', '.join(map(repr, known)) or 'none'}"
        )


def _chosen(sourced: Sourced, split: str | None) -> Sourced:
    """Return the rows of a split, or all of them with a column that names it."""
    if split is None:
        if not all(part.split for part in sourced.parts):
            return sourced
        return replace(sourced, parts=tuple(_with_split(part) for part in sourced.parts))
    if all(part.split for part in sourced.parts):
        _check_split(split, {part.split for part in sourced.parts}, sourced.name)
        kept = tuple(part for part in sourced.parts if part.split == split)
        return replace(sourced, parts=kept)
    return sourced  # Its column decides, row by row.


def _with_split(part: Part) -> Part:
    import pyarrow as pa

    if SPLIT in part.table.schema.names:
        return part
    return replace(
        part,
        table=part.table.append_column(
            SPLIT, pa.array([part.split] * len(part.table), pa.string())
        ),
    )


def split_rows(table: Any, split: str, name: str) -> Callable[[Any], Any] | Any:
    """Return a mask of the rows whose column ``split`` names a split.

    Raises
    ------
    TargetError
        There is no such column, or no such split in it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if SPLIT not in table.schema.names:
        raise TargetError(
            f"split={split!r} chooses rows by a column 'split', and {name!r} has none; it has "
            f"{', '.join(map(repr, table.schema.names))}"
        )
    texts = table.column(SPLIT).cast(pa.string())
    mask = pc.fill_null(pc.equal(texts, split), False)
    if not pc.any(mask, min_count=0).as_py():
        _check_split(split, {str(text) for text in texts.unique().to_pylist()}, name)
    return mask
