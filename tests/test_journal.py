"""A journal tells what is done, whatever happened to those who wrote it."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from hfzarr.errors import ChangedSourceError, TargetError, WriteError
from hfzarr.run.journal import WORK, Done, Journal
from hfzarr.store.connect import connect_sink
from hfzarr.store.folder_sink import FolderSink
from hfzarr.store.location import locate
from hfzarr.store.sink import Sink
from hfzarr.store.zarr_sink import ZarrSink

ABOUT = {"source": "s3://a/b.zarr", "shard": "auto"}


@pytest.fixture(params=["folder", "memory", "fsspec"])
def sink(request, tmp_path) -> Sink:
    if request.param == "folder":
        return FolderSink(str(tmp_path / "out"))
    if request.param == "fsspec":
        return connect_sink(locate(f"memory:/{tmp_path.as_posix()}"))
    return ZarrSink(MemoryStore())


@pytest.fixture
def folder(tmp_path) -> FolderSink:
    return FolderSink(str(tmp_path / "out"))


def done(number: int, stamp: str = "s", **changed: Any) -> Done:
    values = {
        "task": f"a/b:{number}",
        "stamp": stamp,
        "files": {f"a/b/c/{number}": number, "é/\n": 2},
        "chunks": number,
        "bytes_read": 10 * number,
        "bytes_written": 2**40,
    }
    return Done(**{**values, **changed})


def tasks(*numbers: int) -> dict[str, Done]:
    return {done(number).task: done(number) for number in numbers}


def journal_files(folder: FolderSink) -> list[Path]:
    return sorted(Path(folder.root, WORK).glob("journal-*"))


# --- a run, and the next ------------------------------------------------------------------------


def test_what_was_done_is_known_afterwards(sink):
    journal = Journal(sink)
    assert journal.fingerprint() is None
    assert journal.begin("f", about=ABOUT) == {}
    assert journal.fingerprint() == "f"
    for number in range(5):
        journal.add(done(number))
    assert Journal(sink).begin("f", about=ABOUT) == tasks(*range(5))
    assert Journal(sink).begin("f") == tasks(*range(5))
    journal.finish()
    assert Journal(sink).fingerprint() is None
    assert sink.source().list_dir("") == []


def test_each_run_adds_to_what_is_known(sink):
    for number in range(4):
        journal = Journal(sink)
        assert journal.begin("f") == tasks(*range(number))
        journal.add(done(number))


def test_the_last_record_of_a_task_counts(sink, monkeypatch):
    now = iter([3.0, 9.0, 5.0])
    monkeypatch.setattr(time, "time", lambda: next(now))
    for stamp in ("old", "new", "between"):
        Journal(sink).begin("f")
        Journal(sink).add(done(1, stamp))
    assert Journal(sink).begin("f") == {done(1).task: done(1, "new")}


def test_what_was_never_finished_is_deleted(sink):
    journal = Journal(sink)
    journal.begin("f")
    journal.add(done(1))
    for name in ("tmp/0123", "scratch/a/c/0"):
        sink.put(f"{WORK}/{name}", b"x")
    assert Journal(sink).begin("f") == tasks(1)
    source = sink.source()
    assert source.get(f"{WORK}/tmp/0123") is None
    assert source.get(f"{WORK}/scratch/a/c/0") == b"x"


def test_starting_anew_forgets_the_run_and_not_the_target(sink):
    journal = Journal(sink)
    journal.begin("f")
    journal.add(done(1))
    for key in (f"{WORK}/tmp/0", f"{WORK}/scratch/a/0", "a/b/c/1"):
        sink.put(key, b"x")
    assert Journal(sink).begin("f", resume=False) == {}
    assert sink.source().get("a/b/c/1") == b"x"
    assert sink.source().list_files(WORK) == ["plan.json"]
    assert sink.source().get(f"{WORK}/tmp/0") is None
    assert Journal(sink).begin("g", resume=False) == {}
    assert Journal(sink).fingerprint() == "g"


def test_what_a_killed_finish_left_is_no_run(sink):
    journal = Journal(sink)
    journal.begin("f")
    journal.add(done(1))
    sink.delete(f"{WORK}/plan.json")
    assert journal.fingerprint() is None
    assert journal.begin("f") == {}
    assert journal.begin("f") == {}


def test_finish_ends_the_run_before_all_else(folder, monkeypatch):
    journal = Journal(folder)
    journal.begin("f")
    journal.add(done(1))
    deleted = []
    monkeypatch.setattr(FolderSink, "delete", lambda self, prefix: deleted.append(prefix))
    journal.finish()
    assert deleted == [f"{WORK}/plan.json", WORK]


def test_the_lock_stays_through_a_new_start(folder):
    with folder.lock():
        Journal(folder).begin("f")
        Journal(folder).begin("g", resume=False)
        with pytest.raises(WriteError, match="another run"), folder.lock():
            pass
        Journal(folder).finish()
    assert list(Path(folder.root).iterdir()) == []


def test_another_working_folder(sink):
    journal = Journal(sink, work="elsewhere/work")
    journal.begin("f")
    journal.add(done(1))
    assert Journal(sink).fingerprint() is None
    assert Journal(sink, work="elsewhere/work").begin("f") == tasks(1)


# --- a run of something else ---------------------------------------------------------------------


def test_a_changed_source_is_told_from_another_wish(sink):
    Journal(sink).begin("f", about=ABOUT)
    Journal(sink).add(done(1))
    with pytest.raises(ChangedSourceError, match=r"the source has changed since.*resume=False"):
        Journal(sink).begin("g", about=ABOUT)
    other = {**ABOUT, "shard": "64 MiB"}
    with pytest.raises(TargetError, match=r"shard was 'auto', and is '64 MiB'\)\. Ask"):
        Journal(sink).begin("g", about=other)
    with pytest.raises(TargetError, match="level was None, and is '1'"):
        Journal(sink).begin("g", about={**ABOUT, "level": "1"})
    # None of these changed anything.
    assert Journal(sink).begin("f") == tasks(1)


def test_a_run_that_said_nothing_of_itself(sink):
    Journal(sink).begin("f")
    with pytest.raises(TargetError, match=r"unfinished run of another plan\. Ask"):
        Journal(sink).begin("g")


@pytest.mark.parametrize(
    "plan", [b"", b"{", b"[]", b'{"version": 99, "fingerprint": "f", "about": {}}', b"\xff"]
)
def test_a_plan_of_unknown_make_is_not_gone_on_with(sink, plan):
    sink.put(f"{WORK}/plan.json", plan)
    with pytest.raises(TargetError, match="another plan"):
        Journal(sink).begin("f", about=ABOUT)
    assert Journal(sink).begin("f", resume=False) == {}
    assert Journal(sink).begin("f") == {}


# --- records that were cut short -----------------------------------------------------------------


@given(cut=st.integers(0, 2000), junk=st.sampled_from([b"", b"\0\0\0", b"{}", b"null\n", b"\xff["]))
def test_a_record_cut_short_spoils_no_other(cut, junk, tmp_path_factory):
    folder = FolderSink(str(tmp_path_factory.mktemp("cut")), sync=False)
    journal = Journal(folder)
    journal.begin("f")
    for number in range(3):
        journal.add(done(number))
    (file,) = journal_files(folder)
    text = file.read_bytes()
    file.write_bytes(text[:cut] + junk)
    # Goes on in the same file, as a process does whose disk was full for a while.
    journal.add(done(7))
    found = Journal(folder).begin("f")
    whole = [n for n in range(3) if is_whole(text, n, cut, junk)]
    assert found == tasks(*whole, 7)


def is_whole(text: bytes, number: int, cut: int, junk: bytes) -> bool:
    """Whether the text of a record ends before the cut, and no junk is glued to it.

    A record whose line break alone is missing is whole.
    """
    lines = text.split(b"\n")
    record = next(line for line in lines if f"a/b:{number}".encode() in line)
    end = text.index(record) + len(record)
    return cut > end or (cut == end and not junk)


@given(numbers=st.lists(st.integers(0, 20), max_size=12), cut=st.integers(0, 400))
def test_a_write_that_is_short_is_noticed(numbers, cut, tmp_path_factory):
    folder = FolderSink(str(tmp_path_factory.mktemp("short")), sync=False)
    journal = Journal(folder)
    journal.begin("f")
    writev = os.writev
    calls = []

    def full(file, views):
        """Write a part of every second record, and then say that the disk is full."""
        calls.append(file)
        if len(calls) % 3 == 2:
            return writev(file, [b"".join(views)[:cut] or b"\n"])
        if len(calls) % 3 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writev(file, views)

    kept = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", full)
        for number in numbers:
            with contextlib.suppress(WriteError):
                journal.add(done(number))
                kept.add(number)
    found = set(Journal(folder).begin("f"))
    assert {done(number).task for number in kept} <= found
    assert found <= {done(number).task for number in numbers}


def test_a_full_disk_is_told(folder, monkeypatch):
    journal = Journal(folder)
    journal.begin("f")

    def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", refuse)
    with pytest.raises(WriteError, match=r"journal-.*No space left on device. Free some space"):
        journal.add(done(1))


def test_files_of_others_are_let_be(folder):
    Journal(folder).begin("f")
    for name in ("journal-x.jsonl", "notes", "journal-y"):
        folder.put(f"{WORK}/{name}", b"hello\n[1]\n{}\n3\n")
    Path(folder.root, WORK, "journal-folder").mkdir()
    assert Journal(folder).begin("f") == {}


# --- many at once --------------------------------------------------------------------------------


def test_many_threads_share_a_journal(sink):
    journal = Journal(sink)
    journal.begin("f")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: journal.add(done(number)), range(300)))
    assert Journal(sink).begin("f") == tasks(*range(300))


def test_copies_of_one_process_share_a_file(folder):
    journal = Journal(folder)
    journal.begin("f")
    copies = [pickle.loads(pickle.dumps(journal)) for _ in range(3)]
    assert len(pickle.dumps(journal)) < 400
    for number, copy in enumerate([journal, *copies]):
        copy.add(done(number))
        copy.add(done(number + 10))
    assert len(journal_files(folder)) == 1
    assert Journal(folder).begin("f") == tasks(0, 1, 2, 3, 10, 11, 12, 13)


PROCESSES = """
import os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from hfzarr.run.journal import Done, Journal
from hfzarr.store.folder_sink import FolderSink

