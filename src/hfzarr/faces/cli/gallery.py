"""``hfzarr gallery``: a table of stores as one page of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.option_types import PATH
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, progress, storage_options

__all__ = ["gallery"]


@click.command(
    "gallery",
    cls=Command,
    short_help="one page of pictures of a table of stores",
    examples=[
        "index.parquet -o page.html",
        "data -o page.html --limit 2000 --title 'Cells, July'",
        "lab/cells -o page.html --split test",
    ],
)
@click.argument("manifest", metavar="MANIFEST", type=PATH)
@click.option(
    "-o", "--output", required=True, type=click.Path(), metavar="PAGE",
    help="where the page goes: an .html file",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), default=500, metavar="N",
    help="rows that are shown at most, the first ones; the page says how many are left out",
)  # fmt: skip
@click.option("--title", metavar="TEXT", help="what stands above (default: the table's name)")
@click.option("--column", metavar="NAME", help="the column of stores, where it is not clear")
@click.option("--split", metavar="NAME", help="one split of the table")
@click.option(
    "--draw/--no-draw", default=True,
    help="whether to draw stores that have no picture in a column thumbnail",
)  # fmt: skip
@progress()
@storage_options()
@as_json("print what was written as JSON")
def gallery(
    manifest: str,
    output: str,
    column: str | None,
    split: str | None,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Write one page of thumbnails with the columns of a table, to be searched in any browser.

    MANIFEST is a parquet, CSV or JSONL file, a folder of stores, or a dataset on the Hub. The
    page needs no server and asks for nothing: pictures and script are in it.
    """
    from hfzarr.faces.gallery import gallery as write
    from hfzarr.rows.opening import open_manifest

    rows = open_manifest(manifest, column, split, storage_options=storage_options)
    done = write(rows, output, **options)
    if as_json:
        say_json(done)
    else:
        say(done)
    return 0
