"""What may be pushed: paths, URLs, patterns, tables, nodes, selections, stores of all kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")
pytest.importorskip("PIL")

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import xarray as xr
import zarr

import hfzarr
from hfzarr.errors import HfzarrError, StoreNotFoundError, TargetError
from hub import Hub
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import (
    REPO,
    check_index,
    files_below,
    held,
    image_pixels,
    push,
    read_pushed,
    rows,
    write_chunks,
    write_small,
)
from pushes import ada as ada
from servers import http_server, s3_server
from stores import climate, pixels, write_cf, write_geo, write_image, write_plate, zip_folder


def place(url: str) -> str:
    """The path in the repo of a URL that is pinned."""
    return url.split("/", 5)[5]


def places(hub: Hub) -> list[str]:
    return [place(row["zarr"]) for row in rows(hub)]


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A store, and another one beside it that nobody asks for."""
    write_small(tmp_path / "s" / "1.zarr", 1)
    write_small(tmp_path / "s" / "other", 2)
    return tmp_path / "s" / "1.zarr"


def _zip(path: Path) -> Any:
    return zip_folder(path, path.parent.parent / "1.zarr.zip")


SOURCES = {
    "path": lambda path: path,
    "text": str,
    "slash": lambda path: f"{path}/",
    "url": lambda path: path.as_uri(),
    "handle": lambda path: hfzarr.ZarrHandle(str(path)),
    "group": zarr.open_group,
    "store": zarr.storage.LocalStore,
    "list": lambda path: [path],
    "pattern": lambda path: f"{path.parent}/*.zarr",
    "dict": lambda path: {"zarr": [str(path)]},
    "records": lambda path: [{"zarr": str(path)}],
    "arrow": lambda path: pa.table({"zarr": [str(path)]}),
    "manifest": lambda path: hfzarr.open_manifest({"zarr": [str(path)]}),
    "scan": lambda path: hfzarr.scan([path]),
}


@pytest.mark.parametrize("name", list(SOURCES))
def test_one_store_in_many_ways(hub: Hub, ada: str, one: Path, name: str) -> None:
    source = SOURCES[name](one)
    push(source)
    assert places(hub) == ["1.zarr"]
    assert check_index(hub, {"1.zarr": image_pixels(1)}) == 1
    assert not [path for path in hub.files(REPO) if "other" in path]


def test_a_zip(hub: Hub, ada: str, one: Path) -> None:
    packed = _zip(one)
    push(packed)
    assert places(hub) == ["1.zarr.zip"]
    assert hub.files(REPO)["1.zarr.zip"] == packed.read_bytes()
    (row,) = rows(hub)
    np.testing.assert_array_equal(
        xr.open_dataset(row["zarr"], engine="hfzarr")["image"], image_pixels(1)
    )
    push(packed, "ada/open", shard="1 MiB")
    (row,) = rows(hub, "ada/open")
    assert place(row["zarr"]) == "1.zarr"
    np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), image_pixels(1))


def test_zips_and_folders_together(hub: Hub, ada: str, one: Path, tmp_path: Path) -> None:
    zip_folder(one, tmp_path / "s" / "1.zip")
    zip_folder(one, tmp_path / "s" / "1.ozx")
    push(tmp_path / "s", shard="1 MiB")
    assert len(set(places(hub))) == 4
    for row, seed in zip(rows(hub), (1, 1, 1, 2), strict=True):
        np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), image_pixels(seed))


# Names and places


ODD = (
    *("a b.zarr", "é.zarr", "x#y.zarr", "u@v.zarr", "A.zarr", "a.zarr", "100%.zarr", "p?q.zarr"),
    *("a&b=c+d.zarr", "日本.zarr", ".hidden.zarr", "data", "README.md", "~x", "c:d.zarr"),
)


