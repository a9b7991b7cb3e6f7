"""What obstore says when it fails: what to do about it, and the same without secrets."""

from __future__ import annotations

import re

__all__ = ["Trouble", "Unfit", "trouble_of"]

_STATUS = re.compile(r"status code: (\d{3})([^:\n]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_RETRIES = re.compile(r"after (\d+) retries")
_INNER = re.compile(r'\b(?:message|error): "([^"]*)"')
# A server that sends no part of an object: all of it instead.
_WHOLE = ("Range request not supported", "non-partial response")
# Headers that a server need not send, and obstore cannot do without.
_HEADERS = re.compile(
    r"(?i)header (?:missing|not present)|missing.{0,20}header|invalid .{0,20}header"
)
_ELSEWHERE = ("redirect without LOCATION", "AuthorizationHeaderMalformed", "PermanentRedirect",
              "IllegalLocationConstraint")  # fmt: skip


class Unfit(Exception):
    """obstore cannot read an object as a server sends it; fsspec may."""


class Trouble(Exception):
    """Why an object cannot be read, without secrets.

    Parameters
    ----------
    reason
        A sentence without its end.
    passing
        Whether it may pass when asked again at once: nobody else has tried.
    denied
        Whether it is a matter of permission.
    elsewhere
        Whether the bucket is in another region.
    whole
        Whether the server sends objects whole.
    beyond_the_end
        Whether the object ends before the bytes that were asked for.
    """

    def __init__(
        self,
        reason: str,
        *,
        passing: bool = False,
        denied: bool = False,
        elsewhere: bool = False,
        whole: bool = False,
        beyond_the_end: bool = False,
    ) -> None:
        super().__init__(reason)
        self.passing = passing
        self.denied = denied
        self.elsewhere = elsewhere
        self.whole = whole
        self.beyond_the_end = beyond_the_end


def trouble_of(error: Exception) -> Trouble:
    """Return what an error of obstore means.

    Its text may hold a whole answer of a server, the URL with a password, or what was raised by
    whoever provides keys: only what is known to be harmless is repeated.

    Raises
    ------
    Unfit
        obstore cannot read what the server sends.
    """
    if isinstance(error, Trouble):
        return error
    text = str(error)
    head = text.partition("\nDebug source")[0]
    status = _STATUS.search(head)
    if status is not None:
        return _answered(status, head)
    if isinstance(error, ValueError):
        raise Unfit("a key that obstore does not take") from None
    if any(phrase in head for phrase in _WHOLE):
        return Trouble("the server sends no part of an object", whole=True)
    if "credential provider" in head:
        kind = re.search(r"provider: (\w+)", head)
        return Trouble(f"nobody could say who asks ({kind[1] if kind else 'unknown'})", denied=True)
    if any(phrase in head for phrase in _ELSEWHERE):
        return Trouble("the bucket is in another region", elsewhere=True)
    if "Content-Range" not in head and _HEADERS.search(head):
        raise Unfit("a header is missing") from None
    tried = _RETRIES.search(head)
    inner = _INNER.findall(text)
    reason = inner[-1] if inner else re.sub(r"https?://\S+", "…", head).strip().splitlines()[0]
    if tried is not None:
        return Trouble(f"{reason} ({int(tried[1]) + 1} attempts)")
    return Trouble(reason, passing=True)


def _answered(status: re.Match[str], head: str) -> Trouble:
    number, code, tried = int(status[1]), _CODE.search(head), _RETRIES.search(head)
    said = f"the server answered {status[1]}{status[2].rstrip()}"
    if code is not None:
        said += f" ({code[1]})"
    if tried is not None:
        said += f" to each of {int(tried[1]) + 1} attempts"
    return Trouble(
        said,
        denied=number in (401, 403),
        elsewhere=any(phrase in head for phrase in _ELSEWHERE),
        beyond_the_end=number == 416,
    )
