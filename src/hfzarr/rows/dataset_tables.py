"""Datasets of the library `datasets` as Arrow tables, undecoded, and where they came from."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from hfzarr.errors import MissingDependencyError, ReadError, StoreNotFoundError, TargetError
from hfzarr.rows.places import folder_of, is_remote
from hfzarr.rows.records import column_of, record_columns

__all__ = [
    "dataset_origin",
    "dataset_table",
    "import_datasets",
    "is_dataset",
    "is_dataset_dict",
    "load_from_hub",
]

_BATCH = 1000
_HUB_FILE = re.compile(r"(hf://datasets/[^/]+/[^/]+)")
# The library's cache names a dataset of the Hub user___name, and configuration, version and commit
# below that.
_HUB_CACHE = re.compile(
    r"[/\\]([^/\\]+?)___([^/\\]+)[/\\][^/\\]+[/\\]\d+\.\d+\.\d+[/\\](?:([0-9a-f]{40})[/\\])?"
)


def is_dataset(value: Any) -> bool:
    """Return whether a value is a ``Dataset`` or an ``IterableDataset``; imports nothing."""
    if "datasets" not in sys.modules:
        return False
    import datasets

    return isinstance(value, (datasets.Dataset, datasets.IterableDataset))


def is_dataset_dict(value: Any) -> bool:
    """Return whether a value is a ``DatasetDict`` or an ``IterableDatasetDict``."""
    if "datasets" not in sys.modules:
        return False
    import datasets

    return isinstance(value, (datasets.DatasetDict, datasets.IterableDatasetDict))


def dataset_table(dataset: Any) -> Any:
    """Return the rows of a dataset as an Arrow table, as they are kept: nothing is decoded."""
    import datasets
    import pyarrow as pa

    if isinstance(dataset, datasets.Dataset):
        return _with_features(dataset.with_format("arrow")[:], dataset.features)
    if dataset.features is None:
        # Through map() a stream has lost what it knew of its columns. As Arrow, each row has types
        # of its own then, which no table can hold.
        columns = record_columns(dataset.with_format(None), "dataset")
        return pa.table({key: column_of(cells, key, "dataset") for key, cells in columns.items()})
    batches = list(dataset.with_format("arrow").iter(batch_size=_BATCH))
    if not batches:
        return dataset.features.arrow_schema.empty_table()
    return _with_features(pa.concat_tables(batches, promote_options="permissive"), dataset.features)


def _with_features(table: Any, features: Any) -> Any:
    known = {**(table.schema.metadata or {}), **(features.arrow_schema.metadata or {})}
    return table.replace_schema_metadata(known)


def dataset_origin(dataset: Any) -> str:
    """Return the folder or URL that a dataset was loaded from; "" if nothing tells.

    What is known of a dataset says little of its origin: the files that it streams, those that
    were downloaded for it, its place in the cache, which names a dataset of the Hub, and what its
    columns of stores count from.
    """
    told = [*_streamed(getattr(dataset, "_ex_iterable", None))]
    info = getattr(dataset, "info", None)
    told += [str(url) for url in getattr(info, "download_checksums", None) or ()]
    for place in told:
        if found := _HUB_FILE.match(place):
            return found[1]
        if is_remote(place):
            return folder_of(place)
    for file in getattr(dataset, "cache_files", None) or ():
        if found := _HUB_CACHE.search(str(file.get("filename", ""))):
            pinned = f"@{found[3]}" if found[3] else ""
            return f"hf://datasets/{found[1]}/{found[2]}{pinned}"
    return _base(getattr(dataset, "features", None) or {})


def _base(features: Mapping[str, Any]) -> str:
    """Return what columns of stores count from, if that is one place."""
    bases = {each.base for each in features.values() if type(each).__name__ == "Zarr"}
    return bases.pop() if len(bases) == 1 else ""


def _streamed(source: Any, depth: int = 0) -> Iterator[str]:
    """Yield every file that a chain of streaming steps begins with."""
    if source is None or depth > 100:
        return
    yield from _texts(getattr(source, "kwargs", None))
    below = getattr(source, "ex_iterables", None) or [getattr(source, "ex_iterable", None)]
    for one in below:
        yield from _streamed(one, depth + 1)


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < 5 and is_dataset(value):
        if origin := dataset_origin(value):
            yield f"{origin}/"
    elif depth < 5 and isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one, depth + 1)


def import_datasets(what: str) -> Any:
    """Return the library `datasets`, which something needs.

    Parameters
    ----------
    what
        Whatever needs it, for the error.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise MissingDependencyError(
            f'{what} needs the library `datasets`. Install it: pip install "hfzarr[datasets]"'
        ) from error
    return datasets


def load_from_hub(
    name: str, split: str | None, revision: str | None, options: Mapping[str, Any]
) -> Any:
    """Return a dataset of the Hub, or a dictionary of its splits.

    Parameters
    ----------
    name
        As in ``"user/name"``.
    split
        One split, or None for all.
    revision
        A branch, a tag or a commit.
    options
        ``"token"`` in them is used; else the saved login.

    Raises
    ------
    StoreNotFoundError
        The Hub has no such dataset, or it may not be seen.
    ReadError
        It could not be loaded.
    MissingDependencyError
        `datasets` is not installed.
    """
    datasets = import_datasets(f"the dataset {name!r} of the Hub")
    try:
        return datasets.load_dataset(
            name, split=split, revision=revision, token=options.get("token")
        )
    except (FileNotFoundError, ConnectionError) as error:
        at = f" at {revision!r}" if revision else ""
        raise StoreNotFoundError(
            f"{name!r} is neither a file nor a folder here, nor a dataset on the Hub{at} that can "
            f"be reached: {error}. Check its name, the network, and whether you may see it."
        ) from error
    except ValueError as error:
        raise TargetError(f"the dataset {name!r} cannot be loaded: {error}") from error
    except Exception as error:
        raise ReadError(f"the dataset {name!r} could not be loaded: {error}") from error
