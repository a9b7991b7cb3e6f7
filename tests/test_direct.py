"""Large files written around the system's cache hold the same bytes as any others."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from hfzarr.errors import WriteError
from hfzarr.store.folder_sink import FolderSink

STAGE = 512 * 2**10
SIZES = [0, 1, 4095, 4096, 4097, STAGE - 1, STAGE, STAGE + 1, 3 * STAGE, 3 * STAGE + 4097]


def drawn(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def written(folder: Path, parts: list[bytes], **options: object) -> bytes:
    sink = FolderSink(str(folder), **options)  # type: ignore[arg-type]
    with sink.create("a/c/0") as file:
        for part in parts:
            file.write(part)
        assert file.size == sum(map(len, parts))
    return (folder / "a" / "c" / "0").read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("run", ["", "one"])
def test_what_is_written_is_there(tmp_path, size, run):
    if run:
        FolderSink(str(tmp_path)).session(run)
    data = drawn(size)
    assert written(tmp_path, [data], run=run) == data


@pytest.mark.parametrize("count", [1, 7, 4096, 70_000])
def test_many_parts(tmp_path, count):
    data = drawn(2 * STAGE + 5)
    parts = [data[i : i + count] for i in range(0, len(data), count)]
    with FolderSink(str(tmp_path)).create("k") as file:
        file.write(parts[:3])
        file.write(parts[3:])
    assert (tmp_path / "k").read_bytes() == data


def test_files_under_way_at_once_do_not_share_memory(tmp_path):
    sink = FolderSink(str(tmp_path))
    one, other = drawn(STAGE + 9), drawn(STAGE + 8)
    with sink.create("one") as first, sink.create("other") as second:
        for i in range(0, len(one), 1000):
            first.write(one[i : i + 1000])
            second.write(other[i : i + 1000])
    assert (tmp_path / "one").read_bytes() == one
    assert (tmp_path / "other").read_bytes() == other


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="the system has no such writes")
class TestRefusals:
    def test_a_file_system_that_knows_none(self, tmp_path, monkeypatch):
        before = os.open

        def refuse(path, flags, *more, **named):
            if flags & os.O_DIRECT:
                # As some do: the file is made all the same.
                os.close(before(path, flags & ~os.O_DIRECT, *more, **named))
                raise OSError(errno.EINVAL, "Invalid argument")
            return before(path, flags, *more, **named)

        monkeypatch.setattr(os, "open", refuse)
        data = drawn(2 * STAGE + 1)
        assert written(tmp_path, [data]) == data

    def test_a_disk_with_other_blocks(self, tmp_path, monkeypatch):
        import fcntl

        before, refused = os.writev, []

        def choosy(file, views):
            if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
                refused.append(file)
                raise OSError(errno.EINVAL, "Invalid argument")
            return before(file, views)

        monkeypatch.setattr(os, "writev", choosy)
        data = drawn(3 * STAGE + 1)
        assert written(tmp_path, [data]) == data
        assert len(refused) <= 1

    def test_a_write_that_is_short(self, tmp_path, monkeypatch):
        before = os.writev

        def short(file, views):
            return before(file, [bytes(views[0])[:1000]])

        monkeypatch.setattr(os, "writev", short)
        data = drawn(STAGE + 10)
        assert written(tmp_path, [data]) == data


def test_who_may_read_it(tmp_path):
    mask = os.umask(0o022)
    try:
        FolderSink(str(tmp_path)).session("one")
        written(tmp_path, [drawn(10)], run="one")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a" / "c" / "0").stat().st_mode) == 0o644


def test_nothing_is_left_of_a_failure(tmp_path):
    sink = FolderSink(str(tmp_path)).session("one")
    file = sink.create("k").__enter__()
    file.write(drawn(STAGE + 1))
    file.__exit__(WriteError, WriteError("no more"), None)
    assert not (tmp_path / "k").exists()
    assert not list((tmp_path / ".hfzarr-reshard" / "tmp" / "one").iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_memory_of_its_own(tmp_path):
    """Memory that was given back is there in a forked process too, and must not be the same."""
    sink = FolderSink(str(tmp_path))
    with sink.create("before") as file:
        file.write(b"x")
    one, other = bytes([1]) * (STAGE - 1), bytes([2]) * (STAGE - 1)
    with sink.create("parent") as file:
        file.write(one)
        child = os.fork()
        if not child:
            # As if it were given back: what a forked process has of it is taken again.
            file._stage.close()
            with sink.create("child") as theirs:
                theirs.write(other)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "parent").read_bytes() == one
    assert (tmp_path / "child").read_bytes() == other
