"""A column of stores in `datasets`: what it keeps, what it publishes, and what it never reads."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import zarr

from hfzarr.errors import TargetError

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")

import pyarrow.parquet as pq  # noqa: E402
from datasets import Dataset, Features, List, Value  # noqa: E402

import hfzarr  # noqa: E402
from datasetcache import alone as alone  # noqa: E402
from datasetcache import processes as processes  # noqa: E402
from hfzarr.faces.feature import Zarr, is_local  # noqa: E402
from hfzarr.faces.restoring import local_stores, restore  # noqa: E402
from hfzarr.rows.columns import mark  # noqa: E402
from hfzarr.rows.handle import ZarrHandle  # noqa: E402
from hfzarr.rows.opened import OpenedStore  # noqa: E402
from hfzarr.rows.selection import ZarrSelection  # noqa: E402

COUNT = 6
MARKED = {"dtype": "string", "id": "zarr", "_type": "Value"}
SECRET = "hf_very-secret"

pytestmark = [
    pytest.mark.usefixtures("alone"),
    # Of pyarrow 25, met in sort() of `datasets` 5.2.
    pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning"),
    # Of Python 3.12 and later: processes are forked beside threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Stores of 4 x 4 pixels, each full of its number."""
    folder = tmp_path_factory.mktemp("stores")
    for number in range(COUNT):
        zarr.create_array(
            folder / f"{number}.zarr", data=np.full((4, 4), number, "uint16"), chunks=(2, 2)
        )
    return [str(folder / f"{number}.zarr") for number in range(COUNT)]


@pytest.fixture
def ds(places):
    features = Features({"zarr": Zarr(), "n": Value("int64")})
    return Dataset.from_dict({"zarr": places, "n": list(range(COUNT))}, features=features)


@pytest.fixture
def unread(monkeypatch):
    """Fail as soon as a handle looks into its store."""

    def look(self, *args, **kwargs):
        raise AssertionError(f"a store was looked into: {self}")

    for name in ("look", "children", "reader", "array"):
        monkeypatch.setattr(OpenedStore, name, look)


def check(dataset, numbers=range(COUNT), column="zarr"):
    """Compare the pixels behind every row."""
    assert isinstance(dataset.features[column], Zarr)
    cells = [row[column] for row in dataset]
    assert all(isinstance(cell, ZarrHandle) for cell in cells)
    assert [int(cell[3, 3]) for cell in cells] == list(numbers)


# --- as a value ----------------------------------------------------------------------------------


def test_what_is_written_down_is_a_marked_text():
    features = Features(
        {"zarr": Zarr(decode=False, storage_options={"token": SECRET}), "n": Value("int8")}
    )
    assert features.to_dict()["zarr"] == MARKED
    assert features._to_yaml_list()[0] == {"name": "zarr", "dtype": "string", "id": "zarr"}
    told = json.loads(features.arrow_schema.metadata[b"huggingface"])
    assert told["info"]["features"]["zarr"] == MARKED
    assert features.arrow_schema.field("zarr").type == pa.string()
    info = json.dumps(datasets.DatasetInfo(features=features)._to_yaml_dict())
    assert SECRET not in info + repr(features) + str(features.to_dict())


def test_what_is_written_down_is_what_datasets_itself_writes():
    assert (
        Features({"a": Zarr()}).to_dict() == Features({"a": Value("string", id="zarr")}).to_dict()
    )


def test_a_type_that_others_published_loads():
    for told in ({"_type": "Zarr"}, {"_type": "Zarr", "id": None, "decode": False}):
        assert Features.from_dict({"zarr": told})["zarr"] == Zarr()
    assert Features._from_yaml_list([{"name": "zarr", "dtype": "zarr"}])["zarr"] == Zarr()


def test_equality_hash_copy_and_pickle():
    kinds = [
        Zarr(),
        Zarr(decode=False),
        Zarr(storage_options={"anon": True}),
        Zarr(storage_options={"token": SECRET}),
        Zarr(base="hf://datasets/user/name"),
        Zarr(base="hf://datasets/user/name", trusted=True),
    ]
    for number, kind in enumerate(kinds):
        for other in (copy.copy(kind), copy.deepcopy(kind), pickle.loads(pickle.dumps(kind))):
            assert other == kind
            assert hash(other) == hash(kind)
            assert other.storage_options.resolve() == kind.storage_options.resolve()
        assert [kind == other for other in kinds] == [i == number for i in range(len(kinds))]
        assert SECRET not in repr(kind)
        assert SECRET.encode() not in pickle.dumps(kind)
    assert Zarr() != Value("string", id="zarr")
    assert Zarr(storage_options={"token": SECRET}) == Zarr(storage_options={"token": SECRET})


def test_options_that_are_none_are_refused():
    with pytest.raises(TargetError, match="storage_options"):
        Zarr(storage_options=["anon"])


