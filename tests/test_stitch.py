"""Stitching: patches laid back on the grid they were cut from."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from xarray.backends.common import BackendArray
from xarray.core import indexing

import hfzarr
from hfzarr.errors import TargetError
from hfzarr.plan.stitch import Mosaic, block_lengths, forms_grid, hann, uncovered
from hfzarr.plan.windows import WindowList

BLENDS = ["crop", "mean", "hann"]
DTYPES = ["u1", "i2", "i8", "u8", ">i4", ">i8", ">u2", "f2", "f4", "f8", ">f4", "c8"]
NAMES = ("z", "y", "x")


# Patches by hand


def axis_starts(length: int, size: int, stride: int, edge: str) -> list[int]:
    if edge == "pad":
        return list(range(0, max(length - size, 0) + stride, stride))[
            : -(-max(length - size, 0) // stride) + 1
        ]
    starts = list(range(0, length - size + 1, stride))
    if edge == "shift" and starts[-1] + size < length:
        starts.append(length - size)
    return starts


def cut_out(values: np.ndarray, starts: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Windows over the last axes; what sticks out is left 0."""
    lead, lengths = values.shape[: -len(size)], values.shape[-len(size) :]
    out = np.zeros((len(starts), *lead, *size), values.dtype)
    for patch, start in zip(out, starts.tolist(), strict=True):
        low = [max(s, 0) for s in start]
        high = [min(s + n, length) for s, n, length in zip(start, size, lengths, strict=True)]
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        place = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        patch[(..., *place)] = values[(..., *source)]
    return out


def labeled(patches, starts, size, lengths, *, dims=None, extra=(), name="a"):
    """A DataArray of patches with the coordinates that say where they belong."""
    dims = dims or NAMES[-len(size) :]
    coords = {
        f"{dim}_start": ("patch", starts[:, i], {"length": lengths[i], "size": size[i]})
        for i, dim in enumerate(dims)
    }
    return xr.DataArray(patches, dims=("patch", *extra, *dims), coords=coords, name=name)


def grid_starts(lengths, size, stride, edge) -> np.ndarray:
    axes = [axis_starts(*one, edge) for one in zip(lengths, size, stride, strict=True)]
    return np.array(list(itertools.product(*axes)))


def target(lengths, chunks=None, dims=None, name="a"):
    """What to stitch onto: its values are never read."""
    dims = dims or NAMES[-len(lengths) :]
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(Unreadable(lengths)))
    if chunks is not None:
        variable.encoding = {"chunks": chunks}
    return xr.Dataset({name: variable})


class Unreadable(BackendArray):
    def __init__(self, shape) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype("u1")

    def __getitem__(self, key):
        raise RuntimeError("the values of `like` were read")


def same_bits(result, wanted) -> bool:
    result = np.asarray(result)
    return (
        result.dtype == wanted.dtype
        and result.shape == wanted.shape
        and result.tobytes() == wanted.tobytes()
    )


# An independent reference: pixel by pixel


def reference(patches, starts, size, lengths, blend):
    """Blend one pixel after the other, with Python's numbers."""
    out = np.full(lengths, np.nan)
    for pixel in np.ndindex(*lengths):
        found = []
        for number, start in enumerate(starts.tolist()):
            inside = [x - s for x, s in zip(pixel, start, strict=True)]
            if all(0 <= i < n for i, n in zip(inside, size, strict=True)):
                away = [i - (n - 1) / 2 for i, n in zip(inside, size, strict=True)]
                weights = [
                    np.sin(np.pi * (i + 0.5) / n) ** 2 for i, n in zip(inside, size, strict=True)
                ]
                value = patches[(number, *inside)]
                found.append((sum(d * d for d in away), start, number, value, np.prod(weights)))
        if not found:
            continue
        if blend == "crop":
            out[pixel] = min(found, key=lambda one: one[:3])[3]
        else:
            weight = np.array([one[4] if blend == "hann" else 1.0 for one in found])
            out[pixel] = (weight * [float(one[3]) for one in found]).sum() / weight.sum()
    return out


# Strategies


