"""What a store may ask of this machine: documents, nodes, shapes, coordinates."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import xarray as xr

import hfzarr
from hfzarr.errors import HfzarrError, LimitError, TargetError, UnsupportedError
from hfzarr.faces.thumbnail import render
from hfzarr.model.limits import Limits, get_limits, set_limits
from rawstores import image_attrs, scaled, write_array, write_group, write_image, write_json
from strangers import grid, open_dataset, put


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    yield
    set_limits(**dict.fromkeys(Limits.__slots__))


def test_limits_are_set_and_unset() -> None:
    assert set_limits(max_chunk="2.5 GiB", max_depth=7) == get_limits()
    assert (get_limits().max_chunk, get_limits().max_depth) == (5 * 2**29, 7)
    assert set_limits(max_depth=None).max_depth == Limits().max_depth
    assert set_limits(follow_links=False).follow_links is False
    assert set_limits(max_chunk=None, follow_links=None) == Limits()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_chunking": 1}, {"max_chunk": "much"}, {"max_chunk": 0}, {"max_chunk": float("nan")},
        {"max_depth": "1 GiB"}, {"max_nodes": True}, {"follow_links": "maybe"}, {"max_depth": -1},
        {"max_chunk": float("inf")}, {"max_nodes": 1.5},
    ],
    ids=str,
)  # fmt: skip
def test_limits_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(TargetError, match=next(iter(wrong))):
        set_limits(**wrong)


def test_the_environment_sets_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFZARR_MAX_DOCUMENT", "1 MiB")
    monkeypatch.setenv("HFZARR_FOLLOW_LINKS", "0")
    assert set_limits(max_nodes=5) == Limits(max_document=2**20, max_nodes=5, follow_links=False)
    monkeypatch.setenv("HFZARR_MAX_DOCUMENT", "all")
    with pytest.raises(TargetError, match="HFZARR_MAX_DOCUMENT"):
        set_limits(max_nodes=None)


# Metadata


@pytest.mark.parametrize("depth", [101, 5000, 10**6])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_json_that_nests_deep(tmp_path: Path, depth: int, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    deep = opening * depth + b"1" + closing * depth
    put(
        tmp_path / "zarr.json",
        b'{"zarr_format":3,"node_type":"group","attributes":' + deep + b"}",
    )
    for look in (open_dataset, lambda path: hfzarr.ZarrHandle(str(path)).info(), hfzarr.scan):
        with pytest.raises(LimitError, match=r"deep in each other.*max_depth"):
            look(tmp_path)


def test_brackets_in_a_text_do_not_nest(tmp_path: Path) -> None:
    write_group(tmp_path, {"note": "[" * 500 + '\\"' + "{" * 500}, 3)
    write_array(tmp_path / "v", (4,), 3, dims=["x"])
    assert len(open_dataset(tmp_path).attrs["note"]) == 1002


def test_a_document_that_is_too_long(tmp_path: Path) -> None:
    put(tmp_path / "zarr.json", b"")
    os.truncate(tmp_path / "zarr.json", 2**40)
    with pytest.raises(LimitError, match=r"zarr.json.*1,099,511,627,776 bytes.*max_document"):
        open_dataset(tmp_path)


def test_attributes_that_are_long_open_where_that_is_allowed(tmp_path: Path) -> None:
    write_group(tmp_path, {"note": "n" * 2000}, 3)
    write_array(tmp_path / "v", (4,), 3, dims=["x"])
    assert set_limits(max_document="1 KiB").max_document == 1024
    with pytest.raises(LimitError, match="max_document"):
        open_dataset(tmp_path)
    set_limits(max_document=4000)
    assert len(open_dataset(tmp_path).attrs["note"]) == 2000


def consolidated(tmp_path: Path, members: dict[str, Any]) -> Path:
    below = {"kind": "inline", "must_understand": False, "metadata": members}
    document = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    write_json(tmp_path / "zarr.json", {**document, "consolidated_metadata": below})
    return tmp_path


GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def test_more_nodes_than_anybody_looks_at(tmp_path: Path) -> None:
    store = consolidated(tmp_path, {f"g{i}": GROUP for i in range(50)})
    set_limits(max_nodes=40)
    with pytest.raises(LimitError, match=r"nodes.*max_nodes"):
        open_dataset(store)


def test_groups_that_lie_deep(tmp_path: Path) -> None:
    store = consolidated(tmp_path, {"/".join("g" * i): GROUP for i in range(1, 200)})
    with pytest.raises(LimitError, match=r"groups 101 deep.*max_depth"):
        xr.open_datatree(store, engine="hfzarr")


def test_many_groups_open_in_time_that_is_linear(tmp_path: Path) -> None:
    array = json.loads((write_array(tmp_path / "a", (4,), 3, dims=["x"]) / "zarr.json").read_text())
    members = {f"g{i}": GROUP for i in range(2000)} | {f"g{i}/v": array for i in range(2000)}
    handle = hfzarr.ZarrHandle(str(consolidated(tmp_path, members)))
    assert len(handle.info().arrays) == 2000


@pytest.mark.parametrize("digits", [20, 320, 5000])
@pytest.mark.parametrize("key", ["fill_value", "shape", "scale"])
def test_numbers_without_end(tmp_path: Path, key: str, digits: int) -> None:
    number = "9" * digits
    if key == "scale":
        write_image(tmp_path, 3, datasets=[scaled("0", 1.5, 77.0), scaled("1", 3, 2)])
        document = tmp_path / "zarr.json"
        document.write_text(document.read_text().replace("77.0", number))
    else:
        write_array(tmp_path, (4,), 3, dims=["x"], **{key: 777 if key == "fill_value" else [777]})
        document = tmp_path / "zarr.json"
        document.write_text(document.read_text().replace("777", number))
    if key == "scale" and digits == 20:
        assert open_dataset(tmp_path).sizes == {"y": 8, "x": 16}
        return
    with pytest.raises(HfzarrError):
        open_dataset(tmp_path)


# Shapes


def test_more_pixels_than_can_be_numbered(tmp_path: Path) -> None:
    write_array(tmp_path, (2**62, 2**62), 3, dims=["y", "x"], chunk_grid=grid(1, 1))
    with pytest.raises(UnsupportedError, match=r"2\*\*124 or more elements"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_more_pixels_than_any_memory_open_and_read_lazily(tmp_path: Path, chunk: int) -> None:
    write_array(tmp_path, (2**31, 2**31), 3, dims=["y", "x"], chunk_grid=grid(chunk, chunk))
    dataset = open_dataset(tmp_path)
    [array] = dataset.data_vars.values()
    assert f"{2**31}" in repr(dataset)
    assert array[-1, -2:].values.tolist() == [0, 0]
    wanted = (
        r"2,147,483,648 chunks.*max_chunks" if chunk == 1 else r"4,611,686,018,427,387,904 bytes"
    )
    with pytest.raises(LimitError, match=wanted):
        array.load()


@pytest.mark.parametrize("codecs", ["bytes", "zstd", "gzip"])
def test_a_chunk_that_says_it_is_large(tmp_path: Path, codecs: str) -> None:
    chain: list[dict[str, Any]] = [{"name": "bytes"}]
    if codecs != "bytes":
        chain.append({"name": codecs, "configuration": {"level": 1}})
    side = 10**6
    write_array(
        tmp_path, (side, side), 3, dims=["y", "x"], chunk_grid=grid(side, side), codecs=chain
    )
    put(tmp_path / "c/0/0", b"x" * 100)
    [array] = open_dataset(tmp_path).data_vars.values()
    with pytest.raises(LimitError, match=r"chunk 'c/0/0'.*1,000,000,000,000 bytes.*max_chunk"):
        array[0, 0].load()


def test_a_coordinate_that_would_fill_memory(tmp_path: Path) -> None:
    write_group(tmp_path, {}, 3)
    write_array(tmp_path / "time", (10**11,), 3, dims=["time"], chunk_grid=grid(10**5))
    write_array(tmp_path / "v", (10**11,), 3, dims=["time"], chunk_grid=grid(10**5))
    with pytest.raises(LimitError, match=r"'time'.*drop_variables.*max_coordinate"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, drop_variables=["time"]).v[-1].item() == 0


def test_an_image_that_is_too_long_for_its_coordinates(tmp_path: Path) -> None:
    write_group(tmp_path, image_attrs(3, datasets=[scaled("0", 1, 1)]), 3)
    write_array(tmp_path / "0", (2, 2**61), 3, dims=["y", "x"], chunk_grid=grid(1, 1))
    with pytest.raises(LimitError, match="'x'"):
        open_dataset(tmp_path)


# Pictures


def test_a_picture_of_many_chunks_reads_some(tmp_path: Path) -> None:
    levels = [scaled("0", 1.0, 1.0), scaled("1", 2.0, 2.0)]
    write_group(tmp_path, image_attrs(3, datasets=levels), 3)
    for level, side in (("0", 10**6), ("1", 5 * 10**5)):
        write_array(tmp_path / level, (side, side), 3, dims=["y", "x"], chunk_grid=grid(1, 1))
    dataset = open_dataset(tmp_path)
    # Each pixel is a chunk, and there is no smaller picture of the same: so many were read.
    assert dataset.hfzarr.thumbnail(256).shape == (128, 128, 3)
    assert dataset.hfzarr.thumbnail(256, max_bytes="1 KiB").shape == (32, 32, 3)
    assert dataset.hfzarr.thumbnail(256, max_bytes="256 MiB").shape == (256, 256, 3)
    assert render(dataset.image[:50, :200]).shape == (50, 200, 3)


# Tables


def test_a_table_that_nests_deep(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    put(tmp_path / "a.jsonl", f'{{"zarr": "a.zarr", "axes": {deep}}}\n'.encode())
    with pytest.raises(LimitError, match=r"line 0 of .*a.jsonl.* lie 100,001 deep.*max_depth"):
        hfzarr.open_manifest(tmp_path / "a.jsonl")
    # Over the ends of lines, too.
    lines = "[\n" * 100_000 + "]\n" * 100_000
    put(tmp_path / "a.jsonl", f'{{"zarr": "a.zarr", "axes": {lines}}}\n'.encode())
    with pytest.raises(TargetError, match=r"row 0 of 'a.jsonl' is not JSON"):
        hfzarr.open_manifest(tmp_path / "a.jsonl")
    put(tmp_path / "a.json", f'[{{"zarr": "a.zarr", "axes": {deep}}}]'.encode())
    with pytest.raises(LimitError, match="100,002 deep"):
        hfzarr.open_manifest(tmp_path / "a.json")
    put(tmp_path / "b.csv", f'zarr,axes\nb.zarr,"{deep}"\n'.encode())
    assert len(hfzarr.open_manifest(tmp_path / "b.csv")) == 1
    table = pa.table({"zarr": ["c.zarr"]}, metadata={"huggingface": f'{{"info": {deep}}}'})
    assert len(hfzarr.open_manifest(table)) == 1
