"""A folder of stores becomes a manifest: what is found, what is recorded, what is refused."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from counting import CountingStore
from hfzarr.errors import (
    AmbiguousTargetError,
    HfzarrError,
    InvalidMetadataError,
    ReadError,
    StoreNotFoundError,
    TargetError,
    UnsupportedError,
)
from hfzarr.model.report import Report
from hfzarr.rows.beside import labels_of, merged_metadata, splits_of
from hfzarr.rows.consolidated import consolidated_text
from hfzarr.rows.facts import FACTS, fact_types, read_facts
from hfzarr.rows.opening import open_manifest
from hfzarr.rows.scan import ScanProgress, scan
from hfzarr.store.finding import find_node
from hfzarr.store.location import locate
from realstores import ABSENT, expected, folder
from servers import http_server, s3_server
from stores import write_cf, write_image, write_plate, zip_folder

needs_http = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="http:// needs aiohttp"
)
needs_s3 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto", "flask")),
    reason="s3:// needs s3fs, and moto's server to talk to",
)
needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="thumbnails need Pillow"
)


def tiny(root: Path, *paths: str, shape: tuple[int, ...] = (2, 3)) -> Path:
    """Make stores of one array."""
    for i, path in enumerate(paths):
        data = np.full(shape, i, "uint8")
        zarr.create_array(root / path, data=data, dimension_names=["y", "x"][: len(shape)])
    return root


def column(manifest: Any, name: str) -> list[Any]:
    return manifest.table.column(name).to_pylist()


def cells(manifest: Any) -> list[str]:
    return column(manifest, manifest.column)


def names(manifest: Any) -> list[str]:
    return manifest.table.schema.names


# --- what is recorded -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """A folder with a store of each kind."""
    root = tmp_path_factory.mktemp("disk")
    write_image(LocalStore(root / "image3.ome.zarr"))
    write_image(LocalStore(root / "image2.zarr"), zarr_format=2, consolidated=False)
    write_plate(LocalStore(root / "plate.zarr"))
    write_cf(LocalStore(root / "climate.zarr"), consolidated=False)
    tiny(root, "plain")
    zip_folder(root / "image3.ome.zarr", root / "packed.zarr.zip")
    return root


@pytest.fixture(scope="module")
def facts(disk) -> dict[str, dict[str, Any]]:
    table = scan(disk).table
    return {row["zarr"]: row for row in table.select(["zarr", *FACTS]).to_pylist()}


def test_the_facts_of_an_image(facts) -> None:
    wanted = {
        "zarr": "image3.ome.zarr",
        "kind": "image",
        "format": "zarr-v3",
        "ome_version": "0.5",
        "shape": [2, 4, 32, 48],
        "dtype": "uint16",
        "axes": ["c", "z", "y", "x"],
        "scale": [1.0, 2.0, 0.5, 0.5],
        "translation": [0.0, 0.0, 0.0, 0.0],
        "unit": [None, "micrometer", "micrometer", "micrometer"],
        "channels": ["DAPI", "GFP"],
        "levels": 3,
        "bytes": 2 * 4 * 32 * 48 * 2,
    }
    assert facts["image3.ome.zarr"] == wanted
    assert facts["packed.zarr.zip"] == {**wanted, "zarr": "packed.zarr.zip"}
    older = {"zarr": "image2.zarr", "format": "zarr-v2", "ome_version": "0.4"}
    assert facts["image2.zarr"] == {**wanted, **older}


def test_the_facts_of_an_array_a_group_and_a_plate(facts, disk) -> None:
    nothing = dict.fromkeys(FACTS)
    array = {"kind": "array", "format": "zarr-v3", "shape": [2, 3], "dtype": "uint8", "bytes": 6}
    assert facts["plain"] == {**nothing, **array, "zarr": "plain", "axes": ["y", "x"]}
    plate = {"kind": "plate", "format": "zarr-v3", "ome_version": "0.5", "zarr": "plate.zarr"}
    assert facts["plate.zarr"] == {**nothing, **plate}
    arrays = [a for _, a in zarr.open_group(disk / "climate.zarr").arrays()]
    size = sum(array.size * array.dtype.itemsize for array in arrays)
    group = {"kind": "group", "format": "zarr-v3", "bytes": size, "zarr": "climate.zarr"}
    assert facts["climate.zarr"] == {**nothing, **group}


def test_the_bytes_of_a_group_are_those_of_all_its_arrays(tmp_path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("x", shape=(10,), dtype="float32")
    group.create_array("deep/er/y", shape=(3, 4), dtype="int16")
    assert column(scan(tmp_path), "bytes") == [40 + 24]
    group.create_array("words", shape=(3,), dtype=str)
    assert column(scan(tmp_path), "bytes") == [None], "texts have no size of their own"


def test_columns_have_the_types_that_are_promised(disk) -> None:
    schema = scan(disk, metadata=True).table.schema
    assert schema.field("zarr").type == pa.string()
    assert {name: schema.field(name).type for name in FACTS} == fact_types()
    assert schema.field("zarr_metadata").type == pa.string()


def test_metadata_alone(disk) -> None:
    manifest = scan(disk, facts=False, metadata=True)
    assert names(manifest) == ["zarr", "zarr_metadata"]


def test_without_facts_no_store_is_opened(tmp_path) -> None:
    (tmp_path / "broken.zarr").mkdir()
    tiny(tmp_path, "a.zarr")
    manifest = scan(tmp_path, facts=False)
    assert names(manifest) == ["zarr"]
    assert cells(manifest) == ["a.zarr", "broken.zarr"]


def test_facts_are_what_the_handles_say(disk) -> None:
    manifest = scan(disk)
    for i, row in enumerate(manifest.table.to_pylist()):
        handle = manifest.handle(i).resolve()
        assert (row["kind"], row["format"]) == (handle.kind, f"zarr-v{handle.zarr_format}")
        if row["shape"] is not None:
            assert (row["shape"], row["dtype"]) == (list(handle.shape), str(handle.dtype))
            assert (row["axes"], row["bytes"]) == (list(handle.dims), handle.nbytes)
        if row["kind"] == "image":
            assert (row["scale"], row["unit"]) == (list(handle.scale), list(handle.units))
            assert row["translation"] == list(handle.translation)
            assert (row["channels"], row["levels"]) == (
                list(handle.channel_names),
                handle.num_levels,
            )


def test_real_stores() -> None:
    here = folder()
    if here is None:
        pytest.skip(ABSENT)
    with pytest.warns(UserWarning, match="left out 4 of 97"):
        manifest = scan(here, on_error="skip", metadata=True)
    compared = 0
    for i, row in enumerate(manifest.table.to_pylist()):
        if row["shape"] is None:
            continue
        handle = manifest.handle(i)
        path = row["zarr"]
        if row["kind"] == "image":
            path = f"{path}/{handle.levels[0].node}"
        told = expected().get(path)
        if told is not None:
            wanted = np.dtype(told["dtype"]).newbyteorder("=")
            assert (row["shape"], row["dtype"]) == (told["shape"], str(wanted)), path
            compared += 1
    assert compared > 50


def test_a_thousand_stores(tmp_path) -> None:
    made = tiny(tmp_path / "one", "x.zarr") / "x.zarr"
    wanted = [f"d{i // 100}/plate {i % 7}/{i:03}.zarr" for i in range(1000)]
    for path in wanted:
        shutil.copytree(made, tmp_path / "all" / path)
    start = time.perf_counter()
    manifest = scan(tmp_path / "all", metadata=True)
    seconds = time.perf_counter() - start
    assert cells(manifest) == sorted(wanted)
    assert column(manifest, "shape") == [[2, 3]] * 1000
    assert set(column(manifest, "label")) == {f"plate {i}" for i in range(7)}
    assert manifest.handle(17).read().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert seconds < 10


# --- consolidated metadata ------------------------------------------------------------------------


def text_of(store: Any) -> str:
    found = find_node(locate(store), report=Report())
    return consolidated_text(found.hierarchy)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("write", [write_image, write_plate, write_cf])
def test_the_text_is_the_stores_own(zarr_format, write) -> None:
    store = write(MemoryStore(), zarr_format=zarr_format, consolidated=True)
    key = "zarr.json" if zarr_format == 3 else ".zmetadata"
    own = json.loads(store._store_dict[key].to_bytes())
    assert json.loads(text_of(store)) == own


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("write", [write_image, write_plate, write_cf])
def test_a_text_that_is_made_is_what_zarr_would_write(zarr_format, write) -> None:
    store = write(MemoryStore(), zarr_format=zarr_format, consolidated=False)
    text = text_of(store)
    carried = MemoryStore()
    key = "zarr.json" if zarr_format == 3 else ".zmetadata"
    put(carried, key, text.encode())
    if zarr_format == 2:
        for name, document in json.loads(text)["metadata"].items():
            if "/" not in name:
                put(carried, name, json.dumps(document).encode())
    from_text = zarr.open_consolidated(carried)
    walked = zarr.open_group(store, use_consolidated=False)
    assert described(from_text) == described(walked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store)
    theirs = json.loads(store._store_dict[key].to_bytes())
    assert members(json.loads(text)) == members(theirs)


def put(store: MemoryStore, key: str, data: bytes) -> None:
    from zarr.core.buffer import default_buffer_prototype

    store._store_dict[key] = default_buffer_prototype().buffer.from_bytes(data)


def described(group: zarr.Group) -> dict[str, Any]:
    found = dict(group.members(max_depth=None))
    return {
        path: (type(node).__name__, dict(node.attrs), getattr(node, "shape", None))
        for path, node in {"": group, **found}.items()
    }


def members(document: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes of consolidated metadata, without empty attributes and repeats of it."""
    inline = document.get("consolidated_metadata", document)["metadata"]
    return {
        path: {k: v for k, v in node.items() if k != "consolidated_metadata"}
        for path, node in inline.items()
        if node or not path.endswith(".zattrs")
    }


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_text_of_an_array(zarr_format) -> None:
    store = MemoryStore()
    zarr.create_array(
        store, shape=(3,), dtype="i4", zarr_format=zarr_format, attributes={"unit": "m"}
    )
    told = json.loads(text_of(store))
    if zarr_format == 3:
        assert told == json.loads(store._store_dict["zarr.json"].to_bytes())
    else:
        assert set(told["metadata"]) == {".zarray", ".zattrs"}
        assert told["metadata"][".zattrs"] == {"unit": "m"}


