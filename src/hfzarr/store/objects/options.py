"""What fsspec is told of an object store, in obstore's words; None where it has no such words.

A store is read by obstore only where it reads the same bytes, as the same user, as fsspec would.
An option, a variable or a line of a configuration file that is not known here leaves the store to
fsspec.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from hfzarr.store.objects.aws_configuration import configured

__all__ = ["Keys", "Login", "ObjectPlace", "fsspec_defaults", "object_place"]

_PROTOCOLS = {
    "s3": ("s3", "s3a"), "s3a": ("s3", "s3a"), "gs": ("gs", "gcs"), "gcs": ("gs", "gcs"),
    "http": ("http", "https"), "https": ("http", "https"),
}  # fmt: skip
# Whose classes are those that are spoken for here; whoever registered another wants that one.
_IMPLEMENTATIONS = frozenset(["s3fs", "gcsfs", "fsspec"])
# Options that change nothing about which bytes are read: caches, blocks, listings, writing.
_NO_MATTER = frozenset(
    [
        "asynchronous", "batch_size", "block_size", "cache_options", "cache_regions",
        "cache_timeout", "cache_type", "check_connection", "consistency", "default_block_size",
        "default_cache_type", "default_fill_cache", "default_location", "fixed_upload_size",
        "listings_expiry_time", "local_expiry_check", "loop", "max_concurrency", "max_paths",
        "same_scheme", "secure_serialize", "simple_links", "size_policy", "skip_instance_cache",
        "use_listings_cache",
    ]
)  # fmt: skip
# What a bucket is called that a host can be, and that no rule of its own applies to.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]+")
_EXPRESS = "--x-s3"
# Where Google's services lie elsewhere, or are spoken to with a certificate.
_GOOGLE_SPECIAL = (
    "STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN", "GOOGLE_API_USE_CLIENT_CERTIFICATE",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A key of AWS that was given.

    Attributes
    ----------
    key, secret, token
        What the signature is made of; a token is part of a temporary key only.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who is to be asked who asks: botocore or gcsfs, by their own names for it.

    Attributes
    ----------
    options
        ``profile`` of AWS; ``token``, ``access`` and ``project`` of Google.
    """

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPlace:
    """Where a store lies, and what obstore is told of it.

    Attributes
    ----------
    kind
        Which of obstore's stores serves it.
    root
        The bucket, or the address of the server.
    prefix
        What keys of the store begin with, without a slash at its end.
    config
        What the store is made with.
    client
        What its HTTP client is made with.
    login
        Who asks; None for nobody.
    authorities
        A file of certificates to trust, besides those that the system trusts.
    """

    kind: Literal["s3", "gs", "http"]
    root: str
    prefix: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    login: Keys | Login | None = None
    authorities: str | None = None