@st.composite
def layouts(draw, edges=("shift", "pad", "drop")):
    """Lengths, size, starts and block lengths of a regular grid."""
    rank = draw(st.integers(1, 3))
    longest = {1: 40, 2: 14, 3: 8}[rank]
    edge = draw(st.sampled_from(edges))
    lengths = tuple(draw(st.integers(1, longest)) for _ in range(rank))
    size = tuple(draw(st.integers(1, longest if edge == "pad" else length)) for length in lengths)
    # A stride beyond the size leaves gaps, which only edge="drop" is asked for here.
    stride = tuple(draw(st.integers(1, n + 2 if edge == "drop" else n)) for n in size)
    blocks = tuple(draw(st.integers(1, length + 1)) for length in lengths)
    return lengths, size, grid_starts(lengths, size, stride, edge), blocks


@st.composite
def scattered(draw):
    """The same with windows anywhere, some more than once, some sticking out."""
    rank = draw(st.integers(1, 3))
    longest = {1: 30, 2: 10, 3: 6}[rank]
    lengths = tuple(draw(st.integers(1, longest)) for _ in range(rank))
    size = tuple(draw(st.integers(1, longest)) for _ in lengths)
    window = st.tuples(
        *(st.integers(1 - n, length - 1) for n, length in zip(size, lengths, strict=True))
    )
    starts = np.array(draw(st.lists(window, min_size=1, max_size=8)))
    blocks = tuple(draw(st.integers(1, length)) for length in lengths)
    return lengths, size, starts, blocks


def some_values(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    raw = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    # Any bits: infinities, NaNs with a payload, negative zeros and subnormal numbers among them.
    values = np.ascontiguousarray(raw).view(dtype)[..., 0]
    if dtype.kind == "f":
        odd = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, 1.0], dtype)
        values = np.where(rng.random(shape) < 0.3, rng.choice(odd, shape), values)
    return values.astype(dtype)


# The inverse of patches


@given(layouts(edges=("shift", "pad")), st.sampled_from(DTYPES), st.sampled_from(BLENDS), st.data())
def test_stitched_patches_are_the_array_they_were_cut_from(layout, dtype, blend, data):
    lengths, size, starts, blocks = layout
    values = some_values(dtype, lengths, data.draw(st.integers(0, 9)))
    order = np.array(data.draw(st.permutations(range(len(starts)))))
    patches = cut_out(values, starts, size)[order]
    if data.draw(st.booleans()):
        patches = da.from_array(patches, chunks=data.draw(st.integers(1, len(order))))
    predictions = labeled(patches, starts[order], size, lengths)
    stitched = hfzarr.stitch(predictions, target(lengths, blocks), blend)
    assert stitched.dims == tuple(NAMES[-len(lengths) :])
    assert "uncovered" not in stitched.attrs
    assert same_bits(stitched.values, values)


@given(st.one_of(layouts(), scattered()), st.sampled_from(BLENDS), st.integers(0, 99))
def test_blends_are_those_of_a_slow_reference(layout, blend, seed):
    lengths, size, starts, blocks = layout
    patches = np.random.default_rng(seed).normal(size=(len(starts), *size))
    predictions = labeled(patches, starts, size, lengths)
    stitched = hfzarr.stitch(predictions, target(lengths, blocks), blend)
    wanted = reference(patches, starts, size, lengths, blend)
    np.testing.assert_allclose(stitched.values, wanted, rtol=1e-12, atol=1e-12)
    assert stitched.attrs.get("uncovered", 0) == np.isnan(wanted).sum()


@given(scattered(), st.sampled_from(["mean", "hann"]), st.sampled_from(["u1", "i4", "i8"]))
def test_means_of_integers_are_rounded(layout, blend, dtype):
    lengths, size, starts, blocks = layout
    shape = (len(starts), *size)
    patches = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    predictions = labeled(patches, starts, size, lengths)
    stitched = hfzarr.stitch(predictions, target(lengths, blocks), blend)
    wanted = reference(patches, starts, size, lengths, blend)
    assert stitched.dtype == dtype
    covered = ~np.isnan(wanted)
    assert (np.abs(stitched.values - wanted)[covered] <= 0.5 + 1e-9).all()
    assert not stitched.values[~covered].any()


