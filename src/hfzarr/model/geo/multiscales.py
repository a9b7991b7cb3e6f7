"""Levels of a geospatial pyramid: which there are, and where each lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.model.geo.conventions import crs_code, declared, numbers
from hfzarr.model.geo.georeference import (
    Affine,
    Crs,
    GeoReference,
    agreed,
    georeference,
    read_shape,
    read_transform,
)
from hfzarr.model.geo.legacy import is_ndpyramid
from hfzarr.model.report import Report

__all__ = ["GeoLevel", "GeoMultiscales", "multiscales"]

_LAYOUT = "multiscales v0.1, layout: an array of objects, one for each resolution level"
_ASSET = "multiscales v0.1, asset: a path relative to the group, without a leading '/' or '..'"
_RELATIVE = "multiscales v0.1, transform: scale and translation, a number for each axis"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoLevel:
    """One resolution of a pyramid.

    Attributes
    ----------
    asset
        Path of the level relative to the pyramid's group: a group, an array, or an array in a
        group (``"0/data"``).
    derived_from
        Path of the level that it was made from, or None.
    scale, translation
        The relative transform as it is written, one number for each axis, ``(y, x)`` last;
        None where there is none.
    resampling_method
        How it was made, or None.
    geo
        Where its pixels lie, or None where nothing is known. It can lack a transform.
    """

    asset: str
    derived_from: str | None = None
    scale: tuple[float, ...] | None = None
    translation: tuple[float, ...] | None = None
    resampling_method: str | None = None
    geo: GeoReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoMultiscales:
    """A pyramid.

    Attributes
    ----------
    levels
        The levels in the order of the store, at least one.
    geo
        What the group says of all of them, or None.
    """

    levels: tuple[GeoLevel, ...]
    geo: GeoReference | None = None


def multiscales(
    attrs: Mapping[str, Any],
    where: str,
    report: Report,
    *,
    shapes: Mapping[str, tuple[int, int]] | None = None,
) -> GeoMultiscales | None:
    """Read the ``multiscales`` attribute of a group, in GeoZarr's or in ndpyramid's form.

    A level's own ``spatial:transform`` is final (proj v0.1, "Composability": it "should be
    treated as the authoritative geospatial transformation, independent of the multiscales
    resampling parameters"). Without one, the relative ``transform`` is composed along
    ``derived_from``: ``source = scale * level + translation``, in pixels of the source, which
    gives the pixel sizes of the convention's examples. A level that is derived from none takes the
    group's own transform or the one that the group's bounding box and its shape give.

    Parameters
    ----------
    attrs
        Attributes of the group.
    where, report
        Path of the group, and what takes the findings.
    shapes
        ``(height, width)`` of levels, by asset, for those that name no ``spatial:shape``.

    Returns
    -------
    GeoMultiscales or None
        None where the attributes hold no such pyramid (an OME-Zarr list, for one).

    Examples
    --------
    >>> attrs = {
    ...     "spatial:dimensions": ["y", "x"],
    ...     "spatial:transform": [10, 0, 500000, 0, -10, 5000000],
    ...     "multiscales": {
    ...         "layout": [
    ...             {"asset": "0"},
    ...             {"asset": "1", "derived_from": "0", "transform": {"scale": [2, 2]}},
    ...         ]
    ...     },
    ... }
    >>> pyramid = multiscales(attrs, "", Report())
    >>> pyramid.levels[1].geo.transform
    (20.0, 0.0, 500000.0, 0.0, -20.0, 5000000.0)
    """
    value = attrs.get("multiscales")
    if value is None or is_ndpyramid(attrs):
        return _ndpyramid(value, where, report) if value else None
    if not isinstance(value, Mapping):
        return None
    listed = value.get("layout")
    if not isinstance(listed, (list, tuple)):
        if "multiscales" in declared(attrs, where, report):
            report.must(where, _LAYOUT, listed, "no levels are known")
        return None
    group = georeference(attrs, where=where, report=report)
    entries = _entries(listed, where, report)
    if not entries:
        report.must(where, _LAYOUT, listed, "no levels are known")
        return None
    default = _text(value.get("resampling_method"))
    layout = _Layout(entries, group, shapes or {}, default, where, report)
    return GeoMultiscales(levels=layout.levels(), geo=group)


def _entries(layout: Any, where: str, report: Report) -> dict[str, Mapping[str, Any]]:
    """Return the usable entries of a layout by their asset."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in layout:
        if not isinstance(entry, Mapping):
            report.must(where, _LAYOUT, entry, "this entry is left out")
            continue
        # "group" was the name of the field in drafts.
        written = entry.get("asset", entry.get("group"))
        asset = _path(written)
        if asset is None or asset in found:
            report.must(where, _ASSET, written, "this entry is left out")
            continue
        if asset != written:
            report.must(where, _ASSET, written, f"read as {asset!r}")
        found[asset] = entry
    return found


