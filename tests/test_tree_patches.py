"""Levels and labels of one image under the same windows, aligned by world coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import hfzarr
from hfzarr.errors import NodeNotFoundError, TargetError
from patch_strategies import sliced
from stores import pixels, write_image, write_plate


@pytest.fixture(scope="module")
def image() -> xr.DataTree:
    return xr.open_datatree(write_image(MemoryStore(), labels=("nuclei", "cells")), engine="hfzarr")


def along_x(n: int, step: float, origin: float, **attrs) -> xr.Dataset:
    """Return an image whose pixels are their own number."""
    coord = ("x", origin + np.arange(n) * step, attrs)
    return xr.Dataset({"image": ("x", np.arange(n, dtype="i4"))}, coords={"x": coord})


def check(patches: xr.Dataset, name: str, source: xr.Dataset, suffix: str = "") -> None:
    """Check a variable's patches against slicing at the starts that belong to it."""
    variable = source[next(iter(source.data_vars))].variable
    for i, found in enumerate(patches[name].values):
        starts, size = [], []
        for dim in variable.dims:
            own = f"{dim}{suffix}" if f"{dim}{suffix}" in patches.sizes else dim
            start = patches.get(f"{own}_start")
            starts.append(0 if start is None else int(start[i]))
            size.append(patches.sizes[own])
        np.testing.assert_array_equal(found, sliced(variable.values, starts, size, 0))


@pytest.mark.parametrize("context", ["same", "wide"])
def test_an_image_its_labels_and_a_context(image, context):
    """What the issue promises: the input of a segmentation model."""
    patches = image.hfzarr.patches(
        {"z": 2, "y": 8, "x": 8}, stride=5, labels=["nuclei"], levels=[0, 2], context=context
    ).compute()
    assert set(patches.data_vars) == {"image", "image_2", "nuclei"}
    check(patches, "image", image["0"].to_dataset())
    check(patches, "nuclei", image["labels/nuclei/0"].to_dataset())
    check(patches, "image_2", image["2"].to_dataset(), "_2")
    assert patches.sizes["y_2"] == (2 if context == "same" else 8)
    # z is the same on all levels, so it has one name.
    assert "z_2" not in patches.sizes
    assert patches.nuclei.dims == ("patch", "z", "y", "x")


def test_all_labels_and_another_level(image):
    patches = image.hfzarr.patches({"y": 8, "x": 8}, level=1, labels=True).compute()
    assert set(patches.data_vars) == {"image", "nuclei", "cells"}
    np.testing.assert_array_equal(patches.image[1], pixels(1)[:, :, :8, 8:16])
    # Labels come from the level with pixels of that size.
    check(patches, "cells", image["labels/cells/1"].to_dataset())


def test_drawn_windows(image):
    patches = image.hfzarr.random_patches(
        20, {"z": 2, "y": 7, "x": 9}, 3, labels="nuclei", levels=["0", "1"], max_memory="20 kB"
    ).compute()
    check(patches, "image", image["0"].to_dataset())
    check(patches, "nuclei", image["labels/nuclei/0"].to_dataset())
    check(patches, "image_1", image["1"].to_dataset(), "_1")


