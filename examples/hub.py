"""From a folder of images to a model trained on them over the network: scan, push, stream, train.

The images are made up where they are missing: cells grown in still medium, or in flow, along which
they stretch. Each is an OME-Zarr store, in folders that tell split and label. They are pushed to a
dataset repo of yours, and a small model learns to tell the kinds apart from what is streamed back.
Log in first (``hf auth login``). It needs hfzarr[hub,datasets], and takes torch where it is::

    python examples/hub.py me/cells-in-flow --out cells-in-flow
"""

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import hfzarr

SIDE, PATCH, BATCH = 96, 64, 8


def make_stores(folder: Path, count: int) -> None:
    """Write images of 96 x 96 pixels: a quarter of them to test, half of each kind."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.65, 0.65]}]}
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    for number in range(count):
        label, length = (("flow", 7.0), ("still", 3.0))[number % 2]
        image = np.full((SIDE, SIDE), 60.0)
        for cy, cx in rng.uniform(0, SIDE, (24, 2)):
            image += 500 * np.exp(-(((y - cy) / 3) ** 2) - ((x - cx) / length) ** 2)
        split = "test" if number % 8 < 2 else "train"
        path = folder / split / label / f"{number:03}.ome.zarr"
        group = zarr.create_group(path, zarr_format=3, attributes={"ome": ome})
        group.create_array("0", data=rng.poisson(image).astype("uint16"), chunks=(48, 48),
                           shards=(SIDE, SIDE), dimension_names=("y", "x"))  # fmt: skip


class Network:
    """Sixteen filters, which learn to see what is long; how much of each there is, decides."""

    kind = "torch"

    def __init__(self) -> None:
        import torch

        torch.manual_seed(0)
        self.torch, self.loss = torch, torch.nn.BCEWithLogitsLoss()
        self.filters, self.decide = torch.nn.Conv2d(1, 16, 7, bias=False), torch.nn.Linear(16, 1)
        weights = [*self.filters.parameters(), *self.decide.parameters()]
        self.optimizer = torch.optim.Adam(weights, lr=0.01)

    def logits(self, pixels: Any) -> Any:
        seen = self.filters(pixels.log1p()[:, None] - 4.6)
        return self.decide(seen.square().mean((2, 3)).log())[:, 0]

    def train(self, pixels: Any, wanted: np.ndarray) -> float:
        loss = self.loss(self.logits(pixels), self.torch.from_numpy(wanted).float())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, pixels: Any) -> np.ndarray:
        with self.torch.inference_mode():
            return self.logits(pixels).numpy() > 0


class Regression:
    """Logistic regression on one number: how much steeper an image is along y than along x."""

    kind, weights = "numpy", np.zeros(2)

    @staticmethod
    def features(pixels: np.ndarray) -> np.ndarray:
        # Steps of four pixels: between neighbours there is mostly noise.
        y, x = (((pixels - np.roll(pixels, 4, axis)) ** 2).mean((1, 2)) for axis in (1, 2))
        return np.stack([np.log(y / x), np.ones(len(pixels))], axis=1)

    def train(self, pixels: np.ndarray, wanted: np.ndarray) -> float:
        rows = self.features(pixels)
        guess = 1 / (1 + np.exp(-rows @ self.weights))
        self.weights = self.weights + 2 * rows.T @ (wanted - guess) / len(rows)
        return float(-np.log(np.where(wanted, guess, 1 - guess)).mean())

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return self.features(pixels) @ self.weights > 0


def stream(repo: str, split: str) -> list[dict]:
    """Rows of a split: handles and labels. They are small; the pixels stay on the Hub."""
    rows = hfzarr.load_dataset(repo, split=split, streaming=True)
    return list(rows.select_columns(["zarr", "label"]))


def batches(rows: list[dict], to: str, epoch: int = 0) -> Iterator[tuple[Any, np.ndarray]]:
    """Read one patch of each row's store, at a random place, in a new order in each epoch."""
    # A batch's stores are read at once; of each, only the chunks under the patch are fetched.
    collate = hfzarr.ZarrCollator({"y": PATCH, "x": PATCH}, seed=epoch, dtype="float32", to=to)
    rows = [rows[i] for i in np.random.default_rng(epoch).permutation(len(rows))]
    made: Any = (collate(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH))
    if to == "torch":  # the same; num_workers= would read in processes of their own
        from torch.utils.data import DataLoader

        made = DataLoader(rows, batch_size=BATCH, collate_fn=collate)
    for batch in made:
        yield batch["pixel_values"], np.array(batch["labels"]) == "flow"


def main(repo: str, out: str = "cells-in-flow", count: int = 64, epochs: int = 6,
         model: str = "auto") -> float:  # fmt: skip
    if not Path(out).exists():
        make_stores(Path(out), count)

    # Scan: a row for each store, with what it says of itself, and its label and split.
    manifest = hfzarr.scan(out)
    print(manifest)

    # Push: the stores, an index of them with pictures, a card. Look first; nothing is sent by that.
    plan = hfzarr.push_to_hub(manifest, repo, dry_run=True)
    print(f"{len(plan.stores)} stores of {plan.files_after} files to {plan.repo}")
    print(hfzarr.push_to_hub(manifest, repo))

    # Train on what is streamed back, as anyone could who has the name of the repo.
    has_torch = model == "torch" or (model == "auto" and find_spec("torch") is not None)
    learner = Network() if has_torch else Regression()
    rows = stream(repo, "train")
    for epoch in range(epochs):
        losses = [learner.train(*batch) for batch in batches(rows, learner.kind, epoch)]
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}")
    unseen = batches(stream(repo, "test"), learner.kind)
    right = [learner.predict(pixels) == wanted for pixels, wanted in unseen]
    score = float(np.concatenate(right).mean())
    print(f"{learner.kind}: {score:.0%} of the test images are told apart")
    return score


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("repo", help="dataset repo to push to, user/name; made if it is not there")
    options.add_argument("--out", default="cells-in-flow", help="folder of the stores")
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--model", choices=("auto", "torch", "numpy"), default="auto")
    main(**vars(options.parse_args()))
