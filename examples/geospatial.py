"""A satellite scene at several resolutions: choose one, clip, compute NDVI, save it as GeoTIFF.

The scene is a GeoZarr pyramid of four bands, as reflectances packed into uint16. It is made up
where it is missing: fields, a wood, a river and a village. It needs rioxarray (hfzarr[geo])::

    python examples/geospatial.py scene.zarr --resolution 25 --out ndvi.tif
    python examples/geospatial.py scene.zarr --box 15.013 45.122 15.038 45.14 --crs EPSG:4326

A box is west, south, east, north, in the scene's own reference system unless --crs names another.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401 (gives Datasets their .rio)
import xarray as xr
import zarr

from hfzarr.faces.picture import resize, save_png

SIDE, STEPS = 512, (10, 20, 40, 80)  # pixels at the finest level; metres of a pixel, by level
WEST, NORTH = 500_000, 5_000_000  # corner of the scene, in metres of UTM 33N
BOX = (501_000, 4_996_500, 503_000, 4_998_500)  # west, south, east, north
CONVENTIONS = {
    "multiscales": "d35379db-88df-4056-af3a-620245f8e347",
    "proj": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "spatial": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
}


def landscape() -> dict[str, np.ndarray]:
    """Make up reflectances (0 to 1) of a plain with fields, a wood, a river and a village."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    fields = rng.uniform(0.05, 0.9, (16, 16))[y // 32, (x + y // 5) // 32 % 16]
    green = np.where(np.hypot(y - 380, x - 400) < 110, 0.95, fields)  # cover of vegetation
    green = np.where((abs(y - 170) < 22) & (abs(x - 190) < 30), 0.15, green)
    water = abs(x - 256 - 60 * np.sin(y / 70)) < 9
    spectra = {  # of soil, leaves and water
        "blue": (0.10, 0.03, 0.05),
        "green": (0.14, 0.07, 0.06),
        "red": (0.20, 0.04, 0.04),
        "nir": (0.28, 0.48, 0.02),
    }
    bands = {}
    for name, (soil, leaf, river) in spectra.items():
        band = np.where(water, river, soil + (leaf - soil) * green)
        bands[name] = band * rng.normal(1, 0.04, band.shape)
    return bands


def write_scene(store: str) -> None:
    """Write each level as a group; where it lies is told by its transform, without x and y."""
    layout = [{"asset": f"{STEPS[0]}m", "transform": {"scale": [1.0, 1.0]}}]
    for coarse, fine in zip(STEPS[1:], STEPS, strict=False):
        level = {"asset": f"{coarse}m", "derived_from": f"{fine}m"}
        layout.append({**level, "transform": {"scale": [2.0, 2.0]}})
    root = zarr.create_group(store, zarr_format=3)
    root.attrs.update(geo(STEPS[0], ["multiscales", "proj", "spatial"]))
    root.attrs["multiscales"] = {"resampling_method": "average", "layout": layout}
    packed = {"dtype": "uint16", "scale_factor": 1e-4, "_FillValue": 0, "chunks": (64, 64)}
    bands = landscape()
    for step in STEPS:
        part = step // STEPS[0]
        means = {
            name: (("y", "x"), band.reshape(SIDE // part, part, -1, part).mean((1, 3)))
            for name, band in bands.items()
        }
        xr.Dataset(means, attrs=geo(step, ["proj", "spatial"])).to_zarr(
            store, group=f"{step}m", encoding=dict.fromkeys(means, packed), consolidated=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr v3 has no final word on consolidated metadata yet
        zarr.consolidate_metadata(store)


def geo(step: int, conventions: list[str]) -> dict:
    """Attributes that say where a grid of so many metres lies."""
    side = SIDE * STEPS[0] // step
    return {
        "zarr_conventions": [{"name": name, "uuid": CONVENTIONS[name]} for name in conventions],
        "proj:code": "EPSG:32633",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [step, 0, WEST, 0, -step, NORTH],
        "spatial:shape": [side, side],
    }


def fitting_level(store: str, resolution: float) -> str:
    """Name the coarsest level that is fine enough; only metadata is read."""
    tree = xr.open_datatree(store, engine="hfzarr")
    steps = {name: node.to_dataset().rio.resolution()[0] for name, node in tree.children.items()}
    fine = [name for name, step in steps.items() if step <= resolution]
    print("levels:", ", ".join(f"{name} ({step:g} m)" for name, step in steps.items()))
    return max(fine, key=steps.__getitem__) if fine else min(steps, key=steps.__getitem__)


def draw(scene: xr.Dataset, ndvi: xr.DataArray, png: str) -> None:
    """Save the scene in natural colours with the box on it, and beside it the map of the box."""
    picture = scene.hfzarr.thumbnail(256).copy()
    side = picture.shape[0]
    (west, south, east, north), inner = scene.rio.bounds(), ndvi.rio.bounds()
    left, right = (round(side * (x - west) / (east - west)) for x in inner[::2])
    bottom, top = (round(side * (north - y) / (north - south)) for y in inner[1::2])
    picture[[top, bottom - 1], left:right] = 255
    picture[top:bottom, [left, right - 1]] = 255
    beside = resize(ndvi.to_dataset().hfzarr.thumbnail(), side, side)
    save_png(np.concatenate([picture, beside], axis=1), png)


def main(
    store: str = "scene.zarr",
    out: str = "ndvi.tif",
    resolution: float = 25,
    box: tuple[float, float, float, float] = BOX,
    crs: str | None = None,
) -> xr.DataArray:
    if "://" not in store and not Path(store).exists():
        write_scene(store)
    level = fitting_level(store, resolution)
    scene = xr.open_dataset(store, engine="hfzarr", level=level)
    print(f"{level}: {dict(scene.sizes)} of {list(scene.data_vars)} in {scene.rio.crs}")

    # Clipping moves no pixel: what lies outside of the box is never read.
    part = scene.rio.clip_box(*box, crs=crs)
    degrees = ", ".join(f"{n:.3f}" for n in part.rio.transform_bounds("EPSG:4326"))
    print(f"the box: {dict(part.sizes)}, in degrees {degrees}")
    whole = xr.open_dataset(store, engine="hfzarr")[["red", "nir"]].hfzarr.explain().total
    cost = part[["red", "nir"]].hfzarr.explain().total
    print(f"reads {cost.requests} chunks; the whole scene at its finest has {whole.requests}")

    red, nir = part["red"], part["nir"]  # reflectances: unpacked, NaN where nothing was measured
    ndvi = ((nir - red) / (nir + red)).astype("float32").rename("ndvi").compute()
    ndvi.rio.write_crs(scene.rio.crs).rio.to_raster(out)
    print(f"NDVI from {float(ndvi.min()):.2f} to {float(ndvi.max()):.2f}; saved {out}")
    draw(scene, ndvi, str(Path(out).with_suffix(".png")))
    return ndvi


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("store", nargs="?", default="scene.zarr")
    options.add_argument("--out", default="ndvi.tif", help="the GeoTIFF; a picture lies beside it")
    options.add_argument("--resolution", type=float, default=25, help="metres of a pixel")
    options.add_argument("--box", type=float, nargs=4, default=BOX, metavar="N")
    options.add_argument("--crs", help="of the box, such as EPSG:4326; else that of the scene")
    main(**vars(options.parse_args()))
