"""What a store says of itself as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.store.node import Kind

__all__ = ["StoreInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What a store says of itself as a whole.

    Attributes
    ----------
    zarr_format
        2 or 3.
    kind
        ``"array"``, ``"image"``, ``"plate"``, ``"well"``, ``"collection"`` or ``"group"``.
    arrays
        Paths of all its arrays; ``""`` is the store itself.
    attrs
        Its attributes.
    """

    zarr_format: int
    kind: Kind
    arrays: tuple[str, ...]
    attrs: Mapping[str, Any]
