"""``hfzarr info``, ``tree`` and ``explain``: what a store holds, and what reading would cost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.option_types import LENGTHS, LEVEL, WINDOW
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, group, storage_options, target

__all__ = ["explain", "info", "quiet_repairs", "tree"]


@contextmanager
def quiet_repairs() -> Iterator[None]:
    """Keep silent on repairs, where they are printed at more length, or change no answer."""
    from hfzarr.errors import RepairWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepairWarning)
        yield


@click.command(
    "info",
    cls=Command,
    short_help="what a store holds, and what is wrong with its metadata",
    examples=[
        "cells.ome.zarr",
        "cells.ome.zarr.zip --json",
        "s3://bucket/scene.zarr --group 0 --storage-options '{\"anon\": true}'",
        "index.parquet",
    ],
)
@target()
@group()
@storage_options()
@as_json()
def info(
    target: str, group: str | None, storage_options: Mapping[str, Any] | None, as_json: bool
) -> int:
    """Print what a store holds as xarray sees it, and what is wrong with its metadata.

    TARGET is a path, a zip file or a URL of a store, or a table of stores (parquet, CSV, JSONL),
    of which the first rows are printed. No pixel is read.
    """
    from hfzarr.faces.manifests import names_a_table

    if names_a_table(target, storage_options):
        return _table_info(target, storage_options, as_json)
    if as_json:
        from hfzarr.faces.outline import describe

        say_json(describe(target, group=group, storage_options=storage_options))
        return 0
    import xarray as xr

    with quiet_repairs():
        opened = xr.open_datatree(
            target, engine="hfzarr", group=group, storage_options=storage_options
        )
    # An array, or a group without groups, is no more than one Dataset.
    say(opened if opened.children else opened.to_dataset())
    diagnosis = opened.hfzarr.diagnose()
    if diagnosis.findings:
        say(f"\n{diagnosis}")
    return 0


def _table_info(target: str, options: Mapping[str, Any] | None, as_json: bool) -> int:
    from hfzarr.rows.opening import open_manifest

    manifest = open_manifest(target, storage_options=options)
    if as_json:
        types = {one.name: str(one.type) for one in manifest.table.schema}
        say_json({"rows": len(manifest), "column": manifest.column, "columns": types})
    else:
        say(manifest)
    return 0


@click.command(
    "tree",
    cls=Command,
    short_help="the nodes of a store: groups, images, arrays",
    examples=["plate.zarr", "plate.zarr --depth 2", "cells.ome.zarr --json"],
)
@target()
@group()
@click.option(
    "--depth", type=click.IntRange(min=0), metavar="N", help="levels of nodes below the first"
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=1000, metavar="N",
    help="nodes that are shown at most; how many are left out is said where they are known",
)  # fmt: skip
@storage_options()
@as_json()
def tree(
    target: str,
    group: str | None,
    depth: int | None,
    limit: int,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
) -> int:
    """Print the nodes of a store with their kinds, shapes, data types and chunks.

    Metadata is read, depth by depth, and no pixel.
    """
    from hfzarr.faces.outline import outline

    found = outline(target, group=group, storage_options=storage_options, depth=depth, limit=limit)
    if as_json:
        say_json(found.to_dict())
    else:
        say(found)
    return 0


@click.command(
    "explain",
    cls=Command,
    short_help="what reading would cost: requests, bytes, memory",
    examples=[
        "cells.ome.zarr",
        "cells.ome.zarr --size y=256,x=256 --stride 128",
        "cells.ome.zarr --size y=256,x=256 --batch-size 32 --shuffle",
        "cells.ome.zarr --size y=64,x=64 --n 1000 --seed 1 --level 1 --json",
    ],
)
@target()
@click.option(
    "--size", type=WINDOW, metavar="LENGTHS",
    help="length of a window by dimension, y=256,x=256; without it, the cost of reading it all",
)  # fmt: skip
@click.option(
    "--stride", type=LENGTHS, metavar="LENGTHS",
    help="how far windows are apart: y=128,x=128, or one length for all",
)  # fmt: skip
@click.option(
    "--overlap", type=LENGTHS, metavar="LENGTHS",
    help="or how much of one the next one shares",
)  # fmt: skip
@click.option(
    "--edge", type=click.Choice(["drop", "shift", "pad"]),
    help="what becomes of the pixels that whole strides do not reach",
)  # fmt: skip
@click.option("--units", type=click.Choice(["px", "world"]), help="what lengths count")
@click.option("--n", type=int, metavar="N", help="windows drawn at random, so many of them")
@click.option("--seed", type=int, metavar="N", help="what drawing and shuffling depend on")
@click.option("--batch-size", type=int, metavar="N", help="an epoch of batches of so many windows")
@click.option("--shuffle/--no-shuffle", default=None, help="whether batches are shuffled")
@click.option("--level", type=LEVEL, metavar="LEVEL", help="level of a pyramid, by number or name")
@click.option("--max-memory", metavar="SIZE", help="what may be held in memory, such as 1GiB")
@group()
@storage_options()
@as_json()
def explain(
    target: str,
    group: str | None,
    level: int | str | None,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Print what patches, batches or the whole of a store would read, without reading a pixel.

    Options of windows are those of the method `patches`; with --n, of `random_patches`; with
    --batch-size, of `batches`.
    """
    import xarray as xr

    given = {name: _one(value) for name, value in options.items() if value is not None}
    size = given.pop("size", None)
    with quiet_repairs():
        opened = xr.open_dataset(
            target, engine="hfzarr", group=group, level=level, storage_options=storage_options
        )
    cost = opened.hfzarr.explain(size, **given)
    if as_json:
        say_json(cost.to_dict())
    else:
        say(cost)
    return 0


def _one(value: Any) -> Any:
    """Return a single length as a number, which stands for all dimensions."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
