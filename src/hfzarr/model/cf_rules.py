"""What a group that claims CF has to keep, as far as attributes and shapes tell it.

The requirements are those of the CF conformance document, by section of the conventions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hfzarr.model.report import shorten

__all__ = ["CfVariable", "cf_faults", "claims_cf"]

_CLAIM = re.compile(r"\bCF-\d", re.IGNORECASE)
# attribute -> section, and whether each name stands behind a key: "area: cell_area".
_REFERENCES = {
    "ancillary_variables": ("3.4", False),
    "bounds": ("7.1", False),
    "cell_measures": ("7.2", True),
    "climatology": ("7.4", False),
    "coordinates": ("5", False),
    "formula_terms": ("4.3.3", True),
    "grid_mapping": ("5.6", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CfVariable:
    """What CF's rules look at in an array.

    Attributes
    ----------
    name
        Its name in the group.
    dims
        Names of its dimensions; None where it names none.
    shape
        Length of each.
    attrs
        Its attributes.
    """

    name: str
    dims: tuple[str, ...] | None
    shape: tuple[int, ...]
    attrs: Mapping[str, Any]


def claims_cf(attrs: Mapping[str, Any]) -> bool:
    """Return whether a group's attributes claim that it follows CF.

    Examples
    --------
    >>> claims_cf({"Conventions": "CF-1.8 ACDD-1.3"}), claims_cf({"Conventions": "COARDS"})
    (True, False)
    """
    told = attrs.get("Conventions")
    return isinstance(told, str) and _CLAIM.search(told) is not None


def cf_faults(
    variables: Mapping[str, CfVariable], known: Collection[str], external: Collection[str] = ()
) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each variable that breaks a rule, the rule, and what was found.

    Parameters
    ----------
    variables
        The arrays of a group, by name.
    known
        Names that the groups around it have besides.
    external
        Names that the attribute ``external_variables`` lists: they lie elsewhere.

    Examples
    --------
    >>> one = CfVariable(name="t", dims=("y",), shape=(2,), attrs={"coordinates": "lat"})
    >>> for name, rule, found in cf_faults({"t": one}, ()):
    ...     print(name, "-", found)
    t - coordinates 'lat', and there is no 'lat'
    """
    there = {*variables, *known}
    for name, variable in variables.items():
        for attribute in _REFERENCES:
            if attribute in variable.attrs:
                allowed = there | set(external) if attribute == "cell_measures" else there
                for rule, found in _reference_faults(variable, attribute, allowed):
                    yield name, rule, found
        checks = (
            _bounds_faults(variable, variables),
            _flag_faults(variable),
            _unit_faults(variable),
        )
        for faults in checks:
            for rule, found in faults:
                yield name, rule, found


def _reference_faults(
    variable: CfVariable, attribute: str, there: Collection[str]
) -> Iterator[tuple[str, str]]:
    section, keyed = _REFERENCES[attribute]
    value = variable.attrs[attribute]
    if not isinstance(value, str):
        yield f"CF {section}: '{attribute}' MUST be text", f"{attribute} {shorten(value)}"
        return
    words = value.split()
    # "crs: lat lon" gives the coordinates that a grid mapping is for.
    keyed = keyed or (attribute == "grid_mapping" and any(word.endswith(":") for word in words))
    names = [word for word in words if not word.endswith(":")] if keyed else words
    if attribute == "grid_mapping" and keyed:
        names += [word.rstrip(":") for word in words if word.endswith(":")]
    rule = f"CF {section}: the variables that '{attribute}' names MUST exist"
    for name in names:
        # A path leads to another group, which may lie outside of what is looked at.
        if "/" not in name and name not in there:
            yield rule, f"{attribute} {value!r}, and there is no {name!r}"


def _bounds_faults(
    variable: CfVariable, variables: Mapping[str, CfVariable]
) -> Iterator[tuple[str, str]]:
    for attribute, section in (("bounds", "7.1"), ("climatology", "7.4")):
        other = variables.get(str(variable.attrs.get(attribute)))
        if other is None:
            continue
        rule = (
            f"CF {section}: bounds MUST have the dimensions of their variable, and one more, last"
        )
        sized = other.shape[:-1] == variable.shape and len(other.shape) == len(variable.shape) + 1
        named = None in (variable.dims, other.dims) or other.dims[:-1] == variable.dims  # type: ignore[index]
        if not (sized and named):
            said = f"{attribute} {other.name!r} of shape {other.shape}"
            yield rule, f"{said} for the shape {variable.shape}"


def _flag_faults(variable: CfVariable) -> Iterator[tuple[str, str]]:
    attrs = variable.attrs
    meanings = attrs.get("flag_meanings")
    if not isinstance(meanings, str):
        return
    for attribute in ("flag_values", "flag_masks"):
        values = attrs.get(attribute)
        if values is not None and np.size(values) != len(meanings.split()):
            yield (
                f"CF 3.5: '{attribute}' MUST have a value for each word of 'flag_meanings'",
                f"{np.size(values)} for {len(meanings.split())}",
            )


def _unit_faults(variable: CfVariable) -> Iterator[tuple[str, str]]:
    for attribute, section in (("units", "3.1"), ("standard_name", "3.3")):
        value = variable.attrs.get(attribute)
        if value is not None and not isinstance(value, str):
            yield f"CF {section}: '{attribute}' MUST be text", f"{attribute} {shorten(value)}"
