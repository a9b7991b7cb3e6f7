"""Which OME-Zarr version a node speaks, and where its metadata stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.model.report import Report, shorten

__all__ = ["OmeAttrs", "ome_attrs", "ome_section"]

#: Keys that make the attributes of a group OME-Zarr metadata.
_KEYS = (
    "multiscales",
    "plate",
    "well",
    "image-label",
    "labels",
    "bioformats2raw.layout",
    "series",
    "scene",
)
_RELEASED = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
# Pre-releases of 0.6 that stores in the wild carry; their metadata differs in spelling only.
_PRERELEASE = re.compile(r"0\.6[.-]?(dev\d*|rc\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeAttrs:
    """The OME-Zarr metadata of one group.

    Attributes
    ----------
    where
        Path of the group in its store.
    version
        One of ``"0.1"`` … ``"0.6"``.
    spelled
        The version as the store spells it, or None where it says none.
    data
        The metadata itself.
    """

    where: str
    version: str
    spelled: str | None
    data: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def rule(self, section: str, text: str) -> str:
        """Return a rule with the place it stands in."""
        return f"OME-Zarr {self.version}, {section}: {text}"


def ome_section(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a node's attributes that may hold OME-Zarr metadata, unchecked."""
    section = attrs.get("ome")
    return section if isinstance(section, Mapping) else attrs


def ome_attrs(
    where: str, attrs: Mapping[str, Any], zarr_format: int, report: Report
) -> OmeAttrs | None:
    """Return the OME-Zarr metadata among the attributes of a group, or None.

    Parameters
    ----------
    where
        Path of the group in its store.
    attrs
        Its attributes.
    zarr_format
        2 or 3.
    report
        Takes what had to be repaired.
    """
    namespaced = attrs.get("ome")
    if isinstance(namespaced, Mapping):
        found = OmeAttrs(
            where=where,
            version=_version(where, namespaced, _spelled(namespaced), report, inside=True),
            spelled=_spelled(namespaced),
            data=namespaced,
        )
        if zarr_format == 2:
            report.must(
                where,
                "OME-Zarr 0.5, Storage format: metadata under 'ome' needs Zarr v3",
                "an 'ome' key on a Zarr v2 group",
                f"read it as {found.version}",
            )
        return found
    if not any(key in attrs for key in _KEYS) or not _plausible(where, attrs):
        return None
    spelled = _spelled(attrs)
    if zarr_format == 3:
        report.must(
            where,
            "OME-Zarr 0.5, OME-Zarr Metadata: metadata of a Zarr v3 group stands under 'ome'",
            f"{[key for key in _KEYS if key in attrs]} directly in the attributes",
            "read as if under 'ome'",
        )
    version = _version(where, attrs, spelled, report, inside=False)
    return OmeAttrs(where=where, version=version, spelled=spelled, data=attrs)


def _plausible(where: str, attrs: Mapping[str, Any]) -> bool:
    """Tell OME's keys from others of the same name (GeoZarr's ``multiscales`` is a dict)."""
    name = where.rpartition("/")[2]
    # Common words, which mean something only in the group that the specification names.
    homes = {"labels": ("labels", ""), "series": ("OME", "")}
    kinds = {"multiscales": list, "labels": list, "series": list, "plate": Mapping, "well": Mapping}
    return any(
        isinstance(attrs[key], kinds.get(key, object)) and name in homes.get(key, (name,))
        for key in _KEYS
        if key in attrs
    )


def _spelled(data: Mapping[str, Any]) -> str | None:
    """Return the version that the metadata states, wherever it states it."""
    candidates: list[Any] = [data]
    multiscales = data.get("multiscales")
    if isinstance(multiscales, list):
        candidates += multiscales[:1]
    candidates += [data.get(key) for key in ("plate", "well", "image-label")]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate.get("version") is not None:
            return str(candidate["version"])
    return None


def _version(
    where: str, data: Mapping[str, Any], spelled: str | None, report: Report, *, inside: bool
) -> str:
    if spelled is not None and spelled in _RELEASED:
        return spelled
    if spelled is not None and _PRERELEASE.fullmatch(spelled):
        return "0.6"
    guess = _guess(data, spelled, inside=inside)
    rule = f"OME-Zarr {guess}, OME-Zarr Metadata: 'version' names the specification"
    if spelled is not None:
        report.must(where, rule, f"version {shorten(spelled)}", f"read as {guess}")
    elif inside:
        report.must(where, rule, "no version", f"read as {guess}")
    elif "multiscales" in data or "plate" in data or "image-label" in data:
        report.should(where, rule, "no version", f"read as {guess}")
    return guess


def _guess(data: Mapping[str, Any], spelled: str | None, *, inside: bool) -> str:
    """Infer a version from a spelling that starts with one, else from the metadata's shape."""
    start = re.match(r"0\.[1-6](?!\d)", spelled or "")
    if start:
        return start.group()
    multiscales = data.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else {}
    if not isinstance(first, Mapping):
        first = {}
    if inside:
        return "0.6" if "coordinateSystems" in first or "scene" in data else "0.5"
    axes = first.get("axes")
    if isinstance(axes, list) and axes and all(isinstance(axis, str) for axis in axes):
        return "0.3"
    return "0.4"
