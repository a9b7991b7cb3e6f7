"""What a user names to be pushed becomes a manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hfzarr.errors import HfzarrError
from hfzarr.rows.cells import cell_text
from hfzarr.rows.files import file_format
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.opening import open_manifest
from hfzarr.rows.scan import scan
from hfzarr.rows.selection import ZarrSelection
from hfzarr.store.location import locate

__all__ = ["as_manifest"]

_STORES = (".zip", ".ozx")


def as_manifest(source: Any, storage_options: Mapping[str, Any] | None) -> Manifest:
    """Return the stores that a user names, as a table.

    Parameters
    ----------
    source
        A manifest or anything that `hfzarr.open_manifest` takes; a path, URL, pattern or list of
        paths that `hfzarr.scan` takes; a handle, or a zarr store, group or array with an address.
    storage_options
        Options for reading the source.

    Raises
    ------
    TargetError
        It is none of these, or lies in memory.
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if file_format(text) and not text.lower().endswith(_STORES):
            return open_manifest(text, storage_options=storage_options, duplicates="keep")
        return scan(text, facts=False, storage_options=storage_options)
    if isinstance(source, list) and source and all(_is_path(each) for each in source):
        return scan(source, facts=False, storage_options=storage_options)
    if isinstance(source, (ZarrHandle, ZarrSelection)):
        options = source.options if isinstance(source, ZarrHandle) else source.handle.options
        return open_manifest(
            {"zarr": [cell_text(source)]}, storage_options=storage_options or options.resolve()
        )
    try:
        address = cell_text(source)
    except HfzarrError:
        return open_manifest(source, storage_options=storage_options, duplicates="keep")
    return scan(locate(address).url, facts=False, storage_options=storage_options)


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))
