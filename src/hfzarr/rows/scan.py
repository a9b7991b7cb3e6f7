"""A folder of stores becomes a table of them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from hfzarr.errors import HfzarrError, TargetError
from hfzarr.model.report import Report
from hfzarr.rows.beside import labels_of, merged_metadata, splits_of
from hfzarr.rows.consolidated import consolidated_text
from hfzarr.rows.facts import METADATA, THUMBNAIL, Facts, fact_types, option_types, read_facts
from hfzarr.rows.files import file_name, read_file
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.pictures import check_pillow, picture_cell
from hfzarr.rows.sources import Gathered, Source, gather
from hfzarr.store.finding import find_node, naming
from hfzarr.store.location import locate
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from hfzarr.rows.manifest import Manifest

__all__ = ["ScanProgress", "scan"]

R = TypeVar("R")

OnError = Literal["raise", "skip"]
Stage = Literal["find", "read", "thumbnails"]
_Tell = Callable[[Stage, int, int | None], object]
# Pictures are decoded and drawn, which more threads do not make faster.
_DRAWN_AT_ONCE = 8
# How many stores a warning names.
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanProgress:
    """How far a scan is.

    Attributes
    ----------
    stage
        ``"find"``, ``"read"`` (metadata) or ``"thumbnails"``.
    done
        Stores so far.
    total
        All there are; None while they are being found.
    """

    stage: Stage
    done: int
    total: int | None = None


def scan(
    source: Source,
    *,
    column: str = "zarr",
    labels: bool | None = None,
    splits: bool | None = None,
    merge: bool = True,
    facts: bool = True,
    metadata: bool = False,
    thumbnails: bool = False,
    storage_options: Mapping[str, Any] | StorageOptions | None = None,
    progress: bool | Callable[[ScanProgress], object] = False,
    width: int = 32,
    on_error: OnError = "raise",
) -> Manifest:
    """Find Zarr stores and make a manifest of them, one row for each.

    Stores are folders named ``*.zarr``, other folders with a ``zarr.json``, ``.zgroup`` or
    ``.zarray`` in them, and zips; none is looked into for more of them. What is recorded is read
    from metadata alone, save for thumbnails.

    Parameters
    ----------
    source
        A folder, a store, an fsspec URL, a pattern of either (``"data/*/*.zarr"``), or a list of
        them. Cells are relative to the folder, or absolute where there are several.
    column
        Name of the column of stores.
    labels
        Whether to add a column ``label``, the name of the folder that each store lies in. By
        default where there are several such folders, all at one depth, and no file of metadata
        says ``label``.
    splits
        Whether to add a column ``split`` (``train``, ``validation``, ``test``) by the folders on
        the way. By default where every store has one, or some lie in a folder for training.
    merge
        Whether to add the columns of files ``metadata.csv``, ``metadata.jsonl`` and
        ``metadata.parquet``, which name stores in a column ``file_name`` by their path from the
        folder that the file lies in, with or without the suffix. Stores without a row have nulls.
    facts
        Whether to add what each store says of itself: see `hfzarr.rows.facts.Facts`. A column of
        the metadata keeps its name; the fact of the same name is called ``zarr_<fact>``.
    metadata
        Whether to add a column ``zarr_metadata`` with each store's consolidated metadata, so that
        opening a row takes no request.
    thumbnails
        Whether to add a column ``thumbnail`` with a small PNG of each store.
    storage_options
        Passed to fsspec for URLs.
    progress
        True for a bar, or a function that is called with a `ScanProgress`.
    width
        How many folders are listed, and stores read, at once.
    on_error
        ``"raise"`` for an error where a store cannot be read, a folder not listed, or a name not
        kept in a table; ``"skip"`` to leave it out with a warning.

    Returns
    -------
    Manifest
        The stores, sorted by path, and what is known of them.

    Raises
    ------
    StoreNotFoundError
        There is no such folder, or no store in it.
    InvalidMetadataError
        The metadata of a store is unsound; the message names it.
    TargetError
        The source or an option makes no sense, or a row of a file of metadata does: it names a
        store that is not there, that lies outside, or that another row names.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("cat/1.zarr", "dog/2.zarr"):
    ...     _ = zarr.create_array(f"{folder}/{name}", shape=(4, 6), dtype="uint8")
    >>> manifest = scan(folder)
    >>> manifest["label"], manifest["shape"], manifest["dtype"]
    (['cat', 'dog'], [[4, 6], [4, 6]], ['uint8', 'uint8'])
    """
    from hfzarr.rows.manifest import Manifest

    _check(column, width, on_error)
    _check_switches(labels=labels, splits=splits)
    _check_switches(merge=merge, facts=facts, metadata=metadata, thumbnails=thumbnails)
    _check_switches(progress=False if callable(progress) else progress)
    if thumbnails:
        check_pillow()
    options = StorageOptions.of(storage_options)
    known = options.resolve()
    with _telling(progress) as tell:
        gathered = gather(
            source,
            known,
            width=width,
            on_found=lambda n: tell("find", n, None),
            passing=on_error == "skip",
        )
        gathered = _fit(gathered, on_error)
        table = _beside(gathered, known, column=column, labels=labels, splits=splits, merge=merge)
        if facts or metadata:
            read = _Read(options=known, facts=facts, metadata=metadata)
            looks = _looks(gathered, read, width, on_error, tell)
            table = _with_looks(table, looks, read)
            gathered = gathered.kept([look is not None for look in looks])
        if thumbnails:
            table = _with_thumbnails(table, gathered, options, min(width, _DRAWN_AT_ONCE), tell)
    name = file_name(gathered.base) or "scan"
    return Manifest(table, column, base=gathered.base, options=options, name=name)


def _check(column: str, width: int, on_error: str) -> None:
    if not isinstance(column, str) or not column:
        raise TargetError(f"column is the name of a column, not {column!r}")
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise TargetError(f"width is how many stores are read at once, not {width!r}")
    if on_error not in ("raise", "skip"):
        raise TargetError(f"on_error is 'raise' or 'skip', not {on_error!r}")


def _check_switches(**switches: object) -> None:
    for name, value in switches.items():
        if not isinstance(value, (bool, np.bool_)) and (
            value is not None or name not in ("labels", "splits")
        ):
            raise TargetError(f"{name}= is True or False, not {value!r}")


def _fit(gathered: Gathered, on_error: OnError) -> Gathered:
    """Return the stores that a table can name; say what else is left out."""
    unfit = gathered.unfit()
    if unfit and on_error == "raise":
        index, why = next(iter(unfit.items()))
        raise TargetError(
            f"the store {gathered.cells[index]!r} has {why} in its name, and no table of stores "
            "can name it. Rename it, or leave it out with on_error='skip'."
        )
    if gathered.faults:
        _warn(f"left out {len(gathered.faults)} folders that cannot be listed", gathered.faults)
    if unfit:
        named = [(repr(gathered.cells[i]), f"its name has {why}") for i, why in unfit.items()]
        _warn(f"left out {len(unfit)} stores that no table can name", named)
    return gathered.kept([i not in unfit for i in range(len(gathered.cells))])


# --- what lies beside stores ----------------------------------------------------------------------


def _beside(
    gathered: Gathered,
    options: Mapping[str, Any],
    *,
    column: str,
    labels: bool | None,
    splits: bool | None,
    merge: bool,
) -> pa.Table:
    """Return a table of the stores with their labels, splits and metadata."""
    import pyarrow as pa

    table = pa.table({column: pa.array(gathered.cells, pa.string())})
    told = None
    if merge:
        told = merged_metadata(
            gathered.names,
            list(gathered.files),
            lambda file: read_file(gathered.files[file], options),
            column=column,
            others=gathered.partial,
        )
    names = told.schema.names if told is not None else []
    split = splits_of(gathered.names, wanted=_unless_told("split", names, splits))
    folders = labels_of(
        gathered.names,
        wanted=_unless_told("label", names, labels),
        splits=splits is not False and any(splits_of(gathered.names, wanted=splits) or ()),
    )
    for name in names:
        table = table.append_column(name, told.column(name))  # type: ignore[union-attr]
    for name, values in (("label", folders), ("split", split)):
        if values is not None:
            table = _added(table, name, pa.string(), values)
    return table


def _unless_told(name: str, told: Sequence[str], wanted: bool | None) -> bool | None:
    """Return whether a column is wanted: by default not where metadata has it."""
    return False if wanted is None and name in told else wanted


def _added(table: pa.Table, name: str, kind: pa.DataType, values: Sequence[Any]) -> pa.Table:
    """Return a table with a column more; one of the same name keeps it."""
    import pyarrow as pa

    while name in table.schema.names:
        name = f"zarr_{name}"
    return table.append_column(name, pa.array(values, kind))


# --- what stores say of themselves ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    facts: Facts | None
    metadata: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What is read of each store."""

    options: Mapping[str, Any]
    facts: bool
    metadata: bool

    def __call__(self, place: str) -> _Look:
        location = locate(place, self.options)
        with naming(location.shown):
            found = find_node(location, report=Report())
            try:
                facts = read_facts(found.hierarchy, found.node) if self.facts else None
                text = consolidated_text(found.hierarchy) if self.metadata else None
            finally:
                found.hierarchy.source.close()
        return _Look(facts=facts, metadata=text)


