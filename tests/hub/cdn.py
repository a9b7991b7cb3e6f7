"""The CDN: another origin, with signed addresses that expire, and no idea of tokens."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from hub.web import Answer, Asked, serve_bytes

if TYPE_CHECKING:
    from hub.server import Hub

_KEY = b"key of the CDN"


def _signature(method: str, path: str, until: str) -> str:
    return hmac.new(_KEY, f"{method} {path} {until}".encode(), hashlib.sha256).hexdigest()


def sign(method: str, path: str, until: float) -> str:
    """Path and query of an address that is good for one method until a time (epoch, s)."""
    expires = f"{until:.3f}"
    query = {"Expires": expires, "Signature": _signature(method, path, expires)}
    return f"{path}?{urlencode(query)}"


def _denied(code: str, message: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(403, body, {"Content-Type": "application/xml"})


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def check(hub: Hub, asked: Asked) -> Answer | None:
    """Refuse a request whose address was not signed for it, or not for now."""
    path, expires = "/" + "/".join(asked.parts), asked.query.get("Expires", "0")
    method = "GET" if asked.method == "HEAD" else asked.method
    if not hmac.compare_digest(_signature(method, path, expires), asked.query.get("Signature", "")):
        return _denied("SignatureDoesNotMatch", "The signature does not match")
    if float(expires) < hub.clock():
        return _denied("AccessDenied", "Request has expired")
    return None


def answer(hub: Hub, asked: Asked) -> Answer:
    """Serve or take one large object: ``/{type}/{namespace}/{name}/{sha256}``; a part of one has
    its number after that."""
    refusal = check(hub, asked)
    if refusal is not None:
        return refusal
    kind, namespace, name, oid, *number = asked.parts
    repo = hub.state.repos.get((kind, f"{namespace}/{name}"))
    if repo is None:
        return Answer(404)
    if number:
        with hub.state.lock:
            repo.parts.setdefault(oid, {})[int(number[0])] = asked.body
        return Answer(200, b"", {"ETag": etag(asked.body)})
    if asked.method == "PUT":
        if hashlib.sha256(asked.body).hexdigest() != oid:
            return Answer(400, b"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>")
        with hub.state.lock:
            repo.objects[oid] = asked.body
        return Answer(200, b"", {"ETag": etag(asked.body)})
    if oid not in repo.objects:
        return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
    return serve_bytes(asked, repo.objects[oid], {"ETag": f'"{oid}"'})
