"""Train a small model to find nuclei, from a stream of patches; predict all of them and stitch.

It trains on the left half of the image and is scored on the right half, which it never saw. With
torch the model is a small convolutional network, without torch a logistic regression on a few
smoothed copies of the channels. The demo's small volume is made where it is wanted and missing::

    python examples/train_segmentation.py hfzarr-demo/cells.ome.zarr nuclei.zarr --epochs 6
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import hfzarr
from hfzarr.faces.demo import run_demo
from hfzarr.faces.picture import composite, outline, resize, save_png

LEVEL = 1  # pixels of half a micrometre are fine enough for nuclei
SIZE = {"z": 8, "y": 48, "x": 48}


class Network:
    """Four layers of convolution, plane by plane."""

    kind = "torch"

    def __init__(self, channels: int) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        # dask predicts on as many threads as there are cores: more would get in their way.
        torch.set_num_threads(1)
        self.torch = torch
        self.net = nn.Sequential(
            nn.Conv2d(channels, 12, 3, padding=1), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=2, dilation=2), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=4, dilation=4), nn.ReLU(),
            nn.Conv2d(12, 1, 1),
        )  # fmt: skip
        self.loss = nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)

    def train(self, batch: dict) -> float:
        wanted = (batch["nuclei"].long() > 0).float()
        loss = self.loss(self.logits(batch["image"].float()), wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def logits(self, counts: Any) -> Any:
        patches, _, planes, *_ = counts.shape
        flat = counts.transpose(1, 2).flatten(0, 1)  # (patch, c, z, y, x) to (patch z, c, y, x)
        return self.net(self.torch.log1p(flat / 200))[:, 0].unflatten(0, (patches, planes))

    def predict(self, image: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode():
            counts = self.torch.from_numpy(image.astype(np.float32))
            return self.logits(counts).sigmoid().numpy()


class Regression:
    """Logistic regression on each channel, smoothed in three widths."""

    kind = "numpy"

    def __init__(self, channels: int) -> None:
        self.weights = np.zeros(3 * channels + 1, np.float32)

    @staticmethod
    def features(image: np.ndarray) -> np.ndarray:
        """One row of numbers for each voxel: shape (voxels, features)."""
        copies = [np.log1p(image.astype(np.float32) / 200)]
        for step in (1, 2):
            smooth = copies[-1]
            for axis in (-2, -1):
                pad = [(step, step) if a == axis % 5 else (0, 0) for a in range(5)]
                wide = np.pad(smooth, pad, mode="edge")
                n = smooth.shape[axis]
                smooth = sum(wide.take(range(i, i + n), axis) for i in (0, step, 2 * step)) / 3
            copies.append(smooth)
        stacked = np.moveaxis(np.concatenate(copies, axis=1), 1, -1)
        flat = stacked.reshape(-1, stacked.shape[-1]) - 1
        return np.concatenate([flat, np.ones_like(flat[:, :1])], axis=1)

    def train(self, batch: dict) -> float:
        rows, wanted = self.features(batch["image"]), batch["nuclei"].reshape(-1) > 0
        guess = 1 / (1 + np.exp(-rows @ self.weights))
        # A step of Newton's method: this has so few weights that it costs nothing.
        curve = (rows * (guess * (1 - guess))[:, None]).T @ rows / len(rows)
        slope = rows.T @ (wanted - guess) / len(rows)
        self.weights += 0.3 * np.linalg.solve(curve + 0.01 * np.eye(len(curve)), slope)
        return float(-np.log(np.where(wanted, guess, 1 - guess) + 1e-7).mean())

    def predict(self, image: np.ndarray) -> np.ndarray:
        guess = 1 / (1 + np.exp(-self.features(image) @ self.weights))
        return guess.reshape(image.shape[0], *image.shape[2:]).astype(np.float32)


def train(tree: xr.DataTree, model: Network | Regression, epochs: int) -> None:
    # 64 windows around nuclei; each comes once in an epoch, in another order every time.
    batches = tree.hfzarr.batches(
        8, SIZE, n=64, where="nuclei", level=LEVEL, labels=["nuclei"], seed=0, to=model.kind
    )
    for epoch in range(epochs):
        losses = [model.train(batch) for batch in batches]
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}")


def predict(tree: xr.DataTree, model: Network | Regression) -> xr.DataArray:
    # All windows this time: a third of each is shared with the next, the last ones move inside.
    patches = tree.hfzarr.patches(SIZE, level=LEVEL, overlap={"y": 16, "x": 16}, edge="shift")
    found = xr.apply_ufunc(
        model.predict,
        patches["image"],
        input_core_dims=[["c", "z", "y", "x"]],
        output_core_dims=[["z", "y", "x"]],
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    grid = tree[str(LEVEL)]["image"]
    return hfzarr.stitch(found.rename("probability"), like=grid, blend="hann")


def dice(found: xr.DataArray, wanted: xr.DataArray) -> float:
    """Twice what both cover, over what each covers: 1 is perfect."""
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def draw(image: xr.DataArray, wanted: xr.DataArray, found: xr.DataArray, png: str) -> None:
    """Save the middle plane: the image, the labels' outlines on it, and the prediction's."""
    middle = {"z": image.sizes["z"] // 2}
    plain = resize(composite(image.isel(middle)), *(3 * image.sizes[d] for d in "yx"))
    panels = [plain]
    for mask in (wanted, found):
        traced = plain.copy()
        traced[outline(np.kron(mask.isel(middle), np.ones((3, 3), int)))] = 255
        panels.append(traced)
    save_png(np.concatenate(panels, axis=1), png)


def main(store: str, out: str, epochs: int = 6, model: str = "auto") -> float:
    if Path(store).name == "cells.ome.zarr" and not Path(store).exists():
        run_demo(Path(store).parent, size="small", quiet=True)
    tree = xr.open_datatree(store, engine="hfzarr")
    image = tree[str(LEVEL)]["image"]
    middle = float(image.x.mean())

    has_torch = find_spec("torch") is not None if model == "auto" else model == "torch"
    learner = (Network if has_torch else Regression)(image.sizes["c"])
    train(tree.sel(x=slice(None, middle)), learner, epochs)

    # Lazy: patches are cut, predicted and blended block by block while the file is written.
    probability = predict(tree, learner)
    probability.to_dataset().to_zarr(out, mode="w", consolidated=False)

    written = xr.open_dataset(out, engine="hfzarr", consolidated=False)
    found = written["probability"].load() > 0.5
    wanted = tree[f"labels/nuclei/{LEVEL}"]["labels"].load() > 0
    unseen = {"x": slice(middle, None)}
    score = dice(found.sel(unseen), wanted.sel(unseen))
    print(f"{learner.kind}: Dice {score:.3f} on the half that it did not see")
    draw(image.load(), wanted, found, str(Path(out).with_suffix(".png")))
    return score


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("store", nargs="?", default="hfzarr-demo/cells.ome.zarr")
    options.add_argument("out", nargs="?", default="nuclei.zarr")
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--model", choices=("auto", "torch", "numpy"), default="auto")
    main(**vars(options.parse_args()))
