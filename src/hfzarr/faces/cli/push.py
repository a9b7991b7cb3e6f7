"""``hfzarr push``: stores become a dataset on the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

import click

from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.exits import NO, STOPPED
from hfzarr.faces.cli.option_types import PATH, SHARD
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, quiet, storage_options

__all__ = ["push"]


@click.command(
    "push",
    cls=Command,
    short_help="publish stores on the Hugging Face Hub, with an index",
    examples=[
        "data lab/cells --dry-run",
        "index.parquet lab/cells --private",
        "data lab/cells --data-repo lab/cells-pixels --shard 256MiB",
        "data lab/cells --data-repo buckets/lab/cells",
    ],
)
@click.argument("source", metavar="SRC", type=PATH)
@click.argument("repo_id", metavar="REPO")
@click.option(
    "--shard", type=SHARD, default="auto", metavar="SIZE",
    help="pixels in a file, such as z=64,y=512,x=512, or a decoded size such as 256MiB; auto "
    "reshards what has too many files; none leaves every store as it is",
)  # fmt: skip
@click.option(
    "--data-repo", metavar="REPO",
    help="where the stores go, if not beside their index: another repo, or buckets/NAMESPACE/NAME",
)  # fmt: skip
@click.option(
    "--private/--public", default=None, help="who may see a new repo (default: as the account has)"
)
@click.option("--revision", metavar="NAME", help="branch to write to (default: main)")
@click.option(
    "--dry-run", is_flag=True, show_default=False, help="print the plan and upload nothing"
)
@click.option(
    "--thumbnails/--no-thumbnails", default=True, help="a small picture of each store in the index"
)
@click.option(
    "--resume/--no-resume", default=True,
    help="whether to go on with what an earlier push left, rather than begin anew",
)  # fmt: skip
@click.option(
    "--metadata/--no-metadata", default=True,
    help="each store's metadata in the index, so that opening a row takes fewer requests",
)  # fmt: skip
@click.option(
    "--max-memory", default="512MiB", metavar="SIZE",
    help="what tasks that write a store anew may hold together",
)  # fmt: skip
@click.option(
    "--max-disk", default="4GiB", metavar="SIZE",
    help="what files under way may take of this machine's disk, about",
)  # fmt: skip
@storage_options()
@quiet()
@as_json("print the plan, or what was done, as JSON")
def push(
    source: str, repo_id: str, dry_run: bool, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Publish a store, a folder of stores or a manifest as a dataset on the Hugging Face Hub.

    Stores of many files are resharded on the way; a table of them with pictures makes the index
    that REPO shows. A push that was stopped goes on when the same command is given again. With
    --dry-run, the exit code is 1 if the Hub would refuse it.

    The token is that of `hf auth login`, or of the variable HF_TOKEN. There is no option for it:
    what is typed is kept in the history of a shell, and seen in lists of processes.
    """
    from hfzarr.faces.push import push_to_hub

    try:
        done = push_to_hub(source, repo_id, dry_run=dry_run, progress=not quiet, **options)
    except KeyboardInterrupt:
        say("hfzarr: stopped; the same command goes on where it was", err=True)
        return STOPPED
    if as_json:
        say_json(done)
    elif dry_run or not quiet:
        say(done)
    return NO if dry_run and done.refusal() else 0  # type: ignore[union-attr]
