"""Which files of a folder are the parts of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hfzarr.errors import ReadError
from hfzarr.rows.files import file_format, file_name, local_path
from hfzarr.rows.places import scheme_of
from hfzarr.store.cache.place import split_cache
from hfzarr.store.location import hide_secrets
from hfzarr.store.remote import reaching

__all__ = ["STORE_FILES", "table_files"]

#: Files any of which makes a folder a store.
STORE_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def table_files(place: str, options: Mapping[str, Any]) -> list[str]:
    """Return the parquet files of a folder and of ``data/`` in it, or all tables that match a glob.

    Files ``metadata.*`` describe stores beside them and are no tables of stores; neither is any
    file in a store.

    Parameters
    ----------
    place
        A folder or a glob, here or at a URL.
    options
        Options for fsspec.
    """
    import fsspec

    # A plain web server has no listings that can be relied on.
    if scheme_of(place) in ("http", "https"):
        return []
    here = local_path(place)
    shown = hide_secrets(place)
    with reaching(place, shown):
        fs, path = fsspec.core.url_to_fs(here or place, **split_cache(options)[0])
    try:
        if re.search(r"[*\[]", path):
            found = [each for each in fs.glob(path) if file_format(each)]
        else:
            found = _in_folder(fs, path.rstrip("/"))
    except FileNotFoundError:
        return []
    except Exception as error:
        raise ReadError(f"{shown!r} could not be listed: {error}") from error
    return sorted(each if here else fs.unstrip_protocol(each) for each in found)


def _in_folder(fs: Any, folder: str) -> list[str]:
    names = {file_name(each): each for each in fs.ls(folder, detail=False)}
    if any(name in names for name in STORE_FILES):
        return []
    files = list(names.values())
    if "data" in names and fs.isdir(names["data"]):
        inside = {file_name(each): each for each in fs.ls(names["data"], detail=False)}
        if not any(name in inside for name in STORE_FILES):
            files += inside.values()
    return [
        each
        for each in files
        if file_format(each) == "parquet"
        and not file_name(each).startswith("metadata.")
        and fs.isfile(each)
    ]
