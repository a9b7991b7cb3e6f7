"""Every kind of target gives the same Dataset, and what is no target says so."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore

from hfzarr import (
    InvalidMetadataError,
    RepairWarning,
    StoreNotFoundError,
)
from hfzarr.errors import TargetError
from hfzarr.store.location import join_path, locate
from servers import http_server, s3_server
from stores import pixels, write_cf, write_image, write_plate, zip_folder

NAME = "cells.ome.zarr"
needs_http = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="http:// needs aiohttp"
)
needs_s3 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto", "flask")),
    reason="s3:// needs s3fs, and moto's server to talk to",
)


def open_one(target, **options) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def open_tree(target, **options) -> xr.DataTree:
    return xr.open_datatree(target, engine="hfzarr", **options)


def check(target, **options) -> None:
    """Both faces open the target, and find in it what `write_image` wrote."""
    dataset = open_one(target, **options)
    assert dataset.image.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(dataset.image, pixels())
    np.testing.assert_array_equal(dataset.y, np.arange(32) * 0.5)
    assert list(dataset.c.values) == ["DAPI", "GFP"]
    assert dataset.attrs["name"] == "cells"
    tree = open_tree(target, **options)
    assert sorted(tree.children) == ["0", "1", "2", "labels"]
    np.testing.assert_array_equal(tree["2/image"], pixels(2))
    label = tree["labels/nuclei/1/labels"]
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, pixels(1, (4, 32, 48), "int32"))
    dataset.close()
    tree.close()


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """A folder with a consolidated OME-Zarr 0.5 store in it."""
    folder = tmp_path_factory.mktemp("disk")
    write_image(LocalStore(folder / NAME))
    return folder


@pytest.fixture
def memory_url(disk):
    """Folder of fsspec's memory file system, with the same store in it."""
    fs = fsspec.filesystem("memory")
    base = "/test-targets"
    for file in disk.rglob("*"):
        if file.is_file():
            fs.pipe(f"{base}/{file.relative_to(disk).as_posix()}", file.read_bytes())
    yield f"memory:/{base}"
    fs.rm(base, recursive=True)


@pytest.fixture(scope="module")
def http_url(disk):
    with http_server(disk) as (url, _):
        yield url


@pytest.fixture(scope="module")
def s3_options(disk):
    with s3_server() as options:
        fs = fsspec.filesystem("s3", **options)
        fs.mkdir("images")
        fs.put(str(disk / NAME), f"images/{NAME}", recursive=True)
        yield options


# --- places on this machine ----------------------------------------------------------------------


def test_path(disk):
    check(disk / NAME)
    check(str(disk / NAME))


def test_trailing_slash(disk):
    check(f"{disk / NAME}/")
    check(f"{disk / NAME}///")


def test_path_with_dots(disk):
    check(f"{disk}/./nowhere/../{NAME}")


def test_relative_path(disk, monkeypatch):
    monkeypatch.chdir(disk)
    check(NAME)
    check(Path(NAME))
    check(f"./{NAME}/")


def test_relative_path_outlives_a_change_of_folder(disk, tmp_path, monkeypatch):
    monkeypatch.chdir(disk)
    dataset = open_one(NAME)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(dataset.image, pixels())


def test_home(disk, monkeypatch):
    monkeypatch.setenv("HOME", str(disk))
    check(f"~/{NAME}")
    check(Path("~") / NAME)


def test_file_url(disk):
    check((disk / NAME).as_uri())
    check(f"file://{disk / NAME}/")
    check(f"local://{disk / NAME}")


@pytest.mark.parametrize("name", ["a b", "größe µm", "50%", "a#b", "c[1]", "x+y", "$HOME"])
def test_odd_folder_names(disk, tmp_path, name):
    folder = tmp_path / f"{name}.zarr"
    shutil.copytree(disk / NAME, folder)
    check(folder)
    check(folder.as_uri())


def test_symbolic_link(disk, tmp_path):
    (tmp_path / "link").symlink_to(disk / NAME)
    check(tmp_path / "link")


def test_folder_that_is_called_zip(disk, tmp_path):
    shutil.copytree(disk / NAME, tmp_path / "odd.zip")
    check(tmp_path / "odd.zip")


# --- zips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zarr.zip", "a.ozx", "a.zip", "a.ZIP", "a.dat"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(disk, tmp_path, name, compression):
    path = zip_folder(disk / NAME, tmp_path / name, compression=compression)
    check(path)
    check(path.as_uri())


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_sharded_zip(tmp_path, zarr_format):
    shards = (2, 4, 32, 16) if zarr_format == 3 else None
    write_image(LocalStore(tmp_path / "a"), zarr_format=zarr_format, shards=shards)
    check(zip_folder(tmp_path / "a", tmp_path / "a.ozx"))