def test_odd_names(hub: Hub, ada: str, tmp_path: Path) -> None:
    for seed, name in enumerate(ODD):
        write_small(tmp_path / "s" / name, seed, 32)
    push([tmp_path / "s" / name for name in ODD])
    found = rows(hub)
    assert len({place(row["zarr"]).lower() for row in found}) == len(ODD)
    manifest = hfzarr.open_manifest(f"hf://datasets/{REPO}/data/*.parquet")
    for seed, row in enumerate(found):
        wanted = image_pixels(seed, 32)
        np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), wanted)
        opened = xr.open_dataset(row["zarr"], engine="hfzarr")
        np.testing.assert_array_equal(opened["image"], wanted)
        np.testing.assert_array_equal(manifest.handle(seed)["0"].read(), wanted)
    card = hub.files(REPO)["README.md"].decode()
    assert "configs:" in card


def test_one_name_in_two_places(hub: Hub, ada: str, tmp_path: Path) -> None:
    for seed in range(3):
        write_small(tmp_path / str(seed) / "x.zarr", seed)
    push([tmp_path / str(seed) / "x.zarr" for seed in range(3)])
    assert places(hub) == ["0/x.zarr", "1/x.zarr", "2/x.zarr"]
    assert check_index(hub, {f"{n}/x.zarr": image_pixels(n) for n in range(3)}) == 3


def test_a_store_called_as_the_index(hub: Hub, ada: str, tmp_path: Path) -> None:
    """Nothing of a store comes where files of the index lie."""
    write_small(tmp_path / "s" / "data", 1)
    write_small(tmp_path / "s" / "README.md", 2)
    push(tmp_path / "s")
    pixels_there = [read_pushed(hub, row["zarr"]) for row in rows(hub)]
    assert sorted(int(one.sum()) for one in pixels_there) == sorted(
        int(image_pixels(seed).sum()) for seed in (1, 2)
    )
    assert "configs:" in hub.files(REPO)["README.md"].decode()


# Tables


def test_a_table_keeps_its_columns(hub: Hub, ada: str, one: Path) -> None:
    table = pa.table(
        {
            "zarr": [str(one), None, str(one.parent / "other"), str(one)],
            "patient": ["p1", "p2", "p3", "p4"],
            "age": pa.array([1, None, 3, 4], pa.int16()),
            "tags": [["a"], [], None, ["b", "c"]],
            "kind": ["mine", "is", "kept", "too"],
        }
    )
    push(hfzarr.open_manifest(table, duplicates="keep"))
    found = rows(hub)
    assert [row["patient"] for row in found] == ["p1", "p2", "p3", "p4"]
    assert [row["age"] for row in found] == [1, None, 3, 4]
    assert [row["tags"] for row in found] == [["a"], [], None, ["b", "c"]]
    assert [row["kind"] for row in found] == ["mine", "is", "kept", "too"]
    cells = [None if row["zarr"] is None else place(row["zarr"]) for row in found]
    assert cells == ["1.zarr", None, "other", "1.zarr"]
    assert found[1]["thumbnail"] is None
    assert found[3]["thumbnail"]
    np.testing.assert_array_equal(read_pushed(hub, found[2]["zarr"]), image_pixels(2))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_file_of_stores(hub: Hub, ada: str, one: Path, tmp_path: Path, kind: str) -> None:
    table = pa.table({"zarr": ["s/1.zarr", "s/other"], "n": [5, 6]})
    file = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(table, file)
    elif kind == "csv":
        pyarrow.csv.write_csv(table, file)
    else:
        file.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    push(file)
    assert places(hub) == ["s/1.zarr", "s/other"]
    assert [row["n"] for row in rows(hub)] == [5, 6]
    assert check_index(hub, {"s/1.zarr": image_pixels(1), "s/other": image_pixels(2)}) == 2


