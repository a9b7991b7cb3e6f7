"""The command ``hfzarr``: which sub-commands it has, and how it ends."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from click.shell_completion import shell_complete

from hfzarr.errors import HfzarrError
from hfzarr.faces.cli.command import Program, is_debugging, missing
from hfzarr.faces.cli.demo import demo
from hfzarr.faces.cli.exits import PIPE, STOPPED, TROUBLE
from hfzarr.faces.cli.gallery import gallery
from hfzarr.faces.cli.judging import diagnose, validate
from hfzarr.faces.cli.looking import explain, info, tree
from hfzarr.faces.cli.printing import one_line, say
from hfzarr.faces.cli.push import push
from hfzarr.faces.cli.reshard import reshard
from hfzarr.faces.cli.scan import scan
from hfzarr.faces.cli.thumbnail import thumbnail

__all__ = ["PROGRAM", "main"]

_NAME = "hfzarr"
_COMPLETE = "_HFZARR_COMPLETE"


def _version() -> str:
    try:
        return version("hfzarr")
    except PackageNotFoundError:  # Run from a checkout that is not installed.
        return "unknown"


@click.group(
    _NAME,
    cls=Program,
    help="Open Zarr, OME-Zarr and GeoZarr stores as labelled arrays; look at them, judge, draw, "
    "list, rewrite and publish them.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 wrong usage or it could not be done, "
    "130 stopped with Ctrl-C. `hfzarr COMMAND --help` shows options and examples.",
)
@click.version_option(_version(), prog_name=_NAME, message="%(prog)s %(version)s")
def PROGRAM() -> None:
    """Do nothing but choose a sub-command."""


for _command in (
    info, tree, diagnose, validate, explain, thumbnail, scan, gallery, reshard, push, demo,
):  # fmt: skip
    PROGRAM.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``hfzarr`` command and return its exit code.

    Parameters
    ----------
    argv
        Arguments after the program's name; by default those of the process.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, with 0, and for wrong usage, with 2.

    Examples
    --------
    >>> main(["info", "no-such-store.zarr"])
    2
    """
    if instruction := os.environ.get(_COMPLETE):
        raise SystemExit(shell_complete(PROGRAM, {}, _NAME, _COMPLETE, instruction))
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with PROGRAM.make_context(_NAME, arguments) as context:
            code = _run(context)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.UsageError as error:
        _tell_usage(error)
        raise SystemExit(TROUBLE) from None
    except BrokenPipeError:
        return _unread()


def _run(context: click.Context) -> int:
    """Run the sub-command that was named; return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn  # type: ignore[assignment]
        # A user at a terminal cannot do much about it, and needs the answer.
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        try:
            code: int | None = PROGRAM.invoke(context)
            return code or 0
        except (click.exceptions.Exit, click.UsageError, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            say("hfzarr: stopped", err=True)
            return STOPPED
        except Exception as error:
            if is_debugging(context):
                say("".join(traceback.format_exception(error)).rstrip(), err=True)
            say(f"hfzarr: {_told(error)}", err=True)
            return TROUBLE


def _told(error: Exception) -> str:
    """Return an error in one line."""
    if isinstance(error, click.ClickException):
        return one_line(error.format_message())
    if isinstance(error, OSError) and not isinstance(error, HfzarrError) and error.filename:
        said = f"{error.filename!r}: {error.strerror}"
        return one_line(f"{said}. Check the path, and who may use it.")
    if isinstance(error, (HfzarrError, OSError)):
        return one_line(error)
    kind = type(error).__name__
    return one_line(f"{kind}: {error} (this was not foreseen; --debug shows where it comes from)")


def _tell_usage(error: click.UsageError) -> None:
    """Say how a command is used, and what was wrong; where no command was named, all of them."""
    context = error.ctx
    if context is None:
        say(f"hfzarr: {one_line(error.format_message())}", err=True)
        return
    message = error.format_message()
    if isinstance(context.command, Program) and message.startswith("Missing command"):
        say(context.command.get_help(context), err=True)
        return
    say(context.command.get_usage(context), err=True)
    if isinstance(error, click.MissingParameter) and (names := missing(error)):
        message = f"required: {', '.join(names)}"
    hint = f"{context.command_path} --help tells more"
    say(f"hfzarr: {one_line(message).rstrip('.')} ({hint})", err=True)


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> None:
    say(f"hfzarr: warning: {message}", err=True)


def _unread() -> int:
    """Return the exit code for output that nobody reads, and keep Python from saying so."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        pass
    return PIPE
