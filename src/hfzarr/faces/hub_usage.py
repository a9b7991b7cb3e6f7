"""What the card of an index tells its readers: what is in it, and how it is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hfzarr.plan.reshard import in_units
from hfzarr.rows.facts import FACTS, METADATA, THUMBNAIL

__all__ = ["usage_text"]

_COLUMNS = {
    "kind": "what it is: array, image, group, plate, well or collection",
    "format": "version of Zarr",
    "ome_version": "version of OME-Zarr",
    "shape": "pixels along each axis, of an image at its finest level",
    "dtype": "data type of these pixels",
    "axes": "names of these axes",
    "scale": "step from pixel to pixel along each axis",
    "translation": "position of the first pixel along each axis",
    "unit": "unit of each axis",
    "channels": "names of the channels",
    "levels": "number of resolutions",
    "bytes": "decoded bytes of these pixels, or of all arrays of a group",
    METADATA: "all metadata of the store, so that it opens without a request",
    THUMBNAIL: "a picture of the store",
    "label": "name of the folder that the store lay in, or what was said of it",
}
# What plain zarr opens by its URL.
_PLAIN_URL = re.compile(r"hf://[^\s`<>\"'#?\\]+")
_ZIPPED = re.compile(r"(?i)\.(zip|ozx)$")


def usage_text(
    *,
    repo_id: str,
    column: str,
    features: Mapping[str, Any],
    rows: Mapping[str, int],
    index_bytes: int,
    data_bytes: int,
    store: str,
) -> str:
    """Return the part of a card that tells of an index, in Markdown.

    Parameters
    ----------
    repo_id
        The dataset repository of the index.
    column
        The column of stores.
    features
        What each column is, in the words of `datasets`.
    rows
        Number of rows of each split.
    index_bytes
        Bytes of its files.
    data_bytes
        Decoded bytes of all stores; 0 where that is not known.
    store
        The URL of one store; "" for none.
    """
    selections = "_type" not in features[column]
    thing = "region of a Zarr store" if selections else "Zarr store"
    decoded = f": {in_units(data_bytes)} of pixels in all, when decoded" if data_bytes else ""
    total = sum(rows.values())
    parts = [
        "## What is in it",
        f"A table of {total:,} row{'' if total == 1 else 's'}. Each names a {thing} in the column "
        f"{_code(column)}{decoded}. The table itself takes {in_units(index_bytes)}; pixels stay "
        "where they are until they are read.",
        _table(("split", "rows"), [(_code(name), f"{n:,}") for name, n in rows.items()]),
        _table(
            ("column", "type", "meaning"),
            [
                (_code(name), _kind(feature), _meaning(name, column, features, selections))
                for name, feature in features.items()
            ],
        ),
        *_ways(repo_id, column, next(iter(rows)), store, selections=selections),
    ]
    return "\n\n".join(parts)


def _ways(repo_id: str, column: str, split: str, store: str, *, selections: bool) -> list[str]:
    """Return how the table is opened, and one store of it."""
    cell = json.dumps(column, ensure_ascii=False)
    lazy = "selections" if selections else "handles of stores"
    text = "structs" if selections else "URLs, as text"
    restored = [f"rows = hfzarr.restore(rows, columns=[{cell}])"] if selections else []
    table = f"hf://datasets/{repo_id}"
    ways = [
        "## How to open it",
        'With xarray, after `pip install "hfzarr[hub,datasets]"`: all rows as one lazy Dataset, '
        "where they are alike, or one by one.",
        _block(
            "import hfzarr",
            "import xarray as xr",
            "",
            f'ds = xr.open_dataset("{table}", engine="hfzarr")  # a dim "row"',
            f'manifest = hfzarr.open_manifest("{table}")',
            f"handle = manifest[0][{cell}]  # nothing of the store has been read",
        ),
        f"With `datasets`, with hfzarr imported: cells are {lazy}. Without it they are {text}.",
        _block(
            "import hfzarr",
            "from datasets import load_dataset",
            "",
            f'rows = load_dataset("{repo_id}", split="{split}", streaming=True)',
            *restored,
            f"handle = next(iter(rows))[{cell}]",
        ),
    ]
    if _PLAIN_URL.fullmatch(store) and not _ZIPPED.search(store):
        ways += [
            "One store, with plain zarr and huggingface_hub:",
            _block("import zarr", "", f'store = zarr.open("{store}", mode="r")'),
        ]
    return ways


def _block(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(name: str) -> str:
    """Return a name as code in a table, whatever it holds."""
    plain = re.sub(r"[\s`]+", " ", name).replace("--", "- -").replace("|", "\\|").strip()
    return f"`{plain}`" if plain else "(no name)"


def _kind(feature: Mapping[str, Any]) -> str:
    word = feature.get("_type")
    if not isinstance(word, str):
        return "struct"
    if word in ("List", "LargeList"):
        return f"list of {_kind(feature['feature'])}"
    return str(feature["dtype"]) if word == "Value" else word


def _meaning(name: str, column: str, features: Mapping[str, Any], selections: bool) -> str:
    if name == column:
        return (
            "the region: store, node, level, and pixels from start to stop"
            if selections
            else ("where the store lies")
        )
    if (fact := name.removeprefix("zarr_")) in FACTS and fact != name:
        return _COLUMNS[fact]
    # A column of the user's that is called like a fact: the fact has another name then.
    return "" if f"zarr_{name}" in features else _COLUMNS.get(name, "")