@given(st.one_of(layouts(), scattered()), st.sampled_from(BLENDS), st.data())
def test_neither_chunks_nor_blocks_nor_order_change_a_bit(layout, blend, data):
    lengths, size, starts, blocks = layout
    # Where two patches lie at the same place, their order counts.
    _, once = np.unique(starts, axis=0, return_index=True)
    starts = starts[np.sort(once)]
    patches = np.random.default_rng(2).normal(size=(len(starts), *size)).astype("f4")
    plain = hfzarr.stitch(labeled(patches, starts, size, lengths), target(lengths), blend)
    order = np.array(data.draw(st.permutations(range(len(starts)))))
    cuts = (data.draw(st.integers(1, len(starts))), *(data.draw(st.integers(1, n)) for n in size))
    other = da.from_array(patches[order], chunks=cuts)
    predictions = labeled(other, starts[order], size, lengths)
    assert same_bits(hfzarr.stitch(predictions, target(lengths, blocks), blend), plain.values)


# Values


def two(a, b, *, dtype="f8"):
    """Two patches over the same pixels."""
    patches = np.array([a, b]).astype(dtype)
    length = patches.shape[1]
    return labeled(patches, np.array([[0], [0]]), (length,), (length,)), target((length,))


@pytest.mark.parametrize("blend", ["mean", "hann"])
def test_nan_and_infinity(blend):
    inf, nan = np.inf, np.nan
    predictions, like = two([nan, 1, inf, 1, inf, -inf], [1, nan, 1, inf, -inf, -inf])
    wanted = [nan, nan, inf, inf, nan, -inf]
    np.testing.assert_array_equal(hfzarr.stitch(predictions, like, blend), wanted)


@pytest.mark.parametrize(
    ("dtype", "a", "b", "mean"),
    [
        ("u1", 1, 2, 2), ("u1", 2, 3, 2), ("u1", 255, 0, 128), ("i2", -3, -2, -2),
        ("i8", 2**53 + 1, 2**53 + 3, 2**53 + 2),
        ("i8", 2**62 + 1, 2**62 + 2, 2**62 + 2),
        ("i8", 2**62 + 2, 2**62 + 3, 2**62 + 2), ("u8", 2**64 - 1, 2**64 - 3, 2**64 - 2),
        ("i8", -(2**63), 2**62, -(2**61)), ("u8", 0, 2**63, 2**62),
        ("i8", -(2**53) - 3, -(2**53) - 1, -(2**53) - 2), (">i8", 7, 9, 8),
    ],
)  # fmt: skip
def test_integers_beyond_floats(dtype, a, b, mean):
    for one, other in ((a, b), (b, a)):
        patches = np.array([[one], [other]], dtype)
        predictions = labeled(patches, np.array([[0], [0]]), (1,), (1,))
        result = hfzarr.stitch(predictions, target((1,)), "mean")
        assert result.dtype == dtype
        assert int(result[0]) == mean


def test_crop_takes_the_nearest_centre_then_the_lower_start_then_the_first():
    starts = np.array([[4], [0], [2], [2]])
    patches = np.repeat([[4], [0], [2], [9]], 4, axis=1)
    predictions = labeled(patches, starts, (4,), (8,))
    assert hfzarr.stitch(predictions, target((8,))).values.tolist() == [0, 0, 0, 2, 2, 4, 4, 4]


def test_a_float32_mean_is_computed_in_float64():
    predictions, like = two([16777216.0], [3.0], dtype="f4")
    third = labeled(np.array([[1.0]], "f4"), np.array([[0]]), (1,), (1,))
    every = xr.concat([predictions, third], "patch")
    assert hfzarr.stitch(every, like, "mean").values == np.float32((16777216.0 + 3.0 + 1.0) / 3)


@pytest.mark.parametrize("order", [("patch", "y", "x"), ("x", "patch", "y")])
@pytest.mark.parametrize("coords", [["y_start", "x_start"], ["x_start", "y_start"]])
def test_ties_go_by_the_first_dim_of_the_grid(order, coords):
    patches = np.array([np.full((2, 2), 1), np.full((2, 2), 2)])
    predictions = labeled(patches, np.array([[1, 0], [0, 1]]), (2, 2), (3, 3))
    found = {name: predictions.coords[name] for name in coords}
    predictions = predictions.drop_vars(coords).assign_coords(found).transpose(*order)
    for dims, wanted in ((("y", "x"), 2), (("x", "y"), 1)):
        assert hfzarr.stitch(predictions, target((3, 3), dims=dims)).sel(y=1, x=1) == wanted


