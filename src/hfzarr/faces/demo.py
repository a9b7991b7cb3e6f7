"""``hfzarr demo``: write a small volume, reshard it, open it with the engine and draw it."""

from __future__ import annotations

import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TextIO

import numpy as np
import numpy.typing as npt
import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.faces.figure import figure
from hfzarr.faces.patch_figure import patch_figure
from hfzarr.faces.picture import pixel_size, save_png, unit
from hfzarr.faces.reshard import reshard
from hfzarr.faces.synthetic import STEPS, Volume, synthesize
from hfzarr.store.sink import WORK

__all__ = ["DemoFiles", "describe", "run_demo", "write_pyramid", "write_raw"]

Size = Literal["small", "normal"]
SHAPES: dict[Size, tuple[int, int, int]] = {"small": (24, 256, 256), "normal": (48, 512, 512)}
#: The patches that are drawn: how many, the voxels of each, and where chance begins.
PATCHES = 12
WINDOWS: dict[Size, dict[str, int]] = {
    "small": {"z": 8, "y": 48, "x": 48},
    "normal": {"z": 8, "y": 64, "x": 64},
}
SEED = 1
LEVELS = 4
#: A file of the raw copy, in pixels of y and x.
TILE = 128
MARK = "made by hfzarr demo"
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFiles:
    """What the demo wrote.

    Attributes
    ----------
    store
        The OME-Zarr pyramid, a folder.
    raw
        The finest level once more, in many small files, as instruments write it.
    resharded
        What became of that: the same chunks in few files.
    picture
        The PNG of what was opened.
    patches
        The PNG of patches that were drawn from it.
    """

    store: Path
    raw: Path
    resharded: Path
    picture: Path
    patches: Path


def run_demo(
    out: Path, *, size: Size = "normal", quiet: bool = False, stream: TextIO | None = None
) -> DemoFiles:
    """Write, reshard, open and draw a synthetic microscopy volume; no network is needed.

    Parameters
    ----------
    out
        Folder for the files; made if it is not there. An earlier demo in it is replaced.
    size
        ``"normal"`` (48 x 512 x 512 voxels in 3 channels) or ``"small"`` (24 x 256 x 256).
    quiet
        Say nothing.
    stream
        Where to speak, standard output by default. Progress bars appear on a terminal only.

    Raises
    ------
    TargetError
        If something that the demo did not make lies where its stores would go.
    MissingDependencyError
        If Pillow is not installed.
    """
    say = _Speaker(total=8, quiet=quiet, stream=stream or sys.stdout)
    files = _files(out)
    with say.step("make a microscopy volume of cells in three stains", ticks=STEPS) as tick:
        volume = synthesize(SHAPES[size], tick=tick)
    with say.step("write it as a sharded OME-Zarr 0.5 pyramid with labels", ticks=LEVELS) as tick:
        write_pyramid(files.store, volume, tick=tick)
    _reshard(say, files, volume)
    with say.step('open one level: xr.open_dataset(path, engine="hfzarr")'):
        dataset = xr.open_dataset(files.store, engine="hfzarr")
    say.block(str(dataset))
    with say.step('open everything: xr.open_datatree(path, engine="hfzarr")'):
        tree = xr.open_datatree(files.store, engine="hfzarr")
    say.block(describe(tree))
    with say.step('choose patches around nuclei: tree.hfzarr.random_patches(…, where="nuclei")'):
        patches = tree.hfzarr.random_patches(
            PATCHES, WINDOWS[size], seed=SEED, where="nuclei", labels=["nuclei"]
        )
    say.block(str(patches))
    with say.step("read the pixels and draw them", ticks=2) as tick:
        save_png(_draw(tree, files.store.name), files.picture)
        tick()
        save_png(_draw_patches(tree, patches, size), files.patches)
        tick()
    say.block(_farewell(files))
    return files


