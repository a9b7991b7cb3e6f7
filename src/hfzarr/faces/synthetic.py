"""A small, realistic microscopy volume, made from a seed: a curved epithelium in three stains.

The numbers are physical (micrometres and photons), so that the picture stays true at any size of
the field. Only NumPy is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Channel", "Volume", "synthesize"]

F32 = npt.NDArray[np.float32]
Tick = Callable[[], object]

STEPS = 5
"""How many times :func:`synthesize` calls ``tick``."""

SCALE = (1.0, 0.25, 0.25)
"""Size of a voxel along z, y and x, in micrometres."""

CELL_SPACING = 15.0
CELL_HALF_HEIGHT = 6.5
CAMERA_OFFSET = 110.0
READ_NOISE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One stain.

    Attributes
    ----------
    name
        What is stained.
    color
        Six hexadecimal digits, as OMERO writes a colour.
    photons
        Signal of a bright structure, in counts above the camera's offset.
    """

    name: str
    color: str
    photons: float


CHANNELS = (
    Channel(name="Nuclei", color="2F7BFF", photons=1500.0),
    Channel(name="Actin", color="FF2F7D", photons=1300.0),
    Channel(name="Mitochondria", color="FFC400", photons=1700.0),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """A multichannel image with its nuclei labelled.

    Attributes
    ----------
    image
        Counts, axes ``(c, z, y, x)``.
    labels
        Number of the nucleus at each voxel, 0 for none, axes ``(z, y, x)``.
    channels
        The stains, in the order of ``c``.
    scale
        Size of a voxel along z, y and x, in micrometres.
    """

    image: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint32]
    channels: tuple[Channel, ...]
    scale: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tissue:
    """Where the cells are: a wavy sheet cut into irregular polygons."""

    centers: npt.NDArray[np.float64]
    """Centre of each cell in the plane, ``(n, 2)``, in micrometres."""
    owner: npt.NDArray[np.intp]
    """Index of the cell at each pixel, ``(y, x)``."""
    gap: F32
    """Nought on a border between two cells, growing inwards, ``(y, x)``, in micrometres."""
    height: F32
    """Middle of the sheet at each pixel, ``(y, x)``, in micrometres."""
    depth: F32
    """Position within the sheet, ``(z, y, x)``: -1 at its base, 1 at its top."""


def synthesize(
    shape: tuple[int, int, int] = (48, 512, 512), *, seed: int = 0, tick: Tick = lambda: None
) -> Volume:
    """Make a volume of cells in three stains, with blur, uneven light and shot noise.

    Parameters
    ----------
    shape
        Voxels along z, y and x, each ``SCALE`` micrometres in size.
    seed
        Seed of the random generator; the same seed gives the same volume.
    tick
        Called after each of ``STEPS`` stages, for a progress bar.

    Examples
    --------
    >>> volume = synthesize((8, 64, 64))
    >>> volume.image.shape, volume.image.dtype.name, volume.labels.dtype.name
    ((3, 8, 64, 64), 'uint16', 'uint32')
    """
    rng = np.random.default_rng(seed)
    tissue = _grow_tissue(rng, shape)
    tick()
    nuclei, labels = _paint_nuclei(rng, tissue)
    image = np.empty((len(CHANNELS), *shape), np.uint16)
    image[0] = _photograph(rng, nuclei, CHANNELS[0])
    tick()
    image[1] = _photograph(rng, _paint_actin(rng, tissue), CHANNELS[1])
    tick()
    image[2] = _photograph(rng, _paint_mitochondria(rng, tissue, labels), CHANNELS[2])
    tick()
    volume = Volume(image=image, labels=_renumber(labels), channels=CHANNELS, scale=SCALE)
    tick()
    return volume


def _noise(rng: np.random.Generator, shape: tuple[int, ...], grain: tuple[float, ...]) -> F32:
    """Return smooth, periodic noise of mean 0 and deviation 1; ``grain`` is in pixels per axis."""
    spectrum = np.fft.rfftn(rng.standard_normal(shape))
    for axis, (size, sigma) in enumerate(zip(shape, grain, strict=True)):
        last = axis == len(shape) - 1
        frequency = np.fft.rfftfreq(size) if last else np.fft.fftfreq(size)
        weight = np.exp(-2.0 * (np.pi * sigma * frequency) ** 2)
        spectrum *= weight.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    field = np.fft.irfftn(spectrum, shape, axes=range(len(shape)))
    field -= field.mean()
    return np.asarray(field / field.std(), np.float32)


