"""Multiscale images: levels with dims and coordinates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfzarr.errors import NodeNotFoundError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.coords import CoordSpec
from hfzarr.model.ome.axes import Axis, parse_axes
from hfzarr.model.ome.labels import ImageLabel, parse_image_label
from hfzarr.model.ome.omero import Channel, parse_channels
from hfzarr.model.ome.reduction import Grid, reduce_to_coords
from hfzarr.model.ome.transforms import (
    Matrix,
    compose,
    diagonal,
    identity,
    parse_transform,
    parse_transform_list,
)
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten, unrepairable

__all__ = ["Image", "Level", "find_level", "level_paths", "parse_image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution of an image.

    Attributes
    ----------
    path
        Path of its array, relative to the image: the name that the store uses.
    array
        The array.
    dims
        One name per dimension of the array.
    coords
        Coordinates along them.
    affine
        Rows of the map from indices to positions, where 1-D coordinates cannot hold it.
    """

    path: str
    array: ArrayMeta
    dims: tuple[str, ...]
    coords: tuple[CoordSpec, ...]
    affine: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A multiscale image.

    Attributes
    ----------
    where
        Path of its group in the store.
    name
        Name of the multiscale, or None.
    version
        The OME-Zarr version it was read as.
    axes
        Its axes.
    levels
        Its resolutions, finest first.
    channels
        One per index of the channel axis, or none.
    channel_dim
        Name of the channel dimension, or None.
    label
        What it says of its labels, where it is a label image.
    """

    where: str
    name: str | None
    version: str
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    channels: tuple[Channel, ...] = ()
    channel_dim: str | None = None
    label: ImageLabel | None = field(default=None, hash=False)


def find_level(image: Image, level: int | str) -> Level:
    """Return a level of an image by number, from the coarsest if negative, or by name.

    Raises
    ------
    NodeNotFoundError
        The image has no such level.
    """
    names = [one.path for one in image.levels]
    if isinstance(level, str) and level in names:
        return image.levels[names.index(level)]
    # NumPy's integers too, but no True.
    number = hasattr(level, "__index__") and not isinstance(level, bool)
    if number and -len(names) <= int(level) < len(names):
        return image.levels[int(level)]
    raise NodeNotFoundError(
        f"image {image.where or '/'!r} has no level {level!r}; it has {len(names)}: {names}. "
        f"Give level= as 0 to {len(names) - 1}, as -1 to {-len(names)} from the coarsest, or by "
        "name."
    )


def level_paths(ome: OmeAttrs, index: int = 0) -> list[str]:
    """Return the paths of a multiscale's arrays, relative to its group.

    Raises
    ------
    InvalidMetadataError
        It has no datasets, or none with a path.
    """
    raw = _multiscale(ome, index)
    datasets = raw.get("datasets")
    rule = ome.rule("multiscales", "'datasets' MUST list objects with a 'path'")
    if not isinstance(datasets, list) or not datasets:
        raise unrepairable(ome.where, rule, f"datasets {shorten(datasets)}")
    paths = [_path(item) for item in datasets]
    if not any(paths):
        raise unrepairable(ome.where, rule, f"datasets {shorten(datasets)}")
    return [path for path in paths if path]


def _path(item: Any) -> str | None:
    path = item.get("path") if isinstance(item, Mapping) else None
    # A number is how some writers spell the path "0"; it is a finding, not a riddle.
    return str(path).strip("/") if isinstance(path, (str, int)) and path != "" else None


def _multiscale(ome: OmeAttrs, index: int) -> Mapping[str, Any]:
    items = ome.data.get("multiscales")
    rule = ome.rule("multiscales", "'multiscales' MUST list at least one object")
    if not isinstance(items, list) or not items or not isinstance(items[index], Mapping):
        raise unrepairable(ome.where, rule, f"multiscales {shorten(items)}")
    item: Mapping[str, Any] = items[index]
    return item


def parse_image(
    ome: OmeAttrs,
    index: int,
    arrays: Mapping[str, ArrayMeta | None],
    report: Report,
    *,
    drop: Collection[str] = (),
) -> Image:
    """Read one multiscale of a group.

    Parameters
    ----------
    ome
        The group's metadata.
    index
        Which of its multiscales.
    arrays
        For each of `level_paths`, the array there, or None where there is none.
    report
        Takes what had to be repaired.
    drop
        Paths of levels to leave out.

    Raises
    ------
    InvalidMetadataError
        None of its levels is there.
    """
    raw = _multiscale(ome, index)
    listed = [item for item in raw["datasets"] if _path(item) not in drop]
    datasets = _present(listed, arrays, ome, report)
    _check_order(datasets, ome, report)
    first = datasets[0][1]
    frame = _frame(raw, datasets, ome, report)
    levels = tuple(_level(item, array, frame, first, ome, report) for item, array in datasets)
    top = levels[0]
    channel_dim = next(
        (a.name for a in frame.axes if a.type == "channel" and a.name in top.dims), None
    )
    count = None
    if channel_dim is not None:
        count = top.array.shape[top.dims.index(channel_dim)]
    _note_missing(raw, ome, report)
    label = ome.data.get("image-label")
    if label is None and "labels" in ome.where.split("/")[:-1]:
        # 'image-label' SHOULD be there; where the image lies tells, too.
        label = {}
    if label is not None:
        _check_integers(levels, ome, report)
    name = raw.get("name")
    return Image(
        where=ome.where,
        name=name if isinstance(name, str) else None,
        version=ome.version,
        axes=frame.axes,
        levels=levels,
        channels=parse_channels(ome.data.get("omero"), ome, count, report),
        channel_dim=channel_dim,
        label=parse_image_label(label, ome, report) if label is not None else None,
    )


def _check_order(
    datasets: Sequence[tuple[Mapping[str, Any], ArrayMeta]], ome: OmeAttrs, report: Report
) -> None:
    sizes = [array.size for _, array in datasets]
    if sizes != sorted(sizes, reverse=True):
        report.must(
            ome.where,
            ome.rule("multiscales", "'datasets' MUST be ordered from largest to smallest"),
            f"levels of shape {[array.shape for _, array in datasets]}",
            "kept in the order of the store",
        )


def _check_integers(levels: Sequence[Level], ome: OmeAttrs, report: Report) -> None:
    others = sorted({str(one.array.dtype) for one in levels if one.array.dtype.kind not in "iu"})
    if others:
        report.must(
            ome.where,
            ome.rule("labels", "labels MUST have an integer data type"),
            f"labels of type {others}",
            "kept as they are",
        )


def _note_missing(raw: Mapping[str, Any], ome: OmeAttrs, report: Report) -> None:
    for key in ("name", "type", "metadata"):
        if key not in raw and ome.version in ("0.4", "0.5", "0.6"):
            report.note(ome.where, ome.rule("multiscales", f"{key!r} SHOULD be there"), f"no {key}")


def _present(
    datasets: Sequence[Any], arrays: Mapping[str, ArrayMeta | None], ome: OmeAttrs, report: Report
) -> list[tuple[Mapping[str, Any], ArrayMeta]]:
    """Return the datasets whose arrays are there, with them."""
    out: list[tuple[Mapping[str, Any], ArrayMeta]] = []
    for item in datasets:
        path = _path(item)
        array = arrays.get(path) if path else None
        if path is None or not isinstance(item["path"], str):
            report.must(
                ome.where,
                ome.rule("multiscales", "each dataset MUST have a 'path', a string"),
                f"dataset {shorten(item)}",
                "left out" if path is None else f"read as {path!r}",
            )
        elif array is None:
            report.must(
                ome.where,
                ome.rule("multiscales", "'path' MUST be the path of an array"),
                f"level {path!r} is not there",
                "left out",
            )
        elif out and array.ndim != out[0][1].ndim:
            report.must(
                ome.where,
                ome.rule("multiscales", "every level MUST have the same number of dimensions"),
                f"level {path!r} of shape {array.shape}, the first of {out[0][1].shape}",
                "left out",
            )
            array = None
        if array is not None:
            out.append((item, array))
    if not out:
        rule = ome.rule("multiscales", "'path' MUST be the path of an array")
        raise unrepairable(ome.where, rule, f"none of the levels {list(arrays)} is there")
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The coordinate systems of a multiscale.

    ``axes`` are those that the level transforms lead to (0.6 calls them intrinsic); ``world`` is
    the map that the multiscale applies after them, leading to ``world_axes``.
    """

    axes: tuple[Axis, ...]
    world_axes: tuple[Axis, ...]
    world: Matrix | None