def test_a_frame_and_a_dataset(hub: Hub, ada: str, one: Path) -> None:
    pd = pytest.importorskip("pandas")
    datasets = pytest.importorskip("datasets")
    push(pd.DataFrame({"zarr": [str(one)], "n": [3]}))
    assert [row["n"] for row in rows(hub)] == [3]
    ds = datasets.Dataset.from_dict({"zarr": [str(one)], "n": [4]})
    ds = ds.cast_column("zarr", hfzarr.Zarr())
    push(ds, "ada/more")
    assert [(row["n"], place(row["zarr"])) for row in rows(hub, "ada/more")] == [(4, "1.zarr")]


def test_metadata_files_and_labels(hub: Hub, ada: str, tmp_path: Path) -> None:
    for seed, name in enumerate(["train/cat/1.zarr", "test/dog/1.zarr"]):
        write_small(tmp_path / "s" / name, seed)
    (tmp_path / "s" / "metadata.csv").write_text(
        "file_name,dose\ntrain/cat/1.zarr,0.5\ntest/dog/1.zarr,1.5\n"
    )
    push(tmp_path / "s")
    found = {place(row["zarr"]): row for row in rows(hub)}
    assert found["train/cat/1.zarr"]["dose"] == 0.5
    assert found["test/dog/1.zarr"]["dose"] == 1.5


@pytest.mark.parametrize("form", ["struct", "text"])
def test_selections(hub: Hub, ada: str, one: Path, form: str) -> None:
    handle = hfzarr.ZarrHandle(str(one), "0")
    corner = handle.select(y=slice(0, 32), x=slice(0, 32))
    cells = [corner, handle.select([slice(32, 64), slice(16, 48)])]
    column: Any = [str(cell) if form == "text" else dict(cell.items()) for cell in cells]
    manifest = hfzarr.open_manifest({"zarr": column, "n": [1, 2]})
    push(manifest)
    again = hfzarr.open_manifest(f"hf://datasets/{REPO}/data/*.parquet")
    data = image_pixels(1)
    for row, window in enumerate([data[:32, :32], data[32:, 16:48]]):
        cell = again.handles()[row]
        assert cell is not None
        np.testing.assert_array_equal(cell.read(), window)
    # The store is sent once, and whole.
    assert [path for path in hub.files(REPO) if path.endswith("/zarr.json")] == [
        "1.zarr/0/zarr.json",
        "1.zarr/zarr.json",
    ]


@pytest.mark.parametrize("nodes", [("A/1/0", "B/1/0"), ("A/1/0", "B/1/0", "")], ids=len)
def test_nodes_within_a_store(hub: Hub, ada: str, tmp_path: Path, nodes: tuple[str, ...]) -> None:
    url = str(tmp_path / "plate.zarr")
    write_plate(url)
    push(hfzarr.open_manifest([hfzarr.ZarrHandle(url, node) for node in nodes]))
    again = hfzarr.open_manifest(f"hf://datasets/{REPO}/data/*.parquet")
    for row, node in enumerate(nodes[:2]):
        wanted = zarr.open_array(url, path=f"{node}/0", mode="r")[...]
        np.testing.assert_array_equal(again.handle(row)["0"].read(), wanted)
    kinds = [row["kind"] for row in rows(hub)]
    assert kinds == ["image", "image", "plate"][: len(nodes)]


def test_selections_of_nodes_send_their_store_once(hub: Hub, ada: str, tmp_path: Path) -> None:
    url = str(tmp_path / "plate.zarr")
    write_plate(url)
    nodes = ("A/1/0", "B/1/0")
    cells = [hfzarr.ZarrHandle(url, node).select((0, 0), level=0) for node in nodes]
    push(hfzarr.open_manifest({"zarr": [dict(cell.items()) for cell in cells]}))
    assert {place(row["zarr"]["path"]) for row in rows(hub)} == {"plate.zarr"}
    assert [row["zarr"]["node"] for row in rows(hub)] == list(nodes)
    again = hfzarr.open_manifest(f"hf://datasets/{REPO}/data/*.parquet")
    for row, cell in enumerate(cells):
        np.testing.assert_array_equal(again.handles()[row].read(), cell.read())


# Kinds of stores


