"""What a table of stores must not hold, told from its text alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from hfzarr.errors import TargetError
from hfzarr.model.report import shorten
from hfzarr.rows.columns import REGION_TEXT
from hfzarr.rows.places import absolute_texts, climbs, is_remote, scheme_of

__all__ = ["Duplicates", "check_rows"]

Duplicates = Literal["raise", "keep"]

# What a table from another machine may point to beside its own kind of place.
_OPEN_TO_ALL = ("hf", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "r2")
_LOCAL = r"^([/\\~]|[A-Za-z]:([^:]|:?$))"
_CLIMBING = r"(^|[/\\])(\.|%2[eE]){2}([/\\]|$)"
_UNSEEN = r"[\x00\r\n]"


def check_rows(
    cells: Any,
    *,
    base: str,
    row: Callable[[int], str],
    origin: str = "",
    trusted: bool = False,
    duplicates: Duplicates = "raise",
) -> None:
    """Refuse cells that name no store, name one twice, or reach for what they may not.

    Nothing is opened. A million cells take a second or two.

    Parameters
    ----------
    cells
        The column of stores, an Arrow string or struct array.
    base
        The folder or URL that relative paths count from.
    row
        Names a row by its position, for errors.
    origin
        The place that the table came from, if it is known.
    trusted
        Whether paths may lead anywhere, wherever the table came from.
    duplicates
        Whether the same cell may stand in several rows.

    Raises
    ------
    TargetError
        A cell breaks a rule; the message names its row.
    """
    paths = _paths(cells)
    _refuse(paths, row, r"^\s*$", "is empty; name a store, or leave the cell null")
    _refuse(paths, row, _UNSEEN, "holds a line break or a NUL, which no path of a store has")
    if not trusted:
        _refuse_climbing(paths, row)
        if is_remote(origin or base):
            _refuse_reaching(paths, row, origin or base)
    if duplicates == "raise":
        _refuse_twins(cells, paths, base, row)


def _paths(cells: Any) -> Any:
    """Return the path of each cell, without the node and region of a selection."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    whole = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    if pt.is_struct(whole.type):
        return pc.struct_field(whole, "path").cast(pa.string())
    return pc.replace_substring_regex(whole, REGION_TEXT, "")


def _refuse(paths: Any, row: Callable[[int], str], pattern: str, why: str) -> None:
    import pyarrow.compute as pc

    first = pc.index(pc.match_substring_regex(paths, pattern), True).as_py()
    if first >= 0:
        raise TargetError(f"{row(first)}: the path {_shown(paths[first].as_py())} {why}")


def _shown(path: str) -> str:
    return shorten(path)


def _refuse_climbing(paths: Any, row: Callable[[int], str]) -> None:
    import numpy as np
    import pyarrow.compute as pc

    dotted = pc.fill_null(pc.match_substring_regex(paths, _CLIMBING), False)
    relative = pc.invert(
        pc.fill_null(pc.match_substring_regex(paths, r"^[/\\~]|^[A-Za-z]:|://|::"), False)
    )
    for index in np.flatnonzero(pc.and_(dotted, relative).to_numpy(zero_copy_only=False)):
        path = paths[int(index)].as_py()
        if climbs(path):
            raise TargetError(
                f"{row(int(index))}: the path {_shown(path)} climbs out of the folder that it "
                "counts from. Give an absolute path, or trusted=True if it is meant."
            )


def _refuse_reaching(paths: Any, row: Callable[[int], str], origin: str) -> None:
    """Refuse what a table from elsewhere may not open: this machine, and what leads to it."""
    own = scheme_of(origin)
    allowed = dict.fromkeys([own, *_OPEN_TO_ALL])
    why = (
        f"may not be opened by a table from {own}://: it may name relative paths and "
        f"{', '.join(each + '://' for each in allowed)}. Pass trusted=True if you know the table."
    )
    _refuse(paths, row, _LOCAL, f"is on this machine, which {why}")
    _refuse(paths, row, "::", f"is a chain of protocols, which {why}")
    others = "|".join(allowed)
    # Any text with "://" in it must begin with a protocol that is allowed, and hold no other.
    _refuse_unlike(paths, row, rf"^(?i:{others})://", "://", f"has a protocol that {why}")


def _refuse_unlike(
    paths: Any, row: Callable[[int], str], pattern: str, where: str, why: str
) -> None:
    import pyarrow.compute as pc

    wrong = pc.and_not(pc.match_substring(paths, where), pc.match_substring_regex(paths, pattern))
    first = pc.index(wrong, True).as_py()
    if first >= 0:
        raise TargetError(f"{row(first)}: the path {_shown(paths[first].as_py())} {why}")


def _refuse_twins(cells: Any, paths: Any, base: str, row: Callable[[int], str]) -> None:
    import pyarrow as pa
    import pyarrow.types as pt

    places = absolute_texts(paths, base)
    if not _has_twins(places):
        return
    whole = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    keys = (
        _selection_keys(whole, places) if pt.is_struct(whole.type) else absolute_texts(whole, base)
    )
    twins = _twins(keys)
    if twins is not None:
        first, second = twins
        raise TargetError(
            f"{row(second)} and {row(first)} both name {_shown(paths[first].as_py())}. Drop one of "
            "them, or pass duplicates='keep'."
        )


def _has_twins(texts: Any) -> bool:
    import pyarrow.compute as pc

    there = texts.drop_null()
    return int(pc.count_distinct(there).as_py()) < len(there)


def _twins(texts: Any) -> tuple[int, int] | None:
    """Return the positions of the first text that stands there before, and of that one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    there = np.flatnonzero(pc.is_valid(whole).to_numpy(zero_copy_only=False))
    codes = whole.drop_null().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    seen_before = np.flatnonzero(first[codes] != np.arange(len(codes)))
    if not len(seen_before):
        return None
    second = seen_before[0]
    return int(there[first[codes[second]]]), int(there[second])


def _selection_keys(cells: Any, places: Any) -> Any:
    """Return one text for each selection, the same for those that are wholly equal."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def flat(name: str) -> Any:
        column = pc.struct_field(cells, name)
        if not pa.types.is_list(column.type):
            return pc.fill_null(column.cast(pa.string()), "")
        # Not .values: those of a slice begin before it.
        texts = pc.fill_null(column.flatten().cast(pa.string()), "")
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        ends = pc.cumulative_sum(lengths)
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
        return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), ",")

    parts = [flat(name) for name in ("node", "level", "start", "stop", "step")]
    return pc.binary_join_element_wise(places, *parts, "\n")
