"""From an affine map to dims and coordinates: 1-D where it can be, 2-D where it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hfzarr.model.coords import AxisCoord, CoordSpec, PlaneCoord
from hfzarr.model.ome.axes import Axis
from hfzarr.model.ome.transforms import Matrix
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report

__all__ = ["Grid", "Reduced", "reduce_to_coords"]

#: Dims, coordinates, and the affine map's rows where coordinates cannot hold all of it.
Reduced = tuple[tuple[str, ...], tuple[CoordSpec, ...], tuple[tuple[float, ...], ...] | None]

# Below this share of a row's largest coefficient, one is rounding (the cosine of a right angle).
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The pixels that a map starts from: their shape, and the array's own names for its axes."""

    shape: tuple[int, ...]
    names: tuple[str, ...] | None


def reduce_to_coords(
    matrix: Matrix,
    axes: Sequence[Axis],
    grid: Grid,
    known: tuple[tuple[str, ...], tuple[CoordSpec, ...]] | None,
    ome: OmeAttrs,
    report: Report,
) -> Reduced:
    """Turn a map from indices to positions into dims and coordinates.

    An output axis that depends on one input axis alone names that dimension and gives it a 1-D
    coordinate. One that depends on two becomes a 2-D coordinate ``<axis>c``. One that depends on
    more stays in the affine map.

    Parameters
    ----------
    matrix
        The map, shape ``(outputs, inputs + 1)``.
    axes
        The output axes.
    grid
        The input pixels.
    known
        Dims and coordinates found for the levels' own coordinate system, to be kept where this
        map, which goes beyond it, cannot be held in 1-D coordinates.
    ome, report
        Where the map stands, and what takes its faults.
    """
    inputs = [_inputs(row) for row in matrix]
    alone = _one_to_one(inputs, len(grid.shape))
    spread = [o for o, ins in enumerate(inputs) if len(ins) > 1]
    if known is not None and spread:
        dims, coords = known
    else:
        dims = _name_dims(alone, axes, grid)
        coords = tuple(
            _axis_coord(axes[o], dims[i], grid.shape[i], float(matrix[o, i]), float(matrix[o, -1]))
            for i, o in sorted(alone.items())
            if _labeled(axes[o], matrix[o, i], matrix[o, -1])
        )
    planes = tuple(
        _plane(axes[o], inputs[o], matrix[o], dims, grid.shape)
        for o in spread
        if len(inputs[o]) == 2
    )
    tangled = [axes[o].name for o in spread if len(inputs[o]) > 2]
    if tangled:
        report.should(
            ome.where,
            ome.rule("coordinateTransformations", "a map that mixes three axes fits no coordinate"),
            f"axes {tangled} depend on three or more dimensions",
            "kept in attrs['affine']",
        )
    still = [axes[o].name for o, ins in enumerate(inputs) if not ins and axes[o].type != "channel"]
    if still:
        report.should(
            ome.where,
            ome.rule("coordinateTransformations", "the numbers of a scale SHOULD NOT be zero"),
            f"axes {still} depend on no dimension",
            "without a coordinate",
        )
    affine = tuple(tuple(map(float, row)) for row in matrix) if spread else None
    return dims, (*coords, *planes), affine


def _inputs(row: Matrix) -> list[int]:
    weights = np.abs(row[:-1])
    return [int(i) for i in np.flatnonzero(weights > _NEGLIGIBLE * weights.max(initial=0.0))]


def _one_to_one(inputs: Sequence[Sequence[int]], n: int) -> dict[int, int]:
    """Return ``{input: output}`` for the pairs that depend on nothing else."""
    users: dict[int, list[int]] = {i: [] for i in range(n)}
    for output, ins in enumerate(inputs):
        for i in ins:
            users[i].append(output)
    return {i: outs[0] for i, outs in users.items() if len(outs) == 1 and len(inputs[outs[0]]) == 1}


def _name_dims(alone: dict[int, int], axes: Sequence[Axis], grid: Grid) -> tuple[str, ...]:
    n = len(grid.shape)
    names: list[str | None] = [axes[alone[i]].name if i in alone else None for i in range(n)]
    for i in range(n):
        if names[i] is None:
            candidates = [axes[i].name] if len(axes) == n else []
            candidates += [grid.names[i]] if grid.names else []
            # Past n candidates, one must be free.
            candidates += [f"dim_{k}" for k in (i, *range(2 * n))]
            names[i] = next(c for c in candidates if c not in names)
    return tuple(str(name) for name in names)


def _labeled(axis: Axis, scale: float, offset: float) -> bool:
    """Whether positions along the axis are worth a coordinate: channels have names instead."""
    if axis.type == "channel":
        return False
    return axis.measured or scale != 1.0 or offset != 0.0


def _axis_coord(axis: Axis, dim: str, size: int, scale: float, offset: float) -> AxisCoord:
    return AxisCoord(name=dim, size=size, scale=scale, offset=offset, units=axis.unit)


def _plane(
    axis: Axis, ins: Sequence[int], row: Matrix, dims: tuple[str, ...], shape: tuple[int, ...]
) -> PlaneCoord:
    i, j = ins
    return PlaneCoord(
        name=f"{axis.name}c",
        dims=(dims[i], dims[j]),
        shape=(shape[i], shape[j]),
        rows=float(row[i]),
        columns=float(row[j]),
        offset=float(row[-1]),
        units=axis.unit,
    )
