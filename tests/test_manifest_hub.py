"""Tables of stores that lie on the Hub: published, loaded, streamed, refused; and whose token goes
where."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("pyarrow")

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfFileSystem

import hfzarr
from hfzarr.errors import HfzarrError, TargetError
from hub import Hub, run_python
from hubstores import hub as hub
from hubstores import servers as servers

NAMES = ("a", "b", "c")


def pixels(name: str) -> np.ndarray[Any, Any]:
    return np.arange(24, dtype="uint16").reshape(4, 6) + 100 * NAMES.index(name)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder of three small stores."""
    folder = tmp_path / "stores"
    for name in NAMES:
        group = zarr.create_group(folder / f"{name}.zarr", zarr_format=3)
        array = group.create_array(
            "image", shape=(4, 6), chunks=(2, 3), dtype="uint16", dimension_names=("y", "x")
        )
        array[:] = pixels(name)
        zarr.consolidate_metadata(folder / f"{name}.zarr")
    return folder


@pytest.fixture
def data(hub: Hub, stores: Path) -> str:
    """A public dataset repo of three stores."""
    return hub.add_repo("ada/stores", stores).id


def urls(repo: str) -> list[str]:
    return [f"hf://datasets/{repo}/{name}.zarr" for name in NAMES]


def parquet(cells: list[str], **columns: list[Any]) -> bytes:
    """A table whose column ``zarr`` is marked as stores, as published by `datasets`."""
    table = pa.table({"zarr": pa.array(cells, pa.string()), **columns})
    mark = {"info": {"features": {"zarr": {"dtype": "string", "id": "zarr", "_type": "Value"}}}}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(mark)}), buffer)
    return buffer.getvalue()


def image(handle: Any) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = handle.array("image").read()
    return values


# (a) A column of stores, published by `datasets` itself.


