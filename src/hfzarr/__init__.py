"""Zarr, OME-Zarr and GeoZarr stores as labeled arrays, for xarray and dask.

>>> import xarray as xr
>>> "hfzarr" in xr.backends.list_engines()
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from hfzarr.faces.tree_accessor import TreeAccessor
from hfzarr.model.report import Diagnosis, Finding

if TYPE_CHECKING:
    from hfzarr.faces.batches import Batches
    from hfzarr.faces.progress import Progress
    from hfzarr.faces.reshard import plan_reshard, reshard
    from hfzarr.faces.stitch import stitch
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

# Most users need one or two of these, and each brings modules that take time to import.
_HOMES = {
    "Batches": "hfzarr.faces.batches",
    "Cost": "hfzarr.plan.cost",
    "Progress": "hfzarr.faces.progress",
    "ReshardPlan": "hfzarr.plan.reshard",
    "Resharded": "hfzarr.plan.reshard",
    "plan_reshard": "hfzarr.faces.reshard",
    "reshard": "hfzarr.faces.reshard",
    "stitch": "hfzarr.faces.stitch",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hfzarr' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