def test_a_dataset_is_pickled_without_its_secrets(ds):
    dill = pytest.importorskip("dill")
    secret = ds.cast_column("zarr", Zarr(storage_options={"token": SECRET, "anon": False}))
    for dump in (pickle.dumps, dill.dumps):
        kept = dump(secret)
        assert SECRET.encode() not in kept
        cell = pickle.loads(kept)[0]["zarr"]
        assert cell.options.resolve() == {"token": SECRET, "anon": False}
        assert SECRET.encode() not in pickle.dumps(cell)
        assert len(pickle.dumps(cell)) < 1024


# --- cells ---------------------------------------------------------------------------------------


def test_what_a_cell_takes(places, tmp_path):
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("a/b", shape=(2,), dtype="u1")
    handle = ZarrHandle(places[0])
    takes = {
        places[0]: [places[0], pathlib.Path(places[0]), {"path": places[0]}, handle],
        f"{places[0]}": [zarr.open_array(places[0], mode="r")],
        str(tmp_path / "g.zarr"): [group],
        str(tmp_path / "g.zarr/a/b"): [group["a/b"]],
        str(handle.select((slice(0, 2), 1))): [handle.select((slice(0, 2), 1))],
        "s3://bucket/a.zarr": ["s3://bucket/a.zarr", {"path": "s3://bucket/a.zarr", "bytes": None}],
    }
    for text, values in takes.items():
        for value in values:
            assert Zarr().encode_example(value) == text, value


@pytest.mark.parametrize("value", [3, "", b"a.zarr", {"bytes": b""}, ["a.zarr"]])
def test_what_a_cell_refuses(value):
    with pytest.raises(TargetError):
        Zarr().encode_example(value)


def test_pixels_are_refused_with_what_to_give_instead(places):
    """`datasets` reads whatever has __array__ before the feature sees it."""
    array = zarr.open_array(places[2], mode="r")
    features = Features({"zarr": Zarr()})
    with pytest.raises(TargetError, match=r"uint16 of shape \(4, 4\).*encode_example"):
        Dataset.from_dict({"zarr": [array]}, features=features)
    made = Dataset.from_dict({"zarr": [Zarr().encode_example(array)]}, features=features)
    check(made, [2])


def test_a_column_takes_groups_paths_handles_and_selections(places, tmp_path):
    features = Features({"zarr": Zarr()})
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    handle = ZarrHandle(places[1])
    selection = handle.select((slice(0, 2), slice(1, 3)))
    for value in (group, pathlib.Path(places[1]), handle, selection, {"path": places[1]}):
        row = Dataset.from_dict({"zarr": [value, None]}, features=features)
        assert row[1]["zarr"] is None
        assert Zarr().encode_example(row[0]["zarr"]) == Zarr().encode_example(value)
    assert isinstance(
        Dataset.from_dict({"zarr": [selection]}, features=features)[0]["zarr"], ZarrSelection
    )


def test_a_cell_decodes_once(places):
    handle = Zarr().decode_example(places[0])
    assert Zarr().decode_example(handle) is handle
    assert Zarr().decode_example(None) is None
    assert type(Zarr().decode_example(np.str_("s3://b/a.zarr")).url) is str


def test_no_decoding_gives_the_text(ds, places):
    plain = ds.cast_column("zarr", Zarr(decode=False))
    assert plain[0] == {"zarr": places[0], "n": 0}
    assert plain["zarr"][:] == places
    with pytest.raises(TargetError, match="decode=False"):
        Zarr(decode=False).decode_example(places[0])
    check(plain.cast_column("zarr", Zarr()))


def test_options_reach_the_handles(ds):
    cast = ds.cast_column("zarr", Zarr(storage_options={"anon": True}))
    assert cast[0]["zarr"].options.resolve() == {"anon": True}


@pytest.mark.parametrize(
    ("cell", "token"),
    [
        ("hf://datasets/lab/one/a.zarr", "ONE"),
        ("hf://datasets/lab/one@refs/a.zarr", "ONE"),
        ("hf://datasets/lab/one", "ONE"),
        ("zip://a.zarr::hf://datasets/lab/one/b.zip", {"token": "ONE"}),
        ("a.zarr", "ONE"),
        ("hf://datasets/lab/one-two/a.zarr", None),
        ("hf://datasets/lab/two/a.zarr", None),
        ("hf://datasets/other/one/a.zarr", None),
        ("hf://lab/one/a.zarr", "MODEL"),
        ("hf://spaces/lab/one/a.zarr", None),
        ("hf://buckets/lab/one/a.zarr", None),
        ("https://evil.org/hf://datasets/lab/one/a.zarr", None),
        ("s3://datasets/lab/one/a.zarr", None),
    ],
)
def test_a_token_goes_to_its_own_repository_alone(cell, token):
    tokens = {"lab/one": "ONE", "models/lab/one": "MODEL", "lab/none": None}
    feature = Zarr(base="hf://datasets/lab/one", trusted=True)
    handle = feature.decode_example(cell, token_per_repo_id=tokens)
    options = handle.options.resolve()
    assert options.get("token", options.get("hf")) == token
    assert b"MODEL" not in pickle.dumps(handle)
    told = Zarr(storage_options={"token": "MINE"}).decode_example(cell, token_per_repo_id=tokens)
    assert "MINE" in json.dumps(told.options.resolve())