journal = Journal(FolderSink(sys.argv[1]))
journal.begin("f")
# A thread adds all the time, so that some fork comes in the middle of it.
def add(first, count):
    for i in range(count):
        journal.add(Done(task=f"{first}/{i}", stamp="s", files={"x" * 200: i}))

thread = threading.Thread(target=add, args=("parent", 2000))
thread.start()
children = []
for name in range(8):
    child = os.fork()
    if not child:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: add(f"{name}-{n}", 50), range(3)))
        os._exit(0)
    children.append(child)
thread.join()
for child in children:
    _, status = os.waitpid(child, 0)
    assert status == 0
found = Journal(FolderSink(sys.argv[1])).begin("f")
assert len(found) == 2000 + 8 * 3 * 50, len(found)
print("all there")
"""


def python(code: str, *args: str) -> bytes:
    command = [sys.executable, "-W", "ignore", "-c", code, *args]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=180).stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_share_a_journal(folder):
    assert python(PROCESSES, folder.root) == b"all there\n"
    assert len(journal_files(folder)) == 9


KILLED = """
import os, random, signal, sys, time
from hfzarr.run.journal import Done, Journal
from hfzarr.store.folder_sink import FolderSink

sink = FolderSink(sys.argv[1], sync=False)
wait = random.Random(1)
known = -1
for attempt in range(40):
    ready = os.pipe()
    child = os.fork()
    if not child:
        with sink.lock():
            journal = Journal(sink)
            found = journal.begin("f")
            for i in range(len(found), 10**7):
                key = f"a/{i % 40}"
                with sink.create(key) as file:
                    file.write([str(i).encode()] * 100)
                journal.add(Done(task=str(i), stamp="s", files={key: file.size}))
                if i == len(found):
                    os.write(ready[1], b".")
    os.close(ready[1])
    os.read(ready[0], 1)
    time.sleep(wait.random() * 0.03)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready[0])
    with sink.lock():
        found = Journal(sink).begin("f")
        left = sink.source().list_dir(".hfzarr-reshard/tmp")
    # What was known stays known; what is known is in its place; nothing half-written is left.
    assert sorted(map(int, found)) == list(range(len(found)))
    assert len(found) > known
    assert not left
    for done in list(found.values())[-40:]:
        for key, size in done.files.items():
            data = sink.source().get(key)
            assert data is not None and len(data) >= size
            assert data == data[: len(data) // 100] * 100
    known = len(found) - 1
with sink.lock():
    Journal(sink).finish()
assert sink.source().list_dir("") == ["a"]
print("done", known)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_run_that_is_killed_again_and_again(folder):
    word, count = python(KILLED, folder.root).split()
    assert word == b"done"
    assert int(count) >= 39


@contextlib.contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
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


def test_a_disk_that_was_full_for_a_while(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        sink = FolderSink(str(disk))
        journal = Journal(sink)
        journal.begin("f")
        sink.put("ballast", b"x" * 20_000)
        kept = []
        with contextlib.suppress(WriteError):
            for number in range(1000):
                journal.add(done(number))
                kept.append(number)
        assert 10 < len(kept) < 1000
        with pytest.raises(WriteError, match="No space left"):
            journal.add(done(1000))
        assert set(Journal(sink).begin("f")) == set(tasks(*kept))
        sink.delete("ballast")
        journal.add(done(2000))
        assert Journal(sink).begin("f") == tasks(*kept, 2000)
        journal.finish()
        assert os.listdir(disk) == []


# --- many records --------------------------------------------------------------------------------


def test_ten_thousand_records_are_read_in_a_moment(folder):
    journal = Journal(folder)
    journal.begin("f")
    for number in range(10_000):
        journal.add(done(number))
    began = time.perf_counter()
    found = Journal(folder).begin("f")
    took = time.perf_counter() - began
    assert len(found) == 10_000
    assert took < 2
