"""A tree of nodes as Datasets, depth by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xarray import Dataset

from hfzarr.faces.groups import clashing, group_arrays, group_dataset, kept, unnamed
from hfzarr.faces.images import choose_image, image_groups, plate_groups
from hfzarr.faces.opening import Opening, refuse
from hfzarr.faces.pyramids import choose_levels, companions
from hfzarr.model.array import ArrayMeta
from hfzarr.model.geo import GeoLevel, GeoReference, multiscales
from hfzarr.model.ome.version import OmeAttrs
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

__all__ = ["walk"]


def walk(opening: Opening, start: NodeDoc) -> dict[str, Dataset]:
    """Return a node and all below it, by their paths in the store.

    Raises
    ------
    TargetError
        ``level=`` was given, and there is no pyramid.
    """
    steps = _Walk(opening, start.path)
    nodes = [start]
    while nodes:
        nodes = steps.visit(nodes)
    if not steps.has_levels:
        refuse(opening, "level")
    return steps.found


class _Walk:
    """Visits nodes depth by depth, so that each depth costs one round of requests."""

    def __init__(self, opening: Opening, start: str) -> None:
        self.found: dict[str, Dataset] = {}
        self.has_levels = False
        self._opening = opening
        self._start = start
        # What the layout of a pyramid says of the levels below it, and which were not asked for.
        self._levels: dict[str, GeoReference | None] = {}
        self._left_out: set[str] = set()

    def visit(self, nodes: Sequence[NodeDoc]) -> list[NodeDoc]:
        """Add these nodes; return those below them that are still to be visited."""
        kinds = [(node, *classify(node, self._opening.report)) for node in nodes]
        self._add_images([ome for _, kind, ome in kinds if kind == "image" and ome is not None])
        for _, kind, ome in kinds:
            if kind in ("plate", "well") and ome is not None:
                self._add_plate(kind, ome)
        deeper = self._add_groups([node for node, kind, _ in kinds if kind == "group"])
        for _, kind, ome in kinds:
            if kind == "collection" and ome is not None:
                deeper += self._add_collection(ome)
        return deeper

    def _add(self, where: str, groups: Mapping[str, Dataset]) -> None:
        for path, out in groups.items():
            self.found[join_path(where, path)] = out

    def _add_images(self, omes: Sequence[OmeAttrs]) -> None:
        opening = self._opening
        # The one that was asked for must open; of several below, the sound ones do.
        lenient = any(ome.where != self._start for ome in omes)
        read = read_images(
            opening.hierarchy,
            omes,
            opening.report,
            lenient=lenient,
            drop=opening.options.drop_variables,
        )
        for where, node in read.items():
            self.has_levels = True
            if opening.options.image is not None and where == opening.path:
                chosen = choose_image(node.images, opening.options.image)
                node = ImageNode(images=(chosen,), labels=node.labels)
            self._note_shared_levels(where, node)
            self._add(where, image_groups(opening.source, node, opening.options.level))

    def _note_shared_levels(self, where: str, node: ImageNode) -> None:
        paths = [level.path for image in node.images for level in image.levels]
        shared = sorted({path for path in paths if paths.count(path) > 1})
        if shared:
            self._opening.report.should(
                where,
                "OME-Zarr, multiscales: of several, the user chooses; the first is the fallback",
                f"{len(node.images)} multiscales share the levels {shared}",
                "shown as the first has them; choose with image=",
            )

    def _add_plate(self, kind: Kind, ome: OmeAttrs) -> None:
        self.has_levels = True
        opening = self._opening
        read = read_plate if kind == "plate" else read_well
        node = read(opening.hierarchy, ome, opening.report)
        self._add(ome.where, plate_groups(opening.source, node, opening.options.level))

    def _add_collection(self, ome: OmeAttrs) -> list[NodeDoc]:
        hierarchy = self._opening.hierarchy
        paths = collection_paths(hierarchy, ome, self._opening.report)
        attrs = {key: ome.data[key] for key in ("scene",) if key in ome}
        self._add(ome.where, {"": Dataset(attrs={"images": paths, **attrs})})
        below = [hierarchy.node(join_path(ome.where, path)) for path in paths]
        return [child for child in below if child is not None]

    def _add_groups(self, nodes: Sequence[NodeDoc]) -> list[NodeDoc]:
        """Add groups of arrays; return the groups below them."""
        hierarchy = self._opening.hierarchy
        hierarchy.load_children([node.path for node in nodes])
        deeper: list[NodeDoc] = []
        for node in nodes:
            self._note_levels(node)
            children = [
                path for path in hierarchy.children(node.path) if path not in self._left_out
            ]
            self._add_group(node, group_arrays(self._opening, children))
            below = [hierarchy.node(path) for path in children]
            deeper += [child for child in below if child is not None and child.kind == "group"]
        return deeper

    def _note_levels(self, node: NodeDoc) -> None:
        """Note what a pyramid says of the nodes below it, and which of them to leave out."""
        pyramid = multiscales(node.attrs, node.path, self._opening.report)
        if pyramid is None:
            return
        self.has_levels = True
        chosen = choose_levels(self._opening, node.path, pyramid)
        for level in pyramid.levels:
            for path in _nodes_of(node.path, level):
                if level in chosen:
                    self._levels.setdefault(path, level.geo)
                else:
                    self._left_out.add(path)
        self._left_out -= self._levels.keys()

    def _add_group(self, node: NodeDoc, arrays: Mapping[str, ArrayMeta]) -> None:
        wanted = kept(self._opening, arrays)
        nameless = unnamed(self._opening, wanted, node.attrs, node.path)
        # Levels that are arrays, and arrays without names for their dims, stand by themselves;
        # a level in a group of its own ("0/data") is at home there.
        levels = {
            name: meta
            for name, meta in wanted.items()
            if meta.path in self._levels and node.path not in self._levels
        }
        alone = {name: wanted[name] for name in nameless if name not in levels}
        beside = {n: m for n, m in arrays.items() if n not in levels and n not in alone}
        self._add_level_arrays(levels, beside)
        if clashing([*levels.values(), *kept(self._opening, beside).values()]):
            # A child must agree with what its parent holds: so nothing stays behind. The
            # coordinates of levels are with them already.
            given = {n for meta in levels.values() for n in companions(meta, beside)}
            alone |= {n: m for n, m in kept(self._opening, beside).items() if n not in given}
            beside = {}
        inherited = self._levels.get(node.path)
        own = group_dataset(self._opening, beside, node.attrs, where=node.path, inherited=inherited)
        self._add(node.path, {"": own})
        for name, meta in alone.items():
            self._add(
                meta.path, {"": group_dataset(self._opening, {name: meta}, {}, where=meta.path)}
            )

    def _add_level_arrays(
        self, levels: Mapping[str, ArrayMeta], beside: Mapping[str, ArrayMeta]
    ) -> None:
        for name, meta in levels.items():
            arrays = {name: meta, **companions(meta, beside)}
            geo = self._levels.get(meta.path)
            out = group_dataset(self._opening, arrays, {}, where=meta.path, inherited=geo)
            self._add(meta.path, {"": out})


def _nodes_of(where: str, level: GeoLevel) -> list[str]:
    """Return the nodes that a level places: an asset "0/data" places the group of its array."""
    path = join_path(where, level.asset)
    parent = path.rpartition("/")[0]
    return [path] if parent == where else [path, parent]
