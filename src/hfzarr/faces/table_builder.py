"""The packaged module behind ``load_dataset("zarr", …)``: a store as a table."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from datasets.iterable_dataset import ArrowExamplesIterable

from hfzarr.errors import StoreNotFoundError, TargetError
from hfzarr.faces.opening import user_level
from hfzarr.plan.row_shards import Column
from hfzarr.rows.columnar import RowTable, open_row_table
from hfzarr.store.connect import connect
from hfzarr.store.location import Location, locate

__all__ = ["RowShard", "ZarrTable", "ZarrTableConfig", "features_of"]

_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zarray", ".zattrs")
_ZIPS = (".zip", ".ozx")
#: How often chunks may be decoded before it is said aloud.
_WORTH_SAYING = 1.25


@dataclass
class ZarrTableConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """Options of ``load_dataset("zarr", …)``.

    Attributes
    ----------
    group
        Path of the group in the store, or of a single array.
    columns
        Paths of the arrays below it that become columns; all those directly in it, if None.
    rows
        Rows of a row shard; None for as many as chunks and memory suggest.
    features
        Features to cast the columns to.
    target
        The store itself, in place of files.
    split
        Name of the split that `target` becomes.
    """

    group: str | None = None
    columns: Sequence[str] | None = None
    rows: int | None = None
    features: datasets.Features | None = None
    target: RowTable | None = None
    split: str = "train"

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Return the name of the cache folder: another one when a chunk on this machine changes.

        `datasets` looks at the files that it was given, which tells nothing of a store's chunks.
        """
        seen = hashlib.sha256()
        for place in self._places():
            seen.update(_contents(place).encode())
        kept = {k: v for k, v in config_kwargs.items() if k not in ("target", "rows")}
        if self.target is not None:
            kept["target"] = _identity(self.target)
        name: str = super().create_config_id(
            {**kept, "contents": seen.hexdigest()}, custom_features
        )
        return name

    def stores(self) -> dict[str, list[str]]:
        """Return the places of the stores by split.

        Raises
        ------
        TargetError
            What was given names no store.
        """
        files = {str(split): list(some) for split, some in (self.data_files or {}).items()}
        listed = [file for some in files.values() for file in some]
        if listed and all(map(_names_a_store, listed)):
            return {split: _outermost(some) for split, some in files.items()}
        if self.data_dir and _is_store(self.data_dir):
            return {self.split: [os.path.abspath(self.data_dir)]}
        odd = [file for file in listed if not _names_a_store(file)]
        raise TargetError(
            "load_dataset('zarr', …) reads a store as a table. Name its metadata, "
            "data_files='…/x.zarr/zarr.json' ('.zgroup' or '.zarray' in Zarr v2), a zip of it, or "
            f"its folder, data_dir='…/x.zarr'; got data_dir={self.data_dir!r} and "
            f"{len(listed)} files, such as {odd[:2]}. For one row a store: 'zarrfolder'."
        )

    def _places(self) -> Iterator[Location]:
        if self.target is not None:
            yield self.target.location
        elif self.data_files or self.data_dir:
            for some in self.stores().values():
                yield from map(locate, some)


