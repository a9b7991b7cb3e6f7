"""Names that steer a terminal, turn text around or hold HTML are shown as what they are."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr

import hfzarr
from hfzarr.errors import HfzarrError
from rawstores import image_attrs, scaled, write_array, write_group
from strangers import open_dataset

NASTY = "e\u202evil\n\r\x1b[31m\x07\u2066<script>alert(1)</script>\"'&"


def unseen(text: str) -> set[str]:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {one for one in text if one != "\n" and unicodedata.category(one) in kinds}


def nasty_image(store: Path) -> Path:
    axes = [{"name": NASTY, "type": "space", "unit": NASTY}, {"name": "x", "type": NASTY}]
    attrs = image_attrs(3, name=NASTY, axes=axes, type=NASTY, metadata={NASTY: NASTY})
    window = {"start": 0, "end": 1, "min": 0, "max": 1}
    channel = {"label": NASTY, "color": NASTY, "window": window}
    attrs["ome"]["omero"] = {"name": NASTY, "channels": [channel]}
    attrs["ome"]["multiscales"][0]["datasets"].append(scaled(NASTY, 1, 1))
    write_group(store, attrs, 3)
    write_array(store / "0", (8, 16), 3, dims=["y", "x"], attributes={NASTY: NASTY})
    write_array(store / "1", (4, 8), 3, dims=["y", "x"])
    write_group(store / "labels", {"ome": {"version": "0.5", "labels": [NASTY]}}, 3)
    return store


def nasty_group(store: Path) -> Path:
    name = NASTY.replace("/", "|")
    write_group(store, {NASTY: NASTY}, 3)
    write_array(store / name, (4,), 3, dims=[name], attributes={NASTY: NASTY})
    return store


def said(path: str, target: str) -> Iterator[tuple[str, str]]:
    """Yield whatever is shown of a store by texts of this package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            dataset = xr.open_dataset(path, engine="hfzarr", drop_variables=[NASTY])
        except HfzarrError as error:
            yield "error", str(error)
        else:
            yield "diagnose", str(dataset.hfzarr.diagnose())
            yield "explain", str(dataset.hfzarr.explain())
            yield "accessor", repr(dataset.hfzarr)
    yield from (("warning", str(one.message)) for one in caught)
    for options in ({"on_invalid": "raise"}, {"group": NASTY}):
        try:
            open_dataset(Path(path), **options)
        except HfzarrError as error:
            yield str(options), str(error)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from said_of_rows(path, target)


def said_of_rows(path: str, target: str) -> Iterator[tuple[str, str]]:
    """Yield what is shown of it as a row of a table."""
    handle = hfzarr.ZarrHandle(path)
    yield "handle", repr(handle)
    yield "handle html", handle._repr_html_()
    yield "info", repr(handle.info())
    yield "validate", str(hfzarr.validate(path))
    plan = hfzarr.plan_reshard(path, target)
    yield "plan", repr(plan)
    yield "plan html", plan._repr_html_()
    manifest = hfzarr.scan(path)
    yield "scan", repr(manifest)
    yield "scan html", manifest._repr_html_()


@pytest.mark.parametrize("make", [nasty_image, nasty_group], ids=["image", "group"])
def test_what_is_shown_deceives_nobody(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    store = make(tmp_path / "s.zarr")
    shown = list(said(str(store), str(tmp_path / "t.zarr")))
    assert len(shown) > 8
    for what, text in shown:
        assert unseen(text) == set(), what
        assert "html" not in what or "<script" not in text, what


def test_a_table_deceives_nobody() -> None:
    manifest = hfzarr.open_manifest({"image": ["a\u202e.zarr"], NASTY: [NASTY]})
    assert unseen(repr(manifest)) == set()
    assert unseen(manifest._repr_html_()) == set()
    assert "<script" not in manifest._repr_html_()