def _files(out: Path) -> DemoFiles:
    """Return where the files go; what an earlier demo resharded is deleted."""
    files = DemoFiles(
        store=out / "cells.ome.zarr",
        raw=out / "raw.ome.zarr",
        resharded=out / "resharded.ome.zarr",
        picture=out / "cells.png",
        patches=out / "patches.png",
    )
    for store in (files.store, files.raw, files.resharded):
        _refuse_foreign(store)
    shutil.rmtree(files.resharded, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    return files


def _reshard(say: _Speaker, files: DemoFiles, volume: Volume) -> None:
    """Write the volume in many files, and make few of them."""
    channels = len(volume.channels)
    title = "write it as a microscope does: OME-Zarr 0.4, a file to each tile of each plane"
    with say.step(title, ticks=channels) as tick:
        write_raw(files.raw, volume, tick=tick)
    with say.step("make few files of many: hfzarr.reshard(source, target)"):
        done = reshard(files.raw, files.resharded, progress=False)
    say.block(textwrap.fill(str(done), 88, break_long_words=False, break_on_hyphens=False))


class _Speaker:
    """Announces steps and their times: a bar on a terminal, one line each elsewhere."""

    def __init__(self, *, total: int, quiet: bool, stream: TextIO) -> None:
        self._total = total
        self._quiet = quiet
        self._stream = stream
        self._done = 0

    @contextmanager
    def step(self, title: str, *, ticks: int = 1) -> Iterator[Callable[[], object]]:
        """Announce a step, give its progress to tick, and say how long it took."""
        self._done += 1
        head = f"[{self._done}/{self._total}] {title}"
        start = perf_counter()
        with self._bar(head, ticks) as tick:
            yield tick
        self._print(f"{head}  ({perf_counter() - start:.2f} s)")

    def block(self, text: str) -> None:
        """Print several lines, indented, with room around them."""
        lines = "\n".join(f"      {line}".rstrip() for line in text.splitlines())
        self._print(f"\n{lines}\n")

    @contextmanager
    def _bar(self, head: str, ticks: int) -> Iterator[Callable[[], object]]:
        if self._quiet or not self._stream.isatty():
            yield lambda: None
            return
        from tqdm import tqdm

        layout = "{bar:20} {elapsed}  {desc}"
        with tqdm(total=ticks, desc=head, bar_format=layout, leave=False, file=self._stream) as bar:
            yield bar.update

    def _print(self, text: str) -> None:
        if not self._quiet:
            print(text, file=self._stream, flush=True)


def write_pyramid(path: Path, volume: Volume, *, tick: Callable[[], object] = lambda: None) -> None:
    """Write a volume and its labels as an OME-Zarr 0.5 pyramid, sharded and compressed.

    Each level halves y and x: the image by its mean, the labels by their majority.
    """
    import zarr

    # The mark comes first, so that even an interrupted demo may be replaced by the next.
    root = zarr.open_group(path, mode="w", zarr_format=3, attributes={"comment": MARK})
    nuclei = root.create_group("labels").create_group("nuclei")
    image, labels = volume.image, volume.labels
    window = _windows(image)
    for level in range(LEVELS):
        if level:
            image, labels = _halve_mean(image), _halve_majority(labels)
        _write_array(root, str(level), image, ("c", "z", "y", "x"))
        _write_array(nuclei, str(level), labels, ("z", "y", "x"))
        tick()
    root.attrs["ome"] = _image_metadata(volume, window)
    root["labels"].attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    nuclei.attrs["ome"] = _label_metadata(volume)
    with warnings.catch_warnings():
        # zarr-python warns that the v3 specification does not describe this yet.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(path)


def write_raw(path: Path, volume: Volume, *, tick: Callable[[], object] = lambda: None) -> None:
    """Write the finest level as OME-Zarr 0.4, in Zarr v2: a file to each tile of each plane."""
    import zarr

    image = volume.image
    root = zarr.open_group(path, mode="w", zarr_format=2, attributes={"comment": MARK})
    array = root.create_array(
        "0",
        shape=image.shape,
        dtype=image.dtype,
        chunks=(1, 1, TILE, TILE),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        fill_value=0,
    )
    for number, channel in enumerate(image):
        array[number] = channel
        tick()
    root.attrs.update(_raw_metadata(_image_metadata(volume, _windows(image))))


def _raw_metadata(ome: dict[str, Any]) -> dict[str, Any]:
    """Return metadata of 0.5 in the words of 0.4, for the finest level alone."""
    (multiscale,) = ome["multiscales"]
    finest = {**multiscale, "version": "0.4", "datasets": multiscale["datasets"][:1]}
    return {"multiscales": [finest], "omero": {**ome["omero"], "version": "0.4"}}


def _write_array(group: Any, name: str, values: Array, dims: tuple[str, ...]) -> None:
    """Write one level: chunks of up to 16 x 128 x 128 voxels, one shard per channel."""
    from zarr.codecs import ZstdCodec

    limits = (1, 16, 128, 128)[-values.ndim :]
    chunks = tuple(min(n, limit) for n, limit in zip(values.shape, limits, strict=True))
    shards = tuple(
        chunk * (1 if dim == "c" else -(-size // chunk))
        for dim, size, chunk in zip(dims, values.shape, chunks, strict=True)
    )
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=chunks,
        shards=shards,
        compressors=ZstdCodec(level=3),
        fill_value=0,
        dimension_names=dims,
    )
    array[...] = values


def _halve_mean(image: Array) -> Array:
    """Return the mean of each 2 x 2 block of y and x."""
    rows = image[..., 0::2, :].astype(np.uint32) + image[..., 1::2, :]
    return ((rows[..., 0::2] + rows[..., 1::2] + 2) // 4).astype(image.dtype)


def _halve_majority(labels: Array) -> Array:
    """Return the commonest label of each 2 x 2 block of y and x.

    The plain way, every second pixel, would move labels by half a pixel at each level.
    """
    a, b = labels[..., 0::2, 0::2], labels[..., 0::2, 1::2]
    c, d = labels[..., 1::2, 0::2], labels[..., 1::2, 1::2]
    rest = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.where((a == b) | (a == c) | (a == d), a, rest)


def _windows(image: Array) -> list[tuple[int, int]]:
    """Return where each channel's contrast starts and ends: above noise, below the brightest."""
    return [
        (int(start), int(end))
        for start, end in (np.percentile(c.max(axis=0), (4.0, 99.5)) for c in image)
    ]


def _image_metadata(volume: Volume, windows: list[tuple[int, int]]) -> dict[str, Any]:
    channels = [
        {
            "label": channel.name,
            "color": channel.color,
            "active": True,
            "window": {"min": 0, "max": 65535, "start": start, "end": end},
        }
        for channel, (start, end) in zip(volume.channels, windows, strict=True)
    ]
    channel_axis: dict[str, Any] = {"name": "c", "type": "channel"}
    return {
        "version": "0.5",
        "multiscales": [_multiscale("cells", volume, [channel_axis], ("mean", "mean of 2 x 2"))],
        "omero": {"channels": channels, "rdefs": {"model": "color"}},
    }


def _label_metadata(volume: Volume) -> dict[str, Any]:
    """Return metadata with a colour and a volume for each nucleus."""
    counts = np.bincount(volume.labels.ravel())
    voxel = float(np.prod(volume.scale))
    numbers = [int(n) for n in np.flatnonzero(counts) if n]
    return {
        "version": "0.5",
        "multiscales": [_multiscale("nuclei", volume, [], ("mode", "majority of 2 x 2"))],
        "image-label": {
            "colors": [{"label-value": n, "rgba": _rainbow(n)} for n in numbers],
            "properties": [
                {"label-value": n, "volume_um3": float(counts[n] * voxel)} for n in numbers
            ],
            "source": {"image": "../../"},
        },
    }


def _multiscale(
    name: str, volume: Volume, before: list[dict[str, Any]], method: tuple[str, str]
) -> dict[str, Any]:
    space = [{"name": d, "type": "space", "unit": "micrometer"} for d in "zyx"]
    return {
        "name": name,
        "type": method[0],
        "metadata": {"method": method[1], "description": MARK},
        "axes": [*before, *space],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transforms(volume, level, before)}
            for level in range(LEVELS)
        ],
    }


def _transforms(volume: Volume, level: int, before: list[Any]) -> list[dict[str, Any]]:
    """Return scale and translation of a level.

    A translation places the centre of pixel 0. The first pixel of a coarse level covers ``factor``
    fine ones, whose common centre is ``(factor - 1) / 2`` fine pixels further in.
    """
    factor = 2**level
    dz, dy, dx = volume.scale
    scale = [1.0] * len(before) + [dz, dy * factor, dx * factor]
    shift = [0.0] * len(before) + [0.0, (factor - 1) / 2 * dy, (factor - 1) / 2 * dx]
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]


