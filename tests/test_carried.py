"""Handles whose table carries their metadata: they open without a request."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import hfzarr
from hfzarr.errors import (
    ChangedSourceError,
    HfzarrError,
    InvalidMetadataError,
    StoreNotFoundError,
)
from hfzarr.rows.cells import parse_cell
from hfzarr.rows.handle import ZarrHandle
from servers import http_server
from stores import climate, pixels, write_cf, write_image, write_plate, zip_folder

ROW = "row 17 of 'index.parquet'"


def text_of(folder: Path) -> str:
    """Return the consolidated metadata of a store, as a scan would record it."""
    v2 = folder / ".zmetadata"
    return (v2 if v2.is_file() else folder / "zarr.json").read_text("utf-8")


def moved(folder: Path) -> Path:
    return folder.rename(folder.with_name("away"))


@pytest.fixture(params=[2, 3])
def image(request: Any, tmp_path: Path) -> tuple[ZarrHandle, Path]:
    """A handle that carries metadata, and the folder of its store."""
    folder = tmp_path / "cells.ome.zarr"
    write_image(str(folder), labels=[], zarr_format=request.param)
    return ZarrHandle(str(folder), row=ROW, metadata=text_of(folder)), folder


def facts(handle: ZarrHandle) -> dict[str, Any]:
    """Return all that can be told of an image without a pixel."""
    found = handle.resolve()
    names = "kind zarr_format shape dtype chunks shards dims ndim size nbytes attrs num_levels axes"
    names += " scale translation units axis_names axis_types channel_names ome_version"
    out = {name: getattr(found, name) for name in names.split()}
    dataset = handle.to_xarray()
    return {
        **out,
        "levels": [(level.node, level.shape) for level in handle.levels],
        "keys": handle.keys(),
        "info": handle.info(),
        "arrays": handle.arrays(),
        "sizes": dict(dataset.sizes),
        "coords": {name: c.values.tolist() for name, c in dataset.coords.items()},
        "tree": handle.open_datatree().groups,
    }


def test_an_image_opens_without_its_store(image: tuple[ZarrHandle, Path]) -> None:
    handle, folder = image
    wanted = facts(ZarrHandle(str(folder)))
    away = moved(folder)
    assert facts(handle) == wanted
    assert xr.open_dataset(handle, engine="hfzarr", level=-1).sizes["x"] == 12
    assert handle.select(0, level=1, world={"y": (2, 5)}).shape == (4, 4, 24)
    assert "zz" not in handle
    with pytest.raises(StoreNotFoundError, match=re.escape(ROW)):
        handle.read()
    away.rename(folder)
    assert np.array_equal(handle.read(), pixels())
    assert np.array_equal(handle.get_level(1).read(), pixels(1))


def test_datasets_made_without_the_store_read_when_it_is_there(
    image: tuple[ZarrHandle, Path],
) -> None:
    handle, folder = image
    away = moved(folder)
    dataset, lazy = handle.to_xarray(), handle.to_xarray(level=1)
    selection = handle.select(1, level=2)
    away.rename(folder)
    name = next(iter(dataset.data_vars))
    assert np.array_equal(dataset[name], pixels())
    assert np.array_equal(lazy[next(iter(lazy.data_vars))], pixels(1))
    assert np.array_equal(selection.read(), pixels(2)[1])
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again[name], pixels())


def test_a_pickle_leaves_the_metadata_at_home(image: tuple[ZarrHandle, Path]) -> None:
    handle, _ = image
    away = pickle.loads(pickle.dumps(handle))
    assert away == handle
    assert away.metadata is None
    assert len(pickle.dumps(handle)) < 1000
    assert away.shape == handle.shape
    assert len(pickle.dumps(handle.get_level(-1))) < 1000


def test_an_error_while_pixels_load_names_the_row(image: tuple[ZarrHandle, Path]) -> None:
    handle, folder = image
    dataset = handle.to_xarray()
    moved(folder)
    with pytest.raises(HfzarrError, match=r"cells\.ome\.zarr"):
        dataset.load()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_opens_without_its_store(tmp_path: Path, zarr_format: Any) -> None:
    folder = tmp_path / "climate.zarr"
    write_cf(str(folder), zarr_format=zarr_format)
    handle = ZarrHandle(str(folder), metadata=text_of(folder))
    away = moved(folder)
    assert handle.kind == "group"
    assert handle.keys() == sorted(climate().variables)
    air = handle["air"]
    assert (air.shape, air.dtype, air.dims) == ((5, 4, 6), np.int16, ("time", "lat", "lon"))
    # Of what has no coordinates that xarray makes an index of, the Dataset too.
    assert handle["crs"].open_dataset().sizes == {}
    away.rename(folder)
    assert np.array_equal(handle["flags"].read(), climate()["flags"])


def test_a_lone_array_opens_without_its_store(tmp_path: Path) -> None:
    folder = tmp_path / "heights.zarr"
    zarr.create_array(
        str(folder), data=np.arange(12).reshape(3, 4), chunks=(2, 2), dimension_names=["y", "x"]
    )
    handle = ZarrHandle(str(folder), metadata=text_of(folder), row=ROW)
    away = moved(folder)
    assert (handle.kind, handle.shape, handle.dims) == ("array", (3, 4), ("y", "x"))
    assert dict(handle.to_xarray().sizes) == {"y": 3, "x": 4}
    assert [array.node for array in handle.arrays()] == [""]
    with pytest.raises(StoreNotFoundError, match=re.escape(ROW)):
        handle.read()
    away.rename(folder)
    assert handle[1:, ::2].tolist() == [[4, 6], [8, 10]]


def test_a_plate_opens_without_its_store(tmp_path: Path) -> None:
    folder = tmp_path / "plate.zarr"
    write_plate(str(folder))
    handle = ZarrHandle(str(folder), metadata=text_of(folder))
    moved(folder)
    assert handle.kind == "plate"
    assert handle["A/1"].kind == "well"
    assert handle["A/1/0"].shape == (2, 4, 32, 48)
    assert len(handle.arrays()) == 10
    assert handle.to_xarray().sizes["well"] == 3


def test_a_zip_opens_without_being_there(tmp_path: Path) -> None:
    folder = tmp_path / "cells.ome.zarr"
    write_image(str(folder), labels=[])
    archive = zip_folder(folder, tmp_path / "cells.ome.zarr.zip")
    handle = ZarrHandle(str(archive), metadata=text_of(folder))
    assert handle.shape == (2, 4, 32, 48)
    assert np.array_equal(handle.read(level=-1), pixels(2))


def test_children_and_cells_carry_it_too(image: tuple[ZarrHandle, Path]) -> None:
    handle, folder = image
    text = handle.metadata
    away = moved(folder)
    assert handle["1"].shape == (2, 4, 16, 24)
    assert list(handle.array("2").to_xarray().sizes.values()) == [2, 4, 8, 12]
    struct = {"path": "cells.ome.zarr", "node": "", "level": "1", "start": [0], "stop": [None]}
    struct |= {"start": [0, 0, 0, 0], "stop": [None, 2, 8, 8], "step": [1, 1, 1, 2]}
    cell = parse_cell(struct, base=str(folder.parent), metadata=text, row=ROW)
    assert (cell.shape, cell.dtype) == ((2, 8, 4), np.uint16)
    assert dict(cell.to_xarray().sizes) == {"z": 2, "y": 8, "x": 4}
    away.rename(folder)
    assert np.array_equal(cell.read(), pixels(1)[0, :2, :8, :8:2])


def test_it_may_be_left_aside(image: tuple[ZarrHandle, Path]) -> None:
    handle, folder = image
    liar = json.loads(text_of(folder).replace("DAPI", "LIES"))
    handle = ZarrHandle(handle.url, metadata=json.dumps(liar), row=ROW)
    assert handle.channel_names == ("LIES", "GFP")
    assert "LIES" in handle.open_dataset()["c"].values
    assert "DAPI" in handle.open_dataset(consolidated=False)["c"].values
    moved(folder)
    with pytest.raises(StoreNotFoundError, match=re.escape(ROW)):
        handle.open_dataset(consolidated=False)


WRONG = {
    "empty": "",
    "no JSON": "{",
    "surrogate": "\ud800",
    "a number": "5",
    "null": "null",
    "a list": "[]",
    "an object": "{}",
    "too deep": "[" * 100_000,
    "no root": '{"metadata": {}}',
    "metadata is text": '{"metadata": "x"}',
    "group alone": '{"zarr_format": 3, "node_type": "group"}',
    "child is a number": (
        '{"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"metadata": {"0": 5}}}'
    ),
    "root is a number": '{"metadata": {".zgroup": 7}}',
    "attributes are a number": (
        '{"zarr_format": 3, "node_type": "group", "attributes": 5, '
        '"consolidated_metadata": {"metadata": {}}}'
    ),
    "no text": 5,
    "a mapping": {"zarr_format": 3, "node_type": "group"},
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_wrong_metadata_is_an_error_that_names_the_row(tmp_path: Path, text: Any) -> None:
    handle = ZarrHandle(str(tmp_path / "nowhere.zarr"), metadata=text, row=ROW)
    for ask in (lambda: handle.kind, handle.info, handle.open_dataset, handle.open_datatree):
        with pytest.raises(InvalidMetadataError, match=re.escape(ROW)):
            ask()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str], str]]:
    pytest.importorskip("aiohttp")
    folder = tmp_path / "cells.ome.zarr"
    write_image(str(folder), labels=[])
    with http_server(tmp_path) as (url, asked):
        yield url, asked, text_of(folder)


def test_a_server_is_asked_for_chunks_alone(served: tuple[str, list[str], str]) -> None:
    url, asked, text = served
    handle = ZarrHandle(f"{url}/cells.ome.zarr", metadata=text)
    facts(handle)
    dataset = handle.to_xarray()
    selection = handle.select(0, world={"y": (2, 5)})
    selection.to_xarray()
    assert asked == []
    assert np.array_equal(handle[0, 0, :8, :8], pixels()[0, 0, :8, :8])
    assert [path.rpartition("/c/")[2] for path in asked] == ["0/0/0/0"]
    asked.clear()
    name = next(iter(dataset.data_vars))
    assert dataset[name][1, 0, 0, 0] == pixels()[1, 0, 0, 0]
    assert len(asked) == 1


def test_a_store_that_is_gone_gives_no_zeros(served: tuple[str, list[str], str]) -> None:
    url, _, text = served
    handle = ZarrHandle(f"{url}/gone/cells.ome.zarr", metadata=text, row=ROW)
    assert handle.shape == (2, 4, 32, 48)
    with pytest.raises(StoreNotFoundError, match=re.escape(ROW)):
        handle.read((0, 0, 0))
    dataset = handle.to_xarray()
    with pytest.raises(StoreNotFoundError, match="gone/cells"):
        dataset.load()


def test_a_chunk_that_was_never_written_is_fill_value(tmp_path: Path) -> None:
    folder = tmp_path / "sparse.zarr"
    zarr.create_array(str(folder), shape=(4, 4), chunks=(2, 2), dtype="i4", fill_value=7)
    handle = ZarrHandle(str(folder), metadata=text_of(folder))
    assert handle.read().tolist() == [[7] * 4] * 4


def carried_text(folder: Path) -> str:
    """Return what `scan` records, of a store without consolidated metadata too."""
    return str(hfzarr.scan(folder, metadata=True)[0]["zarr_metadata"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_that_was_written_anew_is_told(tmp_path: Path, zarr_format: Any) -> None:
    folder = tmp_path / "heights.zarr"

    def write(dtype: str, chunks: tuple[int, int], offset: int = 0) -> None:
        zarr.create_array(
            str(folder), data=np.arange(12, dtype=dtype).reshape(3, 4) + np.array(offset, dtype),
            chunks=chunks, zarr_format=zarr_format, overwrite=True,
        )  # fmt: skip

    write("<i4", (2, 2))
    text = carried_text(folder)
    write("<i4", (2, 2), offset=5)  # other pixels, kept alike, are no other store
    assert ZarrHandle(str(folder), metadata=text).read().min() == 5
    for dtype, chunks in (("<f4", (2, 2)), ("<i4", (1, 4)), ("<i2", (2, 2))):
        write(dtype, chunks)
        handle = ZarrHandle(str(folder), metadata=text, row=ROW)
        with pytest.raises(ChangedSourceError, match=ROW):
            handle.read()
        with pytest.raises(ChangedSourceError):
            handle.to_xarray().load()


def test_a_fill_value_that_is_no_number_is_no_change(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    zarr.create_array(str(folder), data=np.ones(3), fill_value=np.nan, zarr_format=2)
    document = (folder / ".zarray").read_text("utf-8").replace('"NaN"', "NaN")
    (folder / ".zarray").write_text(document)
    assert ZarrHandle(str(folder), metadata=carried_text(folder)).read().tolist() == [1.0, 1.0, 1.0]