def test_ome_zarr_old_and_new(hub: Hub, ada: str, tmp_path: Path) -> None:
    for version in (2, 3):
        write_image(str(tmp_path / "s" / f"v{version}.zarr"), zarr_format=version)
    push(tmp_path / "s")
    assert [row["ome_version"] for row in rows(hub)] == ["0.4", "0.5"]
    for row in rows(hub):
        np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), pixels(0))
        tree = xr.open_datatree(row["zarr"], engine="hfzarr")
        assert "nuclei" in str(tree)
        assert row["channels"] == ["DAPI", "GFP"]
    here = dict(files_below(tmp_path / "s"))
    there = hub.files(REPO)
    assert {path: there[path] for path in here} == here


def test_a_plate_written_anew(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_plate(str(tmp_path / "plate.zarr"), zarr_format=2, labels=["nuclei"])
    push(tmp_path / "plate.zarr", shard="1 MiB")
    (row,) = rows(hub)
    assert (row["kind"], row["ome_version"]) == ("plate", "0.5")
    files = held(hub, row["zarr"])
    assert not [key for key in files if key.endswith(".zattrs")]
    opened = xr.open_datatree(row["zarr"], engine="hfzarr")
    before = xr.open_datatree(str(tmp_path / "plate.zarr"), engine="hfzarr")
    xr.testing.assert_equal(before.compute(), opened.compute())


@pytest.mark.parametrize("shard", [None, "1 MiB"])
@pytest.mark.parametrize("version", [2, 3])
def test_cf(hub: Hub, ada: str, tmp_path: Path, version: int, shard: Any) -> None:
    write_cf(str(tmp_path / "a.zarr"), zarr_format=version)
    try:
        push(tmp_path / "a.zarr", shard=shard)
    except HfzarrError:
        if version == 2 and shard is not None:
            pytest.skip("resharding says what it cannot write anew")
        raise
    (row,) = rows(hub)
    opened = xr.open_dataset(row["zarr"], engine="hfzarr")
    wanted = climate()
    np.testing.assert_allclose(opened["air"], wanted["air"], atol=0.006)
    xr.testing.assert_equal(opened["time"].variable, wanted["time"].variable)
    assert opened["air"].attrs["units"] == "K"


def test_geo(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_geo(str(tmp_path / "s" / "scene.zarr"))
    push(tmp_path / "s")
    opened = xr.open_dataset(rows(hub)[0]["zarr"], engine="hfzarr")
    before = xr.open_dataset(str(tmp_path / "s" / "scene.zarr"), engine="hfzarr")
    xr.testing.assert_equal(opened, before)


def test_stores_of_other_kinds_get_no_picture(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_small(tmp_path / "s" / "image.zarr", 1)
    zarr.create_array(tmp_path / "s" / "text.zarr", data=np.array(["a", "bé"]))
    zarr.create_group(tmp_path / "s" / "void.zarr")
    zarr.create_array(tmp_path / "s" / "none.zarr", shape=(0, 4), dtype="u1")
    with pytest.warns(UserWarning, match=r"no thumbnail of \d rows"):
        push(tmp_path / "s")
    found = {place(row["zarr"]): row for row in rows(hub)}
    assert found["image.zarr"]["thumbnail"]
    assert found["text.zarr"]["thumbnail"] is None
    assert set(found) == {"image.zarr", "none.zarr", "text.zarr", "void.zarr"}


# From elsewhere


def test_from_the_hub_to_the_hub(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_small(tmp_path / "s" / "cat/1.zarr", 1)
    write_chunks(tmp_path / "s" / "dog/2.zarr", 2)
    hub.add_repo("bob/cells", tmp_path / "s")
    push("hf://datasets/bob/cells")
    assert places(hub) == ["cat/1.zarr", "dog/2.zarr"]
    wanted = zarr.open_array(tmp_path / "s" / "dog/2.zarr")[...]
    assert check_index(hub, {"cat/1.zarr": image_pixels(1), "dog/2.zarr": wanted}) == 2
    push("hf://datasets/bob/cells/dog/2.zarr", "ada/few", shard=[32, 32])
    (row,) = rows(hub, "ada/few")
    np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), wanted)
    assert len(held(hub, row["zarr"])) == 5


def test_an_index_is_a_source(hub: Hub, ada: str, one: Path) -> None:
    """What was pushed is pushed on, with its columns."""
    push({"zarr": [str(one)], "n": [8]})
    push(hfzarr.open_manifest(f"hf://datasets/{REPO}/data/*.parquet"), "ada/copy")
    (row,) = rows(hub, "ada/copy")
    assert row["n"] == 8
    assert row["zarr"].startswith("hf://datasets/ada/copy@")
    np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), image_pixels(1))
    assert set(row) == set(rows(hub)[0])


