"""Axes: the names, types and units of an image's dimensions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten

__all__ = ["Axis", "default_axes", "parse_axes"]

# The five axes of OME-Zarr 0.1 and 0.2, in their only order (0.1, "multiscales" metadata).
_DEFAULT = (("t", "time"), ("c", "channel"), ("z", "space"), ("y", "space"), ("x", "space"))
_TYPES = {**dict(_DEFAULT), "i": "array", "j": "array", "k": "array"}
_SPEC_TYPES = ("space", "time", "channel")

# Spellings of units in the wild, and the UDUNITS-2 names that the specification lists.
_UNITS = {
    **dict.fromkeys(["µm", "μm", "um", "micron", "microns"], "micrometer"),
    **dict.fromkeys(["micrometers", "micrometre", "micrometres"], "micrometer"),
    **dict.fromkeys(["nm", "nanometers", "nanometre"], "nanometer"),
    **dict.fromkeys(["mm", "millimeters", "millimetre"], "millimeter"),
    **dict.fromkeys(["pm", "picometers"], "picometer"),
    **dict.fromkeys(["m", "meters", "metre"], "meter"),
    **dict.fromkeys(["cm", "centimeters"], "centimeter"),
    **dict.fromkeys(["Å", "Å", "angstroms"], "angstrom"),
    **dict.fromkeys(["s", "sec", "seconds"], "second"),
    **dict.fromkeys(["ms", "milliseconds"], "millisecond"),
    **dict.fromkeys(["µs", "μs", "us", "microseconds"], "microsecond"),
    **dict.fromkeys(["min", "minutes"], "minute"),
    **dict.fromkeys(["h", "hr", "hours"], "hour"),
}  # fmt: skip
# Placeholders that say there is no unit.
_NO_UNIT = ("unit", "pixel", "pixels", "px", "a.u.", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis.

    Attributes
    ----------
    name
        Its name, which becomes a dimension.
    type
        ``"space"``, ``"time"``, ``"channel"``, a custom type, or None.
    unit
        Unit of positions along it, or None.
    """

    name: str
    type: str | None = None
    unit: str | None = None

    @property
    def measured(self) -> bool:
        """Whether positions along it mean something."""
        return self.type in ("space", "time")


def default_axes(ndim: int) -> tuple[Axis, ...]:
    """Return the last ``ndim`` of t, c, z, y, x, with ``dim_0`` … before them when more.

    Examples
    --------
    >>> [axis.name for axis in default_axes(3)]
    ['z', 'y', 'x']
    """
    extra = max(ndim - len(_DEFAULT), 0)
    known = _DEFAULT[len(_DEFAULT) - (ndim - extra) :]
    return tuple(Axis(name=f"dim_{i}") for i in range(extra)) + tuple(
        Axis(name=name, type=kind) for name, kind in known
    )


def parse_axes(
    raw: Any, ome: OmeAttrs, ndim: int, dims: Sequence[str] | None, report: Report
) -> tuple[Axis, ...]:
    """Return one axis per dimension of the level arrays.

    Parameters
    ----------
    raw
        The ``axes`` of a multiscale, or of a coordinate system in 0.6.
    ome
        The metadata it stands in.
    ndim
        Number of dimensions of the arrays.
    dims
        Dimension names of the arrays, a help where the axes are missing.
    report
        Takes what had to be repaired.
    """
    where, version = ome.where, ome.version
    if raw is None and version in ("0.1", "0.2"):
        return default_axes(ndim)
    if not isinstance(raw, list) or not raw:
        repaired = _from_dims(dims) or default_axes(ndim)
        report.must(
            where,
            ome.rule("multiscales", "'axes' MUST list 2 to 5 axes"),
            f"axes {shorten(raw)}",
            f"taken to be {[axis.name for axis in repaired]}",
        )
        return repaired
    axes = tuple(_axis(item, ome, report) for item in raw)
    axes = _distinct(axes, ome, report)
    _check(axes, ome, report)
    return _fit(axes, ome, ndim, dims, report)


def _axis(item: Any, ome: OmeAttrs, report: Report) -> Axis:
    """Return one axis: a string in 0.3, an object with name, type and unit since 0.4."""
    where = ome.where
    if isinstance(item, str):
        if ome.version not in ("0.1", "0.2", "0.3"):
            report.must(
                where,
                ome.rule("axes", "each axis is an object with a 'name'"),
                f"the string {item!r}",
                f"an axis of that name, of type {_TYPES.get(item.lower())!r}",
            )
        return Axis(name=item, type=_TYPES.get(item.lower()))
    if not isinstance(item, Mapping):
        item = {}
    elif ome.version == "0.3":
        report.must(where, "OME-Zarr 0.3, multiscales: axes are strings", item, "read as in 0.4")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        report.must(
            where, ome.rule("axes", "'name' MUST be there"), f"axis {shorten(item)}", "numbered"
        )
        name = ""
    kind = item.get("type")
    if kind is None:
        guessed = _TYPES.get(name.lower())
        # 0.4 and 0.5 read an untyped axis as a custom one; only t, c, z, y, x are no riddle.
        report.should(
            where,
            ome.rule("axes", "'type' SHOULD be there"),
            f"axis {name!r} without a type",
            f"taken to be {guessed!r}",
        )
        kind = guessed
    return Axis(
        name=name, type=str(kind) if kind is not None else None, unit=_unit(item, ome, report)
    )


