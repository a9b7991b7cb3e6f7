"""Targets on the Hub that are no plain folder: zips, tables, repos of every kind and spelling."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import xarray as xr
import zarr

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

from hfzarr.errors import HfzarrError, ReadError, StoreNotFoundError, TargetError
from hfzarr.store.connect import connect
from hfzarr.store.hub.paths import parse_hub_url
from hfzarr.store.hub.root import names_a_repo
from hfzarr.store.hub.zip import HubZipSource
from hfzarr.store.location import locate
from hub import File, Hub
from hub.faults import Fault, cut_short, dropped, status, too_short
from hubstores import hub as hub
from hubstores import image, pixels, write_image
from hubstores import servers as servers

knows_buckets = pytest.mark.skipif(
    not hasattr(huggingface_hub.HfApi, "batch_bucket_files"),
    reason="this huggingface_hub knows no buckets",
)

ZIP = "hf://datasets/ada/cells/a.zarr.zip"
ENTRIES = {
    "zarr.json": b"{}",
    "c/0": bytes(range(256)) * 400,
    "c/1": b"\0" * 5000,
    "c/empty": b"",
    **{f"d/{n}": f"{n}".encode() * 50 for n in range(40)},
}


def zipped(
    entries: dict[str, bytes],
    method: int = zipfile.ZIP_STORED,
    *,
    extra: bytes = b"",
    streamed: bool = False,
    comment: bytes = b"",
    before: bytes = b"",
    gap: bytes = b"",
) -> bytes:
    """Return a zip; ``extra`` stands in the entries' own headers only, ``gap`` between them."""
    file = io.BytesIO()
    file.write(before)
    target: Any = _Stream(file) if streamed else file
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.extra = extra
            archive.writestr(info, data)
            info.extra = b""
            if gap:
                file.seek(0, io.SEEK_END)
                file.write(gap)
                archive.start_dir = file.tell()
        archive.comment = comment
    return file.getvalue()


class _Stream:
    """A file that cannot go back, so that sizes follow the bytes of an entry."""

    def __init__(self, file: io.BytesIO) -> None:
        self.write, self.flush = file.write, file.flush


def zip_source(hub: Hub, data: bytes, name: str = "a.zarr.zip") -> Any:
    hub.add_repo("ada/cells", {name: data, "b.zarr/zarr.json": "{}"})
    hub.log.clear()
    return connect(locate(f"hf://datasets/ada/cells/{name}"))


KINDS: dict[str, dict[str, Any]] = {
    "stored": {},
    "deflated": {"method": zipfile.ZIP_DEFLATED},
    "bzip2": {"method": zipfile.ZIP_BZIP2},
    "with extra fields": {"extra": b"\xca\xfe\x14\0" + b"x" * 20},
    "streamed": {"streamed": True},
    "streamed, deflated": {"streamed": True, "method": zipfile.ZIP_DEFLATED},
    "with a comment": {"comment": b"c" * 65535},
    "behind another file": {"before": b"#!/bin/sh\n" * 9},
    "with gaps": {"gap": b"PK\3\4junk" * 5},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [0, 200_000])
def test_every_kind_of_zip_is_read(hub: Hub, kind: str, padding: int) -> None:
    last = {"z": random.Random(0).randbytes(padding)}
    source = zip_source(hub, zipped(ENTRIES | last, **KINDS[kind]))
    assert isinstance(source, HubZipSource)
    rng = random.Random(1)
    for _ in range(4):
        requests: list[Any] = []
        for key in rng.sample([*ENTRIES, "none", "d"], 9):
            start = rng.randrange(-90, 6000)
            wanted = [None, (start, None if start < 0 else start + rng.randrange(90)), (5, None)]
            requests.append((key, rng.choice(wanted)))
        truth = [
            None if key not in ENTRIES else ENTRIES[key][slice(*wanted) if wanted else slice(None)]
            for key, wanted in requests
        ]
        assert source.get_many(requests) == truth
    assert source.get("z") == last["z"]
    assert source.list_dir("") == ["c", "d", "z", "zarr.json"]
    assert source.sizes(["c/0", "none", "c"]) == [102400, None, None]
    assert source.probe(["zarr.json", "none"]) == [b"{}", None]
    assert all(r.status in (200, 206, 302, 307) for r in hub.log)


