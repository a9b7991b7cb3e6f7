"""Stores of the Hub by the reader of our own: how much it asks for, and what it makes of faults."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

import hfzarr
from hfzarr.errors import MissingDependencyError, ReadError, StoreNotFoundError, TargetError
from hfzarr.store.hub.source import HubSource
from hfzarr.store.hub.store import HubStore
from hfzarr.store.location import locate
from hfzarr.store.ranges import merge_near
from hub import Answer, Asked, File, Hub, run_python
from hubstores import DATA, RANGE, SIDE, URL, image, source
from hubstores import cells as cells
from hubstores import found as found
from hubstores import hub as hub
from hubstores import servers as servers


def asked(hub: Hub) -> list[str]:
    """Which kinds of requests were made, in short, and forget them."""
    found = []
    for request in hub.log:
        api = "api" if request.path.startswith("/api/") else "file"
        api = "file" if "/resolve-cache/" in request.path else api
        found.append(f"{request.origin} {api if request.origin == 'hub' else ''}".strip())
    hub.log.clear()
    return found


def sent(hub: Hub) -> int:
    return sum(request.sent for request in hub.log)


# How much is asked for.


def test_an_image_and_an_inner_chunk_take_six_requests(hub: Hub, cells: np.ndarray) -> None:
    hub.latency = 0.02
    opened = image()
    np.testing.assert_array_equal(opened[:64, :64].values, cells[:64, :64])
    assert sent(hub) < 100_000
    assert len(hub.log) <= 6
    assert asked(hub).count("hub api") == 1
    # Other inner chunks of that shard, which lie too far apart to be fetched as one.
    for row in range(4):
        np.testing.assert_array_equal(
            opened[64 * row : 64 * row + 9, 128:137].values,
            cells[64 * row : 64 * row + 9, 128:137],
        )
    assert asked(hub) == ["cdn"] * 4


def test_metadata_that_a_manifest_carries_leaves_three(
    hub: Hub, cells: np.ndarray, tmp_path: Path
) -> None:
    manifest = hfzarr.scan(str(tmp_path / "stores"), metadata=True)
    rows = manifest.to_arrow().to_pylist()
    rows[0]["zarr"] = URL
    handle = hfzarr.open_manifest(rows, column="zarr")[0]["zarr"]
    hub.log.clear()
    np.testing.assert_array_equal(np.asarray(handle.get_level(0)[:64, :64]), cells[:64, :64])
    assert asked(hub) == ["hub file", "cdn", "cdn"]


@pytest.mark.parametrize("pages", [1000, 7])
def test_absent_chunks_take_no_request(hub: Hub, tmp_path: Path, pages: int) -> None:
    hub.page_size = pages
    array = zarr.create_array(
        tmp_path / "s" / "a.zarr", shape=(640, 640), chunks=(64, 64), dtype="u2", fill_value=5
    )
    array[:64, :64] = 9
    hub.add_repo("ada/cells", tmp_path / "s")
    opened = next(iter(xr.open_dataset(URL, engine="hfzarr").data_vars.values()))
    hub.log.clear()
    values = opened.values
    assert (values[:64, :64] == 9).all()
    assert values.sum() == 64 * 64 * 4 + 640 * 640 * 5
    assert asked(hub) == ["hub file", "cdn"]
    assert (opened[100:].values == 5).all()
    assert asked(hub) == []


def test_a_long_listing_is_not_waited_for(hub: Hub, tmp_path: Path) -> None:
    files = {f"a.zarr/c/{n}": f"{n}" for n in range(300)}
    hub.add_repo("ada/cells", files)
    hub.page_size = 10
    found = source()
    assert found.get("c/299") == b"299"
    assert found.get("c/298") == b"298"
    hub.log.clear()
    # Many keys, of which nobody knows: one question for all.
    keys = [f"c/{n}" for n in range(200, 400)]
    values = found.get_many([(key, None) for key in keys])
    assert values == [b"%d" % n if n < 300 else None for n in range(200, 400)]
    assert len(hub.log.find("/paths-info/")) == 1
    assert hub.log.find("/tree/") == []
    hub.log.clear()
    assert found.get_many([(key, None) for key in keys[100:]]) == [None] * 100
    assert len(hub.log) == 0
    # Each vain question brings the listing a page further, so that there is an end to them.
    vain = 0
    for n in range(1000, 1060):
        assert found.get(f"c/{n}") is None
        vain = max(vain, len(hub.log))
    assert vain <= 2 * 31
    hub.log.clear()
    assert found.get("c/2000") is None
    assert len(hub.log) == 0


def test_many_chunks_are_under_way_at_once(hub: Hub, tmp_path: Path) -> None:
    chunks = {f"a.zarr/c/{n}": b"\0" + bytes([n]) * 100 for n in range(64)}
    hub.add_repo("ada/cells", {"a.zarr/zarr.json": "{}", **chunks})
    hub.latency = 0.05
    found = source()
    found.get_many([("zarr.json", None), ("c/0", None)])
    begin = time.perf_counter()
    values = found.get_many([(f"c/{n}", None) for n in range(64)])
    assert time.perf_counter() - begin < 1.5  # one by one: 6.4 s
    assert values == [chunks[f"a.zarr/c/{n}"] for n in range(64)]


def test_one_limit_holds_for_all_stores(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = most = 0
    truth = hub.truth

    def counting(request: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.02)
        now -= 1
        return truth(request)

    monkeypatch.setattr(hub, "truth", counting)
    for name in "abc":
        hub.add_repo(f"ada/{name}", {f"c/{n}": b"\0%d" % n for n in range(60)})
    stores = [source(f"hf://datasets/ada/{name}") for name in "abc"]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda s: s.get_many([(f"c/{n}", None) for n in range(60)]), stores))
    assert 8 < most <= 64


def test_near_ranges_of_an_object_are_one_request(hub: Hub) -> None:
    data = bytes(range(256)) * 2000
    hub.add_repo("ada/cells", {"a.zarr/c/0": data})
    found = source()
    ranges = [
        (0, 10),
        (20, 25),
        (5, 12),
        (300_000, 300_010),
        (-7, None),
        (4, 4),
        (511_990, 600_000),
    ]
    assert found.get_many([("c/0", one) for one in ranges]) == [data[slice(*one)] for one in ranges]
    assert len(hub.log.find(origin="cdn")) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.one_of(
                st.none(),
                st.tuples(st.integers(0, 2**25), st.integers(0, 2**25)),
                st.tuples(st.integers(-9, -1), st.none()),
                st.tuples(st.integers(0, 9), st.none()),
            ),
        ),
        max_size=12,
    )
)
def test_merged_ranges_hold_what_was_wanted(requests: list[Any]) -> None:
    merged = merge_near(requests)
    assert sorted(m for *_, members in merged for m in members) == list(range(len(requests)))
    for key, wanted, members in merged:
        for member in members:
            assert requests[member][0] == key
            part = requests[member][1]
            if wanted is None or wanted[1] is None:
                assert part == wanted
            else:
                assert wanted[0] <= part[0]
                assert max(part) <= wanted[1]
        if len(members) > 1 and wanted is not None and wanted[1] is not None:
            assert wanted[1] - wanted[0] <= 8 * 2**20


# What lies where.


@pytest.mark.parametrize("kind", ["dataset", "model", "space", "bucket"])
@pytest.mark.parametrize("pages", [2, 1000])
def test_every_kind_of_repo_is_read(hub: Hub, kind: str, pages: int) -> None:
    hub.page_size = pages
    files = {
        "a.zarr/zarr.json": "{}", "a.zarr/é x/c/0#1": b"\0\1\2", "a.zarr/b/zarr.json": "[]",
        "a.zarr2/zarr.json": "no", "other": "no",
    }  # fmt: skip
    hub.add_repo("ada/cells", files, type=kind)
    prefix = "" if kind == "model" else f"{kind}s/"
    found = source(f"hf://{prefix}ada/cells/a.zarr")
    assert found.get("zarr.json") == b"{}"
    assert found.get("é x/c/0#1", (1, 2)) == b"\1"
    assert found.get("none") is None
    assert found.list_dir("") == ["b", "zarr.json", "é x"]
    assert found.list_many(["é x", "é x/c", "no"]) == [["c"], ["0#1"], []]
    assert found.list_files("") == ["zarr.json"]
    assert found.sizes(["zarr.json", "é x/c/0#1", "none", "b"]) == [2, 3, None, None]
    stamps = found.stamps(["zarr.json", "none"])
    assert stamps[0] is not None
    assert stamps[1] is None
    if pages == 1000:
        assert found.usage("")[:2] == (3, 7)  # type: ignore[index]
        assert found.usage("b")[:2] == (1, 2)  # type: ignore[index]
    root = source(f"hf://{prefix}ada/cells")
    assert set(root.list_dir("")) >= {"a.zarr", "a.zarr2", "other"}


def test_a_revision_in_every_form(hub: Hub) -> None:
    repo = hub.add_repo("ada/cells", {"a.zarr/k": "main"})
    parent = repo.refs["refs/heads/main"]
    for ref, text in [("pr/1", b"pr"), ("heads/my/branch", b"mine"), ("tags/v1", b"v")]:
        repo.commit({"a.zarr/k": File(text)}, ref=f"refs/{ref}", parent=parent)
    base = "hf://datasets/ada/cells"
    for revision, text in [
        ("", "main"), ("@main", "main"), ("@refs/pr/1", "pr"), ("@refs%2Fpr%2F1", "pr"),
        ("@my%2Fbranch", "mine"), ("@v1", "v"), (f"@{repo.refs['refs/tags/v1']}", "v"),
    ]:  # fmt: skip
        assert source(f"{base}{revision}/a.zarr").get("k") == text.encode()
    assert source(f"{base}/a.zarr", revision="my/branch").get("k") == b"mine"
    with pytest.raises(TargetError, match="revision"):
        source(f"{base}@v1/a.zarr", revision="main")
    with pytest.raises(StoreNotFoundError, match="no revision 'v2'"):
        source(f"{base}@v2/a.zarr").list_dir("")


def test_what_is_read_belongs_to_one_commit(hub: Hub) -> None:
    old = {f"a.zarr/c/{n}": b"\0old%d" % n for n in range(9)}
    repo = hub.add_repo("ada/cells", {"a.zarr/zarr.json": "old", **old})
    found = source()
    assert found.get("zarr.json") == b"old"
    copy = pickle.loads(pickle.dumps(found))
    hub.add_commit(repo, {path: data.replace(b"old", b"new") for path, data in old.items()})
    hub.add_commit(repo, {"a.zarr/c/9": b"\0new9"})
    for one in (found, copy):
        values = one.get_many([(f"c/{n}", None) for n in range(10)])
        assert values == [b"\0old%d" % n for n in range(9)] + [None]
        assert one.list_dir("c") == [str(n) for n in range(9)]
    assert source().get("c/9") == b"\0new9"


def test_a_listing_first_pins_too(hub: Hub) -> None:
    repo = hub.add_repo("ada/cells", {"a.zarr/k": "old"})
    found = source()
    assert found.list_dir("") == ["k"]
    hub.add_commit(repo, {"a.zarr/k": "new", "a.zarr/l": "new"})
    assert found.get_many([("k", None), ("l", None)]) == [b"old", None]


def test_a_repo_that_was_renamed_is_read(hub: Hub) -> None:
    hub.add_repo("ada/cells", {"a.zarr/zarr.json": "{}", "a.zarr/c/0": DATA})

    def moved(request: Asked) -> Answer | None:
        if "ada/old" not in request.target:
            return None
        return Answer(307, b"", {"Location": request.target.replace("ada/old", "ada/cells")})

    hub.faults.append(moved)
    for first in (["c/0", "zarr.json", "c/1"], ["zarr.json", "c/1", "c/0"]):
        values = {"c/0": DATA, "zarr.json": b"{}", "c/1": None}
        opened = source("hf://datasets/ada/old/a.zarr")
        assert {key: opened.get(key) for key in first} == values
        assert source("hf://datasets/ada/old/a.zarr").list_dir("") == ["c", "zarr.json"]


def test_an_object_of_a_bucket_that_is_replaced_is_an_error(hub: Hub) -> None:
    repo = hub.add_repo("ada/cells", {"a.zarr/c/0": b"\0" * 100}, type="bucket")
    found = source("hf://buckets/ada/cells/a.zarr")
    assert found.get("c/0", (0, 4)) == b"\0" * 4
    hub.add_commit(repo, {"a.zarr/c/0": b"\1" * 100})
    hub.state.repos["buckets", "ada/cells"].objects.clear()
    with pytest.raises(ReadError, match=r"replaced|cannot read"):
        found.get("c/0", (4, 8))


# Threads, loops and processes.


def test_copies_of_a_store_share_what_they_learn(hub: Hub, found: HubSource) -> None:
    kept = pickle.dumps(found)
    assert pickle.loads(kept).get_many([("c/0", RANGE), ("c/9", None)])[1] is None
    hub.log.clear()
    assert pickle.loads(kept).get_many([("c/0", (0, 9)), ("c/8", None)]) == [DATA[:9], None]
    assert asked(hub) == ["cdn"]
    # Nobody's login is another's.
    other = HubSource(HubStore(found.store.place.url, {"token": "hf_other"}))
    assert pickle.loads(pickle.dumps(other)).store.reader is not pickle.loads(kept).store.reader


def test_a_pickle_is_small_and_carries_the_commit(hub: Hub, found: HubSource) -> None:
    kept = pickle.dumps(found)
    commit = hub.repo("ada/cells").refs["refs/heads/main"]
    assert commit.encode() in kept
    assert len(kept) < 600
    copy = pickle.loads(kept)
    assert copy == found
    assert copy.url == found.url
    hub.log.clear()
    assert copy.get("c/0", RANGE) == DATA[slice(*RANGE)]
    assert asked(hub) == ["hub file", "cdn"]


def test_many_threads_share_a_store(hub: Hub, cells: np.ndarray) -> None:
    opened = image()
    hub.log.clear()
    boxes = [(y, x) for y in range(0, SIDE, 64) for x in range(0, SIDE, 64)]
    with ThreadPoolExecutor(16) as pool:
        read = pool.map(
            lambda box: opened[box[0] : box[0] + 64, box[1] : box[1] + 64].values, boxes
        )
        for (y, x), values in zip(boxes, read, strict=True):
            np.testing.assert_array_equal(values, cells[y : y + 64, x : x + 64])
    assert len(hub.log.find("/resolve/")) == 4  # once for each shard


def test_any_event_loop_will_do(hub: Hub, found: HubSource) -> None:
    async def read() -> list[bytes | None]:
        return list(await asyncio.gather(*[found.get_async("c/0", (n, n + 3)) for n in range(9)]))

    for _ in range(2):
        assert asyncio.run(read()) == [DATA[n : n + 3] for n in range(9)]


def test_who_stops_waiting_stops_nobody_else(hub: Hub, found: HubSource) -> None:
    hub.latency = 0.2

    async def hasty() -> list[Any]:
        patient = [asyncio.create_task(found.get_async("c/0", (n, n + 3))) for n in range(4)]
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(found.get_async("c/0", RANGE), 0.05)
        return list(await asyncio.gather(*patient))

    for _ in range(2):
        assert asyncio.run(hasty()) == [DATA[n : n + 3] for n in range(4)]
    assert found.get("c/0", RANGE) == DATA[slice(*RANGE)]


def _read_in_fork(opened: HubSource, wanted: list[Any], pipe: Any) -> None:
    try:
        pipe.send(opened.get_many(wanted))
    except BaseException as error:
        pipe.send(repr(error))
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_processes_read_on(hub: Hub, found: HubSource) -> None:
    context = multiprocessing.get_context("fork")
    wanted = [("c/0", RANGE), ("c/1", (-9, None)), ("c/2", None)]
    pipes, children = [], []
    for _ in range(3):
        mine, theirs = context.Pipe()
        child = context.Process(target=_read_in_fork, args=(found, wanted, theirs))
        child.start()
        pipes.append(mine)
        children.append(child)
    expected = [DATA[slice(*RANGE)], DATA[-9:], None]
    assert found.get_many(wanted) == expected
    for pipe, child in zip(pipes, children, strict=True):
        assert pipe.poll(20)
        assert pipe.recv() == expected
        child.join(20)
        assert child.exitcode == 0
    assert found.get_many(wanted) == expected


def test_dask_processes_read(hub: Hub, cells: np.ndarray, tmp_path: Path) -> None:
    said = run_python(
        hub,
        f"""
        import json, pickle, dask, numpy as np
        import dask.array
        from hfzarr.store.hub.store import HubStore
        import zarr

        def main():
            array = zarr.open_array(HubStore("{URL}"), path="0", mode="r")
            lazy = dask.array.from_array(array, chunks=(256, 256))
            with dask.config.set(scheduler="processes", num_workers=2):
                print(json.dumps(int(lazy.sum().compute())))

        if __name__ == "__main__":
            main()
        """,
        tmp_path,
    )
    assert json.loads(said) == int(cells.sum())


def test_a_process_ends_without_a_word(hub: Hub, cells: np.ndarray, tmp_path: Path) -> None:
    code = f"""
    import subprocess, sys
    code = '''
    from hfzarr.store.hub.source import HubSource
    from hfzarr.store.hub.store import HubStore
    print(len(HubSource(HubStore("{URL}")).get("zarr.json")))
    '''
    import textwrap
    done = subprocess.run([sys.executable, "-X", "dev", "-c", textwrap.dedent(code)],
                          capture_output=True, text=True)
    print(done.stdout, [line for line in done.stderr.splitlines() if "Executing" not in line])
    """
    said = run_python(hub, code, tmp_path)
    assert said.split()[1:] == ["[]"]


# What is asked of it.


def test_options_that_nobody_knows_are_refused(hub: Hub) -> None:
    with pytest.raises(TargetError, match="unknown: tokne"):
        source(tokne="x")
    with pytest.raises(TargetError, match="read-only"):
        HubStore(URL, read_only=False)
    source(block_size=0, skip_instance_cache=True)  # of fsspec, without a meaning here


def test_a_missing_package_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingDependencyError, match=r"pip install \"hfzarr\[hub"):
        source()


def test_the_endpoint_is_that_of_the_moment(
    hub: Hub, cells: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = source()
    address = hub.url
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ReadError, match=r"127\.0\.0\.1:9"):
        opened.get("zarr.json")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"{address}/")
    assert opened.get("zarr.json") is not None
    assert source(endpoint=address).get("zarr.json") is not None


def test_the_location_of_a_target_becomes_a_source(hub: Hub, cells: np.ndarray) -> None:
    from hfzarr.store.hub.source import hub_source

    made: Callable[[Any], HubSource] = hub_source
    one = made(locate(URL, {"token": False}))
    assert (one.url, repr(one)) == (URL, f"HubSource('{URL}')")
    assert one.local is False
    buffer = bytearray(9000)
    assert one.read_into("0/c/0/0", memoryview(buffer), (0, 8192)) == 8192
    assert bytes(buffer[:8192]) == cells[:64, :64].tobytes()
    one.close()


def test_zarr_python_reads_it(hub: Hub, cells: np.ndarray) -> None:
    group = zarr.open_group(HubStore(URL), mode="r")
    np.testing.assert_array_equal(group["0"][:], cells)  # type: ignore[index]
    assert [name for name, _ in group.members()] == ["0"]
