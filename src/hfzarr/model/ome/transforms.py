"""Coordinate transformations, composed to one affine matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import InvalidMetadataError
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten

__all__ = ["Matrix", "compose", "diagonal", "identity", "parse_transform", "parse_transform_list"]

#: A float64 array of shape ``(outputs, inputs + 1)``; the last column is the translation.
Matrix = npt.NDArray[np.float64]


class _Unreducible(ValueError):
    """The transformation is not an affine map of points."""


def identity(n: int) -> Matrix:
    """Return the map of ``n`` axes onto themselves."""
    return np.eye(n, n + 1)


def diagonal(scale: Sequence[float], translation: Sequence[float]) -> Matrix:
    """Return the map ``translation + scale * i``, axis by axis."""
    n = len(scale)
    matrix = np.zeros((n, n + 1))
    matrix[np.arange(n), np.arange(n)] = scale
    matrix[:, n] = translation
    return matrix


def compose(first: Matrix, then: Matrix) -> Matrix:
    """Return the map that applies ``first`` and then ``then``.

    Examples
    --------
    >>> compose(diagonal([2.0], [1.0]), diagonal([10.0], [5.0]))
    array([[20., 15.]])
    """
    linear = then[:, :-1] @ first[:, :-1]
    offset = then[:, :-1] @ first[:, -1] + then[:, -1]
    return np.column_stack([linear, offset])


def parse_transform_list(
    raw: Any, n: int, ome: OmeAttrs, what: str, report: Report
) -> Matrix | None:
    """Read the ``coordinateTransformations`` of 0.4 and 0.5: one scale, then maybe a translation.

    Parameters
    ----------
    raw
        The list.
    n
        Number of axes.
    ome
        The metadata it stands in.
    what
        What it belongs to, for messages: ``"level '0'"`` or ``"the multiscale"``.
    report
        Takes what had to be repaired.

    Returns
    -------
    numpy.ndarray or None
        The map, or None where there is no usable transformation.
    """
    if not isinstance(raw, list) or not raw:
        return None
    rule = ome.rule(
        "multiscales",
        "coordinateTransformations MUST hold exactly one scale and may hold one translation "
        "after it",
    )
    kinds = [
        item["type"] if isinstance(item, Mapping) and isinstance(item.get("type"), str) else None
        for item in raw
    ]
    if kinds not in (["scale"], ["scale", "translation"]):
        action = "scale applied first, then translation; each kind once"
        if not {"scale", "translation"} & set(kinds) and any(kinds):
            action = "applied in the order given, where it can be"
        report.must(ome.where, rule, f"{what} has {kinds}", action)
    # The first of each kind counts, scale before translation, whatever the order on disk.
    ordered = sorted(
        (item for i, item in enumerate(raw) if kinds[i] and kinds[i] not in kinds[:i]),
        key=lambda item: {"scale": 0, "translation": 1}.get(item["type"], 2),
    )
    matrix, used = identity(n), False
    for item in ordered:
        step = parse_transform(item, n, ome, what, report)
        if step is not None and step.shape == (n, n + 1):
            matrix, used = compose(matrix, step), True
    return matrix if used else None


def parse_transform(raw: Any, n: int, ome: OmeAttrs, what: str, report: Report) -> Matrix | None:
    """Read one transformation of ``n`` input axes.

    Returns
    -------
    numpy.ndarray or None
        None where it is no affine map (a displacement field, say), which is reported.
    """
    try:
        return _affine(raw, n, lambda text: report.must(ome.where, *_fault(ome, what, text)))
    except _Unreducible as error:
        report.should(
            ome.where,
            ome.rule("coordinateTransformations", "readers SHOULD say what they cannot apply"),
            f"{what}: {error}",
            "left out of the coordinates, kept in attrs",
        )
    except InvalidMetadataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        report.must(
            ome.where,
            ome.rule("coordinateTransformations", "parameters MUST fit the type and the axes"),
            f"{what}: {shorten(raw)} ({type(error).__name__}: {error})",
            "ignored",
        )
    return None


def _fault(ome: OmeAttrs, what: str, text: str) -> tuple[str, str, str]:
    rule = ome.rule("coordinateTransformations", "there MUST be one number per axis")
    return rule, f"{what}: {text}", "taken to belong to the last axes"


def _affine(raw: Any, n: int, fault: Callable[[str], None]) -> Matrix:
    if not isinstance(raw, Mapping):
        raise TypeError("a transformation is an object")
    kind = raw.get("type")
    reader = _READERS.get(str(kind))
    if reader is None:
        raise _Unreducible(f"the transformation type {kind!r} is not an affine map")
    return reader(raw, n, fault)


def _numbers(
    raw: Mapping[str, Any], key: str, n: int, fault: Callable[[str], None], pad: float
) -> Matrix:
    if key not in raw and "path" in raw:
        raise _Unreducible(f"its parameters lie in the array {raw['path']!r}")
    values = raw[key]
    if not isinstance(values, list) or any(
        isinstance(v, bool) or not isinstance(v, (int, float)) for v in values
    ):
        raise TypeError(f"{key} is a list of numbers")
    if len(values) != n:
        fault(f"{key} of {len(values)} numbers for {n} axes")
        values = [pad] * (n - len(values)) + values[max(len(values) - n, 0) :]
    return np.array(values, dtype=np.float64)


def _read_identity(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    return identity(n)


def _read_scale(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    return diagonal(_numbers(raw, "scale", n, fault, 1.0).tolist(), [0.0] * n)


def _read_translation(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    return diagonal([1.0] * n, _numbers(raw, "translation", n, fault, 0.0).tolist())


def _matrix(raw: Mapping[str, Any], key: str) -> Matrix:
    if key not in raw and "path" in raw:
        raise _Unreducible(f"its matrix lies in the array {raw['path']!r}")
    matrix = np.array(raw[key], dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"{key} is a matrix")
    return matrix


def _read_affine(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    matrix = _matrix(raw, "affine")
    if matrix.shape[1] != n + 1:
        raise ValueError(f"an affine of {n} axes has {n + 1} columns, this has {matrix.shape[1]}")
    return matrix


def _read_rotation(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    matrix = _matrix(raw, "rotation")
    if matrix.shape != (n, n):
        raise ValueError(f"a rotation of {n} axes is {n} x {n}, this is {matrix.shape}")
    return np.column_stack([matrix, np.zeros(n)])


def _read_map_axis(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    # 0.6, mapAxis: entry i says which input axis becomes output axis i.
    order = raw["mapAxis"]
    if sorted(order) != list(range(n)):
        raise ValueError(f"mapAxis is a permutation of 0 to {n - 1}")
    matrix: Matrix = identity(n)[order]
    return matrix


def _read_sequence(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    matrix = identity(n)
    for item in raw["transformations"]:
        matrix = compose(matrix, _affine(item, len(matrix), fault))
    return matrix


def _read_by_dimension(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    rows: dict[int, Matrix] = {}
    for item in raw["transformations"]:
        inputs = item.get("inputAxes", item.get("input_axes"))
        outputs = item.get("outputAxes", item.get("output_axes"))
        if not all(isinstance(axis, int) for axis in [*inputs, *outputs]):
            raise _Unreducible("byDimension names its axes, which this reader knows by number")
        part = _affine(item.get("transformation", item), len(inputs), fault)
        for row, output in zip(part, outputs, strict=True):
            if output in rows:
                raise ValueError(f"output axis {output} appears twice")
            full = np.zeros(n + 1)
            full[list(inputs)] = row[:-1]
            full[n] = row[-1]
            rows[output] = full
    if sorted(rows) != list(range(len(rows))):
        raise ValueError(f"output axes {sorted(rows)} are not 0 to {len(rows) - 1}")
    return np.stack([rows[i] for i in range(len(rows))])


def _read_project_axis(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    kept = [i for i in range(n) if i not in raw.get("droppedInputs", [])]
    created = raw.get("createdOutputs", [])
    source = iter(kept)
    total = len(kept) + len(created)
    return np.stack(
        [np.zeros(n + 1) if i in created else identity(n)[next(source)] for i in range(total)]
    )


def _read_bijection(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    return _affine(raw["forward"], n, fault)


def _read_inverse(raw: Mapping[str, Any], n: int, fault: Callable[[str], None]) -> Matrix:
    forward = _affine(raw.get("transformation", raw.get("transform")), n, fault)
    linear = np.linalg.inv(forward[:, :-1])
    return np.column_stack([linear, -linear @ forward[:, -1]])


_READERS: dict[str, Callable[[Mapping[str, Any], int, Callable[[str], None]], Matrix]] = {
    "identity": _read_identity,
    "scale": _read_scale,
    "translation": _read_translation,
    "affine": _read_affine,
    "rotation": _read_rotation,
    "mapAxis": _read_map_axis,
    "sequence": _read_sequence,
    "byDimension": _read_by_dimension,
    "projectAxis": _read_project_axis,
    "bijection": _read_bijection,
    "inverseOf": _read_inverse,
}
