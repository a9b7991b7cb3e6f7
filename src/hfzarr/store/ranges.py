"""Ranges of bytes: near ones of one key become one request, and each is cut out of the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hfzarr.store.source import ByteRange

__all__ = ["cut", "fetch_merged", "merge_near", "part_of"]

# Reading so many bytes in vain is cheaper than another request.
_GAP = 64 * 2**10
# Larger requests gain nothing, and one that fails is sent again whole.
_MOST_MERGED = 8 * 2**20


def merge_near(
    requests: Sequence[tuple[str, ByteRange]],
) -> list[tuple[str, ByteRange, list[int]]]:
    """Return requests that cover many, near ranges of one key as one.

    Returns
    -------
    list of tuple
        A key, a range, and which of the requests it covers.

    Examples
    --------
    >>> merge_near([("a", (100, 200)), ("b", None), ("a", (0, 50)), ("b", None)])
    [('a', (0, 200), [2, 0]), ('b', None, [1, 3])]
    """
    alike: dict[tuple[str, ByteRange], list[int]] = {}
    ranges: dict[str, list[tuple[int, int, int]]] = {}
    for member, (key, wanted) in enumerate(requests):
        if wanted is not None and wanted[0] >= 0 and wanted[1] is not None:
            ranges.setdefault(key, []).append((wanted[0], max(wanted[1], wanted[0]), member))
        else:
            alike.setdefault((key, wanted), []).append(member)
    merged: list[tuple[str, ByteRange, list[int]]] = []
    for key, parts in ranges.items():
        first, last = -1, -1
        members: list[int] = []
        for start, stop, member in sorted(parts):
            if members and start - last <= _GAP and max(stop, last) - first <= _MOST_MERGED:
                last = max(last, stop)
                members.append(member)
                continue
            if members:
                merged.append((key, (first, last), members))
            first, last, members = start, stop, [member]
        merged.append((key, (first, last), members))
    return merged + [(key, wanted, members) for (key, wanted), members in alike.items()]


async def fetch_merged(
    requests: Sequence[tuple[str, ByteRange]],
    get: Callable[[str, ByteRange], Awaitable[bytes | None]],
) -> list[bytes | None]:
    """Return the replies to many requests, near parts of one object fetched as one.

    Parameters
    ----------
    requests
        Keys and ranges.
    get
        Makes one request; all are under way at once, and it is its task to hold some back.
    """
    merged = merge_near(requests)
    tasks = [asyncio.ensure_future(get(key, wanted)) for key, wanted, _ in merged]
    try:
        replies = await asyncio.gather(*tasks)
    except BaseException:
        # One is an error: nobody waits for the others.
        for task in tasks:
            task.cancel()
        raise
    found: list[bytes | None] = [None] * len(requests)
    for (_, wanted, members), reply in zip(merged, replies, strict=True):
        for member in members:
            part = requests[member][1]
            found[member] = None if reply is None else part_of(reply, wanted, part)
    return found


def part_of(reply: bytes, wanted: ByteRange, part: ByteRange) -> bytes:
    """Return what one request wanted of the reply to the one that covers it.

    Examples
    --------
    >>> part_of(b"cdefg", (2, 7), (3, 5))
    b'de'
    """
    if wanted is None or part is None or wanted == part or part[1] is None:
        return reply
    return reply[part[0] - wanted[0] : part[1] - wanted[0]]


def cut(data: bytes, byte_range: ByteRange) -> bytes:
    """Return a part of a whole object.

    Examples
    --------
    >>> cut(b"abcdef", (1, 3)), cut(b"abcdef", (-2, None)), cut(b"abcdef", (9, 12))
    (b'bc', b'ef', b'')
    """
    return data if byte_range is None else data[byte_range[0] : byte_range[1]]
