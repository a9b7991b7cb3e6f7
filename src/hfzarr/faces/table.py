"""A store as a table: arrays of a group are columns, axis 0 is rows."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfzarr.errors import HfzarrError, TargetError
from hfzarr.faces.registration import need_datasets
from hfzarr.store.location import Location, locate

if TYPE_CHECKING:
    import datasets

__all__ = ["load_table"]


def load_table(
    store: Any,
    *,
    group: str | None = None,
    columns: str | Sequence[str] | None = None,
    split: str = "train",
    streaming: bool = False,
    rows: int | None = None,
    num_proc: int | None = None,
    cache_dir: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> datasets.Dataset | datasets.IterableDataset:
    """Load a Zarr store as a table: arrays are columns, axis 0 is rows.

    Values are those stored: no fill value is masked, nothing is scaled, no time decoded. An array
    of one axis becomes a ``Value`` column, of two axes a ``List`` of fixed length, of three to six
    an ``Array2D`` to ``Array5D``; text becomes ``string``, dates ``timestamp``.

    The table is cut into row shards between the chunks of all its columns, so that each chunk is
    fetched and decoded once in a pass. A row shard has no more than 256 MiB (or one row), which is
    what is held in memory. Where chunks are longer, they are decoded for several row shards, and
    a ``RuntimeWarning`` says how often.

    Parameters
    ----------
    store
        A path or URL of a store or a zip of one, a handle, a zarr array, group or store.
    group
        Path of the group in the store, or of a single array.
    columns
        Names of the arrays to take, or paths below the group. All arrays directly in the group
        without it, which must then have one length along axis 0.
    split
        Name of the split.
    streaming
        False writes the table to the cache of `datasets`, once, and returns a ``Dataset``. True
        returns an ``IterableDataset`` that reads rows when they are asked for; its
        ``num_shards`` is the number of row shards.
    rows
        Rows of a row shard. Chunks that it cuts are decoded more than once.
    num_proc
        Processes that write the cache.
    cache_dir
        Where the cache lies, if not where `datasets` keeps it.
    storage_options
        Options for fsspec.

    Returns
    -------
    datasets.Dataset or datasets.IterableDataset
        Without streaming, the table of a folder or zip on this machine is written anew when any
        of its files changed; that of a URL when its metadata did.

    Raises
    ------
    TargetError
        There are no arrays, or their lengths along axis 0 differ: the message lists them.
    UnsupportedError
        An array has a data type that Arrow lacks, such as complex numbers.
    StoreNotFoundError, NodeNotFoundError
        There is no such store, group or array.
    MissingDependencyError
        `datasets` is not installed.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> group = zarr.create_group({})
    >>> _ = group.create_array("x", data=np.arange(6).reshape(3, 2))
    >>> _ = group.create_array("y", data=np.array([True, False, True]))
    >>> list(load_table(group, streaming=True))
    [{'x': [0, 1], 'y': True}, {'x': [2, 3], 'y': False}, {'x': [4, 5], 'y': True}]
    """
    datasets = need_datasets("load_table")
    names = [columns] if isinstance(columns, str) else columns
    _check(group, names, split, num_proc)
    from hfzarr.faces.table_builder import ZarrTable, features_of
    from hfzarr.rows.columnar import open_row_table

    target = open_row_table(
        _located(store, storage_options),
        group=group,
        columns=names,
        rows=rows,
    )
    builder = ZarrTable(dataset_name="zarr", cache_dir=cache_dir, target=target, split=split)
    if streaming:
        return builder.as_streaming_dataset(split=split)
    if not target.plan.length:
        # datasets writes such a table, and cannot read it.
        schema = features_of(target.plan.columns).arrow_schema
        return datasets.Dataset(schema.empty_table(), split=datasets.NamedSplit(split))
    with _own_errors():
        builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset(split=split)


def _check(group: Any, columns: Any, split: Any, num_proc: Any) -> None:
    if group is not None and not isinstance(group, str):
        raise TargetError(f"group= is the path of a group in the store, not {group!r}")
    listed = isinstance(columns, Sequence) and not isinstance(columns, bytes)
    if columns is not None and not (
        listed and columns and all(isinstance(name, str) for name in columns)
    ):
        raise TargetError(f"columns= names arrays, or is None for all of them; it is {columns!r}")
    if not isinstance(split, str) or not re.fullmatch(r"\w+(\.\w+)*", split):
        raise TargetError(f"split= is a name such as 'train', not {split!r}")
    whole = isinstance(num_proc, int) and not isinstance(num_proc, bool)
    if num_proc is not None and (not whole or num_proc < 1):
        raise TargetError(f"num_proc= is a number of processes from 1 on, or None: {num_proc!r}")


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raise our own error where `datasets` only says that something went wrong."""
    from datasets.exceptions import DatasetGenerationError

    try:
        yield
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, HfzarrError):
            raise error.__cause__ from None
        raise


def _located(store: Any, storage_options: Mapping[str, Any] | None) -> Location:
    """Return where a store lies; a handle knows that itself."""
    location = getattr(store, "location", None)
    return location if isinstance(location, Location) else locate(store, storage_options)
