"""Bytes kept in a folder between runs: whole or not at all, bounded, and of this user alone."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import random
import re
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfzarr.errors import CacheWarning, TargetError
from hfzarr.store.cache import disk as module
from hfzarr.store.cache.disk import DiskCache, disk_cache
from hfzarr.store.cache.place import CachePlace, cache_of_environment, split_cache
from hfzarr.store.location import locate
from hfzarr.store.options import StorageOptions
from smalldisks import read_only, small_disk

BLOCK = 4096
HEADER = 16
NAME = "0c" * 20


def files(folder: Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def held(folder: Path) -> int:
    """What the files of a folder take of a disk, bytes."""
    return sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in files(folder))


def name_of(number: int) -> str:
    return f"{number % 256:02x}{number:038x}"


def data_of(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def cache_in(folder: Path, size: int = 2**30) -> DiskCache:
    return DiskCache(CachePlace(folder=str(folder), size=size))


# --- the place ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "nbytes"),
    [
        (None, 10 * 2**30), (4096, 4096), (1e6, 10**6), ("9 GiB", 9 * 2**30), ("1.5MB", 1500_000),
        ("512 kib", 2**19), ("7", 7), (" 2 TB ", 2 * 10**12), ("3 B", 3),
    ],
)  # fmt: skip
def test_sizes(size: Any, nbytes: int) -> None:
    rest, place = split_cache({"anon": True, "cache": "chunks", "cache_size": size})
    assert rest == {"anon": True}
    assert place == CachePlace(folder=os.path.abspath("chunks"), size=nbytes)


@pytest.mark.parametrize("size", ["", "many", "9 GiBit", -1, 0, True, [1], "1e9", "-5 MB", 2.0**70])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(TargetError, match="'cache_size' is a number of bytes, or a text such as"):
        split_cache({"cache": "chunks", "cache_size": size})


@pytest.mark.parametrize("folder", [5, True, b"chunks", "s3://bucket/chunks", ["chunks"]])
def test_what_is_no_folder_is_refused(folder: Any) -> None:
    with pytest.raises(TargetError, match="'cache' is the path of a folder on this machine"):
        locate("s3://bucket/a.zarr", {"cache": folder})


def test_a_size_alone_needs_the_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HFZARR_CACHE", raising=False)
    monkeypatch.delenv("HFZARR_CACHE_SIZE", raising=False)
    assert cache_of_environment() is None
    with pytest.raises(TargetError, match="HFZARR_CACHE"):
        split_cache({"cache_size": "1 GiB"})
    monkeypatch.setenv("HFZARR_CACHE", os.path.join("~", "chunks"))
    home = os.path.expanduser(os.path.join("~", "chunks"))
    assert split_cache({"cache_size": 4096})[1] == CachePlace(folder=home, size=4096)
    assert cache_of_environment() == CachePlace(folder=home)
    monkeypatch.setenv("HFZARR_CACHE_SIZE", "5 MiB")
    assert cache_of_environment() == CachePlace(folder=home, size=5 * 2**20)
    assert split_cache({"cache": "x"})[1] == CachePlace.of("x", 5 * 2**20)
    monkeypatch.setenv("HFZARR_CACHE_SIZE", "much")
    with pytest.raises(TargetError, match="cache_size"):
        cache_of_environment()


@pytest.mark.parametrize("off", [None, False, ""])
def test_a_cache_can_be_turned_off(off: Any) -> None:
    place = locate("s3://bucket/a.zarr", {"cache": off}).cache
    assert place is not None
    assert not place


def test_the_place_travels_with_the_location(tmp_path: Path) -> None:
    place = tmp_path / "with an @ in it"
    location = locate("hf://datasets/ada/cells/a.zarr", {"cache": place, "token": "hf_word"})
    assert location.storage_options == {"token": "hf_word"}
    again = pickle.loads(pickle.dumps(location))
    assert again.cache == location.cache == CachePlace(folder=str(place))
    assert b"hf_word" not in pickle.dumps(location)
    options = StorageOptions.of({"cache": place, "cache_size": 4096})
    assert not options.kept, "it is no secret, and workers are to have it too"
    assert locate("s3://bucket/a.zarr", options.resolve()).cache == CachePlace(
        folder=str(place), size=4096
    )


# --- entries --------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_what_was_kept_comes_back(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = cache_in(Path(folder))
        assert cache.get(NAME) is None
        cache.put(NAME, data)
        assert cache.get(NAME) == data
        assert cache_in(Path(folder)).get(NAME) == data
        cache.put(NAME, data + b"!")
        assert cache.get(NAME) == data + b"!"


@given(st.binary(max_size=60), st.data())
def test_an_entry_that_was_changed_is_none(data: bytes, draw: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = cache_in(Path(folder))
        cache.put(NAME, data)
        (file,) = files(Path(folder))
        whole = file.read_bytes()
        if draw.draw(st.booleans(), label="cut"):
            damaged = whole[: draw.draw(st.integers(0, len(whole) - 1))]
        else:
            place = draw.draw(st.integers(0, len(whole) - 1))
            flipped = whole[place] ^ draw.draw(st.integers(1, 255))
            damaged = whole[:place] + bytes([flipped]) + whole[place + 1 :]
        file.write_bytes(damaged)
        assert cache.get(NAME) is None
        assert files(Path(folder)) == [], "it is let go of"
        cache.put(NAME, data)
        assert cache.get(NAME) == data


def test_an_entry_under_another_name_is_none(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    cache.put(NAME, b"of one chunk")
    (file,) = files(tmp_path)
    file.rename(file.with_name("ab" * 19))
    assert cache.get("0c" + "ab" * 19) is None


@pytest.mark.parametrize("size", [2**16, 2**20])
def test_a_large_entry_drives_out_no_others(tmp_path: Path, size: int) -> None:
    cache = cache_in(tmp_path, size)
    cache.put(name_of(1), b"small")
    cache.put(name_of(2), bytes(size // 4))
    assert cache.get(name_of(2)) is None
    cache.put(name_of(3), bytes(size // 4 - HEADER))
    assert cache.get(name_of(3)) is not None
    assert cache.get(name_of(1)) == b"small"


# --- the bound ------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.sampled_from(["put", "put", "get", "again"]), st.integers(0, 30),
              st.integers(0, 3 * BLOCK)),
    min_size=20, max_size=40,
)  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(steps, st.integers(16, 24))
def test_the_bound_holds_and_the_oldest_go_first(
    steps: list[tuple[str, int, int]], blocks: int
) -> None:
    clock = itertools.count(1000)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(module, "_now", lambda: float(next(clock)))
        patch.setattr(module, "_FRESH", 0.0)
        patch.setattr(module, "_LEFT_BEHIND", 10.0**9)
        size = blocks * BLOCK
        cache = cache_in(Path(folder), size)
        last: dict[int, bytes] = {}
        used: list[int] = []
        for step, number, length in steps:
            if step == "again":
                cache = cache_in(Path(folder), size)
            elif step == "get":
                found = cache.get(name_of(number))
                assert found in (None, last.get(number))
                if found is not None:
                    used.remove(number)
                    used.append(number)
            else:
                last[number] = data_of(number, length)
                cache.put(name_of(number), last[number])
                used = [n for n in used if n != number] + [number]
                there = [n for n in used if (name_exists(folder, n))]
                assert there == used[len(used) - len(there) :], "what is left was used last"
                assert there[-1] == number
                used = there
            assert held(Path(folder)) <= size


def test_what_was_used_last_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1000, 100)
    monkeypatch.setattr(module, "_now", lambda: float(next(clock)))
    monkeypatch.setattr(module, "_LEFT_BEHIND", 10.0**9)
    cache = cache_in(tmp_path, 32 * BLOCK)
    # Their names are in another order than their times.
    for number in reversed(range(32)):
        cache.put(name_of(number), bytes(2000))
    for number in (31, 20):
        assert cache.get(name_of(number)) is not None
    cache.put(name_of(99), bytes(2000))
    gone = [number for number in range(32) if not name_exists(str(tmp_path), number)]
    assert gone == [28, 29, 30]


def name_exists(folder: str, number: int) -> bool:
    name = name_of(number)
    return (Path(folder) / "hfzarr-chunks-1" / name[:2] / name[2:]).exists()


def test_use_is_noted_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module, "_now", lambda: now[0])
    cache = cache_in(tmp_path)
    cache.put(NAME, b"x")
    (file,) = files(tmp_path)
    for moment, noted in [(1030.0, 1000.0), (1061.0, 1061.0), (1100.0, 1061.0)]:
        now[0] = moment
        assert cache.get(NAME) == b"x"
        assert file.stat().st_mtime == noted


def test_what_was_left_half_written_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_in(tmp_path, 2**16)
    cache.put(NAME, b"x")
    (file,) = files(tmp_path)
    left = file.with_name(".1-left-behind")
    left.write_bytes(bytes(8 * BLOCK))
    os.utime(left, (0, 0))
    for number in range(12):
        cache_in(tmp_path, 2**16).put(name_of(number), bytes(BLOCK))
    assert not left.exists()
    assert held(tmp_path) <= 2**16


def test_what_cannot_be_removed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_in(tmp_path, 16 * BLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", _refuse)
        for number in range(40):
            cache.put(name_of(number), bytes(2000))
        assert held(tmp_path) == 16 * BLOCK
        assert cache.get(name_of(0)) == bytes(2000)
    cache.put(name_of(99), b"x")
    assert cache.get(name_of(99)) == b"x"
    assert held(tmp_path) <= 16 * BLOCK


def test_an_entry_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, while another process reads it."""
    cache = cache_in(tmp_path)
    cache.put(NAME, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _refuse)
        cache.put(NAME, b"x")
    assert cache.get(NAME) == b"x"
    assert len(files(tmp_path)) == 1


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise PermissionError("it is in use")