def _grow_tissue(rng: np.random.Generator, shape: tuple[int, int, int]) -> _Tissue:
    (nz, ny, nx), (dz, dy, dx) = shape, SCALE
    y, x = np.meshgrid(np.arange(ny) * dy, np.arange(nx) * dx, indexing="ij")
    centers = _hexagons(rng, ny * dy, nx * dx)
    bend = _noise(rng, (2, ny, nx), (0.0, 12.0, 12.0)) * 0.9
    owner, gap = _polygons(centers, y + bend[0], x + bend[1])
    middle, swing = nz * dz / 2, max(0.0, nz * dz / 2 - CELL_HALF_HEIGHT - 3.0)
    # Two slow waves make a sheet that rises and falls, as an epithelium on soft gel does.
    wave = 0.6 * np.sin(2 * np.pi * (x / 110 + y / 260)) + 0.4 * np.sin(2 * np.pi * y / 83 + 1)
    height = np.asarray(middle + swing * 0.9 * wave, np.float32)
    z = np.arange(nz, dtype=np.float32)[:, None, None] * np.float32(dz)
    depth = (z - height) / np.float32(CELL_HALF_HEIGHT)
    return _Tissue(centers=centers, owner=owner, gap=gap, height=height, depth=depth)


def _hexagons(rng: np.random.Generator, height: float, width: float) -> npt.NDArray[np.float64]:
    """Return jittered points of a hexagonal lattice that overlaps the field on every side."""
    rows = np.arange(-1, int(height / (CELL_SPACING * 0.87)) + 3)
    columns = np.arange(-1, int(width / CELL_SPACING) + 3)
    row, column = (a.ravel() for a in np.meshgrid(rows, columns, indexing="ij"))
    lattice = np.stack([row * 0.87, column + 0.5 * (row % 2)], axis=1) * CELL_SPACING
    return lattice + rng.normal(0.0, 1.9, lattice.shape)


def _polygons(
    centers: npt.NDArray[np.float64], y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], F32]:
    """Return the nearest centre of each pixel, and how much farther the second nearest is."""
    nearest = np.full(y.shape, np.inf)
    second = np.full(y.shape, np.inf)
    owner = np.zeros(y.shape, np.intp)
    for index, (cy, cx) in enumerate(centers):
        distance = np.hypot(y - cy, x - cx)
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        nearest = np.where(closer, distance, nearest)
        owner[closer] = index
    return owner, np.asarray(second - nearest, np.float32)


def _paint_nuclei(rng: np.random.Generator, tissue: _Tissue) -> tuple[F32, npt.NDArray[np.uint32]]:
    signal = np.zeros(tissue.depth.shape, np.float32)
    labels = np.zeros(tissue.depth.shape, np.uint32)
    chromatin = _noise(rng, (32, 128, 128), (0.8, 2.2, 2.2))
    lumps = _noise(rng, (32, 128, 128), (2.5, 9.0, 9.0))
    for number, center in enumerate(tissue.centers, start=1):
        _paint_nucleus(rng, tissue, number, center, (chromatin, lumps), signal, labels)
    return signal, labels


