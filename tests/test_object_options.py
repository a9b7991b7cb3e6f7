"""What fsspec is told of an object store, as obstore is told it; and who asks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from hfzarr.errors import ReadError
from hfzarr.store.connect import connect
from hfzarr.store.location import locate
from hfzarr.store.objects import client as object_client
from hfzarr.store.objects import region as object_region
from hfzarr.store.objects.options import Keys, Login, fsspec_defaults, object_place
from hfzarr.store.wrapped import ZarrSource
from objectservers import (
    DATA,
    SECRET,
    Answer,
    Handler,
    Server,
    needs_botocore,
    needs_obstore,
    open_source,
    redirected,
)
from objectservers import moto as moto
from objectservers import no_login as no_login
from objectservers import server as server

pytestmark = needs_obstore


def styled(style: str) -> dict[str, Any]:
    return {"config_kwargs": {"s3": {"addressing_style": style}}}


# --- what can be said to obstore ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {"region": "us-east-1", "skip_signature": False}),
        ({"client_kwargs": {"region_name": "eu-west-1"}}, {"region": "eu-west-1"}),
        ({"config_kwargs": {"region_name": "eu-west-1"}}, {"region": "eu-west-1"}),
        ({"endpoint_url": "https://h:9/"}, {"endpoint": "https://h:9"}),
        (
            {"endpoint_url": "https://h:9", **styled("virtual")},
            {"endpoint": "https://lab.h:9", "virtual_hosted_style_request": True},
        ),
        (styled("path"), {"virtual_hosted_style_request": False}),
        ({"requester_pays": True, "anon": True}, {"request_payer": True, "skip_signature": True}),
    ],
    ids=str,
)
def test_options_of_s3(options: dict[str, Any], told: dict[str, Any]) -> None:
    place = object_place("s3://lab/a/b.zarr", {**options, "use_listings_cache": False})
    assert place is not None
    assert (place.kind, place.root, place.prefix) == ("s3", "lab", "a/b.zarr")
    assert {name: place.config[name] for name in told} == told


@pytest.mark.parametrize(
    ("options", "login"),
    [
        ({"key": "k", "secret": "s"}, Keys(key="k", secret="s")),
        ({"username": "k", "password": "s", "token": "t"}, Keys(key="k", secret="s", token="t")),
        (
            {"client_kwargs": {"aws_access_key_id": "k", "aws_secret_access_key": "s"}},
            Keys(key="k", secret="s"),
        ),
        ({"anon": True, "key": "k", "secret": "s"}, None),
        ({}, Login(options={"profile": None})),
    ],
    ids=str,
)
def test_who_asks_s3(options: dict[str, Any], login: Any) -> None:
    place = object_place("s3://lab/a.zarr", options)
    assert place is not None
    assert place.login == login
    assert "'k'" not in repr(place)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://lab/a.zarr", {"version_aware": True}),
        ("s3://lab/a.zarr", {"s3_additional_kwargs": {"SSECustomerKey": "k"}}),
        ("s3://lab/a.zarr", {"session": "mine"}),
        ("s3://lab/a.zarr", {"key": "k"}),
        ("s3://lab/a.zarr", {"key": "k", "secret": "s", "username": "other"}),
        ("s3://lab/a.zarr", {"use_ssl": False}),
        ("s3://lab/a.zarr", {"profile": "no-such-profile"}),
        ("s3://lab/a.zarr", {"client_kwargs": {"verify": "/no/such/file"}}),
        ("s3://lab/a.zarr", {"config_kwargs": {"retries": {"max_attempts": 9}}}),
        ("s3://lab/a.zarr", {"client_kwargs": {"region_name": "cn-north-1"}}),
        ("s3://lab/a.zarr", {"anon": True, "unheard_of": 1}),
        ("s3://lab/a.zarr?versionId=3", {"anon": True}),
        ("s3://key:secret@lab/a.zarr", {"anon": True}),
        ("s3://lab--use1-az4--x-s3/a.zarr", {"anon": True}),
        ("s3://arn:aws:s3:us-west-2:1:accesspoint/x/a.zarr", {"anon": True}),
        ("s3://lab/a//b.zarr", {"anon": True}),
        ("gs://lab/a.zarr", {"requester_pays": True}),
        ("gs://lab/a.zarr", {"endpoint_url": "http://h:9"}),
        ("gs://lab/a.zarr", {"session_kwargs": {"trust_env": True}}),
        ("https://h/a.zarr?sig=1", {}),
        ("https://h/a%2Fb.zarr", {}),
        ("https://h/a%25b.zarr?x", {}),
        ("https://h/a.zarr", {"client_kwargs": {"cookies": {"a": "b"}}}),
        ("https://h/a.zarr", {"client_kwargs": {"trust_env": True}}),
        ("https://h/a.zarr", {"headers": {"a": b"b"}}),
        ("https://u:p@h/a.zarr", {"headers": {"Authorization": "Bearer t"}}),
        ("https://h/a.zarr", {"encoded": True}),
        ("https://h/a.zarr", {"ssl": False}),
    ],
    ids=str,
)
def test_what_obstore_cannot_be_told(url: str, options: dict[str, Any]) -> None:
    assert object_place(url, options) is None


@needs_botocore
@pytest.mark.parametrize(
    "line",
    ["use_fips_endpoint = true", "services = mine", "s3 =\n    use_accelerate_endpoint = true"],
    ids=["fips", "services", "accelerate"],
)
def test_a_configuration_that_obstore_does_not_know(tmp_path: Path, line: str) -> None:
    assert object_place("s3://lab/a.zarr", {"anon": True}) is not None
    (tmp_path / "config").write_text(f"[default]\n{line}\n")
    assert object_place("s3://lab/a.zarr", {"anon": True}) is None


def test_a_proxy_is_left_to_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert object_place("https://h.example/a.zarr", {}) is None
    monkeypatch.setenv("NO_PROXY", "h.example")
    assert object_place("https://h.example/a.zarr", {}) is not None


def test_headers_and_users() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    with warnings.catch_warnings():
        # Deprecated, and used all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        auth = aiohttp.BasicAuth("ada", "word")
    options: list[dict[str, Any]] = [
        {"headers": {"X-A": "1"}, "client_kwargs": {"headers": {"x-a": "0", "b": "2"}}},
        {"client_kwargs": {"auth": auth}},
    ]
    places = [object_place("https://h/a.zarr", one) for one in options]
    places.append(object_place("https://ada:w%6Frd@h/a.zarr", {}))
    found = [place and place.client.get("default_headers") for place in places]
    basic = {"authorization": "Basic YWRhOndvcmQ="}
    assert found == [{"x-a": "1", "b": "2"}, basic, basic]


def test_options_of_the_configuration_of_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True, "requester_pays": True})
    assert fsspec_defaults("s3://lab/a", {"anon": False}) == {"anon": False, "requester_pays": True}
    assert fsspec_defaults("memory://a", {}) is None
    assert fsspec_defaults("simplecache::s3://lab/a", {}) is None


def test_a_file_system_that_somebody_registered_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    class Own(MemoryFileSystem):
        protocol = "s3"

    monkeypatch.setitem(_registry(), "s3", Own)
    assert fsspec_defaults("s3://lab/a", {}) is None


def _registry() -> dict[str, Any]:
    from fsspec.registry import _registry as registered

    found: dict[str, Any] = registered
    return found


def test_without_obstore_fsspec_reads(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client, "_is_installed", lambda: False)
    source = connect(locate(f"{server.url}/lab/a.zarr"))
    assert type(source) is ZarrSource
    assert source.get("x") == DATA


# --- who asks -------------------------------------------------------------------------------------


def test_keys_of_the_environment(moto: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = moto["client_kwargs"]["endpoint_url"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    source = open_source("s3://lab/s.zarr")
    with pytest.raises(ReadError, match=r"no keys of AWS on this machine. Log in, or .*anon"):
        source.get("a/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    assert source.get("a/x") == b"a/x" * 20


@needs_botocore
def test_keys_of_a_profile(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature tells whose key it is; obstore by itself knows nothing of profiles."""
    (tmp_path / "config").write_text(
        f"[profile lab]\nregion = eu-west-3\nendpoint_url = {server.url}\ns3 =\n"
        "    max_concurrent_requests = 5\n"
    )
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = LABKEY\naws_secret_access_key = {SECRET}\n"
    )
    # None of these may be mixed with it.
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AWS_REGION", "us-west-9")
    assert open_source("s3://lab/a.zarr", {"profile": "lab"}).get("x") == DATA
    _, path, headers = server.asked[0]
    told = {name.lower(): text for name, text in headers.items()}
    assert path == "/lab/a.zarr/x"
    assert "/eu-west-3/s3/aws4_request" in told["authorization"]
    assert "Credential=LABKEY/" in told["authorization"]
    assert "x-amz-security-token" not in told