def test_without_tokens_none_is_made_up():
    cell = "hf://datasets/lab/one/a.zarr"
    for tokens in (None, {}, {"lab/one": None}):
        assert not Zarr().decode_example(cell, token_per_repo_id=tokens).options


# --- Arrow ---------------------------------------------------------------------------------------


def test_storage_of_every_kind_becomes_text(places):
    selection = ZarrHandle(places[0]).select((slice(0, 2), 1))
    struct = {
        "path": places[0],
        "node": "",
        "level": "",
        "start": [0, 1],
        "stop": [2, None],
        "step": [1, 1],
    }
    cases = [
        (pa.array(["a", None]), ["a", None]),
        (pa.array(["a", None], pa.large_string()), ["a", None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.array([None, None]), [None, None]),
        (pa.array([{"path": "a"}, None, {"path": None}]), ["a", None, None]),
        (pa.array([{"bytes": None, "path": "a"}]), ["a"]),
        (pa.array([struct, None]), [str(selection), None]),
        (pa.array([], pa.string()), []),
    ]
    for storage, texts in cases:
        cast = Zarr().cast_storage(storage)
        assert cast.type == pa.string()
        assert cast.to_pylist() == texts
        sliced = Zarr().cast_storage(storage[1:])
        assert sliced.to_pylist() == texts[1:]
    for wrong in (pa.array([1]), pa.array([b"a"]), pa.array([{"url": "a"}]), pa.array([["a"]])):
        with pytest.raises(TargetError, match="Arrow type"):
            Zarr().cast_storage(wrong)


def test_embedding_leaves_references_and_warns_of_local_ones():
    remote = pa.array(["hf://datasets/user/name/a.zarr", None, "rel.zarr"])
    assert Zarr().embed_storage(remote, local_files=True, token_per_repo_id={}) is remote
    mixed = pa.array(["/data/a.zarr", "s3://b/c.zarr", "file:///data/b.zarr"])
    with pytest.warns(UserWarning, match="2 paths of this machine") as caught:
        assert Zarr().embed_storage(mixed, local_files=False, remote_files=True) is mixed
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("cell", "local"),
    [
        ("/data/a.zarr", True),
        ("C:\\data\\a.zarr", True),
        ("~/a.zarr", True),
        ("file:///data/a.zarr", True),
        ("zip://a.zarr::/data/b.zip", True),
        ("a.zarr", False),
        ("hf://datasets/u/n/a.zarr", False),
        ("simplecache::https://host/a.zarr", False),
        ("", False),
    ],
)
def test_which_places_are_of_this_machine(cell, local):
    assert is_local(cell) is local


def test_local_stores_are_counted_before_publishing(places):
    features = Features({"zarr": Zarr(), "more": List(Zarr()), "text": Value("string")})
    rows = {
        "zarr": [places[0], "hf://datasets/u/n/a.zarr", None],
        "more": [places[:2], [], None],
        "text": ["/not/a/store"] * 3,
    }
    assert local_stores(Dataset.from_dict(rows, features=features)) == {"zarr": 1, "more": 2}


# --- what datasets does with it ------------------------------------------------------------------


def test_every_way_to_make_a_dataset(places, ds):
    import pandas as pd

    features = ds.features

    def rows():
        for number, place in enumerate(places):
            yield {"zarr": place, "n": number}

    check(ds)
    check(Dataset.from_list(list(rows()), features=features))
    check(Dataset.from_pandas(pd.DataFrame(list(rows())), features=features))
    check(Dataset.from_generator(rows, features=features))
    check(Dataset.from_dict({"zarr": places}).cast_column("zarr", Zarr()))
    check(Dataset.from_dict({"zarr": places}).cast(Features({"zarr": Zarr()})))
    check(datasets.IterableDataset.from_generator(rows, features=features))
    handles = [row["zarr"] for row in ds]
    check(Dataset.from_dict({"zarr": handles, "n": range(COUNT)}, features=features))


def test_rearranging_keeps_the_feature_and_reads_nothing(ds, unread):
    features = ds.features
    for made in (
        ds.filter(lambda row: row["n"] > 1),
        ds.select(range(3)),
        ds.shuffle(seed=3),
        ds.sort("n", reverse=True),
        ds.train_test_split(0.5, seed=1)["test"],
        datasets.concatenate_datasets([ds, ds]),
        datasets.interleave_datasets([ds, ds]),
        ds.shard(2, 0),
        ds.add_column("m", list(range(COUNT))),
        ds.rename_column("n", "m"),
        ds.remove_columns("n"),
        ds.flatten(),
        ds.flatten_indices(),
        ds.map(lambda row: {"m": row["n"]}),
        ds.map(lambda row: row),
        ds.map(lambda row: {"zarr": row["zarr"]}, remove_columns="n"),
        ds.map(lambda rows: {"m": rows["n"]}, batched=True, batch_size=2),
        ds.add_item({"zarr": "s3://b/new.zarr", "n": 9}),
        ds.with_format("numpy").map(lambda row: {"m": row["n"]}).with_format(None),
    ):
        assert made.features["zarr"] == features["zarr"]
        assert isinstance(made[0]["zarr"], ZarrHandle)
        assert all(isinstance(row["zarr"], ZarrHandle) for row in made)
        assert len(made["zarr"][:]) == len(made)
    if int(datasets.__version__.split(".")[0]) >= 5:  # before, batch() forgets every such feature
        assert ds.batch(2).features["zarr"] == List(Zarr())
    assert [len(batch["zarr"]) for batch in ds.iter(batch_size=4)] == [4, 2]


