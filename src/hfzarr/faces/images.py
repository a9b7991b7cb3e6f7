"""OME-Zarr as xarray: images, label images, plates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xarray import Coordinates, Dataset, Variable
from xarray.core import indexing

from hfzarr.errors import AmbiguousTargetError, NodeNotFoundError
from hfzarr.faces.variables import (
    StackedArray,
    chunk_encoding,
    coord_variable,
    stored_variable,
)
from hfzarr.model.ome.image import Image, Level, find_level
from hfzarr.run.read import ArrayReader
from hfzarr.store.node import ImageNode, PlateNode
from hfzarr.store.source import Source

__all__ = [
    "PYRAMID_KEY",
    "Pyramid",
    "choose_image",
    "choose_level",
    "image_attrs",
    "image_dataset",
    "image_groups",
    "plate_dataset",
    "plate_groups",
]

#: Where a Dataset keeps the `Pyramid` that it is a level of.
PYRAMID_KEY = "hfzarr_pyramid"


def choose_level(image: Image, level: int | str | None) -> Level:
    """Return one level of an image: the finest, unless one is named.

    Raises
    ------
    NodeNotFoundError
        The image has no such level.
    """
    return find_level(image, 0 if level is None else level)


def choose_image(images: tuple[Image, ...], which: int | str | None) -> Image:
    """Return one multiscale of a group: the first, unless one is named.

    Raises
    ------
    NodeNotFoundError
        The group has no such multiscale.
    """
    names = [image.name for image in images]
    if isinstance(which, str) and which in names:
        return images[names.index(which)]
    index = 0 if which is None else which
    if isinstance(index, int) and -len(images) <= index < len(images):
        return images[index]
    raise NodeNotFoundError(
        f"group {images[0].where or '/'!r} has no image {which!r}; its multiscales are {names}. "
        f"Give image= as 0 to {len(images) - 1} or by name."
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pyramid:
    """Where a Dataset's other levels are found: it travels with it, and is never written.

    Attributes
    ----------
    source
        The store.
    image
        The image in it.
    """

    source: Source
    image: Image

    def level(self, level: int | str) -> Dataset:
        """Return one level, lazily.

        Raises
        ------
        NodeNotFoundError
            The image has no such level.
        """
        return image_dataset(self.source, self.image, choose_level(self.image, level))


def image_dataset(source: Source, image: Image, level: Level) -> Dataset:
    """Return one level of an image, lazily."""
    variable = stored_variable(source, level.array, level.dims, _pixel_attrs(image, level))
    name = "image" if image.label is None else "labels"
    coords = _coords(image, level)
    attrs = {**image_attrs(image), "level": level.path}
    # With their indexes, as these coordinates are in memory: xarray would add them one by one.
    dataset = Dataset({name: variable}, coords=Coordinates(coords), attrs=attrs)
    dataset.encoding[PYRAMID_KEY] = Pyramid(source=source, image=image)
    return dataset


def image_attrs(image: Image) -> dict[str, Any]:
    """Return what an image says of itself as a whole."""
    attrs: dict[str, Any] = {"ome_version": image.version}
    if image.name is not None:
        attrs["name"] = image.name
    attrs["levels"] = [level.path for level in image.levels]
    return attrs


def _coords(image: Image, level: Level) -> dict[str, Variable]:
    coords = {spec.name: coord_variable(spec) for spec in level.coords}
    labels = [channel.label for channel in image.channels]
    dim = image.channel_dim
    if dim in level.dims and any(label is not None for label in labels):
        size = level.array.shape[level.dims.index(dim)]
        if size == len(labels):
            coords[dim] = Variable((dim,), _channel_labels(labels))
    return coords


def _channel_labels(labels: list[str | int | None]) -> Any:
    if all(isinstance(label, int) for label in labels):
        return np.array(labels)
    return np.array([f"channel {i}" if t is None else str(t) for i, t in enumerate(labels)])


def _pixel_attrs(image: Image, level: Level) -> dict[str, Any]:
    attrs = {key: value for key, value in level.array.attrs.items() if key != "_ARRAY_DIMENSIONS"}
    colors = [channel.color for channel in image.channels]
    if any(colors):
        attrs["channel_colors"] = colors
    windows = [channel.window for channel in image.channels]
    if any(windows):
        keys = ("min", "max", "start", "end")
        attrs["channel_windows"] = [w and dict(zip(keys, w, strict=True)) for w in windows]
    if image.label is not None:
        if image.label.colors:
            attrs["colors"] = {value: list(rgba) for value, rgba in image.label.colors.items()}
        if image.label.properties:
            attrs["properties"] = [dict(item) for item in image.label.properties]
        if image.label.source is not None:
            attrs["source_image"] = image.label.source
    if level.affine is not None:
        attrs["affine"] = [list(row) for row in level.affine]
    return attrs


def image_groups(
    source: Source, node: ImageNode, level: int | str | None = None
) -> dict[str, Dataset]:
    """Return an image group as ``{path: Dataset}``: its levels, and its labels beside them."""
    groups = {"": Dataset(attrs=image_attrs(node.images[0]))}
    for image in node.images:
        for path, dataset in _level_groups(source, image, "", level).items():
            # A level that several multiscales list is the first one's.
            groups.setdefault(path, dataset)
    if node.labels:
        groups["labels"] = Dataset()
    for name, label in node.labels.items():
        groups[f"labels/{name}"] = Dataset(attrs=image_attrs(label))
        groups.update(_level_groups(source, label, f"labels/{name}/", level))
    return groups


def _level_groups(
    source: Source, image: Image, prefix: str, level: int | str | None
) -> dict[str, Dataset]:
    levels: Iterable[Level] = image.levels if level is None else [choose_level(image, level)]
    return {prefix + one.path: image_dataset(source, image, one) for one in levels}


def plate_groups(
    source: Source, node: PlateNode, level: int | str | None = None
) -> dict[str, Dataset]:
    """Return a plate as ``{row/column/field/level: Dataset}``."""
    groups = {"": Dataset(attrs=_plate_attrs(node))}
    for path, image in node.images.items():
        for below, dataset in image_groups(source, image, level).items():
            groups[f"{path}/{below}" if below else path] = dataset
    return groups


def _plate_attrs(node: PlateNode) -> dict[str, Any]:
    plate = node.plate
    if plate is None:
        return {}
    attrs: dict[str, Any] = {"rows": list(plate.rows), "columns": list(plate.columns)}
    if plate.name is not None:
        attrs["name"] = plate.name
    if plate.acquisitions:
        attrs["acquisitions"] = [dict(item) for item in plate.acquisitions.values()]
    return attrs


def plate_dataset(source: Source, node: PlateNode, level: int | str | None) -> Dataset:
    """Return a plate as one lazy Dataset with dims ``well`` and ``field``.

    Fields that a sparse plate lacks read as the arrays' fill value; the coordinate ``present``
    tells them from those that are there. A well by itself has no ``well`` dim.

    Raises
    ------
    AmbiguousTargetError
        The fields differ in shape or dims.
    """
    levels = _same_level(node, level)
    _check_alike(levels)
    path, first = next(iter(levels.items()))
    columns = _field_names(node)
    grid = np.full((len(node.wells), len(columns)), None, dtype=object)
    acquisitions = np.full(grid.shape, -1, dtype=np.int64)
    for i, well in enumerate(node.wells):
        for position, one in enumerate(node.fields[well.path]):
            j = columns.index(one.path) if one.path in columns else position
            where = f"{well.path}/{one.path}" if well.path else one.path
            if where not in levels:
                continue
            grid[i, j] = ArrayReader(source, levels[where].array)
            acquisitions[i, j] = -1 if one.acquisition is None else one.acquisition
    dims: tuple[str, ...] = ("well", "field")
    coords = _plate_coords(node, columns, grid, acquisitions)
    if node.plate is None:
        grid, dims = grid[0], ("field",)
        coords = {
            key: var.isel(well=0) if "well" in var.dims else var for key, var in coords.items()
        }
    stacked = StackedArray(grid, first.array.shape, first.array.dtype, first.array.fill_value)
    image = node.images[path].images[0]
    variable = Variable(
        (*dims, *first.dims), indexing.LazilyIndexedArray(stacked), _pixel_attrs(image, first)
    )
    encoding = chunk_encoding(first.array, first.dims)
    variable.encoding = {
        "preferred_chunks": {**dict.fromkeys(dims, 1), **encoding.get("preferred_chunks", {})}
    }
    coords |= _coords(image, first)
    attrs = {**_plate_attrs(node), **image_attrs(image), "level": first.path}
    attrs.pop("name", None)
    attrs |= {"name": node.plate.name} if node.plate and node.plate.name else {}
    return Dataset({"image": variable}, coords=Coordinates(coords), attrs=attrs)


def _same_level(node: PlateNode, level: int | str | None) -> dict[str, Level]:
    """Return the level of one name in every field that has it; a field may lack its finest."""
    images = {path: images.images[0] for path, images in node.images.items()}
    name = choose_level(max(images.values(), key=lambda image: len(image.levels)), level).path
    found = {
        path: one for path, image in images.items() for one in image.levels if one.path == name
    }
    return found or {path: choose_level(image, level) for path, image in images.items()}


def _check_alike(levels: Mapping[str, Level]) -> None:
    kinds: dict[tuple[Any, ...], list[str]] = {}
    for path, level in levels.items():
        kinds.setdefault((level.dims, level.array.shape, level.array.dtype), []).append(path)
    if len(kinds) == 1:
        return
    table = "\n".join(
        f"- {dict(zip(dims, shape, strict=True))} {dtype}: "
        f"{len(paths)} fields, such as {paths[0]!r}"
        for (dims, shape, dtype), paths in kinds.items()
    )
    raise AmbiguousTargetError(
        f"the fields of this plate differ, and do not stack into one Dataset:\n{table}\n"
        "Open it with xr.open_datatree, or one field with image='row/column/field'."
    )


def _field_names(node: PlateNode) -> list[str]:
    """Return the names of the fields; numbers where the wells do not share them."""
    longest = max(node.fields.values(), key=len)
    names = [one.path for one in longest]
    shared = all(one.path in names for some in node.fields.values() for one in some)
    return names if shared else [str(i) for i in range(len(longest))]


def _plate_coords(
    node: PlateNode, columns: list[str], grid: Any, acquisitions: Any
) -> dict[str, Variable]:
    wells = [f"{well.row}/{well.column}" for well in node.wells]
    present = np.array([[one is not None for one in row] for row in grid])
    coords = {
        "well": Variable(("well",), np.array(wells)),
        "row": Variable(("well",), np.array([well.row for well in node.wells])),
        "column": Variable(("well",), np.array([well.column for well in node.wells])),
        "field": Variable(("field",), np.array(columns)),
        "present": Variable(("well", "field"), present),
    }
    if (acquisitions >= 0).any():
        coords["acquisition"] = Variable(("well", "field"), acquisitions)
    return coords
