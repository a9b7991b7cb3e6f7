"""One plane of a volume as a picture: by number, by place, at any level; never more is read."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from counting import CountingStore
from hfzarr.errors import TargetError
from hfzarr.faces.excerpt import plane_of
from hfzarr.faces.thumbnail import render
from stores import write_image

pytest.importorskip("PIL")


def volume(depth: int = 5, step: float = 2.0, origin: float = 10.0) -> xr.DataArray:
    """A volume whose plane i is full of i * 10, its window 0 to 254."""
    values = np.broadcast_to(np.arange(depth, dtype=np.uint8)[:, None, None] * 10, (depth, 3, 4))
    return xr.DataArray(
        values,
        dims=("z", "y", "x"),
        coords={"z": origin + step * np.arange(depth)},
        attrs={"channel_windows": [{"start": 0, "end": 254}]},
        name="image",
    )


@pytest.mark.parametrize(
    ("project", "plane"),
    [(0, 0), (3, 3), (-1, 4), (np.int64(2), 2), ("slice", 2), (10.0, 0), (15.0, 2), (15.2, 3),
     (18.9, 4), (9.1, 0), (np.float32(12), 1)],
)  # fmt: skip
def test_a_plane_is_named_by_number_or_by_place(project, plane):
    assert set(render(volume(), project=project).ravel()) == {plane * 10}
    turned = volume().isel(z=slice(None, None, -1))
    if isinstance(project, (float, np.floating)) and project != 15.0:
        assert set(render(turned, project=project).ravel()) == {plane * 10}


@pytest.mark.parametrize(
    ("project", "said"),
    [
        (5, "is no plane along 'z', which has 5: give 0 to 4, or -1 to -5"),
        (-6, "is no plane"),
        (8.9, "no place along 'z', which runs from 10 to 18"),
        (19.1, "an integer"),
        (float("nan"), "project is one of"),
        (float("inf"), "project is one of"),
        (True, "project is one of"),
        (None, "project is one of"),
    ],
)
def test_a_plane_that_is_not_there_is_refused(project, said):
    with pytest.raises(TargetError, match=said):
        render(volume(), project=project)


def test_without_a_depth_or_a_coordinate_there_is_no_such_plane():
    with pytest.raises(TargetError, match=r"a plane along 'z': there is none in \{'y': 3"):
        render(volume()[0], project=3)
    with pytest.raises(TargetError, match="'z', which has no numbers"):
        render(volume().drop_vars("z"), project=3.0)
    assert set(render(volume().drop_vars("z"), project=3).ravel()) == {30}


def test_of_a_pyramid_one_plane_of_the_level_that_serves_is_read():
    store = CountingStore(write_image(MemoryStore()))
    for target in (
        xr.open_dataset(store, engine="hfzarr"),
        xr.open_datatree(store, engine="hfzarr"),
    ):
        store.forget()
        picture = target.hfzarr.thumbnail(12, project=3)
        # Chunks are (1, 2, 16, 16): of the planes, the last two are in the second.
        assert {key.split("/c/")[1].split("/")[1] for key in store.chunks} == {"1"}
        assert {key.split("/")[0] for key in store.chunks} == {"2"}
        # Planes are 2 micrometers apart.
        np.testing.assert_array_equal(target.hfzarr.thumbnail(12, project=6.0), picture)
        assert (target.hfzarr.thumbnail(12, project=0) != picture).any()
        wanted = render(
            xr.open_dataset(store, engine="hfzarr", level=2).image.isel(z=3), project="max"
        )
        np.testing.assert_array_equal(target.hfzarr.thumbnail(None, level=2, project=3), wanted)


@given(
    fine=st.integers(1, 40), factor=st.integers(1, 5), at=st.integers(0, 39), named=st.booleans()
)
def test_a_plane_of_a_coarser_level_is_that_at_the_place_of_the_fine_one(fine, factor, at, named):
    at %= fine
    coarse = -(-fine // factor)
    whole = xr.DataArray(np.zeros(fine), dims="z")
    other = xr.DataArray(np.zeros(coarse), dims="z")
    if named:
        # Pixels that cover the same length: centres half a pixel from the edge.
        whole = whole.assign_coords(z=np.arange(fine) + 0.5)
        other = other.assign_coords(z=(np.arange(coarse) + 0.5) * factor)
    found = plane_of(other, "z", at, whole)
    assert 0 <= found < coarse
    assert plane_of(whole, "z", at, whole) == at
    assert plane_of(whole, "z", at - fine, whole) == at
    if named or fine % factor == 0:
        assert found == at // factor
