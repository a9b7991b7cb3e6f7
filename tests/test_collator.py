"""Rows whose cells are stores as batches: what is read, drawn, stacked, and refused."""

from __future__ import annotations

import importlib.util
import pickle
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore

from counting import CountingStore
from hfzarr.errors import HfzarrError, MissingDependencyError, StoreNotFoundError, TargetError
from hfzarr.faces.collate import ZarrCollator
from hfzarr.rows.cells import cell_text
from hfzarr.rows.handle import ZarrHandle
from servers import http_server
from stores import pixels, write_image, write_plate

HAS_TORCH = importlib.util.find_spec("torch") is not None
SHAPE = (3, 20, 24)


def numpy_collator(*args, **options):
    return ZarrCollator(*args, to="numpy", **options)


def write_array(place, number=0, shape=SHAPE, dtype="uint16", **options):
    """Write an array whose every pixel tells the array and its own place; return a handle."""
    count = np.arange(np.prod(shape)).reshape(shape) + 10_000 * number
    chunks = tuple(min(n, 8) for n in shape)
    zarr.create_array(str(place), data=count.astype(dtype), chunks=chunks, **options)
    return ZarrHandle(str(place))


@pytest.fixture
def rows(tmp_path):
    """Rows of six arrays, with a label and more."""
    return [
        {
            "zarr": write_array(tmp_path / f"{i}.zarr", i),
            "label": i % 2,
            "name": f"image {i}",
            "age": i + 0.5,
            "box": [i, i + 1],
        }
        for i in range(6)
    ]


def whole(row):
    return zarr.open_array(row["zarr"].url, mode="r")[...]


# --- pixels --------------------------------------------------------------------------------------


def test_arrays_come_whole_and_in_order(rows):
    batch = numpy_collator()(rows)
    assert list(batch) == ["pixel_values", "labels"]
    np.testing.assert_array_equal(batch["pixel_values"], np.stack([whole(row) for row in rows]))
    assert batch["pixel_values"].dtype == "uint16"
    assert batch["labels"].tolist() == [0, 1, 0, 1, 0, 1]


def place_of(patch, shape=SHAPE):
    """Return where a patch of `write_array` starts, after checking that it is one."""
    first = int(patch.flat[0])
    start = np.unravel_index(first % 10_000, shape)
    like = np.arange(np.prod(shape)).reshape(shape) + first // 10_000 * 10_000
    cut = tuple(slice(s, s + n) for s, n in zip(start, patch.shape, strict=True))
    np.testing.assert_array_equal(patch, like[cut])
    return tuple(int(s) for s in start)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (5, (3, 5, 5)),
        ((4, 6), (3, 4, 6)),
        ((2, 4, 6), (2, 4, 6)),
        ((7,), (3, 20, 7)),
        ({"dim_1": 9}, (3, 9, 24)),
        ({"dim_2": 24, "dim_0": 1}, (1, 20, 24)),
    ],
)
def test_patches_have_the_size_that_was_asked_for(rows, size, shape):
    batch = numpy_collator(size, seed=1)(rows)
    assert batch["pixel_values"].shape == (6, *shape)
    for number, patch in enumerate(batch["pixel_values"]):
        assert int(patch.flat[0]) // 10_000 == number
        place_of(patch)


def test_every_place_is_drawn(tmp_path):
    row = {"zarr": write_array(tmp_path / "x.zarr", shape=(4, 3))}
    collator = numpy_collator((2, 2), seed=0)
    seen = {place_of(patch, (4, 3)) for patch in collator([row] * 200)["pixel_values"]}
    assert seen == {(y, x) for y in range(3) for x in range(2)}


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    st.tuples(st.integers(1, 11), st.integers(1, 11)),
    st.integers(0, 2**40),
)
def test_patches_lie_within_or_are_padded(tmp_path_factory, shapes, size, seed):
    folder = tmp_path_factory.mktemp("drawn")
    rows = [
        {"zarr": write_array(folder / f"{i}", shape=shape, dtype="int32")}
        for i, shape in enumerate(shapes)
    ]
    batch = numpy_collator(size, seed=seed, edge="pad", pad_value=-1)(rows)
    for patch, shape in zip(batch["pixel_values"], shapes, strict=True):
        assert patch.shape == size
        inside = tuple(slice(0, min(w, n)) for w, n in zip(size, shape, strict=True))
        place_of(patch[inside], shape)
        outside = np.ones(size, bool)
        outside[inside] = False
        assert (patch[outside] == -1).all()
    if any(w > n for shape in shapes for w, n in zip(size, shape, strict=True)):
        with pytest.raises(TargetError, match=r"does not fit.*edge='pad'"):
            numpy_collator(size, seed=seed)(rows)
    else:
        again = numpy_collator(size, seed=seed)(rows)
        np.testing.assert_array_equal(again["pixel_values"], batch["pixel_values"])