def test_given_keys_and_endpoint_go_before_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    options = {"key": "MINE", "secret": SECRET, "requester_pays": True, "endpoint_url": server.url}
    assert open_source("s3://lab/a.zarr", options).get("x") == DATA
    told = {name.lower(): text for name, text in server.asked[0][2].items()}
    assert "Credential=MINE/" in told["authorization"]
    assert told["x-amz-request-payer"] == "requester"
    assert "x-amz-security-token" not in told


def test_a_bucket_in_another_region(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS answers 301 without a place to go to; who asks for the bucket is told its region."""

    def elsewhere(handler: Handler, answer: Answer) -> Answer | None:
        if handler.command == "HEAD":
            return Answer(403, x_amz_bucket_region="eu-north-1")
        signed = handler.headers.get("authorization", "")
        return None if "/eu-north-1/" in signed else Answer(301, b"<Code>PermanentRedirect</Code>")

    server.faults = [elsewhere]
    monkeypatch.setattr(object_region, "_ADDRESS", server.url + "/{bucket}")
    redirected(monkeypatch, endpoint=f"{server.url}/lab")
    source = open_source("s3://lab/a.zarr", {"key": "MINE", "secret": SECRET})
    assert source.get("a/x") == DATA
    assert source.get_many([("b/x", None), ("c/x", None)]) == [DATA, DATA]
    assert [command for command, _, _ in server.asked] == ["GET", "HEAD", "GET", "GET", "GET"]
