"""The ``hfzarr`` command: each sub-command parses, calls one function and prints."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hfzarr.errors import HfzarrError, MissingDependencyError, TargetError

__all__ = ["main"]

TROUBLE = 2
"""Exit code when a command could not do what it was asked; argparse uses the same."""

STOPPED = 130
"""Exit code of a run that was stopped with Ctrl-C, as shells have it."""


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
        prog="hfzarr",
        description="Open Zarr, OME-Zarr and GeoZarr stores as labelled arrays, and rewrite them.",
    )
    parser.add_argument("--version", action="version", version=f"hfzarr {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_info(commands)
    _add_reshard(commands)
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


def _add_reshard(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "write a store anew as Zarr v3, with many chunks in each file"
    reshard = commands.add_parser(
        "reshard", usage="%(prog)s SRC DST [options]", help=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{about[0].upper()}{about[1:]}; OME-Zarr metadata becomes 0.5.\n"
        "A run that was stopped goes on when the same command is given again.",
        epilog="examples:\n"
        "  hfzarr reshard plate.zarr plate-sharded.zarr --dry-run\n"
        "  hfzarr reshard volume.zarr out.zarr --inner-chunk z=64,y=128,x=128 --codecs zstd:5\n"
        "  hfzarr reshard s3://bucket/a.zarr b.zarr --source-options '{\"anon\": true}'",
    )  # fmt: skip
    reshard.add_argument("source", metavar="SRC", help="a path, a zip file or a URL")
    reshard.add_argument("target", metavar="DST", help="a folder or URL where nothing is yet")
    _add_shape_options(reshard.add_argument_group("what is written"))
    _add_run_options(reshard.add_argument_group("how it runs"))
    reshard.set_defaults(run=_reshard)


def _add_shape_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--inner-chunk", type=_shape, metavar="LENGTHS",
        help="pixels that are encoded as one: z=64,y=128,x=128 (other dimensions keep theirs; -1 "
        "is the whole axis) or a length for each axis, 64,128,128 (default: as in the source)",
    )  # fmt: skip
    group.add_argument(
        "--shard", type=_shard, default="auto", metavar="SIZE",
        help="pixels in a file, likewise; or a decoded size that it comes near to, such as 256MiB; "
        "or auto; or none, for a file to each inner chunk (default: %(default)s, 128 MiB and no "
        "more files than the Hugging Face Hub takes)",
    )  # fmt: skip
    group.add_argument(
        "--codecs", type=_codecs, metavar="CODECS",
        help="such as zstd:5, blosc:lz4 or none, or JSON as a Zarr v3 document has it (default: "
        "those of the source, so that encoded chunks can be copied)",
    )  # fmt: skip
    group.add_argument("--group", metavar="PATH", help="write only this node of the source")
    group.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="NAME",
        help="arrays and groups to leave out, by name or path",
    )  # fmt: skip


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry-run", action="store_true", help="print the plan and write nothing"
    )  # fmt: skip
    group.add_argument(
        "--max-memory", default="512MiB", metavar="SIZE",
        help="what the tasks of one process may hold together (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--no-resume", action="store_true",
        help="delete an unfinished run in DST and begin anew, instead of going on with it",
    )  # fmt: skip
    group.add_argument(
        "--verify", choices=("sample", "full", "none"), default="sample",
        help="what is compared with the source before DST becomes a store (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--client", type=_client, default="threads", metavar="WHERE",
        help="threads; serial; dask, for its threaded scheduler; local:N, for a cluster of N "
        "processes here; or the address of a dask scheduler, tcp://HOST:PORT "
        "(default: %(default)s)",
    )  # fmt: skip
    for name, metavar in (("source", "SRC"), ("target", "DST")):
        group.add_argument(
            f"--{name}-options", type=_options, metavar="JSON",
            help=f"options for fsspec, where {metavar} is a URL",
        )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _shape(text: str) -> dict[str, int] | tuple[int, ...]:
    """Return ``z=64,y=128`` as a mapping, ``64,128`` as a tuple."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        if parts and all("=" in part for part in parts):
            pairs = [part.split("=") for part in parts]
            return {dim.strip(): int(length) for dim, length in pairs}
        if parts:
            return tuple(int(part) for part in parts)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"wanted lengths such as z=64,y=128,x=128 or 64,128,128, got {text!r}"
    )


def _shard(text: str) -> dict[str, int] | tuple[int, ...] | str | None:
    """Return a shape, or the text of a size; a number alone is a size in bytes."""
    if text == "none":
        return None
    return _shape(text) if "=" in text or "," in text else text


def _codecs(text: str) -> Any:
    return _json(text) if text.lstrip().startswith(("[", "{")) else text


def _options(text: str) -> dict[str, Any]:
    found = _json(text)
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"wanted a JSON object, got {text!r}")
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error


def _client(text: str) -> str:
    if text in ("threads", "serial", "dask") or re.fullmatch(r"local:[1-9]\d*", text):
        return text
    if ":" in text and not text.startswith("local:"):
        return text
    raise argparse.ArgumentTypeError(
        "wanted threads, serial, dask, local:N with a number of processes, or the address of a "
        f"scheduler as tcp://HOST:PORT, got {text!r}"
    )


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


def _reshard(arguments: argparse.Namespace) -> int:
    from hfzarr.faces.reshard import plan_reshard, reshard

    options: dict[str, Any] = {
        "inner_chunk": arguments.inner_chunk,
        "shard": arguments.shard,
        "codecs": arguments.codecs,
        "max_memory": arguments.max_memory,
        "group": arguments.group,
        "drop_variables": arguments.drop,
        "storage_options": arguments.source_options,
        "target_options": arguments.target_options,
    }
    with _running(arguments.client) as client:
        if arguments.dry_run or not arguments.quiet:
            print(
                plan_reshard(arguments.source, arguments.target, client=client, **options),
                flush=True,
            )
        if arguments.dry_run:
            return 0
        try:
            done = reshard(
                arguments.source,
                arguments.target,
                resume=not arguments.no_resume,
                verify=False if arguments.verify == "none" else arguments.verify,
                client=client,
                progress=not arguments.quiet,
                **options,
            )
        except KeyboardInterrupt:
            print("hfzarr: stopped; the same command goes on where it was", file=sys.stderr)
            return STOPPED
    if not arguments.quiet:
        print(f"\n{done}")
    return 0


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


def _version() -> str:
    try:
        return version("hfzarr")
    except PackageNotFoundError:  # Run from a checkout that is not installed.
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
