"""All metadata of a store as one text, so that a table can carry it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from hfzarr.errors import UnsupportedError
from hfzarr.model.report import Report
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import join_path
from hfzarr.store.node import classify, read_images

__all__ = ["consolidated_text"]


def consolidated_text(hierarchy: Hierarchy) -> str:
    """Return the consolidated metadata of a store, as its root would hold it.

    Where the store has none, it is made: each depth of the store costs two rounds of requests. A
    store that cannot be listed is known by what its OME metadata names.

    Parameters
    ----------
    hierarchy
        The store's metadata, with the root loaded.

    Returns
    -------
    str
        JSON: of Zarr v3, the root's ``zarr.json`` with ``consolidated_metadata`` in it (of an
        array, its ``zarr.json``); of v2, a ``.zmetadata``.

    Raises
    ------
    UnsupportedError
        The store cannot be listed, and no metadata names what is in it.
    """
    root = hierarchy.node("")
    if root is None:
        raise UnsupportedError(f"store {hierarchy.source.url!r} has no node at its root")
    if root.zarr_format == 3:
        return _as_text(_whole_v3(hierarchy, root))
    own = hierarchy.source.get(".zmetadata") if hierarchy.consolidated else None
    return _as_text(_whole_v2(_nodes(hierarchy, root)) if own is None else json.loads(own))


def _as_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _whole_v3(hierarchy: Hierarchy, root: NodeDoc) -> Mapping[str, Any]:
    if hierarchy.consolidated or root.kind == "array":
        return root.doc
    below = {node.path: _alone(node.doc) for node in _nodes(hierarchy, root) if node.path}
    inline = {"kind": "inline", "must_understand": False, "metadata": below}
    return {**_alone(root.doc), "consolidated_metadata": inline}


def _alone(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's document without what it says of the nodes below it."""
    return {key: value for key, value in document.items() if key != "consolidated_metadata"}


def _whole_v2(nodes: Iterator[NodeDoc]) -> Mapping[str, Any]:
    metadata: dict[str, Any] = {}
    for node in nodes:
        start = f"{node.path}/" if node.path else ""
        metadata[start + (".zarray" if node.kind == "array" else ".zgroup")] = node.doc
        if node.attrs:
            metadata[f"{start}.zattrs"] = node.attrs
    return {"zarr_consolidated_format": 1, "metadata": metadata}


def _nodes(hierarchy: Hierarchy, root: NodeDoc) -> Iterator[NodeDoc]:
    """Yield the root and every node below it, depth by depth."""
    nodes = [root]
    while nodes:
        yield from nodes
        groups = [node for node in nodes if node.kind == "group"]
        try:
            hierarchy.load_children([node.path for node in groups])
        except UnsupportedError:
            if groups != [root]:
                raise
            yield from _named_by_image(hierarchy, root)
            return
        paths = [path for node in groups for path in hierarchy.children(node.path)]
        nodes = [node for node in map(hierarchy.node, paths) if node is not None]


def _named_by_image(hierarchy: Hierarchy, root: NodeDoc) -> Iterator[NodeDoc]:
    """Yield the levels and the label images of a store that cannot be listed."""
    kind, ome = classify(root, Report())
    if kind != "image" or ome is None:
        raise UnsupportedError(
            f"store {hierarchy.source.url!r} cannot be listed, and only the metadata of an "
            "OME-Zarr image names all that is in it. Consolidate the store's metadata."
        )
    read = read_images(hierarchy, [ome], Report())[root.path]
    paths = {join_path(root.path, level.path) for one in read.images for level in one.levels}
    if read.labels:
        paths.add(join_path(root.path, "labels"))
    for label in read.labels.values():
        paths.add(label.where)
        paths |= {join_path(label.where, level.path) for level in label.levels}
    yield from (node for node in map(hierarchy.node, sorted(paths)) if node is not None)
