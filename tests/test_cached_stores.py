"""Remote stores of which chunks are kept: right bytes always, and no request for what is kept."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

import hfzarr
from hfzarr.errors import CacheWarning, HfzarrError, ReadError
from hfzarr.store.cache import marks as cache_marks
from hfzarr.store.cache.marks import Changes, Marks
from hfzarr.store.cache.place import CachePlace
from hfzarr.store.cache.source import CachedSource
from hfzarr.store.connect import connect
from hfzarr.store.location import locate
from hfzarr.store.source import ByteRange, copy_into
from hub import Hub, run_python
from hubstores import URL, image, pixels, write_image
from hubstores import cells as cells
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from servers import s3_server


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HFZARR_CACHE", raising=False)
    monkeypatch.delenv("HFZARR_CACHE_SIZE", raising=False)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder that chunks are kept in."""
    return tmp_path / "kept"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def chunk_requests(hub: Hub) -> list[str]:
    return [request.path for request in hub.log if "/c/" in request.path or request.origin == "cdn"]


# --- a store that can be looked into --------------------------------------------------------


def _mark(key: str, data: bytes) -> str:
    return f"{hash(data):x}-{len(data)}"


def _rest() -> None:
    pass


class Shelf:
    """A remote store in memory, which notes what it is asked for."""

    url = "shelf://a.zarr"
    local = False

    def __init__(self, objects: dict[str, bytes], mark: Callable[[str, bytes], str] | None = None):
        self.objects = objects
        self.mark = mark or _mark
        self.gets: list[tuple[str, ByteRange]] = []
        self.rounds = 0
        self.marked: list[str] = []
        self.between: Callable[[], None] = _rest

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        self.rounds += 1
        self.gets += requests
        found = [self._cut(self.objects.get(key), wanted) for key, wanted in requests]
        self.between()
        return found

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        return self.get_many([(key, byte_range)])[0]

    def _cut(self, data: bytes | None, wanted: ByteRange) -> bytes | None:
        return data if data is None or wanted is None else data[slice(*wanted)]

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        return list(self.get_many([(key, None) for key in keys]))

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        self.marked += keys
        found = [(key, self.objects.get(key)) for key in keys]
        return [None if data is None else self.mark(key, data) for key, data in found]

    def forget(self) -> None:
        self.gets, self.marked, self.rounds = [], [], 0


def opened(shelf: Any, folder: Path | str, changes: Changes = "any") -> CachedSource:
    return CachedSource(shelf, CachePlace(folder=str(folder)), "shelf", changes=changes)


DATA = bytes(range(256)) * 8


def test_what_is_kept_is_not_asked_for_again(kept: Path) -> None:
    shelf = Shelf({"c/0": DATA, "c/1": b"one", "c/2": b""})
    wanted: list[tuple[str, ByteRange]] = [
        ("c/0", (0, 5)), ("c/0", (-4, None)), ("c/1", None), ("c/0", (100, 200)), ("c/2", None),
        ("c/3", None),
    ]  # fmt: skip
    truth = [DATA[:5], DATA[-4:], b"one", DATA[100:200], b"", None]
    assert opened(shelf, kept).get_many(wanted) == truth
    assert shelf.rounds == 1, "all that is missing is asked for at once"
    assert sorted(shelf.marked) == ["c/0", "c/0", "c/1", "c/1", "c/2", "c/2", "c/3"]
    shelf.forget()
    again = opened(shelf, kept)
    assert again.get_many(wanted[:3]) == truth[:3]
    assert again.get("c/0", (100, 200)) == DATA[100:200]
    buffer = bytearray(8)
    assert again.read_into("c/0", memoryview(buffer), (0, 5)) == 5
    assert buffer[:5] == DATA[:5]
    assert shelf.gets == []
    assert sorted(shelf.marked) == ["c/0", "c/1"], "a mark is asked for once"
    assert again.get_many([("c/0", (0, 5)), ("c/0", (5, 9)), ("c/1", (0, 1))]) == [
        DATA[:5], DATA[5:9], b"o",
    ]  # fmt: skip
    assert shelf.gets == [("c/0", (5, 9)), ("c/1", (0, 1))]
    assert shelf.rounds == 1


