"""Whether a coordinate is evenly spaced, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Spacing", "spacing_of"]

#: How far from its even place a point may lie, as a part of the step.
_OF_STEP = 1e-3
#: The same in units in the last place of the largest value, for coarse floats. Rounding a value
#: and the two ends of the line costs less than two.
_OF_ULP = 4
#: The most that the units in the last place may allow, as a part of the step.
_AT_MOST = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Evenly spaced points: ``origin + step * i``.

    Attributes
    ----------
    origin
        Point 0: a number, a ``datetime64`` or a ``timedelta64``.
    step
        From one point to the next: a number or a ``timedelta64``; negative where points descend,
        never zero.
    """

    origin: Any
    step: Any

    @property
    def timed(self) -> bool:
        """Whether the step is one of time, not a plain number."""
        return isinstance(self.step, np.timedelta64)

    def place(self, value: Any) -> float:
        """Return where a value lies, in steps from point 0; between two points it is fractional.

        Examples
        --------
        >>> Spacing(origin=10.0, step=-2.0).place(5.0)
        2.5
        >>> day = Spacing(origin=np.datetime64("2024-01-01"), step=np.timedelta64(1, "D"))
        >>> day.place(np.datetime64("2024-01-02T12"))
        1.5
        """
        return float((value - self.origin) / self.step)


def spacing_of(values: npt.NDArray[Any]) -> Spacing | None:
    """Return the spacing of a coordinate's values, or None if they are not evenly spaced.

    Integers and times must be spaced exactly. Floats may lie off the straight line from the first
    to the last by a thousandth of the step, or by what rounding to their own precision explains.

    Parameters
    ----------
    values
        The coordinate. None is returned for values that are not 1-D, not numbers or times, for
        fewer than two of them, and where one is NaN, infinite or NaT.

    Examples
    --------
    >>> spacing_of(np.array([0.0, 0.1, 0.2, 0.3]))
    Spacing(origin=0.0, step=0.1)
    >>> spacing_of(np.array([30, 20, 10]))
    Spacing(origin=30, step=-10)
    >>> spacing_of(np.array([1, 2, 4])) is None
    True
    """
    if values.ndim != 1 or len(values) < 2:
        return None
    if values.dtype.kind in "mM":
        if np.isnat(values).any() or _integer_step(values.astype(np.int64)) is None:
            return None
        return Spacing(origin=values[0], step=values[1] - values[0])
    if values.dtype.kind in "iu":
        step = _integer_step(values)
        return None if step is None else Spacing(origin=int(values[0]), step=step)
    return _float_spacing(values) if values.dtype.kind == "f" else None


def _integer_step(values: npt.NDArray[Any]) -> int | None:
    """Return the step of evenly spaced integers."""
    first, last = int(values[0]), int(values[-1])
    step = int(values[1]) - first
    # Differences in the array may wrap around; if one did, the last value tells.
    apart = values[1:] - values[:-1]
    if step == 0 or np.any(apart != apart[0]) or last != first + step * (len(values) - 1):
        return None
    return step


def _float_spacing(values: npt.NDArray[Any]) -> Spacing | None:
    if not np.isfinite(values).all():
        return None
    points = values.astype(np.float64)
    origin = float(points[0])
    step = (float(points[-1]) - origin) / (len(points) - 1)
    if step == 0 or not math.isfinite(step):
        return None
    ulp = _ulp(values)
    allowed = max(_OF_STEP * abs(step), min(_OF_ULP * ulp, _AT_MOST * abs(step)))
    off = np.abs(points - (origin + step * np.arange(len(points))))
    if off.max() > allowed:
        return None
    if off.any():
        step = _rounded(step, ulp / (len(points) - 1))
    return Spacing(origin=origin, step=step)


def _ulp(values: npt.NDArray[Any]) -> float:
    """Return the unit in the last place of the largest value, in the precision it came from."""
    largest = np.abs(values).max()
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    # Decoding may have widened what was stored as float32.
    widened = values.dtype.itemsize > 4 and np.array_equal(narrow, values)
    return float(np.spacing(np.float32(largest) if widened else largest))


def _rounded(step: float, within: float) -> float:
    """Return the step with few digits if that is as good: 0.1 rather than 0.0999999."""
    for digits in (6, 9, 12, 15):
        round_step = float(f"{step:.{digits}g}")
        if abs(round_step - step) <= within:
            return round_step
    return step
