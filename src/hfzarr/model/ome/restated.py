"""Metadata said anew in another version: its new form, and whether that holds all of the old."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from hfzarr.model.ome.version import OmeAttrs

__all__ = [
    "InexpressibleError",
    "Restated",
    "is_alphanumeric",
    "is_count",
    "is_index",
    "is_number",
    "is_text",
    "keep_sound",
    "without_version",
]


class InexpressibleError(ValueError):
    """The metadata means something that OME-Zarr 0.5 has no words for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated:
    """A part of the metadata, said in OME-Zarr 0.5.

    Attributes
    ----------
    value
        Its new form, or None where nothing of it is allowed.
    whole
        Whether the new form holds all that the old one said.
    """

    value: Any
    whole: bool = True


def is_text(value: Any) -> bool:
    """Whether a value is a string."""
    return isinstance(value, str)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number, and no boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_index(value: Any) -> bool:
    """Whether a value is an integer that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_count(value: Any) -> bool:
    """Whether a value is a positive integer."""
    return is_index(value) and value > 0


def keep_sound(item: Mapping[str, Any], checks: Mapping[str, Callable[[Any], bool]]) -> Restated:
    """Return an object without the fields that fail their check.

    A field without a check is kept. One that is null says nothing, so nothing is lost with it.

    Examples
    --------
    >>> keep_sound({"name": "a", "id": -1, "more": 5}, {"name": is_text, "id": is_index})
    Restated(value={'name': 'a', 'more': 5}, whole=False)
    """
    bad = {key for key, check in checks.items() if key in item and not check(item[key])}
    return Restated(
        value={key: value for key, value in item.items() if key not in bad},
        whole=all(item[key] is None for key in bad),
    )


def without_version(item: Mapping[str, Any], ome: OmeAttrs) -> dict[str, Any]:
    """Return an object without a version of its own: 0.5 says it once, under ``ome``.

    The text of 0.5 still asks a plate and a well for one, so where that is the right one it stays.
    """
    right = ome.version == "0.5" and item.get("version") == "0.5"
    return {key: value for key, value in item.items() if right or key != "version"}


def is_alphanumeric(value: str) -> bool:
    """Whether a name is one that 0.5 allows for a row, a column or a field."""
    return re.fullmatch(r"[A-Za-z0-9]+", value) is not None
