"""Options for fsspec by reference: what a handle shows of them, and what it opens with them."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.errors import HfzarrError, TargetError
from hfzarr.rows.handle import ZarrHandle
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions
from servers import http_server, s3_server
from stores import write_image

SECRET = "wrpx9Qz"
HARMLESS = {"anon": True, "endpoint_url": "http://127.0.0.1:9000", "use_ssl": False}

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
texts = st.text(st.characters(codec="utf-8"), max_size=8).map(lambda text: SECRET + text)
secrets = st.one_of(
    texts,
    texts.map(str.encode),
    st.lists(texts, min_size=1, max_size=3),
    st.tuples(texts, st.integers()),
    st.lists(texts.map(str.encode), min_size=1, max_size=2),
)
secret_names = st.one_of(
    names.map(lambda name: f"x-{name}"),
    st.sampled_from(["token", "key", "secret", "password", "sas_token", "account_key", "headers"]),
)
secret_mappings = st.recursive(
    st.dictionaries(secret_names, secrets, min_size=1, max_size=3),
    lambda below: st.dictionaries(secret_names, st.one_of(below, secrets), min_size=1, max_size=3),
    max_leaves=6,
)
plain_mappings = st.dictionaries(
    names, st.one_of(st.booleans(), st.none(), st.dictionaries(names, st.booleans())), max_size=3
)


def shown(value: Any) -> bytes:
    """Return all that is seen of a value, or leaves this process with it."""
    parts = [pickle.dumps(value), repr(value).encode(), str(value).encode()]
    if isinstance(value, StorageOptions):
        parts += [value.plain.encode(), value.kept.encode()]
    return b"\n".join(parts)


# --- values --------------------------------------------------------------------------------------


@given(secret_mappings, plain_mappings)
def test_no_secret_is_seen_and_all_come_back(secret: dict[str, Any], plain: dict[str, Any]) -> None:
    options = {**plain, **secret}
    held = StorageOptions.of(options)
    handle = ZarrHandle("s3://bucket/a.zarr", "b/c", held, "row 3 of 'index.csv'")
    for value in (held, handle, [handle], {"zarr": handle}, handle.select):
        if not callable(value):
            assert SECRET.encode() not in shown(value)
    assert held.resolve() == options
    assert pickle.loads(pickle.dumps(held)).resolve() == options
    assert not held.lost
    assert bool(held)


@given(secret_mappings)
def test_equal_options_are_equal(options: dict[str, Any]) -> None:
    again = _rebuilt(options)
    assert again == options
    assert StorageOptions.of(again) == StorageOptions.of(options)
    assert hash(StorageOptions.of(again)) == hash(StorageOptions.of(options))
    first, second = (ZarrHandle("s3://b/a", options=StorageOptions.of(o)) for o in (options, again))
    assert first == second
    assert len({first, second}) == 1


def _rebuilt(value: Any) -> Any:
    """Return an equal value of which no part is the same object, in another order."""
    if isinstance(value, Mapping):
        return {_rebuilt(k): _rebuilt(v) for k, v in reversed(list(value.items()))}
    if isinstance(value, (list, tuple)):
        return type(value)(_rebuilt(part) for part in value)
    if isinstance(value, str):
        return "".join(list(value))
    return bytes(bytearray(value)) if isinstance(value, bytes) else value


def test_the_same_word_twice_is_the_same_option_as_from_json() -> None:
    literal = {"key": "none", "secret": "none"}
    assert StorageOptions.of(literal) == StorageOptions.of(json.loads(json.dumps(literal)))


@pytest.mark.parametrize("other", [{"token": SECRET + "b"}, {"key": SECRET}, {}, HARMLESS])
def test_other_options_are_not_equal(other: dict[str, Any]) -> None:
    assert StorageOptions.of({"token": SECRET}) != StorageOptions.of(other)
    assert StorageOptions.of(other).resolve() == other


@pytest.mark.parametrize(
    "options",
    [
        {"password": 31415926},
        {"pin": 31415926},
        {"auth": (1, 31415926)},
        {"client_kwargs": {"password": 31415926}},
        {"endpoint_url": "https://host.example/?sig=31415926"},
        {"endpoint_url": "https://user:31415926@host.example/"},
        {"client_kwargs": {"endpoint_url": "https://host.example/?sig=31415926"}},
        {"headers": {"project": "31415926"}},
        {"token": "env 31415926"},
        {"key": b"31415926"},
    ],
    ids=str,
)
def test_what_may_be_a_secret_is_one(options: dict[str, Any]) -> None:
    held = StorageOptions.of(options)
    assert b"31415926" not in shown(held)
    assert b"31415926" not in shown(ZarrHandle("s3://b/a", options=held))
    assert held.resolve() == options


def test_plain_options_travel_as_they_are() -> None:
    held = StorageOptions.of(HARMLESS)
    assert held.kept == ""
    assert json.loads(held.plain) == HARMLESS
    assert pickle.loads(pickle.dumps(held)).resolve() == HARMLESS


def test_no_options_are_false_and_resolve_to_none() -> None:
    assert not StorageOptions.of(None)
    assert not StorageOptions.of({})
    assert StorageOptions.of({}).resolve() == {}
    held = StorageOptions.of({"token": SECRET})
    assert StorageOptions.of(held) is held


@pytest.mark.parametrize("wrong", [[("a", 1)], "token=abc", 5, {1: "x"}, {("a",): "x"}])
def test_options_of_a_wrong_kind_are_refused(wrong: Any) -> None:
    with pytest.raises(TargetError, match="storage_options is a mapping"):
        StorageOptions.of(wrong)


class Session:
    """An object that leaves its secret out of its pickle, as sessions do."""

    def __init__(self, word: str = "") -> None:
        self.word = word

    def __reduce__(self) -> tuple[Any, ...]:
        return Session, ()


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {b"Authorization": b"x"}},
        {"headers": {1: "x", "1": "y"}},
        {"headers": {("a", 1): "x"}},
        {"scopes": ("a", "b")},
        {"scopes": ["a", "b"]},
        {"scopes": {"a"}},
        {"scopes": [("a",), ["a"]]},
        {"headers": {}},
        {"scopes": []},
    ],
    ids=str,
)
def test_odd_values_come_back_with_their_types(options: dict[str, Any]) -> None:
    held = StorageOptions.of(options)
    (wanted,), (came,) = options.values(), held.resolve().values()
    assert came == wanted
    assert type(came) is type(wanted)
    assert StorageOptions.of(options) == held


def test_secrets_of_mappings_that_are_gone_are_not_mixed_up() -> None:
    for i in range(200):
        held = StorageOptions.of({"headers": MappingProxyType({"token": f"{SECRET}{i}"})})
        assert held.resolve()["headers"]["token"] == f"{SECRET}{i}"


def test_objects_that_look_alike_in_a_pickle_are_told_apart() -> None:
    one, two = Session("one"), Session("two")
    first, second = StorageOptions.of({"session": one}), StorageOptions.of({"session": two})
    assert first.resolve()["session"] is one
    assert second.resolve()["session"] is two
    assert first != second


def test_an_object_without_a_pickle_comes_back_itself() -> None:
    lock, call = multiprocessing.get_context("spawn"), (lambda: SECRET)
    held = StorageOptions.of({"context": lock, "get_token": call, "anon": False})
    assert held.resolve()["get_token"] is call
    assert held.resolve()["context"] is lock
    assert len(pickle.dumps(held)) < 300
    assert StorageOptions.of({"context": lock, "get_token": call, "anon": False}) == held


def test_what_is_resolved_or_given_may_be_changed_without_harm() -> None:
    given_options = {"scopes": [SECRET], "client": {"secret": SECRET}}
    held = StorageOptions.of(given_options)
    resolved = held.resolve()
    resolved["scopes"].append("more")
    resolved["client"]["secret"] = "other"
    given_options["client"]["secret"] = "third"  # type: ignore[call-overload]
    given_options["scopes"].append("more")  # type: ignore[attr-defined]
    assert held.resolve() == {"scopes": [SECRET], "client": {"secret": SECRET}}


@pytest.mark.parametrize("value", [float("inf"), 1e300, 2**70, -1, 0.5, None, True])
def test_numbers_come_back(value: Any) -> None:
    held = StorageOptions.of({"block_size": value, "below": {"anon": value}})
    assert held.resolve() == {"block_size": value, "below": {"anon": value}}
    assert pickle.loads(pickle.dumps(held)) == held


# --- the environment -----------------------------------------------------------------------------


def test_a_variable_of_the_environment_is_looked_up_at_opening(monkeypatch: Any) -> None:
    held = StorageOptions.of({"token": "env:LAB_TOKEN", "client_kwargs": {"key": "env:LAB_KEY"}})
    monkeypatch.delenv("LAB_TOKEN", raising=False)
    monkeypatch.setenv("LAB_KEY", "k")
    with pytest.raises(TargetError, match="'LAB_TOKEN', which is not set"):
        held.resolve()
    handle = ZarrHandle("s3://bucket/a.zarr", options=held, row="row 3 of 'index.csv'")
    with pytest.raises(TargetError, match=r"row 3 of 'index\.csv'"):
        _ = handle.shape
    monkeypatch.setenv("LAB_TOKEN", SECRET)
    assert held.resolve() == {"token": SECRET, "client_kwargs": {"key": "k"}}
    assert SECRET.encode() not in shown(held)
    assert held.kept == ""


# --- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@host.example/a.zarr",
        f"https://host.example/a.zarr?token={SECRET}",
        f"https://host.example/a.zarr#{SECRET}",
        f"simplecache::https://user:{SECRET}@host.example/a.zarr",
        f"simplecache::https://host.example/a.zarr?sig={SECRET}",
        f"zip://in.zarr::https://user:{SECRET}@host.example/a.zip",
        f"zip://in.zarr::https://host.example/a.zip?sig={SECRET}",
        f"zip::sftp://user:{SECRET}@host.example/a.zip",
        f"s3://key:{SECRET}@bucket/a.zarr",
    ],
)
def test_no_repr_or_error_shows_the_secrets_of_a_url(url: str) -> None:
    assert SECRET not in hide_secrets(url)
    handle = ZarrHandle(url)
    assert SECRET not in repr(handle)
    assert SECRET not in repr(handle.location)
    assert "host.example" in repr(handle) or "bucket" in repr(handle)


@pytest.mark.filterwarnings("ignore:fs .* was not created with `asynchronous=True`")
@pytest.mark.parametrize("chain", ["", "simplecache::"])
@pytest.mark.parametrize("name", ["cells.zarr", "nowhere.zarr", "nowhere.zip"])
def test_nothing_that_is_shown_holds_the_secrets_of_a_url(
    tmp_path: Path, name: str, chain: str
) -> None:
    pytest.importorskip("aiohttp")
    write_image(str(tmp_path / "cells.zarr"), labels=[])
    text = (tmp_path / "cells.zarr" / "zarr.json").read_text("utf-8")
    with http_server(tmp_path) as (url, _):
        place = chain + url.replace("http://", f"http://user:{SECRET}@") + f"/{name}"
        for metadata in (None, text):
            handle = ZarrHandle(place, metadata=metadata)
            for show in (
                lambda h: h.info(),
                lambda h: h._repr_html_(),
                lambda h: h.to_xarray(),
                lambda h: h.to_xarray()._repr_html_(),
                lambda h: h.to_xarray().encoding,
                lambda h: h.select(0),
                lambda h: h.select(0)._repr_html_(),
                lambda h: h["nope"],
                lambda h: h.read((0, 0, 0, 0)),
            ):
                try:
                    shown_text = repr(show(handle))
                except HfzarrError as error:
                    shown_text = str(error)
                assert SECRET not in shown_text


# --- other processes -----------------------------------------------------------------------------

_IN_OTHER_PROCESSES = """
import json, multiprocessing, sys
sys.path.insert(0, sys.argv[1])
from hfzarr.store.options import StorageOptions
from hfzarr.rows.handle import ZarrHandle