@pytest.mark.parametrize(("level", "number"), [(0, 0), (1, 1), (-1, 2), ("1", 1)])
def test_levels_of_an_image(tmp_path, level, number):
    write_image(LocalStore(tmp_path / "x.zarr"))
    row = {"zarr": str(tmp_path / "x.zarr")}
    batch = numpy_collator(level=level)([row])
    np.testing.assert_array_equal(batch["pixel_values"][0], pixels(number))
    patch = numpy_collator({"x": 4, "z": 1}, level=level, seed=0)([row])["pixel_values"]
    assert patch.shape == (1, 2, 1, 32 >> number, 4)


def test_selections_are_read_as_they_are(tmp_path):
    handle = write_array(tmp_path / "x.zarr")
    selections = [handle.select(dim_0=0, dim_1=slice(i, i + 4)) for i in range(3)]
    cells = [selections[0], cell_text(selections[1]), dict(selections[2].items())]
    batch = numpy_collator(patch_size=2, seed=1)([{"zarr": cell} for cell in cells])
    like = whole({"zarr": handle})
    np.testing.assert_array_equal(
        batch["pixel_values"], np.stack([like[0, i : i + 4] for i in range(3)])
    )


def test_arrays_of_groups(tmp_path):
    for name, parts in {"one": ["a"], "two": ["a", "in/b"]}.items():
        group = zarr.create_group(tmp_path / name)
        for i, part in enumerate(parts):
            group.create_array(part, data=np.full((2, 3), i + 1))
    one, two = ({"zarr": str(tmp_path / name)} for name in ("one", "two"))
    assert numpy_collator()([one])["pixel_values"].max() == 1
    assert numpy_collator(array="in/b")([two])["pixel_values"].min() == 2
    with pytest.raises(TargetError, match=r"row 1 of the batch.*2 arrays.*'in/b'.*array="):
        numpy_collator()([one, two])
    with pytest.raises(HfzarrError, match=r"row 0 of the batch.*'in/b'"):
        numpy_collator(array="in/b")([one])


def test_a_plate_is_no_image(tmp_path):
    write_plate(LocalStore(tmp_path / "x.zarr"))
    with pytest.raises(TargetError, match=r"is a plate of several images.*\['A', 'B'\]"):
        numpy_collator()([{"zarr": str(tmp_path / "x.zarr")}])


def test_a_level_of_a_plain_array_is_refused(rows):
    with pytest.raises(TargetError, match=r"row 0 of the batch: level=1 chooses a level"):
        numpy_collator(level=1)(rows)
    assert len(numpy_collator(level=-1)(rows)["pixel_values"]) == 6


def test_only_the_chunks_under_a_patch_are_read(tmp_path):
    write_array(tmp_path / "x.zarr", shape=(64, 64))
    pytest.importorskip("aiohttp")
    with http_server(tmp_path) as (url, asked):
        batch = numpy_collator(8, seed=0)([{"zarr": f"{url}/x.zarr"}] * 5)
    assert batch["pixel_values"].shape == (5, 8, 8)
    chunks = [path for path in asked if "/c/" in path]
    assert len(chunks) <= 5 * 4


# --- randomness ----------------------------------------------------------------------------------


def test_a_seed_repeats_all_batches_and_each_is_another(rows):
    one, two, other = (numpy_collator(5, seed=seed) for seed in (3, 3, 4))
    first = [one(rows)["pixel_values"] for _ in range(3)]
    second = [two(rows)["pixel_values"] for _ in range(3)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other(rows)["pixel_values"])


