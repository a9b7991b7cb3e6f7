"""Names from elsewhere are answered with what to use here, and stay unknown attributes."""

from __future__ import annotations

import pickle

import pytest

from hfzarr.rows.habits import advice
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.kinds import OmeZarr, ZarrArray, ZarrGroup

WORDS = {
    "asarray": "read()",
    "roi": "select(world=",
    "get_info": "info()",
    "get_array": "array(path)",
    "get_arrays": "arrays()",
    "values": "read()",
    "sel": "select(world=",
    "isel": "select(y=",
}


@pytest.mark.parametrize("kind", [ZarrHandle, ZarrArray, ZarrGroup, OmeZarr])
@pytest.mark.parametrize("name", WORDS)
def test_a_handle_says_what_to_use(kind, name) -> None:
    # The store is not there: nothing is read for it.
    handle = kind("nowhere.zarr")
    with pytest.raises(AttributeError) as caught:
        getattr(handle, name)
    assert f"no attribute {name!r}; here it is {WORDS[name]}" in str(caught.value)
    assert not hasattr(handle, name)


def test_what_nobody_calls_so_is_unknown() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'xyz'$"):
        ZarrHandle("nowhere.zarr").xyz  # noqa: B018
    assert pickle.loads(pickle.dumps(ZarrHandle("nowhere.zarr"))) == ZarrHandle("nowhere.zarr")


def test_no_advice_hides_what_is_there() -> None:
    from hfzarr.rows.habits import _HANDLE, _MANIFEST
    from hfzarr.rows.manifest import Manifest

    for kind in (ZarrHandle, ZarrArray, ZarrGroup, OmeZarr):
        assert not [name for name in _HANDLE if name in dir(kind)]
    assert not [name for name in _MANIFEST if name in dir(Manifest)]


def test_of_a_module() -> None:
    assert "scan()" in advice("module", "read_zarr")
    assert "push_to_hub()" in advice("module", "push_to_hub_zarr")
