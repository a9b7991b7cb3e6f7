"""A multiscale of any version as OME-Zarr 0.5 writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hfzarr.model.coords import AxisCoord
from hfzarr.model.ome.axes import Axis, parse_axes
from hfzarr.model.ome.image import Image, Level
from hfzarr.model.ome.restated import InexpressibleError, Restated, without_version
from hfzarr.model.ome.transforms import Matrix, compose, diagonal, identity, parse_transform_list
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report

__all__ = ["restate_multiscales"]

_STEPS = "coordinateTransformations"
_SOUND = OmeAttrs(where="", version="0.5", spelled="0.5", data={})


def restate_multiscales(raw: Any, ome: OmeAttrs, images: Sequence[Image]) -> Restated:
    """Return the ``multiscales`` of a group in 0.5.

    Parameters
    ----------
    raw
        The list as the store has it.
    ome
        The metadata it stands in.
    images
        The same, parsed and repaired.

    Raises
    ------
    InexpressibleError
        An image has axes or positions that 0.5 has no words for.
    """
    if not isinstance(raw, list):
        return Restated(value=None, whole=False)
    if not images or len(raw) != len(images):
        raise InexpressibleError(f"{len(raw)} multiscales of which {len(images)} can be read")
    parts = [_image(item, ome, image) for item, image in zip(raw, images, strict=True)]
    return Restated(value=[part.value for part in parts], whole=all(part.whole for part in parts))


def _image(raw: Mapping[str, Any], ome: OmeAttrs, image: Image) -> Restated:
    axes = _axes(raw.get("axes"), ome, image)
    pairs = _in_order(list(_pairs(raw["datasets"], image.levels)))
    maps = _maps(raw, pairs, image, ome)
    steps = [
        _steps(item.get(_STEPS), matrix)
        for (item, _), matrix in zip(pairs, maps.levels, strict=True)
    ]
    out = without_version(raw, ome)
    out["axes"] = axes.value
    out["datasets"] = [
        {**item, "path": level.path, _STEPS: step.value}
        for (item, level), step in zip(pairs, steps, strict=True)
    ]
    world = _steps(raw.get(_STEPS), maps.world)
    if world.value is None:
        out.pop(_STEPS, None)
    else:
        out[_STEPS] = world.value
    if out.get("name") is not None:
        out["name"] = str(out["name"])
    else:
        out.pop("name", None)
    return Restated(value=out, whole=all(part.whole for part in (axes, world, *steps)))


# --- axes ----------------------------------------------------------------------------------------


def _axes(raw: Any, ome: OmeAttrs, image: Image) -> Restated:
    """Return the axes as objects, with the repaired names, types and units."""
    stored = raw if isinstance(raw, list) else []
    names = [axis.name for axis in image.axes]
    if any(list(level.dims) != names for level in image.levels):
        raise InexpressibleError(f"dimensions {image.levels[0].dims} are not the axes {names}")
    if ome.version == "0.5" and not _axes_faults(stored, names):
        return Restated(value=raw)
    items = stored
    if len(stored) != len(names):
        by_name = {item.get("name"): item for item in stored if isinstance(item, Mapping)}
        items = [by_name.get(name) for name in names]
    out = [_axis(item, axis) for item, axis in zip(items, image.axes, strict=True)]
    if faults := _axes_faults(out, names):
        raise InexpressibleError(faults)
    units = [item.get("unit") for item in stored if isinstance(item, Mapping)]
    said = all(unit is None or isinstance(unit, str) for unit in units)
    return Restated(value=out, whole=said and len(stored) in (0, len(names)))


def _axes_faults(raw: Any, names: Sequence[str]) -> str:
    """Return what 0.5 has against axes, or nothing."""
    report = Report()
    axes = parse_axes(raw, _SOUND, len(names), None, report)
    if [axis.name for axis in axes] != list(names):
        return f"axes named {[axis.name for axis in axes]}"
    return "; ".join(finding.found for finding in report.repairs)


def _axis(raw: Any, axis: Axis) -> dict[str, Any]:
    out: dict[str, Any] = dict(raw) if isinstance(raw, Mapping) else {}
    out["name"] = axis.name
    for key, value in (("type", axis.type), ("unit", axis.unit)):
        if value is not None:
            out[key] = value
        # A unit that only says that there is none ("pixel") is sound, and stays.
        elif not isinstance(out.get(key), str):
            out.pop(key, None)
    return out


# --- levels --------------------------------------------------------------------------------------


def _pairs(
    datasets: Sequence[Any], levels: Sequence[Level]
) -> Iterator[tuple[Mapping[str, Any], Level]]:
    """Yield the datasets that became a level, with it: the levels are some of them, in order."""
    left = iter(levels)
    level = next(left, None)
    for item in datasets:
        path = item.get("path") if isinstance(item, Mapping) else None
        if level is not None and str(path).strip("/") == level.path:
            yield item, level
            level = next(left, None)


def _in_order(
    pairs: list[tuple[Mapping[str, Any], Level]],
) -> list[tuple[Mapping[str, Any], Level]]:
    """Sort levels from largest to smallest, as 0.5 demands (multiscales)."""
    return sorted(pairs, key=lambda pair: -pair[1].array.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maps:
    """The map of each level, and the one that the multiscale applies after them, if any."""

    levels: Sequence[Matrix]
    world: Matrix | None


def _maps(
    raw: Mapping[str, Any],
    pairs: Sequence[tuple[Mapping[str, Any], Level]],
    image: Image,
    ome: OmeAttrs,
) -> _Maps:
    """Return the maps as they were read, in two steps where the store has two."""
    n = len(image.axes)
    world = parse_transform_list(raw.get(_STEPS), n, ome, "the multiscale", Report())
    if world is not None and np.array_equal(world, identity(n)) and not _is_sound(raw[_STEPS], n):
        world = None
    own = [_own_map(item, n, ome) for item, _ in pairs]
    known = [matrix for matrix in own if matrix is not None]
    if len(known) == len(own):
        return _Maps(levels=known, world=world)
    # Coordinates are all that is known of a level without transformations, and the map of the
    # multiscale is in them already; so it is put into the others, too.
    total = [
        _map_of_coords(level)
        if matrix is None
        else matrix
        if world is None
        else compose(matrix, world)
        for matrix, (_, level) in zip(own, pairs, strict=True)
    ]
    return _Maps(levels=total, world=None)


def _own_map(item: Mapping[str, Any], n: int, ome: OmeAttrs) -> Matrix | None:
    if ome.version not in ("0.4", "0.5"):
        return None  # Earlier versions know no transformations, and none is read from them.
    return parse_transform_list(item.get(_STEPS), n, ome, "a level", Report())


def _map_of_coords(level: Level) -> Matrix:
    if level.affine is not None:
        raise InexpressibleError(f"level {level.path!r} has an affine map that is no scale")
    coords = {coord.name: coord for coord in level.coords if isinstance(coord, AxisCoord)}
    # A dimension without a coordinate counts its pixels.
    known = [coords.get(dim) for dim in level.dims]
    return diagonal(
        [1.0 if coord is None else coord.scale for coord in known],
        [0.0 if coord is None else coord.offset for coord in known],
    )


def _is_sound(raw: Any, n: int) -> bool:
    """Whether transformations are what 0.5 wants: a scale, then perhaps a translation."""
    report = Report()
    return parse_transform_list(raw, n, _SOUND, "", report) is not None and not len(report)


def _steps(raw: Any, matrix: Matrix | None) -> Restated:
    """Return a map as transformations, those of the store where they are sound."""
    if matrix is None:
        return Restated(value=None, whole=not raw)
    n = len(matrix)
    scale = matrix.diagonal()
    if not np.array_equal(matrix[:, :-1], np.diag(scale)):
        raise InexpressibleError("transformations that are more than a scale and a translation")
    sound = parse_transform_list(raw, n, _SOUND, "", Report()) if _is_sound(raw, n) else None
    if sound is not None and np.array_equal(sound, matrix):
        return Restated(value=raw)
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale.tolist()}]
    if matrix[:, -1].any():
        steps.append({"type": "translation", "translation": matrix[:, -1].tolist()})
    stored = raw if isinstance(raw, list) else [raw] if raw else []
    return Restated(value=steps, whole=all(item in steps for item in stored))
