"""Requests to the Hub and its CDN: one limit for all of them, tried again while that may help."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import platform
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hfzarr.errors import MissingDependencyError, ReadError, TargetError
from hfzarr.store.hub.answers import Reply, origin, retry_delay, shown
from hfzarr.store.options import StorageOptions, hidden

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Ask", "HubClient", "Login", "running_client"]

# How many requests are under way at once: enough to hide latency, few enough for a server.
_IN_FLIGHT = 64
# Waits between attempts, s; some chance is added, so that many clients do not return as one.
_DELAYS = (0.1, 0.4, 1.0, 2.5, 6.0)
# The Hub counts requests in windows of 5 minutes: more than that is waited for in vain.
_LONGEST_WAIT = 310.0
_PATIENCE = 600.0
_CONNECT = 20.0
_SILENCE = 60.0
# A login is looked up anew after so long, s: it may be renewed meanwhile.
_LOGIN_LASTS = 30.0
_TRANSIENT = frozenset([408, 429, 500, 502, 503, 504])
_KNOWN = frozenset(["token", "endpoint", "revision", "anon"])
# What fsspec takes for any file system, and what its own for the Hub does about its cache.
_MEANT_FOR_FSSPEC = frozenset(
    [
        "asynchronous", "batch_size", "block_size", "cache_options", "cache_type",
        "default_block_size", "expand_info", "listings_expiry_time", "loop", "max_paths",
        "skip_instance_cache", "use_listings_cache",
    ]
)  # fmt: skip


class Login:
    """Which Hub is asked, and as whom.

    Parameters
    ----------
    options
        ``token`` (text, or False for nobody), ``anon`` and ``endpoint``. What is not given is
        what huggingface_hub has when a request is made: ``HF_TOKEN``, a saved login,
        ``HF_ENDPOINT``.

    checked
        False where a pickle is opened: an error there would end a worker of a cluster without a
        word, so that it has to wait for the first request.

    Raises
    ------
    TargetError
        There are options that nobody knows.
    MissingDependencyError
        A package is not installed.
    """

    def __init__(self, options: StorageOptions, *, checked: bool = True) -> None:
        self.options = options
        self._token: Callable[[], str | None] | None = None
        self._until = 0.0
        with _extra() if checked else contextlib.suppress(ImportError):
            # Here rather than on the event loop, where others would wait for the import.
            import aiohttp  # noqa: F401
            import huggingface_hub.utils  # noqa: F401
        if checked:
            _check_names(options)

    def __repr__(self) -> str:
        return "Login()"

    @property
    def endpoint(self) -> str:
        """The Hub's address, without a slash at its end."""
        from huggingface_hub import constants

        return str(self.options.resolve().get("endpoint") or constants.ENDPOINT).rstrip("/")

    async def look_up(self) -> None:
        """Find out who is logged in, if that was long ago."""
        if self._token is None or time.monotonic() > self._until:
            # It may read a file, or ask a server.
            token = await asyncio.to_thread(_token, self.options)
            # In a function, a secret is in no repr of what holds it.
            self._token = hidden(token)
            self._until = time.monotonic() + _LOGIN_LASTS

    def forget(self) -> None:
        """Look it up again at the next request."""
        self._token = None

    def headers(self, url: str) -> dict[str, str]:
        """Return the headers that prove who asks: none, unless the URL is one of the Hub itself."""
        token = self._token() if self._token else None
        if not token or origin(url) != origin(self.endpoint):
            return {}
        return {"Authorization": f"Bearer {token}"}

    @property
    def described(self) -> str:
        """Who asks, as a part of a sentence."""
        if self.options.lost:
            return "the token that was given is not known in this process"
        given = self.options.resolve()
        if given.get("token") is False or given.get("anon"):
            return "anonymous, as storage_options say"
        if self._token is None or not self._token():
            return "nobody is logged in"
        return f"asked with the {'given token' if given.get('token') else 'login of this machine'}"

    def hide(self, text: str) -> str:
        """Return a text without the token, and without queries of URLs, which may be signed."""
        token = self._token() if self._token else None
        text = text.replace(token, "***") if token else text
        return re.sub(r"\?[^\s'\"<>)]+", "?…", text)


def _check_names(options: StorageOptions) -> None:
    unknown = set(options.resolve()) - _KNOWN - _MEANT_FOR_FSSPEC
    if unknown:
        raise TargetError(
            f"storage_options of the Hub are {', '.join(sorted(_KNOWN))}; unknown: "
            f"{', '.join(sorted(unknown))}. Leave them out."
        )


