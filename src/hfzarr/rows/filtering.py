"""Which rows of a manifest fit what a user asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.rows.cells import cell_text

if TYPE_CHECKING:
    from hfzarr.rows.manifest import Manifest

__all__ = ["rows_equal", "rows_fitting"]

_MANY = (list, tuple, set, frozenset, range)


def rows_equal(manifest: Manifest, column: str, value: Any) -> npt.NDArray[Any]:
    """Return the places of the rows whose cell equals a value, or any of a list of values.

    In a column of lists a plain list is one value, and a list of lists several.

    Parameters
    ----------
    manifest
        The rows.
    column
        A column of theirs.
    value
        The value; for the column of stores a path, or a handle.
    """
    import pyarrow.types as pt

    if isinstance(value, np.ndarray):
        value = value.tolist()
    lists = pt.is_list(manifest.table.schema.field(column).type)
    wanted = list(value) if isinstance(value, _MANY) else [value]
    if lists and not any(each is None or isinstance(each, (list, tuple)) for each in wanted):
        wanted = [value]
    if lists:
        wanted = [list(each) if isinstance(each, tuple) else each for each in wanted]
    cells: Sequence[Any]
    if column == manifest.column:
        cells = manifest.stores
        found = [manifest.cell(each) for each in wanted]
        wanted = [None if each is None else cell_text(each) for each in found]
    else:
        cells = manifest.table.column(column).to_pylist()
    return np.flatnonzero([cell in wanted for cell in cells])


def rows_fitting(manifest: Manifest, predicate: Any) -> npt.NDArray[Any]:
    """Return the places of the rows that a function or an Arrow expression accepts.

    Raises
    ------
    TargetError
        The predicate is neither, or does not fit the columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(predicate, pc.Expression):
        hidden = "place"
        while hidden in manifest.columns:
            hidden += "_"
        places = pa.array(np.arange(len(manifest)))
        try:
            kept = manifest.table.append_column(hidden, places).filter(predicate)
        except (pa.ArrowException, KeyError) as error:
            raise TargetError(f"the expression does not fit {manifest.name!r}: {error}") from error
        return np.asarray(kept.column(hidden))
    if not callable(predicate):
        raise TargetError(
            "rows are filtered by a function of a row, an expression of pyarrow.compute, or "
            f"column=value; this is a {type(predicate).__name__}"
        )
    return np.flatnonzero([bool(predicate(row)) for row in manifest])
