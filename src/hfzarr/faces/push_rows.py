"""The rows of an index: a table of stores, seen from where they were pushed to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hfzarr.faces.push_work import around
from hfzarr.model.report import Report
from hfzarr.rows.cells import cell_text, selection_type
from hfzarr.rows.facts import (
    FACTS,
    METADATA,
    THUMBNAIL,
    Facts,
    fact_types,
    option_types,
    read_facts,
)
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.pictures import picture_cell
from hfzarr.rows.selection import ZarrSelection
from hfzarr.store.finding import find_node
from hfzarr.store.location import locate
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Landed", "pushed_rows"]

_DRAWN_AT_ONCE = 8
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """Where a store was pushed to.

    Attributes
    ----------
    url
        Its URL, in a commit.
    metadata
        Its consolidated metadata; None where it cannot be told.
    """

    url: str
    metadata: str | None


def pushed_rows(
    manifest: Manifest,
    landed: Mapping[str, Landed],
    *,
    options: StorageOptions,
    thumbnails: bool,
    metadata: bool,
    tell: Callable[[], object],
) -> pa.Table:
    """Return the rows of a manifest with new places, and what each store says of itself.

    Parameters
    ----------
    manifest
        The rows, and the stores that they were pushed from.
    landed
        Where each store was pushed to, by the URL that it was pushed from.
    options
        Storage options for the new places, asked only for stores whose metadata is not known.
    thumbnails
        Whether rows get a picture; one that a row has already is kept.
    metadata
        Whether rows carry the store's consolidated metadata.
    tell
        Called for each row that is done.
    """
    import pyarrow as pa

    cells = manifest.handles()
    landed = {**landed, **_landed_within(cells, landed)}
    moved = [_moved(cell, landed) for cell in cells]
    table = _without_facts(manifest.table)
    stores: Any = [None if cell is None else cell_text(cell) for cell in moved]
    place = table.schema.names.index(manifest.column)
    if isinstance(manifest.table.schema.field(manifest.column).type, pa.StructType):
        stores = pa.array([_struct(cell) for cell in moved], selection_type())
    else:
        stores = pa.array(stores, pa.string())
    table = table.set_column(place, manifest.column, stores)
    facts = [_facts(cell, landed, options) for cell in cells]
    for name, kind in fact_types().items():
        table = _added(table, name, kind, [getattr(one, name, None) for one in facts])
    if metadata:
        texts = [None if cell is None else landed[_store(cell).url].metadata for cell in cells]
        table = _added(table, METADATA, option_types()[METADATA], texts)
    return _with_pictures(table, cells, tell) if thumbnails else table


def _landed_within(
    cells: Sequence[ZarrHandle | ZarrSelection | None], landed: Mapping[str, Landed]
) -> dict[str, Landed]:
    """Return where those landed that lie in other stores."""
    found: dict[str, Landed] = {}
    for url in {_store(cell).url for cell in cells if cell is not None} - set(landed):
        outer = around(url, landed)
        if outer is not None:
            found[url] = Landed(url=f"{landed[outer].url}{url[len(outer) :]}", metadata=None)
    return found


def _store(cell: ZarrHandle | ZarrSelection) -> ZarrHandle:
    return cell if isinstance(cell, ZarrHandle) else cell.handle


def _moved(
    cell: ZarrHandle | ZarrSelection | None, landed: Mapping[str, Landed]
) -> ZarrHandle | ZarrSelection | None:
    if cell is None:
        return None
    handle = _store(cell)
    there = ZarrHandle(landed[handle.url].url, handle.node, StorageOptions())
    return there if isinstance(cell, ZarrHandle) else replace(cell, handle=there)


def _struct(cell: ZarrHandle | ZarrSelection | None) -> dict[str, Any] | None:
    if not isinstance(cell, ZarrSelection):
        return None if cell is None else {"path": cell_text(cell)}
    return dict(cell.items())


def _without_facts(table: pa.Table) -> pa.Table:
    """Return a table without what an earlier scan recorded: shards and versions may be others."""
    types = {**fact_types(), METADATA: option_types()[METADATA]}
    old = [
        field.name
        for field in table.schema
        if field.name in types and field.type.equals(types[field.name])
    ]
    # Columns of a user may have such a name by chance; a scan records all of them.
    whole = set(FACTS) <= set(old)
    return table.drop_columns([name for name in old if whole or name == METADATA])


def _facts(
    cell: ZarrHandle | ZarrSelection | None,
    landed: Mapping[str, Landed],
    options: StorageOptions,
) -> Facts | None:
    if cell is None:
        return None
    handle = _store(cell)
    there = landed[handle.url]
    location = replace(locate(there.url, options.resolve()), carried=there.metadata)
    found = find_node(location, handle.node, report=Report())
    return read_facts(found.hierarchy, found.node)


def _with_pictures(
    table: pa.Table, cells: Sequence[ZarrHandle | ZarrSelection | None], tell: Callable[[], object]
) -> pa.Table:
    import pyarrow as pa

    kind = option_types()[THUMBNAIL]
    old: list[Any] = [None] * len(cells)
    if THUMBNAIL in table.schema.names and table.schema.field(THUMBNAIL).type.equals(kind):
        old = table.column(THUMBNAIL).to_pylist()
        table = table.drop_columns([THUMBNAIL])
    faults: list[str] = []

    def draw(index: int) -> dict[str, Any] | None:
        cell = cells[index]
        if old[index] is not None or cell is None:
            return old[index]  # type: ignore[no-any-return]
        try:
            return picture_cell(_store(cell))
        except Exception as error:
            # An index is worth more than its pictures, and not every store has one.
            faults.append(f"- {cell_text(cell)}: {error}")
            return None

    pictures = []
    with ThreadPoolExecutor(_DRAWN_AT_ONCE, thread_name_prefix="hfzarr-push") as pool:
        for picture in pool.map(draw, range(len(cells))):
            pictures.append(picture)
            tell()
    if faults:
        more = [f"- and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        lines = [f"no thumbnail of {len(faults)} rows:", *sorted(faults)[:_SHOWN], *more]
        warnings.warn("\n".join(lines), UserWarning, stacklevel=4)
    return _added(table, THUMBNAIL, pa.field(THUMBNAIL, kind).type, pictures)


def _added(table: pa.Table, name: str, kind: pa.DataType, values: Sequence[Any]) -> pa.Table:
    import pyarrow as pa

    while name in table.schema.names:
        name = f"zarr_{name}"
    return table.append_column(name, pa.array(values, kind))
