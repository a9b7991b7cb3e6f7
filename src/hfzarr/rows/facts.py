"""What a table records of each store, read from its metadata alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from hfzarr.errors import UnsupportedError
from hfzarr.model.array import ArrayMeta
from hfzarr.model.coords import AxisCoord
from hfzarr.model.ome.image import Image
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.node import Kind, classify, read_images

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FACTS",
    "METADATA",
    "THUMBNAIL",
    "Facts",
    "channel_names",
    "fact_types",
    "option_types",
    "read_facts",
]

#: The columns that hold, for each store, its consolidated metadata and a picture.
METADATA = "zarr_metadata"
THUMBNAIL = "thumbnail"
# What a column of int64 can hold; an array may say of itself whatever it likes.
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a store says of itself; None where it does not, or where it means nothing.

    Attributes
    ----------
    kind
        ``"array"``, ``"image"``, ``"plate"``, ``"well"``, ``"collection"`` or ``"group"``.
    format
        ``"zarr-v2"`` or ``"zarr-v3"``.
    ome_version
        Version of the OME-Zarr specification that it is read as.
    shape
        Pixels along each axis: of an array, or of the finest level of an image (the first, where
        a group holds several multiscales).
    dtype
        Data type of the same pixels, in NumPy's words.
    axes
        Names of the same axes; of an array, those that it gives its dimensions.
    scale
        Step from pixel to pixel along each axis of an image; 1 where none is known.
    translation
        Position of the first pixel along each axis of an image; 0 where none is known.
    unit
        Unit of each axis of an image, None where it has none.
    channels
        Names of the channels of an image.
    levels
        Number of resolutions of an image.
    bytes
        Decoded bytes of those pixels, or of all arrays of a group; None where they differ in size
        (text), and for groups that cannot be listed or hold an array that cannot be read.
    """

    kind: Kind
    format: str
    ome_version: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    axes: tuple[str, ...] | None = None
    scale: tuple[float, ...] | None = None
    translation: tuple[float, ...] | None = None
    unit: tuple[str | None, ...] | None = None
    channels: tuple[str, ...] | None = None
    levels: int | None = None
    bytes: int | None = None


#: The columns of `Facts`, in their order.
FACTS = tuple(each.name for each in fields(Facts))


def fact_types() -> dict[str, pa.DataType]:
    """Return the Arrow types of the columns of `Facts`."""
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    types = {
        "kind": text,
        "format": text,
        "ome_version": text,
        "shape": pa.list_(number),
        "dtype": text,
        "axes": pa.list_(text),
        "scale": pa.list_(pa.float64()),
        "translation": pa.list_(pa.float64()),
        "unit": pa.list_(text),
        "channels": pa.list_(text),
        "levels": number,
        "bytes": number,
    }
    return {name: types[name] for name in FACTS}


def option_types() -> dict[str, pa.DataType]:
    """Return the Arrow types of the columns that are made on request."""
    import pyarrow as pa

    # As `datasets` keeps a picture.
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return {METADATA: pa.string(), THUMBNAIL: picture}


def read_facts(hierarchy: Hierarchy, node: NodeDoc) -> Facts:
    """Read what a node says of itself.

    Of a plate, a well or a collection, only its kind and versions are read: the rest would take a
    request for each image.

    Parameters
    ----------
    hierarchy
        The metadata of its store.
    node
        The node.

    Raises
    ------
    HfzarrError
        Its metadata is unsound, or holds what cannot be read.
    """
    kind, ome = classify(node, Report())
    known: dict[str, Any] = {
        "kind": kind,
        "format": f"zarr-v{node.zarr_format}",
        "ome_version": None if ome is None else ome.version,
    }
    if kind == "array":
        known |= _of_array(hierarchy.array(node.path))
    elif kind == "image" and ome is not None:
        known |= _of_image(_first_image(hierarchy, ome))
    elif kind == "group":
        known["bytes"] = _bytes_below(hierarchy, node.path)
    return Facts(**known)


def _of_array(meta: ArrayMeta | None) -> dict[str, Any]:
    if meta is None:
        return {}
    return {
        "shape": meta.shape,
        "dtype": str(meta.dtype),
        "axes": meta.dims,
        "bytes": _decoded_bytes([meta]),
    }


def _first_image(hierarchy: Hierarchy, ome: OmeAttrs) -> Image:
    return read_images(hierarchy, [ome], Report(), labels=False)[ome.where].images[0]


def _of_image(image: Image) -> dict[str, Any]:
    top = image.levels[0]
    coords = {spec.name: spec for spec in top.coords if isinstance(spec, AxisCoord)}
    known = [coords.get(dim) for dim in top.dims]
    units = {axis.name: axis.unit for axis in image.axes}
    return {
        **_of_array(top.array),
        "ome_version": image.version,
        "axes": top.dims,
        "scale": tuple(1.0 if one is None else float(one.scale) for one in known),
        "translation": tuple(0.0 if one is None else float(one.offset) for one in known),
        "unit": tuple(units.get(dim) for dim in top.dims),
        "channels": channel_names(image),
        "levels": len(image.levels),
    }


def channel_names(image: Image) -> tuple[str, ...] | None:
    """Return the name of each channel of an image; None where it names none."""
    labels = [channel.label for channel in image.channels]
    if all(label is None for label in labels):
        return None
    return tuple(f"channel {i}" if name is None else str(name) for i, name in enumerate(labels))


def _bytes_below(hierarchy: Hierarchy, path: str) -> int | None:
    """Return the decoded bytes of all arrays below a group, or None where that cannot be told."""
    arrays: list[ArrayMeta] = []
    groups = [path]
    with contextlib.suppress(UnsupportedError):
        while groups:
            hierarchy.load_children(groups)
            below = [child for group in groups for child in hierarchy.children(group)]
            groups = []
            for child in below:
                node = hierarchy.node(child)
                meta = hierarchy.array(child) if node and node.kind == "array" else None
                if meta is not None:
                    arrays.append(meta)
                elif node is not None and node.kind == "group":
                    groups.append(child)
        return _decoded_bytes(arrays)
    return None


def _decoded_bytes(arrays: Sequence[ArrayMeta]) -> int | None:
    # Object and text arrays say nothing of how long their elements are.
    if any(meta.dtype.kind in "OT" for meta in arrays):
        return None
    total = sum(meta.size * meta.dtype.itemsize for meta in arrays)
    return total if total <= _MOST else None