def test_mapping_over_decoded_handles(ds):
    one = ds.map(lambda row: {"m": int(row["zarr"][0, 0])})
    many = ds.map(lambda rows: {"m": [int(cell[0, 0]) for cell in rows["zarr"]]}, batched=True)
    indexed = ds.map(lambda row, i: {"m": int(row["zarr"][0, 0]), "i": i}, with_indices=True)
    columns = ds.map(lambda cell: {"m": int(cell[0, 0])}, input_columns="zarr")
    for made in (one, many, indexed, columns):
        assert made["m"][:] == list(range(COUNT))
        check(made)


def _first(row):
    return {"m": int(row["zarr"][0, 0]), "again": row["zarr"]}


# On Python 3.13, a pipe of `multiprocess` lets go of its buffers in the wrong order.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("processes")
def test_mapping_with_several_processes(ds):
    features = Features({**ds.features, "m": Value("int64"), "again": Zarr()})
    made = ds.map(_first, num_proc=2, features=features)
    assert made["m"][:] == list(range(COUNT))
    check(made)
    check(made, column="again")


# On Python 3.13, a pipe of `multiprocess` lets go of its buffers in the wrong order.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("processes")
def test_mapping_with_several_processes_keeps_secrets(ds):
    """Workers are forked: they know what this process knows, and no pickle says it."""
    secret = ds.cast_column("zarr", Zarr(storage_options={"token": SECRET}))
    made = secret.map(lambda row: {"t": row["zarr"].options.resolve()["token"]}, num_proc=2)
    assert made["t"][:] == [SECRET] * COUNT


def test_map_may_return_handles_and_selections(ds):
    features = Features({**ds.features, "crop": Zarr()})
    made = ds.map(lambda row: {"crop": row["zarr"].select((slice(0, 2), 1))}, features=features)
    assert made.features == features
    assert made[4]["crop"].read().tolist() == [4, 4]


def test_structs_that_map_wrote_are_restored_by_name(ds):
    crop = ds.map(lambda row: {"crop": row["zarr"].select((slice(0, 2), 1)), "same": row["zarr"]})
    assert isinstance(crop.features["crop"], dict)
    made = restore(crop, columns=["crop", "same"])
    assert made.features["crop"] == made.features["same"] == Zarr()
    assert made[5]["crop"].read().tolist() == [5, 5]
    check(made, column="same")
    stream = restore(crop.to_iterable_dataset(), columns=["crop", "same"])
    assert [row["crop"].read()[0] for row in stream] == list(range(COUNT))
    cast = crop.cast_column("crop", Zarr()).cast_column("same", Zarr())
    assert cast[5]["crop"].read().tolist() == [5, 5]
    check(cast, column="same")
    with pytest.raises(TargetError, match="'crops'"):
        restore(crop, columns=["crops"])


@pytest.mark.parametrize("kind", ["numpy", "pandas", "arrow"])
def test_formats_read_no_pixels(ds, kind, unread):
    made = ds.with_format(kind)
    one, some, column = made[0], made[:3], made.with_format(kind)["zarr"][:]
    if kind == "arrow":
        assert some.column("zarr").to_pylist()[0].endswith("0.zarr")
        return
    if kind == "numpy":
        assert isinstance(one["zarr"].item(), ZarrHandle)
        assert one["zarr"].shape == ()
        assert some["zarr"].shape == (3,)
        assert some["n"].dtype == np.int64
    cells = [*some["zarr"], *column]
    assert len(cells) == 3 + COUNT
    assert all(isinstance(cell, ZarrHandle) for cell in cells)
    assert all(type(cell.url) is str for cell in cells)


def test_torch_formats_the_other_columns(ds, unread):
    """`datasets` makes a tensor of every formatted cell, which a handle is not."""
    torch = pytest.importorskip("torch")
    with pytest.raises((TypeError, RuntimeError)):
        ds.with_format("torch")[0]
    made = ds.with_format("torch", columns=["n"], output_all_columns=True)
    assert isinstance(made[0]["zarr"], ZarrHandle)
    assert torch.equal(made[:2]["n"], torch.tensor([0, 1]))
    assert isinstance(made[:2]["zarr"][1], ZarrHandle)


def test_a_transform_sees_handles(ds):
    made = ds.with_transform(lambda rows: {"p": [cell.read() for cell in rows["zarr"]]})
    assert made[3]["p"].tolist() == np.full((4, 4), 3).tolist()


