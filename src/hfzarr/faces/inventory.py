"""Everything that a store holds, with the metadata it will have when it is written anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfzarr.errors import UnsupportedError
from hfzarr.faces.opening import Opening
from hfzarr.model.array import ArrayMeta
from hfzarr.model.ome.image import Image
from hfzarr.model.ome.upgrade import labels_attrs, level_dims, upgrade_attrs
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import join_path
from hfzarr.store.node import (
    ImageNode,
    classify,
    collection_paths,
    read_images,
    read_plate,
    read_well,
)
from hfzarr.store.sink import WORK

__all__ = ["CarriedArray", "Inventory", "take_inventory"]

# What lies in a group's folder and is metadata of Zarr, or rubbish of an operating system.
_NOT_CARRIED = frozenset(
    ["zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata", "__MACOSX", ".DS_Store", WORK]
)
_NODES = frozenset(["zarr.json", ".zgroup", ".zarray"])
# Beside the images of bioformats2raw (OME-Zarr 0.4, "bioformats2raw.layout").
_OME_XML = "METADATA.ome.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedArray:
    """An array, and what v3 will say of it.

    Attributes
    ----------
    meta
        The array as it is.
    dims
        Names of its dimensions, where something other than the array itself names them.
    is_pixels
        Whether it is a level of an image, whose fill value marks nothing as missing.
    """

    meta: ArrayMeta
    dims: tuple[str, ...] | None = None
    is_pixels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a node of a store holds.

    Attributes
    ----------
    arrays
        Its arrays, by path below the node.
    groups
        Attributes of its groups as v3 carries them, by path below the node.
    files
        Keys of other files, in the store and below the node.
    notes
        What could not be carried over, or could not be looked at.
    """

    arrays: Mapping[str, CarriedArray]
    groups: Mapping[str, Mapping[str, Any]]
    files: Sequence[tuple[str, str]] = ()
    notes: tuple[str, ...] = field(default=())


def take_inventory(opening: Opening) -> Inventory:
    """Find every array and group below a node, and the files beside them.

    Raises
    ------
    UnsupportedError
        An array cannot be read, or groups can neither be listed nor say what is in them.
    """
    count = _Count(opening)
    count.walk()
    return count.result()


