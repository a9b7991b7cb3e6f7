"""Find nuclei in a microscope volume, patch by patch; lay them back; compare with the labels.

The method is the oldest there is: smooth, compare with the surroundings, threshold, number what
hangs together. It needs scipy and no training (train_segmentation.py trains a model). The store is
the demo's volume of cells, made where it is missing, or any OME-Zarr volume with labels::

    python examples/microscopy.py hfzarr-demo/cells.ome.zarr --out nuclei.png
    python examples/microscopy.py mine.ome.zarr --channel DAPI --labels nuclei --level 2
"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import ndimage

import hfzarr
from hfzarr.faces.demo import run_demo
from hfzarr.faces.picture import composite, outline, resize, save_png

# All lengths are in micrometres, so that they hold at every level of the pyramid.
SMOOTH = 0.5  # finer than this is noise
AROUND = 12.0  # a nucleus is brighter than what is around it, in a box of this side
BRIGHTER = 1.6  # times as bright as its surroundings
REACH = AROUND / 2 + 4 * SMOOTH  # how far a pixel of the result sees
PATCH = 32.0
SMALLEST = 20.0  # cubic micrometres: less is dirt


def pixel_sizes(image: xr.DataArray) -> dict[str, float]:
    """How far pixels are apart, in micrometres, by dimension."""
    return {d: float(image[d][1] - image[d][0]) for d in "zyx" if image.sizes.get(d, 0) > 1}


def contrast(patches: np.ndarray, pixel: dict[str, float]) -> np.ndarray:
    """How many times as bright as its surroundings a pixel is: shape (patch, z, y, x)."""
    light = np.log(np.maximum(patches, 1).astype(np.float32))
    sigma = [0, 0] + [SMOOTH / pixel[d] for d in "yx"]
    box = [1, 1] + [2 * int(AROUND / 2 / pixel[d]) + 1 for d in "yx"]
    smooth = ndimage.gaussian_filter(light, sigma, truncate=4)
    return np.exp(smooth - ndimage.uniform_filter(light, box))


def contrast_by_patches(image: xr.DataArray) -> xr.DataArray:
    """The contrast of a whole image, lazily: no more than some patches are in memory at once."""
    # Neighbours share twice what a pixel sees. Where two patches meet, each pixel is taken from
    # the one that it lies deeper in, so the result has no seams: it is that of the whole image.
    patches = image.to_dataset(name="image").hfzarr.patches(
        {"y": PATCH, "x": PATCH}, overlap=2 * REACH, units="world", edge="shift"
    )
    print(f"{patches.sizes['patch']} patches of {dict(patches.sizes)}")
    found = xr.apply_ufunc(
        contrast,
        patches["image"],
        kwargs={"pixel": pixel_sizes(image)},
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    return hfzarr.stitch(found.rename("contrast"), like=image, blend="crop")


def number(mask: xr.DataArray, smallest: float) -> xr.DataArray:
    """Number what hangs together, without holes; what is smaller than so many voxels goes."""
    numbers, _ = ndimage.label(ndimage.binary_fill_holes(mask))
    sizes = np.bincount(numbers.ravel())
    large = sizes >= smallest
    large[0] = False
    return mask.copy(data=np.where(large, np.cumsum(large), 0)[numbers])


def matches(found: np.ndarray, wanted: np.ndarray) -> dict[int, float]:
    """The best overlap (what both cover, over what either covers) of each label that is wanted."""
    pairs = np.stack([wanted.ravel(), found.ravel()])
    (a, b), shared = np.unique(pairs[:, wanted.ravel() > 0], axis=1, return_counts=True)
    either = np.bincount(wanted.ravel())[a] + np.bincount(found.ravel())[b] - shared
    overlap = np.where(b > 0, shared / either, 0)
    return {int(label): float(overlap[a == label].max()) for label in np.unique(a)}


def draw(image: xr.DataArray, wanted: xr.DataArray, found: xr.DataArray, png: str) -> None:
    """Save the middle plane twice: with the outlines of the labels, and of what was found."""
    plane = {"z": image.sizes["z"] // 2}
    scale = max(1, 384 // image.sizes["y"])
    plain = composite(image.isel(plane))
    plain = resize(plain, *(scale * n for n in plain.shape[:2]))
    panels = []
    for labels, color in ((wanted, (255, 255, 255)), (found, (255, 160, 0))):
        panel = plain.copy()
        panel[outline(np.kron(labels.isel(plane), np.ones((scale, scale), int)))] = color
        panels.append(np.pad(panel, ((8, 8), (8, 8), (0, 0)), constant_values=64))
    save_png(np.concatenate(panels, axis=1), png)


def main(
    store: str = "hfzarr-demo/cells.ome.zarr",
    out: str = "nuclei.png",
    level: int = 1,
    channel: str = "Nuclei",
    labels: str = "nuclei",
) -> dict[int, float]:
    if Path(store).name == "cells.ome.zarr" and not Path(store).exists():
        run_demo(Path(store).parent, size="small", quiet=True)

    # A tree has the levels of the pyramid, and beside them those of the labels, on the same
    # coordinates. Level 1 is half as fine as the image itself, which is enough for nuclei.
    tree = xr.open_datatree(store, engine="hfzarr")
    image = tree[str(level)]["image"].sel(c=channel)
    wanted = tree[f"labels/{labels}/{level}"]["labels"]
    pixel = pixel_sizes(image)
    print(f"level {level}: {dict(image.sizes)}, a voxel of {tuple(pixel.values())} micrometres")

    # Lazy up to here: pixels are read when the contrast is computed, each chunk once.
    clear = contrast_by_patches(image).compute()
    found = number(clear > BRIGHTER, SMALLEST / np.prod(list(pixel.values())))

    overlaps = matches(found.values, wanted.values)
    good = sum(overlap > 0.5 for overlap in overlaps.values())
    both = int(((found > 0) & (wanted > 0)).sum())
    dice = 2 * both / int((found > 0).sum() + (wanted > 0).sum())
    print(f"found {int(found.max())} nuclei; {len(overlaps)} are labelled, and {good} match")
    print(f"Dice of their voxels: {dice:.3f}")
    draw(image.load(), wanted, found, out)
    print(f"saved {out}: outlines of the labels (left), of what was found (right)")
    return overlaps


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("store", nargs="?", default="hfzarr-demo/cells.ome.zarr")
    options.add_argument("--out", default="nuclei.png", help="where the picture goes")
    options.add_argument("--level", type=int, default=1, help="0 is the finest")
    options.add_argument("--channel", default="Nuclei", help="name of the channel that shows them")
    options.add_argument("--labels", default="nuclei", help="name of the labels to compare with")
    main(**vars(options.parse_args()))
