"""Where the files of a dataset lie on this machine, from which its relative cells count."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hfzarr.rows.places import folder_of, is_absolute, is_remote

__all__ = ["file_folders"]

# The places of these in the signature of `datasets.load_dataset`.
_POSITIONS = {"path": 0, "data_dir": 2, "data_files": 3}
# Their cells are absolute, and relative to no file.
_OURS = ("zarrfolder", "zarr")


def file_folders(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the folders of the files that `datasets.load_dataset` is to read, by split.

    Of what it read, `datasets` forgets where it lay, if that was on this machine.

    Parameters
    ----------
    args, kwargs
        As for `datasets.load_dataset`. A folder is what its cells count from, as the root of a
        repository of the Hub is; a file by its name, the folder that it lies in.

    Returns
    -------
    dict
        The key ``""`` is for every split. Empty where nothing on this machine is named.

    Examples
    --------
    >>> told = file_folders(["csv"], {"data_files": {"train": "/data/a/index.csv"}})
    >>> {split: sorted(folders) for split, folders in told.items()}
    {'train': ['/data/a']}
    """
    given = {name: args[at] for name, at in _POSITIONS.items() if at < len(args)}
    path, root, files = ({**given, **kwargs}.get(name) for name in _POSITIONS)
    if path in _OURS or not isinstance(path, (str, os.PathLike)):
        return {}
    if os.path.isdir(path):
        return {"": frozenset([os.path.abspath(path)])}
    if files is None:
        files = "" if root and os.path.isdir(root) else None
    if not files and files != "":
        return {}
    by_split = files if isinstance(files, Mapping) else {"": files}
    folders = {str(split): _folders(listed, root) for split, listed in by_split.items()}
    return {} if any(map(is_remote, frozenset().union(*folders.values()))) else folders


def _folders(files: Any, root: Any) -> frozenset[str]:
    listed: Iterable[Any] = [files] if isinstance(files, (str, os.PathLike)) else files
    found = set()
    for file in listed:
        place = os.fspath(file)
        if root and not is_absolute(place):
            place = os.path.join(root, place)
        folder = folder_of(place)
        # Files that a pattern finds in several folders have no folder in common to count from.
        found |= {folder, ""} if re.search(r"[*?\\[]", folder) else {folder}
    return frozenset(found)