class _Count:
    """Walks a store depth by depth, so that each depth costs one round of requests."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._hierarchy = opening.hierarchy
        self._arrays: list[NodeDoc] = []
        self._groups: list[NodeDoc] = []
        self._omes: dict[str, OmeAttrs] = {}
        self._children: dict[str, list[str]] = {}
        self._files: list[tuple[str, str]] = []
        self._notes: list[str] = []
        self._dropped: set[str] = set()
        self._told: set[str] = set()
        self._unlisted = False

    def walk(self) -> None:
        """Visit the node and all below it."""
        nodes = [self._opening.node]
        while nodes:
            groups = [node for node in nodes if node.kind == "group"]
            self._arrays += [node for node in nodes if node.kind == "array"]
            self._groups += groups
            for node in groups:
                _, ome = classify(node, self._opening.report)
                if ome is not None:
                    self._omes[node.path] = ome
            self._find_children(groups)
            paths = list(
                dict.fromkeys(path for node in groups for path in self._children[node.path])
            )
            self._hierarchy.load(paths)
            found = [self._hierarchy.node(path) for path in paths if not self._is_dropped(path)]
            nodes = [node for node in found if node is not None]
        if missed := self._opening.options.drop_variables - self._dropped:
            self._note(f"drop_variables names what is not there: {sorted(missed)}")

    def _is_dropped(self, path: str) -> bool:
        names = {path, self._below(path), path.rpartition("/")[2]}
        found = names & self._opening.options.drop_variables
        self._dropped |= found
        return bool(found)

    def _find_children(self, groups: Sequence[NodeDoc]) -> None:
        paths = [node.path for node in groups]
        try:
            self._hierarchy.load_children(paths)
            self._children.update({path: self._hierarchy.children(path) for path in paths})
        except UnsupportedError as error:
            self._find_told(groups, error)
            return
        self._find_files(paths)

    def _find_told(self, groups: Sequence[NodeDoc], error: UnsupportedError) -> None:
        """Go by what OME metadata names, where groups cannot be listed."""
        for node in groups:
            ome = self._omes.get(node.path)
            if ome is not None:
                self._told.update(told_by_ome(self._hierarchy, ome, self._opening.report))
        for node in groups:
            known = node.path in self._omes
            start = f"{node.path}/" if node.path else ""
            below = {p for p in self._told if p.startswith(start) and p != node.path}
            if not known and not below and not node.path.endswith("OME"):
                raise error
            self._children[node.path] = sorted({_first_below(p, start) for p in below})
        if not self._unlisted:
            self._note(
                "groups could not be listed: what their OME metadata names is written, and nothing "
                f"else ({error})"
            )
        self._unlisted = True
        companions = [f"{node.path}/{_OME_XML}".lstrip("/") for node in groups]
        there = zip(companions, self._opening.source.stamps(companions), strict=True)
        self._files += [(key, self._below(key)) for key, stamp in there if stamp is not None]

    def _find_files(self, groups: Iterable[str]) -> None:
        """Note the files beside the nodes, so that what Zarr has no name for is not lost."""
        source = self._opening.source
        folders = list(groups)
        known = {path: {p.rpartition("/")[2] for p in self._children[path]} for path in folders}
        try:
            while folders:
                deeper: list[str] = []
                for folder, names in zip(folders, source.list_many(folders), strict=True):
                    if folder in known and not names:
                        raise UnsupportedError(f"the listing of {folder or '/'!r} is empty")
                    others = set(names) - known.get(folder, set()) - _NOT_CARRIED
                    if not others:
                        continue
                    files = others.intersection(source.list_files(folder))
                    self._files += [self._pair(folder, name) for name in sorted(files)]
                    deeper += [join_path(folder, name) for name in sorted(others - files)]
                folders = [folder for folder in deeper if not self._is_hidden_node(folder)]
        except UnsupportedError as error:
            self._note(f"files beside the arrays could not be listed ({error})")

    def _pair(self, folder: str, name: str) -> tuple[str, str]:
        key = f"{folder}/{name}" if folder else name
        return key, self._below(key)

    def _is_hidden_node(self, folder: str) -> bool:
        """Whether a folder is a node that consolidated metadata does not know of."""
        hidden = not _NODES.isdisjoint(self._opening.source.list_dir(folder))
        if hidden and not self._is_dropped(folder):
            self._note(f"{folder!r} is left out: the consolidated metadata does not know of it")
        return hidden

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def _below(self, path: str) -> str:
        """Return a path as it is below the node that is being rewritten."""
        start = self._opening.path
        return path[len(start) + 1 :] if start else path

    def result(self) -> Inventory:
        """Return what was found, with OME metadata carried to the version that v3 has."""
        multiscales = [ome for ome in self._omes.values() if "multiscales" in ome]
        report = self._opening.report
        read = read_images(
            self._hierarchy,
            multiscales,
            report,
            labels=False,
            lenient=True,
            drop=self._opening.options.drop_variables,
        )
        images = {where: node.images for where, node in read.items()}
        dims = level_dims(itertools.chain.from_iterable(images.values()))
        arrays = {}
        for node in self._arrays:
            meta = self._hierarchy.array(node.path)
            if meta is not None:
                arrays[self._below(node.path)] = CarriedArray(
                    meta=meta, dims=dims.get(node.path), is_pixels=node.path in dims
                )
        groups = {self._below(node.path): self._attrs(node, images) for node in self._groups}
        return Inventory(
            arrays=arrays, groups=groups, files=tuple(self._files), notes=tuple(self._notes)
        )

    def _attrs(self, node: NodeDoc, images: Mapping[str, tuple[Image, ...]]) -> dict[str, Any]:
        ome = self._omes.get(node.path)
        own = images.get(node.path, ())
        report = self._opening.report
        attrs = upgrade_attrs(node.attrs, ome, images=own, report=report)
        if not self._holds_labels(node):
            return attrs
        labels = [
            path[len(node.path) + 1 :]
            for path, some in images.items()
            if path.startswith(f"{node.path}/") and some
        ]
        if ome is None or "labels" not in ome:
            return labels_attrs(attrs, sorted(labels)) if labels else attrs
        listed = [str(name).strip("/") for name in ome.data["labels"] or ()]
        kept = [name for name in listed if not self._is_dropped(join_path(node.path, name))]
        return attrs if kept == listed else labels_attrs(attrs, kept)

    def _holds_labels(self, node: NodeDoc) -> bool:
        parent, _, name = node.path.rpartition("/")
        return name == "labels" and "multiscales" in self._omes.get(parent, ())


def _first_below(path: str, start: str) -> str:
    """Return the part of a path that lies directly below its beginning."""
    return start + path[len(start) :].partition("/")[0]


def told_by_ome(hierarchy: Hierarchy, ome: OmeAttrs, report: Report) -> Iterator[str]:
    """Yield the paths of nodes that the OME metadata of a group names."""
    if "plate" in ome or "well" in ome:
        read = read_plate if "plate" in ome else read_well
        for path, image in read(hierarchy, ome, report).images.items():
            yield from _parts_of(join_path(ome.where, path), image)
    elif "multiscales" in ome:
        for path, image in read_images(hierarchy, [ome], report, lenient=True).items():
            yield from _parts_of(path, image)
    elif "bioformats2raw.layout" in ome or "scene" in ome or "labels" in ome:
        paths = [join_path(ome.where, p) for p in collection_paths(hierarchy, ome, report)]
        yield from paths
    if "bioformats2raw.layout" in ome:
        # It may hold a plate as well.
        yield from hierarchy.find([join_path(ome.where, "OME")])


def _parts_of(where: str, node: ImageNode) -> Iterator[str]:
    yield where
    for image in [*node.images, *node.labels.values()]:
        yield from (level.array.path for level in image.levels)
    if node.labels:
        yield join_path(where, "labels")