def test_what_is_absent_is_looked_for_each_time(kept: Path) -> None:
    shelf = Shelf({"c/0": DATA})
    source = opened(shelf, kept)
    assert source.get("c/1") is None
    assert shelf.gets == [], "the store said so when it was asked for a mark"
    shelf.objects["c/1"] = b"new"
    assert source.get("c/1") == b"new"


def test_metadata_of_a_store_that_may_change_is_read_from_it(kept: Path) -> None:
    shelf = Shelf({"zarr.json": b"{}", "0/zarr.json": b"{}", "c/0": DATA})
    source = opened(shelf, kept)
    for _ in range(2):
        assert source.probe(["zarr.json", ".zgroup"]) == [b"{}", None]
        assert source.get("0/zarr.json") == b"{}"
    assert shelf.marked == []
    assert len(shelf.gets) == 6
    assert files(kept) == []


@pytest.mark.parametrize("mark", ["?", "{size}", 'W/"{hash}-{size}', "-{size}"])
def test_a_store_that_tells_no_version_is_said_once(kept: Path, mark: str) -> None:
    shelf = Shelf(
        {"c/0": DATA, "c/1": DATA[::-1]},
        lambda key, data: mark.format(size=len(data), hash=hash(data)),
    )
    source = opened(shelf, kept)
    with pytest.warns(CacheWarning, match=r"nothing of store 'shelf://a.zarr' is kept"):
        assert source.get("c/0") == DATA
    asked = len(shelf.marked)
    assert source.get_many([("c/1", None), ("c/0", None)]) == [DATA[::-1], DATA]
    assert len(shelf.marked) == asked, "it is not asked again"
    assert files(kept) == []


@pytest.mark.parametrize(
    ("form", "age", "is_kept"),
    [
        ("%a, %d %b %Y %H:%M:%S GMT", 3600, True),
        ("%a, %d %b %Y %H:%M:%S GMT", 1, False),
        ("%Y-%m-%d %H:%M:%S+00:00", 3600, True),
        ("%Y-%m-%d %H:%M:%S+00:00", 1, False),
        ("%Y-%m-%d %H:%M:%S", 1, False),
    ],
)
def test_a_time_tells_the_version_once_it_is_past(
    kept: Path, form: str, age: float, is_kept: bool
) -> None:
    """In the second of its last change, an object may be replaced by one with the same mark."""
    mark = f"{time.strftime(form, time.gmtime(time.time() - age))}-{len(DATA)}"
    source = opened(Shelf({"c/0": DATA}, lambda key, data: mark), kept)
    assert [source.get("c/0"), source.get("c/0")] == [DATA, DATA]
    assert bool(files(kept)) is is_kept


def test_a_store_that_cannot_be_asked_is_read(kept: Path) -> None:
    class Mute(Shelf):
        def stamps(self, keys: Sequence[str]) -> list[str | None]:
            self.marked += keys
            raise ReadError("HEAD is not allowed here")

    shelf = Mute({"c/0": DATA})
    source = opened(shelf, kept)
    assert [source.get("c/0") for _ in range(5)] == [DATA] * 5
    assert len(shelf.marked) == 3, "after a while it is not asked any more"
    assert files(kept) == []


# --- objects that are replaced --------------------------------------------------------------------


def test_an_object_that_was_replaced_is_another_entry(kept: Path) -> None:
    shelf = Shelf({"c/0": b"first", "c/1": b"other"})
    assert opened(shelf, kept).get_many([("c/0", None), ("c/1", None)]) == [b"first", b"other"]
    shelf.objects["c/0"] = b"later"
    shelf.forget()
    assert opened(shelf, kept).get_many([("c/0", None), ("c/1", None)]) == [b"later", b"other"]
    assert shelf.gets == [("c/0", None)]
    shelf.objects["c/0"] = b"first"
    shelf.forget()
    assert opened(shelf, kept).get("c/0") == b"first"
    assert shelf.gets == []


