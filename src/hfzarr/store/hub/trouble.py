"""What huggingface_hub raises: whether it may pass, and what it means in our own words."""

from __future__ import annotations

import random
import re

from hfzarr.errors import HfzarrError, WriteError
from hfzarr.model.report import shorten
from hfzarr.store.hub.answers import retry_delay

__all__ = ["as_write_error", "next_delay"]

_LOGIN = "Log in with `hf auth login`, set HF_TOKEN, or give token=, with the right to write."
# 412: somebody else committed at the same moment.
_TRANSIENT = frozenset([408, 412, 429, 500, 502, 503, 504])
# Packages whose errors are those of a connection.
_NETWORK = frozenset(["httpx", "httpx2", "httpcore", "requests", "urllib3", "hf_xet"])
# Waits between attempts, s; some chance is added.
_DELAYS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
# A name that is not known is asked for so many times again: there is no network, or no such name.
_LOOK_UPS = 3
# As the systems' resolvers have it: Linux, macOS, Windows.
_UNKNOWN_NAME = ("Name or service not known", "name resolution", "nodename nor", "getaddrinfo")
# The Hub counts requests in windows of 5 minutes.
_LONGEST_WAIT = 310.0


def as_write_error(error: Exception, what: str) -> HfzarrError:
    """Return an error of huggingface_hub as one of our own, with what to do about it.

    Parameters
    ----------
    error
        The error.
    what
        What was tried, as a part of a sentence: ``"commit to the dataset repo 'ada/cells'"``.
    """
    error = _root_of(error)
    status, said = _status(error), _said(error)
    if status == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        return WriteError(f"cannot {what}: nobody is logged in, or not rightly ({said}). {_LOGIN}")
    if type(error).__name__ == "GatedRepoError":
        return WriteError(f"cannot {what}: it is gated ({said}). Ask for access on its page.")
    if status == 403:
        return WriteError(f"cannot {what}: it was refused ({said}). {_LOGIN}")
    if status == 404:
        return WriteError(f"cannot {what}: it is not there, or may not be seen ({said}). {_LOGIN}")
    if _is_unknown_name(error):
        return WriteError(
            f"cannot {what}: {said}. Check the network, and HF_ENDPOINT if it is set."
        )
    return WriteError(f"cannot {what}: {said}. Push again: what arrived is not sent again.")


def next_delay(error: Exception, attempt: int) -> float | None:
    """Return how long to wait before the next attempt, s; None where it would be in vain.

    Parameters
    ----------
    error
        What an attempt ended with.
    attempt
        How many were made before it.
    """
    error = _root_of(error)
    if attempt == len(_DELAYS) or not _may_pass(error):
        return None
    if attempt == _LOOK_UPS and _is_unknown_name(error):
        return None
    response = getattr(error, "response", None)
    headers = {} if response is None else {k.lower(): v for k, v in response.headers.items()}
    told = retry_delay(headers)
    if told is not None:
        return None if told > _LONGEST_WAIT else told + random.random()
    return _DELAYS[attempt] * (0.75 + random.random() / 2)


def _root_of(error: Exception) -> Exception:
    """Return what an upload failed by; huggingface_hub says only for which file it did."""
    cause = error.__cause__
    told = isinstance(error, RuntimeError) and isinstance(cause, Exception)
    return _root_of(cause) if told and isinstance(cause, Exception) else error


def _may_pass(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in _TRANSIENT
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return False
    package = type(error).__module__.partition(".")[0]
    # hf_xet says of a broken connection that it is an error at run time.
    return isinstance(error, (ConnectionError, TimeoutError, RuntimeError)) or package in _NETWORK


def _is_unknown_name(error: Exception) -> bool:
    return any(text in str(error) for text in _UNKNOWN_NAME)


def _status(error: Exception) -> int | None:
    code = getattr(getattr(error, "response", None), "status_code", None)
    return code if isinstance(code, int) else None


def _said(error: Exception) -> str:
    """Return what an error says in a line, without queries of URLs, which may be signed."""
    told = getattr(error, "server_message", None) or str(error) or type(error).__name__
    text = re.sub(r"\?[^\s'\"<>)]+", "?…", " ".join(str(told).split()))
    return shorten(text.rstrip("."), 300)