def _frame(
    raw: Mapping[str, Any],
    datasets: Sequence[tuple[Mapping[str, Any], ArrayMeta]],
    ome: OmeAttrs,
    report: Report,
) -> _Frame:
    array = datasets[0][1]
    if ome.version == "0.6" and ("coordinateSystems" in raw or "axes" not in raw):
        return _frame_of_systems(raw, datasets[0][0], array, ome, report)
    axes = parse_axes(raw.get("axes"), ome, array.ndim, array.dims, report)
    for _, level in datasets:
        _check_dimension_names(axes, level, ome, report)
    world = None
    if "coordinateTransformations" in raw:
        steps = raw["coordinateTransformations"]
        if not isinstance(steps, list) or not steps:
            report.must(
                ome.where,
                ome.rule("multiscales", "'coordinateTransformations', if there, MUST NOT be empty"),
                f"coordinateTransformations {shorten(steps)}",
                "ignored",
            )
        world = parse_transform_list(steps, len(axes), ome, "the multiscale", report)
    return _Frame(axes=axes, world_axes=axes, world=world)


def _check_dimension_names(
    axes: tuple[Axis, ...], array: ArrayMeta, ome: OmeAttrs, report: Report
) -> None:
    names = tuple(axis.name for axis in axes)
    if ome.version == "0.5" and array.dims != names:
        report.must(
            ome.where,
            ome.rule("axes", "'dimension_names' of the arrays MUST match the axes"),
            f"dimension_names {array.dims and list(array.dims)} of level {array.name!r}",
            f"dims {list(names)}, from the axes",
        )