def _paint_nucleus(
    rng: np.random.Generator,
    tissue: _Tissue,
    number: int,
    center: npt.NDArray[np.float64],
    textures: tuple[F32, F32],
    signal: F32,
    labels: npt.NDArray[np.uint32],
) -> None:
    """Add one nucleus to ``signal`` and ``labels``, in place: a lumpy, tilted ellipsoid."""
    # All draws come first, so that a nucleus outside the field costs the same ones.
    dividing = rng.random() < 0.05
    axes = rng.normal((4.0, 5.4, 4.3), (0.3, 0.5, 0.4))
    turn, lean, bright = rng.uniform(0, np.pi), rng.normal(0, 0.5), rng.uniform(0.65, 1.1)
    shift = rng.integers(0, (32, 128, 128))
    spots = rng.normal(0.0, 0.38, (3, 3))
    if dividing:  # A metaphase plate: thin, dense and bright.
        axes, bright, spots = np.array([4.0, 5.2, 1.6]), 1.7, spots[:0]
    ny, nx = tissue.height.shape
    at = tuple(
        int(np.clip(c / d, 0, n - 1)) for c, d, n in zip(center, SCALE[1:], (ny, nx), strict=True)
    )
    middle = (float(tissue.height[at]) + lean, *center)
    box, offsets = _box_around(middle, 7.5, labels.shape)
    if labels[box].size == 0:
        return
    z, y, x = offsets
    along, across = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    u, v, w = z / axes[0], along / axes[1], across / axes[2]
    wrap = np.ix_(*(np.arange(s.start, s.stop) + o for s, o in zip(box, shift, strict=True)))
    wrap = tuple(i % n for i, n in zip(wrap, (32, 128, 128), strict=True))
    radius = np.sqrt(u**2 + v**2 + w**2) * (1 + 0.07 * textures[1][wrap])
    # A nucleus gives way to the cell's border, so that neighbours never run into each other.
    own, gap = tissue.owner[box[1:]] == number - 1, tissue.gap[box[1:]]
    radius = radius + np.where(own, 0.6 * np.exp(-gap / 1.2), 1.0)
    texture = np.clip(0.66 + 0.24 * textures[0][wrap], 0.15, 1.4)
    for sz, sv, sw in spots:  # Nucleoli take up little dye.
        near = (u - sz) ** 2 + (v - sv) ** 2 + (w - sw) ** 2
        texture = texture * (1 - 0.75 * np.exp(-near / 0.06))
    free = labels[box] == 0
    signal[box] += np.where(free, bright * texture * np.clip((1.04 - radius) / 0.1, 0, 1), 0)
    labels[box][free & (radius < 1)] = number


def _box_around(
    middle: tuple[float, ...], reach: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], list[F32]]:
    """Return the voxels within ``reach`` micrometres, and their open grid of offsets."""
    box, offsets = [], []
    for axis, (m, d, n) in enumerate(zip(middle, SCALE, shape, strict=True)):
        start = min(n, max(0, int((m - reach) / d)))
        stop = min(n, max(start, int((m + reach) / d) + 2))
        box.append(slice(start, stop))
        offset = np.arange(start, stop, dtype=np.float32) * np.float32(d) - np.float32(m)
        offsets.append(offset.reshape([-1 if a == axis else 1 for a in range(3)]))
    return tuple(box), offsets


def _paint_actin(rng: np.random.Generator, tissue: _Tissue) -> F32:
    """Return cell borders through the sheet, fibres on its base and a meshwork on its top."""
    depth = tissue.depth
    inside = 1 / (1 + np.exp(-14 * (1 - np.abs(depth))))
    patchy = np.clip(0.85 + 0.2 * _noise(rng, tissue.gap.shape, (6.0, 6.0)), 0.3, 1.4)
    border = np.exp(-((tissue.gap / 0.75) ** 2)) * patchy
    belt = 1 + 0.9 * np.exp(-(((depth - 0.7) / 0.25) ** 2))
    mesh = np.clip(_noise(rng, tissue.gap.shape, (1.6, 1.6)), 0, None) * 0.10
    base = np.exp(-(((depth + 0.95) / 0.16) ** 2))
    top = np.exp(-(((depth - 1.0) / 0.14) ** 2))
    signal = inside * (0.02 + 0.62 * border * belt) + base * _fibres(rng, tissue) + top * mesh
    return np.asarray(signal, np.float32)


def _fibres(rng: np.random.Generator, tissue: _Tissue) -> F32:
    """Return stress fibres: straight streaks, each cell with a direction of its own."""
    ny, nx = tissue.gap.shape
    ky, kx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)
    white = np.fft.rfft2(rng.standard_normal((ny, nx)))
    streaks = np.empty((8, ny, nx), np.float32)
    for index, angle in enumerate(np.linspace(0, np.pi, 8, endpoint=False)):
        along = np.cos(angle) * ky + np.sin(angle) * kx
        across = np.cos(angle) * kx - np.sin(angle) * ky
        band = np.exp(-2 * (np.pi * 20 * along) ** 2 - ((np.abs(across) - 0.09) / 0.04) ** 2)
        streaks[index] = np.fft.irfft2(white * band, (ny, nx))
    choice = rng.integers(0, 8, len(tissue.centers))[tissue.owner]
    chosen = np.take_along_axis(streaks, choice[None], axis=0)[0]
    strength = rng.uniform(0.1, 0.34, len(tissue.centers))[tissue.owner]
    return np.asarray(np.clip(chosen / chosen.std() - 0.2, 0, 2.5) * strength, np.float32)


