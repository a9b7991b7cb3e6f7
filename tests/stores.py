"""Small stores as others write them, made with zarr-python and xarray, for the engine's tests."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

LEVELS = ("0", "1", "2")
SHAPE = (2, 4, 32, 48)
CHUNKS = (1, 2, 16, 16)
AXES = [
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]
DIMS = tuple(axis["name"] for axis in AXES)
STEP = (1.0, 2.0, 0.5, 0.5)
OMERO = {
    "channels": [
        {
            "label": label,
            "color": color,
            "active": True,
            "window": {"min": 0, "max": 65535, "start": 0, "end": 1000},
        }
        for label, color in (("DAPI", "0000FF"), ("GFP", "00FF00"))
    ]
}
ZARR_CONVENTIONS = [
    {"uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f", "name": "proj"},
    {"uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "name": "spatial"},
]
MULTISCALES = {"uuid": "d35379db-88df-4056-af3a-620245f8e347", "name": "multiscales"}


# --- OME-Zarr ------------------------------------------------------------------------------------


def pixels(level: int = 0, shape: tuple[int, ...] = SHAPE, dtype: str = "uint16") -> np.ndarray:
    """Return what a level of `write_image` holds: every value differs from its neighbours."""
    full = np.arange(np.prod(shape), dtype="int64").reshape(shape) * 7 % 60_000
    return full[..., :: 2**level, :: 2**level].astype(dtype)


def ome_attrs(data: dict[str, Any], zarr_format: int) -> dict[str, Any]:
    """Return OME-Zarr metadata where 0.4 (Zarr v2) or 0.5 (v3) puts it."""
    if zarr_format == 3:
        return {"ome": {"version": "0.5", **data}}
    versioned = dict(data)
    for key in ("plate", "well"):
        if key in data:
            versioned[key] = {"version": "0.4", **data[key]}
    if "multiscales" in data:
        versioned["multiscales"] = [{"version": "0.4", **m} for m in data["multiscales"]]
    return versioned


def multiscale(dims: tuple[str, ...] = DIMS, levels: int = 3, name: str = "cells") -> dict:
    """Return a multiscale whose levels halve y and x, each pixel centre in its place."""
    steps = dict(zip(DIMS, STEP, strict=True))
    datasets = []
    for level, path in enumerate(LEVELS[:levels]):
        scale = [steps[dim] * (2**level if dim in "yx" else 1) for dim in dims]
        datasets.append(
            {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes = [axis for axis in AXES if axis["name"] in dims]
    return {"name": name, "axes": axes, "datasets": datasets}


def write_image(
    store: Any,
    path: str = "",
    *,
    zarr_format: int = 3,
    labels: Iterable[str] = ("nuclei",),
    consolidated: bool = True,
    levels: int = 3,
    shards: tuple[int, ...] | None = None,
) -> Any:
    """Write an OME-Zarr 0.4 (Zarr v2) or 0.5 (v3) pyramid with label images; return the store."""
    data = {"multiscales": [multiscale(levels=levels)], "omero": OMERO}
    group = zarr.create_group(
        store, path=path, zarr_format=zarr_format, attributes=ome_attrs(data, zarr_format)
    )
    _write_levels(group, DIMS, levels, "uint16", shards)
    labels = list(labels)
    if labels:
        group.create_group("labels", attributes=ome_attrs({"labels": labels}, zarr_format))
    for name in labels:
        data = {
            "multiscales": [multiscale(DIMS[1:], levels, name)],
            "image-label": {
                "version": "0.4",
                "colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}],
                "source": {"image": "../../"},
            },
        }
        label = group.create_group(f"labels/{name}", attributes=ome_attrs(data, zarr_format))
        _write_levels(label, DIMS[1:], levels, "int32", None)
    if consolidated:
        zarr.consolidate_metadata(store, path=path or None)
    return store


def _write_levels(
    group: zarr.Group,
    dims: tuple[str, ...],
    levels: int,
    dtype: str,
    shards: tuple[int, ...] | None,
) -> None:
    names = dims if group.metadata.zarr_format == 3 else None
    for level in range(levels):
        data = pixels(level, SHAPE[-len(dims) :], dtype)
        array = group.create_array(
            LEVELS[level],
            shape=data.shape,
            dtype=data.dtype,
            chunks=CHUNKS[-len(dims) :],
            shards=shards,
            dimension_names=names,
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"} if names is None else None,
        )
        array[...] = data


def write_plate(
    store: Any,
    fields: dict[str, int] | None = None,
    *,
    zarr_format: int = 3,
    consolidated: bool = True,
    labels: Iterable[str] = (),
) -> Any:
    """Write a plate of `write_image` fields, two levels each; ``fields`` counts them by well."""
    fields = fields or {"A/1": 2, "A/2": 2, "B/1": 1}
    rows, columns = (sorted({well.split("/")[i] for well in fields}) for i in (0, 1))
    wells = [
        {"path": well, "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
        for well, (row, column) in ((well, well.split("/")) for well in fields)
    ]
    plate = {
        "name": "test plate",
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": wells,
    }
    attrs = ome_attrs({"plate": plate}, zarr_format)
    root = zarr.create_group(store, zarr_format=zarr_format, attributes=attrs)
    for well, count in fields.items():
        images = {"images": [{"path": str(i)} for i in range(count)]}
        root.create_group(well, attributes=ome_attrs({"well": images}, zarr_format))
        for i in range(count):
            path = f"{well}/{i}"
            write_image(
                store, path, zarr_format=zarr_format, labels=labels, levels=2, consolidated=False
            )
            zarr.open_array(store, path=f"{path}/0", mode="r+")[0, 0, 0, 0] = len(path) + i
    if consolidated:
        zarr.consolidate_metadata(store)
    return store


# --- CF and GeoZarr ------------------------------------------------------------------------------


def climate(calendar: str = "standard") -> xr.Dataset:
    """Return a small cube with everything that CF knows: packing, masks, bounds, times, text."""
    values = np.linspace(270, 300, 5 * 4 * 6).reshape(5, 4, 6)
    values[1, 2, 3] = np.nan
    days = xr.date_range("2001-02-26", periods=5, calendar=calendar, use_cftime=None)
    edges = np.stack([np.arange(4.0), np.arange(1.0, 5.0)], axis=1)
    return xr.Dataset(
        {
            "air": (
                ("time", "lat", "lon"),
                values,
                {"units": "K", "standard_name": "air_temperature", "grid_mapping": "crs"},
                {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -999},
            ),
            "flags": (("lat", "lon"), np.arange(24, dtype="int8").reshape(4, 6)),
            "lag": (("time",), np.arange(5).astype("timedelta64[D]").astype("timedelta64[ns]")),
            "site": (("lat",), np.array(["a", "bé", "", "d"])),
            "code": (("lat",), np.array([b"ab", b"c", b"", b"def"], "S3"), {}, {"dtype": "S1"}),
            "lat_bounds": (("lat", "nv"), edges),
            "crs": ((), np.int32(0), {"grid_mapping_name": "latitude_longitude"}),
        },
        coords={
            "time": ("time", days),
            "lat": ("lat", np.arange(4) + 0.5, {"bounds": "lat_bounds", "units": "degrees_north"}),
            "lon": ("lon", np.arange(6) * 2.0, {"units": "degrees_east"}),
        },
        attrs={"title": "a test", "Conventions": "CF-1.10"},
    )


def write_cf(store: Any, *, zarr_format: int = 3, calendar: str = "standard", **kwargs: Any) -> Any:
    """Write `climate` with xarray's own writer; return the store."""
    with warnings.catch_warnings():
        # Bytes of fixed length have no specification in v3 yet.
        warnings.simplefilter("ignore")
        climate(calendar).to_zarr(store, zarr_format=zarr_format, mode="w", **kwargs)
    return store


