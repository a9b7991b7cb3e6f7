"""One call of the engine: what was asked for, and the store as far as it was read."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hfzarr.errors import RepairWarning, TargetError
from hfzarr.model.report import Diagnosis, OnInvalid, Report
from hfzarr.store.finding import find_node
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import Location, locate
from hfzarr.store.source import Source

__all__ = ["Opening", "Options", "open_store", "user_level"]

_MODES = ("repair", "warn", "raise")
# How many repairs one warning lists; all are listed by .hfzarr.diagnose().
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for, beyond the place.

    Attributes
    ----------
    level
        Which resolution, by index (negative from the coarsest) or by the store's name.
    image
        Which image of several, by index, path or name.
    drop_variables
        Names of arrays to leave out, unread.
    decoders
        The CF decoders, by xarray's names for them.
    mask_fill_value
        Whether Zarr's fill value marks missing data; None for xarray's default by format.
    quiet
        Whether warnings are left to the caller, who opens many stores.
    """

    level: int | str | None = None
    image: int | str | None = None
    drop_variables: frozenset[str] = frozenset()
    decoders: Mapping[str, Any] = field(default_factory=dict, hash=False)
    mask_fill_value: bool | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A store with one node of it, being translated.

    Attributes
    ----------
    location
        Where the node lies.
    hierarchy
        The store's metadata.
    node
        The node's own.
    options
        What was asked for.
    report
        Takes what had to be repaired.
    """

    location: Location
    hierarchy: Hierarchy
    node: NodeDoc
    options: Options
    report: Report

    @property
    def source(self) -> Source:
        """Where the bytes lie."""
        return self.hierarchy.source

    @property
    def path(self) -> str:
        """Path of the node in its store."""
        return self.node.path

    def diagnosis(self, kind: str, version: str | None) -> Diagnosis:
        """Return what was found, for ``.hfzarr.diagnose()``."""
        return Diagnosis(
            store=self.source.url, kind=kind, version=version, findings=self.report.findings
        )


def open_store(
    target: Any,
    *,
    group: str | None,
    storage_options: Mapping[str, Any] | None,
    consolidated: bool | None,
    zarr_format: int | None,
    on_invalid: OnInvalid,
    options: Options,
) -> Opening:
    """Find the node that was asked for and read its metadata.

    Raises
    ------
    StoreNotFoundError
        There is no store.
    NodeNotFoundError
        The store has no such group or array.
    TargetError
        The target or an option makes no sense.
    """
    if on_invalid not in _MODES:
        raise TargetError(f"on_invalid is one of {_MODES}, not {on_invalid!r}")
    if zarr_format not in (None, 2, 3):
        raise TargetError(f"zarr_format is 2, 3 or None, not {zarr_format!r}")
    location = locate(target, storage_options)
    report = Report(strict=on_invalid == "raise")
    found = find_node(
        location,
        group or "",
        report=report,
        consolidated=consolidated,
        zarr_format=3 if zarr_format == 3 else 2 if zarr_format == 2 else None,
    )
    return Opening(
        location=location,
        hierarchy=found.hierarchy,
        node=found.node,
        options=options,
        report=report,
    )


def refuse(opening: Opening, *names: str) -> None:
    """Raise for an option that means nothing for this kind of node."""
    for name in names:
        if getattr(opening.options, name) is not None:
            raise TargetError(
                f"{name}= was given, and node {opening.path or '/'!r} has nothing to choose from "
                "by it. Leave it out, or name the image or pyramid with group=."
            )


def announce(report: Report, url: str, on_invalid: OnInvalid) -> None:
    """Warn of what was repaired: once with the list of it, or once for each finding."""
    findings = report.worth_a_warning
    if not findings:
        return
    level = user_level()
    if on_invalid == "warn":
        for finding in findings:
            warnings.warn(f"store {url!r}: {finding}", RepairWarning, stacklevel=level)
        return
    lines = "\n".join(f"- {f.where}: {f.found}; {f.action}" for f in findings[:_SHOWN])
    if len(findings) > _SHOWN:
        lines += f"\n- and {len(findings) - _SHOWN} more"
    verdict, remedy = "departs from what its specification recommends", ""
    if report.repairs:
        verdict = "does not follow its specification, and was repaired"
        remedy = "; on_invalid='raise' refuses such stores"
    warnings.warn(
        f"store {url!r} {verdict}:\n{lines}\nEach rule is listed by .hfzarr.diagnose(){remedy}.",
        RepairWarning,
        stacklevel=level,
    )


def warn_unconsolidated(opening: Opening) -> None:
    """Warn, as xarray's engine does, that every node of a group cost a request of its own."""
    if opening.hierarchy.consolidated or not opening.hierarchy.wants_consolidated:
        return
    warnings.warn(
        f"Failed to open Zarr store with consolidated metadata: {opening.source.url!r} has none, "
        "so the metadata of each node was fetched by itself, which is slow over a network. "
        "Consolidate it with zarr.consolidate_metadata(), or give consolidated=False to say "
        "that this is known.",
        RuntimeWarning,
        stacklevel=user_level(),
    )


def user_level(library: str = "xarray") -> int:
    """Return the stacklevel, of the caller, of the first frame that is not ours nor a library's.

    Parameters
    ----------
    library
        What may lie between the user and us.
    """
    ours = tuple(
        os.path.join(os.path.dirname(sys.modules[name].__file__ or name), "")
        for name in ("hfzarr", library)
    )
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame, level = frame.f_back, level + 1
    return level
