"""The diagnosis that travels with a Dataset or a tree, and is never written to a file."""

from __future__ import annotations

from typing import Any

from hfzarr.errors import TargetError
from hfzarr.model.report import Diagnosis

__all__ = ["DIAGNOSIS_KEY", "diagnosis_of"]

#: Where it is kept.
DIAGNOSIS_KEY = "hfzarr_diagnosis"


def diagnosis_of(encoding: Any) -> Diagnosis:
    """Return the diagnosis that travels with a Dataset or a tree.

    Raises
    ------
    TargetError
        There is none.
    """
    found = encoding.get(DIAGNOSIS_KEY)
    if isinstance(found, Diagnosis):
        return found
    raise TargetError(
        "there is no diagnosis here: open the store with engine='hfzarr' and diagnose the result "
        "before computing with it"
    )
