"""Zarr, OME-Zarr and GeoZarr stores as labeled arrays, for xarray and dask.

>>> import xarray as xr
>>> "hfzarr" in xr.backends.list_engines()
True
"""

from __future__ import annotations

from hfzarr.errors import (
    AmbiguousTargetError,
    ChangedSourceError,
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
    VerificationError,
    WriteError,
)
from hfzarr.faces.accessor import DatasetAccessor
from hfzarr.faces.batches import Batches
from hfzarr.faces.progress import Progress
from hfzarr.faces.reshard import plan_reshard, reshard
from hfzarr.faces.stitch import stitch
from hfzarr.faces.tree_accessor import TreeAccessor
from hfzarr.model.report import Diagnosis, Finding
from hfzarr.plan.cost import Cost
from hfzarr.plan.reshard import Resharded, ReshardPlan

__all__ = [
    "AmbiguousTargetError",
    "Batches",
    "ChangedSourceError",
    "Cost",
    "DatasetAccessor",
    "Diagnosis",
    "Finding",
    "HfzarrError",
    "InvalidMetadataError",
    "MissingDependencyError",
    "NodeNotFoundError",
    "Progress",
    "ReadError",
    "RepairWarning",
    "ReshardPlan",
    "Resharded",
    "StoreNotFoundError",
    "TargetError",
    "TreeAccessor",
    "UnnamedDimensionsError",
    "UnsupportedError",
    "VerificationError",
    "WriteError",
    "__version__",
    "plan_reshard",
    "reshard",
    "stitch",
]

__version__ = "0.1.0.dev0"
