"""The packaged module behind ``load_dataset("zarrfolder", …)``: one row for each store."""

# `datasets` wraps `os`, `pandas` and `pyarrow` in the module of a builder: they stay out of it.
from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
from datasets.iterable_dataset import ArrowExamplesIterable

from hfzarr.errors import TargetError
from hfzarr.faces.restoring import restore
from hfzarr.faces.store_tables import StoreTables, listed_stores, scanned_stores, store_of
from hfzarr.rows.places import is_remote
from hfzarr.store.options import StorageOptions
from hfzarr.store.walk import find_stores

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ZarrFolder", "ZarrFolderConfig"]

# Parts that streaming shares among workers, and shuffles.
_MOST_PARTS = 1024


@dataclass
class ZarrFolderConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """Options of ``load_dataset("zarrfolder", …)``.

    Attributes
    ----------
    column, drop_labels, drop_metadata
        As for `load_zarr_dataset`.
    features
        Features to cast the columns to.
    """

    column: str = "zarr"
    drop_labels: bool | None = None
    drop_metadata: bool | None = None
    features: datasets.Features | None = None

    @property
    def folder(self) -> str | None:
        """The folder of this machine that is walked, where there is one."""
        return self.data_dir if self.data_dir and not is_remote(self.data_dir) else None

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Return the name of the cache folder: another one when stores come or go.

        `datasets` looks at the files that it has listed, which may not be all there are.
        """
        if self.folder is not None:
            found = find_stores(self.folder)
            seen = hashlib.sha256("\n".join([*found.stores, *found.files]).encode())
            config_kwargs = {**config_kwargs, "stores": seen.hexdigest()}
        name: str = super().create_config_id(config_kwargs, custom_features)
        return name


class ZarrFolder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Zarr stores as rows, with labels, metadata and splits.

    A folder of this machine (``data_dir=``) is walked, and no store looked into. Files
    (``data_files=``: paths, URLs, patterns) are grouped by the store that they belong to.
    """

    BUILDER_CONFIG_CLASS = ZarrFolderConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=self.config.features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        del dl_manager  # stores are referred to, never downloaded
        stores = self._stores()
        if self.config.features is None:
            self.info.features = stores.features(self._options())
        features = self.info.features
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={"parts": _parts(stores.tables[split]), "features": features},
            )
            for split in stores.tables
        ]

    def _stores(self) -> StoreTables:
        config: ZarrFolderConfig = self.config
        told: dict[str, Any] = {
            "column": config.column,
            "labels": None if config.drop_labels is None else not config.drop_labels,
            "merge": not config.drop_metadata,
            "options": self._options(),
        }
        files = {str(k): list(map(str, v)) for k, v in (config.data_files or {}).items()}
        if config.folder is not None:
            stores = scanned_stores(config.folder, **told)
            _tell_of_more(stores, files)
            return stores
        if files:
            return listed_stores(files, **told)
        raise TargetError(
            "load_dataset('zarrfolder', …) wants a folder of stores as data_dir=, or files of "
            "stores as data_files=, such as 'hf://datasets/user/name/**'"
        )

    def _options(self) -> StorageOptions:
        """Return the options for the stores, and for tables of metadata beside them."""
        # `datasets` adds options for hf:// under its name, which no other filesystem takes.
        options = {k: v for k, v in (self.storage_options or {}).items() if k != "hf"}
        files = self.config.data_files or {}
        listed = [str(file) for some in files.values() for file in some]
        if self.token is not None and listed and all(f.startswith("hf://") for f in listed):
            options.setdefault("token", self.token)
        return StorageOptions.of(options)

    def _generate_shards(self, parts: list[pa.Table], features: Any) -> Iterator[str]:
        del features
        for part in parts:
            yield from part.column(self.config.column).to_pylist()

    def _generate_tables(
        self, parts: list[pa.Table], features: datasets.Features
    ) -> Iterator[tuple[Any, pa.Table]]:
        return arrow_tables(parts, features)

    def _get_examples_iterable_for_split(self, split_generator: Any) -> ArrowExamplesIterable:
        # A function of the module: a method would take this builder to every worker, and the
        # options with it.
        return ArrowExamplesIterable(arrow_tables, split_generator.gen_kwargs)

    def as_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return what was prepared; its columns of stores, text in the cache, are stores again."""
        return restore(super().as_dataset(*args, **kwargs), self._options())

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        """Return the rows one by one, nothing being prepared."""
        return restore(super().as_streaming_dataset(*args, **kwargs), self._options())


def _tell_of_more(stores: StoreTables, files: dict[str, list[str]]) -> None:
    """Warn where files were chosen, or singled out by their names, and all stores are taken."""
    listed = {store_of(file) for some in files.values() for file in some}
    cells = [c for table in stores.tables.values() for c in table.column(stores.column).to_pylist()]
    missed = [cell for cell in cells if store_of(f"{cell}/") and cell not in listed]
    if files and missed:
        warnings.warn(
            f"data_files name {len(cells) - len(missed)} of the {len(cells)} stores in data_dir, "
            "and all of them are taken. To choose, give data_files= without data_dir=.",
            UserWarning,
            stacklevel=2,
        )


def _parts(table: pa.Table) -> list[pa.Table]:
    """Return a table in parts of about as many rows."""
    count = max(min(len(table), _MOST_PARTS), 1)
    bounds = [len(table) * i // count for i in range(count + 1)]
    # Taken, not sliced: a slice drags the whole table along when it is pickled.
    return [table.take(np.arange(start, stop)) for start, stop in itertools.pairwise(bounds)]


def arrow_tables(
    parts: list[pa.Table], features: datasets.Features
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the parts of a table, cast to its features."""
    from datasets.table import cast_table_to_features

    for number, part in enumerate(parts):
        yield number, cast_table_to_features(part, features)
