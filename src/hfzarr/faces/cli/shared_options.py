"""Arguments and options that several commands have, each documented once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hfzarr.faces.cli.option_types import JSON_OBJECT, PATH

__all__ = [
    "as_json",
    "group",
    "progress",
    "quiet",
    "storage_options",
    "target",
]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    "options for fsspec, where it is a URL, as a JSON object; a secret is better named than "
    'written: \'{"token": "env:LAB_TOKEN"}\' is looked up in the environment'
)


def target(name: str = "TARGET") -> Callable[[F], F]:
    """Return the argument that names a store."""
    return click.argument("target", metavar=name, type=PATH)


def as_json(what: str = "print JSON, for machines") -> Callable[[F], F]:
    """Return the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, show_default=False, help=what)


def group(what: str = "path of a node in the store, in the place of its root") -> Callable[[F], F]:
    """Return the option ``--group``."""
    return click.option("--group", metavar="PATH", help=what)


def storage_options(*names: str, what: str = _OPTIONS) -> Callable[[F], F]:
    """Return the option ``--storage-options``."""
    return click.option(
        "--storage-options",
        *names,
        "storage_options",
        type=JSON_OBJECT,
        metavar="JSON",
        help=what,
    )


def quiet() -> Callable[[F], F]:
    """Return the option ``--quiet``."""
    return click.option(
        "--quiet", is_flag=True, show_default=False, help="print nothing but errors"
    )


def progress() -> Callable[[F], F]:
    """Return the option ``--progress``."""
    return click.option(
        "--progress/--no-progress",
        default=None,
        callback=_if_seen,
        help="show on standard error how far it is (by default on a terminal)",
    )


def _if_seen(context: click.Context, param: click.Parameter, value: bool | None) -> bool:
    """Return whether to show a bar; where nobody is asked, that is whether one would be seen."""
    return sys.stderr is not None and sys.stderr.isatty() if value is None else value
