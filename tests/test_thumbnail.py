"""Pictures of Datasets: which pixels are read for them, how many, and what they look like."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from zarr.storage import MemoryStore

import hfzarr
from counting import CountingStore
from hfzarr.errors import HfzarrError, NodeNotFoundError, TargetError
from hfzarr.faces.paint import mean, paint_labels, sensible, shade, shrink
from hfzarr.faces.picture import composite, png_bytes
from hfzarr.faces.thumbnail import render, subject
from stores import DIMS, OMERO, multiscale, ome_attrs, pixels, write_cf, write_image, write_plate

pytest.importorskip("PIL")

BLACK = [0, 0, 0]


def opened(store, **options) -> xr.Dataset:
    return xr.open_dataset(store, engine="hfzarr", **options)


def plane(values, name="image", dims=("y", "x"), **attrs) -> xr.Dataset:
    return xr.Dataset({name: (dims, np.asarray(values), attrs)})


def write_channels(count: int) -> MemoryStore:
    """An image with so many named channels, of which each is full where its number says."""
    store = MemoryStore()
    axes = [{"name": "c", "type": "channel"}, *({"name": d, "type": "space"} for d in "yx")]
    datasets = [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]}
    ]
    channels = [
        {
            "label": f"stain {i}",
            "color": f"{i * 20:02X}00FF",
            "active": True,
            "window": {"min": 0, "max": 255, "start": 0, "end": 100},
        }
        for i in range(count)
    ]
    data = {"multiscales": [{"axes": axes, "datasets": datasets}], "omero": {"channels": channels}}
    group = zarr.create_group(store, attributes=ome_attrs(data, 3))
    values = np.zeros((count, 1, count), np.uint8)
    values[np.arange(count), 0, np.arange(count)] = 100
    group.create_array("0", data=values, dimension_names=["c", "y", "x"])
    zarr.consolidate_metadata(store)
    return store


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "level"), [(8, "2"), (12, "2"), (13, "1"), (24, "1"), (25, "0"), (48, "0"), (999, "0")]
)
def test_the_coarsest_level_that_is_large_enough_is_read_and_no_other(size, level):
    store = CountingStore(write_image(MemoryStore()))
    dataset = opened(store)
    store.forget()
    picture = dataset.hfzarr.thumbnail(size)
    assert store.chunks
    assert {key.split("/")[0] for key in store.chunks} == {level}
    assert len(set(store.chunks)) == len(store.chunks)
    assert max(picture.shape) == min(size, 48)


def test_a_level_can_be_named_and_none_is_taken_for_one_pixel_a_pixel():
    store = CountingStore(write_image(MemoryStore()))
    dataset = opened(store)
    store.forget()
    assert dataset.hfzarr.thumbnail(level=-1).shape == (8, 12, 3)
    assert {key.split("/")[0] for key in store.chunks} == {"2"}
    assert dataset.hfzarr.thumbnail(size=None, level="1").shape == (16, 24, 3)
    assert dataset.hfzarr.thumbnail(size=None).shape == (32, 48, 3)
    coarse = opened(store, level=-1)
    assert coarse.hfzarr.thumbnail(size=None).shape == (8, 12, 3)
    with pytest.raises(NodeNotFoundError, match="has no level 7"):
        dataset.hfzarr.thumbnail(level=7)


def test_a_selection_is_shown_as_it_is_and_only_it_is_read():
    store = CountingStore(write_image(MemoryStore()))
    part = opened(store).isel(z=0, y=slice(0, 16), x=slice(16, 32))
    store.forget()
    assert part.hfzarr.thumbnail(4).shape == (4, 4, 3)
    assert sorted(store.chunks) == ["0/c/0/0/0/1", "0/c/1/0/0/1"]
    with pytest.raises(TargetError, match="lose what was selected"):
        part.hfzarr.thumbnail(level=1)


def test_where_no_level_is_small_enough_the_depth_is_thinned_out_then_the_plane_then_channels():
    """A chunk is (1, 2, 16, 16) pixels of two bytes: 1 KiB."""
    store = CountingStore(write_image(MemoryStore(), levels=1))
    dataset = opened(store)
    read = {}
    for max_bytes in (24 * 1024, 12 * 1024, 4 * 1024, 2 * 1024, 1024):
        store.forget()
        dataset.hfzarr.thumbnail(48, max_bytes=max_bytes)
        read[max_bytes] = sorted(store.chunks)
    assert [len(keys) for keys in read.values()] == [24, 12, 4, 2, 1]
    assert len({key.split("/")[3] for key in read[12 * 1024]}) == 1
    assert {key.split("/")[2] for key in read[2 * 1024]} == {"0", "1"}
    with pytest.raises(TargetError, match=r"one of its chunks takes 1\.0 KiB"):
        dataset.hfzarr.thumbnail(48, max_bytes=1023)
    with pytest.raises(TargetError, match="select less of it"):
        dataset.hfzarr.thumbnail(None, max_bytes=11 * 1024)


def test_a_coarser_level_comes_before_a_part_of_the_plane():
    store = CountingStore(write_image(MemoryStore()))
    dataset = opened(store)
    store.forget()
    picture = dataset.hfzarr.thumbnail(48, max_bytes="8 KiB")
    assert {key.split("/")[0] for key in store.chunks} == {"1"}
    assert picture.shape == (16, 24, 3)


KINDS = ("uint8", "int16", "uint64", "float16", "float32", "float64", "bool", "complex64")
NAMES = ("t", "c", "z", "y", "x", "band", "lat", "lon", "time", "a", "b")


@st.composite
def arrays(draw):
    """A shape with dims, chunks and a dtype, and what to do with it."""
    dims = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    shape = tuple(draw(st.integers(0 if draw(st.booleans()) else 1, 9)) for _ in dims)
    chunks = tuple(draw(st.integers(1, max(n, 1))) for n in shape)
    return dims, shape, chunks, draw(st.sampled_from(KINDS))


@settings(max_examples=80)
@given(
    array=arrays(),
    size=st.none() | st.integers(1, 12),
    project=st.sampled_from(["max", "mean", "slice"]),
    max_bytes=st.integers(1, 4000),
    seed=st.integers(0, 99),
    index=st.booleans(),
)
def test_any_array_gives_a_picture_within_its_bound_or_an_error_of_ours(
    array, size, project, max_bytes, seed, index
):
    dims, shape, chunks, dtype = array
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) * 10.0 ** rng.integers(-3, 5)).astype("float64")
    if np.dtype(dtype).kind in "ui":
        values = np.abs(values) % 100
    if np.dtype(dtype).kind == "f" and values.size:
        values.flat[0] = np.nan
        values.flat[-1] = np.inf
    memory = MemoryStore()
    with np.errstate(all="ignore"):
        values = values.astype(dtype)
    zarr.create_array(
        memory, name="pixels", shape=shape, chunks=chunks, dtype=dtype, dimension_names=dims
    )[...] = values
    store = CountingStore(memory)
    dataset = opened(store, group="pixels")
    if index and shape[0] > 1:
        dataset = dataset.isel({dims[0]: slice(1, None)})
    store.forget()
    try:
        picture = dataset.hfzarr.thumbnail(size, project=project, max_bytes=max_bytes)
    except HfzarrError:
        assert not store.chunks
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert min(picture.shape) >= 1
    if size is not None:
        assert max(picture.shape[:2]) <= size
    # Counted by request: even a chunk that came twice must be paid for.
    read = len(store.chunks) * math.prod(chunks) * values.dtype.itemsize
    assert read <= max_bytes


def test_of_a_dask_array_only_the_chunks_of_the_picture_are_computed():
    import dask.array as da

    seen = []

    def block(block_info=None):
        seen.append(block_info[None]["chunk-location"])
        return np.zeros(block_info[None]["chunk-shape"], np.uint8)

    array = da.map_blocks(block, chunks=((10,) * 6, (10,) * 6), dtype=np.uint8)
    dataset = xr.Dataset({"image": (("y", "x"), array)})
    seen.clear()
    assert dataset.hfzarr.thumbnail(20, max_bytes=400).shape == (20, 20, 3)
    assert sorted(seen) == [(2, 2), (2, 3), (3, 2), (3, 3)]


def test_what_is_in_memory_is_shown_whole():
    values = np.zeros((64, 64), np.uint8)
    values[:, 32:] = 255
    picture = plane(values).hfzarr.thumbnail(8, max_bytes=1)
    assert picture[:, 0].max() < 30
    assert picture[:, -1].min() > 225


# --- what it looks like --------------------------------------------------------------------------


def test_an_image_of_its_own_size_is_what_composite_makes_of_it():
    image = opened(write_image(MemoryStore())).image.load()
    image.attrs["channel_windows"] = [{"start": 0, "end": end} for end in (60_000, 90_000)]
    wanted = composite(image)
    np.testing.assert_array_equal(image.to_dataset().hfzarr.thumbnail(48), wanted)
    np.testing.assert_array_equal(image.to_dataset().hfzarr.thumbnail(None), wanted)
    np.testing.assert_array_equal(render(image), wanted)


def test_pictures_of_parts_can_be_compared_as_they_share_the_window_even_where_all_is_bright():
    dataset = opened(write_image(MemoryStore()))  # Windows end at 1000, pixels at 60,000.
    part = dataset.isel(z=-1, y=slice(8, 12), x=slice(8, 12))
    np.testing.assert_array_equal(part.hfzarr.thumbnail(None), composite(part.image))
    assert part.hfzarr.thumbnail(None).min(axis=(0, 1)).tolist() == [0, 255, 255]
    assert part.hfzarr.thumbnail(4).std() > 10


def test_known_pixels_get_known_colours():
    values = [[[0, 500, 1000]], [[0, 0, 1000]]]
    dataset = plane(
        values,
        dims=("c", "y", "x"),
        channel_colors=[channel["color"] for channel in OMERO["channels"]],
        channel_windows=[channel["window"] for channel in OMERO["channels"]],
    )
    assert dataset.hfzarr.thumbnail().tolist() == [[BLACK, [0, 0, 128], [0, 255, 255]]]


@pytest.mark.parametrize(
    ("project", "shown"), [("max", [90, 30]), ("mean", [40, 10]), ("slice", [20, 0])]
)
def test_the_depth_is_projected(project, shown):
    values = np.array([[[10, 0]], [[20, 0]], [[90, 30]]], np.uint16)
    window = [{"start": 0, "end": 255}]
    dataset = plane(
        values[np.newaxis], dims=("c", "z", "y", "x"), channel_windows=window, channel_colors=[None]
    )
    assert dataset.hfzarr.thumbnail(project=project)[0, :, 0].tolist() == shown


def test_the_first_of_other_dims_is_shown_and_a_plate_begins_with_a_field_that_is_there():
    values = np.zeros((2, 3, 1, 2), np.uint8)
    values[0, 0, 0, 1] = 9
    picture = plane(values, dims=("t", "w", "y", "x")).hfzarr.thumbnail()
    assert picture[0, :, 0].tolist() == [0, 255]
    sparse = CountingStore(write_plate(MemoryStore(), {"A/1": 1, "B/2": 2}))
    plate = opened(sparse)
    sparse.forget()
    assert plate.hfzarr.thumbnail().shape == (32, 48, 3)
    assert {key.split("/c/")[0] for key in sparse.chunks} == {"A/1/0/0"}
    absent = plate.isel(well=[0, 1], field=[1, 0])
    sparse.forget()
    absent.hfzarr.thumbnail()
    assert {key.split("/c/")[0] for key in sparse.chunks} == {"A/1/0/0"}


def test_three_channels_of_bytes_are_red_green_and_blue_wherever_they_lie():
    values = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    last = plane(values, dims=("y", "x", "c"))
    np.testing.assert_array_equal(last.hfzarr.thumbnail(), values)
    band = plane(np.moveaxis(values, -1, 0), "raster", dims=("band", "y", "x"))
    np.testing.assert_array_equal(band.hfzarr.thumbnail(), values)
    coloured = last.copy()
    coloured.image.attrs["channel_colors"] = ["FF0000", "FF0000", "FF0000"]
    assert coloured.hfzarr.thumbnail()[..., 1:].max() == 0


def test_bands_by_name_are_one_picture_in_natural_colours():
    def band(at):
        values = np.zeros((1, 3))
        values[0, at] = 1.0
        return ("y", "x"), values

    dataset = xr.Dataset({"b02": band(2), "b03": band(1), "b04": band(0), "b08": band(0)})
    assert dataset.hfzarr.thumbnail().tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_amounts_are_coloured_and_what_is_missing_is_black():
    dataset = plane([[1.0, np.nan, 5.0], [-9999.0, 2.0, np.inf]], "heat", _FillValue=-9999.0)
    picture = dataset.hfzarr.thumbnail()
    assert picture[0, 1].tolist() == picture[1, 0].tolist() == picture[1, 2].tolist() == BLACK
    dark, middle, bright = (picture[at].astype(int).sum() for at in ((0, 0), (1, 1), (0, 2)))
    assert 0 < dark < middle < bright
    assert shade(np.full((2, 2), np.nan)).max() == 0


def test_labels_differ_and_keep_their_colours_from_picture_to_picture():
    values = np.arange(40).reshape(4, 10)
    picture = plane(values, "labels").hfzarr.thumbnail()
    assert picture[0, 0].tolist() == BLACK
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 40
    np.testing.assert_array_equal(paint_labels(values[2:]), picture[2:])
    huge = np.array([[-1, 2**62, 0]])
    assert paint_labels(huge)[0, 2].tolist() == BLACK
    assert paint_labels(np.array([[np.nan, 0.0, 3.0]]))[0, :2].max() == 0


def test_a_label_image_has_its_own_colours_and_is_never_blurred():
    store = write_image(MemoryStore())
    labels = opened(store, group="labels/nuclei", level=0).isel(z=0)
    labels["labels"].values[:] = np.arange(32 * 48).reshape(32, 48) // 48 // 8
    picture = labels.hfzarr.thumbnail(12)
    assert picture.shape == (8, 12, 3)
    assert picture[2:4].reshape(-1, 3).tolist() == [[255, 0, 0]] * 24
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 4
    assert paint_labels(np.array([[1]]), {1: (255, 0, 0, 0)}).tolist() == [[BLACK]]


def test_classes_of_a_map_are_labels():
    picture = plane([[1, 2], [2, 3]], "cover", flag_values=[1, 2, 3]).hfzarr.thumbnail()
    np.testing.assert_array_equal(picture, paint_labels(np.array([[1, 2], [2, 3]])))


def test_a_mask_is_white_where_it_holds():
    assert plane([[True, False]]).hfzarr.thumbnail().tolist() == [[[255] * 3, BLACK]]
    assert plane([[True, True]]).hfzarr.thumbnail().tolist() == [[[255] * 3] * 2]


@pytest.mark.parametrize(
    ("window", "values", "kept"),
    [
        ((0, 1000), [100, 900], True),
        ((0, 65535), [100, 900], False),  # The whole dtype: nobody chose it.
        ((0, 65535), [100, 60000], True),
        ((2000, 3000), [100, 900], False),
        ((0, 50), [100, 900], False),
        ((0, np.nan), [100, 900], False),
        ((0, 5), [7, 7], True),
        ((0, 50), [], True),
    ],
)
def test_a_window_counts_if_it_shows_something(window, values, kept):
    found = sensible(window, np.array(values, np.uint16), np.dtype("u2"))
    assert found == (window if kept else None)
    as_it_is = sensible(window, np.array(values, np.uint16), np.dtype("u2"), uniform=True)
    assert as_it_is == (window if kept or window in [(2000, 3000), (0, 50)] else None)


def test_a_selected_channel_keeps_its_colour_and_only_six_are_shown():
    dataset = opened(write_channels(9))
    for chosen in (dataset.isel(c=[4]), dataset.isel(c=4), dataset.sel(c="stain 4")):
        assert chosen.hfzarr.thumbnail()[0, 4].tolist() == [80, 0, 255]
    picture = dataset.hfzarr.thumbnail()
    assert picture[0, :6].tolist() == [[20 * i, 0, 255] for i in range(6)]
    assert picture[0, 6:].max() == 0


# --- its size ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "steps", "size", "wanted"),
    [
        ((30, 40), (1.0, 1.0), 20, (15, 20)),
        ((30, 40), (1.0, 1.0), 400, (30, 40)),
        ((10, 40), (4.0, 1.0), 40, (40, 40)),
        ((10, 40), (4.0, 1.0), 20, (20, 20)),
        ((1, 900), (1.0, 1.0), 30, (1, 30)),
        ((40, 40), (1.0, 1e-9), 16, (16, 1)),
    ],
)
def test_height_and_width_follow_the_pixels(shape, steps, size, wanted):
    dataset = plane(np.zeros(shape, np.uint8)).assign_coords(
        {dim: np.arange(n) * step for dim, n, step in zip("yx", shape, steps, strict=True)}
    )
    assert dataset.hfzarr.thumbnail(size).shape == (*wanted, 3)
    assert dataset.hfzarr.thumbnail(None).shape == (*shape, 3)


def test_lengths_of_two_kinds_are_not_compared():
    dataset = plane(np.zeros((4, 8)), dims=("time", "x")).assign_coords(
        time=np.arange(4).astype("M8[D]").astype("M8[ns]"), x=np.arange(8) * 1000.0
    )
    assert dataset.hfzarr.thumbnail().shape == (4, 8, 3)
    depth = plane(np.zeros((4, 8)), dims=("z", "x")).assign_coords(
        z=("z", np.arange(4.0), {"units": "hPa"}), x=("x", np.arange(8.0) * 9, {"units": "m"})
    )
    assert depth.hfzarr.thumbnail().shape == (4, 8, 3)


def test_a_map_has_its_north_above_but_a_selection_keeps_its_rows():
    dataset = opened(write_cf(MemoryStore()))
    assert subject(dataset) == "air"
    picture, rows = dataset.hfzarr.thumbnail(), dataset.hfzarr.thumbnail(None)
    assert rows.shape == (4, 6, 3)
    # 1 degree against 2: twice as wide as its pixels are many.
    assert picture.shape == (4, 12, 3)
    assert rows[0].sum() < rows[-1].sum()
    assert picture[0].sum() > picture[-1].sum()


@given(shape=st.tuples(st.integers(1, 50), st.integers(1, 50)), target=st.integers(1, 20))
def test_a_plane_is_shrunk_to_no_less_than_twice_its_target(shape, target):
    values = np.random.default_rng(1).normal(size=shape)
    small = shrink(values, (target, target))
    for n, kept in zip(shape, small.shape, strict=True):
        assert min(n, 2 * target) <= kept <= n
    assert values.min() <= small.min() <= small.max() <= values.max()
    assert np.isin(shrink(values, (target, target), smooth=False), values).all()


def test_a_mean_passes_over_what_is_missing():
    values = np.array([[1.0, np.nan, np.inf], [3.0, np.nan, 5.0]], np.float32)
    np.testing.assert_array_equal(mean(values, 0), [2.0, np.nan, 5.0])
    assert mean(np.array([[255, 255]], np.uint8), 1).tolist() == [255.0]


def test_values_at_the_ends_of_their_dtype_make_a_picture_without_a_warning():
    top = np.finfo(np.float64).max
    assert plane([[-top, 0.0, top]]).hfzarr.thumbnail().shape == (1, 3, 3)
    assert (
        plane(np.array([[0, 2**64 - 1]], np.uint64)).hfzarr.thumbnail()[0, 1].tolist() == [255] * 3
    )


# --- trees ---------------------------------------------------------------------------------------


def test_of_a_tree_the_image_is_shown_from_the_level_that_serves():
    store = CountingStore(write_image(MemoryStore()))
    tree = xr.open_datatree(store, engine="hfzarr")
    store.forget()
    picture = tree.hfzarr.thumbnail(12)
    assert {key.split("/")[0] for key in store.chunks} == {"2"}
    np.testing.assert_array_equal(picture, opened(store).hfzarr.thumbnail(12))
    np.testing.assert_array_equal(
        tree.hfzarr.thumbnail(level="1"), opened(store).hfzarr.thumbnail(level=1)
    )


def test_levels_of_a_tree_that_are_nodes_are_chosen_from():
    tree = xr.DataTree.from_dict({f"/r/{i}": plane(np.eye(n)) for i, n in enumerate((40, 20, 10))})
    assert [tree.hfzarr.thumbnail(size).shape[0] for size in (9, 20, 21, 99)] == [9, 20, 21, 40]
    assert tree.hfzarr.thumbnail(99, level=-1).shape[0] == 10
    with pytest.raises(NodeNotFoundError, match="'0', '1', '2'"):
        tree.hfzarr.thumbnail(level="9")


def test_a_tree_with_nothing_to_show_says_so():
    with pytest.raises(TargetError, match="this tree is empty"):
        xr.DataTree().hfzarr.thumbnail()
    with pytest.raises(TargetError, match=r"'a' \{'x': 1\}"):
        xr.DataTree.from_dict({"/b": xr.Dataset({"a": ("x", [1])})}).hfzarr.thumbnail()


# --- what cannot be shown ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (xr.Dataset(), "no variables"),
        (xr.Dataset({"a": ((), 1.0)}), r"'a' \{\} float64"),
        (xr.Dataset({"a": ("x", [1, 2])}), r"'a' \{'x': 2\} int64"),
        (plane([["a", "b"]]), "'image' .* <U1"),
        (plane(np.zeros((1, 2), "M8[ns]")), "datetime64"),
        (plane(np.zeros((0, 4))), r"no pixel .*'y': 0, 'x': 4"),
        (plane(np.zeros((0, 4, 4)), dims=("t", "y", "x")), "no pixel"),
    ],
)
def test_what_has_no_plane_is_refused_with_what_is_there(dataset, said):
    with pytest.raises(TargetError, match=said):
        dataset.hfzarr.thumbnail()


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": True},
        {"size": 2.5},
        {"project": "sum"},
        {"max_bytes": 0},
        {"max_bytes": "many"},
        {"level": 1},
    ],
)
def test_an_option_that_does_not_fit_is_refused(options):
    with pytest.raises(TargetError, match=next(iter(options))):
        plane(np.zeros((2, 2))).hfzarr.thumbnail(**options)


def test_bounds_and_tables_come_after_a_plane():
    edges = xr.Dataset({"edges": (("y", "nv"), np.zeros((3, 2)))})
    both = edges.assign(heat=(("y", "x"), np.ones((3, 4))))
    assert subject(both) == "heat"
    assert subject(edges) == "edges"
    assert subject(both.assign(image=(("u", "v"), np.ones((2, 2))))) == "image"


def test_a_picture_as_png_reads_back():
    from io import BytesIO

    from PIL import Image

    picture = opened(write_image(MemoryStore())).hfzarr.thumbnail()
    with Image.open(BytesIO(png_bytes(picture))) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_the_levels_of_the_test_store_differ():
    """Else it would not show which of them is read."""
    assert pixels(0).shape != pixels(1).shape
    assert multiscale()["axes"][0]["name"] == DIMS[0]
    assert hfzarr.DatasetAccessor.thumbnail.__doc__