def _as_it_is(row):
    return row


def test_a_loader_with_workers(ds):
    data = pytest.importorskip("torch.utils.data")
    for rows in (ds, ds.to_iterable_dataset(num_shards=2)):
        loader = data.DataLoader(
            rows,
            num_workers=2,
            batch_size=None,
            # The default takes handles for dictionaries of pixels.
            collate_fn=_as_it_is,
            multiprocessing_context="fork",
        )
        assert sorted(int(row["zarr"][1, 1]) for row in loader) == list(range(COUNT))


# --- streams -------------------------------------------------------------------------------------


def test_streams_keep_the_feature(ds, unread):
    stream = ds.to_iterable_dataset(num_shards=3)
    for made in (
        stream,
        stream.shuffle(seed=1, buffer_size=3),
        stream.filter(lambda row: row["n"] > 0),
        stream.take(2),
        stream.skip(1),
        stream.map(lambda row: {"m": row["n"]}),
        stream.map(lambda rows: {"m": rows["n"]}, batched=True, batch_size=2),
        stream.rename_column("n", "m"),
        stream.remove_columns("n"),
        stream.select_columns(["zarr"]),
        stream.add_column("m", list(range(COUNT))),
        datasets.concatenate_datasets([stream, stream]),
        datasets.interleave_datasets([stream, stream]),
        stream.with_format("numpy").with_format(None),
    ):
        cells = [row["zarr"] for row in made]
        assert cells
        assert all(isinstance(cell, ZarrHandle) for cell in cells)
    assert all(isinstance(cell, ZarrHandle) for row in stream.batch(2) for cell in row["zarr"])


def test_a_stream_passes_tokens(ds):
    cells = ["hf://datasets/lab/one/a.zarr", "hf://datasets/lab/two/a.zarr"]
    features = Features({"zarr": Zarr()})
    stream = Dataset.from_dict({"zarr": cells}, features=features).to_iterable_dataset()
    stream._token_per_repo_id = {"lab/one": SECRET}
    one, two = (row["zarr"] for row in stream)
    assert one.options.resolve() == {"token": SECRET}
    assert not two.options
    assert SECRET.encode() not in pickle.dumps(one)


# --- nested --------------------------------------------------------------------------------------


@pytest.fixture
def nested(places):
    features = Features(
        {
            "list": List(Zarr()),
            "pair": List(Zarr(), length=2),
            "large": datasets.LargeList(Zarr()),
            "dict": {"image": Zarr(), "n": Value("int64")},
            "deep": List({"image": Zarr()}),
        }
    )
    rows = {
        "list": [places[:2], [], None, [None, places[3]]],
        "pair": [places[:2]] * 4,
        "large": [places[:1], None, [], places[2:4]],
        "dict": [
            {"image": places[0], "n": 1},
            {"image": None, "n": 2},
            None,
            {"image": places[3], "n": 3},
        ],
        "deep": [[{"image": places[0]}], [], None, [{"image": None}, {"image": places[3]}]],
    }
    return Dataset.from_dict(rows, features=features)


def check_nested(made):
    rows = list(made)
    assert [int(cell[0, 0]) for cell in rows[0]["list"]] == [0, 1]
    assert rows[1]["list"] == []
    assert rows[3]["list"][0] is None
    assert int(rows[3]["list"][1][0, 0]) == 3
    assert [int(cell[0, 0]) for cell in rows[2]["pair"]] == [0, 1]
    assert [int(cell[0, 0]) for cell in rows[3]["large"]] == [2, 3]
    assert int(rows[0]["dict"]["image"][0, 0]) == 0
    assert rows[1]["dict"] == {"image": None, "n": 2}
    assert int(rows[3]["deep"][1]["image"][0, 0]) == 3


def test_nested_stores(nested, tmp_path):
    check_nested(nested)
    check_nested(nested.to_iterable_dataset())
    check_nested(nested.map(lambda row: {"m": len(row["pair"])}))
    # What was empty and null alike in a list of stores comes back from Parquet, too.
    nested.to_parquet(tmp_path / "n.parquet")
    back = Dataset.from_parquet(str(tmp_path / "n.parquet"))
    assert back.features.to_dict()["dict"]["image"] == MARKED
    assert restore(back).features == nested.features
    check_nested(restore(back))
    stream = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "n.parquet"), streaming=True, split="train"
    )
    check_nested(restore(stream))


# --- saved and loaded ----------------------------------------------------------------------------


def test_saved_to_disk_and_loaded(ds, tmp_path):
    secret = ds.cast_column("zarr", Zarr(storage_options={"token": SECRET}))
    secret.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=secret, test=secret.select([1])).save_to_disk(tmp_path / "two")
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    told = json.loads((tmp_path / "one/dataset_info.json").read_text())["features"]["zarr"]
    assert told == MARKED
    check(datasets.load_from_disk(str(tmp_path / "one")))
    check(hfzarr.load_from_disk(tmp_path / "one"))
    both = hfzarr.load_from_disk(str(tmp_path / "two"), storage_options={"anon": True})
    assert isinstance(both, datasets.DatasetDict)
    assert both["test"].features["zarr"] == Zarr(storage_options={"anon": True})