def test_places_do_not_depend_on_threads(rows, monkeypatch):
    like = numpy_collator(5, seed=3)(rows)["pixel_values"]
    names = set()
    real = ZarrHandle.read

    def slow(self, selection=None, *, level=0):
        names.add(threading.current_thread().name)
        return real(self, selection, level=level)

    def one_by_one(work, cells):
        for number in reversed(range(len(cells))):
            work(number)

    monkeypatch.setattr(ZarrHandle, "read", slow)
    monkeypatch.setattr("hfzarr.faces.collate._on_threads", one_by_one)
    np.testing.assert_array_equal(numpy_collator(5, seed=3)(rows)["pixel_values"], like)
    assert len(names) == 1


def test_remote_cells_are_read_at_once(tmp_path, monkeypatch):
    from hfzarr.faces import collate

    together = threading.Barrier(6, timeout=10)
    cells = [ZarrHandle(f"memory://{i}") for i in range(6)]
    # With fewer threads than cells, the barrier breaks.
    collate._on_threads(lambda number: together.wait(), cells)


def test_a_generator_is_drawn_from_once_a_batch(rows):
    one, two = (numpy_collator(5, rng=np.random.default_rng(8)) for _ in range(2))
    first = one(rows)["pixel_values"]
    np.testing.assert_array_equal(first, two(rows)["pixel_values"])
    assert not np.array_equal(first, one(rows)["pixel_values"])
    like = np.random.default_rng(8)
    like.integers(2**63, size=2)
    assert one.rng.integers(1000) == like.integers(1000)


def test_without_a_seed_every_run_is_another(rows):
    first, second = (numpy_collator(5)(rows)["pixel_values"] for _ in range(2))
    assert not np.array_equal(first, second)


# --- other columns -------------------------------------------------------------------------------


def test_columns_come_along(rows):
    batch = numpy_collator(2, label_column="name", columns=("age", "box", "label"))(rows)
    assert list(batch) == ["pixel_values", "labels", "age", "box", "label"]
    assert batch["labels"] == [f"image {i}" for i in range(6)]
    assert batch["age"].tolist() == [i + 0.5 for i in range(6)]
    assert batch["box"].shape == (6, 2)


def test_what_cannot_be_stacked_is_a_list(rows):
    for i, row in enumerate(rows):
        row["ragged"] = list(range(i))
        row["gaps"] = None if i else 3
    batch = numpy_collator(2, columns=["ragged", "gaps", "zarr"])(rows)
    assert batch["ragged"] == [list(range(i)) for i in range(6)]
    assert batch["gaps"] == [3, *[None] * 5]
    assert batch["zarr"] == [row["zarr"] for row in rows]


def test_labels_may_be_absent_but_not_when_named(rows):
    bare = [{"image": row["zarr"]} for row in rows]
    assert list(numpy_collator(column_name="image")(bare)) == ["pixel_values"]
    assert list(numpy_collator(label_column=None)(rows)) == ["pixel_values"]
    with pytest.raises(TargetError, match=r"no column 'class'; it has \['zarr', 'label'"):
        numpy_collator(label_column="class")(rows)
    del rows[2]["label"]
    with pytest.raises(TargetError, match="row 2 of the batch has no column 'label'"):
        numpy_collator()(rows)


