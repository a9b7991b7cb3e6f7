"""Stores on the loopback Hub, for tests of what reads them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
import zarr

if TYPE_CHECKING:
    from hfzarr.store.hub.source import HubSource

from hub import Hub, in_process, running_hub
from hub.server import KNOBS

SIDE = 512
URL = "hf://datasets/ada/cells/a.zarr"


@pytest.fixture(scope="module")
def servers() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(servers: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub without repos, which this process talks to as nobody."""
    servers.state.repos.clear()
    servers.state.tokens.clear()
    servers.xet.clear()
    servers.log.clear()
    (tmp_path / "home").mkdir()
    in_process(servers, monkeypatch, tmp_path / "home")
    for name in KNOBS:
        monkeypatch.setattr(servers, name, getattr(servers, name))
    monkeypatch.setattr(servers, "faults", [])
    # Commits of one name are not those of another test.
    monkeypatch.setattr("hfzarr.store.hub.store._readers", OrderedDict())
    monkeypatch.setattr("hfzarr.store.hub.client._DELAYS", (0.01, 0.02, 0.02))
    return servers


@pytest.fixture
def log_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes this process somebody; gives the token."""

    def log_in(user: str = "user", **rights: Any) -> str:
        secret = hub.add_token(f"hf_secret_of_{user}", user, **rights).secret
        monkeypatch.setenv("HF_TOKEN", secret)
        return secret

    return log_in


def pixels(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Noise, which no codec makes small."""
    return np.random.default_rng(seed).integers(1, 60000, (SIDE, SIDE)).astype("uint16")


def write_image(folder: Path, data: np.ndarray[Any, Any], **options: Any) -> Path:
    """Write an OME-Zarr of one level: shards of 16 inner chunks of 8 KiB, unless told otherwise."""
    layout = {"chunks": (64, 64), "shards": (256, 256), "compressors": None, **options}
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    group = zarr.create_group(folder, zarr_format=3, attributes={"ome": ome})
    array = group.create_array(
        "0", shape=data.shape, dtype=data.dtype, dimension_names=("y", "x"), **layout
    )
    array[...] = data
    zarr.consolidate_metadata(folder)
    return folder


@pytest.fixture
def cells(hub: Hub, tmp_path: Path) -> np.ndarray[Any, Any]:
    """The pixels of an image on the Hub, at ``URL``."""
    data = pixels()
    write_image(tmp_path / "stores" / "a.zarr", data)
    hub.add_repo("ada/cells", tmp_path / "stores")
    hub.log.clear()
    return data


def source(url: str = URL, **options: Any) -> HubSource:
    from hfzarr.store.hub.source import HubSource
    from hfzarr.store.hub.store import HubStore

    return HubSource(HubStore(url, options))


def image(url: str = URL, **options: Any) -> xr.DataArray:
    opened = xr.open_dataset(url, engine="hfzarr", storage_options=options or None)
    return opened["image"]


DATA = bytes(range(256)) * 64
RANGE = (1000, 3000)


@pytest.fixture
def found(hub: Hub) -> HubSource:
    """A store that was read from before."""
    hub.add_repo("ada/cells", {"a.zarr/zarr.json": "{}", "a.zarr/c/0": DATA, "a.zarr/c/1": DATA})
    opened = source()
    assert opened.get_many([("zarr.json", None), ("c/1", (0, 5))]) == [b"{}", DATA[:5]]
    hub.log.clear()
    return opened
