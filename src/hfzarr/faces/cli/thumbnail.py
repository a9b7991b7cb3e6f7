"""``hfzarr thumbnail``: a picture of a store as a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hfzarr.errors import AmbiguousTargetError, TargetError, UnnamedDimensionsError
from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.looking import quiet_repairs
from hfzarr.faces.cli.option_types import LEVEL
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, group, quiet, storage_options, target

__all__ = ["thumbnail"]


class Projection(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """How a volume is projected: by a word, or a plane by its number or place."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an integer or a float for a number."""
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
        return super().convert(value, param, ctx)


@click.command(
    "thumbnail",
    cls=Command,
    short_help="a picture of a store",
    examples=[
        "cells.ome.zarr -o cells.png",
        "volume.zarr -o middle.jpg --size 512 --projection slice",
        "scene.zarr -o scene.png --group measurements/reflectance --max-bytes 16MiB",
        "cells.ome.zarr -o cells.png --labels nuclei --projection 12",
        "anomalies.zarr -o anomalies.png --cmap diverging",
        "cells.ome.zarr -o - > cells.png",
    ],
)
@target()
@click.option(
    "-o", "--output", required=True, type=click.Path(), metavar="FILE",
    help="where the picture goes, in the format that its ending names; - for standard output, "
    "as PNG",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(min=1), default=256, metavar="PIXELS",
    help="pixels of the longer side; never more than the image has",
)  # fmt: skip
@click.option(
    "--level", type=LEVEL, metavar="LEVEL",
    help="level of a pyramid, by number or name; by default the coarsest that is large enough",
)  # fmt: skip
@click.option(
    "--projection", "--project", "project", type=Projection(["max", "mean", "slice"]),
    default="max", metavar="[max|mean|slice|N]",
    help="what is shown of a volume's z; slice is its middle, 12 the plane of that number, 12.0 "
    "the one at that place in the coordinate's units",
)  # fmt: skip
@click.option(
    "--labels", multiple=True, metavar="NAME",
    help="labels to lay over the image, or all for all that there are; may be given several times",
)  # fmt: skip
@click.option(
    "--cmap", metavar="NAME",
    help="colours of an amount, such as diverging, thermal, rain, land or grey, or a colormap of "
    "matplotlib where it is installed; by default what the store says of the amount decides",
)  # fmt: skip
@click.option(
    "--max-bytes", default="64MiB", metavar="SIZE",
    help="decoded bytes of the chunks that may be read; what takes more is shown in part",
)  # fmt: skip
@group()
@storage_options()
@quiet()
@as_json("print what was written as JSON, for machines")
def thumbnail(
    target: str,
    output: str,
    group: str | None,
    storage_options: Mapping[str, Any] | None,
    quiet: bool,
    as_json: bool,
    labels: tuple[str, ...],
    **options: Any,
) -> int:
    """Draw a small picture of a store, from the coarsest level of it that serves.

    Channels are shown in their colours through their windows (percentiles where there is none),
    labels each in a colour, amounts in colours that suit them, maps with their north above. No
    more than --max-bytes is read.
    """
    from hfzarr.rows.pictures import check_pillow, encoded
    from hfzarr.rows.save import refuse_store

    check_pillow()
    format = _format(output)
    if output != "-":
        refuse_store(os.path.abspath(output))
    options["labels"] = "all" in labels or labels or False
    with quiet_repairs():
        picture = _opened(target, group, storage_options).hfzarr.thumbnail(**options)
    data = encoded(picture, format)
    if output == "-":
        sys.stdout.buffer.write(data)
        return 0
    Path(output).write_bytes(data)
    height, width = picture.shape[:2]
    if as_json:
        say_json({"file": output, "width": width, "height": height, "bytes": len(data)})
    elif not quiet:
        say(f"{output}: {width} × {height} pixels, {len(data):,} bytes")
    return 0


def _format(output: str) -> str:
    """Return the format that the ending of a file names."""
    if output == "-":
        return "png"
    suffix = Path(output).suffix.lstrip(".")
    if not suffix:
        raise TargetError(
            f"the ending of {output!r} names no format; give one such as .png or .jpg"
        )
    return suffix


def _opened(target: str, group: str | None, options: Mapping[str, Any] | None) -> Any:
    """Return a store as a Dataset, or as a tree where it is none."""
    import xarray as xr

    place: dict[str, Any] = {"group": group, "storage_options": options}
    try:
        return xr.open_dataset(target, engine="hfzarr", **place)
    except (AmbiguousTargetError, UnnamedDimensionsError):
        return xr.open_datatree(target, engine="hfzarr", **place)