def fsspec_defaults(url: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return options as fsspec's configuration completes them.

    None where the URL is not one of an object store, or somebody registered a file system of
    their own for it.
    """
    protocols = _PROTOCOLS.get(url.partition("://")[0])
    if protocols is None or "::" in url:
        return None
    import fsspec

    for protocol in protocols:
        chosen = fsspec.registry.get(protocol)
        if chosen is not None and chosen.__module__.partition(".")[0] not in _IMPLEMENTATIONS:
            return None
    known: dict[str, Any] = {}
    for protocol in protocols:
        known.update(fsspec.config.conf.get(protocol, {}))
    return {**known, **options}


def object_place(url: str, options: Mapping[str, Any]) -> ObjectPlace | None:
    """Return where a store lies in obstore's words, or None where fsspec is to read it.

    Nothing is read but, for s3, the configuration of AWS on this machine.

    Parameters
    ----------
    url
        Begins with ``s3://``, ``gs://``, ``http://`` or ``https://``, or their other names.
    options
        For fsspec, as `fsspec_defaults` returns them.

    Examples
    --------
    >>> place = object_place("s3://lab/a/b.zarr", {"anon": True, "endpoint_url": "http://host:9"})
    >>> place.root, place.prefix, place.login
    ('lab', 'a/b.zarr', None)
    >>> object_place("s3://lab/a.zarr", {"anon": True, "version_aware": True}) is None
    True
    """
    parts = urlsplit(url)
    # "?" and "#" may belong to a key, or tell a version.
    if "?" in url or "#" in url or "\\" in url or not parts.netloc:
        return None
    left = {
        name: value
        for name, value in options.items()
        if name not in _NO_MATTER and value is not None
    }
    prefix = parts.path.strip("/")
    if prefix and not set(prefix.split("/")).isdisjoint(["", ".", ".."]):
        return None
    if parts.scheme in ("s3", "s3a"):
        return _s3(parts.netloc, prefix, left)
    if parts.scheme in ("gs", "gcs"):
        return _gs(parts.netloc, prefix, left)
    return _http(url, prefix, left)


# --- s3 -------------------------------------------------------------------------------------------


def _s3(bucket: str, prefix: str, left: dict[str, Any]) -> ObjectPlace | None:
    if not _BUCKET.fullmatch(bucket) or bucket.endswith(_EXPRESS):
        return None
    client, config = left.pop("client_kwargs", {}), left.pop("config_kwargs", {})
    if not isinstance(client, Mapping) or not isinstance(config, Mapping):
        return None
    client, config = dict(client), dict(config)
    style = (config.pop("s3", None) or {}).get("addressing_style", "auto")
    anon, payer = bool(left.pop("anon", False)), bool(left.pop("requester_pays", False))
    keys = [
        _one(left.pop("key", None), left.pop("username", None), client.pop(_CLIENT[0], None)),
        _one(left.pop("secret", None), left.pop("password", None), client.pop(_CLIENT[1], None)),
        _one(left.pop("token", None), client.pop(_CLIENT[2], None)),
    ]
    region = _one(client.pop("region_name", None), config.pop("region_name", None))
    endpoint = _one(left.pop("endpoint_url", None), client.pop("endpoint_url", None))
    use_ssl = _one(client.pop("use_ssl", None), left.pop("use_ssl", None))
    profile, verify = left.pop("profile", None), client.pop("verify", True)
    config.pop("max_pool_connections", None)
    if config.pop("signature_version", "s3v4") != "s3v4" or not isinstance(verify, (bool, str)):
        return None
    if left or client or config or _CLASH in [*keys, region, endpoint, use_ssl]:
        return None
    found = configured(profile, region=region, endpoint=endpoint)
    if found is None or (use_ssl is False and found.endpoint is None):
        return None
    login = _aws_login(anon, keys, profile)
    if isinstance(login, str):
        return None
    if style == "auto":
        style = found.style
    told: dict[str, Any] = {"region": found.region, "skip_signature": login is None}
    if payer:
        told["request_payer"] = True
    told |= _addressed(bucket, found.endpoint, style)
    plain = str(found.endpoint).startswith("http://")
    reached: dict[str, Any] = {"allow_http": plain}
    if verify is False:
        reached["allow_invalid_certificates"] = True
    authorities = found.authorities if verify is True else verify or None
    if plain or not authorities:
        authorities = None
    elif not os.path.isfile(authorities):
        return None
    return ObjectPlace(
        kind="s3", root=bucket, prefix=prefix, config=told, client=reached, login=login,
        authorities=authorities,
    )  # fmt: skip


_CLIENT = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_CLASH = object()


def _one(*values: Any) -> Any:
    """Return the one value that was given; a mark where there are several, which fsspec refuses."""
    given = [value for value in values if value is not None]
    return given[0] if len(given) == 1 else _CLASH if given else None


def _aws_login(anon: bool, keys: list[Any], profile: str | None) -> Keys | Login | str | None:
    """Return who asks; a text where fsspec is to say what is wrong with that."""
    key, secret, token = keys
    if anon:
        return None
    if key and secret:
        return Keys(key=str(key), secret=str(secret), token=None if token is None else str(token))
    if key or secret or token:
        return "half a key"
    return Login(options={"profile": profile})


def _addressed(bucket: str, endpoint: str | None, style: str) -> dict[str, Any]:
    """Say where the bucket is asked for, as botocore does: by its host, or in the path."""
    if endpoint is None:
        # A certificate covers one name before the host of S3.
        return {"virtual_hosted_style_request": style != "path" and "." not in bucket}
    if style != "virtual":
        told = {"endpoint": endpoint, "virtual_hosted_style_request": False}
    else:
        scheme, _, rest = endpoint.partition("://")
        told = {"endpoint": f"{scheme}://{bucket}.{rest}", "virtual_hosted_style_request": True}
    # To obstore, this variable says more than what it is told.
    if "AWS_ENDPOINT_URL_S3" in os.environ:
        told["aws_endpoint_url_s3"] = told["endpoint"]
    return told


# --- gs -------------------------------------------------------------------------------------------


def _gs(bucket: str, prefix: str, left: dict[str, Any]) -> ObjectPlace | None:
    if not _BUCKET.fullmatch(bucket) or any(os.environ.get(name) for name in _GOOGLE_SPECIAL):
        return None
    login: dict[str, Any] = {
        name: left.pop(name) for name in ("token", "access", "project") if name in left
    }
    if left.pop("requester_pays", False) or left.pop("version_aware", False) or left:
        return None
    anon = login.get("token") == "anon"
    return ObjectPlace(
        kind="gs",
        root=bucket,
        prefix=prefix,
        config={"skip_signature": True} if anon else {},
        login=None if anon else Login(options=login),
    )


# --- http -----------------------------------------------------------------------------------------


def _http(url: str, prefix: str, left: dict[str, Any]) -> ObjectPlace | None:
    parts = urlsplit(url)
    plain = unquote(prefix)
    # Only what is spelled as obstore will spell it again. It knows no proxy of its own choice.
    spelled = quote(plain, safe="/!$&'()*+,;=:@~") == quote(prefix, safe="%/!$&'()*+,;=:@~")
    if not spelled or "//" in plain or _proxied(parts.scheme, parts.netloc):
        return None
    user, _, host = parts.netloc.rpartition("@")
    headers = _headers(user, left)
    if left or headers is None:
        return None
    client: dict[str, Any] = {"allow_http": parts.scheme == "http" or not headers}
    if headers:
        client["default_headers"] = headers
    root = f"{parts.scheme}://{host}"
    return ObjectPlace(kind="http", root=root, prefix=plain, client=client)


def _headers(user: str, left: dict[str, Any]) -> dict[str, str] | None:
    """Return the headers of each request, taken out of the options; None if one is not known."""
    client = left.pop("client_kwargs", {})
    if not isinstance(client, Mapping):
        return None
    client = dict(client)
    proofs = [left.pop("auth", None), client.pop("auth", None)]
    found: dict[str, str] = {}
    for headers in (client.pop("headers", None), left.pop("headers", None)):
        for name, value in dict(headers or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                return None
            found[name.lower()] = value
    if client or left.pop("encoded", False):
        return None
    said = [text for proof in proofs if proof is not None for text in [_basic(proof)]]
    if user:
        try:
            said.append(_encoded(unquote(user)))
        except UnicodeEncodeError:
            return None
    if said:
        if len(said) > 1 or said[0] is None or "authorization" in found:
            return None
        found["authorization"] = said[0]
    return found


def _basic(proof: Any) -> str | None:
    """Return what aiohttp would send for its ``BasicAuth``."""
    kind = getattr(sys.modules.get("aiohttp"), "BasicAuth", None)
    return str(proof.encode()) if kind is not None and isinstance(proof, kind) else None


def _encoded(user: str) -> str:
    name, _, word = user.partition(":")
    return "Basic " + base64.b64encode(f"{name}:{word}".encode("latin1")).decode("ascii")


def _proxied(scheme: str, host: str) -> bool:
    proxies = getproxies()
    used = proxies.get(scheme) or proxies.get("all")
    return bool(used) and not proxy_bypass(host.rpartition("@")[2])
