"""Folders and zips of strangers: links, pipes, names that climb out, headers that lie."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import hfzarr
from hfzarr.errors import HfzarrError, LimitError, ReadError
from hfzarr.model.limits import Limits, set_limits
from hfzarr.store.connect import connect
from hfzarr.store.folder import FolderSource
from hfzarr.store.location import locate
from hub import Hub
from hubstores import hub as hub
from hubstores import servers as servers
from objectservers import needs_obstore, open_source, serving
from rawstores import write_array
from strangers import Watched, grid, open_dataset, outside, put


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    yield
    set_limits(**dict.fromkeys(Limits.__slots__))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("key", ["zarr.json", "c/0"])
@pytest.mark.parametrize("what", ["pipe", "/dev/zero"])
def test_what_is_no_file_is_not_read(tmp_path: Path, key: str, what: str) -> None:
    write_array(tmp_path, (4,), 3)
    path = tmp_path / key
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(what)
    with pytest.raises(ReadError, match="device, pipe or socket"):
        open_dataset(tmp_path).load()


@pytest.mark.parametrize("key", ["../secret", "a/../../secret", "..", "0\0", "\ud800"])
def test_keys_that_are_no_files_of_the_store(tmp_path: Path, key: str) -> None:
    put(tmp_path / "secret", b"secret")
    (tmp_path / "s.zarr/a").mkdir(parents=True)
    source = FolderSource(str(tmp_path / "s.zarr"))
    calls: list[Callable[[], Any]] = [
        lambda: source.get(key), lambda: source.probe([key])[0], lambda: source.sizes([key])[0],
        lambda: source.list_dir(key) or None, lambda: source.usage(key).files or None,
        lambda: source.read_into(key, memoryview(bytearray(9))),
    ]  # fmt: skip
    for call in calls:
        if ".." in key:
            with pytest.raises(ReadError, match="leads out"):
                call()
        else:
            assert call() is None


def test_links_are_followed_unless_they_may_not_be(tmp_path: Path) -> None:
    store = write_array(tmp_path / "s.zarr", (4,), 3)
    put(tmp_path / "elsewhere", b"abcd")
    put(store / "inside", b"efgh")
    (store / "c").mkdir()
    link = store / "c/0"
    link.symlink_to("../../elsewhere")
    [array] = open_dataset(store).data_vars.values()
    assert bytes(array.values) == b"abcd"
    set_limits(follow_links=False)
    with pytest.raises(LimitError, match=r"'c/0' is a link that leads out.*follow_links=True"):
        open_dataset(store).load()
    link.unlink()
    link.symlink_to("../inside")
    assert bytes(open_dataset(store)[array.name].values) == b"efgh"


# Zips


def zipped(path: Path, entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in entries:
                archive.writestr(name, data)
    return path


def array_entries(data: bytes = b"abcd") -> list[tuple[str, bytes]]:
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "uint8",
        "chunk_grid": grid(4), "chunk_key_encoding": {"name": "default"}, "fill_value": 0,
        "codecs": [{"name": "bytes"}],
    }  # fmt: skip
    return [("zarr.json", json.dumps(document).encode()), ("c/0", data)]


def patched(path: Path, signature: bytes, offset: int, size: int, value: int) -> Path:
    """Write a number into every header of a kind."""
    data = bytearray(path.read_bytes())
    at = data.find(signature)
    while at >= 0:
        data[at + offset : at + offset + size] = value.to_bytes(size, "little")
        at = data.find(signature, at + 4)
    path.write_bytes(data)
    return path


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def test_names_that_climb_out_of_a_zip(tmp_path: Path) -> None:
    names = ["../evil", "../../etc/passwd", "/abs/zarr.json", "a/../../b/zarr.json", "C:\\x"]
    path = zipped(tmp_path / "s.zarr.zip", [*array_entries(), *((name, b"x") for name in names)])
    with Watched() as opened:
        dataset = open_dataset(path)
        [array] = dataset.data_vars.values()
        assert bytes(array.values) == b"abcd"
        str(hfzarr.validate(str(path)))
        xr.open_datatree(path, engine="hfzarr")
    assert outside(opened, tmp_path) == []


Placed = Callable[[Path], str]


@pytest.fixture(params=["here", "hub"])
def placed(request: pytest.FixtureRequest) -> Placed:
    """Puts a file where zips are read from; gives the target that opens it there."""
    if request.param == "here":
        return str

    hub: Hub = request.getfixturevalue("hub")

    def placed(path: Path) -> str:
        name = f"ada/cells{len(hub.state.repos)}"
        hub.add_repo(name, {path.name: path.read_bytes()})
        return f"hf://datasets/{name}/{path.name}"

    return placed


def test_of_two_entries_of_one_name_the_last_counts(tmp_path: Path, placed: Placed) -> None:
    path = zipped(tmp_path / "s.zip", [*array_entries(b"abcd"), ("c/0", b"efgh")])
    [array] = open_dataset(placed(path)).data_vars.values()
    assert bytes(array.values) == b"efgh"


def test_a_name_of_many_folders_in_a_zip(tmp_path: Path, placed: Placed) -> None:
    path = zipped(tmp_path / "s.zip", [*array_entries(), ("/".join("a" * 30_000), b"")])
    with pytest.raises(LimitError, match=r"29,999 folders.*max_depth"):
        open_dataset(placed(path))


def test_a_zip_of_too_many_entries(tmp_path: Path, placed: Placed) -> None:
    path = zipped(tmp_path / "s.zip", [*array_entries(), *((f"{i}", b"") for i in range(50))])
    set_limits(max_entries=40)
    with pytest.raises(LimitError, match=r"entries.*max_entries"):
        open_dataset(placed(path))
    # The directory is refused by its size, before it is read.
    patched(path, END, 12, 4, 10**6)
    with pytest.raises(LimitError, match="max_entries"):
        open_dataset(placed(path))


def test_entries_that_inflate_to_too_much(tmp_path: Path, placed: Placed) -> None:
    set_limits(max_document="1 MiB", max_chunk="2 MiB")
    spaces = array_entries()[0][1] + b" " * 2**21
    path = zipped(tmp_path / "a.zip", [("zarr.json", spaces)], zipfile.ZIP_DEFLATED)
    with pytest.raises(LimitError, match=r"zarr.json.*max_document"):
        open_dataset(placed(path))
    path = zipped(tmp_path / "b.zip", array_entries(bytes(3 * 2**20)), zipfile.ZIP_DEFLATED)
    with pytest.raises(LimitError, match=r"c/0.*max_chunk"):
        open_dataset(placed(path)).load()


@pytest.mark.parametrize(
    ("signature", "offset", "size", "value"),
    [
        (CENTRAL, 10, 2, 99), (CENTRAL, 8, 2, 1), (CENTRAL, 24, 4, 2**32 - 2),
        (CENTRAL, 20, 4, 2**32 - 2), (CENTRAL, 42, 4, 2**32 - 2), (CENTRAL, 16, 4, 1),
        (CENTRAL, 28, 2, 65535), (LOCAL, 26, 2, 65535), (LOCAL, 0, 4, 1), (CENTRAL, 6, 2, 200),
        (END, 12, 4, 2**31), (END, 12, 4, 2**32 - 1), (END, 16, 4, 2**31), (END, 10, 2, 65534),
        (CENTRAL, 12, 4, 2**32 - 1), (CENTRAL, 38, 4, 0o120777 << 16),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_headers_of_a_zip_that_lie(
    tmp_path: Path,
    placed: Placed,
    signature: bytes,
    offset: int,
    size: int,
    value: int,
    method: int,
) -> None:
    path = patched(
        zipped(tmp_path / "s.zip", array_entries(), method), signature, offset, size, value
    )
    try:
        [array] = open_dataset(placed(path)).data_vars.values()
        found = bytes(array.values), bytes(array[1:3].values)
    except HfzarrError:
        return
    assert found == (b"abcd", b"bc")


def refuses_large_objects(source: Any) -> None:
    """Hold a source of which both keys have 2 MiB against limits of 1 MiB."""
    set_limits(max_document="1 MiB")
    with pytest.raises(LimitError, match=r"zarr.json' has 2,097,152 bytes.*max_document"):
        source.probe(["zarr.json"])
    assert len(source.get("zarr.json")) == 2**21
    set_limits(max_chunk="1 MiB")
    with pytest.raises(LimitError, match=r"c/0' has 2,097,152 bytes.*max_chunk"):
        source.get_many([("c/0", None)])
    assert source.get_many([("c/0", (5, 9))]) == [b"    "]


LARGE = {"zarr.json": b" " * 2**21, "c/0": b" " * 2**21}


def test_large_objects_of_the_hub_are_refused_unread(hub: Hub) -> None:
    hub.add_repo("ada/cells", {f"a.zarr/{key}": data for key, data in LARGE.items()})
    refuses_large_objects(connect(locate("hf://datasets/ada/cells/a.zarr")))
    sent = [request.sent for request in hub.log if request.method == "GET"]
    assert sum(size > 2**20 for size in sent) == 1


@needs_obstore
def test_large_objects_of_a_bucket_are_refused() -> None:
    with serving(lambda path: LARGE.get(path.removeprefix("lab/a.zarr/"))) as server:
        refuses_large_objects(
            open_source("s3://lab/a.zarr", {"anon": True, "endpoint_url": server.url})
        )


METHODS = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("method", METHODS)
def test_an_entry_that_inflates_to_more_than_it_says(
    tmp_path: Path, placed: Placed, method: int
) -> None:
    entries = array_entries(bytes(2**26))
    path = patched(zipped(tmp_path / "a.zip", entries[1:], method), CENTRAL, 24, 4, 4)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(*entries[0])
    dataset = open_dataset(placed(path))
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match="not the 4 bytes that the zip's directory"):
            dataset.load()
        # LZMA's own dictionary has 8 MiB.
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_lzma_entry_that_wants_all_memory(tmp_path: Path, placed: Placed) -> None:
    path = zipped(tmp_path / "a.zip", array_entries(), zipfile.ZIP_LZMA)
    data = bytearray(path.read_bytes())
    at = data.rfind(LOCAL)
    # Behind the name: version, length of properties, and of these a byte and the dictionary's size.
    begin = at + 30 + int.from_bytes(data[at + 26 : at + 28], "little") + 4 + 1
    data[begin : begin + 4] = (2**32 - 1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ReadError, match="to inflate it takes 4,294,967,295 bytes"):
        open_dataset(placed(path)).load()


def test_parts_that_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", array_entries(bytes(range(100)) * 9))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: pread(file, min(count, 7), at))
    source = connect(locate(str(path)))
    assert source.get("c/0") == bytes(range(100)) * 9
    assert source.get("c/0", (90, 205)) == (bytes(range(100)) * 3)[90:205]


def test_a_wide_directory_is_refused_by_its_size(tmp_path: Path, placed: Placed) -> None:
    entries = b"".join(
        struct.pack("<4s4B4HL2L5H2L", CENTRAL, 20, 3, 20, *[0] * 8, 7, *[0] * 6) + b"%07d" % n
        for n in range(30_000)
    )
    numbers = 30_000, 30_000, len(entries), 0
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *numbers)
    where = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(entries), 1)
    # The record at the very end tells of one entry.
    end = struct.pack("<4s4H2LH", END, 0, 0, 1, 1, 47, 0, 0)
    (tmp_path / "a.zip").write_bytes(entries + wide + where + end)
    set_limits(max_entries=1000)
    # By its size: in what is read of it there are some thousand more than entries.
    with pytest.raises(LimitError, match=r"has 33,829 entries, and 1,000 is the limit"):
        open_dataset(placed(tmp_path / "a.zip"))
