"""OME-Zarr metadata of any version as Zarr v3 carries it: OME-Zarr 0.5."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hfzarr.model.ome.image import Image
from hfzarr.model.ome.image_upgrade import restate_multiscales
from hfzarr.model.ome.omero_upgrade import restate_image_label, restate_omero
from hfzarr.model.ome.plate_upgrade import restate_plate, restate_well
from hfzarr.model.ome.restated import InexpressibleError, Restated
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report

__all__ = ["labels_attrs", "level_dims", "upgrade_attrs"]

# Keys of OME-Zarr before 0.5, where they stood among a group's other attributes.
_KEYS = frozenset(
    [
        "multiscales",
        "omero",
        "plate",
        "well",
        "image-label",
        "labels",
        "bioformats2raw.layout",
        "series",
        "scene",
    ]
)
# Common words, which mean something only in the group that the specification names.
_HOMES = {"labels": ("labels", ""), "series": ("OME", "")}


def upgrade_attrs(
    attrs: Mapping[str, Any],
    ome: OmeAttrs | None,
    *,
    images: Sequence[Image] = (),
    report: Report | None = None,
) -> dict[str, Any]:
    """Return the attributes of a group as a v3 store carries them, its OME metadata in 0.5.

    What is sound stays as the store has it. What 0.5 does not allow is repaired as the readers
    repair it. Where the repaired form holds less than the old one, the old one stays beside it,
    at the top of the attributes, under its old key. 0.6 stays 0.6, and metadata that 0.5 has no
    words for (six axes, a rotation, a field called ``a_b``) stays where and as it is.

    Parameters
    ----------
    attrs
        The attributes of the group; they are not changed.
    ome
        The OME metadata among them, or None where there is none.
    images
        For each multiscale of the group, the image it was read as.
    report
        Takes what could not be carried over in full.

    Returns
    -------
    dict
        New attributes, which share what did not change with ``attrs``.

    Examples
    --------
    >>> attrs = {"bioformats2raw.layout": 1, "made by": "hand"}
    >>> ome = OmeAttrs(where="", version="0.4", spelled=None, data=attrs)
    >>> upgrade_attrs(attrs, ome)
    {'made by': 'hand', 'ome': {'version': '0.5', 'bioformats2raw.layout': 3}}
    """
    if ome is None or ome.version == "0.6":
        return dict(attrs)
    report = Report() if report is None else report
    namespaced = isinstance(attrs.get("ome"), Mapping)
    old = attrs["ome"] if namespaced else _ome_keys(attrs, ome)
    try:
        parts = {key: _restate(key, value, ome, images) for key, value in old.items()}
    except InexpressibleError as error:
        found = f"OME-Zarr {ome.version} with {error}"
        report.should(ome.where, _RULE, found, "all of it kept as it is")
        return dict(attrs)
    new = {key: part.value for key, part in parts.items() if part.value is not None}
    section = new if "version" in new else {"version": "0.5", **new}
    beside = {key: old[key] for key, part in parts.items() if not part.whole}
    for key in beside:
        found = f"{key!r} of OME-Zarr {ome.version} holds what 0.5 does not allow"
        report.should(ome.where, _RULE, found, _action(key, section))
    moved = () if namespaced else (*old, *_stale_version(attrs, ome))
    rest = {key: value for key, value in attrs.items() if key not in moved}
    return {**beside, **rest, "ome": section}


_RULE = "OME-Zarr 0.5, OME-Zarr Metadata: what stands under 'ome' MUST be of version 0.5"


def _action(key: str, section: Mapping[str, Any]) -> str:
    carried = "the rest of it carried over, and " if key in section else ""
    return f"{carried}all of it kept beside 'ome'"


def _ome_keys(attrs: Mapping[str, Any], ome: OmeAttrs) -> dict[str, Any]:
    """Return the attributes that are OME's, in a group that has no ``ome`` key."""
    name = ome.where.rpartition("/")[2]
    return {
        key: value
        for key, value in attrs.items()
        if key in _KEYS and name in _HOMES.get(key, (name,))
    }


def _stale_version(attrs: Mapping[str, Any], ome: OmeAttrs) -> tuple[str, ...]:
    """Return ``version`` where it stands at the top and is that of the metadata below it."""
    spelled = str(attrs.get("version"))
    return ("version",) if spelled == ome.spelled and re.match(r"0\.[1-6]", spelled) else ()


def _restate(key: str, value: Any, ome: OmeAttrs, images: Sequence[Image]) -> Restated:
    if key == "version":
        return Restated(value="0.5")
    if key == "multiscales":
        return restate_multiscales(value, ome, images)
    if key == "omero":
        return restate_omero(value, ome, _channel_count(images))
    if key == "bioformats2raw.layout":
        return Restated(value=3)
    if key in _PARTS:
        return _PARTS[key](value, ome)
    return Restated(value=value)


def _channel_count(images: Sequence[Image]) -> int | None:
    """Return the length of the channel axis of the first image, which ``omero`` speaks of."""
    if not images or images[0].channel_dim is None:
        return None
    top = images[0].levels[0]
    return top.array.shape[top.dims.index(images[0].channel_dim)]


def _restate_labels(raw: Any, ome: OmeAttrs) -> Restated:
    """Return the list of label images, or of series: paths, what is none left out."""
    if not isinstance(raw, list):
        return Restated(value=None, whole=raw is None)
    paths = [path for path in raw if isinstance(path, str)]
    return Restated(value=raw if len(paths) == len(raw) else paths, whole=len(paths) == len(raw))


def _restate_series(raw: Any, ome: OmeAttrs) -> Restated:
    """Return the list of series, or nothing where not all are paths: readers then count them."""
    sound = isinstance(raw, list) and raw and all(isinstance(path, str) for path in raw)
    return Restated(value=raw if sound else None, whole=bool(sound))


_PARTS = {
    "plate": restate_plate,
    "well": restate_well,
    "image-label": restate_image_label,
    "labels": _restate_labels,
    "series": _restate_series,
}


def labels_attrs(
    attrs: Mapping[str, Any], names: Iterable[str], *, version: str = "0.5"
) -> dict[str, Any]:
    """Return the attributes of a ``labels`` group that lists these label images.

    Parameters
    ----------
    attrs
        The attributes of the group; they are not changed.
    names
        Paths of the label images, relative to the group.
    version
        The version of the image beside it, where the group states none: ``"0.5"``, or one of
        0.6 as that image spells it.

    Examples
    --------
    >>> labels_attrs({"labels": ["cells", "gone"]}, ["cells"])
    {'ome': {'version': '0.5', 'labels': ['cells']}}
    """
    stored = attrs.get("ome")
    section = stored if isinstance(stored, Mapping) else {}
    stated = str(section.get("version"))
    kept = stated if stated.startswith("0.6") else version
    out = {key: value for key, value in attrs.items() if key not in ("labels", "ome")}
    return {**out, "ome": {**section, "version": kept, "labels": list(names)}}


def level_dims(images: Iterable[Image]) -> dict[str, tuple[str, ...]]:
    """Return the dimension names of the arrays of images, by their paths in the store.

    0.5 demands that they are the names of the axes. In 0.6 an array may have names of its own,
    which then stay. An array of two images has the names that the first one gives it.

    Parameters
    ----------
    images
        Images as they were read.
    """
    found: dict[str, tuple[str, ...]] = {}
    for image in images:
        for level in image.levels:
            own = level.array.dims if image.version == "0.6" else None
            found.setdefault(level.array.path, own or level.dims)
    return found
