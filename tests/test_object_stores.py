"""Stores in buckets and on web servers: the right bytes, and few requests."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hfzarr.errors import ReadError
from hfzarr.store.objects import client as object_client
from hfzarr.store.objects.source import ObjectSource
from hfzarr.store.ranges import fetch_merged
from objectservers import (
    DATA,
    ODD,
    Server,
    failing,
    fsspec_source,
    needs_obstore,
    needs_s3,
    of_folder,
    open_source,
    serving,
    whole,
)
from objectservers import moto as moto
from objectservers import no_login as no_login
from objectservers import server as server
from objectservers import source as source
from stores import write_image

pytestmark = needs_obstore

# --- ranges ---------------------------------------------------------------------------------------

RANGES = [
    None,
    (0, 10),
    (3, 4),
    (1000, 1024),
    (1000, 5000),
    (-7, None),
    (-9999, None),
    (1017, None),
]


@pytest.mark.parametrize("wanted", RANGES, ids=str)
def test_a_range_is_what_was_asked_for(source: ObjectSource, wanted: Any) -> None:
    expected = DATA if wanted is None else DATA[wanted[0] : wanted[1]]
    assert source.get("x", wanted) == expected
    assert asyncio.run(source.get_async("x", wanted)) == expected
    buffer = bytearray(2000)
    assert source.read_into("x", memoryview(buffer), wanted) == len(expected)
    assert bytes(buffer[: len(expected)]) == expected


def test_what_is_absent_or_empty(source: ObjectSource) -> None:
    assert source.get("y") is None
    assert source.get("y", (0, 4)) is None
    assert source.get("y", (4, 4)) is None
    assert source.get("x", (4, 4)) == b""
    assert source.get("x", (4096, 4100)) == b""
    assert source.sizes(["x", "y"]) == [1024, None]
    assert source.probe(["y", "x"]) == [None, DATA]
    assert source.usage("") is None


def test_stamps_are_those_of_fsspec(server: Server) -> None:
    """A process that was forked has only those, and must not take an object for another."""
    url = f"{server.url}/lab/a.zarr"
    if "Last-Modified" not in fsspec.filesystem("http").info(f"{url}/x"):
        pytest.skip("this fsspec does not tell times of web servers")
    assert open_source(url).stamps(["x", "y"]) == fsspec_source(url).stamps(["x", "y"])
    server.faults = [lambda handler, answer: answer.headers.pop("Last-Modified", None) and None]
    assert open_source(url).stamps(["x", "y"]) == fsspec_source(url).stamps(["x", "y"])
    server.faults = [lambda handler, answer: answer.headers.pop("ETag", None) and None]
    assert open_source(url).stamps(["x", "y"]) == fsspec_source(url).stamps(["x", "y"])
    server.faults = [failing(403)]
    with pytest.raises(ReadError):
        open_source(url).stamps(["x"])


def test_near_ranges_are_one_request(server: Server) -> None:
    source = open_source(f"{server.url}/lab/a.zarr")
    asked = [("x", (10, 20)), ("x", (100, 200)), ("y", None), ("x", (0, 5)), ("y", None)]
    found = source.get_many(asked)
    assert found == [DATA[10:20], DATA[100:200], None, DATA[:5], None]
    assert len(server.asked) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.one_of(
                st.none(),
                st.tuples(st.integers(-400_000, -1), st.none()),
                st.tuples(st.integers(0, 400_000), st.integers(0, 400_000)).map(
                    lambda pair: (min(pair), max(pair))
                ),
            ),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_merged_replies_are_those_of_single_requests(requests: Any) -> None:
    data = {"a": os.urandom(300_000)}

    async def get(key: str, wanted: Any) -> bytes | None:
        found = data.get(key)
        return found if found is None or wanted is None else found[wanted[0] : wanted[1]]

    async def single() -> list[bytes | None]:
        return [await get(*request) for request in requests]

    assert asyncio.run(fetch_merged(requests, get)) == asyncio.run(single())


# --- s3 -------------------------------------------------------------------------------------------


def test_s3_is_what_fsspec_says(moto: dict[str, Any]) -> None:
    source, plain = open_source("s3://lab/s.zarr", moto), fsspec_source("s3://lab/s.zarr", moto)
    for key in [*ODD, "empty", "none"]:
        for wanted in (None, (3, 9), (-4, None), (5, None)):
            expected = plain.get(key)
            if expected is not None and wanted is not None:
                expected = expected[wanted[0] : wanted[1]]
            assert source.get(key, wanted) == expected, (key, wanted)
    keys = [*ODD, "empty", "none"]
    assert source.sizes(keys) == plain.sizes(keys)
    assert source.stamps(keys) == plain.stamps(keys)
    assert source.list_dir("a") == plain.list_dir("a")
    assert source.list_files("a") == plain.list_files("a")
    assert source.list_many(["", "a/y", "none"]) == [["a", "empty"], ["z"], []]


def test_a_bucket_that_is_not_there(moto: dict[str, Any]) -> None:
    assert open_source("s3://nothing/s.zarr", moto).get("zarr.json") is None


# --- processes ------------------------------------------------------------------------------------


def _read(source: ObjectSource, answers: Any) -> None:
    answers.put([source.get("x", (10, 20)), object_client.is_served_here()])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_reads_by_fsspec(server: Server) -> None:
    """obstore's threads are not there, and it would wait for them for ever."""
    source = open_source(f"{server.url}/lab/a.zarr")
    assert source.get("x") == DATA
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_read, args=(source, answers))
    child.start()
    child.join(30)
    if child.exitcode is None:
        child.kill()
        pytest.fail("the forked process waits for ever")
    assert answers.get() == [DATA[10:20], False]