def test_zip_with_a_root_folder(disk, tmp_path):
    path = zip_folder(disk / NAME, tmp_path / "a.zarr.zip", root=f"{NAME}/")
    with pytest.warns(RepairWarning, match=NAME):
        dataset = open_one(path)
    np.testing.assert_array_equal(dataset.image, pixels())
    (repair,) = dataset.hfzarr.diagnose().repairs
    assert NAME in repair.found
    with pytest.raises(InvalidMetadataError, match="root of the zip"):
        open_one(path, on_invalid="raise")
    with pytest.raises(InvalidMetadataError, match="root of the zip"):
        open_tree(path, on_invalid="raise")


def test_zip_by_zarr_python(tmp_path):
    with ZipStore(tmp_path / "a.zip", mode="w") as store:
        write_image(store, consolidated=False, labels=())
    np.testing.assert_array_equal(open_one(tmp_path / "a.zip").image, pixels())


def test_zip_is_closed_with_its_dataset(disk, tmp_path):
    path = zip_folder(disk / NAME, tmp_path / "a.zip")
    dataset = open_one(path)
    dataset.image[0, 0].load()
    opened = Path("/proc/self/fd")
    if opened.is_dir():
        assert _holds(opened, path)
    dataset.close()
    if opened.is_dir():
        assert not _holds(opened, path)


def _holds(opened: Path, path: Path) -> bool:
    links = [fd for fd in opened.iterdir() if fd.is_symlink()]
    return any(os.path.realpath(fd) == str(path.resolve()) for fd in links)


@needs_http
def test_remote_zip(disk, tmp_path, memory_url):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = zip_folder(disk / NAME, tmp_path / "a.zarr.zip", compression=compression)
        fsspec.filesystem("memory").pipe("/test-targets/a.zarr.zip", path.read_bytes())
        check(f"{memory_url}/a.zarr.zip")
        with http_server(tmp_path) as (url, _):
            check(f"{url}/a.zarr.zip")
            check(f"{url}/a.zarr.zip?token=secret")


# --- URLs ----------------------------------------------------------------------------------------


def test_memory_url(memory_url):
    check(f"{memory_url}/{NAME}")
    check(f"{memory_url}/{NAME}/")


@needs_http
def test_http_url(http_url):
    check(f"{http_url}/{NAME}")
    check(f"{http_url}/{NAME}/")


@needs_http
def test_plain_group_over_http(tmp_path):
    write_cf(LocalStore(tmp_path / "a.zarr"))
    with http_server(tmp_path) as (url, _):
        here, there = open_one(tmp_path / "a.zarr"), open_one(f"{url}/a.zarr")
        xr.testing.assert_identical(here, there)
        xr.testing.assert_identical(open_tree(f"{url}/a.zarr").to_dataset(), here)


@needs_s3
def test_s3_url(s3_options):
    check(f"s3://images/{NAME}", storage_options=s3_options)
    check({"path": f"s3://images/{NAME}"}, storage_options=s3_options)
    check(f"s3://images/{NAME}/", storage_options=s3_options, consolidated=False)


@needs_s3
def test_missing_on_s3(s3_options):
    for missing in ("s3://images/none.zarr", "s3://no-such-bucket/a.zarr", "s3://images/a.zip"):
        with pytest.raises(StoreNotFoundError, match="there is no"):
            open_one(missing, storage_options=s3_options)


# --- objects -------------------------------------------------------------------------------------


def test_local_store(disk):
    check(LocalStore(disk / NAME))
    check(LocalStore(disk / NAME, read_only=True))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_memory_store(zarr_format, consolidated):
    check(write_image(MemoryStore(), zarr_format=zarr_format, consolidated=consolidated))


def test_zip_store(disk, tmp_path):
    path = zip_folder(disk / NAME, tmp_path / "a.zip")
    check(ZipStore(path, mode="r"))


def test_fsspec_store(memory_url):
    check(FsspecStore.from_url(f"{memory_url}/{NAME}", read_only=True))


def test_wrapper_store(disk):
    check(WrapperStore(LocalStore(disk / NAME)))


def test_group_object(disk):
    check(zarr.open_group(disk / NAME, mode="r"))


def test_store_path(disk):
    check(StorePath(LocalStore(disk), NAME))


def test_group_and_array_below(disk):
    root = zarr.open_group(disk / NAME, mode="r")
    label = open_one(root["labels/nuclei"])
    np.testing.assert_array_equal(label.labels, pixels(0, (4, 32, 48), "int32"))
    array = open_one(root["1"])
    assert list(array.data_vars) == ["1"]
    np.testing.assert_array_equal(array["1"], pixels(1))


def test_group_object_and_group(disk):
    labels = zarr.open_group(disk / NAME, mode="r", path="labels")
    assert list(open_one(labels, group="nuclei").data_vars) == ["labels"]


def test_mapper(memory_url, disk):
    check(fsspec.get_mapper(f"{memory_url}/{NAME}"))
    check(fsspec.get_mapper(str(disk / NAME)))


