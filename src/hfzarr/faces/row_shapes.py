"""What rows of a manifest look like, and whether they can be stacked."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hfzarr.errors import AmbiguousTargetError

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["Even", "RowShape", "check_alike", "shape_of"]

# How far positions may lie from even spacing, as a part of a step.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Even:
    """Positions along a dimension, evenly spaced.

    Attributes
    ----------
    first
        Position of pixel 0.
    step
        From pixel to pixel.
    """

    first: float
    step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShape:
    """What one row looks like, without its pixels.

    Attributes
    ----------
    variables
        For each data variable its dims, shape and dtype.
    positions
        For each dimension with a coordinate of its own, and each coordinate without dims: an
        `Even`, or what tells it from others.
    """

    variables: tuple[tuple[Hashable, tuple[Hashable, ...], tuple[int, ...], str], ...]
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


def shape_of(dataset: Dataset) -> RowShape:
    """Return what a Dataset looks like."""
    return RowShape(
        variables=tuple(
            (name, one.dims, one.shape, str(one.dtype)) for name, one in dataset.data_vars.items()
        ),
        positions={
            name: _positions(one.values) if one.dims else repr(one.values)
            for name, one in dataset.coords.items()
            if one.dims in ((), (name,))
        },
    )


def _positions(values: Any) -> Any:
    if values.dtype.kind == "f" and len(values) and np.isfinite(values).all():
        step = float(values[-1] - values[0]) / max(len(values) - 1, 1) if len(values) > 1 else 1.0
        even = values[0] + step * np.arange(len(values))
        if np.abs(values - even).max() <= _TOLERANCE * abs(step):
            return Even(float(values[0]), step)
    return values.tobytes() if values.dtype != object else tuple(values)


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
    kinds: dict[Any, list[str]] = {}
    for row, name in zip(rows, names, strict=True):
        kinds.setdefault(row.kinds if pad else row.variables, []).append(name)
    if len(kinds) == 1:
        return
    shapes: dict[Any, list[str]] = {}
    for row, name in zip(rows, names, strict=True):
        shapes.setdefault(row.variables, []).append(name)
    remedy = "Open the rows as a tree with xr.open_datatree, or choose some with filter()."
    if len({row.kinds for row in rows}) == 1:
        remedy = f"Give pad=True to fill the shorter ones up. {remedy}"
    raise AmbiguousTargetError(
        f"the rows of this manifest differ, and do not stack into one Dataset:\n"
        f"{_table(shapes.items())}\n{remedy}"
    )


def _table(shapes: Iterable[tuple[Any, list[str]]]) -> str:
    lines = []
    listed = list(shapes)
    for variables, names in listed[:20]:
        said = "; ".join(
            f"{name} {dict(zip(dims, shape, strict=True))} {dtype}"
            for name, dims, shape, dtype in variables[:6]
        )
        rows = "1 row" if len(names) == 1 else f"{len(names)} rows, such as"
        lines.append(f"- {said or 'no variables'}: {rows} {names[0]}")
    if len(listed) > 20:
        lines.append(f"- and {len(listed) - 20} other shapes")
    return "\n".join(lines)