@pytest.mark.parametrize("dtype", ["f4", "u1"])
@pytest.mark.parametrize("scattered", [False, True])
def test_a_block_of_many_slabs(dtype, scattered):
    lengths, size = (700, 320), (300, 300)
    starts = grid_starts(lengths, size, (90, 20), "shift")
    if scattered:
        starts = starts + np.random.default_rng(1).integers(-9, 10, starts.shape)
    patches = np.random.default_rng(0).integers(0, 200, (len(starts), *size)).astype(dtype)
    sums, total = np.zeros((800, 500)), np.zeros((800, 500))
    window = np.outer(hann(300), hann(300))
    for patch, (y, x) in zip(patches, starts + 50, strict=True):
        sums[y : y + 300, x : x + 300] += window * patch
        total[y : y + 300, x : x + 300] += window
    wanted = (sums / np.where(total == 0, np.nan, total))[50:750, 50:370]
    result = hfzarr.stitch(labeled(patches, starts, size, lengths), target(lengths), "hann").values
    covered = ~np.isnan(wanted)
    tolerance = 0.5 + 1e-9 if dtype == "u1" else 1e-4
    assert np.abs(result - wanted)[covered].max() <= tolerance
    assert (np.nan_to_num(result[~covered]) == 0).all()


@given(st.integers(1, 40))
def test_hann_is_positive_symmetric_and_adds_up(size):
    window = hann(size)
    assert (window > 0).all()
    np.testing.assert_allclose(window, window[::-1], atol=1e-15)
    if size % 2 == 0:
        np.testing.assert_allclose(window[: size // 2] + window[size // 2 :], 1)


@pytest.mark.parametrize("blend", ["mean", "hann"])
@pytest.mark.parametrize("dtype", ["?", "U3", "M8[ns]", "O"])
def test_there_is_no_mean_of_these(blend, dtype):
    predictions, like = two([0, 0], [0, 0], dtype=dtype)
    with pytest.raises(TargetError, match="blend='crop'"):
        hfzarr.stitch(predictions, like, blend)


@pytest.mark.parametrize(
    ("values", "fill"),
    [
        (np.array([True, True]), False), (np.array(["ab", "c"]), ""),
        (np.array([1, 2], "M8[s]"), np.datetime64("NaT", "s")), (np.array([1, 2], "u2"), 0),
        (np.array([1, 2], "m8[s]"), np.timedelta64("NaT", "s")), (np.array([1, 2], "f2"), np.nan),
        (np.array([1, 2], "c8"), np.nan),
        (np.array(["a", "b"], "O"), np.nan),
    ],
)  # fmt: skip
def test_pixels_without_a_patch_are_filled_and_counted(values, fill):
    predictions = labeled(values[None], np.array([[1]]), (2,), (5,))
    result = hfzarr.stitch(predictions, target((5,), (2,)))
    assert result.dtype == values.dtype
    np.testing.assert_array_equal(result[1:3].values, values)
    # As text, NaN equals NaN in an object array, too.
    assert [str(one) for one in result[[0, 3, 4]].values] == [
        str(np.array(fill, values.dtype)[()])
    ] * 3
    assert result.attrs["uncovered"] == 3


def test_strings_of_any_length_are_cropped():
    dtypes = pytest.importorskip("numpy.dtypes")
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("needs NumPy 2")
    values = np.array(["abc", "d"], dtypes.StringDType())
    predictions = labeled(values[None], np.array([[1]]), (2,), (4,))
    assert hfzarr.stitch(predictions, target((4,))).values.tolist() == ["", "abc", "d", ""]


def test_fill_values():
    predictions = labeled(np.ones((1, 2), "u1"), np.array([[1]]), (2,), (4,))
    like = target((4,))
    assert hfzarr.stitch(predictions, like, fill_value=7).values.tolist() == [7, 1, 1, 7]
    both = xr.Dataset({"a": predictions, "b": predictions.astype("f4")})
    result = hfzarr.stitch(both, like, fill_value={"a": 3})
    assert result.a.values.tolist() == [3, 1, 1, 3]
    np.testing.assert_array_equal(result.b, [np.nan, 1, 1, np.nan])
    for unfit in (np.nan, 256, -1, 0.5, "x", [1, 2]):
        with pytest.raises(TargetError, match="does not fit"):
            hfzarr.stitch(predictions, like, fill_value=unfit)


# Names, dims and coordinates


def image_patches(**kwargs):
    """Patches of (c, y, x) with coordinates, and the Dataset they were cut from."""
    values = np.arange(2 * 10 * 12, dtype="i4").reshape(2, 10, 12)
    dataset = xr.Dataset(
        {"raw": (("c", "y", "x"), values, {"long_name": "counts"})},
        coords={
            "c": ["red", "green"],
            "y": ("y", np.arange(10) * 0.5, {"units": "m"}),
            "x": np.arange(12) * 0.25 + 3,
            "area": (("y", "x"), np.ones((10, 12))),
            "gain": ("c", [1.0, 2.0]),
            "spatial_ref": 0,
        },
        attrs={"title": "an image"},
    )
    starts = grid_starts((10, 12), (4, 4), (3, 4), "shift")
    raw = labeled(cut_out(values, starts, (4, 4)), starts, (4, 4), (10, 12), extra="c")
    patches = xr.Dataset({"raw": raw.assign_attrs(long_name="counts")}, attrs={"title": "an image"})
    patches = patches.assign_coords(
        patch=np.arange(len(starts)), y_origin=("patch", starts[:, 0] * 0.5), c=["red", "green"],
        gain=("c", [1.0, 2.0]), y=np.arange(4) * 0.5, x=np.arange(4) * 0.25,
    )  # fmt: skip
    return patches, dataset


def test_a_dataset_comes_back_as_it_was():
    patches, dataset = image_patches()
    result = hfzarr.stitch(patches, dataset)
    assert result.raw.chunks is not None
    xr.testing.assert_identical(result, dataset)


def test_a_data_array_keeps_its_name_and_attrs():
    patches, dataset = image_patches()
    result = hfzarr.stitch(patches.raw, dataset.raw)
    assert isinstance(result, xr.DataArray)
    xr.testing.assert_identical(result, dataset.raw)
    unnamed = hfzarr.stitch(patches.raw.rename(None), dataset)
    assert unnamed.name is None
    assert hfzarr.stitch(patches.raw.rename("x"), dataset).name == "x"


@pytest.mark.parametrize("order", list(itertools.permutations(("patch", "c", "y", "x"))))
@pytest.mark.parametrize("blend", BLENDS)
def test_dims_in_any_order(order, blend):
    patches, dataset = image_patches()
    chunked = patches.transpose(*order).chunk(patch=3, c=1, y=3)
    result = hfzarr.stitch(chunked, dataset, blend, chunks={"y": 4, "x": 5})
    left = tuple(dim for dim in order if dim != "patch")
    assert result.raw.dims == left
    assert result.raw.chunksizes == {"c": (1, 1), "y": (4, 4, 2), "x": (5, 5, 2)}
    xr.testing.assert_identical(result, dataset.assign(raw=dataset.raw.transpose(*left)))


def test_dims_that_come_and_go():
    """A model that drops the channels and gives classes."""
    patches, dataset = image_patches()
    scores = xr.concat(
        [patches.raw.isel(c=0, drop=True), patches.raw.isel(c=1, drop=True)], "class"
    )
    scores = scores.transpose("patch", "y", "x", "class").assign_coords({"class": ["cell", "rest"]})
    result = hfzarr.stitch(scores, dataset, "hann")
    assert result.dims == ("y", "x", "class")
    assert set(result.coords) == {"y", "x", "area", "spatial_ref", "class"}
    assert result["class"].values.tolist() == ["cell", "rest"]
    xr.testing.assert_identical(result.y, dataset.y.drop_vars("gain", errors="ignore"))
    np.testing.assert_array_equal(result.isel({"class": 1}), dataset.raw.isel(c=1))


def test_variables_without_patches_pass_through():
    patches, dataset = image_patches()
    patches["spectrum"] = ("c", [1.0, 2.0], {"units": "nm"})
    patches["version"] = 3
    result = hfzarr.stitch(patches, dataset)
    assert list(result.data_vars) == ["raw", "spectrum", "version"]
    xr.testing.assert_identical(result.spectrum.variable, patches.spectrum.variable)
    assert result.version.item() == 3


def test_variables_on_grids_of_their_own():
    """An image and a coarser one, cut at the same places of the world."""
    fine, coarse = np.arange(16.0), np.arange(8.0) * 10
    starts = np.array([[0], [4], [8], [12]])
    patches = xr.Dataset(
        {
            "a": labeled(cut_out(fine, starts, (4,)), starts, (4,), (16,)),
            "b": labeled(
                cut_out(coarse, starts // 2, (2,)), starts // 2, (2,), (8,), dims=("x_2",)
            ),
        }
    )
    like = xr.Dataset({"a": ("x", fine), "b": ("x_2", coarse)}, coords={"x_2": np.arange(8) * 2.0})
    xr.testing.assert_identical(hfzarr.stitch(patches, like), like)
    with pytest.raises(TargetError, match="'x_2', but like has only the dims x"):
        hfzarr.stitch(patches, like[["a"]])
    alone = patches.a.assign_coords(patches.b.coords)
    with pytest.raises(TargetError, match=r"drop_vars\('x_2_start'\)"):
        hfzarr.stitch(alone, like)


# The graph


def test_nothing_is_read_or_computed_while_the_graph_is_built():
    patches, _ = image_patches()

    def explode(block):
        raise RuntimeError("a prediction was computed")

    raw = patches.raw.chunk(patch=2)
    exploding = raw.copy(data=raw.data.map_blocks(explode, meta=np.empty((0,) * 4, "i4")))
    like = target((10, 12), (4, 4), dims=("y", "x"))
    for blend in BLENDS:
        result = hfzarr.stitch(exploding, like, blend)
        assert result.data.numblocks == (1, 3, 3)
        assert repr(result)
        with pytest.raises(RuntimeError, match="a prediction"):
            result.compute(scheduler="synchronous")


def test_predictions_of_a_store_stay_there():
    starts = np.array([[0], [2]])
    predictions = labeled(np.zeros((2, 2)), starts, (2,), (4,)).copy(
        data=indexing.LazilyIndexedArray(Unreadable((2, 2)))
    )
    with pytest.raises(RuntimeError, match="were read"):
        hfzarr.stitch(predictions, target((4,))).compute()


def test_the_graph_grows_with_blocks_and_chunks_and_not_with_patches():
    def size(copies, blocks, chunks):
        starts = np.repeat(np.arange(0, 1000, 10), copies)[:, None]
        data = da.zeros((len(starts), 10), chunks=(len(starts) // chunks, 10), dtype="u1")
        predictions = labeled(data, starts, (10,), (1000,))
        stitched = hfzarr.stitch(predictions, target((1000,), (1000 // blocks,))).data
        layer = dict(stitched.dask.layers[stitched.name])
        needed = stitched.dask.get_all_dependencies()
        needs = sum(len(needed[stitched.name, block]) for block in range(blocks))
        return len(layer), needs, len(pickle.dumps(layer))

    few, many = size(1, 10, 5), size(100, 10, 5)
    assert few[:2] == many[:2]
    assert few[0] == 10 + 5
    # Each block needs one chunk, and where the patches of that chunk begin.
    assert many[1] == 10 * 2
    # Four bytes for each start, and no task or key for it.
    assert many[2] - few[2] < 9_900 * 4.5
    assert size(1, 20, 5)[0] == 20 + 5


def test_a_block_needs_only_the_chunks_that_overlap_it():
    starts = np.arange(0, 100, 10)[:, None]
    data = da.from_array(np.arange(100).reshape(10, 10), chunks=(1, 10), name="source")
    result = hfzarr.stitch(labeled(data, starts, (10,), (100,)), target((100,), (25,)))
    needs = result.data.dask.get_all_dependencies()
    found = [
        sorted(key[1] for key in needs[(result.data.name, block)] if key[0] == "source")
        for block in range(4)
    ]
    assert found == [[0, 1, 2], [2, 3, 4], [5, 6, 7], [7, 8, 9]]
    part = result[30:40]
    assert part.values.tolist() == list(range(30, 40))


def test_names_are_the_same_for_the_same():
    patches, dataset = image_patches()
    chunked = patches.raw.chunk(patch=3).astype("f4")
    tokens = {
        name: hfzarr.stitch(chunked, dataset, **options).data.name
        for name, options in {
            "crop": {}, "again": {}, "mean": {"blend": "mean"}, "fill": {"fill_value": 1},
            "blocks": {"chunks": {"y": 3}},
        }.items()
    }  # fmt: skip
    moved = chunked.assign_coords(y_start=chunked.y_start[::-1].variable)
    tokens["starts"] = hfzarr.stitch(moved, dataset).data.name
    assert tokens.pop("again") == tokens["crop"]
    assert len(set(tokens.values())) == len(tokens)
    assert tokenize(hfzarr.stitch(chunked, dataset)) == tokenize(hfzarr.stitch(chunked, dataset))


def test_blocks_follow_the_shards(tmp_path):
    zarr = pytest.importorskip("zarr")
    store = zarr.storage.MemoryStore()
    group = zarr.create_group(store)
    group.create_array(
        "raw", shape=(20, 30), chunks=(4, 5), shards=(8, 15), dtype="u1", dimension_names=("y", "x")
    )
    group.create_array(
        "labels", shape=(20, 30), chunks=(10, 10), dtype="u1", dimension_names=("y", "x")
    )
    starts = grid_starts((20, 30), (8, 8), (6, 6), "shift")
    one = labeled(np.zeros((len(starts), 8, 8), "u1"), starts, (8, 8), (20, 30))
    predictions = xr.Dataset({"raw": one, "labels": one, "other": one})
    for chunks in (None, {}):
        like = xr.open_dataset(store, engine="hfzarr", chunks=chunks, consolidated=False)
        result = hfzarr.stitch(predictions, like)
        assert result.raw.chunks == ((8, 8, 4), (15, 15))
        assert result.labels.chunks == ((10, 10), (10, 10, 10))
        assert result.other.chunks in (result.raw.chunks, result.labels.chunks)
        turned = hfzarr.stitch(predictions, like.transpose("x", "y"))
        assert turned.raw.chunks == result.raw.chunks
    irregular = like.drop_encoding().chunk(y=(3, 17), x=30)
    assert hfzarr.stitch(predictions, irregular).raw.chunks == ((3, 17), (30,))
    assert hfzarr.stitch(predictions, like.drop_encoding().load()).raw.chunks == ((20,), (30,))


def test_blocks_without_a_model_are_bounded():
    assert block_lengths((10, 1000, 1000), (None,) * 3, pixels=100_000, limit=999) == (
        (10,), (100,) * 10, (100,) * 10,
    )  # fmt: skip
    assert block_lengths((100, 64, 64), (1, 32, 32), pixels=1, limit=60)[0] == (8,) * 12 + (4,)
    assert block_lengths((100,), ((60, 40),), pixels=1, limit=1) == ((60, 40),)


def test_the_plan_pickles_small():
    windows = WindowList(lengths=(100,), size=(10,), origins=np.arange(90)[:, None])
    assert len(pickle.dumps(Mosaic(windows=windows, blocks=((50, 50),), parts=(90,)))) < 2000


@given(scattered())
def test_uncovered_pixels_are_counted(layout):
    lengths, size, starts, _ = layout
    covered = np.zeros(lengths, bool)
    for start in starts.tolist():
        covered[
            tuple(slice(max(s, 0), max(s + n, 0)) for s, n in zip(start, size, strict=True))
        ] = True
    windows = WindowList(lengths=lengths, size=size, origins=starts)
    assert uncovered(windows) == (~covered).sum()
    combinations = len(list(itertools.product(*map(set, starts.T.tolist()))))
    once = len({tuple(start) for start in starts.tolist()})
    assert forms_grid(windows) == (combinations == once == len(starts))


def test_a_distributed_cluster_gives_the_same():
    distributed = pytest.importorskip("distributed")
    values = np.random.default_rng(0).normal(size=(40, 50)).astype("f4")
    starts = grid_starts((40, 50), (16, 16), (8, 8), "shift")
    patches = da.from_array(cut_out(values, starts, (16, 16)), chunks=(7, 16, 16))
    predictions = labeled(patches, starts, (16, 16), (40, 50))
    results = [hfzarr.stitch(predictions, target((40, 50), (16, 25)), blend) for blend in BLENDS]
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": 1.1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        for result in results:
            assert same_bits(result.compute().values, values)


def test_importing_it_brings_no_dask():
    code = (
        "import sys, xarray; before = set(sys.modules); import hfzarr; hfzarr.stitch; "
        "print({*sys.modules} - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'dask" not in done.stdout
    assert "hfzarr.faces.stitch" in done.stdout


# What is refused


def lines(**changes):
    """Patches over (8,) and what they were cut from."""
    starts = np.array([[0], [4]])
    predictions = labeled(np.zeros((2, 4)), starts, (4,), (8,)).to_dataset()
    return predictions, target((8,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.isel(patch=0), ["dim 'patch'"]),
        (lambda p: p.rename(patch="sample"), ["dim 'patch'", "sample"]),
        (lambda p: p.isel(patch=slice(0)), ["length 0"]),
        (lambda p: p.drop_vars("x_start"), ["'x_start'", "assign_coords"]),
        (lambda p: p.isel(x=slice(3)), ["4 pixels", "have 3", "pad or resize"]),
        (lambda p: p.rename(x="col"), ["'x_start'", "drop_vars"]),
        (lambda p: p.rename(x="u", x_start="u_start"), ["'u'", "like has only the dims x"]),
        (lambda p: p.assign_coords(x_start=("patch", [0.0, 4.0])), ["integers", "float64"]),
        (lambda p: p.assign_coords(x_start=("x", [0, 1, 2, 3])), ["along 'patch'", "along x"]),
        (lambda p: p.assign_coords(x_start=("patch", [0, 8])), ["8 pixels", "from 0 to 8"]),
        (lambda p: p.assign_coords(x_start=("patch", [-4, 0])), ["8 pixels", "from -4 to 0"]),
        (lambda p: p.assign(score=("patch", [1.0, 2.0])), ["'score'", "drop_vars"]),
        (lambda p: p.assign(kernel=("x", np.ones(4))), ["'kernel'", "drop_vars"]),
        (lambda p: "patches.zarr", ["predictions is", "not str"]),
    ],
)  # fmt: skip
def test_predictions_that_do_not_fit(change, words):
    predictions, like = lines()
    with pytest.raises(TargetError) as caught:
        hfzarr.stitch(change(predictions), like)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_model_that_does_not_fit():
    predictions, like = lines()
    with pytest.raises(TargetError, match=r"cut from 8 pixels along 'x', but like has 9"):
        hfzarr.stitch(predictions, target((9,)))
    with pytest.raises(TargetError, match=r"like is a Dataset or a DataArray, not ndarray"):
        hfzarr.stitch(predictions, np.zeros(8))
    with pytest.raises(TargetError, match=r"'crop' or 'mean' or 'hann', not 'gauss'"):
        hfzarr.stitch(predictions, like, "gauss")
    for chunks in ({"x": 0}, {"x": 2.5}, {"patch": 1}):
        with pytest.raises(TargetError, match="wanted chunks"):
            hfzarr.stitch(predictions, like, chunks=chunks)


def test_attrs_of_the_starts_are_not_needed():
    predictions, like = lines()
    predictions.x_start.attrs.clear()
    assert hfzarr.stitch(predictions, like).a.shape == (8,)


def test_other_coordinates_along_patch_may_end_in_start():
    predictions, like = lines()
    times = np.array(["2020-01-01", "2020-01-02"], "M8[ns]")
    stitched = hfzarr.stitch(predictions.assign_coords(scan_start=("patch", times)), like)
    assert list(stitched.coords) == []
