"""What patches are made of, before they are made."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hfzarr.plan.windows import WindowGrid, WindowList
from hfzarr.run.hold import PatchArrays

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["PATCH", "Member", "PatchSet", "Shift"]

#: The dimension along which patches lie.
PATCH = "patch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How windows lie on a Dataset that is not the one that they were made for.

    Attributes
    ----------
    size
        Pixels of a window there.
    ratio, offset
        A window that starts at ``s`` starts there at ``floor(ratio * s + offset + 1/2)``.
    """

    size: int
    ratio: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A Dataset that patches are cut from, and what its parts are called in the result.

    Attributes
    ----------
    dataset
        The Dataset.
    names
        New names of variables.
    dims
        New names of windowed dimensions.
    shifts
        How windows lie on each windowed dimension.
    """

    dataset: Dataset
    shifts: Mapping[Hashable, Shift]
    names: Mapping[Hashable, Hashable] = field(default_factory=dict)
    dims: Mapping[Hashable, Hashable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchSet:
    """All that patches are made of, before they are made.

    Attributes
    ----------
    windows
        The windows.
    dims
        The dimensions that they have, in the order of their axes.
    members
        What patches are cut from; the first is the one that the windows were made for.
    sources
        The variables that are cut, in the order of `arrays`.
    arrays
        The variables as arrays.
    """

    windows: WindowGrid | WindowList
    dims: tuple[Hashable, ...]
    members: tuple[Member, ...]
    sources: tuple[tuple[Member, Hashable], ...]
    arrays: PatchArrays
