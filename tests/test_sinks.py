"""Writing: each object whole or not at all, whatever goes wrong meanwhile."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore

from hfzarr.errors import HfzarrError, MissingDependencyError, TargetError, WriteError
from hfzarr.store import folder_sink
from hfzarr.store.connect import connect_sink
from hfzarr.store.folder import FolderSource
from hfzarr.store.folder_sink import FolderSink
from hfzarr.store.location import locate
from hfzarr.store.sink import WORK, Sink, SinkFile
from hfzarr.store.wrapped import ZarrSource
from hfzarr.store.zarr_sink import ZarrSink
from servers import s3_server

KINDS = ("folder", "quick", "memory", "wrapped", "fsspec")
needs_s3 = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto", "flask")),
    reason="s3:// needs s3fs, and moto's server to talk to",
)


def make(kind: str, folder: Path) -> Sink:
    if kind in ("folder", "quick"):
        return FolderSink(str(folder / "out"), sync=kind == "folder")
    if kind == "fsspec":
        return connect_sink(locate(f"memory:/{folder.as_posix()}"))
    store: Any = MemoryStore()
    return ZarrSink(WrapperStore(store) if kind == "wrapped" else store)


@pytest.fixture(params=KINDS)
def sink(request, tmp_path) -> Sink:
    return make(request.param, tmp_path)


@pytest.fixture
def folder(tmp_path) -> FolderSink:
    return FolderSink(str(tmp_path / "out"))


def names(sink: FolderSink) -> list[str]:
    """Return every file below a folder, but for those of locks."""
    root = Path(sink.root)
    found = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return sorted(name for name in found if name != f"{WORK}/lock")


# --- what every sink does ------------------------------------------------------------------------


def test_what_is_written_can_be_read(sink):
    assert isinstance(sink, Sink)
    assert isinstance(sink.create("a"), SinkFile)
    sink.put("zarr.json", b"{}")
    parts = [b"ab", bytearray(b"c"), memoryview(b"defg")[1:3], b"", np.arange(2, dtype="<u2").data]
    with sink.create("a/c/0") as file:
        assert file.size == 0
        file.write(b"first")
        file.write(parts)
        file.write([])
        file.write(np.zeros((0, 3)).data)
        assert file.size == 5 + 2 + 1 + 2 + 4
    source = sink.source()
    assert source.get("a/c/0") == b"firstabcef\0\0\1\0"
    assert source.get("zarr.json") == b"{}"
    assert source.sizes(["a/c/0", "a/c/1"]) == [14, None]
    assert type(source) is (FolderSource if isinstance(sink, FolderSink) else ZarrSource)
    assert source.url == sink.url


def test_an_object_is_replaced_whole(sink):
    sink.put("a", b"long before")
    with sink.create("a") as file:
        file.write(b"after")
        assert sink.source().get("a") == b"long before"
    assert sink.source().get("a") == b"after"
    sink.put("a", b"")
    assert sink.source().get("a") == b""


def test_nothing_is_there_until_all_is(sink):
    with sink.create("a/b") as file:
        file.write(b"half")
        assert sink.source().get("a/b") is None
    assert sink.source().get("a/b") == b"half"


def test_a_block_that_fails_leaves_nothing(sink):
    def write(error: BaseException) -> None:
        with sink.create("a/b") as file:
            file.write(b"half")
            raise error

    for kind in (ValueError, KeyboardInterrupt):
        with pytest.raises(kind, match="mine"):
            write(kind("mine"))
    assert sink.source().get("a/b") is None
    if isinstance(sink, FolderSink):
        assert names(sink) == []


def test_buffers_may_be_used_again(sink):
    buffer = bytearray(b"one")
    with sink.create("a") as file:
        file.write(buffer)
        buffer[:] = b"two"
        file.write([memoryview(buffer)])
        buffer[:] = b"---"
    assert sink.source().get("a") == b"onetwo"


def test_deleting(sink):
    for key in ("a/b/c", "a/b/d", "a/e", "ab", "f"):
        sink.put(key, b"x")
    sink.delete("a/b")
    sink.delete("none")
    sink.delete("none/at/all")
    sink.delete("f")
    source = sink.source()
    there = [key for key in ("a/b/c", "a/b/d", "a/e", "ab", "f") if source.get(key) is not None]
    assert there == ["a/e", "ab"]
    assert "b" not in sink.source().list_dir("a")


def test_emptying_spares_the_work_under_way(sink):
    sink.delete("")
    for key in ("zarr.json", "a/b", f"{WORK}/plan.json"):
        sink.put(key, b"x")
    sink.delete("")
    assert sink.source().list_dir("") == [WORK]
    assert sink.source().get(f"{WORK}/plan.json") == b"x"
    sink.delete(WORK)
    assert sink.source().list_dir("") == []


@pytest.mark.parametrize(
    "key", ["", "/a", "../a", "a/../../b", "a//b", "a/", "./a", "a\\..\\..\\b", "a\0b", "."]
)
def test_a_key_stays_inside(sink, key):
    with pytest.raises(WriteError, match="inside a store"):
        sink.create(key)
    with pytest.raises(WriteError, match="inside a store"):
        sink.put(key, b"x")
    if key:
        with pytest.raises(WriteError, match="inside a store"):
            sink.delete(key)


def test_many_threads_write_at_once(sink):
    def write(number: int) -> None:
        with sink.create(f"a/{number % 7}/{number}") as file:
            file.write([str(number).encode()] * 3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    source = sink.source()
    assert [source.get(f"a/{i % 7}/{i}") for i in range(200)] == [
        str(i).encode() * 3 for i in range(200)
    ]


def test_threads_that_write_one_key_leave_one_of_them(sink):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: sink.put("a", bytes([i]) * 1000), range(100)))
    data = sink.source().get("a")
    assert data is not None
    assert data == data[:1] * 1000


@pytest.mark.parametrize("kind", ["folder", "fsspec"])
def test_a_pickled_copy_writes_to_the_same_place(kind, tmp_path):
    sink = make(kind, tmp_path)
    data = pickle.dumps(sink)
    assert len(data) < 1500
    copy = pickle.loads(data)
    copy.put("a", b"x")
    assert copy.url == sink.url
    assert sink.source().get("a") == b"x"


def test_sinks_are_equal_where_their_stores_are(tmp_path):
    store = MemoryStore()
    assert ZarrSink(store) == ZarrSink(store)
    assert hash(ZarrSink(store)) == hash(ZarrSink(store))
    assert ZarrSink(store) != FolderSink("/a")
    assert FolderSink(str(tmp_path)) == FolderSink(str(tmp_path))
    assert "memory" in repr(ZarrSink(store))


def test_a_store_that_fails_says_where():
    class Failing(MemoryStore):
        async def set(self, *args):
            raise RuntimeError("on fire")

        async def delete(self, *args):
            raise OSError(errno.EROFS, "read-only")

    sink = ZarrSink(Failing(), "s3://bucket/x")
    with pytest.raises(WriteError, match=r"'s3://bucket/x': cannot write 'a/b': RuntimeError: on"):
        sink.put("a/b", b"")
    with pytest.raises(WriteError, match="cannot delete 'a'"):
        sink.delete("a")


def test_what_zarr_writes_by_way_of_a_sink_it_reads(tmp_path):
    memory = MemoryStore()
    zarr.create_array(memory, name="a", data=np.arange(12).reshape(3, 4), chunks=(2, 2))
    for kind in ("folder", "fsspec"):
        sink = make(kind, tmp_path)
        for key, buffer in memory._store_dict.items():
            sink.put(key, buffer.to_bytes())
        store = (
            LocalStore(sink.url, read_only=True)
            if kind == "folder"
            else FsspecStore.from_url(f"memory:/{tmp_path.as_posix()}", read_only=True)
        )
        np.testing.assert_array_equal(
            zarr.open_array(store, path="a", mode="r")[:], np.arange(12).reshape(3, 4)
        )


@needs_s3
def test_an_object_store():
    with s3_server() as options:
        fsspec.filesystem("s3", **options).mkdir("sinks")
        sink = connect_sink(locate("s3://sinks/out.zarr", options))
        assert sink.url == "s3://sinks/out.zarr"
        assert not sink.local
        for key in ("a/b", "a/c", "ab/c", f"{WORK}/plan.json"):
            sink.put(key, b"x")
        with contextlib.suppress(ZeroDivisionError), sink.create("half") as file:
            file.write([b"x"] * (1 // 0))
        with sink.create("big") as file:
            for _ in range(3):
                file.write(b"0123456789" * 2**16)
        assert sink.source().list_dir("") == [WORK, "a", "ab", "big"]
        assert sink.source().sizes(["big"]) == [3 * 10 * 2**16]
        # Another process writes: what was listed is asked for again.
        other = fsspec.filesystem("s3", **options, skip_instance_cache=True)
        other.pipe("sinks/out.zarr/new", b"x")
        assert sink.source().list_dir("") == [WORK, "a", "ab", "big", "new"]
        sink.delete("a")
        sink.delete("none")
        assert sink.source().list_dir("") == [WORK, "ab", "big", "new"]
        pickle.loads(pickle.dumps(sink)).delete("")
        assert sink.source().list_dir("") == [WORK]
        assert sink.append("a", b"x") is False
        with pytest.raises(WriteError, match="no-such-bucket"):
            connect_sink(locate("s3://no-such-bucket/x", options)).put("a", b"x")


# --- folders -------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(0, 5000), max_size=60),
    cut=st.integers(1, 4000),
    most=st.integers(1, 20),
)
def test_a_call_that_writes_less_is_gone_on_with(sizes, cut, most, tmp_path_factory):
    folder = FolderSink(str(tmp_path_factory.mktemp("short")), sync=False)
    parts = [random.Random(i).randbytes(size) for i, size in enumerate(sizes)]
    writev = os.writev

    def short(file, views):
        assert len(views) <= most
        joined = b"".join(views)[:cut]
        return writev(file, [joined])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", short)
        patch.setattr(folder_sink, "_IOV_MAX", most)
        with folder.create("a") as file:
            file.write(parts)
    assert folder.source().get("a") == b"".join(parts)
    assert file.size == sum(sizes)


def test_more_buffers_than_one_call_takes(folder):
    with folder.create("a") as file:
        file.write([bytes([i % 256]) for i in range(5000)])
    assert folder.source().get("a") == bytes(i % 256 for i in range(5000))


def test_without_writev(folder, monkeypatch):
    monkeypatch.delattr(os, "writev")
    folder.put("a", b"abc")
    with folder.create("b") as file:
        file.write([b"ab", b"", b"cd"])
    assert folder.source().get("b") == b"abcd"


@pytest.mark.parametrize("sync", [True, False])
def test_bytes_are_on_disk_before_they_have_a_name(tmp_path, monkeypatch, sync):
    folder = FolderSink(str(tmp_path), sync=sync)
    calls = []
    for name in ("fsync", "close", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, c=call: (calls.append(n), c(*a))[1])
    with folder.create("a") as file:
        file.write(b"x")
    assert calls == ["fsync", "close", "replace"][not sync :]


def test_files_have_the_rights_that_others_have(folder):
    Path(folder.root).mkdir()
    (Path(folder.root) / "plain").write_bytes(b"")
    folder.put("a/b", b"")
    modes = [os.stat(f"{folder.root}/{name}").st_mode for name in ("plain", "a/b")]
    assert modes[0] == modes[1]


def test_nothing_is_made_before_something_is_written(tmp_path):
    sink = connect_sink(locate(tmp_path / "out.zarr"))
    sink.create("a")
    sink.source().get("a")
    sink.delete("a")
    sink.delete("")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "number", "words"),
    [
        ("writev", errno.ENOSPC, "No space left on device. Free some space"),
        ("fsync", errno.EDQUOT, "quota exceeded. Free some of the quota"),
        ("close", errno.ENOSPC, "No space left on device. Free some space"),
        ("replace", errno.EACCES, "Permission denied. Get the right"),
        ("open", errno.EROFS, "Read-only file system. Nothing can be written"),
        ("open", errno.EMFILE, "Too many open files."),
        ("writev", errno.EIO, "Input/output error."),
        ("writev", errno.EFBIG, "File too large. No file may be"),
    ],
)
def test_what_the_system_refuses(folder, monkeypatch, call, number, words):
    folder.put("before", b"")
    real = getattr(os, call)

    def refuse(*args):
        if call == "close":
            real(*args)
        raise OSError(number, os.strerror(number))

    def write() -> None:
        with folder.create("a/c/7") as file:
            file.write(b"x" * 100)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(WriteError, match=words) as caught:
            write()
    assert "cannot write 'a/c/7'" in str(caught.value)
    assert folder.root in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, HfzarrError)
    assert caught.value.__cause__.errno == number
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert names(folder) == ["before"]
    write()
    assert names(folder) == ["a/c/7", "before"]


def test_a_file_where_a_folder_should_be(folder):
    folder.put("a", b"x")
    folder.put("b/c", b"x")
    for key in ("a/b", "b"):
        with pytest.raises(WriteError, match=f"cannot write '{key}'"):
            folder.put(key, b"y")
    assert names(folder) == ["a", "b/c"]


def test_no_file_is_left_open(folder, monkeypatch):
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no list of open files here")
    before = len(os.listdir("/proc/self/fd"))
    folder.put("a", b"x")
    with contextlib.suppress(WriteError):
        folder.put("a/b", b"x")
    with contextlib.suppress(ValueError), folder.create("c"):
        raise ValueError
    with folder.lock(), contextlib.suppress(WriteError), folder.lock():
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_are_removed_and_not_followed(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"x")
    folder.put("a/b", b"x")
    os.symlink(tmp_path / "mine", f"{folder.root}/a/link")
    os.symlink(tmp_path / "mine", f"{folder.root}/top")
    folder.delete("a")
    folder.delete("top")
    assert names(folder) == []
    assert (tmp_path / "mine" / "file").exists()


def test_two_delete_the_same(folder):
    for i in range(300):
        FolderSink(folder.root, sync=False).put(f"a/{i % 10}/{i}", b"")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: folder.delete("a"), range(4)))
    assert names(folder) == []


# --- appending -----------------------------------------------------------------------------------


def test_appending(sink):
    if not isinstance(sink, FolderSink):
        assert sink.append("a", b"x") is False
        assert sink.source().get("a") is None
        return
    assert sink.append("deep/a", b"one")
    assert sink.append("deep/a", b"two")
    assert sink.source().get("deep/a") == b"onetwo"


def test_appended_lines_of_many_threads_do_not_mix(folder):
    lines = [b"%03d" % i * 500 + b"\n" for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda line: folder.append("log", line), lines))
    data = folder.source().get("log")
    assert data is not None
    assert sorted(data.splitlines(keepends=True)) == lines


# --- one run at a time ---------------------------------------------------------------------------


def test_a_second_run_is_kept_out(folder):
    with folder.lock():
        holder = rf"another run .*process {os.getpid()} on .*Wait"
        with pytest.raises(WriteError, match=holder), folder.lock():
            pass
        with pytest.raises(WriteError, match="another run"), FolderSink(folder.root).lock():
            pass
    with folder.lock():
        pass


def test_a_lock_outlives_what_it_lies_in(folder):
    with folder.lock():
        folder.delete(WORK)
        # The folder is gone, and so another run begins.
        with folder.lock(), pytest.raises(WriteError), folder.lock():
            pass


def test_a_lock_on_a_file_that_is_gone_is_none(folder, monkeypatch):
    flock = folder_sink.fcntl.flock
    gone = []

    def late(file, how):
        if not gone:
            gone.append(file)
            folder.delete(WORK)
        flock(file, how)

    monkeypatch.setattr(folder_sink.fcntl, "flock", late)
    with folder.lock():
        assert os.path.exists(f"{folder.root}/{WORK}/lock")
        with pytest.raises(WriteError, match="another run"), folder.lock():
            pass


def test_a_file_system_without_locks(folder, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(folder_sink.fcntl, "flock", refuse)
    with folder.lock(), folder.lock():
        pass
    monkeypatch.setattr(folder_sink, "fcntl", None)
    with folder.lock(), folder.lock():
        pass


def test_a_lock_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match="lock"), FolderSink(str(tmp_path / "file")).lock():
        pass


def test_stores_without_locks(tmp_path):
    sink = ZarrSink(MemoryStore())
    with sink.lock(), sink.lock():
        pass


HOLD = """
import sys, time
from hfzarr.store.folder_sink import FolderSink
with FolderSink(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_lets_go(folder):
    process = python(HOLD, folder.root)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(WriteError, match=f"process {process.pid} "), folder.lock():
        pass
    kill(process)
    with folder.lock():
        pass


def python(code: str, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *args], stdout=subprocess.PIPE
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


# --- killed, and full ----------------------------------------------------------------------------


KILLED = """
import os, random, signal, sys, threading, time
from hfzarr.store.folder_sink import FolderSink

def write(sink, first):
    for i in range(first, 10**6, 3):
        with sink.create(f"a/{i % 50}") as file:
            for _ in range(20):
                file.write([bytes([i % 256])] * 500)
        if i == first:
            os.write(ready[1], b".")

def check(sink):
    for key in sink.source().list_dir("a"):
        data = sink.source().get(f"a/{key}")
        assert data == data[:1] * 10_000, (key, len(data))
    return len(sink.source().list_dir("a"))

wait = random.Random(0)
found = 0
for attempt in range(30):
    ready = os.pipe()
    sink = FolderSink(sys.argv[1], sync=attempt % 2 == 0)
    child = os.fork()
    if not child:
        for first in range(3):
            threading.Thread(target=write, args=(sink, first)).start()
        signal.pause()
    os.close(ready[1])
    os.read(ready[0], 1)
    time.sleep(wait.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready[0])
    found += check(sink)
print("whole:", found)
"""


def test_a_killed_process_leaves_whole_files_only(folder):
    process = python(KILLED, folder.root)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert int(said.split(b":")[1]) >= 30
    left = [name for name in names(folder) if name.startswith(f"{WORK}/tmp/")]
    assert left, "it was never killed in the middle of a file"


@contextlib.contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        refused = subprocess.run(options, capture_output=True, check=False).returncode
    except FileNotFoundError:
        refused = 1
    if refused:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        sink = FolderSink(str(disk / "out"))
        told = r"'a/\d+': No space left.*Free some space"
        with pytest.raises(WriteError, match=told):
            [sink.put(f"a/{i}", b"x" * 40_000) for i in range(100)]
        written = names(sink)
        assert 3 <= len(written) <= 6
        assert {len(sink.source().get(key) or b"") for key in written} == {40_000}
        with pytest.raises(WriteError, match="No space left"):
            sink.append("log", b"y" * 100_000)
        sink.delete("log")
        sink.delete("a/0")
        sink.put("a/0", b"x" * 40_000)
        with sink.lock():
            pass


LIMITED = """
import resource, sys
from hfzarr.errors import WriteError
from hfzarr.store.folder_sink import FolderSink
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
sink = FolderSink(sys.argv[1])
sink.put("small", b"x" * 10_000)
try:
    sink.put("large", b"x" * 10_001)
except WriteError as error:
    print(error)
"""


def test_a_limit_on_files(folder):
    process = python(LIMITED, folder.root)
    said, _ = process.communicate(timeout=60)
    assert b"cannot write 'large': File too large. No file may be" in said
    assert names(folder) == ["small"]


# --- from a target to a sink ---------------------------------------------------------------------


def test_targets_that_are_folders(tmp_path):
    (tmp_path / "there.zip").mkdir()
    for target in (tmp_path / "a.zarr", str(tmp_path / "there.zip"), f"file://{tmp_path}/b"):
        sink = connect_sink(locate(target))
        assert isinstance(sink, FolderSink)
        assert sink.local
    store = LocalStore(tmp_path / "local")
    assert connect_sink(locate(store)) == FolderSink(str(tmp_path / "local"))
    group = zarr.create_group(store, path="x/y")
    assert connect_sink(locate(group)) == FolderSink(str(tmp_path / "local" / "x" / "y"))


def test_targets_that_are_stores(tmp_path):
    memory = MemoryStore()
    sink = connect_sink(locate(memory))
    sink.put("a", b"x")
    assert memory._store_dict["a"].to_bytes() == b"x"
    fs = fsspec.filesystem("memory")
    base = tmp_path.as_posix()
    mapper = connect_sink(locate(fs.get_mapper(f"{base}/mapped")))
    mapper.put("a/b", b"x")
    assert fs.cat(f"{base}/mapped/a/b") == b"x"
    store = FsspecStore.from_url(f"memory:/{base}/store")
    group = zarr.create_group(store, path="x/y")
    connect_sink(locate(group)).put("a", b"y")
    assert fs.cat(f"{base}/store/x/y/a") == b"y"


@pytest.mark.parametrize(
    "name", ["out.zarr.zip", "OUT.ZIP", "out.ozx", "there.zip", "s3://bucket/a.ozx"]
)
def test_a_zip_is_refused(tmp_path, name):
    (tmp_path / "there.zip").write_bytes(b"")
    target = name if "://" in name else tmp_path / name
    with pytest.raises(TargetError, match=r"is a zip, and many tasks.*zip that afterwards"):
        connect_sink(locate(target))


@pytest.mark.parametrize("target", ["zip://::memory://a.zip", "zip::memory://a", "zip://a"])
def test_a_chain_into_a_zip_is_refused(target):
    with pytest.raises(TargetError, match="is a zip"):
        connect_sink(locate(target))


def test_a_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with pytest.raises(TargetError, match="is a file, and a store"):
        connect_sink(locate(tmp_path / "notes.txt"))


def test_stores_that_take_no_writes(tmp_path):
    with pytest.raises(TargetError, match="many tasks"):
        connect_sink(locate(ZipStore(tmp_path / "a.zip", mode="w")))
    with pytest.raises(TargetError, match="read-only"):
        connect_sink(locate(LocalStore(tmp_path, read_only=True)))
    with pytest.raises(TargetError, match="read-only"):
        connect_sink(locate(MemoryStore(read_only=True)))
    with pytest.raises(TargetError, match=r"dict\) cannot be written to"):
        connect_sink(locate({}))
    group = zarr.create_group(MemoryStore(), path="a/b")
    with pytest.raises(TargetError, match="the node 'a/b'"):
        connect_sink(locate(group))


def test_urls_that_cannot_be_reached(monkeypatch):
    with pytest.raises(TargetError, match="nope"):
        connect_sink(locate("nope://a/b"))
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingDependencyError, match=r"hfzarr\[gcs\]"):
        connect_sink(locate("gs://a/b"))
