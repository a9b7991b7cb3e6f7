"""Patches of the arrays of the real stores: cut out right, and laid back to what they were."""

from __future__ import annotations

import gzip
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hfzarr
from realstores import cases, quietly
from test_realdata import SHA, name_of

#: Arrays that are larger are cut elsewhere; what these have to show is variety.
MOST_PIXELS = 2_000_000


def windows_of(path: str, sizes: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return sizes and strides that fit badly, and differ from array to array but not from run."""
    rng = np.random.default_rng(list(hashlib.sha256(path.encode()).digest()[:4]))
    size = {dim: int(rng.integers(max(1, n // 3), n + 1)) for dim, n in sizes.items()}
    stride = {dim: int(rng.integers(max(1, n // 2), n + 1)) for dim, n in size.items()}
    return size, stride


def differences(dataset: xr.Dataset, name: str, where: str) -> str | None:
    """Return what is wrong with the patches of one array, or None."""
    values = dataset[name].values
    size, stride = windows_of(where, dict(dataset.sizes))
    for edge in ("shift", "pad", "drop"):
        cut = dataset.hfzarr.patches(size, stride=stride, edge=edge, max_memory="2 MB")
        patches = cut[name].values
        for number in {0, len(patches) // 2, len(patches) - 1}:
            at = [int(cut[f"{dim}_start"][number]) for dim in dataset.sizes]
            inside = tuple(slice(i, i + n) for i, n in zip(at, size.values(), strict=True))
            wanted = values[inside]
            shown = patches[number][tuple(slice(0, n) for n in wanted.shape)]
            if not np.array_equal(shown, wanted, equal_nan=wanted.dtype.kind in "fc"):
                return f"patch {number} of {size} by {stride}, edge={edge}"
        if edge != "drop":
            back = hfzarr.stitch(cut, like=dataset)[name].values
            if not np.array_equal(back, values, equal_nan=values.dtype.kind in "fc"):
                return f"stitched from {size} by {stride}, edge={edge}"
    return None


@cases("root", sorted(SHA))
def test_patches_of_each_array(root: str, realdata: Path) -> None:
    wrong, seen = {}, 0
    for path, facts in SHA[root].items():
        if not facts["shape"] or not 0 < math.prod(facts["shape"]) <= MOST_PIXELS:
            continue
        name = name_of(path, root)
        with (
            quietly(),
            xr.open_dataset(
                realdata / root, engine="hfzarr", group=path or None, decode_cf=False
            ) as dataset,
        ):
            if len(set(dataset.variables[name].dims)) < len(facts["shape"]):
                continue  # a dimension with itself: xarray cannot select from it
            variable = dataset.variables[name]
            # Under another name, as one like its dimension would become an index.
            alone = xr.Dataset({f"{name}, cut": variable.to_base_variable()})
            wrong[path] = differences(alone, f"{name}, cut", f"{root}/{path}")
            seen += 1
    if not seen:
        pytest.skip("no array here of a size to cut")
    assert {path: said for path, said in wrong.items() if said} == {}


def fib25(realdata: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the FIB-SEM volume and its neurons, both of (z, y, x)."""
    image = pytest.importorskip("PIL.Image")
    h5py = pytest.importorskip("h5py")
    folder = realdata / "volumes" / "fib25_training2"
    planes = sorted((folder / "grayscale_maps").glob("*.png"))
    volume = np.stack([np.asarray(image.open(plane)) for plane in planes])
    with gzip.open(folder / "groundtruth.h5.gz") as packed, h5py.File(packed) as file:
        labels = np.asarray(file["stack"])
    return volume, labels


def written(path: Path, volume: np.ndarray, labels: np.ndarray) -> Path:
    """Write a volume with labels as an OME-Zarr image of two levels."""
    import zarr

    root = zarr.open_group(path, mode="w", zarr_format=3)
    neurons = root.create_group("labels").create_group("neurons")
    axes = [{"name": d, "type": "space", "unit": "nanometer"} for d in "zyx"]
    for group, data, extra in ((root, volume, {}), (neurons, labels, {"image-label": {}})):
        datasets: list[dict[str, Any]] = []
        for level in (0, 1):
            step, some = 2**level, data[:: 2**level, :: 2**level, :: 2**level]
            array = group.create_array(
                str(level), shape=some.shape, dtype=some.dtype, chunks=(32, 32, 32),
                shards=(128, 128, 128), dimension_names=list("zyx"),
            )  # fmt: skip
            array[...] = some
            datasets.append({"path": str(level), "coordinateTransformations": [
                {"type": "scale", "scale": [10.0 * step] * 3}]})  # fmt: skip
        multiscale = {"axes": axes, "datasets": datasets}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], **extra}
    root["labels"].attrs["ome"] = {"version": "0.5", "labels": ["neurons"]}
    return path


def test_training_data_from_a_real_volume_with_labels(realdata: Path, tmp_path: Path) -> None:
    volume, labels = fib25(realdata)
    assert volume.shape == labels.shape, "the labels are those of the volume"
    with quietly():
        tree = xr.open_datatree(written(tmp_path / "fib.zarr", volume, labels), engine="hfzarr")
    size = {"z": 40, "y": 40, "x": 40}
    drawn = tree.hfzarr.random_patches(
        30, size, seed=0, where="neurons", min_foreground=0.9, labels=["neurons"], levels=[0, 1]
    )
    for number, patch in enumerate(drawn.neurons.values):
        z, y, x = (int(drawn[f"{dim}_start"][number]) for dim in "zyx")
        box = (slice(z, z + 40), slice(y, y + 40), slice(x, x + 40))
        assert np.array_equal(patch, labels[box])
        assert np.array_equal(drawn.image.values[number], volume[box])
        assert (patch != 0).mean() >= 0.85  # judged by the same level, or a coarser one
        # Level 1 has every second pixel, those whose index is even.
        half = tuple(slice((i + 1) // 2, (i + 1) // 2 + 20) for i in (z, y, x))
        assert np.array_equal(drawn.image_1.values[number], volume[::2, ::2, ::2][half])
    starts = set()
    for batch in tree.hfzarr.batches(8, size, labels=["neurons"], seed=1, max_memory="200 MB"):
        for start, image, neurons in zip(
            batch["start"].tolist(), batch["image"], batch["neurons"], strict=True
        ):
            box = tuple(slice(i, i + 40) for i in start)
            assert np.array_equal(image, volume[box])
            assert np.array_equal(neurons, labels[box])
            starts.add(tuple(start))
    assert len(starts) == 6**3