def _rainbow(number: int) -> list[int]:
    """Return a vivid colour, RGBA; the golden ratio keeps successive ones apart in hue."""
    turn = 2 * np.pi * ((number * 0.618034) % 1.0)
    parts = 0.5 + 0.5 * np.cos(turn - 2 * np.pi * np.arange(3) / 3)
    return [*(int(p) for p in 60 + 195 * parts), 255]


def _refuse_foreign(store: Path) -> None:
    """Raise if the store's place is taken by something that an earlier demo did not write."""
    if not store.exists():
        return
    documents = [store / name for name in ("zarr.json", ".zattrs")]
    marked = any(MARK in one.read_text(encoding="utf-8") for one in documents if one.is_file())
    # One that was interrupted while it resharded has only this to show.
    if not marked and not (store / WORK).is_dir():
        raise TargetError(
            f"{store} exists and was not made by the demo, which would replace it; "
            "remove it, or choose another folder with --out"
        )


def describe(tree: xr.DataTree) -> str:
    """Return one line per array of a tree: where it is, its type, its sizes and pixel sizes."""
    lines = []
    for node in tree.subtree:
        for name, values in node.data_vars.items():
            sizes = " ".join(f"{d}={n}" for d, n in values.sizes.items())
            steps = ", ".join(
                f"{d} {pixel_size(values, str(d)):g} {unit(values, str(d))}"
                for d in values.dims
                if d in values.coords and values[d].dtype.kind == "f"
            )
            lines.append((node.path, f"{name}", f"{values.dtype}", sizes, steps))
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(4)]
    return "\n".join(
        "  ".join([*(part.ljust(w) for part, w in zip(line, widths, strict=False)), line[-1]])
        for line in lines
    )


