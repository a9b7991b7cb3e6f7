"""The ``hfzarr`` command: each sub-command parses, calls one function and prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hfzarr.errors import HfzarrError

__all__ = ["main"]

TROUBLE = 2
"""Exit code when a command could not do what it was asked; argparse uses the same."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``hfzarr`` command and return its exit code.

    Parameters
    ----------
    argv
        Arguments after the program's name; by default those of the process.

    Examples
    --------
    >>> main(["info", "no-such-store.zarr"])
    2
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except HfzarrError as error:
        print(f"hfzarr: {' '.join(str(error).split())}", file=sys.stderr)
        return TROUBLE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hfzarr", description="Open Zarr, OME-Zarr and GeoZarr stores as labelled arrays."
    )
    parser.add_argument("--version", action="version", version=f"hfzarr {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_info(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "write a small OME-Zarr pyramid, open it and draw it; needs no network"
    demo = commands.add_parser("demo", help=about, description=about)
    demo.add_argument(
        "--out", type=Path, default=Path("hfzarr-demo"), metavar="DIR",
        help="folder for the files (default: %(default)s)",
    )  # fmt: skip
    demo.add_argument(
        "--size", choices=("small", "normal"), default="normal",
        help="small is a quarter of the field and half the depth (default: %(default)s)",
    )  # fmt: skip
    demo.add_argument("--quiet", action="store_true", help="print nothing but errors")
    demo.set_defaults(run=_demo)


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "print what a store holds, and what is wrong with its metadata"
    info = commands.add_parser("info", help=about, description=about)
    info.add_argument("target", metavar="TARGET", help="a path, a zip file or a URL")
    info.set_defaults(run=_info)


def _demo(arguments: argparse.Namespace) -> int:
    from hfzarr.faces.demo import run_demo

    run_demo(arguments.out, size=arguments.size, quiet=arguments.quiet)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    import warnings

    import xarray as xr

    from hfzarr.errors import RepairWarning

    with warnings.catch_warnings():
        # The findings are printed below, which says the same at more length.
        warnings.simplefilter("ignore", RepairWarning)
        opened = xr.open_datatree(arguments.target, engine="hfzarr")
    # An array, or a group without groups, is no more than one Dataset.
    print(opened if opened.children else opened.to_dataset())
    diagnosis = opened.hfzarr.diagnose()
    if diagnosis.findings:
        print(f"\n{diagnosis}")
    return 0


def _version() -> str:
    try:
        return version("hfzarr")
    except PackageNotFoundError:  # Run from a checkout that is not installed.
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