@pytest.fixture
def index(hub: Hub, data: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An index that `datasets` pushed, with a column of the feature."""
    hub.add_token("hf_writer", "ada")
    made = datasets.Dataset.from_dict({"zarr": urls(data), "label": [0, 1, 0]})
    made = made.cast_column("zarr", hfzarr.Zarr())
    made.push_to_hub("ada/index", token="hf_writer")
    hub.log.clear()
    return "ada/index"


def test_what_is_published_is_text_with_a_mark(hub: Hub, index: str) -> None:
    import yaml

    files = hub.files(index)
    card = files["README.md"].decode()
    features = yaml.safe_load(card.split("---\n")[1])["dataset_info"]["features"]
    assert "dtype: zarr" not in card
    assert {f["name"]: f["dtype"] for f in features} == {"zarr": "string", "label": "int64"}
    assert features[0]["id"] == "zarr"
    table = pq.read_table(io.BytesIO(files["data/train-00000-of-00001.parquet"]))
    said = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["zarr"]
    assert said == {"dtype": "string", "id": "zarr", "_type": "Value"}
    assert table.schema.field("zarr").type == pa.string()
    assert hub.files_holding("hf_writer") == []
    assert hub.files_holding(hub.url) == []


def test_who_has_no_hfzarr_loads_text(hub: Hub, index: str, tmp_path: Path) -> None:
    said = run_python(
        hub,
        f"""
        import json, sys
        sys.modules["hfzarr"] = None  # as if it were not installed
        import datasets
        loaded = datasets.load_dataset("{index}", split="train")
        streamed = datasets.load_dataset("{index}", split="train", streaming=True)
        print(json.dumps([loaded["zarr"][:], [row["zarr"] for row in streamed],
                          str(loaded.features["zarr"])]))
        """,
        tmp_path,
    )
    loaded, streamed, feature = json.loads(said.splitlines()[-1])
    assert loaded == streamed == urls("ada/stores")
    assert feature.startswith("Value")


@pytest.mark.parametrize("streaming", [False, True])
def test_hfzarr_loads_handles(index: str, streaming: bool) -> None:
    loaded = hfzarr.load_dataset(index, split="train", streaming=streaming)
    assert isinstance(loaded.features["zarr"], hfzarr.Zarr)
    rows = list(loaded)
    assert [row["label"] for row in rows] == [0, 1, 0]
    for name, row in zip(NAMES, rows, strict=True):
        np.testing.assert_array_equal(image(row["zarr"]), pixels(name))


def test_loading_opens_no_store(hub: Hub, index: str) -> None:
    for streaming in (False, True):
        assert len(list(hfzarr.load_dataset(index, split="train", streaming=streaming))) == 3
    assert len(hfzarr.open_manifest(index)) == 3
    assert hub.log.find("ada/stores") == []


@pytest.mark.parametrize(
    "source", ["ada/index", "hf://datasets/ada/index/data/train-00000-of-00001.parquet"]
)
def test_an_index_opens_as_a_manifest(index: str, source: str) -> None:
    manifest = hfzarr.open_manifest(source)
    assert (len(manifest), manifest.column) == (3, "zarr")
    for number, name in enumerate(NAMES):
        np.testing.assert_array_equal(image(manifest[number]["zarr"]), pixels(name))
    one = manifest.filter(label=1)
    np.testing.assert_array_equal(image(one[0]["zarr"]), pixels("b"))


def test_a_manifest_of_a_split(hub: Hub, data: str) -> None:
    hub.add_repo(
        "ada/splits",
        {
            "data/train-00000-of-00001.parquet": parquet(urls(data)[:2]),
            "data/test-00000-of-00001.parquet": parquet(urls(data)[2:]),
        },
    )
    assert len(hfzarr.open_manifest("ada/splits", split="test")) == 1
    assert len(hfzarr.open_manifest("ada/splits", split="train")) == 2


def test_relative_cells_lie_in_the_repo_of_the_manifest(hub: Hub, stores: Path) -> None:
    repo = hub.add_repo("ada/both", stores)
    hub.add_commit(repo, {"index.parquet": parquet([f"{name}.zarr" for name in NAMES])})
    manifest = hfzarr.open_manifest("hf://datasets/ada/both/index.parquet")
    np.testing.assert_array_equal(image(manifest[1]["zarr"]), pixels("b"))


# (b) What a manifest of the Hub may not name.

OF_THIS_MACHINE = [
    "/etc",
    "/etc/passwd",
    "file:///etc",
    "FILE:///etc",
    "local:///etc",
    "~/.ssh",
    "simplecache::file:///etc",
    "zip://a.zarr::file:///tmp/a.zip",
    "C:\\data",
    "../../../../../etc",
]


@pytest.mark.parametrize("place", OF_THIS_MACHINE)
@pytest.mark.parametrize("source", ["eve/index", "hf://datasets/eve/index/data/train.parquet"])
def test_a_manifest_of_the_hub_may_not_name_this_machine(
    hub: Hub, data: str, place: str, source: str
) -> None:
    hub.add_repo("eve/index", {"data/train.parquet": parquet([urls(data)[0], place])})
    with pytest.raises(TargetError, match="row 1"):
        hfzarr.open_manifest(source)


@pytest.mark.parametrize("source", ["eve/index", "hf://datasets/eve/index/data/train.parquet"])
@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_trusted_manifest_may(hub: Hub, stores: Path, source: str, form: str) -> None:
    cells = [form.format(stores / f"{name}.zarr") for name in NAMES]
    hub.add_repo("eve/index", {"data/train.parquet": parquet(cells)})
    with pytest.raises(TargetError, match="row 0"):
        hfzarr.open_manifest(source)
    manifest = hfzarr.open_manifest(source, trusted=True)
    np.testing.assert_array_equal(image(manifest[2]["zarr"]), pixels("c"))


def test_a_loaded_dataset_is_no_way_around(hub: Hub) -> None:
    hub.add_repo("eve/index", {"data/train.parquet": parquet(["/etc"])})
    for streaming in (False, True):
        loaded = datasets.load_dataset("eve/index", split="train", streaming=streaming)
        with pytest.raises(TargetError, match="row 0"):
            hfzarr.open_manifest(loaded)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("number", [0, 1])
def test_loading_is_no_way_around(hub: Hub, stores: Path, streaming: bool, number: int) -> None:
    cell = [f"file://{stores / 'a.zarr'}", str(stores / "b.zarr")][number]
    hub.add_repo("eve/index", {"data/train.parquet": parquet([cell])})

    def opened(**options: Any) -> Any:
        loaded = hfzarr.load_dataset("eve/index", split="train", streaming=streaming, **options)
        return image(next(iter(loaded))["zarr"])

    with pytest.raises(TargetError, match="row"):
        opened()
    assert opened(trusted=True) is not None


# (c) Whose token goes where.

TOKENS = {"lab/index": "hf_AAAA", "lab/one": "hf_BBBB", "lab/two": "hf_CCCC"}


@pytest.fixture
def private(hub: Hub, stores: Path) -> list[str]:
    """A private index of stores in two private repos, each with a token of its own."""
    for repo, token in TOKENS.items():
        hub.add_token(token, f"reader-of-{repo[4:]}", repos=(repo,), write=False)
    cells = ["hf://datasets/lab/one/a.zarr", "hf://datasets/lab/two/b.zarr"]
    hub.add_repo("lab/one", stores, private=True)
    hub.add_repo("lab/two", stores, private=True)
    hub.add_repo("lab/index", {"data/train.parquet": parquet(cells)}, private=True)
    return cells


def check_tokens(hub: Hub) -> None:
    """Each token went to its own repo at the Hub, and nowhere else."""
    for repo, token in TOKENS.items():
        for request in hub.log.holding(token):
            assert request.origin == "hub", f"the token of {repo} went to the CDN"
            assert repo in request.path, f"the token of {repo} went to {request.path}"


def told(hub: Hub) -> set[str]:
    return {repo for repo, token in TOKENS.items() if hub.log.holding(token)}


def test_each_repo_gets_its_own_token(hub: Hub, private: list[str]) -> None:
    feature = hfzarr.Zarr()
    handles = [feature.decode_example(cell, token_per_repo_id=TOKENS) for cell in private]
    for name, handle in zip("ab", handles, strict=True):
        np.testing.assert_array_equal(image(handle), pixels(name))
    assert told(hub) == {"lab/one", "lab/two"}
    check_tokens(hub)
    assert all(len(pickle.dumps(handle)) < 1024 for handle in handles)
    for kept in (*map(pickle.dumps, handles), repr(handles).encode()):
        assert not any(token.encode() in kept for token in TOKENS.values())


def test_what_a_handle_opens_pickles_without_its_token(hub: Hub, private: list[str]) -> None:
    handle = hfzarr.Zarr().decode_example(private[0], token_per_repo_id=TOKENS)
    opened = handle.to_xarray()
    assert TOKENS["lab/one"] not in f"{opened!r} {opened.encoding} {opened._repr_html_()}"
    assert TOKENS["lab/one"].encode() not in pickle.dumps(opened)


def test_streaming_passes_a_token_to_stores_of_the_same_repo(hub: Hub, stores: Path) -> None:
    cells = ["hf://datasets/lab/index/a.zarr", "hf://datasets/lab/one/a.zarr"]
    for repo in ("lab/index", "lab/one"):
        hub.add_token(TOKENS[repo], "reader", repos=(repo,), write=False)
        hub.add_repo(repo, stores, private=True)
    hub.add_commit(hub.repo("lab/index"), {"data/train.parquet": parquet(cells)})
    index = hfzarr.load_dataset(
        "lab/index",
        split="train",
        streaming=True,
        token=TOKENS["lab/index"],
        data_files="data/train.parquet",
    )
    own, other = (row["zarr"] for row in index)
    np.testing.assert_array_equal(image(own), pixels("a"))
    with pytest.raises(HfzarrError):
        image(other)
    check_tokens(hub)


def test_a_token_for_one_repo_opens_no_other(hub: Hub, private: list[str]) -> None:
    feature = hfzarr.Zarr()
    tokens = {"lab/index": TOKENS["lab/index"], "lab/one": TOKENS["lab/one"]}
    one, two = (feature.decode_example(cell, token_per_repo_id=tokens) for cell in private)
    with pytest.raises(HfzarrError):
        image(two)
    np.testing.assert_array_equal(image(one), pixels("a"))
    check_tokens(hub)
    assert told(hub) == {"lab/one"}


def test_the_token_of_an_index_is_not_sent_to_its_stores(
    hub: Hub, private: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = hfzarr.load_dataset(
        "lab/index", split="train", streaming=True, token=TOKENS["lab/index"]
    )
    rows = list(index)
    assert [row["zarr"].url for row in rows] == private
    with pytest.raises(HfzarrError):
        image(rows[0]["zarr"])
    check_tokens(hub)
    assert told(hub) == {"lab/index"}
    # With a login that may see the store, the same handle opens.
    monkeypatch.setenv("HF_TOKEN", TOKENS["lab/one"])
    HfFileSystem.clear_instance_cache()  # it remembers that there was no such repo
    np.testing.assert_array_equal(image(next(iter(index))["zarr"]), pixels("a"))
    assert {request.origin for request in hub.log.holding(TOKENS["lab/one"])} == {"hub"}


@pytest.mark.parametrize("streaming", [False, True])
def test_nothing_of_a_private_index_holds_its_token(
    hub: Hub, private: list[str], streaming: bool
) -> None:
    secret = TOKENS["lab/index"]
    index = hfzarr.load_dataset("lab/index", split="train", streaming=streaming, token=secret)
    row = next(iter(index))
    for thing in (row["zarr"], index.features):
        assert secret.encode() not in pickle.dumps(thing)
    assert secret not in f"{index!r} {row!r} {index.features!r} {index.info!r}"
    assert [r for r in hub.log.holding(secret) if r.origin != "hub"] == []


def test_a_manifest_of_a_private_index_holds_no_token(hub: Hub, private: list[str]) -> None:
    secret = TOKENS["lab/index"]
    manifest = hfzarr.open_manifest("lab/index", storage_options={"token": secret})
    assert len(manifest) == 2
    kept = (pickle.dumps(manifest), pickle.dumps(manifest[0]), repr(manifest).encode())
    assert not any(secret.encode() in one for one in kept)
    assert secret not in manifest._repr_html_()
    assert secret not in json.dumps({k.decode(): v.decode() for k, v in _metadata(manifest)})
    assert [r for r in hub.log.holding(secret) if r.origin != "hub"] == []


def _metadata(manifest: Any) -> Any:
    return (manifest.to_arrow().schema.metadata or {}).items()


# (d) Stores of the Hub, by fsspec.


def test_a_store_of_the_hub_opens(hub: Hub, data: str) -> None:
    with xr.open_dataset(f"hf://datasets/{data}/b.zarr", engine="hfzarr") as opened:
        np.testing.assert_array_equal(opened["image"].values, pixels("b"))
        assert opened["image"].dims == ("y", "x")
    assert hub.log.find(origin="cdn")  # chunks are binary, and lie there


def test_a_pinned_store_stays_as_it_was(hub: Hub, data: str, stores: Path) -> None:
    repo = hub.repo(data)
    old = repo.head()
    assert old is not None
    zarr.open_group(stores / "a.zarr")["image"][:] = 7  # type: ignore[index]
    hub.add_commit(repo, stores, "all sevens")
    for revision, wanted in [(f"@{old.oid}", pixels("a")), ("", np.full((4, 6), 7))]:
        url = f"hf://datasets/{data}{revision}/a.zarr"
        with xr.open_dataset(url, engine="hfzarr") as opened:
            np.testing.assert_array_equal(opened["image"].values, wanted)


def test_a_private_store_opens_with_its_token_alone(hub: Hub, private: list[str]) -> None:
    options = {"token": TOKENS["lab/one"]}
    with xr.open_dataset(private[0], engine="hfzarr", storage_options=options) as opened:
        np.testing.assert_array_equal(opened["image"].values, pixels("a"))
    check_tokens(hub)
    with pytest.raises(HfzarrError):
        xr.open_dataset(private[1], engine="hfzarr")


def test_a_store_that_is_not_there_is_told(data: str) -> None:
    for url in (f"hf://datasets/{data}/none.zarr", "hf://datasets/ada/nothing/a.zarr"):
        with pytest.raises(hfzarr.StoreNotFoundError):
            xr.open_dataset(url, engine="hfzarr")