def _path(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    parts = [part for part in value.split("/") if part not in ("", ".")]
    return None if not parts or ".." in parts else "/".join(parts)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


class _Layout:
    """Places the levels of one layout, each after the one that it is derived from."""

    def __init__(
        self,
        entries: Mapping[str, Mapping[str, Any]],
        group: GeoReference | None,
        shapes: Mapping[str, tuple[int, int]],
        resampling_method: str | None,
        where: str,
        report: Report,
    ) -> None:
        self._entries = entries
        self._group = group
        self._shapes = shapes
        self._resampling_method = resampling_method
        self._where = where
        self._report = report
        self._done: dict[str, GeoLevel] = {}
        # Only one level can be the grid that the group's own transform describes.
        self._anchor = next((asset for asset in entries if self._source(asset) is None), None)

    def levels(self) -> tuple[GeoLevel, ...]:
        """Return the levels in the order of the layout."""
        return tuple(self._level(asset) for asset in self._entries)

    def _source(self, asset: str) -> str | None:
        entry = self._entries[asset]
        written = entry.get("derived_from", entry.get("from_group"))
        return None if written is None else _path(written) or str(written)

    def _level(self, asset: str) -> GeoLevel:
        """Return one level; a chain is followed from its root, so that none is too deep."""
        chain = [asset]
        while (source := self._source(chain[-1])) in self._entries and source not in self._done:
            if source in chain:
                rule = "multiscales v0.1, derived_from: the level that this level was made from"
                said = f"{chain[-1]!r} is derived from {source!r}, which is derived from it"
                self._report.must(self._where, rule, said, "this link is not followed")
                break
            chain.append(str(source))
        for name in reversed(chain):
            if name not in self._done:
                self._done[name] = self._placed(name)
        return self._done[asset]

    def _placed(self, asset: str) -> GeoLevel:
        entry, source = self._entries[asset], self._source(asset)
        level = GeoLevel(
            asset=asset,
            derived_from=source,
            resampling_method=_text(entry.get("resampling_method"))
            or (None if source is None else self._resampling_method),
            **self._relative(asset),
        )
        shape = self._own(asset, "shape", read_shape) or self._shapes.get(asset)
        base = dataclasses.replace(self._group or GeoReference(), transform=None, bbox=None)
        geo = dataclasses.replace(base, shape=shape)
        own = self._own(asset, "transform", read_transform)
        if own is not None:
            self._compare(level, own)
            geo = dataclasses.replace(geo, transform=own)
        elif source is not None:
            geo = dataclasses.replace(geo, transform=self._composed(level))
        elif asset == self._anchor and self._group is not None:
            bbox, transform = self._group.bbox, self._group.transform
            geo = dataclasses.replace(geo, bbox=bbox, transform=transform)
            if shape is not None:
                geo = agreed(geo.sized(*shape), self._at(asset), self._report)
        return dataclasses.replace(level, geo=None if geo == GeoReference(shape=shape) else geo)

    def _at(self, asset: str) -> str:
        return f"{self._where}/{asset}".lstrip("/")

    def _own(self, asset: str, what: str, read: Any) -> Any:
        """Read a property of a layout entry, under today's name or the drafts'."""
        for key in (f"spatial:{what}", f"proj:{what}"):
            value = self._entries[asset].get(key)
            if value is not None:
                return read(value, key, self._at(asset), self._report)
        return None

    def _relative(self, asset: str) -> dict[str, Any]:
        """Return scale and translation; drafts had them beside ``asset``."""
        entry = self._entries[asset]
        holder = entry.get("transform")
        if not isinstance(holder, Mapping):
            if holder is not None:
                self._report.must(self._at(asset), _RELATIVE, holder, "left out")
            holder = entry
        found: dict[str, Any] = {}
        for key in ("scale", "translation"):
            value = holder.get(key)
            if value is None:
                continue
            values = numbers(value)
            if values is None or len(values) < 2 or (key == "scale" and 0.0 in values[-2:]):
                self._report.must(self._at(asset), _RELATIVE, {key: value}, "left out")
            else:
                found[key] = values
        return found

    def _composed(self, level: GeoLevel) -> Affine | None:
        """Return the transform of the source, after the step from level to source."""
        source = self._done.get(str(level.derived_from))
        if source is None:
            rule = "derived_from: the path of the level that this level was made from"
            found = f"derived from {level.derived_from!r}, which is no level to be placed before it"
        elif level.scale is None:
            rule = "derived_from: 'transform' is required beside it"
            found = "no scale"
        else:
            return self._step(level, source.geo)
        action = "the level has no transform"
        self._report.must(self._at(level.asset), f"multiscales v0.1, {rule}", found, action)
        return None

    def _step(self, level: GeoLevel, source: GeoReference | None) -> Affine | None:
        if source is None or source.transform is None or level.scale is None:
            return None
        sy, sx = level.scale[-2:]
        ty, tx = (level.translation or (0.0, 0.0))[-2:]
        if source.registration == "pixel" and (ty, tx) == ((sy - 1) / 2, (sx - 1) / 2) != (0, 0):
            # An offset between pixel centres, as a writer that counts from them puts it. With
            # pixel registration the origin stays (spatial v0.1, "Transform parameter
            # interpretation": the translation should be [0.0, 0.0]).
            self._report.should(
                self._at(level.asset),
                "spatial v0.1: with pixel registration, levels of one origin have translation 0",
                f"translation {level.translation} for scale {level.scale}",
                "read as an offset between pixel centres: the origin stays",
            )
            ty = tx = 0.0
        a, b, c, d, e, f = source.transform
        return (a * sx, b * sy, a * tx + b * ty + c, d * sx, e * sy, d * tx + e * ty + f)

    def _compare(self, level: GeoLevel, own: Affine) -> None:
        """Note a relative transform that says something else than the level's own one."""
        source = self._done.get(str(level.derived_from))
        if source is None and level.derived_from is not None:
            rule = "multiscales v0.1, derived_from: the path of the level that this was made from"
            found = f"derived from {level.derived_from!r}, which is no level placed before it"
            self._report.note(self._at(level.asset), rule, f"{found}; its own transform is used")
        other = self._step(level, source.geo) if source is not None else None
        # Pixel sizes are often written with few digits: a hundredth of one is no disagreement.
        slack = 0.01 * max(abs(own[0]), abs(own[1]), abs(own[3]), abs(own[4]))
        if other is None or all(abs(x - y) <= slack for x, y in zip(own, other, strict=True)):
            return
        self._report.note(
            self._at(level.asset),
            "spatial v0.1: a level's scale and the pixel size of its spatial:transform agree",
            f"scale {level.scale} and translation {level.translation} from "
            f"{level.derived_from!r} give {other}, spatial:transform is {own} and is used",
        )


def _ndpyramid(value: Any, where: str, report: Report) -> GeoMultiscales | None:
    """Read ndpyramid's list, which names paths and a reference system; x and y are stored."""
    if not isinstance(value, (list, tuple)):
        return None
    levels: dict[str, GeoLevel] = {}
    for dataset in value[0]["datasets"]:
        path = _path(dataset.get("path")) if isinstance(dataset, Mapping) else None
        # A level's own group repeats the list with the path ".": it is no pyramid by itself.
        if path is None or path in levels:
            continue
        code = crs_code(dataset.get("crs"))
        geo = GeoReference(crs=Crs(code=code)) if code else None
        levels[path] = GeoLevel(asset=path, geo=geo)
    return GeoMultiscales(levels=tuple(levels.values())) if levels else None
