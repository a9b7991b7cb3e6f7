"""Whether a repo of the Hub is a store, or a table of stores."""

from __future__ import annotations

import re

from zarr.core.sync import sync

from hfzarr.store.hub.client import Login
from hfzarr.store.hub.paths import parse_hub_url
from hfzarr.store.hub.reader import HubReader
from hfzarr.store.hub.store import HubStore
from hfzarr.store.location import Location
from hfzarr.store.options import StorageOptions

__all__ = ["holds_a_table", "names_a_repo"]

_STORE = frozenset(["zarr.json", ".zgroup", ".zarray", ".zmetadata"])
# Files named metadata describe what lies beside them.
_TABLE = re.compile(r"(?!metadata\.).*\.(parquet|csv|tsv|jsonl|ndjson)(\.\w+)?", re.IGNORECASE)
# Where the Hub's own tools put the tables of a dataset.
_FOLDER = "data"
_CARD = "README.md"
# A card that says which files are the dataset's (front matter of the Hub's dataset cards).
_CONFIGS = re.compile(rb"\A---\r?\n(?:(?!---).*\n)*?configs:", re.MULTILINE)


def names_a_repo(url: str) -> bool:
    """Return whether a URL names a repo or a bucket of the Hub, and nothing in it.

    Examples
    --------
    >>> names_a_repo("hf://datasets/ada/cells@v1"), names_a_repo("hf://datasets/ada/cells/a.zarr")
    (True, False)
    """
    found = re.fullmatch(r"hf://((?:datasets|spaces|models|buckets)/)?[^/@]+/[^/@*]+(@.*)?/?", url)
    return found is not None and not parse_hub_url(url).path


def holds_a_table(location: Location) -> bool:
    """Look whether a repo is a table of stores: one request, where files or folders tell.

    Parameters
    ----------
    location
        Of a repo.

    Returns
    -------
    bool
        True where it has tables at its root or in ``data``, or a card that names some, and is no
        store itself.

    Raises
    ------
    StoreNotFoundError, ReadError
        There is no such repo, or it may not be seen.
    """
    options = StorageOptions.of(location.storage_options)
    # A reader of its own: what it lists is of no commit.
    reader = HubReader(HubStore(location.url, options).place, Login(options))
    found: bool = sync(_holds_a_table(reader))
    return found


async def _holds_a_table(reader: HubReader) -> bool:
    names = await reader.index.folder("")
    if _STORE & set(names):
        return False
    if any(map(_TABLE.fullmatch, names)):
        return True
    if _FOLDER in names and any(map(_TABLE.fullmatch, await reader.index.folder(_FOLDER))):
        return True
    if _CARD not in names:
        return False
    return _CONFIGS.match(await reader.get(_CARD) or b"") is not None