def _looks(
    gathered: Gathered, read: _Read, width: int, on_error: OnError, tell: _Tell
) -> list[_Look | None]:
    """Read the metadata of every store; None for one that is left out."""
    faults: list[tuple[int, Exception]] = []

    def look(index: int) -> _Look | None:
        try:
            return read(gathered.places[index])
        except HfzarrError as error:
            if on_error == "skip":
                faults.append((index, error))
                return None
            raise type(error)(
                f"{error} Mend the store or take it away, or leave it out with on_error='skip'."
            ) from error

    looks = list(_each(look, len(gathered.places), width, lambda n, m: tell("read", n, m)))
    if faults:
        what = f"left out {len(faults)} of {len(looks)} stores that cannot be read"
        _warn(what, [(gathered.cells[i], why) for i, why in sorted(faults, key=_place)])
    return looks


def _with_looks(table: pa.Table, looks: Sequence[_Look | None], read: _Read) -> pa.Table:
    """Return the rows of the stores that were read, with what was read."""
    import pyarrow as pa

    there = [look for look in looks if look is not None]
    if len(there) < len(looks):
        table = table.filter(pa.array([look is not None for look in looks]))
    for name, kind in fact_types().items() if read.facts else ():
        table = _added(table, name, kind, [getattr(look.facts, name) for look in there])
    if read.metadata:
        texts = [look.metadata for look in there]
        table = _added(table, METADATA, option_types()[METADATA], texts)
    return table


