"""What sources tell of objects without reading them, and reading straight into a buffer."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, ZipStore

from counting import CountingStore
from hfzarr.errors import ReadError, UnsupportedError
from hfzarr.store.connect import connect
from hfzarr.store.folder import FolderSource
from hfzarr.store.location import locate
from hfzarr.store.source import Source
from hfzarr.store.wrapped import ZarrSource
from hfzarr.store.zipped import ZipSource
from servers import http_server, s3_server
from stores import zip_folder

DATA = {"zarr.json": b"{}", "a/zarr.json": b"{1}", "a/c/0/0": bytes(range(256)), "a/c/0/1": b""}
ABSENT = ["nothing", "a/c/0/0/x", "a/c/9"]
KINDS = ("folder", "zip", "deflated", "memory", "wrapped", "local", "fsspec")
needs_s3 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto", "flask")),
    reason="s3:// needs s3fs, and moto's server to talk to",
)


@dataclass
class Place:
    """A source, and a way to change what lies there."""

    source: Source
    change: Callable[[str, bytes], None]


def fill(folder: Path) -> Path:
    for key, data in DATA.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return folder


def make(kind: str, folder: Path) -> Place:
    root = fill(folder / "s")

    def to_file(key: str, data: bytes) -> None:
        (root / key).write_bytes(data)

    if kind == "folder":
        return Place(FolderSource(str(root)), to_file)
    if kind == "local":
        return Place(ZarrSource(CountingStore(LocalStore(root))), to_file)
    if kind in ("zip", "deflated"):
        return zipped(kind, root)
    if kind == "fsspec":
        fs = fsspec.filesystem("memory")
        url = f"memory:/{folder.as_posix()}"
        for key, data in DATA.items():
            fs.pipe(f"{folder.as_posix()}/{key}", data)
        return Place(
            connect(locate(url)), lambda key, data: fs.pipe(f"{folder.as_posix()}/{key}", data)
        )
    return in_memory(wrapped=kind == "wrapped")


def zipped(kind: str, root: Path) -> Place:
    source: Any = None

    def write() -> None:
        if kind == "zip":
            zip_folder(root, root.with_suffix(".zip"))
        else:
            zip_folder(root, root.with_suffix(".zip"), compression=zipfile.ZIP_DEFLATED, root="r/")

    def change(key: str, data: bytes) -> None:
        (root / key).write_bytes(data)
        source.close()
        write()

    write()
    source = ZipSource(str(root.with_suffix(".zip")))
    return Place(source, change)


def in_memory(wrapped: bool) -> Place:
    make_buffer = default_buffer_prototype().buffer.from_bytes
    store = MemoryStore({key: make_buffer(data) for key, data in DATA.items()})

    def change(key: str, data: bytes) -> None:
        store._store_dict[key] = make_buffer(data)

    return Place(ZarrSource(CountingStore(store) if wrapped else store), change)


@pytest.fixture(params=KINDS)
def place(request, tmp_path) -> Iterator[Place]:
    made = make(request.param, tmp_path)
    yield made
    made.source.close()


# --- stamps --------------------------------------------------------------------------------------


def test_stamps_of_what_is_there_and_what_is_not(place):
    assert isinstance(place.source, Source)
    keys = [*DATA, *ABSENT]
    stamps = place.source.stamps(keys)
    assert [stamp is None for stamp in stamps] == [key not in DATA for key in keys]
    assert all(stamp and len(stamp) < 100 for stamp in stamps[: len(DATA)])
    assert place.source.stamps(keys) == stamps
    assert place.source.stamps([]) == []


def test_a_folder_has_no_stamp(tmp_path):
    for kind in ("folder", "zip", "deflated", "memory", "fsspec"):
        (tmp_path / kind).mkdir()
        assert make(kind, tmp_path / kind).source.stamps(["a", "a/c"]) == [None, None], kind


def test_a_stamp_changes_with_the_size(place):
    before = place.source.stamps(list(DATA))
    place.change("a/zarr.json", b"{12}")
    after = place.source.stamps(list(DATA))
    assert [b != a for b, a in zip(before, after, strict=True)][1]
    if not isinstance(place.source, ZipSource):
        assert [b == a for b, a in zip(before, after, strict=True)] == [True, False, True, True]


@pytest.mark.parametrize("kind", ["folder", "zip", "deflated", "fsspec"])
def test_a_stamp_changes_though_the_size_does_not(kind, tmp_path):
    place = make(kind, tmp_path)
    (before,) = place.source.stamps(["a/zarr.json"])
    place.change("a/zarr.json", b"{2}")
    if kind == "folder":
        # Two writes may come within one tick of the system's clock.
        os.utime(tmp_path / "s" / "a" / "zarr.json", ns=(1, 1))
    assert place.source.stamps(["a/zarr.json"]) != [before]


def test_a_copy_in_another_process_sees_the_same_stamps(tmp_path):
    for kind in ("folder", "zip", "fsspec"):
        (tmp_path / kind).mkdir()
        source = make(kind, tmp_path / kind).source
        assert pickle.loads(pickle.dumps(source)).stamps(list(DATA)) == source.stamps(list(DATA))


def test_a_store_that_tells_nothing_says_so(tmp_path):
    zip_folder(fill(tmp_path / "s"), tmp_path / "s.zip")
    with ZipStore(tmp_path / "s.zip", mode="r") as store:
        source = ZarrSource(store)
        assert source.stamps(["zarr.json", "nothing"]) == ["?", None]
        assert source.list_files("a") == ["zarr.json"]


def test_stamps_are_asked_for_all_at_once():
    class Slow(MemoryStore):
        now = most = 0

        async def getsize(self, key):
            import asyncio

            type(self).now += 1
            type(self).most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            type(self).now -= 1
            return 1

    assert ZarrSource(Slow()).stamps([str(i) for i in range(50)]) == ["1"] * 50
    assert Slow.most == 50


def test_a_source_that_cannot_be_looked_at(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    source = FolderSource(str(tmp_path))
    buffer = memoryview(bytearray(4))
    for ask in (source.stamps, source.sizes, lambda keys: source.read_into(keys[0], buffer)):
        with pytest.raises(ReadError, match=r"'loop'.*symbolic links"):
            ask(["loop"])


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="http:// needs aiohttp")
def test_stamps_over_http(tmp_path):
    fill(tmp_path)
    with http_server(tmp_path) as (url, _):
        source = connect(locate(url))
        before = source.stamps(["a/zarr.json", "nothing", "zarr.json"])
        assert [stamp is None for stamp in before] == [False, True, False]
        (tmp_path / "a/zarr.json").write_bytes(b"longer")
        after = source.stamps(["a/zarr.json", "nothing", "zarr.json"])
        assert after[0] != before[0]
        assert after[1:] == before[1:]
        buffer = memoryview(bytearray(10))
        assert source.read_into("a/zarr.json", buffer) == 6
        assert bytes(buffer[:6]) == b"longer"


@needs_s3
def test_stamps_on_s3_are_fresh():
    with s3_server() as options:
        fs = fsspec.filesystem("s3", **options)
        fs.mkdir("stamps")
        for key, data in DATA.items():
            fs.pipe(f"stamps/x/{key}", data)
        source = connect(locate("s3://stamps/x", options))
        assert source.list_files("") == ["zarr.json"]
        assert source.list_files("a") == ["zarr.json"]
        assert source.list_files("none") == []
        before = source.stamps([*DATA, "nothing", "a"])
        assert [stamp is None for stamp in before] == [False] * len(DATA) + [True, True]
        # Another client changes one object and adds another: what was listed above is stale.
        other = fsspec.filesystem("s3", **options, skip_instance_cache=True)
        other.pipe("stamps/x/a/zarr.json", b"{2}")
        other.pipe("stamps/x/a/new", b"new")
        after = source.stamps([*DATA, "a/new"])
        assert [b != a for b, a in zip(before, after, strict=False)][: len(DATA)] == [
            key == "a/zarr.json" for key in DATA
        ]
        assert after[-1] is not None
        assert source.usage("") is None


# --- reading into a buffer -----------------------------------------------------------------------

ranges = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda two: (two[0], sum(two))),
    st.tuples(st.integers(0, 300), st.none()),
    st.tuples(st.integers(-300, -1), st.none()),
)


@given(byte_range=ranges, room=st.integers(0, 300), key=st.sampled_from([*DATA, *ABSENT]))
@pytest.mark.parametrize("kind", KINDS)
def test_read_into_gives_what_get_gives(kind, byte_range, room, key, tmp_path_factory):
    source = held(kind, tmp_path_factory)
    wanted = source.get(key, byte_range)
    array = bytearray(b"\xff") * (room + 5)
    buffer = memoryview(array)[:room]
    if wanted is not None and len(wanted) > room:
        with pytest.raises(BufferError, match=key):
            source.read_into(key, buffer, byte_range)
    else:
        count = source.read_into(key, buffer, byte_range)
        assert count == (None if wanted is None else len(wanted))
        assert bytes(buffer[: count or 0]) == (wanted or b"")
        assert array[count or 0 :].strip(b"\xff") == b""
    assert array[room:] == b"\xff" * 5


_HELD: dict[str, Source] = {}


def held(kind: str, factory: pytest.TempPathFactory) -> Source:
    """Return a source that many examples share."""
    if kind not in _HELD:
        _HELD[kind] = make(kind, factory.mktemp(kind)).source
    return _HELD[kind]


@pytest.fixture(autouse=True, scope="module")
def _let_go() -> Iterator[None]:
    yield
    for source in _HELD.values():
        source.close()
    _HELD.clear()


def test_a_folder_is_no_object(tmp_path):
    source = make("folder", tmp_path).source
    assert source.read_into("a", memoryview(bytearray(4))) is None
    assert source.read_into("", memoryview(bytearray(4))) is None


def test_short_reads_are_no_end(tmp_path, monkeypatch):
    source = make("folder", tmp_path).source
    readv = os.readv
    monkeypatch.setattr(os, "readv", lambda file, parts: readv(file, [parts[0][:7] or parts[-1]]))
    buffer = memoryview(bytearray(300))
    assert source.read_into("a/c/0/0", buffer) == 256
    assert bytes(buffer[:256]) == DATA["a/c/0/0"]
    assert source.read_into("a/c/0/0", buffer, (10, 50)) == 40
    assert bytes(buffer[:40]) == DATA["a/c/0/0"][10:50]
    with pytest.raises(BufferError):
        source.read_into("a/c/0/0", buffer[:255])


def test_few_calls_of_the_system(tmp_path, monkeypatch):
    source = make("folder", tmp_path).source
    calls: list[str] = []
    for name in ("open", "readv", "read", "close", "fstat", "stat", "lseek"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name), calls))
    source.read_into("a/c/0/0", memoryview(bytearray(300)))
    assert calls == ["open", "readv", "readv", "close"]
    calls.clear()
    source.read_into("a/c/0/0", memoryview(bytearray(300)), (5, 20))
    assert calls == ["open", "lseek", "readv", "close"]


def noting(name: str, call: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return call(*args, **kwargs)

    return noted


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files here")
def test_no_file_is_left_open(tmp_path):
    source = make("folder", tmp_path).source
    before = len(os.listdir("/proc/self/fd"))
    for key in [*DATA, *ABSENT, "a"]:
        for room in (0, 300):
            with contextlib.suppress(BufferError):
                source.read_into(key, memoryview(bytearray(room)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_readv(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "readv")
    source = make("folder", tmp_path).source
    buffer = memoryview(bytearray(300))
    assert source.read_into("a/c/0/0", buffer) == 256
    assert source.read_into("nothing", buffer) is None
    with pytest.raises(BufferError, match="256"):
        source.read_into("a/c/0/0", buffer[:255])


# --- what lies there -----------------------------------------------------------------------------


def test_files_are_told_from_folders(place):
    assert place.source.list_files("") == ["zarr.json"]
    assert place.source.list_files("a") == ["zarr.json"]
    assert place.source.list_files("a/c/0") == ["0", "1"]
    assert place.source.list_files("none") == []


def test_usage_is_what_lies_below(place):
    if isinstance(place.source, ZarrSource):
        assert place.source.usage("a") is None
        return
    assert place.source.usage("")[:2] == (4, 261)
    assert place.source.usage("a")[:2] == (3, 259)
    assert place.source.usage("a/c/0")[:2] == (2, 256)
    assert place.source.usage("none")[:2] == (0, 0)


def test_usage_follows_links_once(tmp_path):
    root = fill(tmp_path / "s")
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_bytes(b"12345")
    os.symlink("..", root / "a" / "up")
    os.symlink(".", root / "a" / "here")
    os.symlink(other, root / "a" / "away")
    os.symlink(other, root / "a" / "again")
    os.symlink("nowhere", root / "a" / "broken")
    assert FolderSource(str(root)).usage("")[:2] == (5, 266)


def test_a_store_that_cannot_be_listed():
    class Unlisted(MemoryStore):
        supports_listing = False

    with pytest.raises(UnsupportedError, match="cannot be listed"):
        ZarrSource(Unlisted()).list_files("a")


def test_a_zip_whose_store_lies_in_a_folder(tmp_path):
    source = make("deflated", tmp_path).source
    assert isinstance(source, ZipSource)
    assert source.prefix == "r/"
    with zipfile.ZipFile(tmp_path / "s.zip", "a") as archive:
        archive.writestr("__MACOSX/r/x", "junk")
        archive.writestr("r/b/", "")
    source.close()
    assert source.usage("")[:2] == (4, 261)
    assert source.list_files("") == ["zarr.json"]
    assert source.stamps(["b", "b/"]) == [None, None]
