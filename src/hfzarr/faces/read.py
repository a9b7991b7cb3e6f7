"""What a node becomes: one Dataset, or a tree of them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping
from typing import Any

from xarray import Dataset

from hfzarr.errors import AmbiguousTargetError, NodeNotFoundError, TargetError
from hfzarr.faces.accessor import DIAGNOSIS_KEY
from hfzarr.faces.groups import (
    array_dataset,
    clash_error,
    clashing,
    group_arrays,
    group_dataset,
    kept,
    unnamed,
    unnamed_error,
)
from hfzarr.faces.images import choose_image, choose_level, image_dataset, plate_dataset
from hfzarr.faces.opening import (
    Opening,
    Options,
    announce,
    open_store,
    refuse,
    warn_unconsolidated,
)
from hfzarr.faces.origin import ORIGIN_KEY, Origin
from hfzarr.faces.pyramids import choose_levels, has_own_data, level_dataset
from hfzarr.faces.tree import walk
from hfzarr.model.array import ArrayMeta
from hfzarr.model.geo import multiscales
from hfzarr.model.ome.version import OmeAttrs, ome_section
from hfzarr.store.finding import naming
from hfzarr.store.hierarchy import NodeDoc
from hfzarr.store.location import join_path
from hfzarr.store.node import (
    ImageNode,
    Kind,
    PlateNode,
    classify,
    collection_paths,
    read_images,
    read_plate,
    read_well,
)

__all__ = ["dataset", "groups"]


def dataset(target: Any, options: Options, **place: Any) -> Dataset:
    """Open one node as a Dataset."""
    opening = open_store(target, options=options, **place)
    with naming(opening.source.url):
        kind, ome = classify(opening.node, opening.report)
        out = _DATASETS[kind](opening, ome)
    return _finished(opening, {"": out}, kind, ome, place["on_invalid"])[""]


def groups(target: Any, options: Options, **place: Any) -> dict[str, Dataset]:
    """Open a node and all below it, as ``{path: Dataset}`` with ``"/"`` for the node itself."""
    opening = open_store(target, options=options, **place)
    with naming(opening.source.url):
        kind, ome = classify(opening.node, opening.report)
        found = _tree(opening, kind, ome)
    found = _finished(opening, found, kind, ome, place["on_invalid"])
    return {"/" + path: out for path, out in found.items()}


def _finished(
    opening: Opening,
    found: dict[str, Dataset],
    kind: Kind,
    ome: OmeAttrs | None,
    on_invalid: Any,
) -> dict[str, Dataset]:
    """Say what was repaired, and leave the diagnosis with the root."""
    if not opening.options.quiet:
        announce(opening.report, opening.source.url, on_invalid)
    if kind == "group" and not opening.options.quiet:
        warn_unconsolidated(opening)
    if kind != "group":
        # The CF decoder drops by itself.
        found = {path: _without(out, opening.options.drop_variables) for path, out in found.items()}
    root = found.setdefault("", Dataset())
    root.encoding[DIAGNOSIS_KEY] = opening.diagnosis(kind, None if ome is None else ome.version)
    root.encoding[ORIGIN_KEY] = Origin.of(opening.location, opening.path, found)
    if opening.location.kind in ("url", "zip"):
        # Otherwise xarray puts it there, with the password that it may hold.
        root.encoding["source"] = opening.location.shown
    root.set_close(opening.source.close)
    return found


def _without(dataset: Dataset, names: Collection[str]) -> Dataset:
    dropped = [name for name in names if name in dataset.variables]
    return dataset.drop_vars(dropped) if dropped else dataset


def _array_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    refuse(opening, "level", "image")
    return array_dataset(opening, _the_array(opening), _array_name(opening))


def _the_array(opening: Opening) -> ArrayMeta:
    meta = opening.hierarchy.array(opening.path)
    if meta is None:
        raise NodeNotFoundError(f"node {opening.path or '/'!r} is no array")
    return meta


def _array_name(opening: Opening) -> str:
    return posixpath.basename(opening.path) or opening.location.name or "array"


def _image_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    node = _image_node(opening, ome, labels=False)
    if ome is not None and len(node.images) > 1 and opening.options.image is None:
        opening.report.should(
            opening.path,
            ome.rule("multiscales", "of several, the user chooses; the first is the fallback"),
            f"{len(node.images)} multiscales, {[image.name for image in node.images]}",
            "the first is opened; choose with image=",
        )
    image = choose_image(node.images, opening.options.image)
    return image_dataset(opening.source, image, choose_level(image, opening.options.level))


def _image_node(opening: Opening, ome: OmeAttrs | None, *, labels: bool) -> ImageNode:
    omes = [ome] if ome is not None else []
    drop = opening.options.drop_variables
    found = read_images(opening.hierarchy, omes, opening.report, labels=labels, drop=drop)
    return found[opening.path]


def _plate_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    if opening.options.image is not None:
        return _one_of(opening, _field_choice(opening, ome))
    return plate_dataset(opening.source, _plate_node(opening, ome), opening.options.level)


def _plate_node(opening: Opening, ome: OmeAttrs | None) -> PlateNode:
    if ome is None:
        raise TargetError("a plate without metadata")
    read = read_plate if "plate" in ome else read_well
    return read(opening.hierarchy, ome, opening.report, labels=False)


def _field_choice(opening: Opening, ome: OmeAttrs | None) -> str:
    """Return the path of the field that was chosen, by path or by index."""
    wanted = opening.options.image
    if not isinstance(wanted, int):
        return str(wanted)
    paths = list(_plate_node(opening, ome).images)
    if -len(paths) <= wanted < len(paths):
        return paths[wanted]
    raise NodeNotFoundError(
        f"plate {opening.path or '/'!r} has no image {wanted}; it has {len(paths)} fields, from "
        f"{paths[0]!r} to {paths[-1]!r}. Give an index, or a path such as {paths[0]!r}."
    )


def _one_of(opening: Opening, path: str) -> Dataset:
    """Return an image below this node, by its path."""
    node, ome = _image_below(opening, path)
    found = read_images(opening.hierarchy, [ome], opening.report, labels=False)[node.path]
    image = found.images[0]
    return image_dataset(opening.source, image, choose_level(image, opening.options.level))


def _image_below(opening: Opening, path: str) -> tuple[NodeDoc, OmeAttrs]:
    node = opening.hierarchy.node(join_path(opening.path, path))
    kind, ome = classify(node, opening.report) if node is not None else (None, None)
    if node is None or kind != "image" or ome is None:
        raise NodeNotFoundError(
            f"node {opening.path or '/'!r} has no image {path!r}. Give its path from there."
        )
    return node, ome


def _collection_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    return _one_of(opening, _collection_choice(opening, ome))


def _collection_choice(opening: Opening, ome: OmeAttrs | None) -> str:
    """Return the path of the image that was chosen, or raise and list all of them."""
    if ome is None:
        raise TargetError("a collection without metadata")
    paths = collection_paths(opening.hierarchy, ome, opening.report)
    names = [_image_name(opening, path) for path in paths]
    wanted = opening.options.image
    if wanted is None and len(paths) == 1:
        wanted = 0
    if isinstance(wanted, int) and -len(paths) <= wanted < len(paths):
        return paths[wanted]
    if isinstance(wanted, str) and wanted in paths:
        return wanted
    if isinstance(wanted, str) and wanted in names:
        return paths[names.index(wanted)]
    listed = "\n".join(
        f"- image={i} or image={path!r}" + (f", named {name!r}" if name else "")
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    )
    if wanted is not None:
        raise NodeNotFoundError(
            f"collection {opening.path or '/'!r} has no image {wanted!r}; it has:\n{listed}"
        )
    raise AmbiguousTargetError(
        f"collection {opening.path or '/'!r} holds {len(paths)} images:\n{listed}\n"
        "Choose one with image=, or open all with xr.open_datatree."
    )


def _image_name(opening: Opening, path: str) -> str | None:
    node = opening.hierarchy.node(join_path(opening.path, path))
    if node is None:
        return None
    multiscale = ome_section(node.attrs).get("multiscales")
    first = multiscale[0] if isinstance(multiscale, list) and multiscale else None
    name = first.get("name") if isinstance(first, Mapping) else None
    return name if isinstance(name, str) else None


def _group_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    refuse(opening, "image")
    where, attrs = opening.path, opening.node.attrs
    pyramid = multiscales(attrs, where, opening.report)
    children = opening.hierarchy.children(where)
    arrays = group_arrays(opening, children)
    wanted = kept(opening, arrays)
    if pyramid is not None:
        levels = choose_levels(opening, where, pyramid)
        assets = {level.asset for level in pyramid.levels}
        if opening.options.level is not None or not has_own_data(wanted, assets):
            return level_dataset(opening, where, levels[0])
        arrays = {name: meta for name, meta in arrays.items() if name not in assets}
        wanted = kept(opening, arrays)
    refuse(opening, "level")
    nameless = unnamed(opening, wanted, attrs, where)
    if nameless:
        raise unnamed_error(opening, nameless)
    clashes = clashing(wanted.values())
    if clashes:
        raise clash_error(opening, clashes)
    if not arrays and children:
        below = [child.rpartition("/")[2] for child in children]
        raise AmbiguousTargetError(
            f"group {where or '/'!r} holds no arrays itself, only the groups {below[:20]}. "
            "Open one of them with group=, or all with xr.open_datatree."
        )
    return group_dataset(opening, arrays, attrs, where=where)


_DATASETS: Mapping[Kind, Callable[[Opening, OmeAttrs | None], Dataset]] = {
    "array": _array_dataset,
    "image": _image_dataset,
    "plate": _plate_dataset,
    "well": _plate_dataset,
    "collection": _collection_dataset,
    "group": _group_dataset,
}


def _tree(opening: Opening, kind: Kind, ome: OmeAttrs | None) -> dict[str, Dataset]:
    """Return everything at and below a node, by paths relative to it."""
    if kind == "array":
        return {"": _array_dataset(opening, ome)}
    start = opening.node
    if kind == "group":
        refuse(opening, "image")
    elif kind != "image" and opening.options.image is not None:
        chosen = (
            _collection_choice(opening, ome)
            if kind == "collection"
            else _field_choice(opening, ome)
        )
        start, _ = _image_below(opening, chosen)
    found = walk(opening, start)
    prefix = len(opening.path) + 1 if opening.path else 0
    return {path[prefix:]: out for path, out in found.items()}