def _unit(item: Mapping[str, Any], ome: OmeAttrs, report: Report) -> str | None:
    if "unit" not in item:
        return None
    unit, name = item["unit"], item.get("name")
    rule = ome.rule("axes", "'unit' SHOULD be a UDUNITS-2 name")
    if not isinstance(unit, str):
        report.must(ome.where, rule.replace("SHOULD", "MUST be a string and SHOULD"),
                    f"unit {unit!r} of axis {name!r}", "no unit")  # fmt: skip
        return None
    if unit.lower() in _NO_UNIT:
        return None
    if unit in _UNITS:
        report.should(
            ome.where, rule, f"unit {unit!r} of axis {name!r}", f"read as {_UNITS[unit]!r}"
        )
        return _UNITS[unit]
    return unit


def _distinct(axes: tuple[Axis, ...], ome: OmeAttrs, report: Report) -> tuple[Axis, ...]:
    """Give every axis a name of its own that a tree can hold."""
    names = [_without_slash(axis.name, ome, report) for axis in axes]
    for i, name in enumerate(names):
        if name and name in names[:i]:
            report.must(
                ome.where,
                ome.rule("axes", "axis names MUST be unique"),
                f"names {[axis.name for axis in axes]}",
                f"dimension {i} renamed",
            )
            names[i] = ""
    free = _free_names(names)
    named = [name or next(free) for name in names]
    return tuple(
        axis if axis.name == name else dataclasses.replace(axis, name=name)
        for axis, name in zip(axes, named, strict=True)
    )


def _without_slash(name: str, ome: OmeAttrs, report: Report) -> str:
    if "/" in name:
        report.should(
            ome.where,
            "xarray: names in a tree hold no slash, which separates its nodes",
            f"axis {name!r}",
            f"renamed {name.replace('/', '_')!r}",
        )
    return name.replace("/", "_")


def _free_names(taken: Collection[str]) -> Iterator[str]:
    """Yield ``dim_0``, ``dim_1`` …, those that are taken left out."""
    return (name for i in itertools.count() if (name := f"dim_{i}") not in taken)


def _check(axes: tuple[Axis, ...], ome: OmeAttrs, report: Report) -> None:
    """Check number, types and order of axes (0.4 and 0.5, "multiscales" metadata)."""
    if ome.version not in ("0.4", "0.5", "0.6"):
        return
    types = [axis.type for axis in axes]
    if ome.version == "0.6" and set(types) == {"array"}:
        return
    rule = ome.rule("multiscales", "axes MUST be 2 to 5, with 2 or 3 of type space and at most "
                    "one each of time, channel and custom type")  # fmt: skip
    custom = sum(kind not in _SPEC_TYPES for kind in types)
    wrong = (
        not 2 <= len(axes) <= 5
        or not 2 <= types.count("space") <= 3
        or types.count("time") > 1
        or types.count("channel") > 1
        or custom > 1
    )
    if wrong:
        report.must(ome.where, rule, f"axes of type {types}", "used as they are")
        return
    rank = {"time": 0, "space": 2}
    ranks = [rank.get(kind or "", 1) for kind in types]
    if ranks != sorted(ranks):
        report.must(
            ome.where,
            ome.rule("multiscales", "axes MUST be ordered time, channel or custom, space"),
            f"axes {[axis.name for axis in axes]} of type {types}",
            "kept in the order of the array",
        )


def _from_dims(dims: Sequence[str] | None) -> tuple[Axis, ...] | None:
    if not dims:
        return None
    return tuple(Axis(name=name, type=_TYPES.get(name.lower())) for name in dims)


def _fit(
    axes: tuple[Axis, ...], ome: OmeAttrs, ndim: int, dims: Sequence[str] | None, report: Report
) -> tuple[Axis, ...]:
    """Bring the number of axes in line with that of the array's dimensions."""
    if len(axes) == ndim:
        return axes
    by_name = {axis.name: axis for axis in axes}
    if dims and all(name in by_name for name in dims):
        fitted = tuple(by_name[name] for name in dims)
    elif len(axes) > ndim:
        fitted = axes[len(axes) - ndim :]
    else:
        free = _free_names(by_name)
        extra = tuple(Axis(name=next(free)) for _ in range(ndim - len(axes)))
        fitted = extra + axes
    report.must(
        ome.where,
        ome.rule("multiscales", "the number of axes MUST equal that of the array's dimensions"),
        f"{len(axes)} axes, {ndim} dimensions",
        f"dimensions {[axis.name for axis in fitted]}",
    )
    return fitted