WRITER = """
import random, sys
from hfzarr.store.cache.place import CachePlace
from hfzarr.store.cache.disk import DiskCache
folder, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache, rng, hits = DiskCache(CachePlace(folder=folder, size=size)), random.Random(seed), 0
for _ in range(200):
    number = min(int(rng.expovariate(0.05)), 200)
    name = f"{number:02x}{number:038x}"
    data = random.Random(number).randbytes(100 * number)
    found = cache.get(name)
    assert found in (None, data), "wrong bytes"
    hits += found is not None
    if found is None:
        cache.put(name, data)
print(hits)
"""


def test_processes_share_a_bound(tmp_path: Path) -> None:
    size, count = 60 * BLOCK, 3
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path), str(size)]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for seed in range(count)
    ]
    most = 0
    while any(process.poll() is None for process in running):
        with contextlib.suppress(FileNotFoundError):
            most = max(most, held(tmp_path))
        time.sleep(0.02)
    for process in running:
        out, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert int(out) > 10
    # One entry of each may have been seen under way and under its name.
    assert most <= size * (1 + (count - 1) / 16) + count * 6 * BLOCK
    assert held(tmp_path) <= size * (1 + (count - 1) / 16)
    assert not [path for path in files(tmp_path) if path.name.startswith(".")]