def _paint_mitochondria(
    rng: np.random.Generator, tissue: _Tissue, labels: npt.NDArray[np.uint32]
) -> F32:
    """Return winding threads around each nucleus, drawn as persistent random walks."""
    threads, length, step = 26, 44, 0.22
    count = len(tissue.centers) * threads
    cell = np.repeat(np.arange(len(tissue.centers)), threads)
    angle = rng.uniform(0, 2 * np.pi, count)
    reach = rng.uniform(3.0, 7.5, count)
    start = tissue.centers[cell] + reach[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1)
    turns = rng.normal(0, 0.28, (count, length)).cumsum(axis=1)
    heading = angle[:, None] + np.pi / 2 + turns
    y = start[:, :1] + step * np.sin(heading).cumsum(axis=1)
    x = start[:, 1:] + step * np.cos(heading).cumsum(axis=1)
    level = rng.uniform(-0.75, 0.75, (count, 1)) * CELL_HALF_HEIGHT
    rise = rng.normal(0, 0.12, (count, length)).cumsum(axis=1)
    # Cells differ in how much they breathe, threads in how bright they are.
    weight = rng.uniform(0.5, 1.4, len(tissue.centers))[cell] * rng.uniform(0.5, 1.3, count)
    weights = np.repeat(weight, length).astype(np.float32)

    nz, ny, nx = labels.shape
    row, column = (np.rint(a.ravel() / SCALE[1]).astype(np.intp) for a in (y, x))
    held = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    row, column = np.where(held, row, 0), np.where(held, column, 0)
    plane = np.rint((tissue.height[row, column] + (level + rise).ravel()) / SCALE[0])
    held &= (plane >= 0) & (plane < nz) & (tissue.owner[row, column] == np.repeat(cell, length))
    plane = np.where(held, plane, 0).astype(np.intp)
    held &= labels[plane, row, column] == 0
    flat = np.ravel_multi_index((plane[held], row[held], column[held]), labels.shape)
    drawn = np.bincount(flat, weights[held], labels.size).reshape(labels.shape)
    haze = 0.07 * (np.abs(tissue.depth) < 1)
    return np.asarray(2.6 * np.minimum(drawn, 2.5) + haze, np.float32)


def _photograph(rng: np.random.Generator, signal: F32, channel: Channel) -> npt.NDArray[np.uint16]:
    """Return camera counts: blurred by the lens, unevenly lit, with shot and read noise."""
    counts = _blur(signal, (0.8, 1.15, 1.15))
    ny, nx = counts.shape[1:]
    y, x = np.linspace(-1, 1, ny)[:, None], np.linspace(-1, 1, nx)
    light = 1 - 0.16 * ((y - 0.15) ** 2 + (x + 0.2) ** 2)
    counts *= np.asarray(channel.photons * light, np.float32)
    # For more than a few photons, a normal draw is as good as a Poisson draw and ten times faster.
    spread = np.sqrt(counts + np.float32(READ_NOISE**2))
    counts += spread * rng.standard_normal(counts.shape, np.float32)
    counts += np.float32(CAMERA_OFFSET)
    return np.clip(np.rint(counts, out=counts), 0, 65535).astype(np.uint16)


def _blur(volume: F32, sigma: tuple[float, ...]) -> F32:
    """Return the volume convolved with a normal curve along each axis; edges are repeated."""
    for axis, width in enumerate(sigma):
        reach = int(3 * width + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
        kernel = np.asarray(kernel / kernel.sum(), np.float32)
        pad = [(reach, reach) if a == axis else (0, 0) for a in range(volume.ndim)]
        padded = np.moveaxis(np.pad(volume, pad, mode="edge"), axis, 0)
        total = np.zeros_like(np.moveaxis(volume, axis, 0))
        for shift, weight in enumerate(kernel):
            total += weight * padded[shift : shift + total.shape[0]]
        volume = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(volume)


def _renumber(labels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return the labels numbered 1 to n without a gap."""
    present = np.flatnonzero(np.bincount(labels.ravel()))
    lookup = np.zeros(int(present[-1]) + 1, np.uint32)
    lookup[present] = np.arange(len(present)) + (0 if present[0] == 0 else 1)
    return np.asarray(lookup[labels], np.uint32)
