"""What handles, selections, manifests, plans and costs look like in a notebook: a real browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
import zarr

import hfzarr
from browser import Page, running_page
from hfzarr.plan.cost import Cost, VariableCost
from hfzarr.plan.push import PushPlan, StorePush

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
#: No slash: it is to be a name of a file, too.
NAME = "<img src=x onerror=document.title='owned'>&lt;\"'"
LONG = "a_name_without_any_break_" * 9

# Background and text of pages that reprs are shown on, as their programs set them.
PAGES = {
    "plain": ("Canvas", "CanvasText", ""),
    "jupyterlab": ("#ffffff", "rgba(0, 0, 0, 0.87)", "light"),
    "jupyterlab dark": ("#111111", "rgba(255, 255, 255, 0.87)", "dark"),
    "vscode": ("#ffffff", "#3b3b3b", "light"),
    "vscode dark": ("#1f1f1f", "#cccccc", "dark"),
    "github dark": ("#0d1117", "#e6edf3", "dark"),
    "colab dark": ("#383838", "#d5d5d5", "dark"),
}
# What notebooks do to tables that do not say otherwise.
TABLES = """
tbody tr:nth-child(even) { background: rgba(128, 128, 128, .1) }
td { white-space: normal }
"""
CONTRAST = """
(() => {
  const rgba = text => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return {c: n.slice(0, 3), a: n.length > 3 ? n[3] : 1};
  };
  const over = (top, a, below) => below.map((v, i) => a * top[i] + (1 - a) * v);
  const light = c => {
    const l = c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    if (!text) continue;
    const chain = [];
    for (let e = walk.currentNode.parentElement; e; e = e.parentElement) chain.unshift(e);
    let under = [255, 255, 255], opacity = 1;
    for (const e of chain) {
      const style = getComputedStyle(e), back = rgba(style.backgroundColor);
      opacity *= Number(style.opacity);
      under = over(back.c, back.a * opacity, under);
    }
    const ink = rgba(getComputedStyle(chain.at(-1)).color);
    const shown = light(over(ink.c, ink.a * opacity, under)), ground = light(under);
    const ratio = (Math.max(shown, ground) + .05) / (Math.min(shown, ground) + .05);
    found.push([ratio, text.slice(0, 60)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 200, "uint8")).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module", name="reprs")
def all_reprs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the HTML of each, made of a store with names that mean harm, and long ones."""
    folder = tmp_path_factory.mktemp("reprs")
    path = folder / f"{NAME}.zarr"
    values = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    names = {NAME: values, LONG: values, "plain": values}
    # zarr-python 3.4 cuts a path that is given as text at its first semicolon.
    store = zarr.storage.LocalStore(path)
    xr.Dataset({name: (("y", "x"), v) for name, v in names.items()}).to_zarr(
        store, zarr_format=3, consolidated=False, encoding={n: {"chunks": (8, 8)} for n in names}
    )
    zarr.open_group(store).attrs.update({EVIL: EVIL, LONG: LONG})
    handle = hfzarr.ZarrHandle(str(path))
    array = hfzarr.ZarrHandle(str(path), "plain")
    manifest = hfzarr.open_manifest(_table(path), "zarr")
    opened = xr.open_dataset(path, engine="hfzarr", consolidated=False)
    plan = hfzarr.plan_reshard(path, folder / f"{LONG[:99]}.zarr", shard="8 KiB")
    made = {
        "group": handle,
        "array": array,
        "absent": hfzarr.ZarrHandle(f"{folder}/{NAME} gone.zarr"),
        "selection": array.select((slice(0, 32), slice(4, 60))),
        "manifest": manifest,
        "reshard plan": plan,
        "push plan": _push_plan(),
        "cost": opened.hfzarr.explain({"y": 16, "x": 16}),
        "large cost": _cost(),
    }
    return {name: one._repr_html_() for name, one in made.items()}


def _table(path: Path) -> Any:
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "zarr": [str(path), f"{LONG}.zarr", "sets/c.zarr"],
        EVIL: [EVIL, LONG, None],
        **{f"column number {i}": [f"{i} and some words", "", "x"] for i in range(9)},
        "thumbnail": pa.array([{"bytes": png(), "path": None}] * 3, picture),
    }
    return pa.table(columns)


def _push_plan() -> PushPlan:
    stores = [
        StorePush(
            path=name, source=name, route="reshard", files_before=10_000, files_after=12,
            nbytes=2**33, fullest=20_000, note=note,
        )
        for name, note in ((NAME, EVIL), (LONG, LONG), ("a.zarr", ""))
    ]  # fmt: skip
    where = "hf://datasets/ada/cells"
    return PushPlan(repo=where, data_repo=where, stores=tuple(stores), rows=3, notes=(EVIL, LONG))


def _cost() -> Cost:
    numbers = {"requests": 10**9, "chunks": 10**9, "chunk_decodes": 10**9, "shards": 10**6}
    many = {f"bytes_{what}": 10**15 for what in ("fetched", "stored", "decoded", "delivered")}
    one = [VariableCost(name=name, tasks=10**6, **numbers, **many) for name in (NAME, LONG)]
    return Cost(
        what=EVIL, variables=tuple(one), groups=10**6, peak_memory=2**40, notes=(EVIL, LONG)
    )


#: What is to be read there, word for word.
KINDS = {
    "group": [NAME, EVIL],
    "array": [NAME],
    "absent": [f"{NAME} gone.zarr"],
    "selection": [NAME, "[0:32, 4:60]"],
    "manifest": [EVIL, "sets/c.zarr"],
    "reshard plan": [NAME, "plain"],
    "push plan": [NAME, EVIL, "a.zarr"],
    "cost": [NAME, "plain"],
    "large cost": [NAME, EVIL],
}
PICTURES = {"array": 1, "selection": 1, "manifest": 3}


@pytest.fixture(scope="module", name="page")
def a_page() -> Iterator[Page]:
    with running_page() as page:
        yield page


def shown(page: Page, folder: Path, html: str) -> None:
    """Show a repr on a page 800 pixels wide, as a notebook would."""
    (folder / "page.html").write_text(
        "<!doctype html><meta charset=utf-8><title>notebook</title>"
        f"<style>html {{ color-scheme: light dark }} {TABLES}</style><body>{html}",
        "utf-8",
    )
    size = {"width": 800, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.send("Emulation.setDeviceMetricsOverride", **size)
    page.requests.clear()
    page.messages.clear()
    page.open(folder / "page.html")


def dressed(page: Page, look: str, scheme: str) -> None:
    """Give the page the colours that a notebook has."""
    ground, ink, own = PAGES[look]
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.send("Emulation.setEmulatedMedia", features=features)
    page.get(f"document.documentElement.style.colorScheme = '{own or 'light dark'}'")
    page.get(f"document.body.style = 'background: {ground}; color: {ink}'")


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_read_on_light_pages_and_dark_ones(kind, reprs, page, tmp_path):
    shown(page, tmp_path, reprs[kind])
    for look, (*_, own) in PAGES.items():
        for scheme in (own,) if own else ("light", "dark"):
            dressed(page, look, scheme)
            ratios = page.get(CONTRAST)
            assert len(ratios) >= 2
            assert ratios[0][0] >= 4.5, (look, scheme, ratios[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_nothing_asks_nobody_and_shows_names_as_they_are(kind, reprs, page, tmp_path):
    shown(page, tmp_path, reprs[kind])
    assert page.get("document.title") == "notebook"
    assert page.get("document.scripts.length") == 0
    assert page.get(
        "[...document.querySelectorAll('body *')].every(e => "
        "e.getAttributeNames().every(name => !name.startsWith('on')))"
    )
    # The only pictures are in the page itself.
    assert page.get("[...document.images].every(i => i.src.startsWith('data:image/'))")
    assert page.get("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.get("document.images.length") == PICTURES.get(kind, 0)
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}
    assert len([url for url in page.requests if url.startswith("file")]) == 1
    assert page.messages == []
    text = page.get("document.body.textContent")
    for name in KINDS[kind]:
        assert name in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_no_wider_for_it_and_all_of_it_can_be_reached(kind, reprs, page, tmp_path):
    shown(page, tmp_path, reprs[kind])
    assert page.get("document.documentElement.scrollWidth") <= 800
    # What is wider scrolls by itself: nothing is cut off for good.
    cut = page.get(
        "[...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1 "
        "&& getComputedStyle(e).overflowX == 'hidden').map(e => e.outerHTML)"
    )
    assert cut == []


@pytest.mark.parametrize("kind", ["reshard plan", "push plan", "cost", "large cost"])
def test_numbers_stand_below_each_other(kind, reprs, page, tmp_path):
    shown(page, tmp_path, reprs[kind])
    edges = page.get(
        "[...document.querySelectorAll('tr')].map(row => { const cell = row.lastElementChild; "
        "const range = document.createRange(); range.selectNodeContents(cell); "
        "return Math.round(range.getBoundingClientRect().right) })"
    )
    assert len(edges) > 1
    assert len(set(edges)) == 1
