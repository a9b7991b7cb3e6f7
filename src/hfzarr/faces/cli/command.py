"""Commands as this program has them: arguments first, examples in the help, ``--debug``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

__all__ = ["Command", "Program", "is_debugging", "missing"]

_DEBUG = "hfzarr.debug"
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 96, "show_default": True}


def is_debugging(context: click.Context) -> bool:
    """Return whether ``--debug`` was given, before or after the name of the command."""
    return bool(context.meta.get(_DEBUG))


def _debug(context: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_DEBUG] = True


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        show_default=False,
        callback=_debug,
        help="show where an error came from",
    )


class _Worded(click.Command):
    """A command whose usage reads ``usage: NAME ARGUMENTS [options]``."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return what follows the name: the arguments, then the options."""
        arguments = [one for one in self.get_params(ctx) if isinstance(one, click.Argument)]
        return [*[piece for one in arguments for piece in one.get_usage_pieces(ctx)], "[options]"]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write how it is used, in a line."""
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix="usage: ")


class Command(_Worded):
    """A sub-command.

    Parameters
    ----------
    *args, **kwargs
        As for `click.Command`.
    examples
        Command lines that the help shows, without ``hfzarr`` and the command's name.
    several
        Options that take all that follows up to the next option: ``--drop a b``.
    """

    def __init__(
        self, *args: Any, examples: Sequence[str] = (), several: Sequence[str] = (), **kwargs: Any
    ) -> None:
        kwargs["context_settings"] = _CONTEXT
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.several = frozenset(several)
        self.params.append(_debug_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, those of `several` each as an option of its own."""
        return super().parse_args(ctx, _spread(args, self.several) if self.several else args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the end of the help: the examples."""
        super().format_epilog(ctx, formatter)
        if not self.examples:
            return
        with formatter.section("Examples"):
            for example in self.examples:
                # Not wrapped: a line is to be copied as it stands.
                formatter.write(f"{'':>{formatter.current_indent}}{ctx.command_path} {example}\n")


class Program(_Worded, click.Group):
    """The command itself, which has sub-commands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Otherwise some versions of click take a bare `hfzarr` for a success.
        kwargs |= {"context_settings": _CONTEXT, "no_args_is_help": False}
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return what follows the name."""
        return ["[options]", "COMMAND", "..."]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added, which is that of use."""
        return list(self.commands)


def missing(error: click.MissingParameter) -> list[str]:
    """Return the names of all arguments that are missing: click stops at the first."""
    context, first = error.ctx, error.param
    if context is None or not isinstance(first, click.Argument):
        return []
    arguments = [one for one in context.command.params if isinstance(one, click.Argument)]
    later = arguments[arguments.index(first) :]
    return [one.human_readable_name for one in later if one.required]


def _spread(args: Sequence[str], several: frozenset[str]) -> list[str]:
    """Return arguments with ``--drop a b`` as ``--drop a --drop b``.

    Examples
    --------
    >>> _spread(["x", "--drop", "a", "b", "--quiet"], frozenset(["--drop"]))
    ['x', '--drop', 'a', '--drop', 'b', '--quiet']
    """
    out: list[str] = []
    option, count = "", 0
    for arg in args:
        if arg.startswith("-"):
            option, count = (arg if arg in several else ""), 0
        elif option:
            out += [option] if count else []
            count += 1
        out.append(arg)
    return out