def test_over_http(hub: Hub, ada: str, one: Path) -> None:
    with http_server(one.parent) as (url, _):
        try:
            push(f"{url}/1.zarr")
        except HfzarrError as error:
            # A plain server lists nothing, so that nobody knows which files there are.
            assert "list" in str(error)  # noqa: PT017
            assert ("datasets", REPO) not in hub.state.repos
        push(f"{url}/1.zarr", shard="1 MiB")
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), image_pixels(1))


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_server() as options:
        yield options


def test_from_s3(hub: Hub, ada: str, s3: dict[str, Any], tmp_path: Path) -> None:
    import s3fs

    write_small(tmp_path / "s" / "cat/1.zarr", 1)
    write_small(tmp_path / "s" / "dog/2.zarr", 2)
    fs = s3fs.S3FileSystem(**s3, skip_instance_cache=True)
    fs.mkdir("scans")
    for path, data in files_below(tmp_path / "s"):
        fs.pipe_file(f"scans/all/{path}", data)
        fs.pipe_file(f"scans/{path}", data)
    push("s3://scans/all", storage_options=s3)
    wanted = {"cat/1.zarr": image_pixels(1), "dog/2.zarr": image_pixels(2)}
    assert check_index(hub, wanted) == 2
    there = hub.files(REPO)
    here = dict(files_below(tmp_path / "s"))
    assert {path: there[path] for path in here} == here
    hub.log.clear()
    assert push("s3://scans/all", storage_options=s3).files == 0
    push("s3://scans/all/dog/2.zarr", "ada/few", shard="1 MiB", storage_options=s3)
    np.testing.assert_array_equal(
        read_pushed(hub, rows(hub, "ada/few")[0]["zarr"]), image_pixels(2)
    )
    push(["s3://scans/cat/1.zarr", "s3://scans/dog/2.zarr"], "ada/root", storage_options=s3)
    found = [place(row["zarr"]) for row in rows(hub, "ada/root")]
    assert found == ["cat/1.zarr", "dog/2.zarr"]


# What is none


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("nowhere", StoreNotFoundError, "nowhere"),
        ([], TargetError, "no rows|no stores|empty"),
        ({"zarr": [None]}, HfzarrError, "stores"),
        (5, TargetError, "5"),
        (zarr.storage.MemoryStore(), HfzarrError, "[Mm]emory"),
        ("hf://datasets/ada/nothing", HfzarrError, "ada/nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_store(
    hub: Hub, ada: str, tmp_path: Path, source: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        push(tmp_path / source if source == "nowhere" else source)
    assert hub.state.repos == {}


def test_an_empty_folder(hub: Hub, ada: str, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(HfzarrError, match="no"):
        push(tmp_path / "s")
    assert hub.state.repos == {}


def test_a_store_that_cannot_be_read_is_named(hub: Hub, ada: str, one: Path) -> None:
    (one.parent / "bad.zarr").mkdir()
    (one.parent / "bad.zarr" / "zarr.json").write_text("{")
    with pytest.raises(HfzarrError, match=r"bad\.zarr"):
        push(one.parent)
    assert hub.state.repos == {}
