"""Rewriting a store over a network: from HTTP and S3, to S3, with many requests under way."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import fsspec
import pytest
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from counting import CountingStore
from hfzarr.errors import ChangedSourceError, HfzarrError, ReadError, TargetError, WriteError
from hfzarr.faces.reshard import reshard
from hfzarr.store.sink import WORK
from reshard_faults import (
    ROUTES,
    Runner,
    at_task,
    begun_twice,
    check_complete,
    noted,
    stopped_after,
    write_source,
)
from servers import http_server, s3_server

routes = pytest.mark.parametrize("route", ROUTES)
needs_s3 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto", "flask")),
    reason="s3:// needs s3fs, and moto's server to talk to",
)
#: A file for an object store is in memory until it is whole, so a task must hold more there, and
#: no array can be repacked with so little as makes the other one be rechunked.
MEMORY = {"rechunk": {"max_memory": "70 kB"}}
ARRAYS = {"repack": "ab", "transcode": "ab", "rechunk": "a"}


def wishes(route: str) -> dict[str, Any]:
    return {**ROUTES[route], **MEMORY.get(route, {})}


@pytest.fixture(scope="module")
def s3():
    with s3_server() as options:
        fs = fsspec.filesystem("s3", **options)
        fs.mkdir("stores")
        yield options


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out.zarr"


@pytest.fixture
def notes(tmp_path) -> Path:
    (tmp_path / "notes").touch()
    return tmp_path / "notes"


def keys_of(url: str, options: dict[str, Any]) -> list[str]:
    fs = fsspec.filesystem("s3", **options)
    fs.invalidate_cache()
    root = url.removeprefix("s3://")
    try:
        return sorted(key.removeprefix(f"{root}/") for key in fs.find(root))
    except FileNotFoundError:
        return []


def check_s3(url: str, options: dict[str, Any], arrays: str = "ab") -> None:
    check_complete(url, arrays, storage_options=options)
    assert not any(WORK in key for key in keys_of(url, options))


@routes
@needs_s3
def test_from_a_folder_to_s3_and_back(s3, tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route, ARRAYS[route])
    url = f"s3://stores/{route}-there.zarr"
    reshard(source, url, **wishes(route), target_options=s3, progress=False, verify="full")
    check_s3(url, s3, ARRAYS[route])
    reshard(url, out, storage_options=s3, progress=False, verify="full")
    check_complete(out, ARRAYS[route])


@needs_s3
def test_from_s3_to_s3(s3, tmp_path):
    source = "s3://stores/in.zarr"
    fs = fsspec.filesystem("s3", **s3)
    fs.put(str(write_source(tmp_path / "in.zarr")), "stores/in.zarr", recursive=True)
    target = "s3://stores/out.zarr"
    options = {"storage_options": s3, "target_options": s3, "progress": False}
    reshard(source, target, **ROUTES["transcode"], **options)
    check_s3(target, s3)
    with pytest.raises(TargetError):
        reshard(source, target, shard={"z": 16}, **options)
    check_s3(target, s3)


@routes
def test_from_http(tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    with http_server(source) as (url, asked):
        reshard(url, out, **ROUTES[route], progress=False, verify=False)
        # What is absent is asked for twice, as not every server answers HEAD.
        there = [path for path in asked if (source / path[1:]).exists()]
        chunks = [path for path in there if "/c/" in path]
    check_complete(out)
    assert len(chunks) == len(set(chunks)), "a chunk was fetched more than once"


@pytest.mark.parametrize("client", [None, "serial"])
@routes
def test_requests_under_way_at_once(tmp_path, out, route, client):
    store = CountingStore(LocalStore(write_source(tmp_path / "in.zarr", route)), delay=0.005)
    reshard(store, out, **ROUTES[route], client=client, progress=False, verify=False)
    check_complete(out)
    assert store.most >= 8


def test_requests_under_way_at_once_from_shards(tmp_path, out):
    inner = write_source(tmp_path / "in.zarr")
    reshard(inner, tmp_path / "sharded.zarr", shard={"z": 4, "y": 64, "x": 64}, progress=False)
    store = CountingStore(LocalStore(tmp_path / "sharded.zarr"), delay=0.005)
    reshard(store, out, shard={"z": 16, "y": 64, "x": 64}, client="serial", progress=False)
    check_complete(out)
    keys = [key for key in store.chunks if key.startswith("a/")]
    # An index and one range for each of four shards, and as much again to compare them.
    assert len(keys) <= 4 * 2 * 3


# --- faults --------------------------------------------------------------------------------------


class FailingStore(WrapperStore):
    """Refuses to give, or to take, after so many chunks."""

    def __init__(self, store, gets=10**9, sets=10**9, error="connection reset") -> None:
        super().__init__(store)
        self.gets, self.sets, self.error = gets, sets, error

    async def get(self, key, prototype, byte_range=None):
        if "c/" in key and WORK not in key:
            self.gets -= 1
            if self.gets < 0:
                raise OSError(self.error)
        return await self._store.get(key, prototype, byte_range)

    async def set(self, key, value):
        if "c/" in key and WORK not in key:
            self.sets -= 1
            if self.sets < 0:
                raise OSError(self.error)
        await self._store.set(key, value)


@routes
def test_a_source_that_refuses(tmp_path, out, notes, route):
    source = write_source(tmp_path / "in.zarr", route, ARRAYS[route])
    store = FailingStore(LocalStore(source), gets=8)
    with noted(notes):
        with pytest.raises(ReadError, match=r"array 'a', shard 'a/c/.*connection reset"):
            reshard(store, out, **ROUTES[route], progress=False)
        assert not (out / "zarr.json").exists()
        store.gets = 10**9
        reshard(store, out, **ROUTES[route], progress=False)
    check_complete(out, ARRAYS[route])
    assert begun_twice(notes) == []


@routes
def test_a_target_that_refuses(tmp_path, notes, route):
    source = write_source(tmp_path / "in.zarr", route, ARRAYS[route])
    target = FailingStore(MemoryStore(), sets=3)
    with noted(notes):
        with pytest.raises(WriteError, match=r"array '[ab]', shard '.*connection reset"):
            reshard(source, target, **wishes(route), progress=False)
        assert "zarr.json" not in target._store._store_dict
        target.sets = 10**9
        reshard(source, target, **wishes(route), progress=False)
    check_complete(target._store, ARRAYS[route])
    assert begun_twice(notes) == []
    assert not any(WORK in key for key in target._store._store_dict)


@pytest.mark.parametrize("route", ["repack", "rechunk"])
@needs_s3
def test_killed_while_it_writes_to_s3(s3, tmp_path, notes, route):
    source = write_source(tmp_path / "in.zarr", route, ARRAYS[route])
    url = f"s3://stores/{route}-killed.zarr"
    args = {"source": str(source), "target": url, "target_options": s3, **wishes(route)}
    runner = Runner()
    try:
        for begun in (2, 6):
            job = {"notes": str(notes), "delay": 0.02, "kill_begun": begun, "kill_after": 0.02}
            assert runner.run(args=args, **job) == {}
            keys = keys_of(url, s3)
            if "zarr.json" in keys:
                check_complete(url, ARRAYS[route], storage_options=s3)
        done = runner.run(args=args, notes=str(notes))
    finally:
        runner.close()
    assert "tasks" in done, done
    check_s3(url, s3, ARRAYS[route])
    assert begun_twice(notes) == []


@needs_s3
def test_a_run_on_s3_goes_on(s3, tmp_path, notes):
    source = write_source(tmp_path / "in.zarr")
    url = "s3://stores/goes-on.zarr"
    args = {"target_options": s3, "progress": False, **ROUTES["repack"]}
    with noted(notes):
        stopped_after(7, source, url, **args)
        other = {**args, "shard": {"z": 16, "y": 64, "x": 64}}
        with pytest.raises(TargetError, match="unfinished run of another plan"):
            reshard(source, url, **other)
        fsspec.filesystem("s3", **s3).rm_file("stores/goes-on.zarr/a/c/0/0/0")
        done = reshard(source, url, **args)
    assert done.tasks == done.plan.tasks - 6
    check_s3(url, s3)


@needs_s3
def test_a_source_on_s3_that_changes(s3, tmp_path, out):
    fs = fsspec.filesystem("s3", **s3)
    fs.put(str(write_source(tmp_path / "in.zarr")), "stores/changes.zarr", recursive=True)
    args = {"storage_options": s3, "progress": False, **ROUTES["repack"]}
    stopped_after(5, "s3://stores/changes.zarr", out, **args)
    data = fs.cat("stores/changes.zarr/a/c/0/0/0")
    fs.pipe("stores/changes.zarr/a/c/0/0/0", data[:-1] + b"!")
    with pytest.raises(ChangedSourceError, match="resume=False"):
        reshard("s3://stores/changes.zarr", out, **args)
    assert not (out / "zarr.json").exists()


@needs_s3
def test_a_source_on_s3_that_vanishes(s3, tmp_path, out):
    fs = fsspec.filesystem("s3", **s3)
    fs.put(str(write_source(tmp_path / "in.zarr")), "stores/vanishes.zarr", recursive=True)
    vanish = lambda: fs.rm("stores/vanishes.zarr", recursive=True)  # noqa: E731
    args = {"storage_options": s3, "progress": False, "client": "serial", **ROUTES["repack"]}
    with at_task(5, vanish), pytest.raises(ReadError, match="is not there, or no longer"):
        reshard("s3://stores/vanishes.zarr", out, **args, verify=False)
    assert not (out / "zarr.json").exists()


@needs_s3
def test_chunks_on_s3_that_vanish(s3, tmp_path, out):
    fs = fsspec.filesystem("s3", **s3)
    fs.put(str(write_source(tmp_path / "in.zarr")), "stores/chunks.zarr", recursive=True)
    vanish = lambda: fs.rm("stores/chunks.zarr/a/c", recursive=True)  # noqa: E731
    args = {"storage_options": s3, "progress": False, "client": "serial", **ROUTES["repack"]}
    with at_task(5, vanish), pytest.raises(ChangedSourceError, match="array 'a'"):
        reshard("s3://stores/chunks.zarr", out, **args, verify=False)
    assert not (out / "zarr.json").exists()


def test_a_server_that_stops(tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    with http_server(source) as (url, _):
        stopped_after(5, url, out, **ROUTES["repack"])
    with pytest.raises(HfzarrError):
        reshard(url, out, **ROUTES["repack"], progress=False)
    assert not (out / "zarr.json").exists()
