"""Columns that were published as marked text become columns of stores again."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hfzarr.errors import TargetError
from hfzarr.faces.feature import MARK, Zarr, is_local
from hfzarr.faces.registration import need_datasets
from hfzarr.rows.dataset_tables import dataset_origin
from hfzarr.rows.files import file_format
from hfzarr.rows.places import folder_of, is_absolute, is_remote
from hfzarr.rows.rules import check_rows
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["has_relative_stores", "local_stores", "restore"]

D = TypeVar("D")
Options = Mapping[str, Any] | StorageOptions | None

_SELECTION = frozenset(["path", "node", "level", "start", "stop", "step"])
_TEXTS = ("string", "large_string", "string_view")


def restore(
    dataset: D,
    storage_options: Options = None,
    *,
    columns: str | Iterable[str] | None = None,
    trusted: bool = False,
    origin: str | None = None,
) -> D:
    """Return a dataset whose columns of stores, text for everybody else, decode to handles.

    Where hfzarr is imported, `datasets` reads such columns as stores by itself. This sets their
    options, makes stores of other columns, and looks at where rows from elsewhere point.

    Parameters
    ----------
    dataset
        A `datasets.Dataset` or `IterableDataset`, or a dictionary of them.
    storage_options
        Options for fsspec, for every store. What features have already stays, if none are given.
    columns
        Names of columns to make columns of stores besides: of text, of structs with a ``path``
        (which `map` writes of handles that it returns) or of selections. By default those that
        are marked as stores, at any depth.
    trusted
        Whether stores may lie anywhere. Otherwise a dataset that was loaded from another machine
        may not name places of this one.
    origin
        Folder or URL that the dataset came from, which relative cells count from; of a file, the
        folder that it lies in. By default what can be told: the repository of the Hub or the URL;
        else cells count from the current folder.

    Returns
    -------
    datasets.Dataset or another
        The same kind; nothing is copied but structs, which become text.

    Raises
    ------
    MissingDependencyError
        `datasets` is not installed.
    TargetError
        There is no such column, it is no dataset, or a row of a dataset from elsewhere names a
        place of this machine.

    Examples
    --------
    >>> import datasets
    >>> marked = datasets.Features({"store": datasets.Value("string", id="zarr")})
    >>> ds = datasets.Dataset.from_dict({"store": ["/data/a.zarr"]}, features=marked)
    >>> restore(ds)[0]["store"].name
    'a'
    """
    need_datasets("hfzarr.restore()")
    names = [columns] if isinstance(columns, str) else columns
    if names is not None and not isinstance(names, Iterable):
        raise TargetError(f"columns= are names of columns, not {columns!r}")
    wanted = _Wanted(
        options=StorageOptions.of(storage_options),
        columns=frozenset(names or ()),
        trusted=trusted,
        origin=None if origin is None else _folder(origin),
    )
    restored: D = _restore(dataset, wanted)
    return restored


def _folder(origin: Any) -> str:
    """Return what cells count from, of a folder, a URL or a table in either."""
    if not isinstance(origin, (str, os.PathLike)):
        raise TargetError(f"origin= is a folder, a URL or a file, not {origin!r}")
    place = os.fspath(origin)
    here = "" if not place or is_remote(place) else os.path.abspath(os.path.expanduser(place))
    # A folder may have any name, that of a table too.
    if place and file_format(place) and not os.path.isdir(here):
        return folder_of(place)
    return here or place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """How columns of stores are to be restored; fields as the parameters of `restore`."""

    options: StorageOptions
    columns: frozenset[str] = frozenset()
    trusted: bool = False
    origin: str | None = None


def _restore(dataset: Any, wanted: _Wanted) -> Any:
    import datasets

    if isinstance(dataset, Mapping):
        kind: Any = type(dataset)
        return kind({name: _restore(each, wanted) for name, each in dataset.items()})
    if not isinstance(dataset, (datasets.Dataset, datasets.IterableDataset)):
        raise TargetError(
            "restore() takes a datasets.Dataset, IterableDataset, DatasetDict or "
            f"IterableDatasetDict, not a {type(dataset).__name__}"
        )
    features = dataset.features or {}
    if unknown := wanted.columns - set(features):
        known = list(features) if features else "none whose type is known"
        first = min(unknown, key=repr)
        raise TargetError(f"there is no column {first!r}; there are {known}")
    origin = dataset_origin(dataset) if wanted.origin is None else wanted.origin
    changed = {}
    for name, feature in features.items():
        new = _of_column(name, feature, wanted)
        if origin and _is_adrift(new) and _counts_from(dataset, name, origin, wanted.trusted):
            new = _on_base(new, origin, wanted.trusted)
        if new != feature:
            changed[name] = new
    return _with_features(dataset, changed) if changed else dataset


def _of_column(name: str, feature: Any, wanted: _Wanted) -> Any:
    new = name in wanted.columns or _is_marked(feature, _TEXTS)
    if new and not isinstance(feature, Zarr):
        return Zarr(storage_options=wanted.options)
    return _restored(feature, wanted.options, wanted.trusted)


def _restored(feature: Any, options: StorageOptions, trusted: bool = False) -> Any:
    """Return a feature with a `Zarr` in place of every marked text in it."""
    if isinstance(feature, Zarr):
        return Zarr(
            feature.decode,
            options or feature.storage_options,
            base=feature.base,
            trusted=feature.trusted or (trusted and bool(feature.base)),
        )
    if _is_marked(feature):
        return Zarr(storage_options=options)
    if isinstance(feature, dict) and set(feature) >= _SELECTION:
        # `datasets` may have read the mark of the path already.
        path = _restored(feature["path"], options, trusted)
        if isinstance(path, Zarr):
            return path
    return _rebuilt(feature, lambda each: _restored(each, options, trusted))


def _is_marked(feature: Any, kinds: Sequence[str] = ("string",)) -> bool:
    if isinstance(feature, Zarr):
        return False
    return getattr(feature, "id", None) == MARK and getattr(feature, "dtype", "") in kinds


def _is_adrift(feature: Any) -> bool:
    """Return whether a feature holds stores of which nothing says what they count from."""
    if isinstance(feature, Zarr):
        return not feature.base
    if isinstance(feature, dict):
        return any(map(_is_adrift, feature.values()))
    return hasattr(feature, "feature") and _is_adrift(feature.feature)


def _on_base(feature: Any, base: str, trusted: bool) -> Any:
    """Return a feature whose stores are counted from a folder."""
    if isinstance(feature, Zarr):
        return Zarr(feature.decode, feature.storage_options, base=base, trusted=trusted)
    return _rebuilt(feature, lambda each: _on_base(each, base, trusted))


def _rebuilt(feature: Any, change: Callable[[Any], Any]) -> Any:
    """Return a nested feature with each part changed; any other as it is."""
    import datasets

    if isinstance(feature, dict):
        return {name: change(each) for name, each in feature.items()}
    if isinstance(feature, datasets.LargeList):
        return datasets.LargeList(change(feature.feature))
    if isinstance(feature, datasets.List):
        return datasets.List(change(feature.feature), length=feature.length)
    return feature


def _counts_from(dataset: Any, name: str, origin: str, trusted: bool) -> bool:
    """Check the cells of a column from elsewhere; say whether any is relative.

    Those that stream are not here yet: each is checked as it is decoded.
    """
    import datasets
    import pyarrow as pa

    if isinstance(dataset, datasets.IterableDataset):
        return True
    cells = _cells(dataset, name)
    if is_remote(origin):
        check_rows(
            pa.array(cells, pa.string()),
            base=origin,
            row=lambda index: f"row {index} of column {name!r} from {hide_secrets(origin)!r}",
            trusted=trusted,
            duplicates="keep",
        )
    return not all(is_absolute(cell) for cell in cells if cell)


def _cells(dataset: datasets.Dataset, name: str) -> list[str | None]:
    """Return the places that a column names, without the rest of selections."""
    column = dataset.select_columns([name]).with_format("arrow")[:].column(name)
    return [place for cell in column.to_pylist() for place in _places(cell)]


def _places(cell: Any) -> Iterator[str | None]:
    if isinstance(cell, Mapping):
        parts = [cell["path"]] if "path" in cell else list(cell.values())
        for part in parts:
            yield from _places(part)
    elif isinstance(cell, list):
        for part in cell:
            yield from _places(part)
    elif cell is None or isinstance(cell, str):
        yield cell


def _with_features(dataset: Any, changed: Mapping[str, Any]) -> Any:
    """Return a dataset with other features for some columns."""
    import datasets

    others = [n for n, new in changed.items() if isinstance(new, Zarr) and not _is_text(dataset, n)]
    if others:
        dataset = _as_texts(dataset, others)
    if isinstance(dataset, datasets.IterableDataset):
        for name, feature in changed.items():
            dataset = dataset.cast_column(name, feature)
        return dataset
    # Text stays text in Arrow: only what is known of it changes, and with it the fingerprint by
    # which `datasets` finds results of map() that it made before.
    out = copy.deepcopy(dataset)
    out.info.features = datasets.Features({**out.info.features, **changed})
    out._fingerprint = _fingerprint(dataset, changed)
    return out


def _is_text(dataset: Any, name: str) -> bool:
    feature = dataset.features[name]
    return isinstance(feature, Zarr) or getattr(feature, "dtype", "") == "string"


def _as_texts(dataset: Any, names: list[str]) -> Any:
    """Return a dataset in which some columns, of structs or of another text type, are text."""
    import datasets

    features = datasets.Features({**dataset.features, **{name: Zarr() for name in names}})
    arrow = dataset.with_format("arrow")
    texts = arrow.map(partial(_texts, names=names), batched=True, features=features)
    if isinstance(dataset, datasets.Dataset):
        return texts.with_format(**dataset.format)
    known = dataset._formatting
    return texts.with_format(known and known.format_type)


def _texts(table: pa.Table, names: list[str]) -> pa.Table:
    import pyarrow as pa

    for name in names:
        chunks = [Zarr().cast_storage(chunk) for chunk in table.column(name).chunks]
        at = table.schema.names.index(name)
        table = table.set_column(at, name, pa.chunked_array(chunks, pa.string()))
    return table


def _fingerprint(dataset: Any, changed: Mapping[str, Any]) -> str:
    from datasets.fingerprint import update_fingerprint

    fingerprint: str = update_fingerprint(
        dataset._fingerprint, "hfzarr.restore", {"columns": sorted(changed.items())}
    )
    return fingerprint


def has_relative_stores(dataset: Any) -> bool:
    """Return whether any cell of a column of stores is relative; of rows that stream, it may be."""
    import datasets

    if isinstance(dataset, datasets.IterableDataset):
        return bool(_store_columns(dataset))
    cells = [cell for name in _store_columns(dataset) for cell in _cells(dataset, name)]
    return not all(is_absolute(cell) for cell in cells if cell)


def _store_columns(dataset: Any) -> list[str]:
    probe = StorageOptions.of({"anon": True})  # whatever they change is a column of stores
    features = dataset.features or {}
    return [name for name, each in features.items() if _restored(each, probe) != each]


# --- publishing ----------------------------------------------------------------------------------


def local_stores(dataset: Any) -> dict[str, int]:
    """Return how many cells of each column of stores name a place of this machine.

    Whoever else loads the dataset cannot open them: upload the stores first.

    Parameters
    ----------
    dataset
        A `datasets.Dataset`.

    Examples
    --------
    >>> import datasets
    >>> features = datasets.Features({"store": Zarr()})
    >>> cells = {"store": ["/data/a.zarr", "hf://datasets/user/name/b.zarr"]}
    >>> local_stores(datasets.Dataset.from_dict(cells, features=features))
    {'store': 1}
    """
    need_datasets("hfzarr.local_stores()")
    counts = {
        name: sum(is_local(cell or "") for cell in _cells(dataset, name))
        for name in _store_columns(dataset)
    }
    return {name: count for name, count in counts.items() if count}
