"""Georeference: GeoZarr's conventions, and what came before them, as plain values.

The conventions are `proj <https://github.com/zarr-conventions/proj>`_ (which coordinate reference
system), `spatial <https://github.com/zarr-conventions/spatial>`_ (which pixel lies where) and
`multiscales <https://github.com/zarr-conventions/multiscales>`_ (which levels there are), v0.1.
"""

from __future__ import annotations

from hfzarr.model.geo.conventions import (
    MULTISCALES_UUID,
    PROJ_UUID,
    SPATIAL_UUID,
    declared,
)
from hfzarr.model.geo.coordinates import (
    coord_attrs,
    coords,
    dims_for,
    grid_mapping_attrs,
    spatial_dims,
)
from hfzarr.model.geo.georeference import Affine, Crs, GeoReference, combine, georeference
from hfzarr.model.geo.legacy import is_ndpyramid, legacy_georeference
from hfzarr.model.geo.multiscales import GeoLevel, GeoMultiscales, multiscales

__all__ = [
    "MULTISCALES_UUID",
    "PROJ_UUID",
    "SPATIAL_UUID",
    "Affine",
    "Crs",
    "GeoLevel",
    "GeoMultiscales",
    "GeoReference",
    "combine",
    "coord_attrs",
    "coords",
    "declared",
    "dims_for",
    "georeference",
    "grid_mapping_attrs",
    "is_ndpyramid",
    "legacy_georeference",
    "multiscales",
    "spatial_dims",
]
