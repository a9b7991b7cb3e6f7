"""The metadata documents of a store, fetched in as few rounds as there are depths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hfzarr.errors import HfzarrError, InvalidMetadataError, LimitError, UnsupportedError
from hfzarr.model.array import ArrayMeta, parse_array
from hfzarr.model.document import parse_document
from hfzarr.model.limits import get_limits
from hfzarr.model.report import shorten
from hfzarr.store.location import join_path
from hfzarr.store.source import Source

__all__ = ["Hierarchy", "NodeDoc"]

_V3_KEYS = ("zarr.json",)
_V2_KEYS = (".zattrs", ".zgroup", ".zarray")
_ROOT_KEYS = ("zarr.json", ".zmetadata")
# Names in a group's folder that are no children.
_NOT_NODES = frozenset(["zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata", "__MACOSX"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDoc:
    """The metadata document of one node.

    Attributes
    ----------
    path
        Path of the node in its store.
    kind
        ``"array"`` or ``"group"``.
    zarr_format
        2 or 3.
    doc
        The parsed ``zarr.json``, ``.zarray`` or ``.zgroup``.
    attrs
        Its user attributes.
    """

    path: str
    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    doc: Mapping[str, Any] = field(repr=False)
    attrs: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Broken:
    """A document that is there and cannot be parsed; ``why`` completes "its metadata …"."""

    why: str


_Docs = Mapping[str, "Mapping[str, Any] | _Broken | None"]


class Hierarchy:
    """The nodes of a store, as far as their metadata has been asked for.

    Parameters
    ----------
    source
        Where the bytes lie.
    consolidated
        True to demand consolidated metadata, False to ignore it, None to use it if it is there.
    zarr_format
        2, 3, or None to find out.
    """

    def __init__(
        self,
        source: Source,
        *,
        consolidated: bool | None = None,
        zarr_format: Literal[2, 3] | None = None,
    ) -> None:
        self.source = source
        self.zarr_format = zarr_format
        self.consolidated = False
        #: Keys that the store would not give, and that may or may not be there.
        self.refused: list[str] = []
        self._wanted = consolidated
        self._nodes: dict[str, NodeDoc | None] = {}
        self._arrays: dict[str, ArrayMeta] = {}
        self._children: dict[str, list[str]] = {}
        self._below: dict[str, list[str]] | None = None

    @property
    def wants_consolidated(self) -> bool:
        """Whether consolidated metadata is used where it is there."""
        return self._wanted is not False

    def open(self, path: str = "") -> NodeDoc | None:
        """Load the root, and the node at ``path``, in one round where that suffices.

        Consolidated metadata of the root covers everything; failing that, that of ``path``
        covers what is below it.

        Raises
        ------
        InvalidMetadataError
            Consolidated metadata was demanded and is not there.
        """
        bases = [""] if not path else ["", path]
        keys: tuple[str, ...] = _V3_KEYS if self.zarr_format == 3 else _ROOT_KEYS
        if self._wanted is False:
            keys = self._keys()
        elif self.zarr_format == 2:
            keys = (".zmetadata",)
        fetched = self._fetch([(base, key) for base in bases for key in keys])
        for base in bases:
            docs = {key: fetched[base, key] for key in keys}
            if self._wanted is not False and self._use_consolidated(base, docs):
                break
            self._store(base, docs, final=self._wanted is False)
        if self._wanted and not self.consolidated:
            raise InvalidMetadataError(
                f"store {self.source.url!r}: consolidated metadata was demanded with "
                "consolidated=True, and there is none. Leave consolidated= out, or consolidate "
                "it with zarr.consolidate_metadata()."
            )
        if self.zarr_format is None and (root := self._nodes.get("")):
            self.zarr_format = root.zarr_format
        if not (self.consolidated and path in self._nodes):
            # What is still unknown is no v3 node, or its zarr.json would have told.
            self.load(bases, keys=() if self.zarr_format == 3 else _V2_KEYS)
        if self.zarr_format is None and (node := self._nodes.get(path)):
            self.zarr_format = node.zarr_format
        return self._nodes.get(path)

    def _keys(self) -> tuple[str, ...]:
        if self.zarr_format == 3:
            return _V3_KEYS
        return _V2_KEYS if self.zarr_format == 2 else _V3_KEYS + _V2_KEYS

    def load(self, paths: Iterable[str], keys: Sequence[str] | None = None) -> None:
        """Fetch the documents of many nodes, all requests under way at once."""
        missing = [path for path in dict.fromkeys(paths) if path not in self._nodes]
        if not missing:
            return
        self._check_room(missing)
        keys = self._keys() if keys is None else keys
        fetched = self._fetch([(path, key) for path in missing for key in keys])
        for path in missing:
            self._store(path, {key: fetched[path, key] for key in keys}, final=True)

    def _check_room(self, paths: Sequence[str]) -> None:
        """Refuse nodes that are too many, or lie too deep, before they are looked at."""
        limits = get_limits()
        count = len(self._nodes) + len(paths)
        if count > limits.max_nodes:
            raise LimitError(
                f"store {self.source.url!r} has {count:,} nodes or more, and {limits.max_nodes:,} "
                "is the limit. Open a part of it with group=, or, if it is to be trusted, raise "
                f"the limit with hfzarr.set_limits(max_nodes={count})."
            )
        for path in paths:
            if path.count("/") >= limits.max_depth:
                raise LimitError(
                    f"store {self.source.url!r} has groups {path.count('/') + 1:,} deep, such as "
                    f"{shorten(path)}, and {limits.max_depth} is the limit. If it is to be "
                    "trusted, raise it with hfzarr.set_limits(max_depth=...)."
                )

    def node(self, path: str) -> NodeDoc | None:
        """Return the node at ``path``, or None where there is none."""
        if path not in self._nodes:
            self.load([path])
        return self._nodes[path]

    def array(self, path: str) -> ArrayMeta | None:
        """Return the array at ``path``, or None where there is none.

        Raises
        ------
        HfzarrError
            It cannot be read; the message names store and node.
        """
        node = self.node(path)
        if node is None or node.kind != "array":
            return None
        if path not in self._arrays:
            try:
                self._arrays[path] = parse_array(path, node.doc, node.attrs, resolve=_resolve)
            except UnsupportedError as error:
                raise UnsupportedError(self._named(path, error)) from error
            except InvalidMetadataError as error:
                raise InvalidMetadataError(self._named(path, error)) from error
        return self._arrays[path]

    def _named(self, path: str, error: HfzarrError) -> str:
        text = str(error)
        named = "" if text.startswith("array ") else f"array {path or '/'!r}: "
        return f"store {self.source.url!r}: {named}{text}"

    def find(self, paths: Sequence[str]) -> dict[str, NodeDoc]:
        """Return those of ``paths`` that are there, by path.

        Consolidated metadata is taken to be complete.
        """
        if not self.consolidated:
            self.load(paths)
        return {path: node for path in paths if (node := self._nodes.get(path)) is not None}

    def children(self, path: str) -> list[str]:
        """Return the paths of the nodes directly below ``path``, sorted."""
        self.load_children([path])
        return self._children[path]

    def load_children(self, paths: Sequence[str]) -> None:
        """Find the nodes below many groups: one round of listings, one of documents."""
        missing = [path for path in paths if path not in self._children]
        if self.consolidated:
            for path in missing:
                self._children[path] = self._known_below(path)
            return
        listed = self.source.list_many(missing) if missing else []
        candidates = {
            path: [join_path(path, name) for name in names if name not in _NOT_NODES]
            for path, names in zip(missing, listed, strict=True)
        }
        self.load([child for children in candidates.values() for child in children])
        found = {path: [p for p in some if self._nodes.get(p)] for path, some in candidates.items()}
        for path, names in zip(missing, listed, strict=True):
            known = self._nodes.get(path) is not None
            if known and not found[path] and _NOT_NODES.isdisjoint(names):
                raise self._no_listing(path)
        self._children.update(found)

    def _no_listing(self, path: str) -> UnsupportedError:
        # A web server may answer the address of a folder with an error, or with a page of its own.
        return UnsupportedError(
            f"store {self.source.url!r}: the members of {path or '/'!r} cannot be listed (what "
            "came does not show its own metadata). Consolidate the store's metadata, or name the "
            "array or image wanted with group=."
        )

    def _known_below(self, path: str) -> list[str]:
        if self._below is None:
            self._below = {}
            for known, node in self._nodes.items():
                if node is not None and known:
                    self._below.setdefault(known.rpartition("/")[0], []).append(known)
        return sorted(self._below.get(path, ()))

    def _fetch(
        self, wanted: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Mapping[str, Any] | _Broken | None]:
        keys = [f"{path}/{key}" if path else key for path, key in wanted]
        found: dict[tuple[str, str], Mapping[str, Any] | _Broken | None] = {}
        for item, key, data in zip(wanted, keys, self.source.probe(keys), strict=True):
            if isinstance(data, PermissionError):
                self.refused.append(key)
            found[item] = self._parsed(key, data) if isinstance(data, bytes) else None
        return found

    def _parsed(self, key: str, data: bytes) -> Mapping[str, Any] | _Broken:
        try:
            return _checked(parse_document(data, f"store {self.source.url!r}: {shorten(key)}"))
        except LimitError:
            raise
        except ValueError as error:
            return _Broken(f"is not valid JSON ({error}); found {shorten(data[:80])}")

    def _sound(self, path: str, key: str, doc: Mapping[str, Any] | _Broken) -> Mapping[str, Any]:
        """Return the document, or raise if it cannot be parsed.

        That is left until it is needed, as consolidated metadata may make good for it.
        """
        if not isinstance(doc, _Broken):
            return doc
        name = f"{path}/{key}" if path else key
        if key == ".zmetadata":
            hint = "Give consolidated=False to do without it."
        elif self._wanted is False:
            hint = "If the store holds consolidated metadata, leave consolidated=False out."
        else:
            hint = "If the store's root holds consolidated metadata, open the root with group=."
        raise InvalidMetadataError(
            f"store {self.source.url!r}: the metadata of node {path or '/'!r}, {name!r}, "
            f"{doc.why}. It was damaged or cut short; ask for a sound copy. {hint}"
        )

    def _use_consolidated(self, base: str, docs: _Docs) -> bool:
        """Take every document below ``base`` from its consolidated metadata, if it has one."""
        v3, v2 = docs.get("zarr.json"), docs.get(".zmetadata")
        if v3 is None and v2 is not None:
            self._sound(base, ".zmetadata", v2)
        if isinstance(v3, Mapping):
            inline = v3.get("consolidated_metadata")
            members = inline.get("metadata") if isinstance(inline, Mapping) else None
            if isinstance(members, Mapping):
                self._check_room(list(members))
                self._store(base, {"zarr.json": v3}, final=True)
                for path, doc in members.items():
                    self._store(join_path(base, path), {"zarr.json": _checked(doc)}, final=True)
                self.consolidated = True
        elif v3 is None and isinstance(v2, Mapping) and isinstance(v2.get("metadata"), Mapping):
            grouped: dict[str, dict[str, Any]] = {}
            for key, doc in v2["metadata"].items():
                path, _, name = key.rpartition("/")
                grouped.setdefault(join_path(base, path), {})[name] = doc
            self._check_room(list(grouped))
            for path, found in grouped.items():
                docs = {key: _checked(found[key]) for key in _V2_KEYS if key in found}
                self._store(path, docs, final=True)
            self.consolidated = "" in grouped or base in grouped
        return self.consolidated

    def _store(self, path: str, docs: _Docs, *, final: bool) -> None:
        """Record a node from its documents; None where there is none, if that is final."""
        node = self._from_v3(path, docs.get("zarr.json")) or self._from_v2(path, docs)
        if node is not None or final:
            self._nodes[path] = node
        if node is not None:
            self._below = None

    def _from_v3(self, path: str, doc: Mapping[str, Any] | _Broken | None) -> NodeDoc | None:
        if doc is None:
            return None
        doc = self._sound(path, "zarr.json", doc)
        version, kind = doc.get("zarr_format"), doc.get("node_type")
        if version != 3 or kind not in ("array", "group"):
            raise UnsupportedError(
                f"store {self.source.url!r}: node {path or '/'!r} says zarr_format {version!r} and "
                f"node_type {kind!r}; wanted 3 and 'array' or 'group'. It follows an old draft of "
                "Zarr v3, or another format: rewrite it with a current library."
            )
        attrs = doc.get("attributes") or {}
        if not isinstance(attrs, Mapping):
            raise InvalidMetadataError(
                f"store {self.source.url!r}: the 'attributes' of node {path or '/'!r} are "
                f"{shorten(attrs)}, wanted an object (Zarr core 3.0). Mend them, or leave them out."
            )
        return NodeDoc(path=path, kind=kind, zarr_format=3, doc=doc, attrs=attrs)

    def _from_v2(self, path: str, docs: _Docs) -> NodeDoc | None:
        sound = {
            key: self._sound(path, key, doc)
            for key in _V2_KEYS
            if (doc := docs.get(key)) is not None
        }
        if not sound:
            return None
        attrs = sound.get(".zattrs", {})
        kind: Literal["array", "group"] = "array" if ".zarray" in sound else "group"
        doc = sound.get(".zarray") or sound.get(".zgroup") or {"zarr_format": 2}
        return NodeDoc(path=path, kind=kind, zarr_format=2, doc=doc, attrs=attrs)


def _checked(doc: Any) -> Mapping[str, Any] | _Broken:
    if isinstance(doc, dict):
        return doc
    return _Broken(f"is not a JSON object; found {shorten(doc)}")


def _resolve(doc: Mapping[str, Any]) -> tuple[Any, Any]:
    from hfzarr.store.bridge import resolve_types

    return resolve_types(doc)
