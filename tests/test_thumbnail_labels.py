"""Labels over pictures: where they lie, what they look like, and what they may cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from commandline import ask, fails
from counting import CountingStore
from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.paint import overlaid, paint_labels
from stores import multiscale, ome_attrs, write_cf, write_image, write_plate

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

RED, GREEN = (255, 0, 0, 255), (0, 255, 0, 255)


def opened(store, **options) -> xr.Dataset:
    return xr.open_dataset(store, engine="hfzarr", **options)


def tree_of(store, **options) -> xr.DataTree:
    return xr.open_datatree(store, engine="hfzarr", **options)


def write_labelled(*names: str, side: int = 32, levels: int = 3, chunk: int = 8) -> MemoryStore:
    """A black image of (2, side, side) pixels, and label images: 1 in a square, 2 in another.

    Of z, the first plane has the squares at (8, 8) and (20, 20), 8 pixels wide; the second none.
    """
    store = MemoryStore()
    data = {"multiscales": [multiscale(("z", "y", "x"), levels)]}
    group = zarr.create_group(store, attributes=ome_attrs(data, 3))
    group.create_group("labels", attributes=ome_attrs({"labels": list(names)}, 3))
    values = np.zeros((2, side, side), np.int32)
    values[0, 8:16, 8:16] = 1
    values[0, 20:28, 20:28] = 2
    colors = [{"label-value": 1, "rgba": list(RED)}, {"label-value": 2, "rgba": list(GREEN)}]
    for path in ("", *(f"labels/{name}" for name in names)):
        node = group
        if path:
            extra = {"image-label": {"colors": colors}}
            said = {"multiscales": [multiscale(("z", "y", "x"), levels, path)], **extra}
            node = group.create_group(path, attributes=ome_attrs(said, 3))
        for level in range(levels):
            pixels = values[:, :: 2**level, :: 2**level] * bool(path)
            array = node.create_array(
                str(level),
                shape=pixels.shape,
                dtype="i4" if path else "u1",
                chunks=(1, chunk, chunk),
                dimension_names=["z", "y", "x"],
            )
            # So that each chunk is there to be counted.
            with zarr.config.set({"array.write_empty_chunks": True}):
                array[...] = pixels
    zarr.consolidate_metadata(store)
    return store


# --- what they look like --------------------------------------------------------------------------


def test_labels_tint_what_they_lie_on_within_outlines():
    under = np.full((5, 5, 3), 100, np.uint8)
    labels = np.zeros((5, 5), int)
    labels[1:4, 1:4] = 7
    picture = overlaid(under, labels, {7: (200, 0, 0)})
    assert picture[0].tolist() == [[100, 100, 100]] * 5
    assert picture[1, 1:4].tolist() == [[200, 0, 0]] * 3
    assert picture[2, 2].tolist() == [125, 75, 75]
    own = overlaid(under, labels)
    assert own[1, 1].tolist() == paint_labels(labels)[1, 1].tolist()
    np.testing.assert_array_equal(overlaid(under, labels, {7: (9, 9, 9, 0)}), under)
    nothing = np.array([[np.nan] * 5] * 5)
    np.testing.assert_array_equal(overlaid(under, nothing), under)


def test_labels_of_a_store_lie_where_they_belong():
    store = write_labelled("cells")
    for target in (opened(store), tree_of(store)):
        picture = target.hfzarr.thumbnail(32, labels="cells")
        assert picture.shape == (32, 32, 3)
        assert np.argwhere(picture[..., 0]).min(0).tolist() == [8, 8]
        assert np.argwhere(picture[..., 0]).max(0).tolist() == [15, 15]
        assert np.argwhere(picture[..., 1]).min(0).tolist() == [20, 20]
        assert np.argwhere(picture[..., 1]).max(0).tolist() == [27, 27]
        assert picture[8, 8].tolist() == [255, 0, 0]
        assert picture[12, 12].tolist() == [64, 0, 0]
        assert picture[24, 24].tolist() == [0, 64, 0]
        np.testing.assert_array_equal(picture, target.hfzarr.thumbnail(32, labels=True))
        np.testing.assert_array_equal(picture, target.hfzarr.thumbnail(32, labels=["cells"]))
        assert target.hfzarr.thumbnail(32).max() == 0


@pytest.mark.parametrize("size", [None, 32, 16, 8])
def test_at_any_size_the_labels_are_of_the_level_that_serves(size):
    store = CountingStore(write_labelled("cells"))
    dataset = opened(store)
    store.forget()
    picture = dataset.hfzarr.thumbnail(size, labels=True)
    level = {None: "0", 32: "0", 16: "1", 8: "2"}[size]
    read = {key.partition("/c/")[0] for key in store.chunks}
    assert read == {level, f"labels/cells/{level}"}
    scale = 32 // (size or 32)
    assert np.argwhere(picture[..., 0]).min(0).tolist() == [8 // scale] * 2
    assert np.argwhere(picture[..., 0]).max(0).tolist() == [16 // scale - 1] * 2


def test_under_a_selection_only_its_labels_are_read():
    store = CountingStore(write_labelled("cells"))
    part = opened(store).isel(y=slice(16, 32), x=slice(18, 32), z=0)
    store.forget()
    picture = part.hfzarr.thumbnail(labels="cells")
    # One chunk in x and two in y begin at 16 and 24; (1, 8, 8) pixels each.
    assert sorted(key for key in store.chunks if key.startswith("labels")) == [
        f"labels/cells/0/c/0/{y}/{x}" for y in (2, 3) for x in (2, 3)
    ]
    assert picture.shape == (16, 14, 3)
    assert np.argwhere(picture[..., 1]).min(0).tolist() == [4, 2]
    # The second plane has no labels.
    assert opened(store).isel(z=1).hfzarr.thumbnail(labels="cells").max() == 0
    assert opened(store).hfzarr.thumbnail(project=1, labels="cells").max() == 0
    assert opened(store).hfzarr.thumbnail(project=0.0, labels="cells").max() == 255


def test_a_selection_with_steps_or_turned_around_keeps_its_labels():
    store = write_labelled("cells")
    whole = opened(store).hfzarr.thumbnail(None, labels=True)
    turned = opened(store).isel(y=slice(None, None, -1)).hfzarr.thumbnail(None, labels=True)
    np.testing.assert_array_equal(turned, whole[::-1])
    third = opened(store).isel(x=slice(8, 16, 3)).hfzarr.thumbnail(None, labels=True)
    assert third[8, :, 0].tolist() == [255, 255, 255]


def test_several_labels_lie_over_each_other_and_unknown_ones_are_named():
    store = write_labelled("cells", "nuclei")
    both = opened(store).hfzarr.thumbnail(32, labels=["cells", "nuclei"])
    np.testing.assert_array_equal(both, tree_of(store).hfzarr.thumbnail(32, labels=True))
    assert both[12, 12, 0] > opened(store).hfzarr.thumbnail(32, labels="cells")[12, 12, 0]
    for target in (opened(store), tree_of(store)):
        with pytest.raises(NodeNotFoundError, match=r"'x' .* \['cells', 'nuclei'\]"):
            target.hfzarr.thumbnail(labels=["cells", "x"])
        with pytest.raises(TargetError, match="labels= is a name"):
            target.hfzarr.thumbnail(labels=3)
    bare = opened(write_cf(MemoryStore()))
    with pytest.raises(NodeNotFoundError, match="there are none"):
        bare[["air"]].hfzarr.thumbnail(labels="x")
    np.testing.assert_array_equal(
        bare[["air"]].hfzarr.thumbnail(labels=True), bare[["air"]].hfzarr.thumbnail()
    )


def test_labels_have_none_over_them():
    labels = opened(write_labelled("cells"), group="labels/cells")
    np.testing.assert_array_equal(labels.hfzarr.thumbnail(labels=True), labels.hfzarr.thumbnail())


def test_labels_of_a_field_of_a_plate():
    store = write_plate(MemoryStore(), {"A/1": 1}, labels=["nuclei"])
    field = opened(store, group="A/1/0")
    tree = tree_of(store)
    picture = field.hfzarr.thumbnail(labels="nuclei")
    np.testing.assert_array_equal(tree["A/1/0"].hfzarr.thumbnail(labels="nuclei"), picture)
    assert (picture != field.hfzarr.thumbnail()).any()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_labels_are_found_in_any_store(zarr_format, consolidated):
    store = write_image(MemoryStore(), zarr_format=zarr_format, consolidated=consolidated)
    dataset = opened(store, consolidated=consolidated)
    picture = dataset.hfzarr.thumbnail(labels="nuclei")
    assert (picture != dataset.hfzarr.thumbnail()).any()


def test_a_variable_beside_the_image_and_a_node_of_a_tree_are_labels_too():
    image = xr.Dataset({"image": (("y", "x"), np.zeros((8, 8), np.uint8))})
    mask = np.zeros((8, 8), np.int16)
    mask[2:6, 2:6] = 1
    dataset = image.assign(found=(("y", "x"), mask, {"colors": {1: RED}}))
    picture = dataset.hfzarr.thumbnail(labels="found")
    assert picture[2, 2].tolist() == [255, 0, 0]
    assert picture[3, 3].tolist() == [64, 0, 0]
    tree = xr.DataTree.from_dict(
        {"/0": image, "/1": image[{"y": slice(4), "x": slice(4)}],
         "/labels/found/0": dataset[["found"]].rename(found="labels")}
    )  # fmt: skip
    np.testing.assert_array_equal(tree.hfzarr.thumbnail(8, labels="found"), picture)


def test_a_segmentation_added_to_an_opened_image_lies_where_its_coordinates_say():
    """As a user would: segment a coarse level, and look at it over a finer one."""
    store = write_labelled("cells")
    coarse = opened(store, level=1).load()
    tree = tree_of(store)
    made = xr.Dataset({"labels": (("y", "x"), np.ones((4, 4), np.int32), {"colors": {1: GREEN}})})
    made = made.assign_coords({dim: coarse[dim][4:8] for dim in "yx"})
    tree["labels/mine"] = xr.DataTree(made)
    picture = tree.hfzarr.thumbnail(32, labels="mine")
    # Four coarse pixels from the fifth on: a fine one half way between two is the first's.
    ys, xs = np.nonzero(picture[..., 1])
    assert (ys.min(), ys.max()) == (xs.min(), xs.max()) == (8, 15)


def test_a_map_with_north_below_has_its_labels_turned_with_it():
    rows = xr.Dataset(
        {"heat": (("lat", "lon"), np.ones((4, 4)))},
        coords={"lat": ("lat", np.arange(4.0), {"units": "degrees_north"}), "lon": np.arange(4.0)},
    )
    region = np.zeros((4, 4), np.int16)
    region[0] = 1
    picture = rows.assign(region=(("lat", "lon"), region, {"colors": {1: RED}})).hfzarr.thumbnail(
        labels="region"
    )
    assert picture[-1].tolist() == [[255, 0, 0]] * 4
    assert picture[0, 0].tolist() != [255, 0, 0]


def test_what_does_not_tell_how_it_lies_is_refused():
    image = xr.Dataset({"image": (("y", "x"), np.zeros((8, 8), np.uint8))})
    placed = image.assign_coords(y=("y", np.arange(8.0), {"units": "m"}), x=np.arange(8.0))
    small = xr.Dataset({"labels": (("y", "x"), np.ones((3, 3), np.int32))})

    def over(one, other):
        return xr.DataTree.from_dict({"/0": one, "/labels/a/0": other})

    with pytest.raises(TargetError, match="'y' has 8 pixels, and 3 of labels 'a'"):
        over(placed, small).hfzarr.thumbnail(labels="a")
    feet = small.assign_coords(y=("y", np.arange(3.0), {"units": "foot"}), x=np.arange(3.0))
    with pytest.raises(TargetError, match="'y' is in 'm', that of labels 'a' in 'foot'"):
        over(placed, feet).hfzarr.thumbnail(labels="a")
    with pytest.raises(TargetError, match=r"\['u', 'v'\], and the picture shows \['y', 'x'\]"):
        over(image, small.rename(y="u", x="v")).hfzarr.thumbnail(labels="a")
    # Without coordinates on either side, both show the whole.
    assert over(image, small).hfzarr.thumbnail(labels="a").min(axis=(0, 1)).max() > 0
    elsewhere = small.assign_coords(y=("y", np.arange(3.0) + 90, {"units": "m"}), x=np.arange(3.0))
    assert over(placed, elsewhere).hfzarr.thumbnail(labels="a").max() == 0


# --- what they cost -------------------------------------------------------------------------------


def bytes_read(store: CountingStore, chunk: int) -> int:
    pixels = chunk * chunk
    return sum(pixels * (4 if key.startswith("labels") else 1) for key in store.chunks)


@settings(max_examples=60, deadline=None)
@given(
    max_bytes=st.integers(1, 30_000),
    size=st.none() | st.integers(1, 40),
    project=st.sampled_from(["max", "mean", "slice", 0, 2.0]),
    names=st.sampled_from([["cells"], ["cells", "nuclei"]]),
    chunk=st.sampled_from([4, 8, 32]),
    levels=st.integers(1, 3),
    tree=st.booleans(),
)
def test_no_more_is_read_than_was_said_labels_and_all(
    max_bytes, size, project, names, chunk, levels, tree
):
    store = CountingStore(write_labelled(*names, levels=levels, chunk=chunk))
    target = tree_of(store) if tree else opened(store)
    store.forget()
    try:
        picture = target.hfzarr.thumbnail(size, project=project, labels=names, max_bytes=max_bytes)
    except TargetError as error:
        assert not store.chunks
        if "max_bytes" not in str(error):
            raise
        return
    assert bytes_read(store, chunk) <= max_bytes
    assert {key.split("/")[1] for key in store.chunks if key.startswith("labels")} == set(names)
    assert picture.ndim == 3
    assert math.prod(picture.shape) > 0


def test_where_both_are_too_large_the_middle_of_both_is_shown():
    store = CountingStore(write_labelled("cells", levels=1, chunk=8))
    dataset = opened(store)
    store.forget()
    # A plane of the image takes 1 KiB, of labels 4 KiB.
    picture = dataset.hfzarr.thumbnail(32, labels="cells", max_bytes=2000, project=0)
    assert bytes_read(store, 8) <= 2000
    assert picture.shape[0] < 32
    image = {key.rpartition("0/c")[2] for key in store.chunks if not key.startswith("labels")}
    masks = {key.rpartition("0/c")[2] for key in store.chunks if key.startswith("labels")}
    assert image == masks
    with pytest.raises(TargetError, match="with labels 'cells' has no part that takes less"):
        dataset.hfzarr.thumbnail(32, labels="cells", max_bytes=300)
    with pytest.raises(TargetError, match="with labels 'cells' pixel by pixel takes more"):
        dataset.hfzarr.thumbnail(None, labels="cells", max_bytes=3000)


# --- from a shell ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--labels", "cells"], {"labels": ["cells"]}),
        (["--labels", "all", "--projection", "1"], {"labels": True, "project": 1}),
        (["--labels", "cells", "--labels", "nuclei"], {"labels": ["cells", "nuclei"]}),
        (["--projection", "-1", "--labels", "all"], {"labels": True, "project": -1}),
        (["--projection", "1.9", "--labels", "all"], {"labels": True, "project": 1.9}),
        (["--cmap", "rain_r", "--project", "mean"], {"cmap": "rain_r", "project": "mean"}),
    ],
)
def test_the_command_takes_labels_planes_and_colours(words, options, tmp_path):
    store = write_labelled("cells", "nuclei")
    for key, value in store._store_dict.items():
        (tmp_path / "a.zarr" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a.zarr" / key).write_bytes(value.to_bytes())
    ask("thumbnail", tmp_path / "a.zarr", "-o", tmp_path / "a.png", "--quiet", *words)
    wanted = opened(store).hfzarr.thumbnail(**options)
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), wanted)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "none"], "there are no labels 'none' of this image: there are ['nuclei']"),
        (["--projection", "9"], "project=9 is no plane along 'z', which has 4"),
        (["--cmap", "pink floyd"], "there is no cmap 'pink floyd': there are amount, grey"),
    ],
)
def test_what_the_command_does_not_find_is_told_in_one_line(words, said, tmp_path, capsys):
    write_image(tmp_path / "a.zarr", labels=["nuclei"])
    where = ["thumbnail", tmp_path / "a.zarr", "-o", tmp_path / "a.png"]
    assert said in fails(capsys, *where, *words)
    assert not (tmp_path / "a.png").exists()