def test_an_object_that_is_replaced_while_it_is_read_is_not_kept(kept: Path) -> None:
    """Put back afterwards, it has the mark of before: what was read in between is none of it."""
    shelf = Shelf({"c/0": b"first", "c/1": b"other"})
    source = opened(shelf, kept)
    assert source.get("c/0", (0, 1)) == b"f"
    shelf.objects["c/0"] = b"later"
    assert source.get_many([("c/0", (0, 5)), ("c/1", None), ("c/0", (0, 1))]) == [
        b"later", b"other", b"l",
    ]  # fmt: skip
    shelf.objects["c/0"] = b"first"
    assert opened(shelf, kept).get("c/0", (0, 5)) == b"first"
    assert opened(shelf, kept).get("c/0", (0, 1)) == b"f"


@pytest.mark.parametrize(("age", "asked"), [(3600, 1), (1, 2)])
def test_a_time_that_nobody_sets_back_is_asked_for_once(kept: Path, age: int, asked: int) -> None:
    moment = datetime.fromtimestamp(int(time.time()) - age, UTC)
    times = {b"first": moment, b"later": moment + timedelta(hours=1)}
    shelf = Shelf({"c/0": b"first"}, lambda key, data: f"{hash(data):x}-{times[data]}-{len(data)}")
    source = opened(shelf, kept, "dated")
    assert source.get("c/0", (0, 1)) == b"f"
    assert len(shelf.marked) == asked
    shelf.objects["c/0"] = b"later"
    assert source.get("c/0", (0, 5)) == b"later"
    # What is put back has the checksum of before, and a time of its own.
    shelf.objects["c/0"] = b"first"
    times[b"first"] += timedelta(hours=2)
    assert opened(shelf, kept, "dated").get("c/0", (0, 5)) == b"first"


def test_an_object_that_goes_while_it_is_read_is_absent(kept: Path) -> None:
    shelf = Shelf({"c/0": b"first"})
    source = opened(shelf, kept)
    assert source.get("c/0", (0, 1)) == b"f"
    del shelf.objects["c/0"]
    assert source.get_many([("c/0", (0, 5)), ("c/0", (0, 1))]) == [None, None]
    assert source.get("c/0") is None


keys = st.sampled_from(["c/0", "c/1"])
ranges = st.sampled_from([None, (0, 2), (1, 3), (-2, None), (2, None)])
moves = st.one_of(
    st.tuples(st.just("write"), keys, st.sampled_from([b"aaaa", b"abcd", b"dcba", b"xx", None])),
    st.tuples(st.just("open"), keys, st.none()),
    st.tuples(
        st.just("read"), st.lists(st.tuples(keys, ranges), min_size=1, max_size=4), st.none()
    ),
    # Another writes after the bytes were read, and before the marks are asked for again.
    st.tuples(st.just("race"), keys, st.sampled_from([b"aaaa", b"abcd", b"dcba"])),
)


