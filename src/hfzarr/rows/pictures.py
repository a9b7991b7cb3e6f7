"""Small pictures of stores, as cells of a table."""

from __future__ import annotations

import io
from typing import Any

import numpy.typing as npt

from hfzarr.errors import MissingDependencyError
from hfzarr.rows.handle import ZarrHandle

__all__ = ["as_png", "check_pillow", "picture_cell"]

# Longest side in pixels: what a table's viewer shows, in a few kilobytes.
_SIDE = 192


def check_pillow() -> None:
    """Raise where there is nothing to encode pictures with.

    Raises
    ------
    MissingDependencyError
        Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            'thumbnails need Pillow, which is not installed: pip install "hfzarr[demo]"'
        ) from error


def picture_cell(handle: ZarrHandle) -> dict[str, Any]:
    """Return a picture of a store as a cell of a column of pictures, as `datasets` has them."""
    return {"bytes": as_png(handle.thumbnail(None, size=_SIDE)), "path": None}


def as_png(picture: npt.NDArray[Any]) -> bytes:
    """Return a picture, ``uint8`` of shape ``(height, width, 3)``, as the bytes of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()
