"""Zarr, OME-Zarr and GeoZarr stores as labeled arrays, for xarray and dask.

>>> import xarray as xr
>>> "hfzarr" in xr.backends.list_engines()
True
"""

from __future__ import annotations

from hfzarr.errors import (
    AmbiguousTargetError,
    HfzarrError,
    InvalidMetadataError,
    MissingDependencyError,
    NodeNotFoundError,
    ReadError,
    RepairWarning,
    StoreNotFoundError,
    TargetError,
    UnnamedDimensionsError,
    UnsupportedError,
)
from hfzarr.faces.accessor import DatasetAccessor
from hfzarr.faces.batches import Batches
from hfzarr.faces.stitch import stitch
from hfzarr.faces.tree_accessor import TreeAccessor
from hfzarr.model.report import Diagnosis, Finding
from hfzarr.plan.cost import Cost

__all__ = [
    "AmbiguousTargetError",
    "Batches",
    "Cost",
    "DatasetAccessor",
    "Diagnosis",
    "Finding",
    "HfzarrError",
    "InvalidMetadataError",
    "MissingDependencyError",
    "NodeNotFoundError",
    "ReadError",
    "RepairWarning",
    "StoreNotFoundError",
    "TargetError",
    "TreeAccessor",
    "UnnamedDimensionsError",
    "UnsupportedError",
    "__version__",
    "stitch",
]

__version__ = "0.1.0.dev0"