def test_parquet_both_ways(ds, tmp_path):
    file = tmp_path / "rows.parquet"
    ds.to_parquet(file)
    check(hfzarr.load_dataset("parquet", data_files=str(file), split="train"))
    check(hfzarr.load_dataset("parquet", data_files=str(file), split="train", streaming=True))
    both = hfzarr.load_dataset("parquet", data_files={"a": str(file), "b": str(file)})
    assert isinstance(both, datasets.DatasetDict)
    check(both["b"])
    streams = hfzarr.load_dataset("parquet", data_files={"a": str(file)}, streaming=True)
    assert isinstance(streams, datasets.IterableDatasetDict)
    check(streams["a"])


def test_who_has_no_hfzarr_loads_text(ds, places, tmp_path):
    ds.to_parquet(tmp_path / "rows.parquet")
    ds.save_to_disk(tmp_path / "saved")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STRANGER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )
    loaded, saved, streamed, feature = json.loads(done.stdout.splitlines()[-1])
    assert loaded == saved == streamed == places
    assert feature == "Value"


STRANGER = """
import json, os, sys
sys.modules["hfzarr"] = None  # as if it were not installed
import datasets
file = sys.argv[1] + "/rows.parquet"
loaded = datasets.load_dataset("parquet", data_files=file, split="train")
stream = datasets.load_dataset("parquet", data_files=file, split="train", streaming=True)
saved = datasets.load_from_disk(sys.argv[1] + "/saved")
rows = [[row["zarr"] for row in each] for each in (loaded, saved, stream)]
print(json.dumps([*rows, type(saved.features["zarr"]).__name__]), flush=True)
os._exit(0)  # threads of a stream may abort an interpreter that takes its leave
"""


# On Python 3.13, a pipe of `multiprocess` lets go of its buffers in the wrong order.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("processes")
def test_what_is_found_in_a_cache_are_stores_again(ds, tmp_path):
    """`datasets` reads the features of what it made before from the file."""
    ds.save_to_disk(tmp_path / "saved")
    for _ in range(2):
        made = datasets.load_from_disk(str(tmp_path / "saved"))
        mapped = made.map(_first_pixel)
        check(mapped)
        check(made.map(_first_pixel, num_proc=2))
        check(made.filter(_is_even), [0, 2, 4])
        check(made.select([3, 1]).flatten_indices(), [3, 1])
        check(made.sort("n", reverse=True).flatten_indices(), range(COUNT)[::-1])
        check(Dataset.from_generator(_rows, gen_kwargs={"rows": [0, 1]}, features=FEATURES), [7, 7])
    assert mapped.cache_files != made.cache_files


FEATURES = Features({"zarr": Zarr()})


def _first_pixel(row):
    return {"m": int(row["zarr"][0, 0])}


def _is_even(row):
    return row["n"] % 2 == 0


def _rows(rows):
    import tempfile

    for _ in rows:
        place = tempfile.mkdtemp(suffix=".zarr")
        zarr.create_array(place, data=np.full((4, 4), 7, "u1"), overwrite=True)
        yield {"zarr": place}


def test_caches_of_other_processes_have_no_say_on_options(ds):
    """What is written down says nothing of them, so that it must not be found."""
    code = (
        "import sys, hfzarr\n"
        "from datasets.fingerprint import Hasher\n"
        "print(*[Hasher.hash(f) for f in (hfzarr.Zarr(), hfzarr.Zarr(False),"
        " hfzarr.Zarr(storage_options={'anon': True}), hfzarr.Zarr(base='s3://b'))])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert [one == other for one, other in zip(*runs, strict=True)] == [True, False, False, False]


# The reader of pandas 2.2 leaves the file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_csv_and_json_keep_the_text(ds, places, tmp_path):
    import pandas as pd

    ds.to_csv(tmp_path / "rows.csv")
    ds.to_json(tmp_path / "rows.jsonl")
    assert pd.read_csv(tmp_path / "rows.csv")["zarr"].tolist() == places
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["zarr"] for line in lines] == places
    for kind in ("csv", "json"):
        file = str(tmp_path / f"rows.{kind if kind == 'csv' else 'jsonl'}")
        loaded = datasets.load_dataset(kind, data_files=file, split="train")
        check(restore(loaded, columns=["zarr"]))


def test_text_of_another_arrow_type_is_restored(places):
    """pandas 3 writes large strings."""
    features = Features({"zarr": Value("large_string", id="zarr")})
    plain = Dataset.from_dict({"zarr": places}, features=features)
    check(restore(plain))
    check(restore(plain.to_iterable_dataset()))