def told(value):
    options = value.options if isinstance(value, ZarrHandle) else value
    return options.resolve(), options.lost

if __name__ == "__main__":
    held = StorageOptions.of({"anon": False, "client_kwargs": {"secret": "S", "region_name": "x"}})
    handle = ZarrHandle("s3://b/a", options=held)
    out = {}
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            out[method] = pool.map_async(told, [held, handle]).get(60)
    print(json.dumps(out))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_the_secrets_and_a_spawned_one_has_not(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_IN_OTHER_PROCESSES)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    out = json.loads(ran.stdout)
    whole = {"anon": False, "client_kwargs": {"secret": "S", "region_name": "x"}}
    assert out["fork"] == [[whole, False]] * 2
    assert out["spawn"] == [[{"anon": False, "client_kwargs": {"region_name": "x"}}, True]] * 2


# --- servers -------------------------------------------------------------------------------------


def test_headers_reach_the_server(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("aiohttp")
    import servers

    seen = []
    plain_get = servers._Ranges.do_GET

    def do_get(self: Any) -> None:
        seen.append(self.headers.get("Authorization"))
        plain_get(self)

    monkeypatch.setattr(servers._Ranges, "do_GET", do_get)
    write_image(str(tmp_path / "cells.zarr"), labels=[])
    options = StorageOptions.of({"headers": {"Authorization": f"Bearer {SECRET}"}})
    with http_server(tmp_path) as (url, _):
        handle = ZarrHandle(f"{url}/cells.zarr", options=options)
        assert SECRET.encode() not in pickle.dumps(handle)
        for child in (handle, handle.get_level(-1), pickle.loads(pickle.dumps(handle["0"]))):
            seen.clear()
            assert child[0, 0, 0, 0] == 0
            assert child.to_xarray().sizes["x"] > 1
            assert set(seen) <= {f"Bearer {SECRET}"}
        assert set(handle.select(0, level=-1).to_xarray().sizes) == {"z", "y", "x"}
        assert set(seen) == {f"Bearer {SECRET}"}


def test_a_store_in_s3_opens_with_options_and_not_without(tmp_path: Path, monkeypatch: Any) -> None:
    s3fs = pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    write_image(str(tmp_path / "cells.zarr"), labels=[])
    with s3_server() as server:
        options = {**server, "key": f"K{SECRET}", "secret": SECRET}
        filesystem = s3fs.S3FileSystem(**options)
        filesystem.mkdir("bucket")
        filesystem.put(str(tmp_path / "cells.zarr"), "bucket/cells.zarr", recursive=True)
        handle = ZarrHandle("s3://bucket/cells.zarr", options=StorageOptions.of(options))
        assert handle.kind == "image"
        child = pickle.loads(pickle.dumps(handle.get_level(-1)))
        assert np.array_equal(child.read(), handle.read(level=-1))
        selection = pickle.loads(pickle.dumps(handle.select(1, x=slice(0, 9, 2))))
        assert selection.read().shape == (4, 32, 5)
        for value in (handle, handle.get_level(0), handle["0"], selection):
            text = pickle.dumps(value)
            assert SECRET.encode() not in text
            assert len(text) < 1000
        assert SECRET not in handle._repr_html_()
        lost = StorageOptions(plain=handle.options.plain, kept="0123456789abcdef")
        with pytest.raises(HfzarrError) as caught:
            _ = ZarrHandle(handle.url, options=lost, row="row 3 of 'index.csv'").shape
        assert SECRET not in str(caught.value)
        assert "row 3 of 'index.csv'" in str(caught.value)
        assert "env:" in str(caught.value), "the error says that options stayed behind"