def test_dict_of_bytes(disk):
    root = disk / NAME
    files = [file for file in root.rglob("*") if file.is_file()]
    check({file.relative_to(root).as_posix(): file.read_bytes() for file in files})


def test_dict_of_buffers():
    store = write_image(MemoryStore(), zarr_format=2)
    check(store._store_dict)


def test_row_of_a_table(disk, memory_url):
    check({"path": str(disk / NAME)})
    check({"path": disk / NAME, "bytes": None})
    check({"path": f"{memory_url}/{NAME}", "storage_options": {}})


def test_xarrays_own_store(disk):
    store = xr.backends.ZarrStore.open_group(disk / NAME, mode="r")
    check(store.zarr_group)


# --- parts of a store ----------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["labels/nuclei", "/labels/nuclei/", "labels//nuclei"])
def test_group(disk, group):
    dataset = open_one(disk / NAME, group=group)
    np.testing.assert_array_equal(dataset.labels, pixels(0, (4, 32, 48), "int32"))
    assert list(open_tree(disk / NAME, group=group).children) == ["0", "1", "2"]


@pytest.mark.parametrize("group", [None, "", "/", "labels/.."])
def test_root_group(disk, group):
    check(disk / NAME, group=group)


def test_group_that_is_an_array(disk):
    dataset = open_one(disk / NAME, group="labels/nuclei/2")
    assert list(dataset.data_vars) == ["2"]
    assert dataset["2"].dims == ("z", "y", "x")
    assert dataset["2"].dtype == np.int32


def test_path_into_a_store(disk):
    """A path may go on into the store, as for every Zarr reader."""
    dataset = open_one(disk / NAME / "labels" / "nuclei")
    np.testing.assert_array_equal(dataset.labels, pixels(0, (4, 32, 48), "int32"))
    assert open_one(f"{disk / NAME}/1")["1"].shape == (2, 4, 16, 24)


def test_plate_in_a_zip(tmp_path):
    write_plate(LocalStore(tmp_path / "p"))
    path = zip_folder(tmp_path / "p", tmp_path / "p.zarr.zip")
    xr.testing.assert_identical(open_one(path).load(), open_one(tmp_path / "p").load())


# --- pickling ------------------------------------------------------------------------------------


def lazy_targets(disk: Path, tmp_path: Path, memory_url: str) -> dict:
    return {
        "folder": disk / NAME,
        "zip": zip_folder(disk / NAME, tmp_path / "a.zip"),
        "memory url": f"{memory_url}/{NAME}",
        "memory store": write_image(MemoryStore(), zarr_format=2),
        "local store": LocalStore(disk / NAME),
        "fsspec store": FsspecStore.from_url(f"{memory_url}/{NAME}", read_only=True),
        "mapper": fsspec.get_mapper(f"{memory_url}/{NAME}"),
    }


def test_pickle(disk, tmp_path, memory_url):
    for kind, target in lazy_targets(disk, tmp_path, memory_url).items():
        before = open_one(target)
        after = pickle.loads(pickle.dumps(before))
        assert not after.image.variable._in_memory, kind
        xr.testing.assert_identical(after, before)
        assert after.hfzarr.diagnose() == before.hfzarr.diagnose(), kind
        tree = pickle.loads(pickle.dumps(open_tree(target)))
        np.testing.assert_array_equal(tree["1/image"], pixels(1))


def test_pickles_are_small(disk):
    """A lazy Dataset pickles to where its bytes lie, not to the bytes."""
    assert len(pickle.dumps(open_one(disk / NAME).drop_vars(["c", "z", "y", "x"]))) < 8_000


def test_cluster(disk, tmp_path):
    """Workers in other processes read from where the store lies."""
    distributed = pytest.importorskip("distributed", reason="needs dask's distributed scheduler")
    write_plate(LocalStore(tmp_path / "plate"))
    targets = [disk / NAME, zip_folder(disk / NAME, tmp_path / "a.zip")]
    with http_server(disk) as (url, _):
        if importlib.util.find_spec("aiohttp") is not None:
            targets.append(f"{url}/{NAME}")
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
            ) as cluster,
            distributed.Client(cluster),
        ):
            for target in targets:
                lazy = open_one(target, chunks={}).image
                assert int(lazy.sum()) == int(pixels().sum())
            plate = open_one(tmp_path / "plate", chunks={})
            assert int(plate.image.sum()) == int(open_one(tmp_path / "plate").image.sum())


def test_what_is_here_is_a_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a::b.zarr").mkdir()
    assert locate("a::b.zarr").url == str(tmp_path / "a::b.zarr")
    assert locate("c::d.zarr").kind == "url"


@pytest.mark.parametrize("part", [None, 3, b"x"])
def test_a_path_in_a_store_is_text(part) -> None:
    with pytest.raises(TargetError, match="a path in a store is text"):
        join_path("a", part)
