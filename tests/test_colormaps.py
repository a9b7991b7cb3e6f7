"""Colours of amounts: tables, which of them suits what, and pixels painted with them."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some
from zarr.storage import MemoryStore

from hfzarr.errors import TargetError
from hfzarr.faces.colormaps import AMOUNT, COLORMAPS, colormap, suited
from hfzarr.faces.paint import shade
from stores import write_cf, write_image

pytest.importorskip("PIL")


def plane(values, name="amount", **attrs) -> xr.Dataset:
    return xr.Dataset({name: (("y", "x"), np.asarray(values), attrs)})


def light(colors) -> np.ndarray:
    """Perceived lightness, by the weights of Rec. 709."""
    linear = (np.asarray(colors, float) / 255) ** 2.2
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def test_those_from_low_to_high_get_steadily_lighter_or_darker():
    for name in ("amount", "grey", "thermal", "rain", "green"):
        steps = np.diff(light(COLORMAPS[name].colors))
        assert (steps > 0).all() or (steps < 0).all(), name


def test_those_with_a_middle_are_lightest_there_or_alike_on_both_sides():
    both = light(COLORMAPS["diverging"].colors)
    assert both.argmax() == len(both) // 2
    assert (np.diff(both[: len(both) // 2 + 1]) > 0).all()
    np.testing.assert_allclose(both, both[::-1], atol=0.12)
    around = COLORMAPS["phase"]
    assert around.colors[0] == around.colors[-1]
    assert around.window(np.array([3.0])) == (0.0, 360.0)


@pytest.mark.parametrize(
    ("wanted", "name", "attrs", "values"),
    [
        ("thermal", "t2m", {}, [280.0]),
        ("thermal", "x", {"standard_name": "sea_water_temperature"}, [-1.0, 3.0]),
        ("thermal", "x", {"units": "degC"}, [-1.0, 3.0]),
        ("diverging", "x", {"standard_name": "air_temperature_anomaly", "units": "K"}, [1.0, 2.0]),
        ("diverging", "sst_anom", {"units": "degC"}, [1.0]),
        ("diverging", "x", {"long_name": "Difference of runs"}, [1.0]),
        ("diverging", "x", {"standard_name": "tendency_of_air_temperature"}, [1.0]),
        ("diverging", "u10", {"standard_name": "eastward_wind"}, [-3.0, 4.0]),
        ("diverging", "u", {"standard_name": "x_wind"}, [-3.0, 4.0]),
        (None, "u", {"standard_name": "x_wind"}, [3.0, 4.0]),
        (None, "u", {"standard_name": "wind_speed", "units": "m s-1"}, [0.0, 4.0]),
        ("rain", "pr", {"units": "kg m-2 s-1"}, [0.0]),
        ("rain", "x", {"units": "mm/day"}, [0.0]),
        ("rain", "x", {"standard_name": "relative_humidity", "units": "%"}, [0.0]),
        ("rain", "x", {"standard_name": "sea_floor_depth_below_geoid"}, [10.0]),
        ("land", "x", {"standard_name": "surface_altitude", "units": "m"}, [10.0]),
        ("relief", "dem", {}, [-10.0, 10.0]),
        ("green", "NDVI", {}, [-0.2, 0.9]),
        ("phase", "x", {"standard_name": "wind_from_direction", "units": "degree"}, [9.0]),
        (None, "b08", {"units": "1"}, [0.1]),
        (None, "image", {}, [0.1, np.nan]),
        (None, "attempt", {"long_name": "pristine"}, [np.nan]),
    ],
)
def test_what_suits_is_told_by_words_and_units(wanted, name, attrs, values):
    found = suited(name, attrs, np.array(values))
    assert (None if found is None else found.name) == wanted


def test_an_anomaly_is_white_at_zero_and_its_signs_have_two_colours():
    values = [[-2.0, 0.0, 1.0, np.nan]]
    picture = plane(values, long_name="temperature anomaly").hfzarr.thumbnail()[0]
    colors = COLORMAPS["diverging"].colors
    assert picture[0].tolist() == list(colors[0])
    assert picture[1].tolist() == list(colors[3])
    # Half as far as the lowest value: between the middle and the highest colour.
    assert picture[2].tolist() == np.rint(np.mean(colors[4:6], axis=0)).tolist()
    assert picture[3].tolist() == [0, 0, 0]
    shifted = plane([[1.0, 2.0]], long_name="temperature anomaly").hfzarr.thumbnail()[0]
    assert shifted[1].tolist() == list(colors[-1])
    assert (shifted[:, 0] > shifted[:, 2]).all()


def test_a_field_of_its_kind_has_its_colours_and_others_are_as_before():
    warm = xr.open_dataset(write_cf(MemoryStore()), engine="hfzarr")[["air"]]
    np.testing.assert_array_equal(
        warm.hfzarr.thumbnail(None), shade(warm.air[0].values, COLORMAPS["thermal"])
    )
    values = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(plane(values).hfzarr.thumbnail(), shade(values, AMOUNT))
    # Numbers of a sensor are light, and heights in whole metres are heights.
    counts = values.astype("i2")
    assert np.ptp(plane(counts).hfzarr.thumbnail(), axis=-1).max() == 0
    heights = plane(counts, standard_name="surface_altitude").hfzarr.thumbnail()
    np.testing.assert_array_equal(heights, shade(values, COLORMAPS["land"]))


def test_a_cmap_by_name_wins_and_can_be_turned_around():
    values = np.array([[0.0, 5.0, 10.0]])
    field = plane(values, standard_name="air_temperature")
    assert field.hfzarr.thumbnail(cmap="grey")[0, [0, 2]].tolist() == [[0] * 3, [255] * 3]
    assert field.hfzarr.thumbnail(cmap="grey_r")[0, [0, 2]].tolist() == [[255] * 3, [0] * 3]
    tree = xr.DataTree.from_dict({"/a": field})
    np.testing.assert_array_equal(
        tree.hfzarr.thumbnail(cmap="rain"), field.hfzarr.thumbnail(cmap="rain")
    )
    mask = plane(values > 4).hfzarr.thumbnail(cmap="grey_r")
    assert mask[0, :, 0].tolist() == [255, 0, 0]


def test_a_lone_channel_goes_through_its_window_in_the_colours_of_a_cmap():
    store = write_image(MemoryStore())
    dataset = xr.open_dataset(store, engine="hfzarr").isel(z=0, c=0, y=slice(0, 2), x=slice(0, 8))
    values = dataset.image.values
    picture = dataset.hfzarr.thumbnail(None, cmap="thermal")
    np.testing.assert_array_equal(picture, shade(values, COLORMAPS["thermal"], (0, 1000)))
    assert len(np.unique(picture)) > 5


def test_there_is_nothing_to_colour_in_channels_and_labels():
    store = write_image(MemoryStore())
    with pytest.raises(TargetError, match="for one channel, and 2 are shown"):
        xr.open_dataset(store, engine="hfzarr").hfzarr.thumbnail(cmap="grey")
    with pytest.raises(TargetError, match="labels have colours of their own"):
        xr.open_datatree(store, engine="hfzarr")["labels/nuclei"].hfzarr.thumbnail(cmap="grey")
    bands = xr.Dataset({name: (("y", "x"), np.eye(2)) for name in ("b02", "b03", "b04")})
    with pytest.raises(TargetError, match="and 3 are shown"):
        bands.hfzarr.thumbnail(cmap="grey")


@pytest.mark.parametrize("name", ["no such map", "", "_r", "amount_r_r", 3])
def test_a_name_that_is_none_is_refused_with_those_there_are(name):
    with pytest.raises(TargetError, match=r"diverging|name of a colormap"):
        plane([[1.0]]).hfzarr.thumbnail(cmap=name)


def test_names_of_matplotlib_are_known_where_it_is_installed(monkeypatch):
    def two(at):
        return np.stack([at, 0 * at, 1 - at, 1 + 0 * at], axis=-1)

    stand_in = ModuleType("matplotlib")
    stand_in.colormaps = {"RdBu_r": two, "cool": two}
    monkeypatch.setitem(sys.modules, "matplotlib", stand_in)
    found = colormap("cool")
    assert (len(found.colors), found.centered, found.colors[0]) == (256, False, (0.0, 0.0, 255.0))
    assert colormap("RdBu_r").centered
    with pytest.raises(TargetError, match="and those of matplotlib"):
        colormap("warm")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(TargetError, match="where matplotlib is installed"):
        colormap("cool")


def test_the_colours_are_those_that_matplotlib_itself_paints():
    matplotlib = pytest.importorskip("matplotlib")
    values = np.linspace(0, 1, 256)[np.newaxis]
    wanted = matplotlib.colormaps["viridis"](values)[..., :3] * 255
    np.testing.assert_allclose(shade(values, colormap("viridis"), (0, 1)), wanted, atol=1)


@given(
    values=some.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.uint8]),
        some.array_shapes(min_dims=2, max_dims=2, max_side=6),
    ),
    name=st.sampled_from(sorted(COLORMAPS)),
)
def test_any_plane_is_painted_and_only_what_is_missing_is_black(values, name):
    colors = COLORMAPS[name]
    picture = shade(values, colors)
    assert picture.shape == (*values.shape, 3)
    missing = ~np.isfinite(values)
    assert (picture[missing] == 0).all()
    if name != "grey":
        assert (picture[~missing].max(axis=-1) > 30).all()
    window = colors.window(values)
    if colors.centered:
        assert window[0] == -window[1] < 0
