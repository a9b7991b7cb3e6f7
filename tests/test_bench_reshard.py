"""The benchmark of resharding on tiny stores: every way writes what was asked for."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

import hfzarr

# At the end: ci/bench has a stores.py as the tests do.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ci" / "bench"))

import reshard
import reshard_one
import reshard_peers
import reshard_stores
from reshard_goals import judge
from reshard_limits import inner_chunks
from reshard_meter import measure
from reshard_stores import JOBS, VARIABLE, WrongResultError, check
from reshard_tables import table

ABLE = {name: way for name, way in reshard_one.WAYS.items() if name != reshard_one.RECHUNKER}
CASES = [(job, way) for job in JOBS for way in ABLE if JOBS[job].kind in ABLE[way].kinds]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        # Not the default client: the other ways would go to the cluster too.
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def tiny(folder: Path, name: str, target: Path) -> reshard_peers.Task:
    job = JOBS[name].at("tiny")
    source = reshard_stores.prepare(folder, job.source)
    return reshard_peers.Task(job=job, source=source, target=target)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "way"), CASES)
def test_every_way_writes_what_was_asked_for(folder, tmp_path, request, name, way):
    chosen = ABLE[way]
    if chosen.missing:
        pytest.skip(chosen.missing)
    task = tiny(folder, name, tmp_path / "target.zarr")
    if chosen.cluster:
        task = replace(task, client=request.getfixturevalue("client"))
        with task.client.as_current():
            chosen.make(task)()
    else:
        chosen.make(task)()
    if chosen.layout:
        check(task.job, task.source, task.target, layout=chosen.layout)


@pytest.mark.parametrize("name", ["repack-a", "repack-b"])
def test_chunks_that_can_be_kept_are(folder, tmp_path, name):
    task = tiny(folder, name, tmp_path / "target.zarr")
    plan = hfzarr.plan_reshard(task.source, task.target, shard=task.job.shard)
    assert [array.route for array in plan.arrays] == ["repack"]


def test_jobs_are_those_of_the_goals():
    for job in JOBS.values():
        assert np.prod(job.source.shape) * 2 == 2**30
        assert job.shards == 32
    assert [JOBS[name].source.files for name in ("repack-a", "repack-b")] == [8192, 2048]
    kept = [name for name, job in JOBS.items() if job.inner == job.source.chunk]
    assert kept == ["repack-a", "repack-b"]
    straddled = [
        name
        for name, job in JOBS.items()
        if any(s % c for s, c in zip(job.shard, job.source.chunk, strict=True))
    ]
    assert straddled == ["misaligned"]


@pytest.mark.parametrize("size", ["small", "tiny"])
@pytest.mark.parametrize("name", JOBS)
def test_smaller_jobs_keep_what_matters(name, size):
    full, job = JOBS[name], JOBS[name].at(size)
    assert job.shards == 4
    assert (job.kind, job.codec, job.max_memory) == (full.kind, full.codec, full.max_memory)
    assert all(s % c == 0 for s, c in zip(job.shard, job.inner, strict=True))
    straddles = any(s % c for s, c in zip(job.shard, job.source.chunk, strict=True))
    assert straddles == (name == "misaligned")


def test_sources_of_one_shape_hold_the_same_pixels(folder):
    found = [
        zarr.open_array(str(reshard_stores.prepare(folder, JOBS[name].at("tiny").source)), path="a")
        for name in ("slabs", "misaligned")
    ]
    np.testing.assert_array_equal(found[0][...], found[1][...])
    pixels = np.concatenate(list(reshard_stores.slabs(found[0].shape, 3)))
    np.testing.assert_array_equal(found[0][...], pixels)


def test_limit_encodes_every_inner_chunk(folder, tmp_path):
    task = tiny(folder, "transcode-a", tmp_path)
    chunks = inner_chunks(task)
    whole = zarr.open_array(str(task.source), path=VARIABLE)[...]
    assert chunks.shape == (64, *task.job.inner)
    np.testing.assert_array_equal(chunks[1], whole[:8, :16, 16:32])
    assert chunks.sum(dtype=np.int64) == whole.sum(dtype=np.int64)


@pytest.fixture
def written(folder, tmp_path) -> reshard_peers.Task:
    task = tiny(folder, "repack-b", tmp_path / "target.zarr")
    reshard_peers.zarr_loop(task, threads=1)
    return task


def test_wrong_pixels_are_an_error(written):
    zarr.open_array(str(written.target), path=VARIABLE)[written.job.windows[2]] = 1
    with pytest.raises(WrongResultError, match="other pixels"):
        check(written.job, written.source, written.target, layout="sharded")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"codec": reshard_stores.LZ4}, "wanted"),
        ({"codec": replace(reshard_stores.ZSTD, level=9)}, "wanted"),
        ({"inner": (4, 8, 8)}, "shards, chunks"),
    ],
)
def test_another_layout_is_an_error(written, changed, told):
    with pytest.raises(WrongResultError, match=told):
        check(replace(written.job, **changed), written.source, written.target, layout="sharded")


def test_a_missing_shard_is_an_error(written):
    next((written.target / VARIABLE / "c").rglob("1")).rename(written.target / "elsewhere")
    with pytest.raises(WrongResultError):
        check(written.job, written.source, written.target, layout="sharded")


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot start again"
)
def test_memory_is_what_a_call_adds():
    held = []

    def call() -> None:
        held.append(np.ones(2**23))
        held.clear()

    found = measure(call)
    assert 60 < found["peak"] < 90
    assert found["cpu"] >= 0 < found["seconds"]


def test_goals_compare_with_the_fastest_of_a_family():
    rows = {
        "hfzarr threads": {"seconds": 0.5, "peak": 120.0},
        "hfzarr serial": {"seconds": 0.6},
        "hfzarr dask": {"seconds": 0.9},
        "xarray": {"seconds": 11.0},
        "xarray, fused": {"seconds": 4.0},
        "tensorstore whole": {"seconds": 3.0},
        "tensorstore copy": {"seconds": 1.0},
        "cp -r": {"failed": "disk full"},
    }
    goals = judge("repack-a", "repack", rows)
    assert [goal.value for goal in goals] == [22.0, 2.0, None, 120.0, 1.5, None]
    assert [goal.met for goal in goals] == [True, False, True, False, True, True]


def test_goals_of_the_other_kinds():
    rows = {
        "hfzarr threads": {"seconds": 2.0, "peak": 200.0},
        "limit: decode + encode": {"seconds": 1.9},
        "xarray": {"seconds": 5.0},
        "tensorstore whole": {"seconds": 3.0},
        "rechunker": {"seconds": 9.0},
        "p2p, by slab": {"seconds": 6.0},
    }
    assert [goal.value for goal in judge("t", "transcode", rows)] == [0.95, 2.5, 1.5]
    assert [goal.value for goal in judge("r", "rechunk", rows)] == [200.0, 1.5, 4.5, 3.0]


def test_a_row_that_failed_is_told():
    rows = {"cp -r": {"failed": "disk full"}, "xarray": {"seconds": 2, "fastest": 1, "cpu": 3}}
    rows["xarray"]["load"] = 0.5
    printed = table("repack-a", JOBS["repack-a"], rows)
    assert "failed: disk full" in printed
    assert "32 shards of (64, 512, 512)" in printed


def test_the_command(tmp_path, capsys):
    options = ["--tiny", "--folder", str(tmp_path), "--repeats", "1", "--jobs", "slabs"]
    options += [
        "--ways",
        "tensorstore whole",
        "limit",
        "rechunker",
        "--json",
        str(tmp_path / "found"),
    ]
    assert reshard.main(options) == 0
    printed = capsys.readouterr().out
    assert "without rechunker: it wants a zarr below 3" in printed
    assert "failed" not in printed
    found = json.loads((tmp_path / "found").read_text("utf-8"))
    assert found["results"][0]["ways"]["tensorstore whole"]["seconds"] > 0
    assert {goal["met"] for goal in found["goals"]} <= {True, False, None}
    assert not (tmp_path / "targets").exists()


def test_a_way_that_fails_does_not_end_the_run(tmp_path, capsys):
    options = ["--tiny", "--folder", str(tmp_path), "--repeats", "2", "--jobs", "slabs"]
    options += ["--ways", "rechunker", "--rechunker-python", sys.executable]
    assert reshard.main(options) == 0
    assert "failed: ModuleNotFoundError: No module named 'rechunker'" in capsys.readouterr().out
    assert reshard.main([*options, "--strict"]) == 1


def test_a_wrong_result_is_no_measurement(tmp_path, capsys, monkeypatch):
    def wrong(*args, **options) -> None:
        raise WrongResultError("other pixels")

    monkeypatch.setattr(reshard, "check", wrong)
    options = ["--tiny", "--folder", str(tmp_path), "--jobs", "slabs", "--ways", "zarr-python"]
    assert reshard.main([*options, "--repeats", "1"]) == 0
    assert "failed: WRONG: other pixels" in capsys.readouterr().out
