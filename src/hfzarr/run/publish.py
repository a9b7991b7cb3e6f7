"""The last step: the metadata that makes a target a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfzarr.errors import ReadError
from hfzarr.store.sink import Sink
from hfzarr.store.source import Source

__all__ = ["Documents", "publish", "root_document"]

_LARGE = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What a target holds besides shards.

    Attributes
    ----------
    nodes
        The v3 document of each array and group, by path in the target; the root is ``""``.
    extra
        Keys of files that are copied as they are: in the source, and in the target.
    """

    nodes: Mapping[str, Mapping[str, Any]] = field(repr=False)
    extra: Sequence[tuple[str, str]] = ()


def root_document(documents: Documents) -> bytes:
    """Return the document of the root, which holds all others if it is a group.

    zarr-python's form of consolidated metadata in v3: inline, keyed by path.
    """
    root = dict(documents.nodes[""])
    if root["node_type"] == "group":
        members = {path: doc for path, doc in sorted(documents.nodes.items()) if path}
        root["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": members,
        }
    return _encoded(root)


def publish(documents: Documents, source: Source, sink: Sink) -> None:
    """Write everything but shards, the root last: until then the target is no store.

    Raises
    ------
    ReadError
        A file that is to be copied is gone.
    WriteError
        Something could not be written.
    """
    for key, name in documents.extra:
        _copy(source, key, sink, name)
    for path in _deepest_first(documents.nodes):
        if path:
            sink.put(f"{path}/zarr.json", _encoded(documents.nodes[path]))
    sink.put("zarr.json", root_document(documents))


def _deepest_first(paths: Iterable[str]) -> list[str]:
    return sorted(paths, key=lambda path: (-path.count("/"), path))


def _encoded(doc: Mapping[str, Any]) -> bytes:
    # Python writes NaN as NaN, which is no JSON but is what zarr-python reads and writes.
    return json.dumps(doc, indent=2).encode()


def _copy(source: Source, key: str, sink: Sink, name: str) -> None:
    """Copy an object; one on a disk in parts, so that a large one needs no memory."""
    with sink.create(name) as file:
        start, more = 0, True
        while more:
            data = source.get(key, (start, start + _LARGE) if source.local else None)
            if data is None:
                raise ReadError(f"the file {key!r} in {source.url} is no longer there")
            file.write(data)
            start += len(data)
            more = source.local and len(data) == _LARGE
