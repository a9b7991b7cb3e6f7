"""Rewriting a store while everything goes wrong: what is there is whole, and the rest is redone."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from google_crc32c import value as crc32c

from hfzarr.errors import (
    ChangedSourceError,
    HfzarrError,
    ReadError,
    TargetError,
    VerificationError,
    WriteError,
)
from hfzarr.faces.reshard import plan_reshard, reshard
from hfzarr.run.journal import Journal
from hfzarr.store.folder_sink import FolderSink
from hfzarr.store.sink import WORK
from reshard_faults import (
    ROUTES,
    Runner,
    Stop,
    at_task,
    begun_twice,
    check_complete,
    check_finished,
    check_shards,
    check_unfinished,
    counted,
    noted,
    pixels,
    shards_of,
    stop,
    stopped_after,
    write_source,
)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
routes = pytest.mark.parametrize("route", ROUTES)
clients = pytest.mark.parametrize("client", [None, "serial", "dask"])


@pytest.fixture(scope="module")
def runner():
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out.zarr"


@pytest.fixture
def notes(tmp_path) -> Path:
    (tmp_path / "notes").touch()
    return tmp_path / "notes"


def arguments(route: str, source: Path, target: Path, **more: Any) -> dict[str, Any]:
    return {"source": str(source), "target": str(target), **ROUTES[route], **more}


def files_of(target: Path) -> dict[str, bytes]:
    """Return every file of a finished target."""
    files = [file for file in target.rglob("*") if file.is_file()]
    return {file.relative_to(target).as_posix(): file.read_bytes() for file in files}


@routes
def test_what_is_broken_here(tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    plan = plan_reshard(**arguments(route, source, out))
    assert plan.arrays[0].route == route
    assert plan.arrays[0].tasks >= 8
    assert (len(plan.arrays[0].passes) > 2) == (route == "rechunk")
    reshard(**arguments(route, source, out), progress=False)
    check_finished(out)


# --- a process that is killed --------------------------------------------------------------------


@needs_fork
@routes
def test_killed_at_a_call_of_the_system(runner, tmp_path, out, notes, route):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    whole = runner.run(args=args, notes=str(notes))
    assert whole["tasks"] == plan_reshard(**args).tasks
    shutil.rmtree(out)
    seed = random.randrange(2**32)
    print(f"{seed=}")
    chosen = random.Random(seed).sample(range(1, whole["calls"]), 6)
    # Among them the last: the work is done, and its folder is being taken away.
    for call in [*chosen, *range(whole["calls"] - 3, whole["calls"])]:
        notes.write_text("")
        client = "serial" if call % 2 else None
        # Threads may get by with a call less, so a run may end before it is killed.
        runner.run(args={**args, "client": client}, notes=str(notes), kill_at=call)
        check_unfinished(out)
        assert "tasks" in runner.run(args=args, notes=str(notes)), call
        check_finished(out)
        assert begun_twice(notes) == [], call
        shutil.rmtree(out)


@needs_fork
@routes
def test_killed_again_and_again(runner, tmp_path, out, notes, route):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    seed = random.randrange(2**32)
    print(f"{seed=}")
    draw = random.Random(seed)
    job = {"args": args, "notes": str(notes), "delay": 0.02}
    kills, done = 0, {}
    while not done:
        begun = counted(notes, "begun").total() + draw.randint(1, 6)
        done = runner.run(**job, kill_begun=begun, kill_after=draw.uniform(0, 0.05))
        if not done:
            kills += 1
            check_unfinished(out)
            assert kills < 60
    assert "tasks" in done, done
    check_finished(out)
    assert kills >= 1
    assert begun_twice(notes) == []
    tasks = plan_reshard(**{**args, "target": str(tmp_path / "none")}).tasks
    assert len(counted(notes, "begun")) == tasks
    # A kill costs at most the tasks that were under way; copying has two for each processor.
    assert counted(notes, "begun").total() <= tasks + 2 * os.cpu_count() * kills


@clients
@routes
def test_interrupted(tmp_path, out, notes, route, client):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out, client=client, progress=False)
    interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    with noted(notes, 0.01), at_task(5, interrupt), pytest.raises(KeyboardInterrupt):
        reshard(**args)
    before = notes.read_text()
    check_unfinished(out)
    assert not (out / "zarr.json").exists()
    time.sleep(0.1)
    assert notes.read_text() == before, "tasks went on after the run had ended"
    with noted(notes):
        reshard(**args)
    check_finished(out)
    assert begun_twice(notes) == []


@clients
def test_no_task_goes_on_after_an_error(tmp_path, out, notes, client):
    source = write_source(tmp_path / "in.zarr")
    with noted(notes, 0.1), at_task(3, stop), pytest.raises(Stop):
        reshard(**arguments("transcode", source, out, client=client, progress=False))
    before = notes.read_text()
    time.sleep(0.3)
    assert notes.read_text() == before


# --- a disk that is full -------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of some size."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def enlarge(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@clients
@routes
def test_a_full_disk(tmp_path, notes, route, client):
    source = write_source(tmp_path / "in.zarr", route)
    with small_disk(tmp_path / "disk", "96k") as disk:
        out = disk / "out.zarr"
        args = arguments(route, source, out, client=client, progress=False)
        with noted(notes), pytest.raises(WriteError, match="No space left on device") as caught:
            reshard(**args)
        # Copies of both arrays are under way at once.
        assert re.match(r"array '([ab])', shard '\1/c/", str(caught.value))
        assert "Free some space there and start the same run again" in str(caught.value)
        check_unfinished(out)
        assert not (out / "zarr.json").exists()
        assert not any(file.is_file() for file in (out / WORK / "tmp").rglob("*"))
        with pytest.raises(WriteError, match="No space left on device"):
            reshard(**args)
        enlarge(disk, "8m")
        before = len(counted(notes, "done"))
        with noted(notes):
            done = reshard(**args)
        check_finished(out)
        # The run before, which is not noted, may have found room for some.
        assert done.tasks <= done.plan.tasks - before
        assert begun_twice(notes) == []


def test_a_disk_with_no_room_for_the_metadata(tmp_path, notes):
    source = write_source(tmp_path / "in.zarr")
    (source / "notes.txt").write_bytes(os.urandom(300_000))
    with small_disk(tmp_path / "disk", "400k") as disk:
        args = arguments("repack", source, disk / "out.zarr", progress=False)
        with noted(notes), pytest.raises(WriteError, match=r"cannot write 'notes\.txt': No space"):
            reshard(**args)
        check_unfinished(disk / "out.zarr")
        enlarge(disk, "2m")
        with noted(notes):
            assert reshard(**args).tasks == 0
        check_complete(disk / "out.zarr")
        assert (disk / "out.zarr" / "notes.txt").read_bytes() == (source / "notes.txt").read_bytes()


@needs_fork
@routes
def test_files_may_not_be_so_large(runner, tmp_path, out, notes, route):
    pytest.importorskip("resource", reason="limits are a matter of Unix")
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    failed = runner.run(args=args, notes=str(notes), largest=4500)
    kind, message = failed["error"]
    assert kind == "WriteError", message
    assert "array 'a', shard 'a/c/" in message
    assert "File too large" in message
    check_unfinished(out)
    assert "tasks" in runner.run(args=args, notes=str(notes))
    check_finished(out)
    assert begun_twice(notes) == []


# --- a source that is damaged --------------------------------------------------------------------

DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "garbage": lambda data: bytes(np.random.default_rng(1).integers(0, 256, len(data), "u1")),
    "no header": lambda data: b"\0" * 20 + data[20:],
}
CODECS = {
    "zstd": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    "gzip": {"name": "gzip", "configuration": {"level": 1}},
    "blosc": {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 1, "typesize": 2}},
    "raw": None,
}
#: What has the right size, and no header, is a chunk.
NO_DAMAGE = {("raw", "garbage"), ("raw", "no header")}
OTHER_SHAPE = "of another shape"
DAMAGED = [(c, d) for c in CODECS for d in (*DAMAGES, OTHER_SHAPE) if (c, d) not in NO_DAMAGE]


def write_one(folder: Path, codec: str, **more: Any) -> Path:
    root = zarr.create_group(folder)
    options = {"chunks": (2, 32, 32), "compressors": CODECS[codec], **more}
    root.create_array("a", data=pixels(), **options)
    return folder


def damage_chunk(source: Path, codec: str, damage: str) -> None:
    chunk = source / "a" / "c" / "4" / "1" / "0"
    if damage == OTHER_SHAPE:
        other = write_one(source.with_name("other.zarr"), codec, chunks=(2, 16, 32))
        data = (other / "a" / "c" / "4" / "1" / "0").read_bytes()
    else:
        data = DAMAGES[damage](chunk.read_bytes())
    chunk.write_bytes(data)


@pytest.mark.parametrize("route", ["repack", "transcode"])
@pytest.mark.parametrize(("codec", "damage"), DAMAGED)
def test_a_damaged_chunk(tmp_path, out, route, codec, damage):
    source = write_one(tmp_path / "in.zarr", codec)
    damage_chunk(source, codec, damage)
    wishes = {"inner_chunk": (4, 16, 16)} if route == "transcode" else {}
    # What repacking cannot see, as it decodes nothing, is found by reading all.
    verify = "full" if route == "repack" else False
    with pytest.raises((ReadError, VerificationError)) as caught:
        reshard(source, out, shard=(4, 64, 64), **wishes, verify=verify, progress=False)
    assert "array 'a'" in str(caught.value)
    assert "a/c/4/1/0" in str(caught.value)
    assert "a/c/2/0/0" in str(caught.value), "the shard is not named"
    check_unfinished(out)
    assert not (out / "zarr.json").exists()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("damage", ["empty", "cut", "one byte short"])
def test_repacking_sees_what_was_cut_short(tmp_path, out, codec, damage):
    if codec == "gzip" and damage != "empty":
        pytest.skip("gzip does not say how long it is before its end")
    source = write_one(tmp_path / "in.zarr", codec)
    damage_chunk(source, codec, damage)
    with pytest.raises(ReadError, match=r"array 'a', shard 'a/c/2/0/0'.*'a/c/4/1/0'"):
        reshard(source, out, shard=(4, 64, 64), verify=False, progress=False)
    assert not (out / "zarr.json").exists()


def _with_index(data: bytes, change) -> bytes:
    """Return a shard of 8 chunks whose index says something else, with its checksum right."""
    size = 8 * 16 + 4
    entries = np.frombuffer(data[-size:-4], "<u8").reshape(-1, 2).copy()
    change(entries, len(data))
    index = entries.tobytes()
    return data[:-size] + index + int(crc32c(index)).to_bytes(4, "little")


def _put(row: int, column: int, value: int):
    def change(entries, size):
        entries[row, column] = size + value if value <= 0 else value

    return change


SHARD_DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "only an index": lambda data: data[-132:],
    "one byte short": lambda data: data[:-1],
    "index changed": lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
    "checksum changed": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "offset behind the end": lambda data: _with_index(data, _put(3, 0, 0)),
    "offset that is huge": lambda data: _with_index(data, _put(3, 0, 2**63 + 5)),
    "size that is huge": lambda data: _with_index(data, _put(3, 1, 2**40)),
    "size up to the end, and beyond": lambda data: _with_index(data, _put(7, 1, 4000)),
    "half absent": lambda data: _with_index(data, _put(3, 1, 2**64 - 1)),
    "size of nothing": lambda data: _with_index(data, _put(3, 1, 0.0)),
}


@pytest.mark.skipif(
    zarr.__version__ == "3.1.0", reason="zarr 3.1.0 now and then writes a wrong checksum itself"
)
@pytest.mark.parametrize("route", ["repack", "transcode"])
@pytest.mark.parametrize("damage", SHARD_DAMAGES)
def test_a_damaged_shard(tmp_path, out, route, damage):
    source = write_one(tmp_path / "in.zarr", "zstd", shards=(4, 64, 64))
    shard = source / "a" / "c" / "2" / "0" / "0"
    shard.write_bytes(SHARD_DAMAGES[damage](shard.read_bytes()))
    wishes = {"inner_chunk": (4, 16, 16)} if route == "transcode" else {}
    with pytest.raises(ReadError, match=r"array 'a', shard 'a/c/1/0/0'.*'a/c/2/0/0'"):
        reshard(source, out, shard=(8, 64, 64), **wishes, verify=False, progress=False)
    check_unfinished(out)
    assert not (out / "zarr.json").exists()


# --- a source that vanishes, or changes ----------------------------------------------------------


def _chunks_only(source: Path) -> None:
    for folder in ("a", "b"):
        shutil.rmtree(source / folder / "c")


VANISHING = {
    "all": shutil.rmtree,
    "chunks": _chunks_only,
    "one chunk": lambda source: (source / "a" / "c" / "15" / "0" / "0").unlink(),
    "renamed": lambda source: source.rename(source.with_name("away.zarr")),
    "metadata": lambda source: (source / "zarr.json").unlink(),
}


@pytest.mark.parametrize("client", [None, "serial"])
@pytest.mark.parametrize("how", VANISHING)
@routes
def test_a_source_that_vanishes(tmp_path, out, notes, route, how, client):
    source = write_source(tmp_path / "in.zarr", route)
    shutil.copytree(source, tmp_path / "copy.zarr")
    args = arguments(route, source, out, progress=False, verify=False, client=client)
    vanish = lambda: VANISHING[how](source)  # noqa: E731
    with noted(notes), at_task(3, vanish), pytest.raises((ReadError, ChangedSourceError)) as caught:
        reshard(**args)
    assert source.name in str(caught.value)
    check_unfinished(out)
    assert not (out / "zarr.json").exists()
    if how == "renamed":
        source.with_name("away.zarr").rename(source)
        with noted(notes):
            reshard(**args)
        assert begun_twice(notes) == []
        check_finished(out)


def test_a_source_that_is_gone_before_a_run_goes_on(tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out)
    stopped_after(4, **args)
    shutil.rmtree(source)
    with pytest.raises(HfzarrError, match=r"in\.zarr"):
        reshard(**args, progress=False)
    check_unfinished(out)
    assert not (out / "zarr.json").exists()


def _rewritten(source: Path, index: str = "a/c/0/0/0") -> None:
    path = source / index
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _other_attribute(source: Path, path: str) -> None:
    zarr.open(source, path=path, mode="r+", use_consolidated=False).attrs["title"] = "b test"


CHANGES = {
    "a chunk rewritten": _rewritten,
    "a chunk taken away": lambda source: (source / "a" / "c" / "0" / "0" / "0").unlink(),
    "a chunk added": lambda source: zarr.open_array(source / "a", mode="r+").__setitem__((4, 0), 1),
    "an attribute of the group": lambda source: _other_attribute(source, ""),
    "an attribute of an array": lambda source: _other_attribute(source, "a"),
    "an array added": lambda source: zarr.open_group(source).create_array(
        "c", shape=(3,), dtype="u1"
    ),
    "an array taken away": lambda source: shutil.rmtree(source / "b"),
    "a file beside the arrays": lambda source: (source / "notes.txt").write_text("by foot, on"),
    "an array made longer": lambda source: zarr.open_array(source / "a", mode="r+").resize(
        (17, 64, 64)
    ),
}


@pytest.mark.parametrize("how", CHANGES)
@routes
def test_a_source_that_changes_between_runs(tmp_path, out, route, how):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    stopped_after(5, **args)
    # A file system may tell times no better than a few milliseconds.
    time.sleep(0.02)
    CHANGES[how](source)
    with pytest.raises((ChangedSourceError, TargetError), match="resume=False") as caught:
        reshard(**args, progress=False)
    same_arrays = how not in ("an array added", "an array taken away")
    assert isinstance(caught.value, ChangedSourceError) or not same_arrays
    check_unfinished(out)
    assert not (out / "zarr.json").exists()
    if how == "a chunk rewritten":
        return
    reshard(**args, progress=False, resume=False, verify="full")
    anew = tmp_path / "anew.zarr"
    reshard(**arguments(route, source, anew), progress=False)
    assert files_of(out) == files_of(anew)


@pytest.mark.parametrize("client", [None, "serial"])
@routes
def test_a_source_that_changes_while_it_is_read(tmp_path, out, route, client):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out, client=client, progress=False, verify=False)
    tasks = plan_reshard(**arguments(route, source, out)).tasks
    change = lambda: _rewritten(source)  # noqa: E731
    with (
        at_task(tasks - 1, change),
        pytest.raises(ChangedSourceError, match=r"in\.zarr.*resume=False"),
    ):
        reshard(**args)
    check_unfinished(out)
    assert not (out / "zarr.json").exists()


def test_a_chunk_that_no_task_had_read_may_change(tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    stopped_after(2, **arguments("repack", source, out))
    root = zarr.open_array(source / "a", mode="r+")
    # As many bytes as before, once encoded.
    chunk = source / "a" / "c" / "15" / "1" / "1"
    chunk.write_bytes((source / "a" / "c" / "15" / "1" / "1").read_bytes())
    reshard(**arguments("repack", source, out), progress=False, verify="full")
    np.testing.assert_array_equal(zarr.open_array(out / "a", mode="r")[...], root[...])


# --- other wishes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"shard": {"z": 16, "y": 64, "x": 64}},
        {"inner_chunk": {"z": 8, "y": 8, "x": 8}, "shard": "auto"},
        {"codecs": "gzip:1"},
        {"drop_variables": "b"},
    ],
    ids=str,
)
@routes
def test_other_wishes_are_refused_until_it_begins_anew(tmp_path, out, route, other):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    other = {**args, **other, "progress": False}
    if route == "rechunk":
        other["max_memory"] = "1 MB"
    stopped_after(5, **args)
    before = files_of(out)
    with pytest.raises(TargetError, match="unfinished run of another plan") as caught:
        reshard(**other)
    assert "resume=False" in str(caught.value)
    assert files_of(out).keys() >= before.keys() - {f"{WORK}/lock"}
    reshard(**other, resume=False)
    anew = tmp_path / "anew.zarr"
    reshard(**{**other, "target": str(anew)})
    assert files_of(out) == files_of(anew)


@pytest.mark.parametrize(
    "other",
    [
        {"max_memory": "1 GB"},
        {"client": "dask"},
        {"client": None},
        {"verify": "full"},
        {"verify": False},
        pytest.param({"progress": lambda progress: None}, id="progress is a function"),
        {"resume": True, "max_memory": 10**6, "client": "dask"},
    ],
    ids=str,
)
@routes
def test_what_a_run_may_go_on_with(tmp_path, out, notes, route, other):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    with noted(notes):
        stopped_after(7, **args)
        done = reshard(**{**args, "progress": False, **other})
    assert done.tasks == done.plan.tasks - 7
    assert begun_twice(notes) == []
    check_finished(out)


def test_less_memory_than_a_run_was_begun_with(tmp_path, out):
    source = write_source(tmp_path / "in.zarr", "rechunk", "a")
    args = arguments("rechunk", source, out)
    stopped_after(1, **{**args, "max_memory": "90 kB"})
    with pytest.raises(TargetError, match=r"max_memory is 50,000.*resume=False"):
        reshard(**args, progress=False)
    reshard(**args, progress=False, resume=False)
    check_complete(out, "a")


# --- somebody else in the target -----------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"resume": False}, {"shard": (16, 64, 64)}], ids=str)
def test_two_runs_at_once(tmp_path, out, notes, more):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out, progress=False)
    if "shard" in more:
        more = {"shard": {"z": 16, "y": 64, "x": 64}}

    def second() -> None:
        before = files_of(out)
        with pytest.raises(WriteError, match=f"another run writes to it .process {os.getpid()}"):
            reshard(**{**args, **more})
        assert files_of(out) == before

    with noted(notes), at_task(5, second):
        reshard(**args, client="serial")
    check_finished(out)
    assert begun_twice(notes) == []


@needs_fork
def test_two_processes_at_once(runner, tmp_path, out, notes):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out)
    replies: list[Any] = []
    job = {"args": args, "notes": str(notes), "delay": 0.1}
    first = threading.Thread(target=lambda: replies.append(runner.run(**job)))
    first.start()
    while not counted(notes, "done"):
        time.sleep(0.01)
    with pytest.raises(WriteError, match="another run writes to it"):
        reshard(**args, progress=False)
    first.join()
    assert "tasks" in replies[0], replies
    check_finished(out)
    assert begun_twice(notes) == []


def test_a_run_that_ends_while_another_begins(tmp_path, out, monkeypatch):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out, progress=False)
    other = {**args, "shard": {"z": 16, "y": 64, "x": 64}}
    stopped_after(5, **args)
    real = FolderSink.lock

    def first_ends(sink: FolderSink) -> Any:
        # It may have looked already, and found a run under way.
        monkeypatch.setattr(FolderSink, "lock", real)
        reshard(**args)
        return real(sink)

    monkeypatch.setattr(FolderSink, "lock", first_ends)
    with pytest.raises(TargetError):
        reshard(**other)
    check_complete(out)
    check_shards(out)
    anew = tmp_path / "anew.zarr"
    reshard(**{**args, "target": str(anew)})
    names = [[file.relative_to(folder) for file in shards_of(folder)] for folder in (out, anew)]
    assert names[0] == names[1]


@pytest.mark.parametrize("how", ["deleted", "cut short"])
@routes
def test_a_shard_that_is_lost_between_runs(tmp_path, out, notes, route, how):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out)
    tasks = plan_reshard(**args).tasks
    with noted(notes):
        # All but the very last: there are shards by then, on every route.
        stopped_after(tasks - 1, **args)
    lost = shards_of(out)[1]
    if how == "deleted":
        lost.unlink()
    else:
        lost.write_bytes(lost.read_bytes()[:-1])
    with noted(notes):
        done = reshard(**args, progress=False)
    check_finished(out)
    again = [task for task, count in counted(notes, "done").items() if count > 1]
    if route == "rechunk":
        # The intermediate that it was made of may be gone, so more than one may be done again.
        assert 1 <= len(again) < tasks
    else:
        assert len(again) == 1
        assert done.tasks == 2


@pytest.mark.parametrize("client", [None, "serial", "dask"])
@routes
def test_a_target_that_is_deleted_while_it_is_written(tmp_path, out, route, client):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out, client=client, progress=False)
    delete = lambda: shutil.rmtree(out, ignore_errors=True)  # noqa: E731
    with at_task(6, delete), pytest.raises((ReadError, WriteError), match=r"out\.zarr"):
        reshard(**args)
    assert not (out / "zarr.json").exists()
    # What tasks that were under way had written is no run to go on with.
    shutil.rmtree(out, ignore_errors=True)
    reshard(**args)
    check_finished(out)


@routes
def test_shards_that_are_deleted_while_others_are_written(tmp_path, out, route):
    source = write_source(tmp_path / "in.zarr", route)
    args = arguments(route, source, out, client="serial", progress=False, verify=False)
    tasks = plan_reshard(**arguments(route, source, out)).tasks
    delete = lambda: shards_of(out)[0].unlink()  # noqa: E731
    with at_task(tasks - 1, delete), contextlib.suppress(HfzarrError):
        reshard(**args)
    check_unfinished(out)


@pytest.mark.parametrize("resume", [True, False])
def test_what_is_somebody_elses_is_left_as_it_is(tmp_path, out, resume):
    source = write_source(tmp_path / "in.zarr")
    other = write_source(out, "rechunk")
    before = files_of(other)
    with pytest.raises(TargetError, match="is not empty"):
        reshard(source, other, progress=False, resume=resume)
    assert files_of(other) == before
    assert not (other / WORK).exists()


def test_a_complete_target_is_left_as_it_is(tmp_path, out, notes):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out, progress=False)
    reshard(**args)
    before = files_of(out)
    with noted(notes):
        assert reshard(**args).tasks == 0
    assert notes.read_text() == ""
    assert files_of(out) == before


def test_a_store_is_none_from_the_moment_on_that_it_is_deleted(tmp_path, out, monkeypatch):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", lambda journal: stop())
        with pytest.raises(Stop):
            reshard(**args)
    # All is there, and so is the run: it may be begun anew, and stopped at once.
    assert (out / "zarr.json").exists()
    real, count = os.unlink, itertools.count()

    def unlink(*more: Any, **options: Any) -> None:
        if next(count) == 3:
            raise Stop
        real(*more, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(Stop):
        reshard(**args, resume=False)
    check_unfinished(out)


def test_a_complete_target_that_was_damaged_since(tmp_path, out):
    source = write_source(tmp_path / "in.zarr")
    args = arguments("repack", source, out, progress=False)
    reshard(**args)
    shards_of(out)[0].unlink()
    with pytest.raises(VerificationError, match=r"resume=False|elete"):
        reshard(**args)
