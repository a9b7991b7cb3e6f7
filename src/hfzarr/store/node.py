"""Which kind of thing a node is, and the model value it becomes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hfzarr.errors import InvalidMetadataError, TargetError, UnsupportedError
from hfzarr.model.geo import is_ndpyramid
from hfzarr.model.ome.image import Image, level_paths, parse_image
from hfzarr.model.ome.labels import label_names
from hfzarr.model.ome.plate import Field, Plate, Well, parse_plate, parse_well
from hfzarr.model.ome.version import OmeAttrs, ome_attrs, ome_section
from hfzarr.model.report import Report, unrepairable
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import join_path

__all__ = [
    "ImageNode",
    "Kind",
    "PlateNode",
    "classify",
    "collection_paths",
    "read_images",
    "read_plate",
    "read_well",
]

#: ``"collection"`` is a group that only gathers images: a bioformats2raw layout, a scene, a
#: ``labels`` group.
Kind = Literal["array", "image", "plate", "well", "collection", "group"]


def _inside(where: str, *paths: str) -> str:
    """Join paths that metadata gives, which MUST stay inside of the store."""
    try:
        return join_path(where, *paths)
    except TargetError as error:
        rule = "OME-Zarr 0.4, multiscales: a 'path' is relative to the current group"
        raise unrepairable(where, rule, str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNode:
    """An image and the label images beside it.

    Attributes
    ----------
    images
        One per multiscale of the group; nearly always one.
    labels
        Label images, by their path below ``labels``.
    """

    images: tuple[Image, ...]
    labels: Mapping[str, Image] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateNode:
    """A plate with what is in it.

    Attributes
    ----------
    plate
        The plate's own metadata; None where a single well was opened.
    wells
        The wells that are there.
    fields
        For each well path, its fields of view.
    images
        For each path ``well/field``, the image there.
    """

    plate: Plate | None
    wells: tuple[Well, ...]
    fields: Mapping[str, tuple[Field, ...]] = field(hash=False)
    images: Mapping[str, ImageNode] = field(hash=False)


def classify(node: NodeDoc, report: Report) -> tuple[Kind, OmeAttrs | None]:
    """Say what a node is, and return its OME-Zarr metadata if it has some."""
    if node.kind == "array":
        return "array", None
    if is_ndpyramid(node.attrs):
        return "group", None
    ome = ome_attrs(node.path, node.attrs, node.zarr_format, report)
    if ome is None:
        return "group", None
    for key, kind in _KINDS:
        if key in ome:
            return kind, ome
    return "group", ome


# A plate takes precedence over the bioformats2raw layout (0.4, "bioformats2raw.layout").
_KINDS: tuple[tuple[str, Kind], ...] = (
    ("plate", "plate"),
    ("well", "well"),
    ("multiscales", "image"),
    ("bioformats2raw.layout", "collection"),
    ("scene", "collection"),
    ("labels", "collection"),
)


def read_images(
    hierarchy: Hierarchy,
    omes: Sequence[OmeAttrs],
    report: Report,
    *,
    labels: bool = True,
    lenient: bool = False,
    drop: Collection[str] = (),
) -> dict[str, ImageNode]:
    """Read many image groups at once, one round of requests a depth.

    Parameters
    ----------
    hierarchy
        Their store.
    omes
        Their metadata.
    report
        Takes what had to be repaired.
    labels
        Whether to look for label images.
    lenient
        Leave out, and report, what cannot be repaired: one of many, rather than the one.
    drop
        Paths of levels, relative to their image, to leave out unread.

    Returns
    -------
    dict
        The images, by the path of their group.
    """
    folders = {ome.where: _inside(ome.where, "labels") for ome in omes} if labels else {}
    beside = [] if hierarchy.consolidated else list(folders.values())
    own = _parse_images(hierarchy, omes, report, beside=beside, lenient=lenient, drop=drop)
    folders = {where: folder for where, folder in folders.items() if where in own}
    below = _read_labels(hierarchy, folders, report, drop)
    nodes = {
        where: ImageNode(images=images, labels=below.get(where, {}))
        for where, images in own.items()
    }
    for node in nodes.values():
        _check_levels_of_labels(node, report)
    return nodes


def _check_levels_of_labels(node: ImageNode, report: Report) -> None:
    wanted = len(node.images[0].levels)
    for name, label in node.labels.items():
        if len(label.levels) != wanted:
            report.must(
                label.where,
                "OME-Zarr 0.4, labels: labels MUST have the same number of levels as their image",
                f"label image {name!r} has {len(label.levels)}, its image {wanted}",
                "opened with those it has",
            )


def _parse_images(
    hierarchy: Hierarchy,
    omes: Iterable[OmeAttrs],
    report: Report,
    *,
    beside: Sequence[str] = (),
    lenient: bool,
    drop: Collection[str] = (),
) -> dict[str, tuple[Image, ...]]:
    """Load the arrays of many images in one round, with the nodes ``beside``, and parse them."""
    wanted: dict[str, list[str]] = {}
    parsed: dict[str, tuple[Image, ...]] = {}
    known = {ome.where: ome for ome in omes}
    for where, ome in known.items():
        with _leaving_out(report, where, lenient=lenient):
            wanted[where] = _array_paths(ome)
    hierarchy.load([*(path for paths in wanted.values() for path in paths), *beside])
    for where in wanted:
        with _leaving_out(report, where, lenient=lenient):
            parsed[where] = _parse_all(hierarchy, known[where], report, drop)
    return parsed


@contextlib.contextmanager
def _leaving_out(report: Report, where: str, *, lenient: bool) -> Iterator[None]:
    """Report what cannot be repaired instead of raising it, where others are left to open."""
    try:
        yield
    except InvalidMetadataError as error:
        if not lenient or report.strict:
            raise
        report.must(where, "what is listed MUST be there and be sound", str(error), "left out")


def _array_paths(ome: OmeAttrs) -> list[str]:
    return [
        _inside(ome.where, path) for index in range(_count(ome)) for path in level_paths(ome, index)
    ]


def _count(ome: OmeAttrs) -> int:
    multiscales = ome.data.get("multiscales")
    # At least one, so that reading what is malformed says so.
    return max(len(multiscales), 1) if isinstance(multiscales, list) else 1


def _parse_all(
    hierarchy: Hierarchy, ome: OmeAttrs, report: Report, drop: Collection[str]
) -> tuple[Image, ...]:
    out = []
    for index in range(_count(ome)):
        arrays = {
            path: hierarchy.array(_inside(ome.where, path))
            for path in level_paths(ome, index)
            if path not in drop
        }
        out.append(parse_image(ome, index, arrays, report, drop=drop))
    return tuple(out)


def _read_labels(
    hierarchy: Hierarchy, folders: Mapping[str, str], report: Report, drop: Collection[str]
) -> dict[str, dict[str, Image]]:
    """Return the label images below each ``labels`` group, by the image they belong to."""
    there = hierarchy.find(list(folders.values()))
    names: dict[str, tuple[str, ...]] = {}
    for where, folder in folders.items():
        node = there.get(folder)
        ome = node and ome_attrs(folder, node.attrs, node.zarr_format, report)
        if ome and "labels" in ome:
            names[where] = label_names(ome, report)
        elif node is not None and node.kind == "group":
            names[where] = _unlisted_labels(hierarchy, folder, report)
    groups = _groups(hierarchy, [_inside(folders[w], n) for w in names for n in names[w]], report)
    omes = [ome for ome in groups.values() if "multiscales" in ome]
    images = _parse_images(hierarchy, omes, report, lenient=True, drop=drop)
    out: dict[str, dict[str, Image]] = {}
    for where, listed in names.items():
        for name in listed:
            path = _inside(folders[where], name)
            if path in images:
                out.setdefault(where, {})[name] = images[path][0]
            if path in groups and "multiscales" in groups[path]:
                continue
            report.must(
                folders[where],
                "OME-Zarr 0.4, labels: each listed path MUST be that of a label image",
                f"label image {name!r} is not there",
                "left out",
            )
    return out


def _unlisted_labels(hierarchy: Hierarchy, folder: str, report: Report) -> tuple[str, ...]:
    """Return the children of a ``labels`` group that lists none, where they can be listed."""
    try:
        found = tuple(path.rpartition("/")[2] for path in hierarchy.children(folder))
    except UnsupportedError:
        found = ()
    report.must(
        folder,
        "OME-Zarr 0.4, labels: 'labels' MUST list the paths of the label images",
        "no 'labels' in the attributes of the group",
        f"taken to be {list(found)}",
    )
    return found


def _groups(hierarchy: Hierarchy, paths: Sequence[str], report: Report) -> dict[str, OmeAttrs]:
    """Return the OME-Zarr metadata of those of ``paths`` that are groups with some."""
    hierarchy.load(paths)
    out = {}
    for path in paths:
        node = hierarchy.node(path)
        if node is not None and node.kind == "group":
            ome = ome_attrs(path, node.attrs, node.zarr_format, report)
            if ome is not None:
                out[path] = ome
    return out


def read_plate(
    hierarchy: Hierarchy, ome: OmeAttrs, report: Report, *, labels: bool = True
) -> PlateNode:
    """Read a plate: a round of requests for the wells, one for the fields, then their levels."""
    plate = parse_plate(ome, report)
    wells = _groups(hierarchy, [_inside(ome.where, well.path) for well in plate.wells], report)
    fields: dict[str, tuple[Field, ...]] = {}
    for well in plate.wells:
        found = wells.get(_inside(ome.where, well.path))
        if found is not None and "well" in found:
            with _leaving_out(report, found.where, lenient=True):
                fields[well.path] = parse_well(found, report)
            continue
        report.must(
            ome.where,
            ome.rule("plate", "a well's 'path' MUST be that of a well group"),
            f"well {well.path!r} is not there",
            "left out",
        )
    _check_acquisitions(ome, plate, fields, report)
    return _with_fields(hierarchy, ome.where, plate, plate.wells, fields, report, labels=labels)


def _check_acquisitions(
    ome: OmeAttrs, plate: Plate, fields: Mapping[str, Sequence[Field]], report: Report
) -> None:
    known = plate.acquisitions
    for well, some in fields.items():
        for one in some:
            if one.acquisition is None and len(known) > 1:
                rule = ome.rule("well", "'acquisition' MUST be there if a plate has several")
                report.must(ome.where, rule, f"field {well}/{one.path} names none", "left unknown")
            elif one.acquisition is not None and known and one.acquisition not in known:
                rule = ome.rule("well", "'acquisition' MUST match the id of one of the plate")
                found = f"field {well}/{one.path} names {one.acquisition}, not in {list(known)}"
                report.must(ome.where, rule, found, "kept as it is")


def read_well(
    hierarchy: Hierarchy, ome: OmeAttrs, report: Report, *, labels: bool = True
) -> PlateNode:
    """Read one well, opened by itself."""
    parts = ome.where.split("/")
    row, column = parts[-2:] if len(parts) > 1 else ("", parts[-1])
    well = Well(path="", row=row, column=column)
    fields = {"": parse_well(ome, report)}
    return _with_fields(hierarchy, ome.where, None, (well,), fields, report, labels=labels)


def _with_fields(
    hierarchy: Hierarchy,
    where: str,
    plate: Plate | None,
    wells: Sequence[Well],
    fields: Mapping[str, tuple[Field, ...]],
    report: Report,
    *,
    labels: bool,
) -> PlateNode:
    wanted = [_inside(where, well, one.path) for well, some in fields.items() for one in some]
    groups = _groups(hierarchy, wanted, report)
    images = {path: ome for path, ome in groups.items() if "multiscales" in ome}
    for path in wanted:
        if path not in images:
            report.must(
                where,
                "OME-Zarr 0.4, well: an image's 'path' MUST be that of an image group",
                f"field {path!r} is not there",
                "left out",
            )
    read = read_images(hierarchy, list(images.values()), report, labels=labels, lenient=True)
    if not read:
        listed = wanted or [_inside(where, well.path) for well in wells]
        raise InvalidMetadataError(
            f"store {hierarchy.source.url!r}: none of the fields of plate or well {where or '/'!r} "
            f"is there; wanted {listed[:5]}. Was it copied in part?"
        )
    prefix = len(where) + 1 if where else 0
    there = {
        well: kept
        for well, some in fields.items()
        if (kept := tuple(one for one in some if _inside(where, well, one.path) in read))
    }
    return PlateNode(
        plate=plate,
        wells=tuple(well for well in wells if well.path in there),
        fields=there,
        images={path[prefix:]: node for path, node in read.items()},
    )


def collection_paths(hierarchy: Hierarchy, ome: OmeAttrs, report: Report) -> list[str]:
    """Return the paths of the images that a collection gathers, relative to it.

    Raises
    ------
    InvalidMetadataError
        It gathers none.
    """
    if "bioformats2raw.layout" in ome:
        paths = _series_paths(hierarchy, ome, report)
    elif "scene" in ome:
        paths = _scene_paths(ome)
    else:
        paths = list(label_names(ome, report))
    groups = _groups(hierarchy, [_inside(ome.where, path) for path in paths], report)
    there = [p for p in paths if "multiscales" in groups.get(_inside(ome.where, p), ())]
    for path in paths:
        if path not in there:
            report.must(
                ome.where,
                ome.rule("bioformats2raw.layout", "each path MUST be that of an image group"),
                f"image {path!r} is not there",
                "left out",
            )
    if not there and "labels" not in ome:
        raise InvalidMetadataError(
            f"store {hierarchy.source.url!r}: none of the images of collection "
            f"{ome.where or '/'!r} is there; wanted {paths[:5]}. Was it copied in part?"
        )
    return there


def _series_paths(hierarchy: Hierarchy, ome: OmeAttrs, report: Report) -> list[str]:
    layout = ome.data["bioformats2raw.layout"]
    if layout != 3:
        report.must(
            ome.where,
            ome.rule("bioformats2raw.layout", "'bioformats2raw.layout' MUST be 3"),
            f"bioformats2raw.layout {layout!r}",
            "read as 3",
        )
    folder = _inside(ome.where, "OME")
    node = hierarchy.find([folder]).get(folder)
    series = ome_section(node.attrs).get("series") if node is not None else None
    if isinstance(series, list) and series and all(isinstance(path, str) for path in series):
        return [path.strip("/") for path in series]
    if series is not None:
        report.must(
            folder,
            ome.rule("bioformats2raw.layout", "'series' MUST be a list of paths"),
            series,
            "images looked for as 0, 1, 2 …",
        )
    names = {path.rpartition("/")[2] for path in hierarchy.children(ome.where)}
    return sorted((name for name in names if re.fullmatch(r"\d+", name)), key=int)


def _scene_paths(ome: OmeAttrs) -> list[str]:
    """Return the images that the transformations of a scene speak of (0.6, scene)."""
    scene = ome.data["scene"]
    transforms = scene.get("coordinateTransformations") if isinstance(scene, Mapping) else None
    items = transforms if isinstance(transforms, list) else []
    ends = [item.get(end) for item in items if isinstance(item, Mapping) for end in _ENDS]
    paths = [end.get("path") for end in ends if isinstance(end, Mapping)]
    return list(dict.fromkeys(path.strip("/") for path in paths if isinstance(path, str) and path))


_ENDS = ("input", "output")
