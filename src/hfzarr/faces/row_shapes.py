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

__all__ = ["Even", "RowShape", "alike", "check_alike", "shape_of"]

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
        From pixel to pixel; None where a single pixel does not tell.
    size
        Number of pixels.
    unit
        Unit of positions, or None.
    """

    first: float
    step: float | None
    size: int
    unit: str | None = None

    @property
    def stride(self) -> float:
        """The step, 1 where none is known."""
        return 1.0 if self.step is None else self.step

    def spaced_like(self, other: Even) -> bool:
        """Whether steps are the same, as far as arithmetic tells over the length of both."""
        if self.unit != other.unit or None in (self.step, other.step):
            return self.unit == other.unit
        reach = max(self.size, other.size) - 1
        return abs(self.stride - other.stride) * reach <= self._slack(other)

    def starts_like(self, other: Even) -> bool:
        """Whether pixel 0 lies at the same place, as far as arithmetic tells."""
        return self.unit == other.unit and abs(self.first - other.first) <= self._slack(other)

    def _slack(self, other: Even) -> float:
        ends = [abs(one.first) + abs(one.stride) * one.size for one in (self, other)]
        step = min(abs(self.stride), abs(other.stride))
        return _TOLERANCE * step + 8 * float(np.spacing(max(ends)))


def alike(one: Any, other: Any) -> bool:
    """Return whether two coordinates are the same, as far as they are told."""
    if isinstance(one, Even) and isinstance(other, Even):
        return one.spaced_like(other) and one.starts_like(other)
    return bool(one == other)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShape:
    """What one row looks like, without its pixels.

    Attributes
    ----------
    variables
        For each data variable its name, dims, shape and dtype.
    positions
        For each coordinate of which that is known: an `Even`, a tuple of texts (of which it may
        have none), or text that tells it from others.
    coords
        Dims and dtype of each coordinate; None where the row was told of, not opened.
    attrs
        Attributes of each variable and coordinate, and under None those of the Dataset; None where
        the row was told of.
    """

    variables: tuple[Layout, ...]
    positions: Mapping[Hashable, Any] = field(default_factory=dict, hash=False)
    coords: Mapping[Hashable, tuple[tuple[Hashable, ...], np.dtype[Any]]] | None = field(
        default=None, hash=False
    )
    attrs: Mapping[Hashable | None, Mapping[str, Any]] | None = field(
        default=None, hash=False, compare=False
    )

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
            there = found.positions.get(name, () if isinstance(told, tuple) else told)
            if not alike(told, there):
                return f"coordinate {name!r}: {told} was recorded, and {there} is there"
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
        coords={name: (one.dims, one.dtype) for name, one in dataset.coords.items()},
        attrs={None: dataset.attrs, **{n: one.attrs for n, one in dataset.variables.items()}},
    )


def _positions(coord: DataArray) -> Any:
    values, unit = coord.values, coord.attrs.get("units")
    if coord.dims == (coord.name,) and values.dtype.kind == "f" and np.isfinite(values).all():
        n = len(values)
        step = float(values[-1] - values[0]) / (n - 1) if n > 1 else None
        even = values[:1] + (step or 0.0) * np.arange(n)
        if n and np.abs(values - even).max() <= _TOLERANCE * abs(step or 1.0):
            return Even(float(values[0]), step, n, unit)
    if coord.dims and values.dtype.kind in "UST" and len(values) <= 64:
        return tuple(str(one) for one in values.ravel())
    content = values.tobytes() if values.dtype != object else repr(values.tolist()).encode()
    attrs = sorted(map(repr, coord.attrs.items()))
    told = repr((coord.dims, values.shape, str(values.dtype), attrs))
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
