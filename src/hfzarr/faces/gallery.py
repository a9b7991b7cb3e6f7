"""`hfzarr.gallery`: a table of stores as one page of pictures."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfzarr.errors import MissingDependencyError, TargetError, WriteError
from hfzarr.faces.gallery_page import Card, page
from hfzarr.plan.reshard import in_units
from hfzarr.rows.cells import cell_text
from hfzarr.rows.facts import METADATA, THUMBNAIL
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.html import picture_kind
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.opening import open_manifest
from hfzarr.rows.pictures import encoded
from hfzarr.rows.save import refuse_store
from hfzarr.rows.selection import ZarrSelection
from hfzarr.store.location import hide_secrets

__all__ = ["LIMIT", "Gallery", "gallery"]

#: Rows that a page shows unless it is told otherwise.
LIMIT = 500
_SIDE = 192
# A picture of a table that takes more is made smaller, so that a page of LIMIT rows stays below
# 50 MB.
_MOST_BYTES = 64 * 2**10
# One that decodes to more is not even looked at: it may be made to fill the memory.
_MOST_PIXELS = 50_000_000
_DRAWN_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """What was written. Returned by `gallery`; it prints.

    Attributes
    ----------
    file
        The page.
    rows
        Rows that it shows.
    left_out
        Rows of the table that it does not.
    pictures
        Rows with a picture.
    nbytes
        Size of the page.
    """

    file: str
    rows: int
    left_out: int
    pictures: int
    nbytes: int

    def __str__(self) -> str:
        more = f", {self.left_out:,} more left out" if self.left_out else ""
        return (
            f"{self.file}: {self.rows:,} rows{more}, {self.pictures:,} with a picture, "
            f"{in_units(self.nbytes)}"
        )


def gallery(
    manifest: Any,
    path: str | os.PathLike[str],
    *,
    limit: int = LIMIT,
    title: str | None = None,
    draw: bool = True,
    progress: bool = False,
) -> Gallery:
    """Write one page of thumbnails with the columns of a table, to be searched in any browser.

    The page needs no server and asks for nothing: pictures, style and script are in it, and its
    own policy forbids every request. It is filtered by words and by the values of columns that
    have few, works with the keyboard alone, and follows the browser in light and dark.

    Parameters
    ----------
    manifest
        A `Manifest`, or whatever `hfzarr.open_manifest` opens.
    path
        Where the page goes.
    limit
        Rows that are shown at most, the first ones. A picture takes 64 KiB at most.
    title
        What stands above; by default the table's name.
    draw
        Whether to draw the stores that have no picture in a column ``thumbnail``.
    progress
        Whether to show a bar while drawing.

    Returns
    -------
    Gallery
        What was written.

    Raises
    ------
    TargetError
        The table or an option makes no sense.
    WriteError
        The page could not be written.

    Examples
    --------
    >>> import tempfile, hfzarr
    >>> rows = hfzarr.open_manifest({"zarr": ["a.zarr", "b.zarr"], "label": ["cat", "dog"]})
    >>> print(gallery(rows, tempfile.mkdtemp() + "/page.html", draw=False))
    /.../page.html: 2 rows, 0 with a picture, ... KiB
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise TargetError(f"limit is a number of rows from 1 on, not {limit!r}")
    _check_place(Path(path))
    rows = manifest if isinstance(manifest, Manifest) else open_manifest(manifest)
    shown = rows[:limit]
    pictures = _pictures(shown, draw=draw, progress=progress)
    columns = [name for name in shown.columns if name not in (METADATA, THUMBNAIL)]
    cards = [
        _card(row, shown, columns, found)
        for row, found in zip(_plain_rows(shown, columns), pictures, strict=True)
    ]
    text = page(
        hide_secrets(rows.name) if title is None else title, columns, cards, len(rows) - len(shown)
    )
    data = text.encode("utf-8")
    _write(Path(path), data)
    return Gallery(
        file=os.fspath(path),
        rows=len(shown),
        left_out=len(rows) - len(shown),
        pictures=sum(card.picture is not None for card in cards),
        nbytes=len(data),
    )


# --- rows as text ---------------------------------------------------------------------------------