def _draw(tree: xr.DataTree, name: str) -> npt.NDArray[np.uint8]:
    nodes = [child for child in tree.children.values() if "image" in child.data_vars]
    levels = [node.dataset["image"] for node in nodes]
    labels = tree.children["labels"].children["nuclei"].children["0"].dataset["labels"]
    finest = levels[0]
    facts = [f"{d} {n}" for d, n in finest.sizes.items()]
    facts += [str(finest.dtype), f"{len(levels)} levels", 'opened with engine="hfzarr"']
    return figure(levels, labels, title=name, subtitle="  ·  ".join(facts))


def _draw_patches(tree: xr.DataTree, patches: xr.Dataset, size: Size) -> npt.NDArray[np.uint8]:
    call = f'random_patches({PATCHES}, {WINDOWS[size]}, seed={SEED}, where="nuclei", '
    return patch_figure(
        tree.children["0"].dataset["image"],
        patches,
        labels="nuclei",
        title=f"{PATCHES} random patches around nuclei",
        subtitle=f'tree.hfzarr.{call}labels=["nuclei"])'.replace("'", '"'),
    )


def _farewell(files: DemoFiles) -> str:
    return "\n".join(
        (
            f"store      {files.store}",
            f"raw        {files.raw}",
            f"resharded  {files.resharded}",
            f"picture    {files.picture}",
            f"patches    {files.patches}",
            "",
            "Next, in Python:",
            "  import xarray as xr",
            f'  ds = xr.open_dataset({str(files.store)!r}, engine="hfzarr", level=1)',
            '  ds["image"].sel(c="Actin", y=slice(20, 40), x=slice(20, 40)).max("z")',
            '  ds.hfzarr.patches({"z": 8, "y": 32, "x": 32}, edge="shift")',
            "or in a shell:",
            f"  hfzarr info {files.store}",
            f"  hfzarr reshard {files.raw} {files.raw.parent / 'cubes.ome.zarr'} "
            "--inner-chunk z=16,y=64,x=64",
        )
    )
