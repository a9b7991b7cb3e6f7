"""Mangled metadata never shows an error from inside: it opens, or it is refused by name."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import xarray as xr
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import hfzarr
from hfzarr.model.geo import MULTISCALES_UUID, PROJ_UUID, SPATIAL_UUID

JUNK: list[Any] = [
    None, 0, -1, 1.5, float("nan"), 10**30, True, "", "x", "0", "µm", "../../..", "/abs",
    [], {}, [1], ["a"], [None], [{}], [[1]], {"a": 1},
]  # fmt: skip
ROUNDS = 60
Documents = dict[str, dict[str, Any]]


def array_doc(shape: list[int], names: list[str]) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 0}}],
        "dimension_names": names,
        "attributes": {},
    }


def group_doc(**attributes: Any) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def multiscale(*transforms: dict[str, Any]) -> dict[str, Any]:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    levels = [{"path": str(i), "coordinateTransformations": [t]} for i, t in enumerate(transforms)]
    return {"name": "image", "axes": axes, "datasets": levels}


def image() -> Documents:
    scales = [{"type": "scale", "scale": [s, s]} for s in (0.5, 1.0)]
    omero = {
        "channels": [
            {"label": "a", "color": "FF0000", "window": {"min": 0, "max": 1, "start": 0, "end": 1}}
        ]
    }
    label = {
        "colors": [{"label-value": 1, "rgba": [0, 0, 0, 0]}],
        "properties": [{"label-value": 1, "class": "cell"}],
        "source": {"image": "../../"},
    }
    levels = {str(i): array_doc([8 >> i, 8 >> i], ["y", "x"]) for i in range(2)}
    ome = {"version": "0.5", "multiscales": [multiscale(*scales)]}
    return {
        "": group_doc(ome={**ome, "omero": omero}),
        **levels,
        "labels": group_doc(ome={"version": "0.5", "labels": ["cells"]}),
        "labels/cells": group_doc(ome={**ome, "image-label": label}),
        **{f"labels/cells/{path}": doc for path, doc in levels.items()},
    }


def transformed_image() -> Documents:
    axes = [{"name": name, "type": "space"} for name in "yx"]
    turn = {"type": "rotation", "rotation": [[0.6, -0.8], [0.8, 0.6]]}
    step = {"type": "sequence", "transformations": [{"type": "scale", "scale": [2, 2]}, turn]}
    level = {**step, "input": {"path": "0"}, "output": {"name": "inner"}}
    by_axis = {
        "type": "byDimension",
        "input": {"name": "inner"},
        "output": {"name": "outer"},
        "transformations": [
            {
                "transformation": {"type": "translation", "translation": [1]},
                "inputAxes": [i],
                "outputAxes": [1 - i],
            }
            for i in range(2)
        ],
    }
    systems = [{"name": name, "axes": axes} for name in ("outer", "inner")]
    multiscales = {
        "coordinateSystems": systems,
        "datasets": [{"path": "0", "coordinateTransformations": [level]}],
        "coordinateTransformations": [by_axis],
    }
    return {
        "": group_doc(ome={"version": "0.6", "multiscales": [multiscales]}),
        "0": array_doc([4, 6], ["y", "x"]),
    }


def plate() -> Documents:
    scale = {"type": "scale", "scale": [1, 1]}
    field = group_doc(ome={"version": "0.5", "multiscales": [multiscale(scale)]})
    well = {"images": [{"path": "0", "acquisition": 1}]}
    wells = [{"path": f"A/{i + 1}", "rowIndex": 0, "columnIndex": i} for i in range(2)]
    plate = {
        "rows": [{"name": "A"}],
        "columns": [{"name": "1"}, {"name": "2"}],
        "wells": wells,
        "acquisitions": [{"id": 1, "name": "first", "maximumfieldcount": 1}],
    }
    documents = {"": group_doc(ome={"version": "0.5", "plate": plate})}
    for item in wells:
        documents[item["path"]] = group_doc(ome={"version": "0.5", "well": well})
        documents[f"{item['path']}/0"] = field
        documents[f"{item['path']}/0/0"] = array_doc([4, 4], ["y", "x"])
    return documents


def geo() -> Documents:
    conventions = [
        {"uuid": uuid}
        for uuid in (
            PROJ_UUID,
            SPATIAL_UUID,
            MULTISCALES_UUID,
        )
    ]
    layout = [
        {"asset": "0", "spatial:transform": [10, 0, 0, 0, -10, 0]},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2, 2]}},
    ]
    attributes = {
        "zarr_conventions": conventions,
        "proj:code": "EPSG:32633",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [10, 0, 0, 0, -10, 0],
        "spatial:bbox": [0, -80, 80, 0],
        "spatial:shape": [8, 8],
        "spatial:registration": "pixel",
        "multiscales": {"layout": layout, "resampling_method": "average"},
    }
    arrays = {str(i): array_doc([8 >> i, 8 >> i], ["y", "x"]) for i in range(2)}
    return {"": group_doc(**attributes), **arrays}


def collection() -> Documents:
    scale = {"type": "scale", "scale": [1, 1]}
    single = {
        "": group_doc(ome={"version": "0.5", "multiscales": [multiscale(scale)]}),
        "0": array_doc([4, 4], ["y", "x"]),
    }
    documents = {
        "": group_doc(ome={"version": "0.5", "bioformats2raw.layout": 3}),
        "OME": group_doc(ome={"version": "0.5", "series": ["0", "1"]}),
    }
    for series in "01":
        documents |= {f"{series}/{p}".rstrip("/"): doc for p, doc in single.items()}
    return documents


STORES = {
    "image": image,
    "transformed image": transformed_image,
    "plate": plate,
    "geo": geo,
    "collection": collection,
}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        yield (*at, key)
        if isinstance(child, (dict, list)):
            yield from places(child, (*at, key))


def mangle(document: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for _ in range(rng.choice([1, 1, 2, 3])):
        found = list(places(document))
        if not found:
            break
        *above, key = rng.choice(found)
        parent: Any = document
        for step in above:
            parent = parent[step]
        fate = rng.random()
        if fate < 0.25:
            del parent[key]
        elif fate < 0.9 or not isinstance(parent, list):
            parent[key] = copy.deepcopy(rng.choice(JUNK))
        else:
            parent.append(copy.deepcopy(parent[key]))
    return document


def store_of(documents: Documents) -> MemoryStore:
    make = default_buffer_prototype().buffer.from_bytes
    return MemoryStore(
        {
            f"{path}/zarr.json".lstrip("/"): make(json.dumps(document).encode())
            for path, document in documents.items()
        }
    )


def opened(store: MemoryStore, **options: Any) -> Iterator[Any]:
    """Open a store in both ways; a refusal counts as an answer, any other error does not."""
    for function in (xr.open_dataset, xr.open_datatree):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield function(store, engine="hfzarr", consolidated=False, **options)
            except hfzarr.HfzarrError as error:
                yield error


@pytest.mark.parametrize("kind", STORES)
def test_sound_stores_have_no_repairs(kind: str) -> None:
    tree = xr.open_datatree(store_of(STORES[kind]()), engine="hfzarr", consolidated=False)
    assert tree.hfzarr.diagnose().ok


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("on_invalid", ["repair", "raise"])
def test_mangled_stores_open_or_are_refused(kind: str, on_invalid: str) -> None:
    rng = random.Random(f"{kind} {on_invalid}")
    documents = STORES[kind]()
    outcomes = set()
    for _ in range(ROUNDS):
        path = rng.choice([*documents, *[path for path in documents if not path] * 3])
        mangled = {**documents, path: mangle(documents[path], rng)}
        for outcome in opened(store_of(mangled), on_invalid=on_invalid):
            outcomes.add(type(outcome).__name__)
            if isinstance(outcome, xr.Dataset):
                # What opens can also be read.
                outcome.isel(dict.fromkeys(outcome.dims, slice(0, 1))).load()
    # Both happen, or nothing was mangled.
    assert any(name.endswith("Error") for name in outcomes)
    assert "DataTree" in outcomes


def test_documents_are_what_zarr_reads() -> None:
    group = zarr.open_group(store_of(image()), mode="r")
    assert group["labels/cells/1"].shape == (4, 4)