def _with_thumbnails(
    table: pa.Table, gathered: Gathered, options: StorageOptions, width: int, tell: _Tell
) -> pa.Table:
    """Return the table with a picture of each store, where one can be made."""
    texts: list[str | None] = [None] * len(table)
    if METADATA in table.schema.names:
        texts = table.column(METADATA).to_pylist()
    faults: list[tuple[int, Exception]] = []

    def draw(index: int) -> dict[str, Any] | None:
        handle = ZarrHandle(gathered.places[index], "", options, "", texts[index])
        try:
            return picture_cell(handle)
        except Exception as error:
            # A table is worth more than its pictures, and not every store has one.
            faults.append((index, error))
            return None

    cells = list(_each(draw, len(table), width, lambda n, m: tell("thumbnails", n, m)))
    if faults:
        what = f"no thumbnail of {len(faults)} of {len(cells)} stores"
        _warn(what, [(gathered.cells[i], why) for i, why in sorted(faults, key=_place)])
    return _added(table, THUMBNAIL, option_types()[THUMBNAIL], cells)


def _place(fault: tuple[int, Exception]) -> int:
    return fault[0]


def _warn(what: str, faults: Sequence[tuple[str, object]]) -> None:
    lines = [f"- {name}: {why}" for name, why in faults]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"- and {len(lines) - _SHOWN} more"]
    # The caller of `scan`, from whom two functions of ours lie between.
    warnings.warn("\n".join([f"{what}:", *lines]), UserWarning, stacklevel=4)


def _each(
    work: Callable[[int], R], count: int, width: int, tell: Callable[[int, int], object]
) -> Iterator[R]:
    """Yield what work makes of 0, 1, 2 …, many at once; nothing more is begun after an error."""
    with ThreadPoolExecutor(max(min(width, count), 1), thread_name_prefix="hfzarr-scan") as pool:
        try:
            for done, result in enumerate(pool.map(work, range(count)), 1):
                tell(done, count)
                yield result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# --- how far it is --------------------------------------------------------------------------------


@contextlib.contextmanager
def _telling(show: bool | Callable[[ScanProgress], object]) -> Iterator[_Tell]:
    """Show how far a scan is, while the block lasts."""
    if callable(show):
        tell = show
        yield (
            lambda stage, done, total: (
                tell(ScanProgress(stage=stage, done=done, total=total)) and None
            )
        )
        return
    if not show:
        yield lambda stage, done, total: None
        return
    with warnings.catch_warnings():
        # Without ipywidgets, tqdm warns that it shows text in a notebook; that is good enough.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    with contextlib.ExitStack() as open_bars:
        bars: dict[str, Any] = {}

        def draw(stage: Stage, done: int, total: int | None) -> None:
            if stage not in bars:
                bars[stage] = open_bars.enter_context(tqdm(desc=stage, total=total, unit=" stores"))
            bars[stage].update(done - bars[stage].n)

        yield draw
