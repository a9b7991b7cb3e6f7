"""Attributes of stacked rows: those in which all rows agree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from hfzarr.errors import AmbiguousTargetError
from hfzarr.faces.row_shapes import RowShape

__all__ = ["stacked_attrs"]

# Attributes without which numbers mean something else (CF conventions, 3.1, 4.4, 8.1, 2.5.1).
_MEANING = ("units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value")
# What is told of images says as much of their attributes.
_TOLD = ("ome_version", "levels", "level")


def stacked_attrs(name: Hashable | None, rows: Sequence[RowShape]) -> dict[str, Any]:
    """Return the attributes of a variable, or of the Dataset, that are the same in all rows.

    Parameters
    ----------
    name
        The variable; None for the Dataset.
    rows
        What the rows look like. Of rows that were told of, not opened, attributes are not known.

    Raises
    ------
    AmbiguousTargetError
        Rows differ in an attribute without which their values cannot be understood.
    """
    first: Mapping[str, Any] = (rows[0].attrs or {}).get(name, {})
    known = [row.attrs[name] for row in rows if row.attrs is not None and name in row.attrs]
    if name is not None:
        _refuse_other_meanings(name, known)
    kept = {
        key: value
        for key, value in first.items()
        if all(key in one and _same(one[key], value) for one in known)
    }
    if all(row.attrs is not None for row in rows):
        return kept
    return {key: value for key, value in kept.items() if name is None and key in _TOLD}


def _refuse_other_meanings(name: Hashable, known: Sequence[Mapping[str, Any]]) -> None:
    for key in _MEANING:
        said = {repr(one.get(key)) for one in known}
        if len(said) > 1:
            raise AmbiguousTargetError(
                f"{name!r} has the {key} {', '.join(sorted(said)[:5])} in different rows, so their "
                "values do not stack into one variable. Open the rows as a tree with "
                f"xr.open_datatree, choose some with filter(), or leave it out with "
                f"drop_variables={str(name)!r}."
            )


def _same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)