def _token(options: StorageOptions) -> str | None:
    from huggingface_hub import constants, get_token

    given = options.resolve()
    token = given.get("token")
    if token is False or given.get("anon"):
        return None
    if isinstance(token, str) and token:
        return token
    if token is None and constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    return get_token()


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"reading the Hub needs a package that is not installed ({error}): "
            'pip install "hfzarr[hub,http]"'
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request.

    Attributes
    ----------
    method, url
        Of HTTP.
    what
        What it is for, as the beginning of an error.
    headers
        Without a token.
    form, json
        The body of a POST.
    most
        More bytes than that are not read; None for no bound.
    complaint
        What is wrong with an answer that looks well, if anything; then it is asked for again.
    once
        Whether there is another way, so that trying again is not worth the wait.
    """

    method: str
    url: str = field(repr=False)
    what: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Sequence[tuple[str, str]] | None = None
    json: Any = None
    most: int | None = None
    complaint: Callable[[Reply], str | None] = lambda reply: None
    once: bool = False


class HubClient:
    """Sends requests from one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._limit = asyncio.Semaphore(_IN_FLIGHT)
        self._quiet: dict[tuple[str, str, int | None], float] = {}
        self._proxies: dict[tuple[str, str, int | None], str | None] = {}
        self._session = _session()
        atexit.register(self._close)

    def _close(self) -> None:
        """Close the connections of this process; those of another are none of its business."""
        if self._process != os.getpid() or self.loop.is_closed() or not self.loop.is_running():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._session.close(), self.loop).result(timeout=2)

    async def send(self, ask: Ask, login: Login) -> Reply:
        """Send a request until it is answered.

        Redirects are returned, and so are refusals. What may pass is tried again: broken
        connections, answers cut short, 429 and 5xx, after as long as the server asks for.

        Raises
        ------
        ReadError
            It was tried several times in vain, or the server asks to wait for very long.
        """
        begun = time.monotonic()
        place = origin(ask.url)
        await login.look_up()
        attempt = 0
        while True:
            await self._keep_quiet(place)
            reply, trouble = await self._try(ask, login)
            if reply is not None and not trouble:
                return reply
            told = retry_delay(reply.headers) if reply is not None else None
            delay = _delay(attempt, told, reply)
            left = begun + _PATIENCE - time.monotonic()
            if ask.once or attempt == len(_DELAYS) or delay > min(_LONGEST_WAIT, left):
                raise _gave_up(ask, trouble, attempt + 1, told)
            if reply is not None and reply.status in (429, 503):
                # What is asked for meanwhile would be refused too.
                self._quiet[place] = max(self._quiet.get(place, 0.0), time.monotonic() + delay)
            else:
                await asyncio.sleep(delay)
            attempt += 1

    async def _keep_quiet(self, place: tuple[str, str, int | None]) -> None:
        while (wait := self._quiet.get(place, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    async def _try(self, ask: Ask, login: Login) -> tuple[Reply | None, str]:
        """Return the answer, and what is wrong with it."""
        import aiohttp
        from yarl import URL

        async with self._limit:
            try:
                async with self._session.request(
                    ask.method,
                    URL(ask.url, encoded=True),
                    headers={"User-Agent": _agent(), **ask.headers, **login.headers(ask.url)},
                    data=ask.form,
                    json=ask.json,
                    allow_redirects=False,
                    proxy=self._proxy(ask.url),
                ) as answer:
                    headers = {name.lower(): text for name, text in answer.headers.items()}
                    # It is shown, and may repeat what it complains of.
                    said = login.hide(headers.get("x-error-message", ""))
                    headers["x-error-message"] = said
                    reply = Reply(url=ask.url, status=answer.status, headers=headers)
                    if answer.status in _TRANSIENT:
                        return reply, f"it answered {answer.status}{f' ({said})' if said else ''}"
                    body = await _read(answer, ask.most)
            # An error of aiohttp may hold the request, token and all: only its text goes on.
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                return None, login.hide(f"{type(error).__name__}: {error}".rstrip(": "))
            except asyncio.CancelledError:
                # aiohttp may hand on what another task was cancelled by.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                return None, "the connection was given up"
        if isinstance(body, str):
            return None, body
        reply = Reply(url=ask.url, status=reply.status, headers=headers, body=body)
        return reply, ask.complaint(reply) or ""

    def _proxy(self, url: str) -> str | None:
        place = origin(url)
        if place not in self._proxies:
            self._proxies[place] = _find_proxy(url)
        return self._proxies[place]


async def _read(answer: aiohttp.ClientResponse, most: int | None) -> bytes | str:
    if most is None:
        return await answer.read()
    announced = answer.content_length
    if announced is None or announced <= most:
        parts, count = [], 0
        async for part in answer.content.iter_any():
            parts.append(part)
            count += len(part)
            if count > most:
                break
        else:
            return b"".join(parts)
    # What is left of it would come first on this connection.
    answer.close()
    return f"it began to send {announced or count} bytes, and at most {most} were expected"


def _delay(attempt: int, told: float | None, reply: Reply | None) -> float:
    base = _DELAYS[min(attempt, len(_DELAYS) - 1)]
    if told is not None:
        return told + base * random.random()
    if reply is not None and reply.status == 429:
        base *= 4
    return base * (0.75 + random.random() / 2)


def _gave_up(ask: Ask, trouble: str, count: int, told: float | None) -> ReadError:
    times = "once" if count == 1 else f"{count} times"
    wait = f" It asks to wait for {told:.0f} s." if told else ""
    return ReadError(
        f"{ask.what}: {shown(ask.url)} was asked {times}, at last {trouble}.{wait} Try again later."
    )


def _session() -> aiohttp.ClientSession:
    import aiohttp

    # The limit is ours, as one on connections would count those that wait to be used again.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE),
        read_bufsize=2**20,
    )


def _find_proxy(url: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.netloc):
        return None
    found = getproxies()
    return found.get(parts.scheme) or found.get("all")


@functools.cache
def _agent() -> str:
    """Return what the Hub is told of who asks: huggingface_hub's own text may take a request."""
    import huggingface_hub
    from huggingface_hub import constants

    python = ".".join(platform.python_version_tuple()[:2])
    parts = [f"hfzarr/{version('hfzarr')}", f"hf_hub/{huggingface_hub.__version__}"]
    parts.append(f"python/{python}")
    if asking := getattr(constants, "HF_HUB_USER_AGENT_ORIGIN", None):
        parts.append(f"origin/{asking}")
    return "; ".join(parts)


_client: HubClient | None = None
# Those of loops that are no more, such as the one of the process that this one was forked from:
# were they collected here, they would touch connections that are not theirs.
_former: list[HubClient] = []


def running_client() -> HubClient:
    """Return the client of the event loop that is running: one for all stores."""
    global _client
    if _client is None or _client.loop is not asyncio.get_running_loop():
        with _extra():
            made = HubClient()
        if _client is not None:
            _former.append(_client)
        _client = made
    return _client
