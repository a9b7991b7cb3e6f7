"""Stores of the Hub when something breaks, and who may read them: right bytes or a clear error, and
a token where it belongs."""

from __future__ import annotations

import contextlib
import logging
import pickle
import random
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

from hfzarr.errors import HfzarrError, ReadError, StoreNotFoundError
from hfzarr.store.hub.source import HubSource
from hfzarr.store.hub.store import HubStore
from hub import Answer, Asked, Hub
from hub.faults import (
    Fault,
    cut_short,
    dropped,
    shifted,
    status,
    too_long,
    too_short,
    unlabeled,
    whole,
)
from hubstores import DATA, RANGE, URL, image, source
from hubstores import cells as cells
from hubstores import found as found
from hubstores import hub as hub
from hubstores import servers as servers

SECRET = "hf_AAAAsecretAAAA"


# Faults in the middle of reads.

PASSING = {
    "429": status(429, Retry_After="0"),
    "429, silent": status(429),
    "500": status(500),
    "503": status(503, Retry_After="0"),
    "dropped": dropped,
    "cut short": cut_short,
    "too short": too_short,
    "too long": too_long,
    "shifted": shifted,
    "unlabeled": unlabeled,
    "whole": whole(DATA),
    "expired": status(403),
    "gone": status(410),
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("known", [True, False])
def test_a_fault_that_passes_leaves_the_right_bytes(
    hub: Hub, found: HubSource, name: str, skip: int, known: bool
) -> None:
    key = "c/1" if known else "c/0"
    fault = Fault(hub, PASSING[name], origin="cdn", skip=skip)
    hub.faults.append(fault)
    wanted = [(key, RANGE), (key, (-20, None)), (key, (0, 3000 * 2**10))]
    assert [found.get(*one) for one in wanted] == [DATA[slice(*one[1])] for one in wanted]
    assert fault.hits == 1


@pytest.mark.parametrize("name", [n for n in PASSING if n not in ("shifted", "whole", "too long")])
@pytest.mark.parametrize("path", ["/resolve/", "/resolve-cache/", "/tree/"])
def test_a_fault_of_the_hub_that_passes(hub: Hub, name: str, path: str) -> None:
    hub.add_repo("ada/cells", {"a.zarr/zarr.json": "some text", "a.zarr/c/0": DATA})
    if name in ("unlabeled", "expired", "gone", "too short") and path != "/resolve-cache/":
        pytest.skip("an answer like any other")
    hub.faults.append(Fault(hub, PASSING[name], path=path))
    opened = source()
    assert opened.get_many([("zarr.json", None), ("c/0", RANGE), ("c/1", None)]) == [
        b"some text", DATA[slice(*RANGE)], None
    ]  # fmt: skip


LASTING = ["429", "500", "dropped", "cut short", "too short", "too long", "shifted", "unlabeled",
           "expired", "gone"]  # fmt: skip


@pytest.mark.parametrize("name", LASTING)
@pytest.mark.parametrize("origin", ["cdn", "hub"])
def test_a_fault_that_lasts_is_a_clear_error(
    hub: Hub, found: HubSource, name: str, origin: str
) -> None:
    if origin == "hub" and name in ("cut short", "too short", "too long", "shifted", "unlabeled"):
        pytest.skip("an answer like any other")
    hub.faults.append(Fault(hub, PASSING[name], origin=origin, times=10**6))
    key = "c/1" if origin == "cdn" else "c/0"
    with pytest.raises(ReadError, match=f"store 'hf://datasets/ada/cells@.*{key}") as caught:
        found.get(key, RANGE)
    assert len(hub.log) < 25
    assert "Signature" not in str(caught.value)


def test_a_server_that_is_gone_is_a_clear_error(found: HubSource) -> None:
    elsewhere = source(endpoint="http://127.0.0.1:9")
    with pytest.raises(ReadError, match=r"127\.0\.0\.1:9"):
        elsewhere.get("zarr.json")


def test_a_whole_object_cut_short_is_no_object(hub: Hub, found: HubSource) -> None:
    hub.faults.append(Fault(hub, too_short, origin="cdn", times=10**6))
    with pytest.raises(ReadError, match="bytes of an object that has"):
        found.get("c/1")


def test_retry_after_is_honoured(hub: Hub, found: HubSource) -> None:
    hub.faults.append(Fault(hub, status(429, Retry_After="1"), origin="cdn"))
    begin = time.monotonic()
    values = found.get_many([("c/0", RANGE), ("c/1", None), ("c/1", (-3, None))])
    assert values == [DATA[slice(*RANGE)], DATA, DATA[-3:]]
    assert 1 <= time.monotonic() - begin < 4


def test_a_wait_without_end_is_refused(hub: Hub, found: HubSource) -> None:
    hub.faults.append(Fault(hub, status(429, Retry_After="3600"), origin="cdn"))
    with pytest.raises(ReadError, match="wait for 3600 s"):
        found.get("c/1")


def test_an_address_that_expires_is_renewed_in_time(
    hub: Hub, found: HubSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.lifetime = 0.3
    opened = source()
    assert opened.get("c/0", (0, 4)) == DATA[:4]
    time.sleep(0.35)
    hub.log.clear()
    assert opened.get("c/0", (4, 8)) == DATA[4:8]
    assert [r.status for r in hub.log] == [302, 206]  # nothing was refused
    # By a clock that is ahead of ours, an address may have expired all the same.
    hub.lifetime = 3600.0
    opened = source()
    assert opened.get("c/0", (0, 4)) == DATA[:4]
    hub.log.clear()
    hub.clock = lambda: time.time() + 10**6
    assert opened.get("c/0", (4, 8)) == DATA[4:8]
    assert [r.status for r in hub.log] == [403, 302, 206]


def test_pixels_are_right_or_refused_whatever_breaks(hub: Hub, cells: np.ndarray) -> None:
    breaks = [PASSING[name] for name in ("500", "dropped", "cut short", "too short", "expired")]
    for number, broken in enumerate(breaks):
        opened = image()
        hub.faults[:] = [Fault(hub, broken, origin="cdn", times=2, skip=number)]
        np.testing.assert_array_equal(opened.values, cells)
    hub.faults[:] = [Fault(hub, PASSING["too short"], origin="cdn", times=10**6)]
    with pytest.raises(ReadError):
        _ = image().values


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network_gives_right_pixels_or_an_error(
    hub: Hub, cells: np.ndarray, seed: int
) -> None:
    rng = random.Random(seed)
    breaks = [*PASSING.values(), status(502), status(401)]

    def weather(request: Asked) -> Answer | None:
        if rng.random() > 0.25:
            return None
        broken = rng.choice(breaks)
        if request.origin == "hub" and broken in (too_short, too_long, unlabeled):
            return None
        return broken(hub.truth(request))

    hub.faults.append(weather)
    right = 0
    for _ in range(6):
        try:
            values = image()[100:300, 50:260].values
        except HfzarrError:
            continue
        np.testing.assert_array_equal(values, cells[100:300, 50:260])
        right += 1
    assert right or seed


# Who may read.


@pytest.fixture
def private(hub: Hub) -> dict[str, str]:
    tokens = {"lab/one": SECRET, "lab/two": "hf_BBBBsecretBBBB"}
    for repo, token in tokens.items():
        hub.add_token(token, f"reader-of-{repo[4:]}", repos=(repo,), write=False)
        hub.add_repo(repo, {"a.zarr/zarr.json": "{}", "a.zarr/c/0": DATA}, private=True)
    return tokens


def test_repos_with_different_tokens_in_one_process(hub: Hub, private: dict[str, str]) -> None:
    stores = {
        repo: source(f"hf://datasets/{repo}/a.zarr", token=token) for repo, token in private.items()
    }
    with ThreadPoolExecutor(4) as pool:
        work = [
            pool.submit(one.get, "c/0", (n, n + 9)) for n in range(8) for one in stores.values()
        ]
        assert {len(job.result() or b"") for job in work} == {9}
    for repo, token in private.items():
        held = hub.log.holding(token)
        assert held
        assert {(request.origin, repo in request.path) for request in held} == {("hub", True)}
        assert not [r for r in hub.log.find(repo, origin="hub") if not r.holds(token)]


@pytest.mark.parametrize("first", ["zarr.json", "c/0", None])
def test_a_missing_login_is_told(hub: Hub, private: dict[str, str], first: str | None) -> None:
    opened = source("hf://datasets/lab/one/a.zarr")
    with pytest.raises(HfzarrError, match="hf auth login") as caught:
        opened.list_dir("") if first is None else opened.get(first)
    assert isinstance(caught.value, ReadError if first == "c/0" else StoreNotFoundError)
    assert "nobody is logged in" in str(caught.value)
    assert "dataset repo 'lab/one'" in str(caught.value)


def test_a_token_that_is_not_known_is_told(hub: Hub, private: dict[str, str]) -> None:
    with pytest.raises(ReadError, match=r"does not know the token.*HF_TOKEN") as caught:
        source("hf://datasets/lab/one/a.zarr", token="hf_unknown").get("zarr.json")
    assert "hf_unknown" not in str(caught.value)


def test_a_token_for_another_repo_is_told(hub: Hub, private: dict[str, str]) -> None:
    with pytest.raises(StoreNotFoundError, match="given token"):
        source("hf://datasets/lab/one/a.zarr", token=private["lab/two"]).get("zarr.json")


def test_a_gated_repo_is_told(hub: Hub, found: HubSource) -> None:
    hub.faults.append(Fault(hub, status(403, X_Error_Code="GatedRepo"), path="/resolve/"))
    with pytest.raises(ReadError, match=r"Ask for access at .*/datasets/ada/cells, and log in"):
        source().get("zarr.json")


@pytest.mark.parametrize("token", [None, SECRET])
def test_a_gated_repo_says_how_to_get_in(hub: Hub, cells: np.ndarray, token: str | None) -> None:
    repo = hub.repo("ada/cells")
    repo.gated = True
    hub.add_token(SECRET, "eve", repos=("eve/other",), write=False)
    with pytest.raises(
        ReadError, match=r"is gated.*Ask for access at .*/datasets/ada/cells"
    ) as told:
        image(token=token or False)
    assert ("anonymous" if token is None else "given token") in str(told.value)
    assert "hf auth login" in str(told.value)
    repo.granted.add("eve")
    if token:
        np.testing.assert_array_equal(image(token=token)[:9].values, cells[:9])


def test_nobody_may_be_asked_for(
    hub: Hub, private: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    url = "hf://datasets/lab/one/a.zarr"
    assert source(url).get("zarr.json") == b"{}"
    hub.log.clear()
    for options in ({"token": False}, {"anon": True}):
        with pytest.raises(StoreNotFoundError, match="anonymous"):
            source(url, **options).get("zarr.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    with pytest.raises(StoreNotFoundError):
        source(url).get("zarr.json")
    assert hub.log.holding(SECRET) == []


def test_a_store_that_is_not_there(hub: Hub, cells: np.ndarray) -> None:
    for url in ("hf://datasets/ada/cells/none.zarr", "hf://datasets/ada/nothing/a.zarr",
                "hf://datasets/ada/cells@gone/a.zarr", "hf://buckets/ada/none/a.zarr"):  # fmt: skip
        with pytest.raises(StoreNotFoundError):
            xr.open_dataset(url, engine="hfzarr")


def test_a_repo_that_goes_away_gives_no_fill_values(hub: Hub, cells: np.ndarray) -> None:
    opened = image()
    array = zarr.open_array(HubStore(URL), path="0", mode="r")
    hub.repo("ada/cells").private = True
    with pytest.raises(HfzarrError, match="may not be seen"):
        _ = opened.values
    with pytest.raises(Exception, match="may not be seen"):
        _ = array[:64, :64]


# Where a token is not.


def test_a_token_goes_to_the_hub_alone(hub: Hub, private: dict[str, str]) -> None:
    url = "hf://datasets/lab/one/a.zarr"
    elsewhere = hub.cdn_url.replace("127.0.0.1", "localhost")
    for there in (
        f"{hub.cdn_url}/x",
        f"{elsewhere}/x",
        f"{hub.url.replace('127.0.0.1', 'localhost')}/x",
    ):
        hub.faults[:] = [Fault(hub, status(302, Location=there), path="/resolve/", times=9)]
        with pytest.raises(HfzarrError):
            source(url, token=SECRET).get("c/0")
    assert hub.log.find("/x")
    assert not [request for request in hub.log.find("/x") if request.holds(SECRET)]
    assert {request.host for request in hub.log.holding(SECRET)} == {hub.url[7:]}


def told_by(error: BaseException | None) -> list[str]:
    """What a traceback with the values of variables shows, this file's own left out."""
    found: list[str] = []
    while error is not None:
        found += [str(error), repr(error), str(error.__dict__)]
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == __file__:
                continue
            for value in frame.f_locals.values():
                with contextlib.suppress(Exception):  # dask has some that cannot be shown
                    found.append(repr(value))
        error = error.__cause__ or error.__context__
    return found


def listen(caplog: pytest.LogCaptureFixture) -> None:
    """Hear all that is logged, also by those that are quiet by default."""
    for name in ("", "aiohttp", "asyncio", "datasets", "fsspec", "huggingface_hub", "zarr"):
        caplog.set_level(logging.DEBUG, logger=name)


@pytest.mark.filterwarnings("ignore:.*took:RuntimeWarning")
def test_no_error_of_a_lazy_read_tells_a_token(
    hub: Hub, cells: np.ndarray, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    listen(caplog)
    hub.add_token(SECRET, "ada", write=False)
    hub.repo("ada/cells").private = True
    shown = []
    for broken in (status(500, X_Error_Message=f"what is {SECRET}?"), dropped, status(403)):
        hub.faults.clear()
        opened = image(token=SECRET)
        patches = opened.to_dataset().hfzarr.patches({"y": 64, "x": 64})["image"]
        shown += [repr(opened), repr(patches), repr(patches.data.dask), str(opened.encoding)]
        assert SECRET.encode() not in pickle.dumps([opened, patches])
        hub.faults.append(Fault(hub, broken, path="/resolve/", times=10**6))
        for read in (lambda: opened.values, lambda: patches.values, opened.load):  # noqa: B023
            with pytest.raises(HfzarrError) as caught:
                read()
            shown += told_by(caught.value)
    assert not [text for text in [*shown, caplog.text] if SECRET in text]
    assert "Signature=" not in caplog.text
    assert {request.origin for request in hub.log.holding(SECRET)} == {"hub"}


def test_nothing_that_is_kept_or_shown_holds_a_token(
    hub: Hub, private: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    listen(caplog)
    url = "hf://datasets/lab/one/a.zarr"
    opened = source(url, token=SECRET)
    assert opened.get("c/0", RANGE) == DATA[slice(*RANGE)]
    shown = [repr(opened), str(opened.store), repr(opened.store), opened.url]
    shown += [repr(opened.store.reader.__dict__), repr(opened.store.__dict__)]
    shown += [repr(opened.store._login.__dict__), repr(vars(opened.store.reader.index))]
    echo = status(500, X_Error_Message=f"what is {SECRET}?")
    for broken, fresh in [(echo, True), (dropped, True), (status(403), False), (too_short, False)]:
        hub.faults[:] = [Fault(hub, broken, origin="hub" if fresh else "cdn", times=10**6)]
        one = source(url, token=SECRET) if fresh else opened
        with pytest.raises(HfzarrError) as caught:
            one.get("c/0", RANGE)
        shown += told_by(caught.value)
    assert not [text for text in [*shown, caplog.text] if SECRET in text]
    assert "Signature=" not in caplog.text
    assert SECRET.encode() not in pickle.dumps(opened)
    assert len(pickle.dumps(opened)) < 600
