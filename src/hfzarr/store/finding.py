"""From a location to the node that lies there, or to an error that says what does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hfzarr.errors import HfzarrError, NodeNotFoundError, StoreNotFoundError
from hfzarr.model.report import Report
from hfzarr.store.connect import connect
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import Location, join_path
from hfzarr.store.zipped import ZipSource

__all__ = ["Found", "find_node", "naming"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A node, and the store that it lies in.

    Attributes
    ----------
    hierarchy
        The store's metadata, as far as it was read.
    node
        The node's own.
    """

    hierarchy: Hierarchy
    node: NodeDoc


def find_node(
    location: Location,
    group: str = "",
    *,
    report: Report,
    consolidated: bool | None = None,
    zarr_format: Literal[2, 3] | None = None,
) -> Found:
    """Read the metadata of the node at a location, or at a path below it.

    Parameters
    ----------
    location
        Where the store lies.
    group
        Path below the location's own.
    report
        Takes what is wrong with the store's place.
    consolidated, zarr_format
        As for `Hierarchy`.

    Raises
    ------
    StoreNotFoundError
        There is no store.
    NodeNotFoundError
        The store has no such group or array.
    """
    source = connect(location, carried=consolidated is not False)
    with naming(source.url):
        if isinstance(source, ZipSource) and source.prefix:
            report.must(
                "",
                "RFC-9, and Zarr's zip store: the metadata of the root lies at the root of the zip",
                f"the store lies in the folder {source.prefix!r} of the zip",
                "that folder is taken as the root",
            )
        held = getattr(location.held, "supports_consolidated_metadata", True)
        hierarchy = Hierarchy(
            source, consolidated=consolidated if held else False, zarr_format=zarr_format
        )
        path = join_path(location.path, group)
        node = hierarchy.open(path)
    if node is None:
        raise _not_found(hierarchy, location, path)
    return Found(hierarchy=hierarchy, node=node)


def _not_found(hierarchy: Hierarchy, location: Location, path: str) -> HfzarrError:
    url = hierarchy.source.url
    with contextlib.suppress(HfzarrError):
        if path and hierarchy.node("") is not None:
            parent = path.rpartition("/")[0]
            near = [child.rpartition("/")[2] for child in hierarchy.children(parent)]
            return NodeNotFoundError(
                f"store {url!r} has no group or array {path!r}; below {parent or '/'!r} it has "
                f"{near[:20]}. Give one of them as group=."
            )
    if hierarchy.refused:
        return StoreNotFoundError(
            f"there is no Zarr store at {url!r} that may be read: access to "
            f"{hierarchy.refused[:3]} was refused. Log in, or give what the server wants to know "
            "in storage_options=, such as {'anon': True} for a public bucket."
        )
    hint = "Check the path, and that it names the store itself rather than a folder around it."
    with contextlib.suppress(HfzarrError):
        names = hierarchy.source.list_dir("")
        stores = [name for name in names if ".zarr" in name or name.endswith((".ozx", ".zip"))]
        if stores:
            hint = f"It is a folder with stores in it: {stores[:10]}. Open one of them."
        elif isinstance(hierarchy.source, ZipSource) and hierarchy.source.store_folders():
            folders = hierarchy.source.store_folders()
            hint = f"The zip has stores in the folders {folders[:10]}. Name one with group=."
        elif "manifest.ocdbt" in names:
            hint = "It is an OCDBT database, which only tensorstore reads; export it to Zarr."
        elif names:
            hint = f"What is there: {names[:10]}. {hint}"
    at = f"{url}/{path}" if path else url
    return StoreNotFoundError(
        f"there is no Zarr store at {at!r}: no zarr.json, .zgroup or .zarray there. {hint}"
    )


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Put the store's name into errors that do not name it yet."""
    try:
        yield
    except HfzarrError as error:
        message = str(error)
        if url in message:
            raise
        raise type(error)(f"store {url!r}: {message}") from error