def test_threads_share_a_bound(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 40 * BLOCK)

    def work(seed: int) -> int:
        rng, hits = random.Random(seed), 0
        for _ in range(150):
            number = rng.randrange(60)
            data = data_of(number, 100 * number)
            found = cache.get(name_of(number))
            assert found in (None, data)
            hits += found is not None
            if found is None:
                cache.put(name_of(number), data)
        return hits

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 100
    assert held(tmp_path) <= 40 * BLOCK


# --- whose it is ----------------------------------------------------------------------------------

needs_modes = pytest.mark.skipif(os.name == "nt", reason="files have no such modes there")


@needs_modes
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_nobody_else_sees_what_is_kept(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cache_in(tmp_path / "new" / "chunks").put(NAME, b"x")
    finally:
        os.umask(before)
    kept = tmp_path / "new" / "chunks"
    for path in [kept, *kept.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@needs_modes
def test_a_folder_of_the_user_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "hfzarr-chunks-1").mkdir()
    (shared / "hfzarr-chunks-1").chmod(0o777)
    (shared / "notes.txt").write_text("mine")
    for number in range(40):
        cache_in(shared, 16 * BLOCK).put(name_of(number), bytes(2000))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert stat.S_IMODE((shared / "hfzarr-chunks-1").stat().st_mode) == 0o700
    assert (shared / "notes.txt").read_text() == "mine"


@needs_modes
@pytest.mark.parametrize("how", ["of another user", "a link"])
def test_what_others_put_there_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    cache_in(tmp_path / "forged").put(NAME, b"forged")
    folder = tmp_path / "forged"
    if how == "a link":
        folder = tmp_path / "own"
        folder.mkdir()
        (folder / "hfzarr-chunks-1").symlink_to(tmp_path / "forged" / "hfzarr-chunks-1")
    else:
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    before = files(folder)
    cache = cache_in(folder)
    assert cache.get(NAME) is None
    with pytest.warns(CacheWarning, match="is no folder of this user"):
        cache.put(NAME, b"true")
    assert cache.get(NAME) is None
    assert files(folder) == before


# --- trouble --------------------------------------------------------------------------------------


def warnings_of(cache: DiskCache, data: dict[str, bytes]) -> list[str]:
    """Put all of it, and return what was said."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name, one in data.items():
            cache.put(name, one)
    assert all(one.category is CacheWarning for one in told)
    return [str(one.message) for one in told]


def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2**17) as folder:
        cache = cache_in(folder)
        data = {name_of(number): data_of(number, 2**14) for number in range(40)}
        told = warnings_of(cache, data)
        assert len(told) == 1
        assert re.search("cannot be kept in .*No space left", told[0])
        found = [cache.get(name_of(number)) for number in range(40)]
        assert found[0] == data_of(0, 2**14), "what was kept before is still there"
        assert found[-1] is None
        assert all(one in (None, data_of(n, 2**14)) for n, one in enumerate(found))
        assert not [path for path in files(folder) if path.name.startswith(".")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such limit on this system")
def test_a_limit_on_files_is_said_once(tmp_path: Path) -> None:
    code = """
    import resource, sys, warnings
    from hfzarr.store.cache.place import CachePlace
    from hfzarr.store.cache.disk import DiskCache
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    cache = DiskCache(CachePlace(folder=sys.argv[1]))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(3):
            cache.put(f"aa{number}", bytes(5_000))
            cache.put(f"bb{number}", bytes(50_000))
    assert [cache.get(f"aa{n}") for n in range(3)] == [bytes(5_000), None, None]
    assert cache.get("bb0") is None
    print(len(told), "File too large" in str(told[0].message))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout == "1 True\n", done.stderr
    assert len(files(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_to_still_serves(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2**20) if _is_root() else _plain(tmp_path) as folder:
        cache_in(folder).put(name_of(1), b"from before")
        with read_only(folder):
            cache = cache_in(folder)
            assert cache.get(name_of(1)) == b"from before"
            assert len(warnings_of(cache, {name_of(2): b"x", name_of(3): b"x"})) == 1
            assert cache.get(name_of(2)) is None
            assert cache.get(name_of(1)) == b"from before"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    yield folder


def test_a_folder_that_is_a_file_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    cache = cache_in(tmp_path / "file")
    assert len(warnings_of(cache, {NAME: b"x", name_of(1): b"x"})) == 1
    assert cache.get(NAME) is None
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    import shutil

    cache = cache_in(tmp_path / "chunks")
    cache.put(NAME, b"x")
    shutil.rmtree(tmp_path / "chunks")
    assert cache.get(NAME) is None
    cache.put(NAME, b"y")
    assert cache.get(NAME) == b"y"
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "chunks" / "hfzarr-chunks-1").stat().st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_process_forked_while_another_thread_writes_goes_on(tmp_path: Path) -> None:
    place = CachePlace(folder=str(tmp_path))
    held_lock, done = threading.Event(), threading.Event()

    def hold() -> None:
        with disk_cache(place)._lock:
            held_lock.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held_lock.wait(30)
    try:
        child = multiprocessing.get_context("fork").Process(target=_put, args=(place,))
        child.start()
        child.join(20)
        assert child.exitcode == 0
    finally:
        done.set()
        thread.join()
    assert disk_cache(place).get(NAME) == b"of a child"


def _put(place: CachePlace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        disk_cache(place).put(NAME, b"of a child")
