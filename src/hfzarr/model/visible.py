"""Text from a store, as it may be shown."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

# Control characters, marks that turn the direction of text, lone surrogates, ends of lines.
_UNSEEN = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])


def visible(text: str) -> str:
    r"""Return a text with what is not seen, or changes what is seen beside it, as escapes.

    Examples
    --------
    >>> print(visible("red\x1b[31m, turned \u202e"))
    red\x1b[31m, turned \u202e
    >>> visible("10 µm")
    '10 µm'
    """
    if text.isprintable():
        return text
    return "".join(_escaped(one) if unicodedata.category(one) in _UNSEEN else one for one in text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
