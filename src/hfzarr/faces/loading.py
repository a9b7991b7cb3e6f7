"""Datasets loaded with their columns of stores, and folders of stores as datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfzarr.errors import TargetError
from hfzarr.faces.local_origin import file_folders
from hfzarr.faces.registration import need_datasets
from hfzarr.faces.restoring import has_relative_stores, restore
from hfzarr.rows.places import is_remote
from hfzarr.store.cache.place import split_cache
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import datasets

__all__ = ["load_dataset", "load_from_disk", "load_zarr_dataset", "restore"]

Options = Mapping[str, Any] | StorageOptions | None


def load_dataset(
    *args: Any, storage_options: Options = None, trusted: bool = False, **kwargs: Any
) -> Any:
    """Load a dataset as `datasets.load_dataset` does, with its columns of stores restored.

    Parameters
    ----------
    *args, **kwargs
        As for `datasets.load_dataset`.
    storage_options
        Options for fsspec, for the files of the dataset and for the stores that it names.
    trusted
        Whether stores may lie anywhere. Otherwise a dataset from the Hub, or any other machine,
        may not name places of this one, as with `open_manifest`.

    Returns
    -------
    datasets.Dataset or another
        What `datasets.load_dataset` returns; columns that are marked as stores decode to handles.
        Relative cells count from the root of the repository, a folder here too, and from the
        folder of a file that ``data_files`` names.

    Raises
    ------
    MissingDependencyError
        `datasets` is not installed.
    TargetError
        A row of a dataset from elsewhere names a place of this machine. Where rows are streamed,
        that comes to light as they arrive. Or cells are relative, and files lie in several folders.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("a.zarr", "b.zarr"):
    ...     _ = zarr.create_array(f"{folder}/data/{name}", shape=(4,), dtype="uint8")
    >>> ds = load_dataset("zarrfolder", data_dir=f"{folder}/data", cache_dir=f"{folder}/cache")
    >>> ds["train"][0]["zarr"].name
    'a'
    """
    datasets = need_datasets("hfzarr.load_dataset()")
    options = StorageOptions.of(storage_options)
    plain = split_cache(options.resolve())[0] or None
    loaded = datasets.load_dataset(*args, storage_options=plain, **kwargs)
    folders = file_folders(args, kwargs)
    if isinstance(loaded, Mapping):
        kind: Any = type(loaded)
        return kind({n: _from_files(d, n, folders, options, trusted) for n, d in loaded.items()})
    return _from_files(loaded, str(loaded.split or ""), folders, options, trusted)


def _from_files(
    dataset: Any,
    split: str,
    folders: Mapping[str, frozenset[str]],
    options: StorageOptions,
    trusted: bool,
) -> Any:
    """Return a dataset whose relative cells count from the folder of its files."""
    names = {part.partition("[")[0].strip() for part in split.split("+")} | {""}
    found = frozenset().union(*(folders[name] for name in names if name in folders))
    if len(found) == 1:
        return restore(dataset, options, trusted=trusted, origin=next(iter(found)))
    if len(found) > 1 and has_relative_stores(dataset):
        raise TargetError(
            "the dataset names stores by relative paths, and its files lie in several folders, "
            f"{sorted(found)[:5]}, so that nothing says which one they count from. Load the files "
            "one by one, or say it: hfzarr.restore(datasets.load_dataset(…), origin=…)"
        )
    return restore(dataset, options, trusted=trusted)


def load_from_disk(
    dataset_path: str | os.PathLike[str],
    *args: Any,
    storage_options: Options = None,
    trusted: bool = False,
    **kwargs: Any,
) -> Any:
    """Load what `save_to_disk` wrote, with its columns of stores restored.

    Parameters
    ----------
    dataset_path, *args, **kwargs
        As for `datasets.load_from_disk`.
    storage_options
        Options for fsspec, for the dataset and for the stores that it names.
    trusted
        Whether stores may lie anywhere, if the dataset lies on another machine.

    Returns
    -------
    datasets.Dataset or datasets.DatasetDict
        The dataset.

    Raises
    ------
    MissingDependencyError
        `datasets` is not installed.
    TargetError
        `dataset_path` is no path, or a row of a dataset from elsewhere names a place of this
        machine.
    """
    if not isinstance(dataset_path, (str, os.PathLike)):
        raise TargetError(f"dataset_path is a folder or a URL, not {dataset_path!r}")
    datasets = need_datasets("hfzarr.load_from_disk()")
    options = StorageOptions.of(storage_options)
    plain = split_cache(options.resolve())[0] or None
    loaded = datasets.load_from_disk(dataset_path, *args, storage_options=plain, **kwargs)
    place = os.fspath(dataset_path)
    return restore(loaded, options, trusted=trusted, origin=place if is_remote(place) else None)


def load_zarr_dataset(
    data_dir: str | os.PathLike[str],
    *,
    column: str = "zarr",
    drop_labels: bool | None = None,
    drop_metadata: bool | None = None,
    split: str | None = None,
    storage_options: Options = None,
) -> Any:
    """Make a dataset of a folder of stores, one row for each, in memory.

    The folder is walked and no store looked into, so that it costs as much as there are stores,
    however many chunks they have.

    Parameters
    ----------
    data_dir
        A folder or an fsspec URL.
    column
        Name of the column of stores.
    drop_labels
        True for no labels from the names of folders, False for labels in any case. By default
        there are some where stores lie in several folders, all at one depth.
    drop_metadata
        Whether to leave files ``metadata.csv``, ``.jsonl`` and ``.parquet`` unread.
    split
        One split, several as ``"train+test"``, or ``"all"``. Folders named ``train``,
        ``validation`` and ``test`` are splits; without them, everything is ``train``, one
        dataset.
    storage_options
        Options for fsspec.

    Returns
    -------
    datasets.Dataset or datasets.DatasetDict
        What was asked for; without ``split``, all splits where there are several.

    Raises
    ------
    MissingDependencyError
        `datasets` is not installed.
    StoreNotFoundError
        There is no such folder, or no store in it.
    TargetError
        There is no such split.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("cat/1.zarr", "dog/2.zarr"):
    ...     _ = zarr.create_array(f"{folder}/{name}", shape=(4, 6), dtype="uint8")
    >>> ds = load_zarr_dataset(folder)
    >>> ds.features["label"].names, ds[1]["zarr"].shape
    (['cat', 'dog'], (4, 6))
    """
    datasets = need_datasets("hfzarr.load_zarr_dataset()")
    from datasets.table import InMemoryTable, cast_table_to_features

    from hfzarr.faces.store_tables import scanned_stores

    options = StorageOptions.of(storage_options)
    stores = scanned_stores(
        data_dir,
        column=column,
        labels=None if drop_labels is None else not drop_labels,
        merge=not drop_metadata,
        options=options,
    )
    features = stores.features(options)
    made = datasets.DatasetDict()
    for name, table in stores.tables.items():
        info = datasets.DatasetInfo(features=features.copy())
        rows = InMemoryTable(cast_table_to_features(table, features))
        made[name] = datasets.Dataset(rows, info=info, split=datasets.NamedSplit(name))
    if split is None:
        # Without folders for splits there is nothing to choose from.
        return made if len(made) > 1 else next(iter(made.values()))
    return _chosen(made, str(split))


def _chosen(splits: datasets.DatasetDict, wanted: str) -> datasets.Dataset:
    """Return one dataset of the splits that a text names."""
    import datasets

    names = list(splits) if wanted == "all" else [name.strip() for name in wanted.split("+")]
    unknown = [name for name in names if name not in splits]
    if unknown:
        raise TargetError(
            f"there is no split {unknown[0]!r}; there are {list(splits)}. Name one, several as "
            "'train+test', or 'all'; for some of its rows, slice the dataset: ds.select(range(10))"
        )
    if len(names) == 1:
        return splits[names[0]]
    return datasets.concatenate_datasets(
        [splits[name] for name in names], split=datasets.NamedSplit("+".join(names))
    )
