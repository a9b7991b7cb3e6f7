"""Pictures of hand-made images, each pixel worked out by hand."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from hfzarr.errors import MissingDependencyError, TargetError
from hfzarr.faces.figure import figure
from hfzarr.faces.picture import (
    ChannelLook,
    channel_looks,
    composite,
    nice_length,
    outline,
    physical_size,
    pixel_size,
    project,
    resize,
    save_png,
    unit,
)
from hfzarr.faces.synthetic import SCALE, STEPS, synthesize

RED, GREEN, BLUE = "FF0000", "00FF00", "0000FF"


def make_image(shape=(2, 3, 4, 5), step=(2.0, 0.5, 0.5), offset=0.0, **attrs):
    """An image with the coordinates and attributes that the engine gives."""
    c, *sizes = shape
    coords = {"c": [f"stain {i}" for i in range(c)]}
    for dim, size, width in zip("zyx", sizes, step, strict=True):
        values = offset + width * np.arange(size)
        coords[dim] = (dim, values, {"units": "micrometer"})
    values = np.zeros(shape, np.uint16)
    return xr.DataArray(values, dims=("c", "z", "y", "x"), coords=coords, attrs=attrs)


def window(start, end):
    return {"min": 0, "max": 65535, "start": start, "end": end}


def test_each_channel_goes_through_its_window_into_its_colour():
    image = make_image(
        (2, 1, 1, 4),
        channel_colors=[RED, GREEN],
        channel_windows=[window(100, 200), window(0, 10)],
    )
    image[0, 0, 0] = [0, 100, 150, 900]
    image[1, 0, 0] = [0, 5, 10, 10]
    assert composite(image)[0].tolist() == [[0, 0, 0], [0, 128, 0], [128, 255, 0], [255, 255, 0]]


def test_light_is_screened_where_channels_meet():
    image = make_image(
        (2, 1, 1, 1), channel_colors=["808080"] * 2, channel_windows=[window(0, 1)] * 2
    )
    image[:] = 1
    half = 128 / 255
    assert composite(image)[0, 0].tolist() == [round(255 * (1 - (1 - half) ** 2))] * 3


def test_the_maximum_over_other_dims_is_shown():
    image = make_image((1, 3, 2, 2), channel_colors=[BLUE], channel_windows=[window(0, 100)])
    image[0, 2, 1, 0] = 100
    assert composite(image)[..., 2].tolist() == [[0, 0], [255, 0]]
    assert composite(image, plane=("z", "x"))[..., 2].tolist() == [[0, 0], [0, 0], [255, 0]]


def test_percentiles_serve_where_there_is_no_window():
    image = make_image((1, 1, 1, 1001))
    image[0, 0, 0] = np.arange(1001)
    picture = composite(image)[0, :, 0].astype(int)
    assert picture[10] == 0
    assert picture[11] in (0, 1)
    assert picture[997] == 255
    assert picture[500] == round(255 * (500 - 10) / (997 - 10))


def test_a_flat_image_and_one_full_of_nothing_are_dark():
    flat = make_image((1, 1, 2, 2))
    assert composite(flat).max() == 0
    empty = xr.DataArray(np.full((2, 2), np.nan), dims=("y", "x"))
    assert composite(empty).max() == 0


def test_infinite_and_missing_values_take_no_part_in_the_window():
    values = np.linspace(0, 1, 100).reshape(10, 10)
    values[0, 0], values[9, 9] = np.nan, np.inf
    picture = composite(xr.DataArray(values, dims=("y", "x")))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[9, 9].tolist() == [255, 255, 255]
    assert 100 < picture[5, 0, 0] < 160


@pytest.mark.parametrize(
    ("attrs", "color"),
    [
        ({}, (1.0, 1.0, 1.0)),
        ({"channel_colors": ["#00FF00"]}, (0.0, 1.0, 0.0)),
        ({"channel_colors": ["00FF00FF"]}, (0.0, 1.0, 0.0)),
        ({"channel_colors": ["green"]}, (1.0, 1.0, 1.0)),
        ({"channel_colors": [None]}, (1.0, 1.0, 1.0)),
        ({"channel_colors": RED}, (1.0, 1.0, 1.0)),
        ({"channel_colors": [RED, GREEN]}, (1.0, 1.0, 1.0)),
    ],
)
def test_colours_are_read_or_replaced(attrs, color):
    (look,) = channel_looks(make_image((1, 1, 1, 1), **attrs))
    assert look.color == color


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (window(5, 9), (5.0, 9.0)),
        ({"start": "5", "end": 9}, (5.0, 9.0)),
        ({"min": 0, "max": 255}, None),
        (window(9, 9), None),
        ({"start": None, "end": 3}, None),
        ("0-255", None),
        (None, None),
    ],
)
def test_windows_are_read_or_left_to_the_pixels(given, read):
    (look,) = channel_looks(make_image((1, 1, 1, 1), channel_windows=[given]))
    assert look.window == read


def test_channels_without_colours_differ_and_keep_their_names():
    looks = channel_looks(make_image((8, 1, 1, 1)))
    assert [look.name for look in looks] == [f"stain {i}" for i in range(8)]
    assert len({look.color for look in looks[:6]}) == 6
    nameless = channel_looks(make_image((2, 1, 1, 1)).drop_vars("c"))
    assert [look.name for look in nameless] == ["channel 0", "channel 1"]


def test_a_selection_of_channels_does_not_borrow_the_colour_of_another():
    image = make_image((3, 1, 1, 1), channel_colors=[RED, GREEN, BLUE])
    (look,) = channel_looks(image.isel(c=[2]))
    assert look == ChannelLook(name="stain 2", color=(1.0, 1.0, 1.0))
    (alone,) = channel_looks(image.isel(c=2))
    assert alone == look


def test_looks_can_be_given():
    image = make_image((3, 1, 1, 1), channel_colors=[RED, GREEN, BLUE])
    image[2] = 10
    look = ChannelLook(name="b", color=(0.0, 0.0, 1.0), window=(0.0, 10.0))
    assert composite(image.isel(c=[2]), looks=[look]).tolist() == [[[0, 0, 255]]]
    with pytest.raises(TargetError, match="1 looks were given for 3 channels"):
        composite(image, looks=[look])


@pytest.mark.parametrize("plane", [("y", "c"), ("y", "w"), None])
def test_a_picture_needs_a_plane(plane):
    image = xr.DataArray(np.zeros((2, 3)), dims=("c", "y"))
    with pytest.raises(TargetError, match="two dimensions"):
        composite(image, plane=plane)


def test_project_puts_the_plane_last():
    image = make_image().transpose("x", "c", "y", "z")
    assert project(image, ("y", "x")).dims == ("c", "y", "x")
    assert project(image.isel(c=0)).dims == ("y", "z")


def test_an_outline_separates_touching_labels():
    labels = np.array([[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [1, 1, 1, 2, 2]])
    expected = [[0, 0, 1, 1, 0]] * 3
    assert outline(labels).astype(int).tolist() == expected
    assert outline(xr.DataArray(labels, dims=("y", "x"))).astype(int).tolist() == expected
    assert not outline(np.zeros((3, 3), int)).any()
    with pytest.raises(TargetError, match="2-D"):
        outline(np.zeros((2, 2, 2), int))


def test_sizes_come_from_coordinates():
    image = make_image((1, 3, 4, 5), offset=7.0)
    assert [pixel_size(image, d) for d in "zyx"] == [2.0, 0.5, 0.5]
    assert physical_size(image, ("z", "x")) == (6.0, 2.5)
    assert unit(image, "x") == "µm"
    plain = image.drop_vars(["x", "y"])
    assert pixel_size(plain, "x") == 1.0
    assert unit(plain, "x") == "px"
    assert pixel_size(image.isel(x=slice(0, 1)), "x") == 1.0
    assert pixel_size(image.isel(x=slice(None, None, -1)), "x") == 0.5


@pytest.mark.parametrize(
    ("limit", "length"), [(1.0, 1.0), (1.99, 1.0), (2.0, 2.0), (5.5, 5.0), (99, 50), (0.03, 0.02)]
)
def test_nice_length(limit, length):
    assert nice_length(limit) == pytest.approx(length)


def test_png_round_trip(tmp_path: Path):
    image_module = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(1).integers(0, 256, (7, 9, 3), np.uint8)
    save_png(picture, tmp_path / "a.png")
    with image_module.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
    doubled = resize(picture, 14, 18, smooth=False)
    np.testing.assert_array_equal(doubled, picture.repeat(2, 0).repeat(2, 1))


def test_without_pillow_the_error_names_the_extra(tmp_path: Path, monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingDependencyError, match=r'pip install "hfzarr\[demo\]"'):
        save_png(np.zeros((2, 2, 3), np.uint8), tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_a_figure_places_labels_by_coordinate_not_by_index():
    pytest.importorskip("PIL")
    image = make_image((1, 2, 64, 64), channel_colors=[BLUE], channel_windows=[window(0, 10)])
    image = image.assign_attrs(channel_colors=["000000"])
    labels = xr.zeros_like(image.isel(c=0, drop=True))
    labels[:, 16:32, 16:32] = 1
    here = np.argwhere((figure([image], labels, title="t")[..., 0] > 195)[100:600, 40:550])
    moved = labels.assign_coords(x=("x", labels.x.values + 4.0))
    there = np.argwhere((figure([image], moved, title="t")[..., 0] > 195)[100:600, 40:550])
    # 4 micrometres are 8 of 64 pixels, so an eighth of the panel's 1024.
    assert int(there[:, 1].min() - here[:, 1].min()) == pytest.approx(128, abs=1)


@pytest.mark.parametrize("shape", [(40, 60), (300, 20)])
def test_a_figure_of_a_plain_plane_without_coordinates(shape):
    pytest.importorskip("PIL")
    values = np.random.default_rng(0).random(shape)
    sheet = figure([xr.DataArray(values, dims=("y", "x"))], title="plain")
    assert sheet.dtype == np.uint8
    assert sheet.std() > 10


def test_the_synthetic_volume_is_the_same_for_the_same_seed():
    ticks = []
    one = synthesize((8, 64, 96), seed=3, tick=lambda: ticks.append(1))
    two = synthesize((8, 64, 96), seed=3)
    other = synthesize((8, 64, 96), seed=4)
    assert len(ticks) == STEPS
    assert one.scale == SCALE
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert (one.image != other.image).any()
    present = np.unique(one.labels)
    np.testing.assert_array_equal(present, np.arange(len(present)))


def test_synthetic_nuclei_shine_where_their_labels_are():
    volume = synthesize((24, 128, 128), seed=1)
    nuclei, actin, _ = volume.image.astype(float)
    inside = volume.labels > 0
    assert nuclei[inside].mean() > 5 * nuclei[~inside].mean()
    assert actin[inside].mean() < actin.mean() * 1.5