def test_other_values_are_read_as_ever(tmp_path):
    features = Features(
        {
            "a": Value("string", id="other"),
            "b": Value("int8"),
            "c": Value("large_string"),
            "d": {"e": List(Value("string"))},
        }
    )
    again = Features.from_dict(features.to_dict())
    assert again == features
    assert Features._from_yaml_list(features._to_yaml_list()) == features
    assert [type(each) for each in again.values()] == [type(each) for each in features.values()]
    assert type(again["a"]) is Value
    assert again["a"].id == "other"
    assert pickle.loads(pickle.dumps(again)) == features


def test_publishing_local_places_warns_once(ds, places):
    """The part of push_to_hub() that looks at cells, which it does shard by shard."""
    from datasets.table import embed_table_storage

    with pytest.warns(UserWarning, match="6 paths of this machine") as caught:
        table = embed_table_storage(ds.with_format("arrow")[:])
    assert len(caught) == 1
    assert table.column("zarr").to_pylist() == places
    remote = ds.map(lambda row: {"zarr": f"s3://bucket/{row['n']}.zarr"})
    embed_table_storage(remote.with_format("arrow")[:], local_files=True)


def test_restoring_leaves_the_rest_alone(ds, places):
    assert restore(ds) is ds
    plain = Dataset.from_dict({"zarr": places})
    assert restore(plain) is plain
    image = Features({"zarr": Value("string", id="other")})
    marked = Dataset.from_dict({"zarr": places}, features=image)
    assert restore(marked) is marked
    again = restore(ds, {"anon": True})
    assert ds.features["zarr"] == Zarr()
    assert again.features["zarr"] == Zarr(storage_options={"anon": True})
    off = ds.cast_column("zarr", Zarr(decode=False))
    assert restore(off) is off
    assert restore(off, {"anon": True}).features["zarr"].decode is False
    with pytest.raises(TargetError, match="a str"):
        restore("rows")


def test_restoring_is_known_to_the_cache_of_map(places):
    """Else map() would find what it made of the text."""
    features = Features({"zarr": Value("string", id="zarr")})
    plain = Dataset.from_dict({"zarr": places}, features=features)
    kinds = [plain, restore(plain), restore(plain, {"anon": True}), restore(plain, {"anon": False})]
    assert len({each._fingerprint for each in kinds}) == len(kinds)
    assert restore(plain)._fingerprint == restore(plain)._fingerprint


def test_rows_that_were_chosen_stay_chosen(places):
    features = Features({"zarr": Value("string", id="zarr"), "n": Value("int64")})
    plain = Dataset.from_dict({"zarr": places, "n": range(COUNT)}, features=features)
    made = restore(plain.select([4, 2]).with_format("numpy"))
    assert made.format["type"] == "numpy"
    assert [int(cell[0, 0]) for cell in made["zarr"][:]] == [4, 2]


# --- rows from elsewhere -------------------------------------------------------------------------

ORIGIN = "hf://datasets/eve/index"
REACHING = [
    "/etc/a.zarr",
    "file:///etc/a.zarr",
    "../../a.zarr",
    "local:///a.zarr",
    "zip://a::/b.zip",
]


@pytest.mark.parametrize("cell", REACHING)
def test_rows_from_elsewhere_name_no_place_of_this_machine(cell):
    features = Features(
        {"zarr": Value("string", id="zarr"), "more": List(Value("string", id="zarr"))}
    )
    fine = "hf://datasets/eve/index/a.zarr"
    for rows in (
        {"zarr": [fine, cell], "more": [[], []]},
        {"zarr": [fine] * 2, "more": [[fine, cell], []]},
    ):
        plain = Dataset.from_dict(rows, features=features)
        with pytest.raises(TargetError, match=r"row 1 of column '(zarr|more)'.*hf://datasets/eve"):
            restore(plain, origin=ORIGIN)
        stream = restore(plain.to_iterable_dataset(), origin=ORIGIN)
        with pytest.raises(TargetError, match="from 'hf://datasets/eve"):
            list(stream)
        assert len(list(restore(plain, origin=ORIGIN, trusted=True))) == 2
        assert len(list(restore(plain.to_iterable_dataset(), origin=ORIGIN, trusted=True))) == 2
        assert len(list(restore(plain))) == 2


def test_relative_rows_count_from_their_origin():
    features = Features({"zarr": Value("string", id="zarr")})
    plain = Dataset.from_dict({"zarr": ["a.zarr", None, "s3://b/c.zarr"]}, features=features)
    for made in (plain, plain.to_iterable_dataset()):
        cells = [row["zarr"] and row["zarr"].url for row in restore(made, origin=ORIGIN)]
        assert cells == [f"{ORIGIN}/a.zarr", None, "s3://b/c.zarr"]
    whole = Dataset.from_dict({"zarr": ["s3://b/c.zarr"]}, features=features)
    assert restore(whole, origin=ORIGIN).features["zarr"] == Zarr()


def test_a_dataset_of_the_hub_is_known_by_what_was_downloaded():
    features = Features({"zarr": Value("string", id="zarr")})
    info = datasets.DatasetInfo(
        features=features, download_checksums={f"{ORIGIN}@abc/data/train.parquet": {}}
    )
    plain = Dataset.from_dict({"zarr": ["/etc/a.zarr"]}, features=features, info=info)
    with pytest.raises(TargetError, match="row 0"):
        restore(plain)


