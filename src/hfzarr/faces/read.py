"""What a node becomes: one Dataset, or a tree of them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
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
    unnamed,
    unnamed_error,
)
from hfzarr.faces.images import (
    choose_image,
    choose_level,
    image_dataset,
    image_groups,
    plate_dataset,
    plate_groups,
)
from hfzarr.faces.opening import Opening, Options, announce, naming, open_store, warn_unconsolidated
from hfzarr.model.array import ArrayMeta
from hfzarr.model.geo import GeoReference, multiscales
from hfzarr.model.ome.version import OmeAttrs, ome_section
from hfzarr.store.hierarchy import NodeDoc
from hfzarr.store.location import join_path
from hfzarr.store.node import (
    ImageNode,
    Kind,
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
        found = _tree(opening, opening.node, kind, ome)
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
    announce(opening.report, opening.source.url, on_invalid)
    if kind == "group":
        warn_unconsolidated(opening)
    root = found.setdefault("", Dataset())
    root.encoding[DIAGNOSIS_KEY] = opening.diagnosis(kind, None if ome is None else ome.version)
    root.set_close(opening.source.close)
    return found


# --- one Dataset ---------------------------------------------------------------------------------


def _refuse(opening: Opening, *names: str) -> None:
    """Raise for an option that means nothing for this kind of node."""
    for name in names:
        if getattr(opening.options, name) is not None:
            raise TargetError(
                f"{name}= was given, and node {opening.path or '/'!r} has nothing to choose from "
                f"by it. Leave it out, or name the image or pyramid with group=."
            )


def _array_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    _refuse(opening, "level", "image")
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
    return read_images(opening.hierarchy, omes, opening.report, labels=labels)[opening.path]


def _plate_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    if opening.options.image is not None:
        return _one_of(opening, str(opening.options.image))
    read = read_plate if ome is not None and "plate" in ome else read_well
    node = read(opening.hierarchy, ome, opening.report, labels=False)  # type: ignore[arg-type]
    return plate_dataset(opening.source, node, opening.options.level)


def _one_of(opening: Opening, path: str) -> Dataset:
    """Return an image below this node, by its path."""
    where = join_path(opening.path, path)
    node = opening.hierarchy.node(where)
    kind, ome = classify(node, opening.report) if node is not None else (None, None)
    if kind != "image" or ome is None:
        raise NodeNotFoundError(
            f"node {opening.path or '/'!r} has no image {path!r}. Give its path from there."
        )
    node_images = read_images(opening.hierarchy, [ome], opening.report, labels=False)[where]
    image = node_images.images[0]
    return image_dataset(opening.source, image, choose_level(image, opening.options.level))


def _collection_dataset(opening: Opening, ome: OmeAttrs | None) -> Dataset:
    if ome is None:
        raise TargetError("a collection without metadata")
    paths = collection_paths(opening.hierarchy, ome, opening.report)
    names = [_image_name(opening, path) for path in paths]
    wanted = opening.options.image
    if wanted is None and len(paths) == 1:
        wanted = 0
    if isinstance(wanted, int) and -len(paths) <= wanted < len(paths):
        return _one_of(opening, paths[wanted])
    if isinstance(wanted, str) and wanted in paths:
        return _one_of(opening, wanted)
    if isinstance(wanted, str) and wanted in names:
        return _one_of(opening, paths[names.index(wanted)])
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
    _refuse(opening, "image")
    attrs = opening.node.attrs
    pyramid = multiscales(attrs, opening.path, opening.report)
    children = opening.hierarchy.children(opening.path)
    arrays = group_arrays(opening, children)
    if pyramid is not None:
        assets = [level.asset for level in pyramid.levels]
        own = {name: meta for name, meta in arrays.items() if name not in assets}
        if opening.options.level is not None or not own:
            return _pyramid_level(opening, assets, [level.geo for level in pyramid.levels])
        arrays = own
    _refuse(opening, "level")
    nameless = unnamed(arrays, attrs, opening)
    if nameless:
        raise unnamed_error(opening, nameless)
    clashes = clashing(arrays.values())
    if clashes:
        raise clash_error(opening, clashes)
    if not arrays and children and not opening.options.drop_variables:
        below = [child.rpartition("/")[2] for child in children]
        raise AmbiguousTargetError(
            f"group {opening.path or '/'!r} holds no arrays itself, only the groups {below[:20]}. "
            "Open one of them with group=, or all with xr.open_datatree."
        )
    return group_dataset(opening, arrays, attrs)


def _pyramid_level(
    opening: Opening, assets: Sequence[str], geos: Sequence[GeoReference | None]
) -> Dataset:
    level = opening.options.level
    names = list(assets)
    index = names.index(level) if isinstance(level, str) and level in names else level or 0
    if not isinstance(index, int) or not -len(names) <= index < len(names):
        raise NodeNotFoundError(
            f"pyramid {opening.path or '/'!r} has no level {level!r}; it has {names}. "
            f"Give level= as 0 to {len(names) - 1}, as -1 to {-len(names)}, or by name."
        )
    path = join_path(opening.path, names[index])
    node = opening.hierarchy.node(path)
    if node is None:
        raise NodeNotFoundError(
            f"pyramid {opening.path or '/'!r} lists the level {names[index]!r}, which is not there"
        )
    return _level_dataset(opening, node, geos[index])


def _level_dataset(opening: Opening, node: NodeDoc, geo: GeoReference | None) -> Dataset:
    """Return one level of a GeoZarr pyramid, be it a group or an array."""
    paths = [node.path] if node.kind == "array" else opening.hierarchy.children(node.path)
    arrays = group_arrays(opening, paths)
    attrs = node.attrs if node.kind == "group" else {}
    clashes = clashing(arrays.values())
    if clashes:
        raise clash_error(opening, clashes)
    return group_dataset(opening, arrays, attrs, inherited=geo)


_DATASETS: Mapping[Kind, Callable[[Opening, OmeAttrs | None], Dataset]] = {
    "array": _array_dataset,
    "image": _image_dataset,
    "plate": _plate_dataset,
    "well": _plate_dataset,
    "collection": _collection_dataset,
    "group": _group_dataset,
}


# --- a tree --------------------------------------------------------------------------------------


def _tree(opening: Opening, node: NodeDoc, kind: Kind, ome: OmeAttrs | None) -> dict[str, Dataset]:
    """Return everything at and below a node, by paths relative to it."""
    if kind == "array":
        return {"": _array_dataset(opening, ome)}
    if kind == "collection" and opening.options.image is not None:
        return {"": Dataset(), "image": _collection_dataset(opening, ome)}
    walk = _Walk(opening)
    walk.visit([node])
    prefix = len(opening.path) + 1 if opening.path else 0
    return {path[prefix:]: out for path, out in walk.found.items()}


class _Walk:
    """Visits a tree of nodes depth by depth, so that each depth costs one round of requests."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.found: dict[str, Dataset] = {}
        # What the layout of a pyramid says of the levels below it.
        self._levels: dict[str, GeoReference | None] = {}

    def visit(self, nodes: Sequence[NodeDoc]) -> None:
        """Visit these nodes and all below them."""
        while nodes:
            kinds = [(node, *classify(node, self.opening.report)) for node in nodes]
            images = [ome for _, kind, ome in kinds if kind == "image" and ome is not None]
            self._add_images(images)
            for _, kind, ome in kinds:
                if kind in ("plate", "well") and ome is not None:
                    self._add_plate(kind, ome)
            plain = [node for node, kind, _ in kinds if kind in ("group", "array")]
            deeper = self._add_plain(plain)
            for node, kind, ome in kinds:
                if kind == "collection" and ome is not None:
                    deeper += self._add_collection(node, ome)
            nodes = deeper

    def _add(self, where: str, groups: Mapping[str, Dataset]) -> None:
        for path, out in groups.items():
            self.found[join_path(where, path)] = out

    def _add_images(self, omes: Sequence[OmeAttrs]) -> None:
        opening = self.opening
        for where, node in read_images(opening.hierarchy, omes, opening.report).items():
            if opening.options.image is not None and where == opening.path:
                chosen = choose_image(node.images, opening.options.image)
                node = ImageNode(images=(chosen,), labels=node.labels)
            self._add(where, image_groups(opening.source, node, opening.options.level))

    def _add_plate(self, kind: Kind, ome: OmeAttrs) -> None:
        opening = self.opening
        read = read_plate if kind == "plate" else read_well
        node = read(opening.hierarchy, ome, opening.report)
        self._add(ome.where, plate_groups(opening.source, node, opening.options.level))

    def _add_collection(self, node: NodeDoc, ome: OmeAttrs) -> list[NodeDoc]:
        opening = self.opening
        paths = collection_paths(opening.hierarchy, ome, opening.report)
        attrs = {key: ome.data[key] for key in ("scene",) if key in ome}
        self._add(ome.where, {"": Dataset(attrs={"images": paths, **attrs})})
        below = [opening.hierarchy.node(join_path(ome.where, path)) for path in paths]
        return [child for child in below if child is not None]

    def _add_plain(self, nodes: Sequence[NodeDoc]) -> list[NodeDoc]:
        """Add groups of arrays, and single arrays; return the groups below."""
        opening, hierarchy = self.opening, self.opening.hierarchy
        hierarchy.load_children([node.path for node in nodes if node.kind == "group"])
        deeper: list[NodeDoc] = []
        for node in nodes:
            if node.kind == "array":
                self._add(node.path, {"": self._lone_array(node)})
                continue
            children = hierarchy.children(node.path)
            below = [
                child
                for path in children
                if (child := hierarchy.node(path)) is not None and child.kind == "group"
            ]
            self._add_group(node, group_arrays(opening, children))
            deeper += below
        return deeper

    def _add_group(self, node: NodeDoc, arrays: dict[str, ArrayMeta]) -> None:
        opening = self.opening
        pyramid = multiscales(node.attrs, node.path, opening.report)
        assets: set[str] = set()
        if pyramid is not None:
            self._levels |= {join_path(node.path, lv.asset): lv.geo for lv in pyramid.levels}
            # An asset such as "0/data" places the group that holds the array, too.
            for lv in pyramid.levels:
                parent = join_path(node.path, lv.asset).rpartition("/")[0]
                if parent != node.path:
                    self._levels.setdefault(parent, lv.geo)
            assets = {level.asset for level in pyramid.levels}
        # Levels that are arrays, and arrays that fit into no common Dataset, stand by themselves.
        nameless = unnamed(arrays, node.attrs, opening)
        alone = [name for name in arrays if name in assets or name in nameless]
        together = {name: meta for name, meta in arrays.items() if name not in alone}
        # A node that stands alone is a child, and must agree with what stays behind.
        named = [meta for name, meta in arrays.items() if name not in nameless]
        if together and clashing(named):
            alone, together = list(arrays), {}
        inherited = self._levels.get(node.path)
        own = group_dataset(opening, together, node.attrs, inherited=inherited)
        self._add(node.path, {"": own})
        for name in alone:
            child = opening.hierarchy.node(arrays[name].path)
            if child is not None:
                self._add(child.path, {"": self._lone_array(child)})

    def _lone_array(self, node: NodeDoc) -> Dataset:
        arrays = group_arrays(self.opening, [node.path])
        inherited = self._levels.get(node.path)
        return group_dataset(self.opening, arrays, {}, inherited=inherited)
