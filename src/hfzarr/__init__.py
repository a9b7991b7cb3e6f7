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
    CacheWarning,
    ChangedSourceError,
    HfzarrError,
    InvalidMetadataError,
    LimitError,
    MissingDependencyError,
    NodeNotFoundError,
    NoPixelsError,
    ReadError,
    RepairWarning,
    StoreNotFoundError,
    TargetError,
    UnnamedDimensionsError,
    UnsupportedError,
    VerificationError,
    WriteError,
)
from hfzarr.faces import registration
from hfzarr.faces.accessor import DatasetAccessor
from hfzarr.faces.tree_accessor import TreeAccessor
from hfzarr.model.limits import Limits, get_limits, set_limits
from hfzarr.model.report import Diagnosis, Finding

if TYPE_CHECKING:
    from hfzarr.faces.batches import Batches
    from hfzarr.faces.collate import ZarrCollator
    from hfzarr.faces.feature import Zarr
    from hfzarr.faces.gallery import Gallery, gallery
    from hfzarr.faces.loading import load_dataset, load_from_disk, load_zarr_dataset, restore
    from hfzarr.faces.progress import Progress
    from hfzarr.faces.push import push_to_hub
    from hfzarr.faces.reshard import plan_reshard, reshard
    from hfzarr.faces.selections import selections
    from hfzarr.faces.stitch import stitch
    from hfzarr.faces.table import load_table
    from hfzarr.faces.validate import validate
    from hfzarr.model.verdict import Verdict
    from hfzarr.plan.cost import Cost
    from hfzarr.plan.push import Pushed, PushPlan
    from hfzarr.plan.reshard import Resharded, ReshardPlan
    from hfzarr.rows.handle import ZarrHandle
    from hfzarr.rows.info import StoreInfo
    from hfzarr.rows.kinds import OmeZarr, ZarrArray, ZarrGroup
    from hfzarr.rows.manifest import Manifest
    from hfzarr.rows.opening import open_manifest
    from hfzarr.rows.scan import ScanProgress, scan
    from hfzarr.rows.selection import ZarrSelection

__all__ = [
    "AmbiguousTargetError",
    "Batches",
    "CacheWarning",
    "ChangedSourceError",
    "Cost",
    "DatasetAccessor",
    "Diagnosis",
    "Finding",
    "Gallery",
    "HfzarrError",
    "InvalidMetadataError",
    "LimitError",
    "Limits",
    "Manifest",
    "MissingDependencyError",
    "NoPixelsError",
    "NodeNotFoundError",
    "OmeZarr",
    "Progress",
    "PushPlan",
    "Pushed",
    "ReadError",
    "RepairWarning",
    "ReshardPlan",
    "Resharded",
    "ScanProgress",
    "StoreInfo",
    "StoreNotFoundError",
    "TargetError",
    "TreeAccessor",
    "UnnamedDimensionsError",
    "UnsupportedError",
    "Verdict",
    "VerificationError",
    "WriteError",
    "Zarr",
    "ZarrArray",
    "ZarrCollator",
    "ZarrGroup",
    "ZarrHandle",
    "ZarrSelection",
    "__version__",
    "gallery",
    "get_limits",
    "load_dataset",
    "load_from_disk",
    "load_table",
    "load_zarr_dataset",
    "open_manifest",
    "plan_reshard",
    "push_to_hub",
    "reshard",
    "restore",
    "scan",
    "selections",
    "set_limits",
    "stitch",
    "validate",
]

__version__ = "0.1.0.dev0"

# Most users need one or two of these, and each brings modules that take time to import.
_HOMES = {
    "Batches": "hfzarr.faces.batches",
    "Cost": "hfzarr.plan.cost",
    "Gallery": "hfzarr.faces.gallery",
    "Manifest": "hfzarr.rows.manifest",
    "OmeZarr": "hfzarr.rows.kinds",
    "Progress": "hfzarr.faces.progress",
    "PushPlan": "hfzarr.plan.push",
    "Pushed": "hfzarr.plan.push",
    "ReshardPlan": "hfzarr.plan.reshard",
    "Resharded": "hfzarr.plan.reshard",
    "ScanProgress": "hfzarr.rows.scan",
    "StoreInfo": "hfzarr.rows.info",
    "Verdict": "hfzarr.model.verdict",
    "Zarr": "hfzarr.faces.feature",
    "ZarrArray": "hfzarr.rows.kinds",
    "ZarrCollator": "hfzarr.faces.collate",
    "ZarrGroup": "hfzarr.rows.kinds",
    "ZarrHandle": "hfzarr.rows.handle",
    "ZarrSelection": "hfzarr.rows.selection",
    "gallery": "hfzarr.faces.gallery",
    "load_dataset": "hfzarr.faces.loading",
    "load_from_disk": "hfzarr.faces.loading",
    "load_table": "hfzarr.faces.table",
    "load_zarr_dataset": "hfzarr.faces.loading",
    "open_manifest": "hfzarr.rows.opening",
    "plan_reshard": "hfzarr.faces.reshard",
    "push_to_hub": "hfzarr.faces.push",
    "reshard": "hfzarr.faces.reshard",
    "restore": "hfzarr.faces.loading",
    "scan": "hfzarr.rows.scan",
    "selections": "hfzarr.faces.selections",
    "stitch": "hfzarr.faces.stitch",
    "validate": "hfzarr.faces.validate",
}

registration.announce()


def __getattr__(name: str) -> Any:
    """Import what is asked for, at its first use."""
    if name not in _HOMES:
        from hfzarr.rows.habits import advice

        raise AttributeError(f"module 'hfzarr' has no attribute {name!r}{advice('module', name)}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