def test_one_round_where_metadata_is_consolidated() -> None:
    for write in (write_image, write_plate, write_cf):
        store = CountingStore(write(MemoryStore(), consolidated=True), delay=0.001)
        found = find_node(locate(store), report=Report())
        read_facts(found.hierarchy, found.node)
        assert (store.rounds, store.chunks, store.listings) == (1, [], [])
        consolidated_text(found.hierarchy)
        assert store.rounds == 1


def test_an_image_that_is_not_consolidated_takes_a_round_more() -> None:
    store = CountingStore(write_image(MemoryStore(), consolidated=False), delay=0.001)
    found = find_node(locate(store), report=Report())
    read_facts(found.hierarchy, found.node)
    assert (store.rounds, store.chunks, store.listings) == (2, [], [])


def test_a_row_that_carries_its_metadata_opens_without_a_request(disk, tmp_path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(disk, root)
    manifest = scan(root, metadata=True)
    before = scan(root)
    kinds = [handle.kind for handle in before.handles()]
    arrays = [[array.node for array in handle.arrays()] for handle in before.handles()]
    shutil.rmtree(root)
    assert [handle.kind for handle in manifest.handles()] == kinds
    assert [[a.node for a in handle.arrays()] for handle in manifest.handles()] == arrays


# --- what cannot be read --------------------------------------------------------------------------


def broken(root: Path) -> Path:
    tiny(root, "a.zarr", "c.zarr")
    (root / "b.zarr").mkdir()
    (root / "b.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_')
    (root / "d.zarr").mkdir()
    return root


def test_a_broken_store_is_named(tmp_path) -> None:
    broken(tmp_path)
    with pytest.raises(InvalidMetadataError, match=r"b\.zarr.*not valid JSON.*on_error='skip'"):
        scan(tmp_path)


def test_broken_stores_are_left_out_on_request(tmp_path) -> None:
    broken(tmp_path)
    text = "file_name,age\na,1\nb,2\nc,3\nd,4\n"
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.warns(UserWarning, match=r"left out 2 of 4 stores") as caught:
        manifest = scan(tmp_path, on_error="skip")
    assert caught[0].filename == __file__
    assert "b.zarr" in str(caught[0].message)
    assert "d.zarr" in str(caught[0].message)
    assert cells(manifest) == ["a.zarr", "c.zarr"]
    assert column(manifest, "age") == [1, 3]


def test_nothing_but_broken_stores(tmp_path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.warns(UserWarning, match="left out 1 of 1"):
        manifest = scan(
            tmp_path, on_error="skip", thumbnails=importlib.util.find_spec("PIL") is not None
        )
    assert len(manifest) == 0
    assert names(manifest)[: len(FACTS) + 1] == ["zarr", *FACTS]


@pytest.mark.parametrize(
    "options", [{"on_error": "ignore"}, {"width": 0}, {"column": ""}, {"width": "many"}]
)
def test_options_that_make_no_sense(tmp_path, options) -> None:
    tiny(tmp_path, "a.zarr")
    with pytest.raises(TargetError, match=next(iter(options))):
        scan(tmp_path, **options)


def test_folders_that_cannot_be_listed_are_left_out_on_request(tmp_path, monkeypatch) -> None:
    tiny(tmp_path, "a/1.zarr", "b/2.zarr")
    (tmp_path / "metadata.csv").write_text("file_name,age\na/1,1\nb/2,2\n")
    scandir = os.scandir

    def refusing(place):
        if str(place) == str(tmp_path / "b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ReadError, match="cannot list the folder"):
        scan(tmp_path)
    with pytest.warns(UserWarning, match=r"left out 1 folders[\s\S]*- b: ") as caught:
        manifest = scan(tmp_path, on_error="skip")
    assert caught[0].filename == __file__
    assert cells(manifest) == ["a/1.zarr"]
    assert column(manifest, "age") == [1]


@pytest.mark.parametrize("name", ["new\nline.zarr", "a.zarr#[1]"])
def test_names_that_no_table_can_hold(tmp_path, name) -> None:
    tiny(tmp_path, "a.zarr", "b.zarr")
    (tmp_path / "b.zarr").rename(tmp_path / name)
    with pytest.raises(TargetError, match=r"in its name.*on_error='skip'"):
        scan(tmp_path)
    with pytest.warns(UserWarning, match="left out 1 stores that no table can name"):
        assert cells(scan(tmp_path, on_error="skip")) == ["a.zarr"]


@pytest.mark.parametrize("name", ["a::b.zarr", "~a.zarr", "c:d.zarr"])
def test_names_that_look_like_other_places(tmp_path, monkeypatch, name) -> None:
    tiny(tmp_path, "x.zarr")
    (tmp_path / "x.zarr").rename(tmp_path / name)
    manifest = scan(tmp_path)
    assert manifest.stores == (str(tmp_path / name),)
    manifest.save(tmp_path / "index.csv")
    again = open_manifest(tmp_path / "index.csv")
    assert again.stores == manifest.stores
    assert again[0]["zarr"].shape == tuple(manifest["shape"][0])
    monkeypatch.chdir(tmp_path)
    assert scan(name).stores == manifest.stores


@pytest.mark.parametrize(
    "switch", ["labels", "splits", "merge", "facts", "metadata", "thumbnails", "progress"]
)
def test_what_is_switched_is_true_or_false(tmp_path, switch) -> None:
    tiny(tmp_path, "a.zarr")
    with pytest.raises(TargetError, match=f"{switch}= is True or False, not 'no'"):
        scan(tmp_path, **{switch: "no"})


@pytest.mark.parametrize("text", ["s3://", "http://", "memory://"])
def test_a_protocol_is_no_place(text) -> None:
    with pytest.raises(TargetError, match="a protocol without a place"):
        scan(text)


# --- sources --------------------------------------------------------------------------------------


def test_cells_are_relative_to_the_folder(tmp_path) -> None:
    tiny(tmp_path, "a/1.zarr", "b c/2.zarr")
    manifest = scan(str(tmp_path))
    assert (cells(manifest), manifest.base) == (["a/1.zarr", "b c/2.zarr"], str(tmp_path))
    assert manifest.handle(1).read().tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_store_by_itself_is_one_row(tmp_path) -> None:
    tiny(tmp_path, "a/1.zarr", "a/2.zarr")
    (tmp_path / "a" / "metadata.csv").write_text("file_name,age\nnothing,1\n")
    manifest = scan(tmp_path / "a" / "2.zarr")
    assert (cells(manifest), manifest.base) == (["2.zarr"], str(tmp_path / "a"))
    assert manifest.handle(0).shape == (2, 3)


def test_several_places_have_absolute_cells(tmp_path, monkeypatch) -> None:
    tiny(tmp_path, "a/1.zarr", "b/2.zarr", "c/3.zarr")
    monkeypatch.chdir(tmp_path)
    manifest = scan([tmp_path / "c" / "3.zarr", "a", tmp_path / "[ab]"])
    wanted = [str(tmp_path / path) for path in ("c/3.zarr", "a/1.zarr", "b/2.zarr")]
    assert cells(manifest) == wanted
    assert column(manifest, "label") == ["c", "a", "b"]
    assert [handle.read()[0, 0] for handle in manifest.handles()] == [2, 0, 1]


def test_patterns(tmp_path) -> None:
    tiny(tmp_path, "a/1.zarr", "b/2.zarr", "b/3.zarr", "c/deep/4.zarr")
    assert cells(scan(f"{tmp_path}/*/*.zarr")) == ["a/1.zarr", "b/2.zarr", "b/3.zarr"]
    assert cells(scan(tmp_path / "b" / "[2]*")) == ["2.zarr"]
    assert cells(scan(f"{tmp_path}/**/*.zarr")) == [
        "a/1.zarr", "b/2.zarr", "b/3.zarr", "c/deep/4.zarr",
    ]  # fmt: skip


def test_a_pattern_leaves_rows_of_other_stores_alone(tmp_path) -> None:
    tiny(tmp_path, "1.zarr", "2.zarr")
    (tmp_path / "metadata.csv").write_text("file_name,age\n1,10\n2,20\n")
    assert column(scan(tmp_path / "2*"), "age") == [20]


@pytest.mark.parametrize("source", [None, 5, [], [""], b"a", {"path": "a"}, [["a"]], ""])
def test_what_cannot_be_scanned(source) -> None:
    with pytest.raises(TargetError, match="scan"):
        scan(source)


def test_nothing_to_be_found(tmp_path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(StoreNotFoundError, match=r"no Zarr store in .*data"):
        scan(tmp_path / "data")
    with pytest.raises(StoreNotFoundError, match=r"no such folder"):
        scan(tmp_path / "nothing")
    with pytest.raises(StoreNotFoundError, match=r"no Zarr store in .*\*"):
        scan(tmp_path / "*.zarr")


# --- over a network -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    with s3_server() as options:
        fs = fsspec.filesystem("s3", **options)
        fs.mkdir("lab")
        yield options


@needs_s3
def test_s3(s3, disk, tmp_path, monkeypatch) -> None:
    import s3fs

    tree = tmp_path / "tree"
    for path in ("train/cat/1.zarr", "val/dog/1.zarr"):
        shutil.copytree(disk / "image3.ome.zarr", tree / path)
    (tree / "metadata.jsonl").write_text('{"file_name": "val/dog/1", "age": 3}\n')
    fs = fsspec.filesystem("s3", **s3)
    fs.put(str(tree), "lab/study", recursive=True)

    asked, call = [], s3fs.S3FileSystem._call_s3

    async def noting(self, method, *args, **kwargs):
        asked.append((method, kwargs.get("Key") or kwargs.get("Prefix")))
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", noting)
    manifest = scan("s3://lab/study", storage_options=s3, metadata=True)
    assert manifest.base == "s3://lab/study"
    assert cells(manifest) == ["train/cat/1.zarr", "val/dog/1.zarr"]
    assert column(manifest, "age") == [None, 3]
    assert column(manifest, "label") == ["cat", "dog"]
    assert column(manifest, "split") == ["train", "validation"]
    assert column(manifest, "shape") == [[2, 4, 32, 48]] * 2
    gets = [key for method, key in asked if method == "get_object" and ".zarr" in key]
    assert len(gets) <= 2 * 2, "two documents may hold the consolidated metadata of a store"

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    assert [handle.num_levels for handle in manifest.handles()] == [3, 3]
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
    assert manifest.handle(1).get_level(-1).read().shape == (2, 4, 8, 12)


@needs_s3
def test_listings_of_s3(s3, disk, monkeypatch) -> None:
    fs = fsspec.filesystem("s3", **s3)
    for path in ("many/a/1.zarr", "many/a/2.zarr", "many/b/3.zarr", "many/c/d/4.zarr"):
        fs.put(str(disk / "plain"), f"lab/{path}", recursive=True)
    import s3fs

    listed, ls = [], s3fs.S3FileSystem._lsdir

    async def noting(self, path, *args, **kwargs):
        listed.append(path)
        return await ls(self, path, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_lsdir", noting)
    manifest = scan("s3://lab/many/*", storage_options=s3, facts=False)
    assert cells(manifest) == ["a/1.zarr", "a/2.zarr", "b/3.zarr", "c/d/4.zarr"]
    assert sorted(listed) == [f"lab/many{below}" for below in ("", "/a", "/b", "/c", "/c/d")]
    fs.put(str(disk / "plain"), "lab/many/e.zarr", recursive=True)
    assert "e.zarr" in cells(scan("s3://lab/many", storage_options=s3, facts=False))


async def refuse(self, method, *args, **kwargs):
    raise AssertionError(f"{method} {kwargs} was asked for")


@needs_http
def test_http(disk, tmp_path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(disk / "image3.ome.zarr", tree / "white cat" / "a b.zarr")
    shutil.copytree(disk / "image2.zarr", tree / "dog" / "2.zarr")
    (tree / "metadata.csv").write_text("file_name,age\nwhite cat/a b,3\n")
    with http_server(tree) as (url, asked):
        manifest = scan(url, metadata=True)
        assert column(manifest, "label") == ["dog", "white cat"]
        assert column(manifest, "age") == [None, 3]
        assert column(manifest, "levels") == [3, 3]
        asked.clear()
        assert [handle.num_levels for handle in manifest.handles()] == [3, 3]
        assert [handle.labels for handle in manifest.handles()] == [("labels/nuclei",)] * 2
        assert asked == []
        assert manifest.handle(1).get_level(-1).read().shape == (2, 4, 8, 12)


@needs_http
def test_http_that_cannot_list(disk, tmp_path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(disk / "image2.zarr", tree / "a.zarr")
    zarr.create_group(tree / "b.zarr").create_array("x", shape=(3,), dtype="i4")
    for place in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
        (place / "index.html").write_text("<html>Welcome</html>")
    with http_server(tree) as (url, _):
        with pytest.raises(StoreNotFoundError, match="give the URLs of the stores themselves"):
            scan(url)
        manifest = scan([f"{url}/a.zarr", f"{url}/b.zarr"])
        assert column(manifest, "kind") == ["image", "group"]
        assert column(manifest, "bytes") == [2 * 4 * 32 * 48 * 2, None]
        told = json.loads(column(scan(f"{url}/a.zarr", metadata=True), "zarr_metadata")[0])
        nodes = {path.rpartition("/")[0] for path in told["metadata"] if "/." in path}
        assert nodes == set(dict(zarr.open_group(disk / "image2.zarr").members(max_depth=None)))
        with pytest.raises(UnsupportedError, match=r"b\.zarr"):
            scan(f"{url}/b.zarr", metadata=True)


def test_what_is_saved_beside_the_stores_moves_with_them(disk, tmp_path) -> None:
    from hfzarr.rows.opening import open_manifest

    root = tmp_path / "here"
    shutil.copytree(disk, root)
    manifest = scan(root, metadata=True)
    manifest.save(root / "index.parquet")
    assert str(tmp_path).encode() not in (root / "index.parquet").read_bytes()
    root.rename(tmp_path / "there")
    again = open_manifest(tmp_path / "there" / "index.parquet")
    assert again.column == "zarr"
    assert again.table.to_pylist() == manifest.table.to_pylist()
    assert {name: again.table.schema.field(name).type for name in FACTS} == fact_types()
    row = cells(again).index("image2.zarr")
    assert again.handle(row).get_level(-1).read().shape == (2, 4, 8, 12)


# --- labels and splits ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stores", "wanted", "labels"),
    [
        (["cat/1", "dog/2"], None, ["cat", "dog"]),
        (["x/cat/1", "y/dog/2"], None, ["cat", "dog"]),
        (["cat/1", "cat/2"], None, None),
        (["cat/1", "cat/2"], True, ["cat", "cat"]),
        (["cat/1", "2"], None, None),
        (["cat/1", "2"], True, ["cat", None]),
        (["cat/1", "dog/deep/2"], None, None),
        (["cat/1", "dog/2"], False, None),
        (["1", "2"], None, None),
        (["train/cat/1", "test/dog/2"], None, ["cat", "dog"]),
        (["data/train/cat/1", "data/test/dog/2"], None, ["cat", "dog"]),
        (["train/1", "test/2"], None, None),
        (["control/1", "test/2"], None, ["control", "test"]),
    ],
)
def test_labels(stores, wanted, labels) -> None:
    splits = any(splits_of(stores) or ())
    assert labels_of(stores, wanted=wanted, splits=splits) == labels


@pytest.mark.parametrize(
    ("stores", "wanted", "splits"),
    [
        (["train/1", "test/2", "val/3"], None, ["train", "test", "validation"]),
        (["training/1", "testing/2", "dev/3"], None, ["train", "test", "validation"]),
        (["eval/1", "evaluation/2", "valid/3", "validation/4"], None,
         ["test", "test", "validation", "validation"]),
        (["data/Train/cat/1"], None, ["train"]),
        (["train/1", "2"], None, ["train", None]),
        (["test/1", "control/2"], None, None),
        (["test/1", "control/2"], True, ["test", None]),
        (["train/1"], False, None),
        (["a/1", "b/2"], None, None),
        (["trainer/1", "a_test/2"], None, None),
        (["x/train", "x/test"], None, None),
    ],
)  # fmt: skip
def test_splits(stores, wanted, splits) -> None:
    assert splits_of(stores, wanted=wanted) == splits


def test_labels_and_splits_of_a_scan(tmp_path) -> None:
    tiny(tmp_path, "train/cat/1.zarr", "train/dog/2.zarr", "val/cat/3.zarr")
    manifest = scan(tmp_path)
    assert names(manifest)[:3] == ["zarr", "label", "split"]
    assert column(manifest, "label") == ["cat", "dog", "cat"]
    assert column(manifest, "split") == ["train", "train", "validation"]
    assert not {"label", "split"} & set(names(scan(tmp_path, labels=False, splits=False)))
    assert column(scan(tmp_path / "train" / "cat", labels=True), "label") == [None]


def test_metadata_that_says_label_wins(tmp_path) -> None:
    tiny(tmp_path, "train/cat/1.zarr", "val/dog/2.zarr")
    (tmp_path / "metadata.csv").write_text(
        "file_name,label,split\ntrain/cat/1,7,a\nval/dog/2,8,b\n"
    )
    manifest = scan(tmp_path)
    assert (column(manifest, "label"), column(manifest, "split")) == ([7, 8], ["a", "b"])
    assert not {"zarr_label", "zarr_split"} & set(names(manifest))
    forced = scan(tmp_path, labels=True, splits=True)
    assert column(forced, "zarr_label") == ["cat", "dog"]
    assert column(forced, "zarr_split") == ["train", "validation"]
    ignored = scan(tmp_path, merge=False)
    assert column(ignored, "label") == ["cat", "dog"]


# --- tables of metadata ---------------------------------------------------------------------------

ROWS = [
    {"file_name": "a.zarr", "age": 31, "site": "north"},
    {"file_name": "sub/b", "age": 32, "site": None},
]


def write_rows(root: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    path = root / f"metadata.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0])]
        lines += [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_are_merged_by_file_name(tmp_path, kind) -> None:
    tiny(tmp_path, "a.zarr", "sub/b.zarr", "sub/c.zarr")
    write_rows(tmp_path, kind, ROWS)
    manifest = scan(tmp_path)
    assert cells(manifest) == ["a.zarr", "sub/b.zarr", "sub/c.zarr"]
    assert column(manifest, "age") == [31, 32, None]
    assert column(manifest, "site") == ["north", None, None]
    assert "file_name" not in names(manifest)
    assert manifest.table.schema.field("age").type == pa.int64()


def test_rows_count_from_the_folder_of_their_file(tmp_path) -> None:
    tiny(tmp_path, "train/1.zarr", "test/1.zarr", "test/deep/2.zarr")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,age\n1.zarr,5\n")
    (tmp_path / "test" / "metadata.jsonl").write_text(
        '{"file_name": "./deep/2", "age": 6, "note": "x"}\n{"file_name": "1.zarr"}\n'
    )
    manifest = scan(tmp_path)
    assert cells(manifest) == ["test/1.zarr", "test/deep/2.zarr", "train/1.zarr"]
    assert column(manifest, "age") == [None, 6, 5]
    assert column(manifest, "note") == [None, "x", None]


@pytest.mark.parametrize("name", ["file_name", "zarr_file_name", "image_file_name"])
def test_columns_that_name_the_stores(tmp_path, name) -> None:
    tiny(tmp_path, "a.zarr")
    (tmp_path / "metadata.csv").write_text(f"age,{name}\n5,a\n")
    manifest = scan(tmp_path)
    assert (column(manifest, "age"), name in names(manifest)) == ([5], False)


def test_the_plain_name_comes_first(tmp_path) -> None:
    tiny(tmp_path, "a.zarr")
    (tmp_path / "metadata.csv").write_text("raw_file_name,file_name\nx.lif,a\n")
    assert column(scan(tmp_path), "raw_file_name") == ["x.lif"]


@pytest.mark.parametrize(
    "store", ["007.zarr", "007.ome.zarr", "007", "007.zarr.zip", "007.ozx", "007.zip"]
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_store_is_named_with_or_without_its_suffix(tmp_path, store, kind) -> None:
    made = tiny(tmp_path / "made", "x.zarr") / "x.zarr"
    root = tmp_path / "root"
    root.mkdir()
    if store.endswith(("zip", "ozx")):
        zip_folder(made, root / store)
    else:
        shutil.copytree(made, root / store)
    write_rows(root, kind, [{"file_name": "007", "age": 5}])
    assert column(scan(root), "age") == [5]
    write_rows(root, kind, [{"file_name": store, "age": 5}])
    assert column(scan(root), "age") == [5]


def test_names_that_are_numbers_in_a_csv(tmp_path) -> None:
    tiny(tmp_path, "1.zarr", "20.zarr")
    (tmp_path / "metadata.csv").write_text("file_name,age\n20,5\n1,6\n")
    assert column(scan(tmp_path), "age") == [6, 5]


BAD_ROWS = {
    "../a.zarr": r"row 1 of 'sub/metadata.csv'.*'\.\./a\.zarr'.*climbs out",
    "x/../../a.zarr": r"row 1 of .*climbs out",
    "/data/b.zarr": r"row 1 of .*is absolute",
    "C:/data/b.zarr": r"row 1 of .*is absolute",
    "s3://bucket/b.zarr": r"row 1 of .*is absolute",
    "c.zarr": r"row 1 of .*no store 'sub/c\.zarr'; there are .*'sub/b'",
    "a.zarr": r"row 1 of .*no store 'sub/a\.zarr'",
    "b": r"row 1 of .*row 0 of .*both name the store 'sub/b\.zarr'",
    "./b.zarr": r"row 1 of .*row 0 of .*both name",
    "": r"row 1 of .*None.*Fill it in",
    " ": r"row 1 of .*Fill it in",
}


@pytest.mark.parametrize(("name", "message"), BAD_ROWS.items())
def test_rows_that_are_refused(tmp_path, name, message) -> None:
    tiny(tmp_path, "a.zarr", "sub/b.zarr")
    (tmp_path / "sub" / "metadata.csv").write_text(f"file_name,age\nb.zarr,1\n{name},2\n")
    with pytest.raises(TargetError, match=message):
        scan(tmp_path)
    assert cells(scan(tmp_path, merge=False)) == ["a.zarr", "sub/b.zarr"]


BAD_FILES = {
    "no column": ("csv", b"name,age\na,1\n", "no column 'file_name'.*merge=False"),
    "empty": ("csv", b"", "empty"),
    "empty lines": ("jsonl", b"\n", "empty"),
    "no table": ("parquet", b"not a parquet file", r"metadata\.parquet.*cannot be read"),
    "no JSON": ("jsonl", b'{"file_name": "a"\n', r"metadata\.jsonl"),
    "a number": ("jsonl", b'{"file_name": 1.5}\n', "row 0 of .*1.5"),
    "a list": ("jsonl", b'{"file_name": ["a"]}\n', "row 0 of "),
    "ragged": ("csv", b"file_name,age\na,1,2\n", r"row 0 of .metadata\.csv.: 2 cells"),
    "twins": ("csv", b"file_name,age,age\na,1,2\n", "several columns 'age'"),
    "two names": ("csv", b"x_file_name,y_file_name\na,a\n", "each of which may name"),
    "the column": ("csv", b"file_name,zarr\na,1\n", "column 'zarr'.*column="),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_refused(tmp_path, name) -> None:
    kind, data, message = BAD_FILES[name]
    tiny(tmp_path, "a.zarr")
    (tmp_path / f"metadata.{kind}").write_bytes(data)
    with pytest.raises((TargetError, AmbiguousTargetError), match=message) as caught:
        scan(tmp_path)
    assert f"metadata.{kind}" in str(caught.value)


def test_a_name_that_two_stores_may_have(tmp_path) -> None:
    tiny(tmp_path, "a.zarr", "a.ome.zarr")
    (tmp_path / "metadata.csv").write_text("file_name,age\na,1\n")
    with pytest.raises(AmbiguousTargetError, match=r"row 0 of 'metadata.csv'.*suffix"):
        scan(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,age\na.zarr,1\na.ome.zarr,2\n")
    assert column(scan(tmp_path), "age") == [2, 1]


def test_two_files_that_name_one_store(tmp_path) -> None:
    tiny(tmp_path, "sub/b.zarr")
    (tmp_path / "metadata.csv").write_text("file_name,age\nsub/b,1\n")
    (tmp_path / "sub" / "metadata.csv").write_text("file_name,age\nb,1\n")
    with pytest.raises(TargetError, match=r"'sub/metadata\.csv'.*'metadata\.csv' both name"):
        scan(tmp_path)


def test_files_whose_columns_differ_in_type(tmp_path) -> None:
    tiny(tmp_path, "a/1.zarr", "b/2.zarr", "c/3.zarr")
    (tmp_path / "a" / "metadata.csv").write_text("file_name,age\n1,5\n")
    (tmp_path / "b" / "metadata.csv").write_text("file_name,age\n2,5.5\n")
    assert column(scan(tmp_path), "age") == [5.0, 5.5, None]
    (tmp_path / "c" / "metadata.csv").write_text("file_name,age\n3,old\n")
    with pytest.raises(TargetError, match=r"metadata\.csv.*types of their columns"):
        scan(tmp_path)


def test_a_column_of_the_user_keeps_its_name(tmp_path) -> None:
    tiny(tmp_path, "a.zarr")
    (tmp_path / "metadata.csv").write_text("file_name,shape,kind\na,round,cell\n")
    manifest = scan(tmp_path)
    assert (column(manifest, "shape"), column(manifest, "kind")) == (["round"], ["cell"])
    assert (column(manifest, "zarr_shape"), column(manifest, "zarr_kind")) == ([[2, 3]], ["array"])


def test_the_column_of_stores_may_have_another_name(tmp_path) -> None:
    tiny(tmp_path, "a.zarr")
    (tmp_path / "metadata.csv").write_text("image_file_name,zarr\na,1\n")
    manifest = scan(tmp_path, column="image")
    assert (cells(manifest), column(manifest, "zarr")) == (["a.zarr"], [1])


def test_a_file_of_names_alone(tmp_path) -> None:
    tiny(tmp_path, "a.zarr")
    (tmp_path / "metadata.csv").write_text("file_name\na\n")
    assert names(scan(tmp_path, facts=False)) == ["zarr"]


def test_files_without_rows() -> None:
    told = {"metadata.csv": pa.table({"file_name": pa.array([], pa.string()), "age": []})}
    merged = merged_metadata(["a.zarr"], list(told), told.__getitem__)
    assert merged is not None
    assert merged.to_pydict() == {"age": [None]}
    assert merged_metadata(["a.zarr"], [], told.__getitem__) is None


def test_a_file_that_cannot_be_fetched_is_named(tmp_path, monkeypatch) -> None:
    tiny(tmp_path, "a.zarr")
    (tmp_path / "metadata.csv").write_text("file_name\na\n")

    def refuse(*args, **kwargs):
        raise PermissionError("no")

    monkeypatch.setattr(fsspec, "open", refuse)
    with pytest.raises((ReadError, HfzarrError), match=r"metadata\.csv.*merge=False"):
        scan(tmp_path)


# --- thumbnails and progress ----------------------------------------------------------------------


@needs_pillow
def test_thumbnails(disk, tmp_path) -> None:
    from PIL import Image

    shutil.copytree(disk / "image3.ome.zarr", tmp_path / "a.zarr")
    shutil.copytree(disk / "plain", tmp_path / "b.zarr")
    tiny(tmp_path, "c.zarr", shape=())
    with pytest.warns(UserWarning, match=r"no thumbnail of 1 of 3 stores:\n- c\.zarr: "):
        manifest = scan(tmp_path, thumbnails=True)
    assert manifest.table.schema.field("thumbnail").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )
    first, second, third = column(manifest, "thumbnail")
    assert third is None
    for cell in (first, second):
        picture = Image.open(io.BytesIO(cell["bytes"]))
        assert (picture.format, picture.mode, cell["path"]) == ("PNG", "RGB", None)
        assert max(picture.size) <= 256


def test_progress_is_told_to_a_function(tmp_path) -> None:
    tiny(tmp_path, "a.zarr", "b.zarr", "c.zarr")
    told: list[ScanProgress] = []
    scan(tmp_path, progress=told.append)
    found = [one for one in told if one.stage == "find"]
    read = [one for one in told if one.stage == "read"]
    assert [one.done for one in found] == [1, 2, 3]
    assert [(one.done, one.total) for one in read] == [(1, 3), (2, 3), (3, 3)]


def test_progress_as_a_bar(tmp_path, capsys) -> None:
    tiny(tmp_path, "a.zarr", "b.zarr")
    scan(tmp_path, progress=True)
    assert "read: 100%" in capsys.readouterr().err
    scan(tmp_path)
    assert capsys.readouterr().err == ""