def test_restoring_a_column_keeps_where_it_counts_from():
    features = datasets.Features({"store": hfzarr.Zarr(base="hf://datasets/user/name")})
    made = datasets.Dataset.from_dict({"store": ["a.zarr"]}, features=features)
    again = hfzarr.restore(made, {"anon": True}, columns=["store"])
    assert again[0]["store"].url == "hf://datasets/user/name/a.zarr"
    assert not again.features["store"].trusted
    assert hfzarr.restore(made, trusted=True).features["store"].trusted


def test_wrong_kinds_of_options_are_refused(tmp_path):
    with pytest.raises(TargetError, match="base= is a folder or a URL, as text, not 3"):
        Zarr(base=3)
    for place in (None, 3, b"x"):
        with pytest.raises(TargetError, match="dataset_path is a folder or a URL"):
            hfzarr.load_from_disk(place)
    marked = datasets.Dataset.from_dict({"store": ["/data/a.zarr"]})
    with pytest.raises(TargetError, match="columns= are names of columns, not 3"):
        hfzarr.restore(marked, columns=3)
    assert isinstance(hfzarr.restore(marked, columns="store").features["store"], Zarr)


# --- relative cells ------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with relative cells; where the tests run, other stores have the same paths."""
    monkeypatch.chdir(tmp_path)
    for place, value in (("repo/stores/a.zarr", 7), ("stores/a.zarr", 0)):
        zarr.create_array(str(tmp_path / place), data=np.full((2, 2), value, "u1"))
    return tmp_path


def first_pixel(dataset):
    row = next(iter(dataset))
    return int(row["zarr"][0, 0])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("files", ["repo/index.parquet", {"train": ["repo/index.parquet"]}])
def test_relative_cells_count_from_the_folder_of_the_file(repository, streaming, files):
    hfzarr.scan("repo/stores").save("repo/index.parquet")
    loaded = hfzarr.load_dataset(
        "parquet", data_files=files, split="train", streaming=streaming, cache_dir="cache"
    )
    assert first_pixel(loaded) == 7
    if not streaming:
        assert hfzarr.open_manifest(loaded).handle(0)[0, 0] == 7
        assert first_pixel(loaded.map(_first_pixel)) == 7
    by_split = hfzarr.load_dataset(
        "parquet", data_dir="repo", data_files="index.parquet", streaming=streaming
    )
    assert first_pixel(by_split["train"]) == 7


@pytest.mark.parametrize("streaming", [False, True])
def test_relative_cells_count_from_the_root_of_a_repository(repository, streaming):
    hfzarr.scan("repo/stores").save("repo/index.parquet")
    os.makedirs("repo/data")
    os.rename("repo/index.parquet", "repo/data/train-00000-of-00001.parquet")
    loaded = hfzarr.load_dataset("repo", split="train", streaming=streaming, cache_dir="cache")
    assert first_pixel(loaded) == 7
    assert hfzarr.open_manifest("repo").handle(0)[0, 0] == 7


def test_files_in_several_folders_do_not_say_what_cells_count_from(repository):
    for place in ("one/repo", "two/repo"):
        os.makedirs(place)
        table = pa.table({"zarr": ["stores/a.zarr"]})
        pq.write_table(mark(table, "zarr"), f"{place}/index.parquet")
    files = ["one/repo/index.parquet", "two/repo/index.parquet"]
    for chosen in (files, "*/repo/index.parquet"):
        with pytest.raises(TargetError, match="files lie in several folders"):
            hfzarr.load_dataset("parquet", data_files=chosen, split="train", cache_dir="cache")
    by_name = {"train": files[0], "test": files[1]}
    both = hfzarr.load_dataset("parquet", data_files=by_name, cache_dir="cache")
    bases = {name: each.features["zarr"].base for name, each in both.items()}
    assert bases == {n: str(repository / os.path.dirname(file)) for n, file in by_name.items()}


def test_an_origin_may_be_a_file(repository):
    hfzarr.scan("repo/stores").save("repo/index.parquet")
    plain = datasets.load_dataset("parquet", data_files="repo/index.parquet", split="train")
    for origin in ("repo", "repo/index.parquet", repository / "repo"):
        assert first_pixel(restore(plain, origin=origin)) == 7
    with pytest.raises(TargetError, match="origin= is a folder, a URL or a file"):
        restore(plain, origin=3)


def test_a_saved_column_of_selections_loads_as_selections_that_read(tmp_path):
    data = np.arange(64).reshape(8, 8)
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(4, 4))
    chosen = ZarrHandle(str(tmp_path / "a.zarr")).select(np.s_[0:4, 2:6])
    hfzarr.open_manifest({"zarr": [chosen]}).save(tmp_path / "index.parquet")
    files = str(tmp_path / "index.parquet")
    loaded = hfzarr.load_dataset("parquet", data_files=files, split="train")
    np.testing.assert_array_equal(loaded[0]["zarr"].read(), data[0:4, 2:6])
