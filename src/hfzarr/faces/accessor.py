"""``.hfzarr`` on Dataset and DataTree."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.model.report import Diagnosis

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = ["DatasetAccessor", "TreeAccessor"]

#: Where the diagnosis is kept: it travels with the object and is never written to a file.
DIAGNOSIS_KEY = "hfzarr_diagnosis"


@xr.register_dataset_accessor("hfzarr")  # type: ignore[no-untyped-call]
class DatasetAccessor:
    """What hfzarr adds to a Dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def diagnose(self) -> Diagnosis:
        """Return what the store turned out to be, and every departure from its specification.

        Raises
        ------
        TargetError
            The Dataset was not opened with ``engine="hfzarr"``, or was computed from one that
            was.

        Examples
        --------
        >>> import xarray as xr, zarr
        >>> memory = zarr.storage.MemoryStore()
        >>> _ = zarr.create_array(memory, name="a", shape=(2,), dtype="i4")
        >>> xr.open_dataset(memory, engine="hfzarr", group="a").hfzarr.diagnose().ok
        True
        """
        return _diagnosis(self._dataset.encoding)

    def chunk(self, by: Literal["inner", "shard"] = "inner") -> Dataset:
        """Return the Dataset with dask chunks that follow its store.

        Parameters
        ----------
        by
            ``"inner"`` for one dask chunk per inner chunk, as ``chunks={}`` gives; ``"shard"``
            for one per shard, which is what writing back needs: two tasks that write one shard
            lose data. An array without shards goes by its inner chunks.

        Raises
        ------
        TargetError
            ``by`` is neither.
        """
        if by not in ("inner", "shard"):
            raise TargetError(f"chunk by 'inner' or 'shard', not {by!r}")
        dataset = self._dataset
        chunked = {
            name: variable.chunk(_chunks(variable, by))
            for name, variable in dataset.variables.items()
            if name not in dataset.xindexes and _chunks(variable, by)
        }
        return dataset._replace({**dataset._variables, **chunked})


def _chunks(variable: xr.Variable, by: str) -> dict[Hashable, int]:
    """Return the chunk lengths by dim; where dims were added or dropped, what is still known."""
    preferred: dict[Hashable, int] = dict(variable.encoding.get("preferred_chunks", {}))
    shard = variable.encoding.get("shards")
    if by == "shard" and shard is not None and len(shard) == len(preferred):
        preferred = dict(zip(preferred, shard, strict=True))
    return {dim: n for dim, n in preferred.items() if dim in variable.dims}


@xr.register_datatree_accessor("hfzarr")  # type: ignore[no-untyped-call]
class TreeAccessor:
    """What hfzarr adds to a DataTree."""

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree

    def diagnose(self) -> Diagnosis:
        """Return what the store turned out to be, and every departure from its specification.

        Raises
        ------
        TargetError
            The tree was not opened with ``engine="hfzarr"``.
        """
        return _diagnosis(self._tree.encoding)

    def chunk(self, by: Literal["inner", "shard"] = "inner") -> DataTree:
        """Return the tree with dask chunks that follow its store; see `DatasetAccessor.chunk`."""
        return xr.map_over_datasets(lambda node: DatasetAccessor(node).chunk(by), self._tree)


def _diagnosis(encoding: Any) -> Diagnosis:
    found = encoding.get(DIAGNOSIS_KEY)
    if isinstance(found, Diagnosis):
        return found
    raise TargetError(
        "there is no diagnosis here: open the store with engine='hfzarr' and diagnose the result "
        "before computing with it"
    )
