"""Colours of amounts: tables by name, and which of them suits what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError

__all__ = ["AMOUNT", "COLORMAPS", "ColorMap", "colormap", "suited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorMap:
    """Colours of amounts, from low to high.

    Attributes
    ----------
    name
        What it is called.
    colors
        Red, green and blue, each 0 to 255, at even steps.
    centered
        Whether its middle stands for zero, and both its ends are as far from it.
    turn
        What its ends both stand for, where it goes around; None where it does not.
    """

    name: str
    colors: tuple[tuple[float, float, float], ...]
    centered: bool = False
    turn: float | None = None

    def window(self, values: npt.NDArray[Any]) -> tuple[float, float] | None:
        """Return the values of its ends; None to take percentiles.

        Examples
        --------
        >>> COLORMAPS["diverging"].window(np.array([-4.0, 1.0, np.nan]))
        (-4.0, 4.0)
        """
        if self.turn is not None:
            return (0.0, self.turn)
        if not self.centered:
            return None
        finite = values[np.isfinite(values)].astype(np.float64)
        # Of a few values the outermost counts; of many, what 0.3 % of them surpass.
        far = float(np.percentile(np.abs(finite), 99.7, method="higher")) if finite.size else 0.0
        return (-far, far) if far > 0 else (-1.0, 1.0)


AMOUNT = ColorMap(
    name="amount",
    colors=(
        (24, 20, 74), (44, 62, 143), (34, 122, 146), (74, 178, 118), (176, 214, 72),
        (255, 240, 120),
    ),
)  # fmt: skip
"""What is known of no kind: from dark blue to yellow, each colour brighter than the one before."""

_SEA = ((12, 24, 70), (28, 66, 132), (62, 126, 184), (126, 184, 214), (206, 230, 236))
_LAND = ((70, 124, 70), (140, 166, 88), (206, 190, 122), (158, 116, 80), (240, 236, 232))

#: The tables that can be named, apart from matplotlib's.
COLORMAPS: Mapping[str, ColorMap] = {
    one.name: one
    for one in (
        AMOUNT,
        ColorMap(name="grey", colors=((0, 0, 0), (255, 255, 255))),
        ColorMap(
            name="diverging",
            colors=(
                (18, 44, 110), (52, 112, 178), (150, 194, 222), (244, 242, 238), (236, 172, 144),
                (200, 84, 68), (112, 16, 38),
            ),
            centered=True,
        ),
        ColorMap(
            name="thermal",
            colors=(
                (26, 16, 70), (94, 28, 114), (168, 44, 100), (222, 88, 62), (246, 160, 56),
                (252, 240, 164),
            ),
        ),
        ColorMap(
            name="rain",
            colors=(
                (244, 242, 230), (196, 222, 224), (124, 184, 212), (56, 128, 190), (30, 76, 150),
                (20, 34, 96),
            ),
        ),
        ColorMap(
            name="green",
            colors=((238, 226, 196), (206, 202, 128), (136, 174, 82), (56, 130, 60), (14, 74, 46)),
        ),
        ColorMap(name="land", colors=_LAND),
        ColorMap(name="relief", colors=(*_SEA, *_LAND), centered=True),
        ColorMap(
            name="phase",
            colors=(
                (176, 62, 92), (204, 150, 52), (96, 164, 84), (48, 134, 186), (120, 84, 172),
                (176, 62, 92),
            ),
            turn=360.0,
        ),
    )
}  # fmt: skip

# Those of matplotlib whose middle is neutral.
_NEUTRAL = {
    "BrBG", "PRGn", "PiYG", "PuOr", "RdBu", "RdGy", "RdYlBu", "RdYlGn", "Spectral", "berlin",
    "bwr", "coolwarm", "managua", "seismic", "vanimo",
}  # fmt: skip


def colormap(name: str) -> ColorMap:
    """Return a table by its name, here or in matplotlib; ``_r`` at its end turns it around.

    Raises
    ------
    TargetError
        There is none of that name.

    Examples
    --------
    >>> colormap("grey_r").colors
    ((255, 255, 255), (0, 0, 0))
    """
    if not isinstance(name, str):
        raise TargetError(f"cmap is the name of a colormap, such as 'thermal', not {name!r}")
    own = COLORMAPS.get(name)
    if own is not None:
        return own
    turned = COLORMAPS.get(name.removesuffix("_r"))
    if turned is not None:
        return ColorMap(
            name=name, colors=turned.colors[::-1], centered=turned.centered, turn=turned.turn
        )
    return _of_matplotlib(name)


def _of_matplotlib(name: str) -> ColorMap:
    try:
        known = import_module("matplotlib").colormaps
    except ImportError:
        known, more = {}, "and, where matplotlib is installed, those of matplotlib"
    else:
        more = "and those of matplotlib"
    if name not in known:
        raise TargetError(f"there is no cmap {name!r}: there are {', '.join(COLORMAPS)}, {more}")
    shades = known[name](np.linspace(0, 1, 256))[:, :3] * 255
    colors = tuple((float(red), float(green), float(blue)) for red, green, blue in shades)
    return ColorMap(name=name, colors=colors, centered=name.removesuffix("_r") in _NEUTRAL)


_CHANGES = {
    "anomaly", "anomalies", "anom", "departure", "difference", "diff", "tendency", "trend",
    "increment", "bias", "residual",
}  # fmt: skip
_SIGNED = {"eastward", "northward", "upward", "downward", "vorticity", "divergence"}
_SIGNED_STARTS = ("x_", "y_")
_HEIGHTS = {"altitude", "elevation", "orography", "topography", "bathymetry", "dem", "dtm", "dsm"}
_WARMTH = {"temperature", "temp", "sst", "tas", "t2m"}
_LEAVES = {"vegetation", "ndvi", "evi", "lai", "leaf", "canopy"}
_WATER = {
    "precipitation", "precip", "rain", "rainfall", "rainrate", "snow", "snowfall", "humidity",
    "moisture", "runoff", "cloud", "depth", "pr", "tp",
}  # fmt: skip
_WARMTH_UNITS = {
    "k", "kelvin", "degc", "deg_c", "°c", "celsius", "degree_celsius", "degrees_celsius", "degf",
    "degree_fahrenheit", "degrees_fahrenheit",
}  # fmt: skip
_WATER_UNITS = {
    "mm/day", "mm day-1", "mm d-1", "mm/d", "mm/h", "mm h-1", "mm hr-1", "mm/hr", "mm s-1",
    "kg m-2 s-1",
}  # fmt: skip


def suited(name: object, attrs: Mapping[Any, Any], values: npt.NDArray[Any]) -> ColorMap | None:
    """Return the colours that suit what was measured; None if its kind is not known.

    Told by the words of CF's ``standard_name``, of ``long_name`` and of the variable's name, then
    by its units.

    Parameters
    ----------
    name
        Of the variable.
    attrs
        Of the variable.
    values
        What is shown: what has two directions is so only where both occur, and what lies below
        zero is sea. Changes and anomalies are shown around zero in any case.

    Examples
    --------
    >>> warm = {"standard_name": "air_temperature", "units": "K"}
    >>> suited("t", warm, np.array([280.0])).name
    'thermal'
    >>> suited("t", {**warm, "long_name": "Temperature anomaly"}, np.array([0.2])).name
    'diverging'
    """
    texts = [str(attrs.get(key, "")) for key in ("standard_name", "long_name")]
    words = {
        word for text in (*texts, str(name)) for word in re.findall(r"[a-z0-9]+", text.lower())
    }
    units = str(attrs.get("units", "")).strip().lower()
    low, high = _span(values)
    chosen = _by_words(words, texts[0], units, low, high)
    if chosen is None and units in _WARMTH_UNITS:
        chosen = "thermal"
    if chosen is None and units in _WATER_UNITS:
        chosen = "rain"
    return None if chosen is None else COLORMAPS[chosen]


def _by_words(words: set[str], standard: str, units: str, low: float, high: float) -> str | None:
    if words & _CHANGES:
        return "diverging"
    if low < 0 < high and (words & _SIGNED or standard.startswith(_SIGNED_STARTS)):
        return "diverging"
    if "direction" in words and units.startswith("degree"):
        return "phase"
    if words & _LEAVES:
        return "green"
    if words & _WARMTH:
        return "thermal"
    if words & _HEIGHTS:
        return "relief" if low < 0 else "land"
    return "rain" if words & _WATER else None


def _span(values: npt.NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
