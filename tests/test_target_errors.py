"""What is no target, or no store, says so: what was wanted, what came, what to do."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import fsspec
import pytest
import xarray as xr
from zarr.storage import LocalStore, MemoryStore

from hfzarr import (
    HfzarrError,
    InvalidMetadataError,
    NodeNotFoundError,
    ReadError,
    StoreNotFoundError,
    TargetError,
)
from servers import http_server
from stores import write_image, zip_folder

NAME = "cells.ome.zarr"
needs_http = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="http:// needs aiohttp"
)


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """A folder with a consolidated OME-Zarr 0.5 store in it."""
    folder = tmp_path_factory.mktemp("disk")
    write_image(LocalStore(folder / NAME))
    return folder


@pytest.fixture(scope="module")
def http_url(disk):
    with http_server(disk) as (url, _):
        yield url


@pytest.fixture
def memory_file():
    """Write a file of fsspec's memory file system, and give its URL."""
    fs = fsspec.filesystem("memory")

    def write(name: str, data: bytes) -> str:
        fs.pipe(f"/test-errors/{name}", data)
        return f"memory://test-errors/{name}"

    yield write
    if fs.exists("/test-errors"):
        fs.rm("/test-errors", recursive=True)


@pytest.mark.parametrize("opener", [open_one, open_tree])
def test_missing(tmp_path, opener):
    for missing in (tmp_path / "none.zarr", str(tmp_path / "none.ozx"), tmp_path / "a" / "b.zip"):
        with pytest.raises(StoreNotFoundError, match="No such file or directory"):
            opener(missing)
    with pytest.raises(FileNotFoundError, match="there is no Zarr store"):
        opener("memory://nowhere/none.zarr")
    with pytest.raises(FileNotFoundError, match="there is no zip file"):
        opener("memory://nowhere/none.zarr.zip")
    with pytest.raises(FileNotFoundError, match="there is no Zarr store"):
        opener(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no Zarr store"):
        opener(MemoryStore())


@needs_http
def test_missing_over_http(http_url):
    with pytest.raises(StoreNotFoundError, match="there is no Zarr store"):
        open_one(f"{http_url}/none.zarr")
    with pytest.raises(StoreNotFoundError, match="there is no zip file"):
        open_one(f"{http_url}/none.zip")


@needs_http
def test_no_server(disk):
    with http_server(disk) as (url, _):
        pass
    with pytest.raises(ReadError, match="cannot read"):
        open_one(f"{url}/{NAME}")


@needs_http
def test_zip_over_http_without_ranges(disk, tmp_path):
    zip_folder(disk / NAME, tmp_path / "a.zip")
    with http_server(tmp_path, ranges=False) as (url, _), pytest.raises(HfzarrError):
        open_one(f"{url}/a.zip")


def test_unknown_protocol():
    with pytest.raises(TargetError, match="nosuch"):
        open_one("nosuch://bucket/a.zarr")


def test_unknown_protocol_of_a_zip():
    with pytest.raises(TargetError, match="nosuch"):
        open_one("nosuch://bucket/a.zip")


def test_chained_url_into_a_zip(disk, tmp_path):
    path = zip_folder(disk / NAME, tmp_path / "a.zip")
    assert "image" in open_one(f"zip://::{path.as_uri()}")


@pytest.mark.parametrize("opener", [open_one, open_tree])
def test_zip_cut_short(disk, tmp_path, memory_file, opener):
    whole = zip_folder(disk / NAME, tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TargetError, match="cut short"):
        opener(tmp_path / "a.zip")
    with pytest.raises(ReadError, match="cut short"):
        opener(memory_file("cut.zip", whole[: len(whole) // 2]))
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(TargetError, match="cut short"):
        opener(tmp_path / "a.zip")


def test_zip_with_no_store(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(StoreNotFoundError, match="there is no Zarr store"):
        open_one(tmp_path / "a.zip")


def test_other_files(tmp_path, realdata):
    (tmp_path / "image.tif").write_bytes(b"II*\0")
    for path in (tmp_path / "image.tif", realdata / "iris_nc" / "ostia_monthly.nc"):
        with pytest.raises(TargetError, match="neither a zip nor a Zarr store"):
            open_one(path)


def test_folder_of_stores(disk):
    with pytest.raises(StoreNotFoundError, match=f"folder with stores in it.*{NAME}"):
        open_one(disk)


def test_ocdbt(realdata):
    path = realdata / "neuroglancer_ome" / "simple_0.5.ocdbt"
    for opener in (open_one, open_tree):
        with pytest.raises(StoreNotFoundError, match="OCDBT"):
            opener(path)


@pytest.mark.parametrize("target", [5, None, b"a.zarr", "", {}, {"path": 5}, ["a.zarr"], object()])
def test_no_target_at_all(target):
    with pytest.raises((TargetError, StoreNotFoundError)):
        open_one(target)


def test_climbing_out(disk):
    for group in ("..", "../other", "labels/../../other", "/.."):
        with pytest.raises(TargetError, match="leads out of the store"):
            open_one(disk / NAME, group=group)


def test_missing_group_names_its_neighbours(disk):
    with pytest.raises(NodeNotFoundError, match="nuclei"):
        open_one(disk / NAME, group="labels/cells")
    with pytest.raises(KeyError, match="labels"):
        open_tree(disk / NAME, group="none")


@pytest.mark.parametrize(
    "options",
    [
        {"on_invalid": "ignore"},
        {"zarr_format": 1},
        {"mode": "w"},
        {"level": 3},
        {"level": -4},
        {"level": "3"},
        {"level": 1.5},
        {"image": 1},
        {"image": "none"},
    ],
)
def test_bad_options(disk, options):
    (value,) = options.values()
    for opener in (open_one, open_tree):
        with pytest.raises((TargetError, NodeNotFoundError), match=str(value)):
            opener(disk / NAME, **options)


def test_zarr_format_that_is_not_there(disk, tmp_path):
    with pytest.raises(StoreNotFoundError):
        open_one(disk / NAME, zarr_format=2)
    assert "image" in open_one(disk / NAME, zarr_format=3)
    write_image(LocalStore(tmp_path / "a"), zarr_format=2)
    assert "image" in open_one(tmp_path / "a", zarr_format=2)
    with pytest.raises(StoreNotFoundError):
        open_one(tmp_path / "a", zarr_format=3)


def test_demanded_consolidated_metadata(disk, tmp_path):
    assert "image" in open_one(disk / NAME, consolidated=True)
    assert "image" in open_one(disk / NAME, consolidated=False)
    write_image(LocalStore(tmp_path / "a"), consolidated=False)
    for opener in (open_one, open_tree):
        with pytest.raises(InvalidMetadataError, match="consolidated=True"):
            opener(tmp_path / "a", consolidated=True)


def test_no_secret_in_messages():
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    with pytest.raises(HfzarrError) as error:
        open_one("http://user:word@127.0.0.1:1/a.zarr?token=abc")
    assert "word" not in str(error.value)
    assert "abc" not in str(error.value)