def _plain_rows(manifest: Manifest, columns: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = manifest.table.select(list(columns)).to_pylist()
    return rows


def _card(
    row: Mapping[str, Any], manifest: Manifest, columns: Sequence[str], found: _Picture
) -> Card:
    place = _place(row[manifest.column], manifest.base)
    values = {name: place if name == manifest.column else _told(row[name]) for name in columns}
    name = (place or "missing").split("#")[0].rstrip("/").rpartition("/")[2] or "missing"
    return Card(name=name, values=values, picture=found.data, side=found.side, note=found.note)


def _place(cell: Any, base: str) -> str | None:
    """Return where a row points, as the table has it: a page tells nothing of this machine."""
    if cell is None:
        return None
    text = hide_secrets(cell if isinstance(cell, str) else cell_text(cell))
    if "://" in text or not os.path.isabs(text):
        return text
    inside = os.path.relpath(text, base) if os.path.isabs(base) else text
    return (
        inside
        if not inside.startswith("..") and not os.path.isabs(inside)
        else os.path.basename(text.rstrip("/"))
    )


def _told(value: Any) -> str | None:
    """Return a value of a table as text."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join("–" if one is None else str(_told(one)) for one in value)
    if isinstance(value, (bytes, bytearray)):
        return in_units(len(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_told(one)}" for key, one in value.items())
    return str(value)


# --- pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    data: bytes | None = None
    side: int = 0
    note: str = ""


def _pictures(manifest: Manifest, *, draw: bool, progress: bool) -> list[_Picture]:
    """Return the picture of each row: that of the table, else one that is drawn now."""
    stored: list[Any] = [None] * len(manifest)
    if THUMBNAIL in manifest.columns:
        stored = manifest.table.column(THUMBNAIL).to_pylist()
    handles = manifest.handles() if draw else [None] * len(manifest)

    def make(place: int) -> _Picture:
        data = _bytes_of(stored[place])
        if data is not None:
            return _fitting(data)
        handle = handles[place]
        return _Picture(note="no picture") if handle is None else _drawn(handle)

    with (
        _bar(progress, len(manifest)) as tell,
        ThreadPoolExecutor(_DRAWN_AT_ONCE, thread_name_prefix="hfzarr-gallery") as pool,
    ):
        try:
            return [tell(one) for one in pool.map(make, range(len(manifest)))]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _bytes_of(cell: Any) -> bytes | None:
    """Return the bytes in a cell of pictures; a path there is not followed."""
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    return bytes(data) if isinstance(data, (bytes, bytearray)) and data else None


def _fitting(data: bytes) -> _Picture:
    """Return a picture of the table as it is, or made smaller where it is large."""
    try:
        from PIL import Image
    except ImportError:
        sound = picture_kind(data) is not None and len(data) <= _MOST_BYTES
        return _Picture(data=data) if sound else _Picture(note=_no_pillow("the picture is large"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "GIF", "WEBP"]) as opened:
                width, height = opened.size
                if width * height > _MOST_PIXELS:
                    return _Picture(note=f"a picture of {width} × {height} pixels is too large")
                if len(data) <= _MOST_BYTES and picture_kind(data) is not None:
                    return _Picture(data=data, side=max(width, height))
                opened.draft("RGB", (_SIDE, _SIDE))
                small = opened.convert("RGB")
        small.thumbnail((_SIDE, _SIDE))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85)
    except Exception as error:
        # A damaged picture is no reason to have no page.
        return _Picture(note=f"the picture cannot be read ({type(error).__name__})")
    return _Picture(data=file.getvalue(), side=max(small.size))


def _drawn(handle: ZarrHandle | ZarrSelection) -> _Picture:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(handle, ZarrSelection):
                drawn = handle.to_xarray().hfzarr.thumbnail(size=_SIDE)
            else:
                drawn = handle.thumbnail(None, size=_SIDE)
        data = encoded(drawn)
    except MissingDependencyError:
        return _Picture(note=_no_pillow("nothing is drawn"))
    except Exception as error:
        # A page is worth more than its pictures, and not every store has one.
        return _Picture(note=_why(error))
    if len(data) > _MOST_BYTES:
        data = encoded(drawn, "JPEG")
    return _Picture(data=data, side=max(drawn.shape[:2]))


def _why(error: Exception) -> str:
    """Return the kind of an error: its text may hold a path of this machine."""
    words = "".join(f" {one.lower()}" if one.isupper() else one for one in type(error).__name__)
    return f"no picture:{words.removesuffix(' error')}"


def _no_pillow(what: str) -> str:
    return f'{what}, and Pillow is not installed: pip install "hfzarr[demo]"'


@contextlib.contextmanager
def _bar(show: bool, total: int) -> Iterator[Callable[[_Picture], _Picture]]:
    """Count pictures, with a bar while the block lasts."""
    if not show:
        yield lambda picture: picture
        return
    from tqdm import tqdm

    with tqdm(desc="pictures", total=total, unit=" rows") as bar:

        def tell(picture: _Picture) -> _Picture:
            bar.update()
            return picture

        yield tell


def _check_place(path: Path) -> None:
    """Refuse a place where no file can be, before pictures are drawn."""
    if not path.name or path.is_dir():
        raise WriteError(f"the page {os.fspath(path)!r} names no file: give one, such as page.html")
    refuse_store(os.path.abspath(path))
    if not path.parent.is_dir():
        raise WriteError(
            f"there is no folder {os.fspath(path.parent)!r} for the page: make it first"
        )


def _write(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    # A name of 255 letters is one that may be written, so this one is not longer.
    beside = path.with_name(f".{path.name[:40]}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise WriteError(f"the page {os.fspath(path)!r} could not be written: {error}") from error
