"""``hfzarr scan``: a folder of stores becomes a table of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.option_types import PATH
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, progress, storage_options

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["scan"]


@click.command(
    "scan",
    cls=Command,
    short_help="a table of the stores in a folder",
    examples=[
        "data",
        "data -o index.parquet --thumbnails",
        "'data/*/*.zarr' -o index.csv --on-error skip",
        "s3://bucket/plates -o plates.parquet --metadata",
    ],
)
@click.argument("source", metavar="SOURCE...", nargs=-1, required=True, type=PATH)
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE",
    help="where the table goes: .parquet, .csv, .tsv or .jsonl; without it, it is printed",
)  # fmt: skip
@click.option("--column", default="zarr", metavar="NAME", help="name of the column of stores")
@click.option(
    "--labels/--no-labels", default=None,
    help="a column label, the folder that each store lies in (by default where it tells some "
    "apart)",
)  # fmt: skip
@click.option(
    "--splits/--no-splits", default=None,
    help="a column split, by folders such as train and test (by default where there are some)",
)  # fmt: skip
@click.option(
    "--merge/--no-merge", default=True, help="the columns of metadata.csv, .jsonl or .parquet"
)
@click.option("--facts/--no-facts", default=True, help="what each store says of itself")
@click.option(
    "--metadata", is_flag=True, show_default=False,
    help="each store's metadata as a text, so that opening a row takes no request",
)  # fmt: skip
@click.option("--thumbnails", is_flag=True, show_default=False, help="a small picture of each")
@click.option(
    "--on-error", type=click.Choice(["raise", "skip"]), default="raise",
    help="what becomes of a store that cannot be read",
)  # fmt: skip
@click.option(
    "--width", type=click.IntRange(min=1), default=32, metavar="N",
    help="folders and stores that are read at once",
)  # fmt: skip
@progress()
@storage_options()
@as_json("print the table, or what was written of it, as JSON")
def scan(
    source: tuple[str, ...],
    output: str | None,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Find the stores in folders and make a table of them, one row for each.

    SOURCE is a folder, a store, a URL, or a pattern of either in quotes; there may be several.
    Metadata is read; pixels only for --thumbnails.
    """
    from hfzarr.rows.scan import scan as find

    manifest = find(
        source[0] if len(source) == 1 else list(source), storage_options=storage_options, **options
    )
    if output is not None:
        manifest.save(output)
    if as_json:
        say_json(_facts(manifest, output))
    elif output is not None:
        say(f"{output}: {len(manifest):,} stores, {len(manifest.columns)} columns")
    else:
        say(manifest)
    return 0


def _facts(manifest: Manifest, output: str | None) -> dict[str, Any]:
    """Return a table as JSON has it; its rows where it was written to no file."""
    found: dict[str, Any] = {
        "stores": len(manifest),
        "column": manifest.column,
        "columns": manifest.columns,
    }
    if output is not None:
        return {**found, "file": output}
    from hfzarr.rows.facts import METADATA, THUMBNAIL

    names = [name for name in manifest.columns if name not in (METADATA, THUMBNAIL)]
    return {**found, "rows": manifest.table.select(names).to_pylist()}