@settings(deadline=None)
@given(st.lists(moves, max_size=25))
def test_a_store_that_is_opened_anew_is_never_stale(moves: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf({"c/0": b"abcd", "c/1": b"aaaa"})
        old = opened(shelf, folder)

        def write(key: str, data: bytes | None) -> None:
            shelf.objects.pop(key, None)
            if data is not None:
                shelf.objects[key] = data

        for move, what, data in moves:
            if move == "write":
                write(what, data)
            elif move == "open":
                old = opened(shelf, folder)
            elif move == "race":
                shelf.between = lambda what=what, data=data: write(what, data)
                old.get_many([("c/0", (0, 2)), ("c/1", None)])
                shelf.between = _rest
            else:
                old.get_many(what)
                truth = [shelf._cut(shelf.objects.get(key), wanted) for key, wanted in what]
                assert opened(shelf, folder).get_many(what) == truth


# --- commits --------------------------------------------------------------------------------------


def test_of_a_commit_the_first_object_is_read_and_marks_are_asked_once(kept: Path) -> None:
    shelf = Shelf({"zarr.json": b"{}", "0/zarr.json": b"[]", "c/0": DATA})
    for first in (True, False):
        source = opened(shelf, kept, "never")
        assert source.probe(["zarr.json"]) == [b"{}"]
        assert shelf.marked == [], "the answer says which commit it is"
        assert source.probe(["0/zarr.json", ".zgroup"]) == [b"[]", None]
        for _ in range(2):
            assert source.get("c/0") == DATA
        assert sorted(shelf.marked) == [".zgroup", "0/zarr.json", "c/0"]
        assert len(shelf.gets) == (3 if first else 1)
        shelf.forget()


def test_who_may_not_read_is_not_served(kept: Path) -> None:
    shelf = Shelf({"c/0": DATA, "c/1": DATA})
    source = opened(shelf, kept, "never")
    source.get_many([("c/0", None), ("c/1", None)])

    class Refusing(Shelf):
        def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
            raise ReadError("not for you")

    other = opened(Refusing(shelf.objects), kept, "never")
    for wanted in ([("c/1", None)], [("c/0", None), ("c/1", None)], [("c/2", None), ("c/1", None)]):
        with pytest.raises(ReadError, match="not for you"):
            other.get_many(wanted)
    # An object that is absent proves nothing.
    absent = opened(shelf, kept, "never")
    shelf.forget()
    assert absent.get_many([("c/2", None), ("c/1", None)]) == [None, DATA]
    assert ("c/1", None) in shelf.gets
    shelf.forget()
    assert absent.get("c/1") == DATA
    assert shelf.gets == []


# --- event loops, threads, processes --------------------------------------------------------------


def test_what_is_awaited_at_once_is_read_at_once(kept: Path) -> None:
    shelf = Shelf({f"c/{n}": bytes([n]) * 100 for n in range(20)})
    source = opened(shelf, kept)

    async def read() -> list[bytes | None]:
        return list(await asyncio.gather(*[source.get_async(f"c/{n}") for n in range(21)]))

    truth = [*[bytes([n]) * 100 for n in range(20)], None]
    assert asyncio.run(read()) == truth
    assert shelf.rounds == 1
    assert asyncio.run(read()) == truth
    assert shelf.rounds == 1

    shelf.objects["c/99"] = DATA
    shelf.between = _raise

    async def fail() -> list[Any]:
        wanted = [source.get_async("c/99"), source.get_async("c/99", (0, 1))]
        return await asyncio.gather(*wanted, return_exceptions=True)

    assert [type(error) for error in asyncio.run(fail())] == [ReadError, ReadError]
    shelf.between = _rest
    assert asyncio.run(_hasty(source)) == DATA


def _raise() -> None:
    raise ReadError("broken")


async def _hasty(source: CachedSource) -> bytes | None:
    one, other = (asyncio.ensure_future(source.get_async("c/99")) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    return await other


def test_copies_share_marks_and_pickle_small(kept: Path) -> None:
    shelf = Shelf({"c/0": DATA})
    source = opened(shelf, kept)
    source.get("c/0")
    copy = pickle.loads(pickle.dumps(source))
    copy.inner.marked.clear()
    assert copy.get("c/0") == DATA
    assert copy.inner.marked == []
    assert copy.inner.gets == [("c/0", None)], "as the copy brought it along"


def test_marks_are_not_kept_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_marks, "_MOST_KEYS", 10)
    monkeypatch.setattr(cache_marks, "_MOST_STORES", 3)
    monkeypatch.setattr(cache_marks, "_stores", OrderedDict())
    shelf = Shelf({f"c/{n}": DATA for n in range(40)})
    marks = Marks(final=False)
    for n in range(40):
        assert marks.of(shelf, [f"c/{n}"])[f"c/{n}"]
        assert len(marks._known) <= 12
    for n in range(10):
        cache_marks.marks_of(f"{n}", final=False)
    assert list(cache_marks._stores) == ["7", "8", "9"]


# --- the Hub --------------------------------------------------------------------------------------


def test_a_second_run_reads_no_chunk(hub: Hub, cells: np.ndarray, kept: Path) -> None:
    def run(place: Path | None) -> int:
        hub.log.clear()
        opened = image(cache=place)
        np.testing.assert_array_equal(opened[:64, 64:128].values, cells[:64, 64:128])
        np.testing.assert_array_equal(opened.values, cells)
        return len(hub.log)

    assert run(None) == run(kept), "the first run asks for nothing more"
    assert chunk_requests(hub)
    hub.log.clear()
    code = f"""
    import xarray as xr
    options = {{"cache": {str(kept)!r}}}
    image = xr.open_dataset({URL!r}, engine="hfzarr", storage_options=options)["image"]
    print(int(image[:64, 64:128].astype("u8").sum()), int(image.astype("u8").sum()))
    """
    truth = f"{cells[:64, 64:128].astype('u8').sum()} {cells.astype('u8').sum()}\n"
    assert run_python(hub, code, kept.parent / "home") == truth
    assert chunk_requests(hub) == []
    assert len(hub.log) == 3, "metadata, read to see whether it may be, and the listing"


def test_a_new_commit_is_read_anew_as_far_as_it_is_new(
    hub: Hub, cells: np.ndarray, kept: Path, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(image(cache=kept).values, cells)
    changed = cells.copy()
    changed[300:, 300:] += 1
    write_image(tmp_path / "later" / "a.zarr", changed)
    hub.add_commit(hub.repo("ada/cells"), tmp_path / "later", "later")
    hub.log.clear()
    np.testing.assert_array_equal(image(cache=kept).values, changed)
    asked = {re.search(r"c/(\d/\d)", path)[1] for path in chunk_requests(hub) if "/c/" in path}
    assert asked == {"1/1"}
    pinned = hub.repo("ada/cells").commits
    first = next(oid for oid, commit in pinned.items() if commit.title == "add files")
    np.testing.assert_array_equal(
        image(f"hf://datasets/ada/cells@{first}/a.zarr", cache=kept).values, cells
    )


@pytest.mark.parametrize("kind", ["private", "gated"])
def test_another_login_is_not_served_what_one_read(
    hub: Hub, kept: Path, tmp_path: Path, log_in: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write_image(tmp_path / "stores" / "a.zarr", pixels())
    hub.add_repo("ada/secret", tmp_path / "stores", **{kind: True})
    url = "hf://datasets/ada/secret/a.zarr"
    ada, bob = hub.add_token("hf_word_of_ada", "ada").secret, log_in("bob")
    data = image(url, cache=kept, token=ada).values
    np.testing.assert_array_equal(data, pixels())
    source = connect(locate(url, {"cache": kept, "token": ada}))
    assert isinstance(source, CachedSource)
    assert source.get_many([("zarr.json", None), ("0/c/0/0", None)])[1]
    text = zarr_text(tmp_path / "stores" / "a.zarr")
    for token in (bob, None, False):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        options = {"cache": kept} if token is None else {"cache": kept, "token": token}
        with pytest.raises(HfzarrError, match="ada/secret"):
            image(url, **options)
        other = connect(locate(url, options))
        for wanted in ([("0/c/0/0", None)], [("zarr.json", None)], [("0/c/0/0", (0, 4))] * 3):
            with pytest.raises(HfzarrError):
                other.get_many(wanted)
        # A manifest that carries metadata brings them past it.
        [handle] = _handles(url, text, options)
        with pytest.raises(HfzarrError):
            _ = xr.open_dataset(handle, engine="hfzarr")["image"].values
    for path in [kept, *kept.rglob("*")]:
        held = path.read_bytes() if path.is_file() else b""
        for word in ("hf_word_of_ada", bob, "ada", "secret", "127.0.0.1", "zarr.json"):
            assert word not in str(path.relative_to(kept.parent))
            if word.startswith("hf_") or word.startswith("127"):
                assert word.encode() not in held
    assert not [one for one in hub.log.holding("hf_word_of_ada") if one.origin == "cdn"]


def zarr_text(folder: Path) -> str:
    return (folder / "zarr.json").read_text()


def _handles(url: str, text: str, options: dict[str, Any]) -> list[Any]:
    import pyarrow as pa

    table = pa.table({"zarr": [url], "zarr_metadata": [text]})
    return [row["zarr"] for row in hfzarr.open_manifest(table, storage_options=options)]


def test_no_token_is_in_a_pickle_or_a_repr(hub: Hub, cells: np.ndarray, kept: Path) -> None:
    secret = hub.add_token("hf_word_of_ada", "ada").secret
    location = locate(URL, {"cache": kept, "token": secret})
    source = connect(location)
    for value in (source, location):
        assert secret.encode() not in pickle.dumps(value)
        assert secret not in repr(value)
    assert len(pickle.dumps(source)) < 1000 + len(str(kept))
    assert source == connect(location)
    assert hash(source) == hash(connect(location))


def _read_in_fork(source: CachedSource, pipe: Any) -> None:
    pipe.send(source.get_many([("0/c/0/0", None), ("0/c/1/1", None)]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_processes_read_what_is_kept(hub: Hub, cells: np.ndarray, kept: Path) -> None:
    source = connect(locate(URL, {"cache": kept}))
    source.get("zarr.json")
    truth = source.get_many([("0/c/0/0", None), ("0/c/1/1", None)])
    hub.log.clear()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_read_in_fork, args=(source, theirs))
    child.start()
    assert ours.poll(20)
    assert ours.recv() == truth
    child.join(20)
    assert chunk_requests(hub) == []


def test_a_worker_reads_what_is_kept(hub: Hub, cells: np.ndarray, kept: Path) -> None:
    def total() -> Any:
        return image(cache=kept).chunk({"y": 64}).astype("u8").sum()

    truth = cells.astype("u8").sum()
    assert int(total().compute(scheduler="synchronous")) == truth
    task = kept.parent / "task.pickle"
    task.write_bytes(pickle.dumps(total()))
    hub.log.clear()
    code = f"""
    import pickle
    task = pickle.load(open({str(task)!r}, "rb"))
    print(int(task.compute(scheduler="synchronous")))
    """
    assert run_python(hub, code, kept.parent / "home") == f"{truth}\n"
    read = [path for path in chunk_requests(hub) if "/resolve/" in path]
    assert len(read) == 1, "one object is read to see whether it may be"


def test_the_environment_names_a_cache(
    hub: Hub, cells: np.ndarray, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFZARR_CACHE", str(kept))
    for _ in range(2):
        hub.log.clear()
        np.testing.assert_array_equal(image().values, cells)
    assert chunk_requests(hub) == []
    assert files(kept)
    hub.log.clear()
    np.testing.assert_array_equal(image(cache=None).values, cells)
    assert chunk_requests(hub)


def test_all_that_takes_options_takes_a_cache(
    hub: Hub, cells: np.ndarray, kept: Path, tmp_path: Path
) -> None:
    folder, options = "hf://datasets/ada/cells", {"cache": str(kept)}
    hub.add_commit(hub.repo("ada/cells"), {"index.csv": f"zarr\n{URL}\n"})

    def engine() -> Any:
        return image(**options).values

    def tree() -> Any:
        return xr.open_datatree(URL, engine="hfzarr", storage_options=options)["0"]["image"].values

    def handle() -> Any:
        manifest = hfzarr.scan(folder, storage_options=options)
        return np.asarray(xr.open_dataset(manifest[0]["zarr"], engine="hfzarr")["image"])

    def stacked() -> Any:
        manifest = hfzarr.scan(folder, metadata=True, storage_options=options)
        return xr.open_dataset(manifest, engine="hfzarr", trusted=True)["image"].values[0]

    def index() -> Any:
        manifest = hfzarr.open_manifest(f"{folder}/index.csv", storage_options=options)
        return np.asarray(xr.open_dataset(manifest[0]["zarr"], engine="hfzarr")["image"])

    def dicts() -> Any:
        return xr.open_dataset({"path": URL, "storage_options": options}, engine="hfzarr")["image"]

    count = iter(range(9))

    def reshard() -> Any:
        target = tmp_path / f"new{next(count)}.zarr"
        hfzarr.reshard(URL, target, storage_options=options, progress=False)
        return zarr.open_array(target / "0")[...]

    for way in (engine, tree, handle, stacked, index, dicts, reshard):
        np.testing.assert_array_equal(np.asarray(way()), cells)
        hub.log.clear()
        np.testing.assert_array_equal(np.asarray(way()), cells)
        assert len({path for path in chunk_requests(hub) if "/c/" in path}) <= 1, way.__name__


def test_a_cache_that_cannot_be_written_to_is_none(
    hub: Hub, cells: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.warns(CacheWarning, match="cannot be kept") as told:
        data = image(cache=tmp_path / "file").values
    np.testing.assert_array_equal(data, cells)
    assert len(told) == 1


def test_zarr_python_reads_what_is_kept(hub: Hub, kept: Path, tmp_path: Path) -> None:
    from numcodecs import Delta

    data = pixels()
    folder = tmp_path / "stores" / "b.zarr"
    array = zarr.create_array(folder, shape=data.shape, chunks=(64, 64), dtype=data.dtype,
                              filters=[Delta(dtype="u2")], zarr_format=2)  # fmt: skip
    array[...] = data
    hub.add_repo("ada/cells", tmp_path / "stores")
    url = "hf://datasets/ada/cells/b.zarr"
    for _ in range(2):
        hub.log.clear()
        opened = xr.open_dataset(url, engine="hfzarr", storage_options={"cache": kept})
        [found] = opened.data_vars.values()
        np.testing.assert_array_equal(found.values, data)
    assert not [one for one in hub.log if re.search(r"/\d\.\d", one.path)]


def test_damaged_entries_are_read_again(hub: Hub, cells: np.ndarray, kept: Path) -> None:
    np.testing.assert_array_equal(image(cache=kept).values, cells)
    for number, file in enumerate(files(kept)):
        data = bytearray(file.read_bytes())
        data[(number * 7919) % len(data)] ^= 0x40
        file.write_bytes(data if number % 2 else data[: len(data) // 2])
    np.testing.assert_array_equal(image(cache=kept).values, cells)
    hub.log.clear()
    np.testing.assert_array_equal(image(cache=kept).values, cells)
    assert chunk_requests(hub) == []


@pytest.mark.parametrize("target", ["memory", "folder", "zip", "bucket"])
def test_what_is_not_kept(hub: Hub, kept: Path, tmp_path: Path, target: str) -> None:
    write_image(tmp_path / "a.zarr", pixels())
    if target == "bucket":
        files_of = {p.relative_to(tmp_path).as_posix(): p.read_bytes()
                    for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()}  # fmt: skip
        hub.add_repo("ada/cells", files_of, type="bucket")
        place = "hf://buckets/ada/cells/a.zarr"
    elif target == "memory":
        import fsspec

        place = "memory://kept-nowhere/a.zarr"
        fsspec.filesystem("memory").put(str(tmp_path / "a.zarr"), place, recursive=True)
    elif target == "zip":
        import shutil

        place = shutil.make_archive(str(tmp_path / "a.zarr"), "zip", tmp_path / "a.zarr")
    else:
        place = str(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image(place, cache=kept).values, pixels())
    assert not kept.exists()


# --- object stores and web servers ----------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    pytest.importorskip("s3fs")
    with s3_server() as options:
        yield options


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of chunks that sources are asked for."""
    asked: list[str] = []

    def counting(kind: type) -> None:
        inner = kind.get_many  # type: ignore[attr-defined]

        def get_many(self: Any, requests: Any) -> Any:
            asked.extend(key for key, _ in requests if "c/" in key)
            return inner(self, requests)

        monkeypatch.setattr(kind, "get_many", get_many)

    from hfzarr.store.objects.source import ObjectSource
    from hfzarr.store.wrapped import ZarrSource

    counting(ObjectSource)
    counting(ZarrSource)
    return asked


def test_objects_of_a_bucket(
    s3: dict[str, Any], counted: list[str], kept: Path, tmp_path: Path
) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(**s3, skip_instance_cache=True)
    fs.mkdir("cached")
    data = pixels()
    fs.put(str(write_image(tmp_path / "a.zarr", data)), "cached/a.zarr", recursive=True)
    for turn in range(2):
        counted.clear()
        np.testing.assert_array_equal(image("s3://cached/a.zarr", **s3, cache=kept).values, data)
        assert bool(counted) is (turn == 0)
    before = image("s3://cached/a.zarr", **s3, cache=kept)
    # Of the same size, as it is not compressed.
    data[:256, :256] += 1
    write_image(tmp_path / "b.zarr", data)
    fs.put(str(tmp_path / "b.zarr" / "0" / "c" / "0" / "0"), "cached/a.zarr/0/c/0/0")
    counted.clear()
    np.testing.assert_array_equal(image("s3://cached/a.zarr", **s3, cache=kept).values, data)
    np.testing.assert_array_equal(before.values, data)
    assert set(counted) == {"0/c/0/0"}
    for file in files(kept):
        assert b"none" not in file.name.encode()


class _Marking(SimpleHTTPRequestHandler):
    """Serves files and parts of them, with a strong ETag unless told otherwise."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        server: Any = self.server
        server.asked.append((self.command, self.path))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(data)
        if wanted is not None:
            start = int(wanted[1]) if wanted[1] else len(data) - int(wanted[2])
            stop = min(int(wanted[2]) + 1, stop) if wanted[1] and wanted[2] else stop
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if server.marks:
            self.send_header("ETag", f'"{hash(data):x}"')
        if server.dated:
            self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if body:
            self.wfile.write(data[start:stop])


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Any]:
    write_image(tmp_path / "www" / "a.zarr", pixels())
    folder = str(tmp_path / "www")
    server: Any = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: _Marking(*args, directory=folder)
    )
    server.daemon_threads = True
    server.asked, server.marks, server.dated = [], True, True
    server.url = f"http://127.0.0.1:{server.server_port}/a.zarr"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_of_a_web_server(web: Any, kept: Path, tmp_path: Path) -> None:
    def gets() -> list[str]:
        return [path for method, path in web.asked if method == "GET" and "/c/" in path]

    def read() -> Any:
        web.asked.clear()
        return image(web.url, cache=kept)[:100, :300].values

    data = pixels()
    np.testing.assert_array_equal(read(), data[:100, :300])
    first = gets()
    assert first
    np.testing.assert_array_equal(read(), data[:100, :300])
    assert gets() == []
    heads = [path for method, path in web.asked if method == "HEAD" and "/c/" in path]
    assert len(heads) == len(set(first)), "one for each object"
    data[:64, :64] += 1
    write_image(tmp_path / "b.zarr", data)
    (tmp_path / "b.zarr" / "0" / "c" / "0" / "0").replace(
        tmp_path / "www" / "a.zarr" / "0" / "c" / "0" / "0"
    )
    np.testing.assert_array_equal(read(), data[:100, :300])
    assert {path[-3:] for path in gets()} == {"0/0"}


def test_a_web_server_that_tells_times_only(web: Any, kept: Path, tmp_path: Path) -> None:
    web.marks = False
    np.testing.assert_array_equal(image(web.url, cache=kept).values, pixels())
    assert files(kept) == [], "the files are new"
    for path in files(tmp_path / "www"):
        os.utime(path, (1e9, 1e9))
    for _ in range(2):
        web.asked.clear()
        np.testing.assert_array_equal(image(web.url, cache=kept).values, pixels())
    assert not [path for method, path in web.asked if method == "GET" and "/c/" in path]


def test_a_web_server_that_tells_nothing(web: Any, kept: Path) -> None:
    web.marks = web.dated = False
    with pytest.warns(CacheWarning, match="tells neither a checksum") as told:
        data = image(web.url, cache=kept).values
    np.testing.assert_array_equal(data, pixels())
    assert len(told) == 1
    assert files(kept) == []


def test_signed_addresses_are_in_no_name(web: Any, kept: Path) -> None:
    source = connect(locate(f"{web.url}?sig=wrpx9Qz", {"cache": kept}))
    assert "wrpx9Qz" not in repr(source)
    assert copy_into("k", b"x", memoryview(bytearray(1))) == 1
    assert "wrpx9Qz" not in source._identity  # type: ignore[attr-defined]
