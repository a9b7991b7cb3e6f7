"""The nodes of a store as an outline, and what it says of itself as plain values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.errors import HfzarrError
from hfzarr.faces.opening import Options
from hfzarr.model.report import Diagnosis
from hfzarr.rows.facts import read_facts
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.opened import OpenedStore
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions

__all__ = ["Branch", "Outline", "describe", "outline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A node of a store, and those below it.

    Attributes
    ----------
    path
        Its path in the store; empty for the root.
    kind
        ``"array"``, ``"image"``, ``"plate"``, ``"group"`` … or ``"unreadable"``.
    facts
        What is known of it: ``ome_version``, or ``shape``, ``dtype``, ``chunks``, ``shards``,
        ``dims``, or ``why`` it cannot be read.
    children
        The nodes directly below, as far as they are shown.
    left_out
        How many of those are not shown; None where they were not looked for.
    """

    path: str
    kind: str
    facts: Mapping[str, Any]
    children: tuple[Branch, ...] = ()
    left_out: int | None = 0

    @property
    def label(self) -> str:
        """What an outline shows of it, without its name."""
        if self.kind == "unreadable":
            return f"unreadable: {self.facts['why']}"
        if self.kind != "array":
            version = self.facts.get("ome_version")
            return f"{self.kind}, OME-Zarr {version}" if version else self.kind
        shape, dims = self.facts["shape"], self.facts["dims"]
        sides = map(str, shape) if dims is None else map("{} {}".format, dims, shape)
        parts = [f"{' × '.join(sides) or 'scalar'} {self.facts['dtype']}"]
        for what in ("chunks", "shards"):
            if self.facts[what] is not None:
                parts.append(f"{what} " + " × ".join(map(str, self.facts[what])))
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        found: dict[str, Any] = {"path": self.path, "kind": self.kind, **self.facts}
        if self.kind not in ("array", "unreadable"):
            found["children"] = [child.to_dict() for child in self.children]
            found["left_out"] = self.left_out
        return found


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Outline:
    """The nodes of a store. Made by `outline`; prints as a tree.

    Attributes
    ----------
    store
        Where it lies, without secrets.
    root
        The node that was asked for.
    """

    store: str
    root: Branch

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, good for JSON."""
        return {"store": self.store, **self.root.to_dict()}

    def __str__(self) -> str:
        at = f"{self.store}/{self.root.path}" if self.root.path else self.store
        return "\n".join([f"{at}  {self.root.label}", *_lines(self.root)])

    __repr__ = __str__


def _lines(branch: Branch, indent: str = "") -> Iterator[str]:
    more = "…" if branch.left_out is None else f"… and {branch.left_out:,} more"
    ends: list[Branch | str] = [*branch.children, *([more] if branch.left_out != 0 else [])]
    for number, child in enumerate(ends, 1):
        last = number == len(ends)
        stem = indent + ("└── " if last else "├── ")
        if isinstance(child, str):
            yield stem + child
            continue
        yield f"{stem}{child.path.rpartition('/')[2]}  {child.label}"
        yield from _lines(child, indent + ("    " if last else "│   "))


def outline(
    target: Any,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    depth: int | None = None,
    limit: int = 1000,
) -> Outline:
    """Return the nodes of a store, found depth by depth.

    Parameters
    ----------
    target
        A path or URL.
    group
        Path of the node to begin with.
    storage_options
        Options for fsspec.
    depth
        Levels of nodes below the first; by default all.
    limit
        Nodes that are shown at most: those nearest to the first.

    Raises
    ------
    StoreNotFoundError
        There is no store.
    NodeNotFoundError
        It has no such node.

    Examples
    --------
    >>> import tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/a.zarr"
    >>> _ = zarr.create_group(folder).create_array("b", shape=(2, 3), chunks=(1, 3), dtype="u1")
    >>> print(outline(folder))
    /.../a.zarr  group
    └── b  2 × 3 uint8, chunks 1 × 3
    """
    handle = ZarrHandle(target, group or "", StorageOptions.of(storage_options))
    store = handle.store
    store.look(handle.node)
    below: dict[str, list[str]] = {}
    level, room, floor = [handle.node], limit - 1, 0
    while level and room > 0 and (depth is None or floor < depth):
        groups = [path for path in level if store.look(path).node.kind == "group"]
        _load(store, groups)
        level = []
        for path in groups:
            below[path] = _children(store, path)
            level += [child for child in below[path] if _is_readable(store, child)]
        room, floor = room - sum(len(below[path]) for path in groups), floor + 1
    root = _grown(store, handle.node, below, [limit])
    return Outline(store=hide_secrets(handle.url), root=root)


def _load(store: OpenedStore, groups: list[str]) -> None:
    """Find the members of many groups in one round; those that fail are asked one by one."""
    with contextlib.suppress(HfzarrError):
        store.hierarchy.load_children(groups)


def _children(store: OpenedStore, path: str) -> list[str]:
    try:
        return store.children(path)
    except HfzarrError:
        # Such as a web server that lists no folders: what can be told is told.
        return []


def _is_readable(store: OpenedStore, path: str) -> bool:
    try:
        return bool(store.look(path).kind)
    except HfzarrError:
        return False


def _grown(
    store: OpenedStore, path: str, below: Mapping[str, list[str]], room: list[int]
) -> Branch:
    """Return a node with those below it, as long as there is room for one more."""
    room[0] -= 1
    kind, facts = _facts(store, path)
    children = below.get(path)
    if children is None:
        unseen = None if kind not in ("array", "unreadable") else 0
        return Branch(path=path, kind=kind, facts=facts, left_out=unseen)
    shown = children[: max(room[0], 0)]
    # Those beside each other go before those below them.
    room[0] -= len(shown)
    grown = []
    for child in shown:
        room[0] += 1
        grown.append(_grown(store, child, below, room))
    return Branch(
        path=path,
        kind=kind,
        facts=facts,
        children=tuple(grown),
        left_out=len(children) - len(shown),
    )


def _facts(store: OpenedStore, path: str) -> tuple[str, dict[str, Any]]:
    try:
        look = store.look(path)
        if look.kind != "array":
            version = None if look.ome is None else look.ome.version
            return look.kind, {"ome_version": version}
        meta = store.array(path)
    except HfzarrError as error:
        return "unreadable", {"why": " ".join(str(error).split())}
    return "array", {
        "shape": meta.shape,
        "dtype": str(meta.dtype),
        "dims": meta.dims,
        "chunks": meta.inner_chunk,
        "shards": meta.shard,
    }


def describe(
    target: Any,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a store says of itself, and what is wrong with it, as plain values.

    Parameters
    ----------
    target, group, storage_options
        As for `outline`.

    Returns
    -------
    dict
        ``store``, `hfzarr.rows.facts.Facts`, ``attrs``, ``arrays`` (each with path, shape, data
        type, dims, chunks and shards) and ``findings``.

    Raises
    ------
    HfzarrError
        It cannot be read.
    """
    from hfzarr.faces import read
    from hfzarr.faces.diagnosis import diagnosis_of

    handle = ZarrHandle(target, group or "", StorageOptions.of(storage_options))
    store = handle.store
    node = store.look(handle.node).node
    facts = read_facts(store.hierarchy, node)
    arrays = [{"path": path, **_facts(store, path)[1]} for path in store.arrays_below(handle.node)]
    opened = read.groups(
        target,
        Options(quiet=True),
        group=group,
        storage_options=storage_options,
        consolidated=None,
        zarr_format=None,
        on_invalid="repair",
    )
    diagnosis: Diagnosis = diagnosis_of(opened["/"].encoding)
    named = {name: getattr(facts, name) for name in type(facts).__dataclass_fields__}
    return {
        "store": hide_secrets(handle.url),
        "node": handle.node,
        **named,
        "attrs": dict(node.attrs),
        "arrays": arrays,
        "ok": diagnosis.ok,
        "findings": diagnosis.findings,
    }
