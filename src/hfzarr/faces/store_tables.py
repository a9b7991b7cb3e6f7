"""Stores of a folder, or among listed files, as one Arrow table for each split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfzarr.errors import StoreNotFoundError
from hfzarr.rows.beside import labels_of, merged_metadata
from hfzarr.rows.files import read_file
from hfzarr.rows.places import absolute_texts
from hfzarr.rows.scan import scan
from hfzarr.store.options import StorageOptions
from hfzarr.store.walk import METADATA_FILES

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["StoreTables", "listed_stores", "scanned_stores", "store_of"]

_DEFAULT_SPLIT = "train"
_ORDER = {"train": 0, "validation": 1, "test": 2}
_LABELS = ("label", "zarr_label")
_IN_FOLDER = re.compile(r"(.*?\.zarr)(?:/|$)", re.IGNORECASE)
_ZIP = re.compile(r".*\.(zip|ozx)$", re.IGNORECASE)
_KEYS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTables:
    """The rows of each split, all with the same columns.

    Attributes
    ----------
    tables
        Arrow tables by split; cells are absolute, labels are texts.
    column
        The column of stores.
    labels
        Names of the classes by column, where a column holds labels.
    """

    tables: Mapping[str, pa.Table]
    column: str
    labels: Mapping[str, list[str]]

    def features(self, options: StorageOptions) -> datasets.Features:
        """Return the features to cast the tables to."""
        import datasets

        from hfzarr.faces.feature import Zarr

        schema = next(iter(self.tables.values())).schema.remove_metadata()
        features = datasets.Features.from_arrow_schema(schema)
        features[self.column] = Zarr(storage_options=options)
        for name, classes in self.labels.items():
            features[name] = datasets.ClassLabel(names=classes)
        return features


def scanned_stores(
    folder: str | os.PathLike[str],
    *,
    column: str,
    labels: bool | None,
    merge: bool,
    options: StorageOptions,
) -> StoreTables:
    """Return the stores of a folder or URL, by walking it; see `hfzarr.scan`."""
    manifest = scan(
        folder, column=column, labels=labels, merge=merge, facts=False, storage_options=options
    )
    table = manifest.table
    cells = absolute_texts(table.column(column), manifest.base)
    table = table.set_column(table.schema.names.index(column), column, cells)
    names = [name for name in _LABELS if _holds_folders(table, name, column)]
    return _arranged(_by_split(table), column, names)


def _by_split(table: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each split; those without one are for training."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "split" not in table.schema.names or not pa.types.is_string(
        table.schema.field("split").type
    ):
        return {_DEFAULT_SPLIT: table}
    splits = pc.fill_null(table.column("split"), _DEFAULT_SPLIT)
    rest = table.drop_columns(["split"])
    names = sorted(pc.unique(splits).to_pylist(), key=lambda name: (_ORDER.get(name, 3), name))
    return {name: rest.filter(pc.equal(splits, name)) for name in names}


def _holds_folders(table: pa.Table, name: str, column: str) -> bool:
    """Return whether a column of labels holds names of the folders that stores lie in."""
    import pyarrow as pa

    if name not in table.schema.names or not pa.types.is_string(table.schema.field(name).type):
        return False
    pairs = zip(table.column(name).to_pylist(), table.column(column).to_pylist(), strict=True)
    return all(label is None or f"/{label}/" in cell.replace(os.sep, "/") for label, cell in pairs)


def _arranged(tables: Mapping[str, pa.Table], column: str, names: Sequence[str]) -> StoreTables:
    found = {
        name: {label for table in tables.values() for label in table.column(name).to_pylist()}
        for name in names
    }
    labels = {name: sorted(classes - {None}) for name, classes in found.items()}
    return StoreTables(tables=tables, column=column, labels=labels)


# --- stores among listed files -------------------------------------------------------------------


def store_of(file: str) -> str | None:
    """Return the store that a file belongs to, by its name alone; None where that tells nothing.

    Examples
    --------
    >>> store_of("hf://datasets/user/name/cat/1.ome.zarr/0/c/0/0")
    'hf://datasets/user/name/cat/1.ome.zarr'
    >>> store_of("data/scan/zarr.json"), store_of("data/scan/c/0")
    ('data/scan', None)
    """
    first, chained, outer = file.partition("::")
    if chained and "://" not in first:
        # Such as "simplecache::https://…": the path is in the last link.
        inside = store_of(outer)
        return None if inside is None else f"{first}::{inside}"
    if found := _IN_FOLDER.match(first):
        return f"{found[1]}{chained}{outer}"
    if _ZIP.match(first):
        return file
    folder, _, name = first.rpartition("/")
    return f"{folder}{chained}{outer}" if name in _KEYS and folder else None


def listed_stores(
    files: Mapping[str, Iterable[str]],
    *,
    column: str,
    labels: bool | None,
    merge: bool,
    options: StorageOptions,
) -> StoreTables:
    """Return the stores that listed files belong to, without listing anything.

    Parameters
    ----------
    files
        Paths or URLs of files by split: any of each store, and tables of metadata.
    column
        Name of the column of stores.
    labels, merge
        As for `hfzarr.scan`.
    options
        Options for fsspec, to read the tables of metadata.

    Raises
    ------
    StoreNotFoundError
        No file belongs to a store.
    InvalidMetadataError
        A table of metadata is unsound.
    """
    listed = {
        split: [str(file).replace("\\", "/") for file in some] for split, some in files.items()
    }
    stores = {split: _outermost(some) for split, some in listed.items()}
    stores = {split: some for split, some in stores.items() if some}
    if not stores:
        some = [file for each in listed.values() for file in each][:3]
        raise StoreNotFoundError(
            "no Zarr store among the files that were given, such as "
            f"{some}. A store is known by a folder '*.zarr' on the way, by its 'zarr.json', or by "
            "its being a zip; name such files, or the folder as data_dir=."
        )
    return _described(listed, stores, column, labels, merge, options)


def _outermost(files: Iterable[str]) -> list[str]:
    """Return the stores of files, without those that lie in another."""
    found = {store for file in files if (store := store_of(file)) is not None}
    kept: list[str] = []
    for store in sorted(found, key=lambda text: text.replace("/", "\0")):
        if not (kept and store.startswith(f"{kept[-1]}/")):
            kept.append(store)
    return sorted(kept)


def _described(
    listed: Mapping[str, Sequence[str]],
    stores: Mapping[str, Sequence[str]],
    column: str,
    labels: bool | None,
    merge: bool,
    options: StorageOptions,
) -> StoreTables:
    """Return the stores of each split with their labels and metadata."""
    import pyarrow as pa

    places = [store for some in stores.values() for store in some]
    files = [file for some in listed.values() for file in some if _is_metadata(file)]
    files = list(dict.fromkeys(files)) if merge else []
    folder = _common_folder([*places, *files])
    if labels and "://" not in folder[-4:]:
        # The label of stores that all lie in one folder is its name.
        folder = folder[: folder[:-1].rfind("/") + 1]
    names = [place[len(folder) :] for place in places]
    table = pa.table({column: pa.array(places, pa.string())})
    if files and (told := _told(names, folder, files, column, options)) is not None:
        for name in told.schema.names:
            table = table.append_column(name, told.column(name))
    wanted = False if labels is None and "label" in table.schema.names else labels
    found = labels_of(names, wanted=wanted, splits=len(stores) > 1)
    if found is not None:
        name = _LABELS["label" in table.schema.names]
        table = table.append_column(name, pa.array(found, pa.string()))
    splits, start = {}, 0
    for split, some in stores.items():
        splits[split] = table.slice(start, len(some))
        start += len(some)
    return _arranged(splits, column, [n for n in _LABELS if _holds_folders(table, n, column)])


def _told(
    names: Sequence[str], folder: str, files: Sequence[str], column: str, options: StorageOptions
) -> pa.Table | None:
    """Return what tables of metadata say of stores, row by row."""
    known = options.resolve()
    return merged_metadata(
        names,
        [file[len(folder) :] for file in files],
        lambda name: read_file(folder + name, known),
        column=column,
        others=True,  # a pattern may have left out stores that a table names
    )


def _is_metadata(file: str) -> bool:
    return file.partition("::")[0].rpartition("/")[2] in METADATA_FILES and store_of(file) is None


def _common_folder(files: Sequence[str]) -> str:
    """Return the start that all files have in common, up to a slash."""
    common = os.path.commonprefix(list(files))  # noqa: RUF071 -- commonpath() breaks URLs
    return common[: common.rfind("/") + 1]