def _frame_of_systems(
    raw: Mapping[str, Any],
    dataset: Mapping[str, Any],
    array: ArrayMeta,
    ome: OmeAttrs,
    report: Report,
) -> _Frame:
    """Read the coordinate systems of 0.6 (RFC-5)."""
    systems = {
        item["name"]: item.get("axes")
        for item in _items(raw.get("coordinateSystems"))
        if isinstance(item, Mapping) and isinstance(item.get("name"), str)
    }
    steps = dataset.get("coordinateTransformations")
    step = steps[0] if isinstance(steps, list) and steps else None
    target = _reference(step.get("output")) if isinstance(step, Mapping) else None
    if target not in systems:
        report.must(
            ome.where,
            ome.rule("multiscales", "the transforms of all datasets MUST lead to one of the "
                     "'coordinateSystems'"),
            f"output {target!r}, coordinate systems {list(systems)}",
            "the last coordinate system is used" if systems else "axes are guessed",
        )  # fmt: skip
        target = list(systems)[-1] if systems else None
    axes = parse_axes(systems.get(target) if target else None, ome, array.ndim, array.dims, report)
    for item in _items(raw.get("coordinateTransformations")):
        if not isinstance(item, Mapping) or _reference(item.get("input")) != target:
            continue
        goal = _reference(item.get("output"))
        if goal == target or goal not in systems:
            continue
        world = parse_transform(item, len(axes), ome, f"transform to {goal!r}", report)
        if world is not None:
            goal_axes = parse_axes(systems[goal], ome, len(world), None, report)
            return _Frame(axes=axes, world_axes=goal_axes, world=world)
    return _Frame(axes=axes, world_axes=axes, world=None)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _reference(value: Any) -> str | None:
    """Return the name of a coordinate system: a string (dev1 to dev3) or an object (since dev4)."""
    if isinstance(value, Mapping):
        value = value.get("name")
    return value if isinstance(value, str) else None


def _level(
    item: Mapping[str, Any],
    array: ArrayMeta,
    frame: _Frame,
    first: ArrayMeta,
    ome: OmeAttrs,
    report: Report,
) -> Level:
    path = str(item["path"]).strip("/")
    matrix = _level_matrix(item, array, frame, first, path, ome, report)
    grid = Grid(shape=array.shape, names=array.dims)
    dims, coords, affine = reduce_to_coords(matrix, frame.axes, grid, None, ome, report)
    if frame.world is not None:
        total = compose(matrix, frame.world)
        dims, coords, affine = reduce_to_coords(
            total, frame.world_axes, grid, (dims, coords), ome, report
        )
    return Level(path=path, array=array, dims=dims, coords=coords, affine=affine)


def _level_matrix(
    item: Mapping[str, Any],
    array: ArrayMeta,
    frame: _Frame,
    first: ArrayMeta,
    path: str,
    ome: OmeAttrs,
    report: Report,
) -> Matrix:
    n, what, steps = array.ndim, f"level {path!r}", item.get("coordinateTransformations")
    matrix: Matrix | None = None
    if ome.version == "0.6" and isinstance(steps, list) and steps:
        matrix = identity(n)
        for step in steps:
            part = parse_transform(step, len(matrix), ome, what, report)
            matrix = compose(matrix, part) if part is not None else matrix
    elif ome.version in ("0.4", "0.5"):
        matrix = parse_transform_list(steps, n, ome, what, report)
    if matrix is not None:
        return matrix
    factors = _factors(first.shape, array.shape)
    if ome.version in ("0.4", "0.5", "0.6"):
        report.must(
            ome.where,
            ome.rule("multiscales", "each dataset MUST have 'coordinateTransformations'"),
            f"{what} has {shorten(steps)}",
            f"scale {factors}, from the shapes",
        )
    return diagonal(factors, [0.0] * n)


def _factors(first: tuple[int, ...], shape: tuple[int, ...]) -> list[float]:
    """Return by what factors a level is coarser than the first, whole numbers where they fit."""
    if len(first) != len(shape):
        return [1.0] * len(shape)
    return [_factor(n, m) for n, m in zip(first, shape, strict=True)]


def _factor(fine: int, coarse: int) -> float:
    if not fine or not coarse:
        return 1.0
    whole = round(fine / coarse)
    # 439 pixels become 219 or 220 when halved, depending on the writer.
    if whole and coarse in (fine // whole, -(-fine // whole)):
        return float(whole)
    return fine / coarse