@pytest.mark.parametrize("suffix", ["zarr.zip", "ozx"])
def test_an_image_in_a_zip_takes_six_requests(hub: Hub, tmp_path: Path, suffix: str) -> None:
    data = pixels()
    folder = write_image(tmp_path / "a.zarr", data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    source = zip_source(hub, (tmp_path / "a.zip").read_bytes(), f"a.{suffix}")
    url = f"hf://datasets/ada/cells/a.{suffix}"
    opened = image(url)
    np.testing.assert_array_equal(opened[:64, :64].values, data[:64, :64])
    assert len(hub.log) <= 6
    assert sum(request.sent for request in hub.log) < 100_000
    assert not hub.log.find("/tree/")
    hub.log.clear()
    for row in range(4):
        part = opened[64 * row : 64 * row + 9, 128:137].values
        np.testing.assert_array_equal(part, data[64 * row : 64 * row + 9, 128:137])
    assert len(hub.log) <= 4
    np.testing.assert_array_equal(opened.values, data)
    assert (source.url, repr(source)) == (url, f"HubZipSource('{url}')")


def test_a_zip_of_many_entries_is_read_by_its_directory(hub: Hub) -> None:
    entries = {f"c/{n}": b"%d" % n for n in range(3000)}
    source = zip_source(hub, zipped(entries))
    assert source.get("c/7") == b"7"
    # Where it lies, its end, the rest of the directory, the entry.
    assert len(hub.log) == 4
    hub.log.clear()
    numbers = random.Random(0).sample(range(3000), 500)
    found = source.get_many([(f"c/{n}", None) for n in numbers])
    assert found == [b"%d" % n for n in numbers]
    assert len(hub.log) <= 2


def test_a_zip_belongs_to_one_commit(hub: Hub) -> None:
    source = zip_source(hub, zipped(ENTRIES))
    assert source.get("zarr.json") == b"{}"
    hub.add_commit(hub.repo("ada/cells"), {"a.zarr.zip": zipped({"zarr.json": b"[]"})})
    assert source.get("c/1") == ENTRIES["c/1"]
    fresh = connect(locate(ZIP))
    assert fresh.get("zarr.json") == b"[]"
    assert fresh.get("c/1") is None


def test_copies_of_a_zip_share_its_directory(hub: Hub) -> None:
    source = zip_source(hub, zipped(ENTRIES))
    assert source.get("zarr.json") == b"{}"
    kept = pickle.dumps(source)
    assert len(kept) < 700
    first = pickle.loads(kept)
    assert first == source
    assert hash(first) == hash(source)
    assert first.get("c/0", (9, 99)) == ENTRIES["c/0"][9:99]
    hub.log.clear()
    source.close()
    second = pickle.loads(kept)
    assert second.list_dir("c") == ["0", "1", "empty"]
    assert second.get("c/0", (5, 9)) == ENTRIES["c/0"][5:9]
    assert len(hub.log) <= 1


def test_a_zip_in_a_bucket_is_looked_at_anew_for_its_stamps(hub: Hub) -> None:
    repo = hub.add_repo("ada/cells", {"x/a.zip": zipped(ENTRIES)}, type="bucket")
    source = connect(locate("hf://buckets/ada/cells/x/a.zip"))
    before = source.stamps(["zarr.json", "c/1", "none"])
    assert before[2] is None
    hub.add_commit(repo, {"x/a.zip": zipped({**ENTRIES, "c/1": b"\1" * 5000})})
    after = source.stamps(["zarr.json", "c/1", "none"])
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "data", [b"", b"no zip", zipped(ENTRIES)[:-40], zipped(ENTRIES)[60:], b"PK\5\6" + b"\0" * 18]
)
def test_a_file_that_is_no_zip_of_a_store_is_told(hub: Hub, data: bytes) -> None:
    zip_source(hub, data)
    with pytest.raises(HfzarrError, match=r"a\.zarr\.zip"):
        xr.open_dataset(ZIP, engine="hfzarr")