def test_fsspec_does_not_take_all_for_a_part(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"{server.url}/lab/a.zarr")
    monkeypatch.setattr(object_client, "_HOME", -1)
    server.faults = [whole]
    for wanted in ((10, 20), (-8, None)):
        with pytest.raises(ReadError, match=r"asked for, and 1024 came.*range requests"):
            source.get("x", wanted)
    assert source.get("x") == DATA


def test_many_threads_of_many_loops(server: Server) -> None:
    source = open_source(f"{server.url}/lab/a.zarr")
    found: list[Any] = []

    async def several() -> None:
        found.extend(await asyncio.gather(*[source.get_async("x", (n, n + 9)) for n in range(20)]))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [DATA[n : n + 9] for n in range(20)] * 4


# --- whole stores ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of a store of 64 KiB inner chunks in 2 MiB shards, and one with holes."""
    folder = tmp_path_factory.mktemp("bucket") / "lab"
    data = np.random.default_rng(0).integers(0, 2**16, (1024, 2048), dtype="uint16")
    array = zarr.create_array(
        folder / "a.zarr", shape=data.shape, dtype=data.dtype, chunks=(128, 256),
        shards=(512, 2048), compressors=None, dimension_names=("y", "x"),
    )  # fmt: skip
    array[...] = data
    sparse = zarr.create_array(
        folder / "sparse.zarr", shape=(512, 512), dtype="uint8", chunks=(64, 64),
        dimension_names=("y", "x"), fill_value=7,
    )  # fmt: skip
    sparse[:64, :64] = 1
    return folder.parent


@pytest.fixture(params=["http", "s3"])
def bucket(request: Any, sharded: Path) -> Iterator[tuple[str, dict[str, Any], Server]]:
    with serving(of_folder(sharded)) as server:
        if request.param == "http":
            yield f"{server.url}/lab", {}, server
        else:
            yield "s3://lab", {"anon": True, "endpoint_url": server.url}, server


def test_four_more_inner_chunks_are_four_requests(bucket: Any, sharded: Path) -> None:
    place, options, server = bucket
    expected = zarr.open_array(sharded / "lab/a.zarr", mode="r")[...]
    ds = xr.open_dataset(f"{place}/a.zarr", engine="hfzarr", storage_options=options)
    (name,) = ds.data_vars
    assert np.array_equal(ds[name][:128, :256], expected[:128, :256])
    del server.asked[:]
    for n in range(4):
        window = slice(128 * n, 128 * n + 128), slice(512, 768)
        assert np.array_equal(ds[name][window], expected[window])
    assert len(server.asked) == 4
    # Neighbours in the shard come at once.
    assert np.array_equal(ds[name][:256, 1024:1536], expected[:256, 1024:1536])
    assert len(server.asked) == 5


def test_absent_chunks_hold_the_fill_value(bucket: Any) -> None:
    """Nobody listed the store, so that each is asked for, all at once."""
    place, options, server = bucket
    ds = xr.open_dataset(f"{place}/sparse.zarr", engine="hfzarr", storage_options=options)
    (name,) = ds.data_vars
    del server.asked[:]
    values = ds[name].values
    assert values[:64, :64].max() == 1
    assert (values[64:] == 7).all()
    assert len(server.asked) == 64


@needs_s3
def test_an_image_in_a_bucket(moto: dict[str, Any], tmp_path: Path) -> None:
    """All that the engine does with a store, on s3 as in a folder."""
    import fsspec
    from zarr.storage import LocalStore

    write_image(LocalStore(tmp_path / "cells.zarr"), consolidated=False)
    fsspec.filesystem("s3", **moto).put(
        str(tmp_path / "cells.zarr"), "lab/cells.zarr", recursive=True
    )
    there = xr.open_datatree("s3://lab/cells.zarr", engine="hfzarr", storage_options=moto)
    here = xr.open_datatree(str(tmp_path / "cells.zarr"), engine="hfzarr")
    assert there.groups == here.groups
    for group in here.groups:
        xr.testing.assert_equal(there[group].to_dataset().load(), here[group].to_dataset().load())
