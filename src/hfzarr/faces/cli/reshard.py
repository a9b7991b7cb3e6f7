"""``hfzarr reshard``: a store written anew in few files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from hfzarr.errors import MissingDependencyError, TargetError
from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.exits import STOPPED
from hfzarr.faces.cli.option_types import CLIENT, CODECS, JSON_OBJECT, LENGTHS, PATH, SHARD
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, quiet, storage_options

if TYPE_CHECKING:
    from hfzarr.plan.reshard import Resharded, ReshardPlan

__all__ = ["reshard"]


@click.command(
    "reshard",
    cls=Command,
    short_help="write a store anew as Zarr v3, with many chunks in each file",
    several=["--drop"],
    examples=[
        "plate.zarr plate-sharded.zarr --dry-run",
        "volume.zarr out.zarr --inner-chunk z=64,y=128,x=128 --codecs zstd:5",
        "s3://bucket/a.zarr b.zarr --source-options '{\"anon\": true}'",
        "huge.zarr out.zarr --client tcp://HOST:8786 --max-memory 2GiB",
    ],
)
@click.argument("source", metavar="SRC", type=PATH)
@click.argument("target", metavar="DST", type=PATH)
@click.option(
    "--inner-chunk", type=LENGTHS, metavar="LENGTHS",
    help="pixels that are encoded as one: z=64,y=128,x=128 (other dimensions keep theirs; -1 "
    "is the whole axis) or a length for each axis, 64,128,128 (default: as in the source)",
)  # fmt: skip
@click.option(
    "--shard", type=SHARD, default="auto", metavar="SIZE",
    help="pixels in a file, likewise; or a decoded size that it comes near to, such as 256MiB; "
    "or auto, 128 MiB and no more files than the Hugging Face Hub takes; or none, for a file to "
    "each inner chunk",
)  # fmt: skip
@click.option(
    "--codecs", type=CODECS, metavar="CODECS",
    help="such as zstd:5, blosc:lz4 or none, or JSON as a Zarr v3 document has it (default: "
    "those of the source, so that encoded chunks can be copied)",
)  # fmt: skip
@click.option("--group", metavar="PATH", help="write only this node of the source")
@click.option(
    "--drop", "drop_variables", multiple=True, metavar="NAME...", show_default=False,
    help="arrays and groups to leave out, by name or path",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, show_default=False, help="print the plan and write nothing"
)
@click.option(
    "--max-memory", default="512MiB", metavar="SIZE",
    help="what the tasks of one process may hold together",
)  # fmt: skip
@click.option(
    "--no-resume", is_flag=True, show_default=False,
    help="delete an unfinished run in DST and begin anew, instead of going on with it",
)  # fmt: skip
@click.option(
    "--verify", type=click.Choice(["sample", "full", "none"]), default="sample",
    help="what is compared with the source before DST becomes a store",
)  # fmt: skip
@click.option(
    "--client", type=CLIENT, default="threads", metavar="WHERE",
    help="threads; serial; dask, for its threaded scheduler; local:N, for a cluster of N "
    "processes here; or the address of a dask scheduler, tcp://HOST:PORT",
)  # fmt: skip
@storage_options("--source-options", what="options for fsspec, where SRC is a URL")
@click.option(
    "--target-options", type=JSON_OBJECT, metavar="JSON",
    help="options for fsspec, where DST is a URL",
)  # fmt: skip
@quiet()
@as_json("print the plan, or what was done, as JSON")
def reshard(
    source: str,
    target: str,
    dry_run: bool,
    no_resume: bool,
    verify: str,
    client: str,
    quiet: bool,
    as_json: bool,
    drop_variables: tuple[str, ...],
    **options: Any,
) -> int:
    """Write a store anew as Zarr v3, with many chunks in each file; OME-Zarr metadata becomes 0.5.

    SRC is a path, a zip file or a URL; DST a folder or URL where nothing is yet. A run that was
    stopped goes on when the same command is given again.
    """
    from hfzarr.faces.reshard import plan_reshard
    from hfzarr.faces.reshard import reshard as write

    options["drop_variables"] = list(drop_variables)
    with _running(client) as where:
        if dry_run or not (quiet or as_json):
            plan = plan_reshard(source, target, client=where, **options)
            _tell_plan(plan, as_json)
        if dry_run:
            return 0
        try:
            done = write(
                source,
                target,
                resume=not no_resume,
                verify=False if verify == "none" else verify,  # type: ignore[arg-type]
                client=where,
                progress=not quiet,
                **options,
            )
        except KeyboardInterrupt:
            say("hfzarr: stopped; the same command goes on where it was", err=True)
            return STOPPED
    if as_json:
        say_json(_done_facts(done))
    elif not quiet:
        say(f"\n{done}")
    return 0


def _tell_plan(plan: ReshardPlan, as_json: bool) -> None:
    if as_json:
        say_json(_plan_facts(plan))
    else:
        # Before the bar, even in a pipe; click flushes what it prints.
        say(plan)


def _plan_facts(plan: ReshardPlan) -> dict[str, Any]:
    named = (
        "source", "target", "files_before", "files_after", "found_bytes", "nbytes", "tasks",
        "passes", "peak_bytes", "max_memory", "scratch_bytes", "extra_files", "notes",
    )  # fmt: skip
    found = {name: getattr(plan, name) for name in named}
    return {**found, "arrays": [_array_facts(one) for one in plan.arrays]}


def _array_facts(one: Any) -> dict[str, Any]:
    spec = one.spec
    return {
        "path": spec.path,
        "shape": spec.shape,
        "dtype": spec.dtype,
        "route": one.route,
        "inner_chunk": spec.inner,
        "shard": spec.unit if spec.sharded else None,
        "files_before": spec.files_before,
        "files_after": spec.files_after,
        "nbytes": spec.nbytes,
        "tasks": one.tasks,
        "peak_bytes": one.peak_bytes,
    }


def _done_facts(done: Resharded) -> dict[str, Any]:
    named = ("files", "bytes_stored", "chunks", "tasks", "verified", "seconds")
    return {**{name: getattr(done, name) for name in named}, "plan": _plan_facts(done.plan)}


@contextmanager
def _running(name: str) -> Iterator[Any]:
    """Give what `hfzarr.reshard` takes as ``client=``; a cluster of our own ends with the block."""
    if name in ("threads", "serial", "dask"):
        yield name
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingDependencyError(
            f"--client {name} needs the package distributed: pip install distributed"
        ) from error
    if name.startswith("local:"):
        count = int(name.removeprefix("local:"))
        # Port 0 is any that is free: a second run beside this one would warn of the usual one.
        where: Any = LocalCluster(n_workers=count, dashboard_address=":0")  # type: ignore[no-untyped-call]
    else:
        where = nullcontext(name)
    with where as address:
        try:
            client = Client(address)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise TargetError(f"--client: no scheduler answers at {name!r} ({error})") from error
        with client:
            yield client