class ZarrTable(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Arrays of a store as columns, axis 0 as rows, in row shards that are cut between chunks."""

    BUILDER_CONFIG_CLASS = ZarrTableConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.config.features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        tables = self._tables()
        first = next(iter(tables.values()))[0]
        _check_alike([table for some in tables.values() for table in some])
        if self.info.features is None:
            self.info.features = features_of(first.plan.columns)
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "shards": [shard for table in some for shard in row_shards(table)],
                    "features": self.info.features,
                },
            )
            for split, some in tables.items()
        ]

    def _tables(self) -> dict[str, list[RowTable]]:
        config: ZarrTableConfig = self.config
        if config.target is not None:
            announce(config.target)
            return {config.split: [config.target]}
        columns = [config.columns] if isinstance(config.columns, str) else config.columns
        tables = {
            split: [
                open_row_table(
                    locate(place, self._options(place)),
                    group=config.group,
                    columns=columns,
                    rows=config.rows,
                )
                for place in some
            ]
            for split, some in config.stores().items()
        }
        for some in tables.values():
            announce(some[0])
        return tables

    def _options(self, place: str) -> dict[str, Any]:
        options = dict(self.storage_options or {})
        if place.startswith("hf://") and isinstance(self.token, str):
            options.setdefault("token", self.token)
        return options

    def _generate_shards(self, shards: list[RowShard], features: Any) -> Iterator[str]:
        del features
        for shard in shards:
            yield f"{shard.table.location.shown}[{shard.start}:{shard.stop}]"

    def _generate_tables(
        self, shards: list[RowShard], features: datasets.Features
    ) -> Iterator[tuple[Any, pa.Table]]:
        return arrow_tables(shards, features)

    def _get_examples_iterable_for_split(self, split_generator: Any) -> ArrowExamplesIterable:
        # A function of the module: a method would take this builder to every worker, and the
        # options with it.
        return ArrowExamplesIterable(arrow_tables, split_generator.gen_kwargs)


@dataclass(frozen=True, slots=True)
class RowShard:
    """Rows that are read together.

    Attributes
    ----------
    table
        Whose rows.
    start, stop
        The first, and one past the last.
    """

    table: RowTable
    start: int
    stop: int


def row_shards(table: RowTable) -> list[RowShard]:
    """Return the row shards of a table."""
    return [RowShard(table, start, stop) for start, stop in table.plan.bounds]


def arrow_tables(
    shards: list[RowShard], features: datasets.Features
) -> Iterator[tuple[Any, pa.Table]]:
    """Yield Arrow tables of row shards, with the number of the shard and of the table in it."""
    for number, shard in enumerate(shards):
        columns = shard.table.plan.columns
        own = features_of(columns)
        for piece, arrays in enumerate(shard.table.arrow(shard.start, shard.stop)):
            wrapped = [
                pa.ExtensionArray.from_storage(field.type, array)
                if isinstance(field.type, pa.ExtensionType)
                else array
                for field, array in zip(own.arrow_schema, arrays, strict=True)
            ]
            table = pa.table(wrapped, schema=own.arrow_schema)
            if features != own:
                table = datasets.table.table_cast(table, features.arrow_schema)
            yield _key(number, piece), table


def features_of(columns: Iterable[Column]) -> datasets.Features:
    """Return the features of columns.

    A cell without axes is a ``Value``, one of a single axis a ``List`` of fixed length, one of 2 to
    5 axes an ``Array2D`` to ``Array5D``; beyond, lists of lists.
    """
    return datasets.Features({column.name: _feature(column) for column in columns})


def _feature(column: Column) -> Any:
    if not column.is_fixed:
        kind = getattr(datasets, f"Array{len(column.cell)}D")
        return kind(shape=column.cell, dtype=column.value)
    feature: Any = datasets.Value(column.value)
    for length in reversed(column.cell):
        # Arrow knows no list of the fixed length 0.
        feature = datasets.List(feature, length=length or -1)
    return feature


def announce(table: RowTable) -> None:
    """Warn where reading the table decodes chunks several times."""
    plan = table.plan
    if plan.cost < _WORTH_SAYING:
        return
    longest = max(plan.columns, key=lambda column: column.chunk * column.row_bytes)
    warnings.warn(
        f"the table {table.location.shown!r} is read in {len(plan.bounds)} row shards of "
        f"{plan.shard_rows} rows ({plan.shard_bytes} bytes), and its chunks do not lie so: in one "
        f"pass they are decoded {plan.cost:.3g} times each. {longest.name!r}, for one, has chunks "
        f"of {longest.chunk} rows. Give rows= a multiple of these if memory allows, or rewrite "
        "the store with fewer rows in a chunk: hfzarr.reshard.",
        RuntimeWarning,
        stacklevel=user_level("datasets"),
    )


def _check_alike(tables: Sequence[RowTable]) -> None:
    """Raise if the tables have not all the columns of the first."""
    wanted = features_of(tables[0].plan.columns)
    for table in tables[1:]:
        came = features_of(table.plan.columns)
        if came != wanted:
            raise TargetError(
                f"stores of one table have the same columns: {tables[0].location.shown!r} has "
                f"{wanted} and {table.location.shown!r} has {came}. Name those they share with "
                "columns=, or load them apart."
            )


def _key(shard: int, piece: int) -> Any:
    try:
        from datasets.builder import Key
    except ImportError:
        # Older versions of datasets want no more than something to tell tables apart.
        return f"{shard}_{piece}"
    return Key(shard, piece)


# --- which stores --------------------------------------------------------------------------------


def _names_a_store(file: str) -> bool:
    name = file.rpartition("/")[2]
    return name in _METADATA or name.lower().endswith(_ZIPS)


def _outermost(files: Iterable[str]) -> list[str]:
    """Return the stores that files name, without those that lie in another one of them."""
    places = dict.fromkeys(
        file if file.lower().endswith(_ZIPS) else file.rpartition("/")[0] for file in files
    )
    kept: list[str] = []
    for place in sorted(places):
        if not any(place.startswith(f"{outer}/") for outer in kept):
            kept.append(place)
    return kept


def _is_store(folder: str) -> bool:
    try:
        source = connect(locate(folder))
    except (StoreNotFoundError, TargetError):
        return False
    return any(isinstance(found, bytes) for found in source.probe(_METADATA[:4]))


def _contents(place: Location) -> str:
    """Return a text that changes when a chunk of a store does, as far as can be told cheaply."""
    if place.kind == "url" or ("://" in place.url and place.kind == "zip"):
        # Its metadata has to tell, as asking for each chunk would take a request each.
        return ""
    usage = connect(place).usage(place.path)
    # Nothing tells what a store in memory held when a cache was written.
    return uuid.uuid4().hex if usage is None else str(tuple(usage))


def _identity(table: RowTable) -> Mapping[str, Any]:
    return {
        "place": table.location.shown,
        "arrays": [(meta.path, repr(meta.doc)) for meta in table.metas],
        "columns": [column.name for column in table.plan.columns],
    }