def scene(step: int, height: int, width: int) -> dict[str, Any]:
    """Return the GeoZarr attributes of a grid of ``step`` metres in UTM 33N."""
    return {
        "zarr_conventions": ZARR_CONVENTIONS,
        "proj:code": "EPSG:32633",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [step, 0, 500_000, 0, -step, 5_000_000],
        "spatial:shape": [height, width],
        "spatial:registration": "pixel",
    }


def write_geo(
    store: Any, assets: str = "groups", *, consolidated: bool = True, named: bool = True
) -> Any:
    """Write a GeoZarr pyramid of 10, 20 and 40 m.

    ``assets`` says what its layout names: ``"groups"``, ``"arrays"`` or ``"paths"`` to arrays.
    """
    names = {"groups": "r{}m", "arrays": "r{}m", "paths": "r{}m/data"}[assets]
    layout: list[dict[str, Any]] = []
    for step in (10, 20, 40):
        entry: dict[str, Any] = {"asset": names.format(step), "transform": {"scale": [1.0, 1.0]}}
        if layout:
            entry |= {"derived_from": layout[-1]["asset"], "transform": {"scale": [2.0, 2.0]}}
        layout.append({**entry, "spatial:transform": scene(step, 0, 0)["spatial:transform"]})
    attrs = {
        **scene(10, 24, 32),
        "zarr_conventions": [*ZARR_CONVENTIONS, MULTISCALES],
        "multiscales": {"resampling_method": "average", "layout": layout},
    }
    root = zarr.create_group(store, zarr_format=3, attributes=attrs)
    for step in (10, 20, 40):
        data = height_map(step)
        path = f"r{step}m" if assets == "arrays" else f"r{step}m/data"
        if assets == "groups":
            root.create_group(f"r{step}m", attributes=scene(step, *data.shape))
        elif assets == "paths":
            root.create_group(f"r{step}m")
        root.create_array(
            path, data=data, chunks=(8, 8), dimension_names=("y", "x") if named else None
        )
    if consolidated:
        zarr.consolidate_metadata(store)
    return store


def height_map(step: int = 10) -> np.ndarray:
    """Return what a level of `write_geo` holds."""
    return np.arange(24 * 32, dtype="uint16").reshape(24, 32)[:: step // 10, :: step // 10]


# --- zips ----------------------------------------------------------------------------------------


def zip_folder(
    folder: Path, target: Path, *, compression: int = zipfile.ZIP_STORED, root: str = ""
) -> Path:
    """Put all files of a folder into a zip, below the folder ``root`` of it; return the zip."""
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, root + file.relative_to(folder).as_posix())
    return target
