"""What an OME-Zarr level should become, worked out from its JSON and the specification alone.

Nothing here comes from hfzarr: plain ``json`` and NumPy, so that agreement means something. It
covers what the real stores hold: 0.1 to 0.6 with identity, scale, translation, sequence, mapAxis,
affine and rotation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# 0.1 and 0.2, "multiscales": images are 5-D, in this order.
TCZYX = [
    {"name": "t", "type": "time"},
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space"},
    {"name": "y", "type": "space"},
    {"name": "x", "type": "space"},
]
# What SpatialData and others write where there is no unit.
PLACEHOLDERS = {"unit", "pixel"}


@dataclass
class Expected:
    """One level as it should open."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    positions: dict[str, tuple[tuple[str, ...], Any]] = field(default_factory=dict)
    """Coordinates by name: their dims and values."""
    units: dict[str, str] = field(default_factory=dict)
    """Units by the name of the coordinate."""
    channels: tuple[str, list[Any]] | None = None
    """Dim and labels of the channels."""


def attributes(group: Path) -> Mapping[str, Any]:
    """Return the OME-Zarr metadata of a group, out of its ``ome`` key or not."""
    if (group / "zarr.json").is_file():
        attrs = json.loads((group / "zarr.json").read_text("utf-8")).get("attributes", {})
    elif (group / ".zattrs").is_file():
        attrs = json.loads((group / ".zattrs").read_text("utf-8"))
    else:
        attrs = {}
    found: Mapping[str, Any] = attrs.get("ome", attrs)
    return found


def array(path: Path) -> tuple[tuple[int, ...], str] | None:
    """Return shape and dtype of the array at a path, or None where there is none."""
    if (path / ".zarray").is_file():
        doc = json.loads((path / ".zarray").read_text("utf-8"))
        return tuple(doc["shape"]), np.dtype(doc["dtype"]).name
    if (path / "zarr.json").is_file():
        doc = json.loads((path / "zarr.json").read_text("utf-8"))
        if doc["node_type"] == "array":
            return tuple(doc["shape"]), doc["data_type"]
    return None


def image_groups(folder: Path) -> Iterator[Path]:
    """Yield the groups at and below a folder that are OME images with at least one level."""
    for document in sorted([*folder.rglob(".zattrs"), *folder.rglob("zarr.json")]):
        try:
            multiscales = attributes(document.parent).get("multiscales")
        except ValueError:
            continue  # One real store has a zarr.json that is no JSON.
        if isinstance(multiscales, list) and any(
            array(document.parent / item["path"]) for item in multiscales[0].get("datasets", [])
        ):
            yield document.parent


def version(metadata: Mapping[str, Any]) -> str:
    """Return the version, ``0.x``; the suffixes of pre-releases and of SpatialData left off."""
    said = metadata.get("version") or metadata["multiscales"][0].get("version")
    return str(said)[:3]


def is_label(group: Path) -> bool:
    """Whether an image is a label image: it says so, or a ``labels`` group lists it."""
    listed = attributes(group.parent).get("labels", []) if group.parent.name == "labels" else []
    return "image-label" in attributes(group) or group.name in listed


# --- transformations, as functions of points -----------------------------------------------------


def apply(step: Mapping[str, Any], point: Any) -> Any:
    """Return where a transformation takes points, an array of shape ``(axes, points)``."""
    kind = step["type"]
    if kind == "identity":
        return point
    if kind == "scale":
        return np.array(step["scale"], dtype=float)[:, None] * point
    if kind == "translation":
        return np.array(step["translation"], dtype=float)[:, None] + point
    if kind == "rotation":
        return np.array(step["rotation"], dtype=float) @ point
    if kind == "affine":
        matrix = np.array(step["affine"], dtype=float)
        return matrix[:, :-1] @ point + matrix[:, -1:]
    if kind == "mapAxis":
        # "The value at position i in the array indicates which input axis becomes the i-th output
        # axis."
        return point[step["mapAxis"]]
    if kind == "sequence":
        return apply_all(step["transformations"], point)
    raise ValueError(f"no reference for {kind!r}")


def apply_all(steps: Sequence[Mapping[str, Any]], point: Any) -> Any:
    for step in steps:
        point = apply(step, point)
    return point


@dataclass
class Space:
    """A coordinate system that a level leads to: its axes, and the way there."""

    axes: list[Mapping[str, Any]]
    steps: list[Mapping[str, Any]]

    def matrix(self, n: int) -> Any:
        """Return how each output axis depends on each input axis, and the offset."""
        origin = apply_all(self.steps, np.zeros((n, 1)))
        return np.column_stack([apply_all(self.steps, np.eye(n)) - origin, origin])


