"""Open what ome-zarr and ngff-zarr write, and compare with what they were asked to write.

Each store is described by an `Ask`: dims, shape, scale, translation, units, channel labels. The
expected coordinates are worked out from the ask, not from the metadata; the pixels of the coarser
levels, which are the writer's own affair, are read with zarr-python.

The packages' pins may clash with the project's, so ``ci/conformance/run`` gives this script an
environment of its own. A writer that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

ENGINE = "hfzarr"
SIZES = {"t": 3, "c": 2, "z": 8, "y": 64, "x": 48}
SCALE = {"t": 2.0, "c": 1.0, "z": 0.5, "y": 0.25, "x": 0.125}
TRANSLATION = {"t": 10.0, "c": 0.0, "z": 5.0, "y": -3.0, "x": 7.5}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
CHANNELS = ("DAPI", "GFP")
COLORS = [
    {"label-value": 1, "rgba": [255, 0, 0, 255]},
    {"label-value": 2, "rgba": [0, 255, 0, 255]},
]
DIMS = ("yx", "cyx", "zyx", "czyx", "tczyx")
FACTORS = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a writer is asked for."""

    version: str
    """The version of OME-Zarr."""

    dims: str
    """The axes' names, one letter each."""

    translated: bool = False
    """Whether the image is moved away from the origin."""

    centred: bool = True
    """Whether a coarse pixel's centre is that of the pixels it stands for (else of the first)."""

    suffix: str = ".ome.zarr"
    """How the store's name ends."""

    sharded: bool = False
    """Whether chunks are gathered in shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the finest level."""
        return tuple(SIZES[dim] for dim in self.dims)

    @property
    def scale(self) -> dict[str, float]:
        """Return each axis's step at the finest level."""
        return {dim: SCALE[dim] for dim in self.dims}

    @property
    def translation(self) -> dict[str, float]:
        """Return each axis's first coordinate at the finest level."""
        return {dim: TRANSLATION[dim] if self.translated else 0.0 for dim in self.dims}

    @property
    def units(self) -> dict[str, str]:
        """Return each axis's unit, where it has one."""
        return {dim: UNITS[dim] for dim in self.dims if dim in UNITS}

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels' labels; none without a channel axis."""
        return CHANNELS if "c" in self.dims else ()

    def factors(self) -> list[dict[str, int]]:
        """Return how much coarser each level after the first is, by spatial axis."""
        return [{dim: factor for dim in self.dims if dim in "zyx"} for factor in FACTORS[1:]]

    def coordinate(self, dim: str, factor: int) -> np.ndarray:
        """Return the coordinates of an axis of space or time at a level.

        Parameters
        ----------
        dim
            The axis.
        factor
            How much coarser than the finest the level is.

        Returns
        -------
        numpy.ndarray
            One float per pixel centre, in the axis's unit.
        """
        factor = factor if dim in "zyx" else 1
        shift = (factor - 1) / 2 * SCALE[dim] if self.centred else 0.0
        steps = np.arange(SIZES[dim] // factor)
        return self.translation[dim] + shift + SCALE[dim] * factor * steps

    def pixels(self) -> np.ndarray:
        """Return the finest level: every value once, 0 included."""
        return np.arange(np.prod(self.shape)).reshape(self.shape).astype("uint16")

    def labels(self) -> np.ndarray:
        """Return labels for the image, without the channel axis; most are 0."""
        dims = self.dims.replace("c", "")
        numbers = np.arange(np.prod([SIZES[dim] for dim in dims]))
        return (
            np.where(numbers % 5 < 3, 0, numbers % 5)
            .astype("uint32")
            .reshape([SIZES[dim] for dim in dims])
        )


# --- writers ------------------------------------------------------------------------------------


def ome_zarr_image(path: Path, ask: Ask) -> None:
    """Write with ome-zarr, which makes the levels, and labels beside them."""
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import write_image, write_labels
    from ome_zarr_models.common.omero import Omero

    fmt = format_from_version(ask.version)
    common: dict[str, Any] = {"scale_factors": ask.factors(), "fmt": fmt}
    extra = {"omero": Omero.model_validate(_omero(ask))} if ask.channels else {}
    write_image(
        ask.pixels(),
        str(path),
        axes=list(ask.dims),
        scale=ask.scale,
        axes_units=ask.units,
        **common,
        **extra,
    )
    dims = ask.dims.replace("c", "")
    write_labels(
        ask.labels(),
        str(path),
        name="cells",
        scaler=None,
        axes=list(dims),
        scale={dim: ask.scale[dim] for dim in dims},
        axes_units={dim: ask.units[dim] for dim in dims},
        label_metadata={"colors": COLORS},
        **common,
    )


def ome_zarr_pyramid(path: Path, ask: Ask) -> None:
    """Write levels made here, with transformations of our own, with ome-zarr."""
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import write_multiscale

    levels, transformations = [], []
    for factor in FACTORS:
        steps = {dim: factor if dim in "zyx" else 1 for dim in ask.dims}
        levels.append(ask.pixels()[tuple(slice(None, None, steps[dim]) for dim in ask.dims)])
        scale = [ask.scale[dim] * steps[dim] for dim in ask.dims]
        translation = [ask.translation[dim] for dim in ask.dims]
        transformations.append(
            [
                {"type": "scale", "scale": scale},
                {"type": "translation", "translation": translation},
            ]
        )
    fmt = format_from_version(ask.version)
    group = zarr.open_group(path, mode="w", zarr_format=fmt.zarr_format)
    # ome-zarr 0.18 takes units from the axes, 0.21 from `axes_units` alone.
    write_multiscale(
        levels,
        group,
        fmt=fmt,
        axes=_axes(ask),
        axes_units=ask.units,
        coordinate_transformations=transformations,
        **({"metadata": {"omero": _omero(ask)}} if ask.channels else {}),
    )


def ngff_zarr_image(path: Path, ask: Ask) -> None:
    """Write with ngff-zarr, which makes the levels."""
    import ngff_zarr

    image = ngff_zarr.to_ngff_image(
        ask.pixels(),
        dims=tuple(ask.dims),
        scale=ask.scale,
        translation=ask.translation,
        axes_units=ask.units,
        name="volume",
    )
    method = ngff_zarr.Methods.ITKWASM_BIN_SHRINK
    levels = ngff_zarr.to_multiscales(image, scale_factors=ask.factors(), method=method, chunks=16)
    if ask.channels:
        levels.metadata.omero = _ngff_omero(ask)
    shards = {"chunks_per_shard": 2} if ask.sharded else {}
    ngff_zarr.to_ngff_zarr(str(path), levels, version=ask.version, **shards)


def _axes(ask: Ask) -> list[dict[str, str]]:
    """Return OME-Zarr's axes."""
    types = {"t": "time", "c": "channel"}
    return [
        {"name": dim, "type": types.get(dim, "space")}
        | ({"unit": ask.units[dim]} if dim in ask.units else {})
        for dim in ask.dims
    ]


def _omero(ask: Ask) -> dict[str, Any]:
    """Return OME-Zarr's rendering metadata."""
    window = {"start": 0.0, "end": 1000.0, "min": 0.0, "max": 65535.0}
    return {
        "channels": [
            {"label": label, "color": color, "window": window, "active": True}
            for label, color in zip(ask.channels, ("0000FF", "00FF00"), strict=True)
        ]
    }


def _ngff_omero(ask: Ask) -> Any:
    """Return the same in ngff-zarr's classes."""
    from ngff_zarr import Omero, OmeroChannel, OmeroWindow

    channels = []
    for channel in _omero(ask)["channels"]:
        window = OmeroWindow(**channel["window"])
        channels.append(OmeroChannel(channel["color"], window, channel["label"]))
    return Omero(channels=channels)


@dataclass(frozen=True, slots=True)
class Writer:
    """One way to write a store."""

    name: str
    package: str
    write: Callable[[Path, Ask], None]
    asks: tuple[Ask, ...]
    labels: bool = False


def writers() -> tuple[Writer, ...]:
    """Return every way to write, with what each is asked for."""
    plain = [Ask(version=number, dims=dims) for number in ("0.4", "0.5") for dims in DIMS]
    moved = [replace(ask, translated=True) for ask in plain]
    newest = [Ask(version="0.6", dims=dims, translated=True) for dims in DIMS]
    zipped = Ask(version="0.5", dims="czyx", translated=True, suffix=".ozx")
    sharded = Ask(version="0.5", dims="zyx", translated=True, sharded=True)
    by_hand = tuple(replace(ask, centred=False) for ask in moved)
    ngff = (*moved, *newest, zipped, sharded)
    return (
        Writer("ome-zarr write_image", "ome-zarr", ome_zarr_image, tuple(plain), labels=True),
        Writer("ome-zarr write_multiscale", "ome-zarr", ome_zarr_pyramid, by_hand),
        Writer("ngff-zarr to_ngff_zarr", "ngff-zarr", ngff_zarr_image, ngff),
    )


# --- checks -------------------------------------------------------------------------------------


def check_store(path: Path, ask: Ask, labels: bool, engine: str) -> Iterator[str]:
    """Open a store in every way and yield what is not as asked."""
    levels = _levels_by_zarr(path)
    if len(levels) != len(FACTORS):
        yield f"the writer wrote {len(levels)} levels where {len(FACTORS)} were asked for"
        return
    with xr.open_dataset(path, engine=engine) as dataset:
        yield from check_level(dataset, ask, FACTORS[0], ask.pixels(), "open_dataset")
    with xr.open_dataset(path, engine=engine, level=-1) as dataset:
        pixels = list(levels.values())[-1][...]
        yield from check_level(dataset, ask, FACTORS[-1], pixels, "open_dataset(level=-1)")
    with xr.open_datatree(path, engine=engine) as tree:
        yield from check_tree(tree, ask, levels)
        if labels:
            yield from check_labels(tree, ask)


def check_tree(tree: xr.DataTree, ask: Ask, levels: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the levels of a tree."""
    for factor, (name, array) in zip(FACTORS, levels.items(), strict=True):
        node = _node(tree, name)
        if node is None:
            yield f"open_datatree: no node for level {name!r}; it has {list(tree.groups)}"
        else:
            yield from check_level(node.dataset, ask, factor, array[...], f"tree {node.path}")


def check_level(
    dataset: xr.Dataset, ask: Ask, factor: int, pixels: Any, where: str
) -> Iterator[str]:
    """Yield what is wrong with one level: dims, dtype, pixels, coordinates, units, channels."""
    if "image" not in dataset.data_vars:
        yield f"{where}: no variable 'image' among {list(dataset.data_vars)}"
        return
    image = dataset["image"]
    yield from _check_pixels(image, tuple(ask.dims), pixels, where)
    yield from _check_coordinates(image, ask, factor, where)
    if ask.channels:
        labels = tuple(image.coords["c"].to_numpy().tolist()) if "c" in image.coords else ()
        if labels != ask.channels:
            yield f"{where}: channel labels {labels}, wanted {ask.channels}"


def check_labels(tree: xr.DataTree, ask: Ask) -> Iterator[str]:
    """Yield what is wrong with the labels ``cells`` of a tree."""
    if "/labels/cells" not in tree.groups:
        yield f"open_datatree: no node labels/cells; it has {list(tree.groups)}"
        return
    nodes = [node for node in tree["labels/cells"].subtree if node.data_vars]
    if len(nodes) != len(FACTORS):
        yield f"labels/cells: {len(nodes)} levels, wanted {len(FACTORS)}"
        return
    dims = ask.dims.replace("c", "")
    for factor, node in zip(FACTORS, nodes, strict=True):
        array = next(iter(node.dataset.data_vars.values()))
        if array.dtype.kind not in "iu":
            yield f"{node.path}: dtype {array.dtype}, wanted integers"
        if factor == 1:
            yield from _check_pixels(array, tuple(dims), ask.labels(), node.path)
        yield from _check_coordinates(array, replace(ask, dims=dims), factor, node.path)


def _check_pixels(
    array: xr.DataArray, dims: tuple[str, ...], pixels: np.ndarray, where: str
) -> Iterator[str]:
    """Yield what is wrong with an array's dims, dtype and values."""
    if array.dims != dims:
        yield f"{where}: dims {array.dims}, wanted {dims}"
    if array.dtype != pixels.dtype:
        yield f"{where}: dtype {array.dtype}, wanted {pixels.dtype}"
    if not np.array_equal(array.values, pixels):
        yield f"{where}: pixels differ"


def _check_coordinates(image: xr.DataArray, ask: Ask, factor: int, where: str) -> Iterator[str]:
    """Yield what is wrong with the coordinates of space and time."""
    for dim in ask.dims.replace("c", ""):
        wanted = ask.coordinate(dim, factor)
        if dim not in image.coords:
            yield f"{where}: no coordinate {dim!r}"
            continue
        came = image.coords[dim]
        if came.shape != wanted.shape or not np.allclose(came.values, wanted, rtol=1e-12, atol=0):
            yield f"{where}: {dim} is {came.values[:3]}…, wanted {wanted[:3]}…"
        if came.attrs.get("units") != ask.units.get(dim):
            yield f"{where}: {dim} in {came.attrs.get('units')}, wanted {ask.units.get(dim)}"


def _levels_by_zarr(path: Path) -> dict[str, Any]:
    """Return the listed levels of an image, opened with zarr-python."""
    store: Any = zarr.storage.ZipStore(path) if path.suffix == ".ozx" else str(path)
    group = zarr.open_group(store, mode="r")
    metadata: Any = group.attrs.asdict()
    datasets = metadata.get("ome", metadata)["multiscales"][0]["datasets"]
    arrays = {dataset["path"]: group[dataset["path"]] for dataset in datasets}
    return {name: array for name, array in arrays.items() if isinstance(array, zarr.Array)}


def _node(tree: xr.DataTree, name: str) -> Any:
    """Return the node of a level: at its path, or at the group that holds its one array."""
    for path in (f"/{name}", f"/{name}".rpartition("/")[0]):
        if path in tree.groups and "image" in tree[path].data_vars:
            return tree[path]
    return None


# --- the run ------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Write and check every store, print a line for each, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", default=ENGINE, help="the xarray engine to check (hfzarr)")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    started = time.perf_counter()
    installed = {name: _version(name) for name in ("ome-zarr", "ngff-zarr", "zarr", "xarray")}
    print(", ".join(f"{name} {number or 'absent'}" for name, number in installed.items()))
    failed = tested = 0
    with tempfile.TemporaryDirectory(prefix="writers-") as folder:
        for writer in writers():
            if installed[writer.package] is None:
                print(f"NOT TESTED: {writer.name}, as {writer.package} is not installed here")
                continue
            for ask in writer.asks:
                tested += 1
                failed += not _report(writer, ask, Path(folder), options.engine)
    print(f"{tested - failed} of {tested} stores open as asked", end=", ")
    print(f"took {time.perf_counter() - started:.0f} s")
    return 1 if failed or not tested else 0


def _report(writer: Writer, ask: Ask, folder: Path, engine: str) -> bool:
    """Write and check one store, print the verdict, return whether it is good."""
    details = [ask.version, ask.dims.ljust(5), "moved" if ask.translated else "at 0"]
    details += [ask.suffix.strip(".")] + (["sharded"] if ask.sharded else [])
    name = f"{writer.name}, {' '.join(details)}"
    path = folder / f"{abs(hash((writer.name, ask)))}{ask.suffix}"
    try:
        writer.write(path, ask)
        problems = list(check_store(path, ask, writer.labels, engine))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).partition("\n")[0]
        place_name = f"{Path(place.filename).name}:{place.lineno}"
        problems = [f"{type(error).__name__}: {text} ({place_name})"]
    print(f"{'FAIL' if problems else 'ok  '} {name}")
    for problem in problems:
        print(f"       {problem}")
    return not problems


def _version(package: str) -> str | None:
    """Return an installed package's version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