def test_a_batch_of_columns_is_a_batch_of_rows(rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    one, two = (numpy_collator(5, seed=0)(batch) for batch in (rows, columns))
    np.testing.assert_array_equal(one["pixel_values"], two["pixel_values"])
    np.testing.assert_array_equal(one["labels"], two["labels"])


# --- what is refused -----------------------------------------------------------------------------


def test_shapes_that_differ_are_listed(tmp_path):
    cells = [write_array(tmp_path / str(i), shape=(n, 4)) for i, n in enumerate((4, 5, 4))]
    with pytest.raises(TargetError) as raised:
        numpy_collator()([{"zarr": cell} for cell in cells])
    lines = str(raised.value).splitlines()
    assert lines[1].startswith("  row 0: (4, 4)  ")
    assert lines[2].startswith("  row 1: (5, 4)  ")
    assert str(tmp_path) in lines[2]
    assert "patch_size=" in lines[-1]


def test_types_that_differ_are_listed_and_can_be_converted(tmp_path):
    cells = [write_array(tmp_path / dtype, dtype=dtype) for dtype in ("uint16", "int32")]
    rows = [{"zarr": cell} for cell in cells]
    with pytest.raises(TargetError, match=r"(?s)row 1: int32 .*dtype='float32'"):
        numpy_collator()(rows)
    assert numpy_collator(dtype="float32")(rows)["pixel_values"].dtype == "float32"


def test_errors_name_the_row(rows, tmp_path):
    rows[3]["zarr"] = None
    with pytest.raises(TargetError, match=r"row 3 of the batch has nothing in column 'zarr'"):
        numpy_collator()(rows)
    rows[3]["zarr"] = str(tmp_path / "gone.zarr")
    with pytest.raises(StoreNotFoundError, match=r"row 3 of the batch: .*gone\.zarr"):
        numpy_collator()(rows)
    rows[3]["zarr"] = 7
    with pytest.raises(TargetError, match=r"row 3 of the batch: a cell names a store"):
        numpy_collator()(rows)


def test_what_is_no_batch_is_refused(rows):
    with pytest.raises(TargetError, match="one row at least"):
        numpy_collator()([])
    with pytest.raises(TargetError, match="one row at least"):
        numpy_collator()({})
    with pytest.raises(TargetError, match="made of rows"):
        numpy_collator()([row["zarr"] for row in rows])
    with pytest.raises(TargetError, match="made of rows"):
        numpy_collator()(rows[0]["zarr"])
    with pytest.raises(TargetError, match="one length"):
        numpy_collator()({"zarr": [1, 2], "label": [1]})
    with pytest.raises(TargetError, match="no column 'zarr'"):
        numpy_collator()([{"image": "x"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "jax"}, "to= is"),
        ({"patch_size": 2.5}, "patch_size= is a number"),
        ({"patch_size": True}, "patch_size= is a number"),
        ({"patch_size": "8"}, "patch_size= is a number"),
        ({"edge": "reflect"}, "edge= is"),
        ({"seed": 1, "rng": np.random.default_rng(0)}, "give one of them"),
        ({"seed": -1}, "seed= is a whole number"),
        ({"seed": 1.5}, "seed= is a whole number"),
        ({"rng": 5}, "rng= is a numpy.random.Generator"),
        ({"columns": ["labels"]}, "which a batch uses itself"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(TargetError, match=message):
        ZarrCollator(**options)


@pytest.mark.parametrize("size", [0, -2, (1, 2, 3, 4), {"q": 3}, (2.5, 2)])
def test_a_size_that_makes_no_sense_is_refused(rows, size):
    with pytest.raises(TargetError, match="patch_size"):
        numpy_collator(size)(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "zz"}, "dtype= is a data type of NumPy.*'zz'"),
        ({"columns": 3}, "columns= are names"),
        ({"columns": [3]}, "columns= are names"),
        ({"array": 3}, "array= is the path"),
        ({"patch_size": 0}, "whole pixels from 1 on, not 0"),
        ({"patch_size": {"y": 1.5}}, "whole pixels from 1 on"),
    ],
)
def test_wrong_options_are_refused_when_it_is_made(options, message):
    with pytest.raises(TargetError, match=message):
        ZarrCollator(**options)


def test_what_pads_must_fit_the_pixels(rows):
    with pytest.raises(TargetError, match=r"row \d of the batch: pad_value=-1 .* uint16"):
        numpy_collator(40, edge="pad", pad_value=-1)(rows)
    batch = numpy_collator(40, edge="pad", pad_value=-1, dtype="float32")(rows)
    assert batch["pixel_values"].min() == -1


# --- torch ---------------------------------------------------------------------------------------


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_torch_arrays_come_and_tensors_are_refused(rows):
    assert isinstance(ZarrCollator()(rows)["pixel_values"], np.ndarray)
    with pytest.raises(MissingDependencyError, match="torch"):
        ZarrCollator(to="torch")


def test_tensors(rows):
    torch = pytest.importorskip("torch")
    for collator in (ZarrCollator(), ZarrCollator(to="torch")):
        batch = collator(rows)
        assert batch["pixel_values"].dtype == torch.uint16
        assert batch["labels"].dtype == torch.int64
        np.testing.assert_array_equal(batch["pixel_values"].numpy()[2], whole(rows[2]))


def test_big_endian_pixels_and_tensors_as_labels(tmp_path):
    torch = pytest.importorskip("torch")
    cell = write_array(tmp_path / "x.zarr", dtype=">i4", zarr_format=2)
    batch = ZarrCollator()([{"zarr": cell, "label": torch.tensor(4)}] * 2)
    assert batch["pixel_values"].dtype == torch.int32
    assert batch["labels"].tolist() == [4, 4]


