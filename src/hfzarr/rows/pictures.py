"""Pictures as bytes: of a region, and small ones of stores as cells of a table."""

from __future__ import annotations

import io
from typing import Any

import numpy.typing as npt

from hfzarr.errors import (
    AmbiguousTargetError,
    MissingDependencyError,
    TargetError,
    UnnamedDimensionsError,
)
from hfzarr.rows.handle import ZarrHandle

__all__ = ["check_pillow", "encoded", "picture_cell", "picture_of"]

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
            'pictures need Pillow, which is not installed: pip install "hfzarr[demo]"'
        ) from error


def picture_of(handle: ZarrHandle, level: int | str | None, **options: Any) -> npt.NDArray[Any]:
    """Return a picture of a store: of a Dataset, or of a tree where its pixels lie in groups."""
    place = {"consolidated": handle.store.hierarchy.consolidated or False}
    if handle.kind == "image":
        options["level"] = level
    opened: Any
    try:
        opened = handle.open_dataset(**place)
    except (AmbiguousTargetError, UnnamedDimensionsError):
        opened = handle.open_datatree(**place)
    picture: npt.NDArray[Any] = opened.hfzarr.thumbnail(**options)
    return picture


def picture_cell(handle: ZarrHandle) -> dict[str, Any]:
    """Return a picture of a store as a cell of a column of pictures, as `datasets` has them."""
    return {"bytes": encoded(handle.thumbnail(None, size=_SIDE)), "path": None}


def encoded(picture: npt.NDArray[Any], format: str = "PNG") -> bytes:
    """Return a picture as the bytes of an image file.

    Parameters
    ----------
    picture
        ``uint8``, shape ``(height, width)``, or with 3 or 4 colours last.
    format
        Any format that Pillow writes, by name or suffix.

    Raises
    ------
    MissingDependencyError
        Pillow is not installed.
    TargetError
        Pillow does not write the format.
    """
    check_pillow()
    from PIL import Image

    if not isinstance(format, str):
        raise TargetError(f"a format is named by text, such as 'PNG', not by {format!r}")
    suffix = "." + format.lower().lstrip(".")
    name = Image.registered_extensions().get(suffix, format.upper())
    if name not in Image.SAVE:
        raise TargetError(f"Pillow writes no images of format {format!r}; 'PNG' and 'JPEG' do")
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format=name)
    return file.getvalue()