def test_a_damaged_zip_gives_right_bytes_or_an_error(hub: Hub) -> None:
    whole = zipped(ENTRIES, extra=b"\xca\xfe\2\0xx")
    rng, errors = random.Random(3), 0
    for _ in range(60):
        broken = bytearray(whole)
        # A header, and the directory: what is damaged elsewhere is found out by its checksum.
        place = rng.choice([rng.randrange(30), rng.randrange(len(whole) - 6000, len(whole))])
        broken[place] ^= 1 << rng.randrange(8)
        source = zip_source(hub, bytes(broken))
        for key, data in ENTRIES.items():
            try:
                found = source.get(key)
            except HfzarrError:
                errors += 1
                continue
            assert found is None or found == data
    assert errors


def test_a_zip_that_is_not_there_is_told(hub: Hub) -> None:
    hub.add_repo("ada/cells", {"b.zarr/zarr.json": "{}"})
    for url in (ZIP, "hf://datasets/ada/none/a.zip", "hf://datasets/ada/cells@gone/a.zip"):
        with pytest.raises(StoreNotFoundError):
            xr.open_dataset(url, engine="hfzarr")
    with pytest.raises(TargetError, match="unknown: tokne"):
        connect(locate(ZIP, {"tokne": 1}))


@pytest.mark.parametrize("broken", [status(500), dropped, cut_short, too_short, status(403)])
@pytest.mark.parametrize("skip", range(4))
def test_faults_while_a_zip_is_read_pass(hub: Hub, broken: Any, skip: int) -> None:
    last = {"z": random.Random(0).randbytes(200_000)}
    source = zip_source(hub, zipped(ENTRIES | last, zipfile.ZIP_DEFLATED))
    hub.faults.append(Fault(hub, broken, origin="cdn", skip=skip))
    assert source.get("zarr.json") == b"{}"
    assert source.get_many([("c/0", (5, 900)), ("c/1", None), ("d/7", (-3, None))]) == [
        ENTRIES["c/0"][5:900], ENTRIES["c/1"], ENTRIES["d/7"][-3:]
    ]  # fmt: skip
    hub.faults[:] = [Fault(hub, too_short, origin="cdn", times=10**6)]
    with pytest.raises(ReadError):
        source.get("z")