@settings(deadline=None, max_examples=80)
@given(
    st.integers(4, 30),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([2.0, 0.5, 3.0, 1.0, 1.5]),
    st.floats(-8, 8),
    st.sampled_from(["same", "wide"]),
    st.booleans(),
)
def test_windows_lie_in_the_same_place(n, size, stride, coarser, moved, context, descending):
    """Edge on edge, or centre on centre, as near as whole pixels come."""
    sign = -1 if descending else 1
    fine = along_x(n, sign * 0.5, 100)
    coarse = along_x(max(2, int(n / coarser)), sign * 0.5 * coarser, 100 + moved)
    tree = xr.DataTree.from_dict({"0": fine, "1": coarse})
    patches = tree.hfzarr.patches(
        {"x": min(size, n)}, stride=stride, levels=[0, 1], context=context
    ).compute()
    length, own = patches.sizes["x"], "x_1" if "x_1" in patches.sizes else "x"
    wide = patches.sizes[own]
    assert wide == (length if context == "wide" else max(1, round(length / coarser)))
    # In pixels of the coarse level, counted from the centre of its first.
    first = (100 + patches.x_start.values * sign * 0.5 - 100 - moved) / (sign * 0.5 * coarser)
    if context == "same":
        wanted = first - 0.5 / coarser + 0.5
    else:
        wanted = first + (length - 1) / 2 / coarser - (wide - 1) / 2
    assert np.abs(patches[f"{own}_start"].values - wanted).max() <= 0.5 + 1e-5
    check(patches, "image_1", coarse, own[1:])
    np.testing.assert_allclose(
        patches[f"{own}_origin"],
        100 + moved + patches[f"{own}_start"] * sign * 0.5 * coarser,
        atol=1e-9,
    )


def test_dimensions_without_coordinates_must_be_alike():
    fine = along_x(8, 1.0, 0).drop_vars("x")
    tree = xr.DataTree.from_dict({"0": fine, "1": fine * 2})
    patches = tree.hfzarr.patches({"x": 4}, levels=[0, 1]).compute()
    np.testing.assert_array_equal(patches.image_1, patches.image * 2)
    tree = xr.DataTree.from_dict({"0": fine, "1": fine.isel(x=slice(4))})
    with pytest.raises(TargetError, match="8 and 4 pixels, and no evenly spaced coordinates"):
        tree.hfzarr.patches({"x": 4}, levels=[0, 1])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (along_x(8, -1.0, 0), "'x' run in opposite directions"),
        (along_x(8, 1.0, 0, units="m"), "'x' are in 'mm' and in 'm'"),
        (along_x(8, 1.0, 0).rename(x="q"), "'1' has none of the windowed dimensions"),
    ],
)
def test_levels_that_do_not_lie_on_each_other(other, said):
    tree = xr.DataTree.from_dict({"0": along_x(8, 1.0, 0, units="mm"), "1": other})
    with pytest.raises(TargetError, match=said):
        tree.hfzarr.patches({"x": 4}, levels=[0, 1])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"level": 3}, NodeNotFoundError, "no level 3; it has 3"),
        ({"level": "9"}, NodeNotFoundError, "no level '9'; it has 3"),
        ({"labels": "nerves"}, NodeNotFoundError, "no labels 'nerves'; it has"),
        ({"level": 1, "levels": [0]}, TargetError, "level= or levels=, not both"),
        ({"levels": []}, TargetError, "levels= names no level"),
        ({"levels": [0, 1], "context": "far"}, TargetError, "'same' or 'wide', not 'far'"),
        ({"pad_value": {"nuclei": 1}}, TargetError, "pad_value names"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(image, options, error, said):
    with pytest.raises(error, match=said):
        image.hfzarr.patches({"y": 8}, **options)


def test_a_plate_is_no_image():
    tree = xr.open_datatree(write_plate(MemoryStore()), engine="hfzarr")
    with pytest.raises(NodeNotFoundError, match=r"has no levels to cut patches from.*tree\['"):
        tree.hfzarr.patches({"y": 8})
    field = tree["A/1/0"].hfzarr.patches({"y": 8, "x": 8}).compute()
    assert field.image.values[0, 0, 0, 0, 0] == len("A/1/0")


def test_patches_of_a_level_are_laid_back_on_its_node():
    values = np.arange(24.0).reshape(4, 6)
    coords = {"y": np.arange(4.0), "x": np.arange(6.0)}
    tree = xr.DataTree.from_dict({"0": xr.Dataset({"image": (("y", "x"), values)}, coords)})
    cut = tree.hfzarr.patches({"y": 3, "x": 3}, edge="shift")
    xr.testing.assert_identical(
        hfzarr.stitch(cut, like=tree["0"]).compute(), tree["0"].to_dataset()
    )
