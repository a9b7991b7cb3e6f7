"""Small stores written document by document, so that a test may say exactly what is wrong in them.

The arrays have no chunk files: every pixel is the fill value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_group(folder: Path, attrs: Mapping[str, Any], zarr_format: int = 2, /) -> Path:
    """Write a group with these attributes, and return its folder."""
    if zarr_format == 3:
        write_json(
            folder / "zarr.json",
            {"zarr_format": 3, "node_type": "group", "attributes": attrs},
        )
    else:
        write_json(folder / ".zgroup", {"zarr_format": 2})
        write_json(folder / ".zattrs", attrs)
    return folder


def write_array(
    folder: Path,
    shape: Sequence[int],
    zarr_format: int = 2,
    /,
    *,
    dims: Sequence[str] | None = None,
    fill: int = 0,
    **changed: Any,
) -> Path:
    """Write an array of uint8; ``changed`` replaces fields of its document."""
    doc: dict[str, Any]
    if zarr_format == 3:
        doc = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill,
            "codecs": [{"name": "bytes"}],
        }
        if dims is not None:
            doc["dimension_names"] = list(dims)
        name = "zarr.json"
    else:
        doc = {
            "zarr_format": 2,
            "shape": list(shape),
            "chunks": list(shape),
            "dtype": "|u1",
            "fill_value": fill,
            "order": "C",
            "filters": None,
            "compressor": None,
        }
        name = ".zarray"
    doc |= changed
    write_json(folder / name, doc)
    return folder


def write_json(path: Path, doc: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(doc), "utf-8")


def space(*names: str) -> list[dict[str, str]]:
    """Return axes of type space, in micrometers."""
    return [{"name": name, "type": "space", "unit": "micrometer"} for name in names]


def scaled(path: str, *scale: float) -> dict[str, Any]:
    """Return a dataset with a scale."""
    transforms = [{"type": "scale", "scale": list(scale)}]
    return {"path": path, "coordinateTransformations": transforms}


def image_attrs(zarr_format: int = 2, /, **changed: Any) -> dict[str, Any]:
    """Return the attributes of a 2-D image of two levels, in 0.4 or 0.5, without a fault.

    ``changed`` replaces keys of the multiscale; None drops one.
    """
    image: dict[str, Any] = {
        "name": "cells",
        "type": "gaussian",
        "metadata": {"method": "by hand"},
        "axes": space("y", "x"),
        "datasets": [scaled("0", 0.5, 0.25), scaled("1", 1.0, 0.5)],
    }
    if zarr_format == 2:
        image["version"] = "0.4"
    image = {key: value for key, value in (image | changed).items() if value is not None}
    attrs: dict[str, Any] = {"multiscales": [image]}
    return {"ome": {"version": "0.5", **attrs}} if zarr_format == 3 else attrs


def write_image(folder: Path, zarr_format: int = 2, /, **changed: Any) -> Path:
    """Write the image of `image_attrs`, with its two levels, and return its folder."""
    write_group(folder, image_attrs(zarr_format, **changed), zarr_format)
    write_array(folder / "0", (8, 16), zarr_format, dims=["y", "x"])
    write_array(folder / "1", (4, 8), zarr_format, dims=["y", "x"])
    return folder