def test_a_private_zip_is_read_by_whoever_may(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_AAAAsecretAAAA"
    hub.add_token(secret, "ada", write=False)
    hub.add_repo("ada/cells", {"a.zarr.zip": zipped(ENTRIES)}, private=True)
    source = connect(locate(ZIP, {"token": secret}))
    assert source.get("c/1") == ENTRIES["c/1"]
    assert secret.encode() not in pickle.dumps(source)
    assert {request.origin for request in hub.log.holding(secret)} == {"hub"}
    with pytest.raises(StoreNotFoundError, match="hf auth login"):
        connect(locate(ZIP)).get("c/1")
    monkeypatch.setenv("HF_TOKEN", secret)
    assert pickle.loads(pickle.dumps(connect(locate(ZIP)))).get("c/1") == ENTRIES["c/1"]


# Repos that are a table of stores.


@pytest.fixture
def images(hub: Hub, tmp_path: Path) -> np.ndarray[Any, Any]:
    """A data repo of two stores; their pixels."""
    both = np.stack([pixels(0)[:64, :64], pixels(1)[:64, :64]])
    for name, data in zip("ab", both, strict=True):
        write_image(tmp_path / "stores" / f"{name}.zarr", data, shards=None, chunks=(64, 64))
    hub.add_repo("ada/stores", tmp_path / "stores")
    return both


def table(folder: str = "hf://datasets/ada/stores", rows: str = "ab") -> bytes:
    """A parquet file whose column ``zarr`` is marked as stores, as the Hub's loaders take it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    mark = {"info": {"features": {"zarr": {"dtype": "string", "id": "zarr", "_type": "Value"}}}}
    made = pa.table({"zarr": [f"{folder}/{name}.zarr" for name in rows]})
    buffer = io.BytesIO()
    pq.write_table(made.replace_schema_metadata({"huggingface": json.dumps(mark)}), buffer)
    return buffer.getvalue()


CARD = """---
license: cc0-1.0
configs:
- config_name: default
  data_files:
  - split: train
    path: tables/cells.parquet
---
# Cells
"""


@pytest.mark.parametrize(
    ("url", "files"),
    [
        ("hf://datasets/ada/index", ["data/train-00000-of-00001.parquet"]),
        ("hf://datasets/ada/index/", ["train.parquet", "metadata.csv"]),
        ("hf://datasets/ada/index@main", ["README.md", "tables/cells.parquet"]),
        ("hf://ada/index", ["data/train.parquet"]),
        ("hf://spaces/ada/index", ["index.parquet"]),
        pytest.param("hf://buckets/ada/index", ["data/index.parquet"], marks=knows_buckets),
    ],
)
def test_a_repo_that_is_a_table_opens_as_one(
    hub: Hub, images: np.ndarray, url: str, files: list[str]
) -> None:
    texts = {"README.md": CARD.encode(), "metadata.csv": b"file_name\nx.png\n"}
    kind = url.split("/")[2].removesuffix("s")
    hub.add_repo(
        "ada/index",
        {name: texts.get(name) or table() for name in files},
        type=kind if kind in ("dataset", "space", "bucket") else "model",
    )
    opened = xr.open_dataset(url, engine="hfzarr")
    np.testing.assert_array_equal(opened["image"].values, images)
    assert opened["image"].dims[0] == "row"
    tree = xr.open_datatree(url, engine="hfzarr", split=None)
    assert set(tree.children) == {"a", "b"}


def test_a_private_table_is_opened_with_its_token(hub: Hub, images: np.ndarray) -> None:
    secret = "hf_AAAAsecretAAAA"
    hub.add_token(secret, "ada", write=False)
    hub.add_repo("ada/index", {"data/train.parquet": table()}, private=True)
    hub.repo("ada/stores").private = True
    url = "hf://datasets/ada/index"
    opened = xr.open_dataset(url, engine="hfzarr", storage_options={"token": secret})
    np.testing.assert_array_equal(opened["image"].values, images)
    assert {request.origin for request in hub.log.holding(secret)} == {"hub"}
    with pytest.raises(HfzarrError, match="hf auth login"):
        xr.open_dataset(url, engine="hfzarr")


def test_relative_rows_count_from_the_repo(hub: Hub, images: np.ndarray) -> None:
    hub.add_commit(hub.repo("ada/stores"), {"data/train.parquet": table(".", "ba")})
    opened = xr.open_dataset("hf://datasets/ada/stores", engine="hfzarr")
    np.testing.assert_array_equal(opened["image"].values, images[::-1])


@pytest.mark.parametrize("kind", ["dataset", "model", "space", "bucket"])
def test_a_repo_that_is_a_store_stays_one(hub: Hub, tmp_path: Path, kind: str) -> None:
    data = pixels()
    write_image(tmp_path / "root", data)
    hub.add_repo("ada/cells", tmp_path / "root", type=kind)
    url = f"hf://{'' if kind == 'model' else f'{kind}s/'}ada/cells"
    hub.log.clear()
    np.testing.assert_array_equal(image(url)[:64, :64].values, data[:64, :64])
    # One more than for a store in a repo, to see what the repo is.
    assert len(hub.log) <= 7
    if kind == "bucket" and not hasattr(huggingface_hub.HfApi, "batch_bucket_files"):
        return  # its file system reads none at their roots
    np.testing.assert_array_equal(zarr.open_group(url, mode="r")["0"][:9], data[:9])  # type: ignore[index]


def test_a_repo_that_is_neither_is_told_with_what_is_there(hub: Hub, images: np.ndarray) -> None:
    url = "hf://datasets/ada/stores"
    with pytest.raises(StoreNotFoundError, match=r"stores in it: \['a.zarr', 'b.zarr'\]"):
        xr.open_dataset(url, engine="hfzarr")
    np.testing.assert_array_equal(
        xr.open_dataset(url, engine="hfzarr", group="b.zarr")["image"].values, images[1]
    )
    files = {"README.md": "---\nlicense: mit\n---\n", "metadata.csv": "a", "data/x.png": "a"}
    hub.add_repo("ada/other", files)
    with pytest.raises(StoreNotFoundError, match=r"no Zarr store.*'README.md', 'data', 'metadata"):
        xr.open_dataset("hf://datasets/ada/other", engine="hfzarr")
    with pytest.raises(StoreNotFoundError, match="no dataset repo 'ada/none'"):
        xr.open_dataset("hf://datasets/ada/none", engine="hfzarr")


# How repos are spelled.

SPELLED = [
    "hf://datasets/ada/cells/a.zarr", "hf://ada/cells/a.zarr", "hf://models/ada/cells/a.zarr",
    "hf://spaces/ada/cells/a/b.zarr", "hf://buckets/ada/cells/a.zarr", "hf://datasets/ada/cells",
    "hf://datasets/ada/cells@v1/a.zarr", "hf://datasets/ada/cells@my%2Fbranch/a.zarr",
    "hf://datasets/ada/cells@refs/convert/parquet/a.zarr", "hf://ada/cells@refs/pr/12",
    "hf://datasets/ada/cells@refs%2Fpr%2F12/a.zarr", "hf://datasets/ada/cells/at@home/a.zarr",
    "hf://datasets/ada/cells@v1.0/at@home/a.zarr", f"hf://datasets/ada/cells@{'ab' * 20}/a.zarr",
    "hf://datasets/ada/cells/a%20b.zarr",
]  # fmt: skip


@pytest.mark.parametrize("url", SPELLED)
def test_a_url_means_what_it_means_to_huggingface_hub(url: str) -> None:
    from huggingface_hub import utils

    if not hasattr(utils, "parse_hf_uri"):
        pytest.skip("an earlier huggingface_hub, whose parser asks the Hub")
    theirs, ours = utils.parse_hf_uri(url), parse_hub_url(url)
    assert (f"{theirs.type}s", theirs.id, theirs.revision, theirs.path_in_repo) == (
        ours.kind, ours.repo, ours.revision, ours.path
    )  # fmt: skip
    assert parse_hub_url(ours.url) == ours
    assert names_a_repo(url) == (not ours.path)


def test_refs_with_slashes_are_read(hub: Hub) -> None:
    repo = hub.add_repo("ada/cells", {"a.zip": zipped(ENTRIES)})
    parent = repo.refs["refs/heads/main"]
    for ref in ("convert/parquet", "heads/my/branch"):
        made = zipped({"zarr.json": ref.encode()})
        repo.commit({"a.zip": File(made, lfs=True)}, ref=f"refs/{ref}", parent=parent)
    for at, text in [
        ("refs/convert/parquet", b"convert/parquet"), ("my%2Fbranch", b"heads/my/branch"),
        ("main", b"{}"),
    ]:  # fmt: skip
        assert connect(locate(f"hf://datasets/ada/cells@{at}/a.zip")).get("zarr.json") == text


@pytest.mark.parametrize("url", ["hf://datasets/squad", "hf://gpt2", "hf://datasets/squad@main/x"])
def test_a_name_without_an_owner_is_told(hub: Hub, url: str) -> None:
    with pytest.raises(TargetError, match="names no namespace/name"):
        xr.open_dataset(url, engine="hfzarr")
    # This one names an owner, as far as anybody can tell.
    with pytest.raises(StoreNotFoundError, match=r"no dataset repo 'squad/x\.zarr'"):
        xr.open_dataset("hf://datasets/squad/x.zarr", engine="hfzarr")