def test_types_that_torch_lacks(tmp_path):
    pytest.importorskip("torch")
    times = np.arange(6).astype("M8[s]").reshape(2, 3)
    zarr.create_array(str(tmp_path / "x.zarr"), data=times, zarr_format=2)
    row = {"zarr": str(tmp_path / "x.zarr")}
    np.testing.assert_array_equal(ZarrCollator()([row])["pixel_values"][0], times)
    with pytest.raises(TargetError, match="torch has no tensors of datetime64"):
        ZarrCollator(to="torch")([row])


def epochs(rows, collator, count=2, **options):
    """Return the patches of some epochs of a DataLoader, in the order of the rows."""
    data = pytest.importorskip("torch.utils.data")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of fork, with threads
        loader = data.DataLoader(rows, batch_size=2, collate_fn=collator, **options)
        return [
            np.concatenate([batch["pixel_values"].numpy() for batch in loader])
            for _ in range(count)
        ]


def test_workers_that_are_spawned_read(rows):
    options = {"num_workers": 2, "multiprocessing_context": "spawn"}
    (only,) = epochs(rows, ZarrCollator(5, seed=3), count=1, **options)
    assert [int(patch.flat[0]) // 10_000 for patch in only] == list(range(6))


def test_workers_read_and_draw_each_their_own(rows):
    torch = pytest.importorskip("torch")
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    collator = ZarrCollator(5, seed=3)
    collator(rows)  # a reader that was used before must do in a worker too

    def run():
        torch.manual_seed(11)
        return epochs(rows, collator, **options)

    first, second = run()
    assert [int(patch.flat[0]) // 10_000 for patch in first] == list(range(6))
    # The first batches of both workers, and of both epochs, lie elsewhere.
    starts = [place_of(patch) for patch in [*first[:4], *second[:4]]]
    assert len({tuple(starts[i : i + 2]) for i in range(0, 8, 2)}) == 4
    for a, b in zip(run(), (first, second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_workers_that_are_kept_draw_anew_in_each_epoch(rows):
    options = {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True}
    first, second = epochs(rows, ZarrCollator(5, seed=3), **options)
    assert not np.array_equal(first, second)


def test_workers_with_copies_of_a_generator_do_not_repeat_each_other(tmp_path):
    pytest.importorskip("torch")
    rows = [{"zarr": write_array(tmp_path / "x.zarr")}] * 4
    collator = ZarrCollator(5, rng=np.random.default_rng(0))
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    (only,) = epochs(rows, collator, count=1, **options)
    assert [place_of(patch) for patch in only[:2]] != [place_of(patch) for patch in only[2:]]


def test_a_collator_pickles_without_secrets(rows):
    collator = numpy_collator(5, seed=3, storage_options={"token": "hf_secret"})
    state = pickle.dumps(collator)
    assert b"hf_secret" not in state
    assert "hf_secret" not in repr(collator)
    copy = pickle.loads(state)
    np.testing.assert_array_equal(copy(rows)["pixel_values"], collator(rows)["pixel_values"])


def test_batches_of_an_iterable_dataset(rows, tmp_path):
    datasets = pytest.importorskip("datasets")
    stream = datasets.Dataset.from_dict(
        {"zarr": [row["zarr"].path for row in rows], "label": [row["label"] for row in rows]}
    ).to_iterable_dataset(num_shards=2)
    batches = [numpy_collator(seed=0)(batch) for batch in stream.batch(4)]
    assert [len(batch["labels"]) for batch in batches] == [4, 2]
    came = np.concatenate([batch["pixel_values"] for batch in batches])
    np.testing.assert_array_equal(came, np.stack([whole(row) for row in rows]))


def test_a_cell_is_looked_at_once(tmp_path):
    # The metadata of a handle is kept by the handle, so a second epoch reads chunks alone.
    row = {"zarr": write_array(tmp_path / "x.zarr")}
    collator = numpy_collator(4, seed=0)
    collator([row])
    Path(tmp_path / "x.zarr" / "zarr.json").unlink()
    assert collator([row])["pixel_values"].shape == (1, 3, 4, 4)


def test_a_zarr_object_with_no_address_is_refused():
    array = zarr.create_array(CountingStore(MemoryStore()), shape=(2, 2), dtype="i4")
    with pytest.raises(TargetError, match=r"row 0 of the batch: .*has no address"):
        numpy_collator()([{"zarr": array}])
