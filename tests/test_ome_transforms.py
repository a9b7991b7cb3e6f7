"""Transformations composed at random agree with the reference, which moves points one by one."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import ome_reference as reference
from rawstores import image_attrs, space, write_array, write_group

SHAPE = (2, 3, 4)
# Sizes of real pixels, and offsets on a stage, in micrometers.
scales = st.floats(1e-3, 1e3, allow_nan=False)
offsets = st.floats(-1e5, 1e5, allow_nan=False)
three = {"min_size": 3, "max_size": 3}
scale = st.lists(scales, **three).map(lambda v: {"type": "scale", "scale": v})
translation = st.lists(offsets, **three).map(lambda v: {"type": "translation", "translation": v})
map_axis = st.permutations(range(3)).map(lambda v: {"type": "mapAxis", "mapAxis": list(v)})
scale_first = st.one_of(scale.map(lambda s: [s]), st.tuples(scale, translation).map(list))


def turn(plane: tuple[int, int], angle: float) -> dict[str, Any]:
    """Return a rotation in the plane of two axes."""
    matrix = np.eye(3)
    a, b = plane
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return {"type": "rotation", "rotation": matrix.tolist()}


rotation = st.builds(turn, st.sampled_from([(0, 1), (0, 2), (1, 2)]), st.floats(0.1, 1.4))
straight = st.recursive(
    st.one_of(st.just({"type": "identity"}), scale, translation, map_axis),
    lambda steps: st.lists(steps, min_size=1, max_size=4).map(
        lambda many: {"type": "sequence", "transformations": many}
    ),
    max_leaves=6,
)


def check(attrs: dict[str, Any], zarr_format: int) -> None:
    """Fail where the engine and the reference place the pixels of an image differently."""
    with tempfile.TemporaryDirectory() as folder:
        store = write_group(Path(folder) / "a.zarr", attrs, zarr_format)
        write_array(store / "0", SHAPE, zarr_format, dims=["z", "y", "x"])
        (wanted,) = reference.levels(store)
        with xr.open_dataset(store, engine="hfzarr", on_invalid="raise") as opened:
            assert opened["image"].dims == wanted.dims
            assert set(opened.coords) == set(wanted.positions)
            for name, (dims, values) in wanted.positions.items():
                assert opened[name].dims == dims
                span = np.abs(values).max()
                np.testing.assert_allclose(opened[name], values, rtol=1e-9, atol=1e-9 * span)


@given(level=scale_first, image=st.one_of(st.none(), scale_first))
def test_level_and_image_of_0_4(level: list[Any], image: list[Any] | None) -> None:
    dataset = {"path": "0", "coordinateTransformations": level}
    check(
        image_attrs(axes=space("z", "y", "x"), datasets=[dataset], coordinateTransformations=image),
        2,
    )


def six(level: dict[str, Any], outer: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the attributes of a 0.6 image; the spelling of references is that since dev4."""
    image: dict[str, Any] = {
        "name": "a",
        "coordinateSystems": [
            {"name": "inner", "axes": space("z", "y", "x")},
            {"name": "world", "axes": space("w", "v", "u")},
        ],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {**level, "input": {"path": "0"}, "output": {"name": "inner"}}
                ],
            }
        ],
    }
    if outer is not None:
        ends = {"input": {"name": "inner"}, "output": {"name": "world"}}
        image["coordinateTransformations"] = [{**outer, **ends}]
    return {"ome": {"version": "0.6", "multiscales": [image]}}


@given(level=straight)
def test_sequences_of_0_6(level: dict[str, Any]) -> None:
    check(six(level), 3)


@given(level=scale, outer=rotation)
def test_rotations_of_0_6(level: dict[str, Any], outer: dict[str, Any]) -> None:
    """A turned plane keeps the intrinsic dims and gets 2-D coordinates of the world."""
    check(six(level, outer), 3)


@given(level=straight, outer=straight)
def test_outer_systems_of_0_6(level: dict[str, Any], outer: dict[str, Any]) -> None:
    """Dims and positions are those of the system that the image's own transformation leads to."""
    check(six(level, outer), 3)
