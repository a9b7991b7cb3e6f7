"""Patches on their way: streams, errors, passes that are not the first, and many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore, MemoryStore

from counting import CountingStore
from hfzarr.errors import ReadError, TargetError
from hfzarr.run.share import SharedBlocks
from patch_strategies import check
from stores import write_image


def plane() -> xr.Dataset:
    return xr.Dataset({"a": (("y", "x"), np.arange(6 * 8, dtype="f4").reshape(6, 8))})


def open_one(store) -> xr.Dataset:
    return xr.open_dataset(store, engine="hfzarr")


def test_a_stream_gives_what_dask_gives():
    dataset = open_one(write_image(MemoryStore()))
    lazy = dataset.hfzarr.patches({"y": 8, "x": 8}, stride=6, edge="pad", max_memory="100 kB")
    groups = list(lazy.hfzarr.stream(ahead=2))
    assert len(groups) == lazy.image.data.npartitions > 3
    whole = lazy.compute()
    for group in groups:
        assert isinstance(group.image.data, np.ndarray)
        xr.testing.assert_identical(group, whole.sel(patch=group.patch))
    assert sum(group.sizes["patch"] for group in groups) == whole.sizes["patch"]
    plain = list(lazy.hfzarr.stream(to="numpy"))
    for arrays, group in zip(plain, groups, strict=True):
        np.testing.assert_array_equal(arrays["image"], group.image.values)
        np.testing.assert_array_equal(arrays["patch"], group.patch.values)
        starts = np.stack([group.y_start.values, group.x_start.values], axis=1)
        np.testing.assert_array_equal(arrays["start"], starts)
    with pytest.raises(TargetError, match="'xarray' or 'numpy', not 'torch'"):
        lazy.hfzarr.stream(to="torch")


@pytest.mark.parametrize("ahead", [1, 100])
def test_a_stream_may_be_left_early(ahead):
    """What was planned ahead and not begun is not read any more."""
    store = CountingStore(write_image(MemoryStore(), levels=1), 0.02)
    dataset = open_one(store)
    store.forget()
    lazy = dataset.hfzarr.patches({"c": 1, "z": 1, "y": 16, "x": 16}, max_memory=1)
    assert lazy.image.data.npartitions == 2 * 4 * 2 * 3
    stream = lazy.hfzarr.stream(ahead=ahead)
    next(stream)
    stream.close()
    assert 0 < len(set(store.chunks)) < 24


@pytest.mark.parametrize(
    "change",
    [
        lambda patches: patches.isel(patch=[0]),
        lambda patches: patches.isel(patch=[1, 0]),
        lambda patches: patches.isel(x=[0]),
        lambda patches: patches * 2,
        lambda patches: patches.assign(a=patches.a * 2),
        lambda patches: plane(),
    ],
)
def test_what_cannot_be_streamed(change):
    """What was computed from patches must not be streamed as if nothing had been."""
    changed = change(plane().hfzarr.patches({"x": 4}))
    with pytest.raises(TargetError, match=r"as patches\(\) or random_patches\(\) returned it"):
        changed.hfzarr.stream()


@pytest.mark.parametrize("run", ["dask", "stream"])
def test_a_damaged_chunk_is_told_and_may_be_repaired(tmp_path, run):
    """A task that fails leaves nothing behind that a later one would trip over."""
    write_image(LocalStore(tmp_path), levels=1, labels=())
    lazy = open_one(tmp_path).hfzarr.patches({"y": 8, "x": 8}, stride=4, max_memory="200 kB")
    file = tmp_path / "0/c/1/1/1/1"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match="0"):
        list(lazy.hfzarr.stream()) if run == "stream" else lazy.compute(scheduler="threads")
    file.write_bytes(whole)
    check(open_one(tmp_path), lazy.compute(scheduler="threads"))


def test_an_error_is_not_kept_for_others(tmp_path):
    """Of two groups that share a chunk, one fails; the other comes when it is repaired."""
    write_image(LocalStore(tmp_path), levels=1, labels=())
    lazy = open_one(tmp_path).hfzarr.patches({"y": 8, "x": 8}, stride=4, max_memory="100 kB")
    over = (lazy.y_start > 8) & (lazy.y_start < 32) & (lazy.x_start > 8) & (lazy.x_start < 32)
    one, other = np.flatnonzero(over)[[0, -1]]
    stops = np.cumsum(lazy.image.data.chunks[0])
    assert np.searchsorted(stops, one, "right") < np.searchsorted(stops, other, "right")
    file = tmp_path / "0/c/1/1/1/1"
    whole = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(ReadError):
        lazy.isel(patch=[one]).compute(scheduler="sync")
    file.write_bytes(whole)
    check(open_one(tmp_path), lazy.isel(patch=[other]).compute(scheduler="sync"))


def test_a_second_pass_reads_anew(tmp_path):
    """What some patches left for the others is not what was written since."""
    write_image(LocalStore(tmp_path), levels=1, labels=())
    lazy = open_one(tmp_path).hfzarr.patches({"y": 8, "x": 8}, stride=4, max_memory="200 kB")
    some = lazy.isel(patch=[5])
    before = some.compute()
    zarr.open_array(tmp_path, path="0", mode="r+")[...] = 9
    assert (before.image != 9).any()
    assert (some.compute().image == 9).all()


def test_many_threads_compute_the_same_patches():
    """They share what is decoded, and none waits for another forever."""
    dataset = open_one(CountingStore(write_image(MemoryStore(), levels=1), 0.001))
    lazy = dataset.hfzarr.patches({"y": 8, "x": 8}, stride=4, max_memory="200 kB")
    wanted = dataset.load().hfzarr.patches({"y": 8, "x": 8}, stride=4).compute()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: lazy.compute(scheduler="threads"), range(8), timeout=60):
            np.testing.assert_array_equal(found.image, wanted.image)


def test_what_is_decoded_is_let_go():
    """All of it after all patches; what waits for the others, within the limit, after some."""
    dataset = open_one(write_image(MemoryStore(), levels=1))
    lazy = dataset.hfzarr.patches({"y": 8, "x": 8}, stride=4, max_memory="200 kB")
    graph = dict(lazy.image.data.dask).values()
    values = [getattr(task, "value", task) for task in graph]
    (shared,) = (value for value in values if isinstance(value, SharedBlocks))
    for _ in range(2):
        lazy.compute(scheduler="threads")
        assert shared.nbytes == 0
    for _ in range(2):
        lazy.isel(patch=[5]).compute(scheduler="sync")
        assert 0 < shared.nbytes <= shared.limit
