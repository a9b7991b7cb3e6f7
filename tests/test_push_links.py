"""Links that lead out of a store that is pushed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")

import hfzarr
from hfzarr.errors import ReadError
from hub import Hub
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import REPO, dry, push, write_small
from pushes import ada as ada


def test_links_out_of_a_store_are_refused_where_that_is_wished(
    hub: Hub, ada: str, tmp_path: Path
) -> None:
    write_small(tmp_path / "a.zarr", 1)
    (tmp_path / "diary").write_bytes(b"nobody's business")
    (tmp_path / "a.zarr" / "0" / "c" / "9").symlink_to(tmp_path / "diary")
    hfzarr.set_limits(follow_links=False)
    try:
        with pytest.raises(hfzarr.LimitError, match="out of"):
            push(tmp_path / "a.zarr")
    finally:
        hfzarr.set_limits(follow_links=None)
    assert ("datasets", REPO) not in hub.state.repos


def test_links_that_go_round_are_refused(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_small(tmp_path / "a.zarr", 1)
    for name in ("l1", "l2"):
        (tmp_path / "a.zarr" / "0" / name).symlink_to(".")
    with pytest.raises(ReadError, match=r"0/l\d' is a link to a folder that it lies in"):
        dry(tmp_path / "a.zarr")
