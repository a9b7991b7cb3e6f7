"""``hfzarr diagnose`` and ``validate``: how a store departs from its specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hfzarr.errors import HfzarrError
from hfzarr.faces.cli.command import Command
from hfzarr.faces.cli.exits import NO
from hfzarr.faces.cli.looking import quiet_repairs
from hfzarr.faces.cli.printing import say, say_json
from hfzarr.faces.cli.shared_options import as_json, group, storage_options, target
from hfzarr.store.location import hide_secrets

__all__ = ["diagnose", "validate"]


@click.command(
    "diagnose",
    cls=Command,
    short_help="what hfzarr repairs when it opens a store",
    examples=["cells.ome.zarr", "plate.zarr --group A/1/0 --json"],
)
@target()
@group()
@storage_options()
@as_json()
def diagnose(
    target: str, group: str | None, storage_options: Mapping[str, Any] | None, as_json: bool
) -> int:
    """Print each departure of a store from its specification, and what is made of it.

    The exit code is 0 whatever was repaired, and 2 where a store cannot be opened at all;
    `hfzarr validate` judges.
    """
    import xarray as xr

    with quiet_repairs():
        opened = xr.open_groups(
            target, engine="hfzarr", group=group, storage_options=storage_options
        )
    diagnosis = opened["/"].hfzarr.diagnose()
    if as_json:
        names = ("store", "kind", "version", "ok", "findings")
        say_json({name: getattr(diagnosis, name) for name in names})
    else:
        say(diagnosis)
    return 0


@click.command(
    "validate",
    cls=Command,
    short_help="whether a store keeps the rules of the version that it claims",
    examples=["cells.ome.zarr", "cells.ome.zarr --strict", "scene.zarr --json"],
)
@target("PATH")
@group()
@click.option(
    "--strict", is_flag=True, show_default=False,
    help="recommendations count as rules, as in the strict schemas of OME-Zarr",
)  # fmt: skip
@storage_options()
@as_json('print {"valid": …, "message": …, "problems": […]}, for machines')
def validate(
    target: str,
    group: str | None,
    strict: bool,
    storage_options: Mapping[str, Any] | None,
    as_json: bool,
) -> int:
    """Judge a store by the rules of the version that it claims, and list each broken rule.

    Zarr v2 and v3 core metadata, OME-Zarr 0.1 to 0.6, the conventions of GeoZarr and, where a
    group claims CF, its references. Metadata is read, and no pixel. The exit code is 0 for a
    valid store, 1 for one that is not, 2 where there is none or it cannot be read, which --json
    tells as not valid, too.
    """
    from hfzarr.faces.validate import validate as judge

    try:
        verdict = judge(target, group=group, strict=strict, storage_options=storage_options)
    except HfzarrError as error:
        if as_json:
            said = {"valid": False, "message": str(error), "store": hide_secrets(target)}
            lists: dict[str, Any] = {"problems": [], "advice": [], "unchecked": []}
            say_json({**said, "claim": None, **lists})
        raise
    if as_json:
        say_json(verdict.to_dict())
    else:
        say(verdict)
    return 0 if verdict.valid else NO
