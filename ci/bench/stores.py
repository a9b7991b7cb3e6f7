"""The stores that the opening benchmark opens."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
import zarr

DIMS = ("c", "y", "x")
CHANNELS, SIZE, CHUNK = 3, 4096, 256
STEP = 0.325


@dataclass(frozen=True, slots=True)
class Pyramid:
    """A pyramid of 7 levels with labels of as many, and what xarray's own engine opens of it.

    Parameters
    ----------
    folder
        Where the stores go.
    zarr_format
        2 for OME-Zarr 0.4, 3 for 0.5.
    consolidated
        Whether the stores have consolidated metadata.
    """

    folder: Path
    zarr_format: int
    consolidated: bool
    depth: int = 7

    @property
    def ome(self) -> Path:
        """The OME-Zarr store."""
        return self.folder / "image.ome.zarr"

    @property
    def stripped(self) -> Path:
        """The same arrays, each level in a group with coordinate arrays."""
        return self.folder / "stripped.zarr"

    @property
    def stripped_level(self) -> Path:
        """The finest level alone, in a store of its own."""
        return self.folder / "level.zarr"

    @property
    def levels(self) -> list[str]:
        """The levels' names."""
        return [str(level) for level in range(self.depth)]

    def write(self) -> Pyramid:
        """Write the three stores; no pixels, as opening reads none."""
        ome = self._root(self.ome)
        self._ome_levels(ome, DIMS, "uint16")
        ome.attrs.update(self._ome_metadata(DIMS, {"omero": _omero()}))
        labels = ome.create_group("labels")
        labels.attrs.update(self._versioned({"labels": ["cells"]}))
        cells = labels.create_group("cells")
        self._ome_levels(cells, DIMS[1:], "uint32")
        label = {"colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}]}
        cells.attrs.update(self._ome_metadata(DIMS[1:], {"image-label": label}))
        stripped = self._root(self.stripped)
        for parent, dims, dtype in (("", DIMS, "uint16"), ("labels/cells/", DIMS[1:], "uint32")):
            for level in range(self.depth):
                self._plain_level(stripped.create_group(f"{parent}{level}"), level, dims, dtype)
        self._plain_level(self._root(self.stripped_level), 0, DIMS, "uint16")
        if self.consolidated:
            for path in (self.ome, self.stripped, self.stripped_level):
                consolidate(path)
        return self

    def _root(self, path: Path) -> zarr.Group:
        """Create a store."""
        return zarr.open_group(path, mode="w", zarr_format=_format(self.zarr_format))

    def _ome_levels(self, group: zarr.Group, dims: tuple[str, ...], dtype: str) -> None:
        """Create the arrays of every level."""
        for level in range(self.depth):
            shape = _shape(dims, level)
            self._array(group, str(level), shape, dims, dtype, fill_value=0, named=False)

    def _plain_level(
        self, group: zarr.Group, level: int, dims: tuple[str, ...], dtype: str
    ) -> None:
        """Create a level's array and its coordinates, as xarray writes them.

        Without a fill value, xarray has no mask to decode: the least work for its engine.
        """
        shape = _shape(dims, level)
        fill_value = None if self.zarr_format == 2 else 0
        self._array(group, "image", shape, dims, dtype, fill_value=fill_value)
        step = STEP * 2**level
        for dim in "yx":
            size = SIZE >> level
            values = (step - STEP) / 2 + step * np.arange(size)
            array = self._array(group, dim, (size,), (dim,), "float64", fill_value=fill_value)
            array[:] = values
            array.attrs["units"] = "micrometer"

    def _array(
        self,
        group: zarr.Group,
        name: str,
        shape: tuple[int, ...],
        dims: tuple[str, ...],
        dtype: str,
        *,
        fill_value: int | None,
        named: bool = True,
    ) -> zarr.Array[Any]:
        """Create an array that names its dims, in the way of its format.

        OME-Zarr 0.4 has no names beside the array, 0.5 must have them.
        """
        chunks = tuple(min(CHUNK, size) if size > CHANNELS else 1 for size in shape)
        if len(dims) == 1:
            chunks = shape
        extra: dict[str, Any] = {}
        if self.zarr_format == 3:
            extra["dimension_names"] = dims
        elif named:
            extra["attributes"] = {"_ARRAY_DIMENSIONS": list(dims)}
        return group.create_array(
            name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill_value, **extra
        )

    def _ome_metadata(self, dims: tuple[str, ...], extra: dict[str, Any]) -> dict[str, Any]:
        """Return an image's attributes."""
        axes: list[dict[str, str]] = [
            {"name": "c", "type": "channel"}
            if dim == "c"
            else {"name": dim, "type": "space", "unit": "micrometer"}
            for dim in dims
        ]
        datasets = [
            {"path": str(level), "coordinateTransformations": _transformations(dims, level)}
            for level in range(self.depth)
        ]
        multiscale: dict[str, Any] = {"name": "image", "axes": axes, "datasets": datasets}
        if self.zarr_format == 2:
            multiscale["version"] = "0.4"
        return self._versioned({"multiscales": [multiscale], **extra})

    def _versioned(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return metadata where its version of OME-Zarr wants them."""
        return metadata if self.zarr_format == 2 else {"ome": {"version": "0.5", **metadata}}


def write_cf(path: Path, zarr_format: int, consolidated: bool) -> None:
    """Write a store as weather data come: time, lat, lon, 4 packed variables.

    Parameters
    ----------
    path
        Where.
    zarr_format
        2 or 3.
    consolidated
        Whether to consolidate the metadata.
    """
    sizes = {"time": 24, "lat": 90, "lon": 180}
    coordinates = {
        "time": pd.date_range("2026-01-01", periods=sizes["time"], freq="h"),
        "lat": np.linspace(-89.0, 89.0, sizes["lat"]),
        "lon": np.linspace(0.0, 358.0, sizes["lon"]),
    }
    shape = tuple(sizes.values())
    names = ("temperature", "pressure", "humidity", "wind")
    variables = {
        name: (tuple(sizes), np.zeros(shape, "float32"), {"units": "1", "long_name": name})
        for name in names
    }
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -9999}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.Dataset(variables, coordinates, {"Conventions": "CF-1.11"}).to_zarr(
            path,
            zarr_format=_format(zarr_format),
            consolidated=consolidated,
            encoding=dict.fromkeys(names, packing),
        )


def write_small(folder: Path, number: int) -> tuple[Path, Path]:
    """Write many small OME images, and the same stripped for xarray's own engine.

    Parameters
    ----------
    folder
        Where.
    number
        How many.

    Returns
    -------
    tuple of Path
        The folder of the OME images and that of the stripped stores, under the same names.
    """
    pattern = Pyramid(folder / "pattern", 3, True, depth=1).write()
    (pattern.ome / "labels").rename(folder / "labels")
    consolidate(pattern.ome)
    for index in range(number):
        name = f"{index:04d}.ome.zarr"
        shutil.copytree(pattern.ome, folder / "ome" / name)
        shutil.copytree(pattern.stripped_level, folder / "stripped" / name)
    return folder / "ome", folder / "stripped"


def consolidate(path: Path) -> None:
    """Consolidate a store's metadata, without zarr's warning that the way may yet change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)


def _shape(dims: tuple[str, ...], level: int) -> tuple[int, ...]:
    """Return a level's shape."""
    return tuple(CHANNELS if dim == "c" else SIZE >> level for dim in dims)


def _transformations(dims: tuple[str, ...], level: int) -> list[dict[str, Any]]:
    """Return a level's transformations: pixel centres, the finest at the origin."""
    step = STEP * 2**level
    shift = (step - STEP) / 2
    return [
        {"type": "scale", "scale": [1.0 if dim == "c" else step for dim in dims]},
        {"type": "translation", "translation": [0.0 if dim == "c" else shift for dim in dims]},
    ]


def _omero() -> dict[str, Any]:
    """Return the channels' names and colours."""
    window = {"start": 0, "end": 1000, "min": 0, "max": 65535}
    named = zip(("DAPI", "GFP", "RFP"), ("0000FF", "00FF00", "FF0000"), strict=True)
    channels = [
        {"label": label, "color": color, "window": window, "active": True} for label, color in named
    ]
    return {"channels": channels}


def _format(number: int) -> Literal[2, 3]:
    """Return a Zarr format as zarr-python's types want it."""
    return 2 if number == 2 else 3
