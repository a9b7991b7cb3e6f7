"""Run a model over an image of any size, patch by patch, and write the result shard by shard.

Here the model evens out the light: it takes away what a wide blur of each plane sees. Give any
OME-Zarr image::

    python examples/predict_by_patches.py hfzarr-demo/cells.ome.zarr flat.zarr
"""

import sys

import numpy as np
import xarray as xr

import hfzarr


def model(patches: np.ndarray) -> np.ndarray:
    """Take (patch, …, y, x), return the same shape in float32: put your network here."""
    values = patches.astype(np.float32)
    down, across = (blur(n) for n in values.shape[-2:])
    return values - down @ values @ across.T


def blur(n: int, width: float = 12.0) -> np.ndarray:
    """Return the matrix that blurs n pixels."""
    distance = np.arange(n)[:, None] - np.arange(n)
    spread = np.exp(-0.5 * (distance / width) ** 2)
    return (spread / spread.sum(axis=1, keepdims=True)).astype(np.float32)


def main(store: str = "hfzarr-demo/cells.ome.zarr", out: str = "flat.zarr") -> None:
    image = xr.open_dataset(store, engine="hfzarr")["image"]

    # Windows overlap by a quarter. Dims that are not named, such as the channels, stay whole.
    wanted = {"t": 1, "z": 32, "y": 128, "x": 128}
    size = {dim: min(n, image.sizes[dim]) for dim, n in wanted.items() if dim in image.dims}
    overlap = {dim: n // 4 for dim, n in size.items()}
    patches = image.to_dataset().hfzarr.patches(size, overlap=overlap, edge="shift")
    print("patches:", dict(patches["image"].sizes))

    # The model sees groups of patches, one dask task each. Nothing runs yet.
    found = xr.apply_ufunc(model, patches["image"], dask="parallelized", output_dtypes=[np.float32])
    flat = hfzarr.stitch(found, like=image, blend="hann")

    # Blocks of the result follow the shards of the image, so each task writes files of its own.
    # With the image's encoding, the new store is cut as the image is.
    print("one task writes", {dim: lengths[0] for dim, lengths in flat.chunksizes.items()})
    cut = {key: image.encoding[key] for key in ("chunks", "shards") if image.encoding.get(key)}
    flat.to_dataset(name="image").to_zarr(
        out, mode="w", encoding={"image": cut}, consolidated=False
    )
    print("wrote", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