def spaces(metadata: Mapping[str, Any], number: int, group: Path) -> list[Space]:
    """Return the intrinsic space of a level, and the outer one that the image adds to it."""
    image = metadata["multiscales"][0]
    own = image["datasets"][number].get("coordinateTransformations")
    more = image.get("coordinateTransformations") or []
    if version(metadata) == "0.6":
        systems = {item["name"]: item["axes"] for item in image["coordinateSystems"]}
        inner = Space(systems[_name(own[0]["output"])], own)
        outer = [Space(systems[_name(step["output"])], [*own, step]) for step in more]
        return [inner, *outer[:1]]
    if version(metadata) in ("0.4", "0.5"):
        return [Space(image["axes"], [*own, *more])]
    axes = [{**axis} for axis in TCZYX]
    if "axes" in image:
        axes = [axis for axis in axes if axis["name"] in image["axes"]]
    # No word on positions before 0.4: levels are taken to cover the same field of view.
    first, here = (array(group / image["datasets"][i]["path"]) for i in (0, number))
    assert first is not None
    assert here is not None
    scale = [float(round(n / m)) for n, m in zip(first[0], here[0], strict=True)]
    return [Space(axes, [{"type": "scale", "scale": scale}])]


def _name(reference: Any) -> str:
    """Return the name of a coordinate system: a string, or an object since 0.6.dev4."""
    return reference["name"] if isinstance(reference, Mapping) else reference


# --- the levels ----------------------------------------------------------------------------------


def levels(group: Path) -> list[Expected]:
    """Return what the levels of an image should become, finest first."""
    metadata = attributes(group)
    datasets = metadata["multiscales"][0]["datasets"]
    found = []
    for number, item in enumerate(datasets):
        stored = array(group / item["path"])
        if stored is not None:
            found.append(_level(metadata, number, group, item["path"], *stored))
    return found


def _level(
    metadata: Mapping[str, Any],
    number: int,
    group: Path,
    path: str,
    shape: tuple[int, ...],
    dtype: str,
) -> Expected:
    found = spaces(metadata, number, group)
    inner, outer = found[0], found[-1]
    n = len(shape)
    # A dim is named after the one axis that it alone moves along, out where the pixels end up;
    # where the outer space mixes dims, in the intrinsic one.
    whole = all(i is not None for i in _single(outer.matrix(n)))
    space = outer if whole else inner
    straight = {i: o for o, i in enumerate(_single(space.matrix(n))) if i is not None}
    names = tuple(space.axes[straight.get(i, i)]["name"] for i in range(n))
    level = Expected(path=path, shape=shape, dtype=dtype, dims=names)
    _add_straight(level, space)
    if not whole:
        _add_planes(level, outer)
    _add_channels(level, metadata, space.axes)
    return level


def _single(matrix: Any) -> list[int | None]:
    """Return for each output axis the one input axis it depends on, or None."""
    moved = [_inputs(row) for row in matrix]
    return [inputs[0] if len(inputs) == 1 else None for inputs in moved]


def _inputs(row: Any) -> list[int]:
    """Return the input axes that an output axis depends on, rounding errors left out."""
    weights = np.abs(row[:-1])
    return [int(i) for i in np.flatnonzero(weights > 1e-9 * weights.max())]


def _add_straight(level: Expected, space: Space) -> None:
    matrix = space.matrix(len(level.shape))
    for o, i in enumerate(_single(matrix)):
        axis = space.axes[o]
        if i is None or axis.get("type") not in ("space", "time"):
            continue
        values = matrix[o, -1] + matrix[o, i] * np.arange(level.shape[i])
        level.positions[axis["name"]] = ((level.dims[i],), values)
        _add_unit(level, axis["name"], axis)


def _add_planes(level: Expected, space: Space) -> None:
    """Add the coordinates that move along two dims: ``<axis>c``."""
    matrix = space.matrix(len(level.shape))
    for o, i in enumerate(_single(matrix)):
        if i is None:
            a, b = _inputs(matrix[o])
            grid = np.meshgrid(*(np.arange(level.shape[k]) for k in (a, b)), indexing="ij")
            values = matrix[o, -1] + matrix[o, a] * grid[0] + matrix[o, b] * grid[1]
            name = space.axes[o]["name"] + "c"
            level.positions[name] = ((level.dims[a], level.dims[b]), values)
            _add_unit(level, name, space.axes[o])


def _add_unit(level: Expected, name: str, axis: Mapping[str, Any]) -> None:
    if axis.get("unit") and axis["unit"] not in PLACEHOLDERS:
        level.units[name] = axis["unit"]


def _add_channels(
    level: Expected, metadata: Mapping[str, Any], axes: Sequence[Mapping[str, Any]]
) -> None:
    dims = [axis["name"] for axis in axes if axis.get("type") == "channel"]
    labels = [item.get("label") for item in metadata.get("omero", {}).get("channels", [])]
    if dims and any(label is not None for label in labels):
        assert len(labels) == level.shape[level.dims.index(dims[0])]
        level.channels = (dims[0], labels)
