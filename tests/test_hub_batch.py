"""Many large objects located by one call: what it saves, and that nothing depends on it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

from hfzarr.store.hub.source import HubSource
from hub import Answer, Asked, Hub
from hub.faults import cut_short, dropped, status, too_short
from hubdownloads import downloads
from hubstores import hub as hub
from hubstores import servers as servers
from hubstores import source


@pytest.fixture
def large(hub: Hub) -> dict[str, bytes]:
    """70 large objects and one small, of a store that was looked at before, and a Hub that locates
    many at once."""
    hub.faults.append(downloads(hub))
    files = {f"c/{n}": b"\0" + bytes([n]) * 100 for n in range(70)}
    # One that lies there twice is one object.
    files |= {"c/70": files["c/7"], "c/text": b"text"}
    hub.add_repo("ada/cells", {f"a.zarr/{key}": data for key, data in files.items()})
    return files


def looked_at(**options: Any) -> HubSource:
    opened = source(**options)
    assert opened.get("c/text") == b"text"
    assert opened.get("c/none") is None
    return opened


def test_many_large_objects_are_located_by_one_request(hub: Hub, large: dict[str, bytes]) -> None:
    found = looked_at()
    hub.log.clear()
    assert found.get_many([(key, None) for key in large]) == list(large.values())
    calls = hub.log.find("/info/lfs/objects/batch", origin="hub")
    assert [call.method for call in calls] == ["POST"]
    assert len(hub.log.find(origin="cdn")) == 71
    assert len(hub.log) == 73  # the small one, from the Hub itself
    hub.log.clear()
    ranges = [(key, (n % 9, 50)) for n, key in enumerate(large)]
    assert found.get_many(ranges) == [large[key][slice(*part)] for key, part in ranges]
    assert {request.method for request in hub.log} == {"GET"}
    # A few are asked for one by one.
    hub.log.clear()
    few = looked_at()
    hub.log.clear()
    assert few.get_many([(f"c/{n}", None) for n in range(5)]) == [large[f"c/{n}"] for n in range(5)]
    assert not hub.log.find("/batch")


def test_many_calls_locate_very_many(hub: Hub) -> None:
    hub.faults.append(downloads(hub))
    files = {f"c/{n}": b"\0%d" % n for n in range(250)}
    hub.add_repo("ada/cells", {f"a.zarr/{key}": data for key, data in files.items()})
    found = source()
    assert found.get("c/1") == files["c/1"]
    assert found.get("c/none") is None
    hub.log.clear()
    assert found.get_many([(key, None) for key in files]) == list(files.values())
    assert len(hub.log.find("/batch")) == 3
    assert len(hub.log.find(method="HEAD")) == 0


def _without_actions(answer: Answer) -> Answer:
    said = json.loads(answer.body)
    return Answer.json({**said, "objects": [{**one, "actions": {}} for one in said["objects"]]})


def _with_headers(answer: Answer) -> Answer:
    said = json.loads(answer.body)
    for one in said["objects"]:
        one["actions"]["download"]["header"] = {"Authorization": "secret"}
    return Answer.json(said)


def _of_other_sizes(answer: Answer) -> Answer:
    said = json.loads(answer.body)
    return Answer.json({"objects": [{**one, "size": 5} for one in said["objects"]]})


def _to_nowhere(answer: Answer) -> Answer:
    said = json.loads(answer.body)
    for one in said["objects"]:
        one["actions"]["download"]["href"] = "file:///etc/passwd"
    return Answer.json(said)


@pytest.mark.parametrize(
    "broken",
    [
        status(404), status(401), status(429, Retry_After="900"), status(500), dropped, cut_short,
        too_short, _without_actions, _with_headers, _of_other_sizes, _to_nowhere,
        lambda answer: Answer(200, b"<html>"), lambda answer: Answer.json([None]),
        lambda answer: Answer.json({"objects": [7, {"actions": 3}, {"oid": {}}]}),
    ],
)  # fmt: skip
def test_where_many_cannot_be_located_each_is(
    hub: Hub, large: dict[str, bytes], broken: Any
) -> None:
    found = looked_at()
    truth = hub.faults[0]

    def answer(asked: Asked) -> Answer | None:
        told = truth(asked)
        return None if told is None else broken(told)

    hub.faults[:] = [answer]
    hub.log.clear()
    keys = [f"c/{n}" for n in range(40)]
    assert found.get_many([(key, None) for key in keys]) == [large[key] for key in keys]
    keys = [f"c/{n}" for n in range(40, 70)]
    assert found.get_many([(key, None) for key in keys]) == [large[key] for key in keys]
    # It is not tried again soon.
    assert len(hub.log.find("/batch")) == 1
    assert not [r for r in hub.log.find(origin="cdn") if "authorization" in r.headers]


def test_objects_that_a_call_leaves_out_are_asked_for(hub: Hub, large: dict[str, bytes]) -> None:
    found = looked_at()
    truth = hub.faults[0]

    def half(asked: Asked) -> Answer | None:
        told = truth(asked)
        if told is None:
            return None
        said = json.loads(told.body)
        for one in said["objects"][::2]:
            one.pop("actions")
            one["error"] = {"code": 404, "message": "Object does not exist"}
        return Answer.json(said)

    hub.faults[:] = [half]
    hub.log.clear()
    keys = [f"c/{n}" for n in range(40)]
    assert found.get_many([(key, None) for key in keys]) == [large[key] for key in keys]
    assert len(hub.log.find(method="HEAD")) == 20


def test_addresses_of_many_are_renewed(hub: Hub, large: dict[str, bytes]) -> None:
    keys = [f"c/{n}" for n in range(40)]
    wanted, right = [(key, None) for key in keys], [large[key] for key in keys]
    found = looked_at()
    assert found.get_many(wanted) == right
    hub.log.clear()
    # Refused, by a clock that is ahead of ours: each is asked for, as the call may be at fault.
    ahead = time.time() + 10**6
    hub.clock = lambda: ahead
    assert found.get_many(wanted) == right
    assert len(hub.log.find(method="HEAD")) == 40
    hub.clock, hub.lifetime = time.time, 0.3
    found = looked_at()
    assert found.get_many(wanted) == right
    time.sleep(0.35)
    hub.log.clear()
    assert found.get_many(wanted) == right
    assert len(hub.log.find("/batch")) == 1
    assert len(hub.log) == 41


def test_private_objects_are_located_by_whoever_may(hub: Hub, large: dict[str, bytes]) -> None:
    secret = "hf_AAAAsecretAAAA"
    hub.add_token(secret, "ada", write=False)
    hub.repo("ada/cells").private = True
    found = looked_at(token=secret)
    hub.log.clear()
    assert found.get_many([(key, None) for key in large]) == list(large.values())
    assert hub.log.find("/batch")[0].holds(secret)
    assert {request.origin for request in hub.log.holding(secret)} == {"hub"}
