"""Dask chunks that follow a store."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import xarray as xr

from hfzarr.errors import TargetError

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["chunk_by"]


def chunk_by(dataset: Dataset, by: str) -> Dataset:
    """Return a Dataset with a dask chunk for each inner chunk, or for each shard.

    Raises
    ------
    TargetError
        ``by`` is neither ``"inner"`` nor ``"shard"``.
    """
    if by not in ("inner", "shard"):
        raise TargetError(f"chunk by 'inner' or 'shard', not {by!r}")
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
