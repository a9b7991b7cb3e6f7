"""What rows of a manifest look like, and whether they can be stacked."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hfzarr.errors import AmbiguousTargetError

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["Even", "RowShape", "check_alike", "shape_of"]

# How far positions may lie from even spacing, as a part of a step.
_TOLERANCE = 1e-6
# Coordinates of more values than this are not read only to be compared.
_SMALL = 4096

Layout = tuple[Hashable, tuple[Hashable, ...], tuple[int, ...], str]


@dataclass(frozen=True, slots=True)
class Even:
    """Positions along a dimension, evenly spaced.

    Attributes
    ----------
    first
        Position of pixel 0.
    step
        From pixel to pixel.
    unit
        Unit of both, or None.
    """

    first: float
    step: float
    unit: str | None = None

    @classmethod
    def of(cls, first: float, step: float, unit: str | None) -> Even:
        """Return positions in as many digits as survive arithmetic, so that equal ones are."""
        return cls(float(f"{first:.12g}"), float(f"{step:.9g}"), unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShape:
    """What one row looks like, without its pixels.

    Attributes
    ----------
    variables
        For each data variable its name, dims, shape and dtype.
    positions
        For each coordinate of which that is known: an `Even`, or text that tells it from others.
    """

    variables: tuple[Layout, ...]
    positions: Mapping[Hashable, Any] = field(default_factory=dict, hash=False)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Names, dims and dtypes, which must agree even where lengths need not."""
        return tuple((name, dims, dtype) for name, dims, _, dtype in self.variables)

    @property
    def sizes(self) -> dict[Hashable, int]:
        """Length of each dimension."""
        return {
            dim: n
            for _, dims, shape, _ in self.variables
            for dim, n in zip(dims, shape, strict=True)
        }

    def departs(self, found: RowShape) -> str:
        """Return how a row that was found departs from this, what was told of it; "" if not."""
        if found.variables != self.variables:
            return f"{_said(self.variables)} was recorded, and {_said(found.variables)} is there"
        for name, told in self.positions.items():
            if name in found.positions and found.positions[name] != told:
                return f"coordinate {name!r}: {told} was recorded, {found.positions[name]} is there"
        return ""


def shape_of(dataset: Dataset) -> RowShape:
    """Return what a Dataset looks like."""
    return RowShape(
        variables=tuple(
            (name, one.dims, one.shape, str(one.dtype)) for name, one in dataset.data_vars.items()
        ),
        positions={
            name: _positions(one)
            for name, one in dataset.coords.items()
            if one.size <= _SMALL or name in dataset.indexes
        },
    )


def _positions(coord: DataArray) -> Any:
    values, unit = coord.values, coord.attrs.get("units")
    if coord.dims == (coord.name,) and values.dtype.kind == "f" and np.isfinite(values).all():
        steps = max(len(values) - 1, 1)
        step = float(values[-1] - values[0]) / steps if len(values) > 1 else 1.0
        even = values[:1] + step * np.arange(len(values))
        if len(values) and np.abs(values - even).max() <= _TOLERANCE * abs(step):
            return Even.of(float(values[0]), step, unit)
    if coord.dims and values.dtype.kind in "UST" and len(values) <= 64:
        return tuple(str(one) for one in values.ravel())
    content = values.tobytes() if values.dtype != object else repr(values.tolist()).encode()
    told = repr(
        (coord.dims, values.shape, str(values.dtype), sorted(map(repr, coord.attrs.items())))
    )
    return hashlib.blake2b(content + told.encode(), digest_size=8).hexdigest()


def check_alike(rows: Sequence[RowShape], names: Sequence[str], *, pad: bool) -> None:
    """Raise, with a table of the shapes, unless rows can be stacked.

    Parameters
    ----------
    rows
        What they look like.
    names
        Their names, for the table.
    pad
        Whether lengths may differ.

    Raises
    ------
    AmbiguousTargetError
        Variables, dims or dtypes differ; or lengths, unless they may.
    """
    kinds = {row.kinds for row in rows}
    shapes: dict[Any, list[str]] = {}
    for row, name in zip(rows, names, strict=True):
        shapes.setdefault(row.variables, []).append(name)
    if len(kinds) == 1 and (pad or len(shapes) == 1):
        return
    remedy = "Open the rows as a tree with xr.open_datatree, or choose some with filter()."
    if len(kinds) == 1:
        remedy = f"Give pad=True to fill the shorter ones up. {remedy}"
    raise AmbiguousTargetError(
        "the rows of this manifest differ, and do not stack into one Dataset:\n"
        f"{_table(shapes.items())}\n{remedy}"
    )


def _table(shapes: Iterable[tuple[Any, list[str]]]) -> str:
    listed = list(shapes)
    lines = []
    for variables, names in listed[:20]:
        rows = names[0] if len(names) == 1 else f"{len(names)} rows, such as {names[0]}"
        lines.append(f"- {_said(variables)}: {rows}")
    if len(listed) > 20:
        lines.append(f"- and {len(listed) - 20} other shapes")
    return "\n".join(lines)


def _said(variables: Sequence[Layout]) -> str:
    said = "; ".join(
        f"{name} {dict(zip(dims, shape, strict=True))} {dtype}"
        for name, dims, shape, dtype in variables[:6]
    )
    return said or "no variables"
