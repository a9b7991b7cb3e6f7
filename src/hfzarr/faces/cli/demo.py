"""``hfzarr demo``: a small pyramid, made, opened and drawn."""

from __future__ import annotations

from pathlib import Path

import click

from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.shared_options import quiet

__all__ = ["demo"]


@click.command(
    "demo",
    cls=Command,
    short_help="write a small pyramid, open it and draw it; needs no network",
    examples=["", "--size small --out demo"],
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("hfzarr-demo"), metavar="DIR",
    help="folder for the files",
)  # fmt: skip
@click.option(
    "--size", type=click.Choice(["small", "normal"]), default="normal",
    help="small is a quarter of the field and half the depth",
)  # fmt: skip
@quiet()
def demo(out: Path, size: str, quiet: bool) -> int:
    """Write a small OME-Zarr pyramid, open it and draw it. It needs no network."""
    from hfzarr.faces.demo import run_demo

    run_demo(out, size=size, quiet=quiet)  # type: ignore[arg-type]
    return 0
