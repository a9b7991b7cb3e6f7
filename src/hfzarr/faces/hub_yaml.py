"""The YAML at the head of a card: read, and changed without touching what others wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

from hfzarr.errors import InvalidMetadataError

__all__ = ["FrontMatter", "front_matter", "with_fields"]

_OPENING = re.compile(r"\A\ufeff?\s*---(?:\r\n|\n)")
_CLOSING = re.compile(r"^---[ \t]*(?:\r\n|\n|\Z)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    r"""A card in its parts.

    Attributes
    ----------
    block
        The YAML, as it is written; its lines end in ``\n``.
    fields
        What it says.
    text
        All that follows.
    """

    block: str
    fields: Mapping[str, Any]
    text: str


def front_matter(card: str, repo_id: str) -> FrontMatter:
    r"""Return a card in its parts.

    Parameters
    ----------
    card
        The text of a README.md; it may have no YAML.
    repo_id
        The repository that it is of, for errors.

    Raises
    ------
    InvalidMetadataError
        Its YAML cannot be read, or is no mapping.

    Examples
    --------
    >>> front_matter("---\nlicense: mit\n---\n# Cells\n", "ada/cells").fields
    {'license': 'mit'}
    """
    opening = _OPENING.match(card)
    if opening is None:
        return FrontMatter(block="", fields={}, text=card.removeprefix("\ufeff"))
    closing = _CLOSING.search(card, opening.end())
    if closing is None:
        raise _broken(repo_id, "it begins with a line ---, and no other ends it")
    block = card[opening.end() : closing.start()].replace("\r\n", "\n")
    return FrontMatter(block=block, fields=_read(block, repo_id), text=card[closing.end() :])


def _read(block: str, repo_id: str) -> dict[str, Any]:
    try:
        node = yaml.compose(block, Loader=yaml.SafeLoader)
        said = yaml.safe_load(block)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _broken(repo_id, " ".join(str(error).split())) from error
    if said is None:
        return {}
    if not isinstance(said, dict) or not all(isinstance(key, str) for key in said):
        raise _broken(repo_id, f"it holds no fields with names, but a {type(said).__name__}")
    names = [key.value for key, _ in node.value]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise _broken(repo_id, f"the field {twins[0]!r} stands there twice")
    return said


def _broken(repo_id: str, why: str) -> InvalidMetadataError:
    return InvalidMetadataError(
        f"the YAML at the head of the README.md of {repo_id!r} cannot be kept: {why}. Mend it, or "
        "delete the file, and push again."
    )


def with_fields(old: FrontMatter, fields: Mapping[str, Any]) -> str:
    r"""Return the YAML of a card with some fields set; the others stay as they are written.

    Parameters
    ----------
    old
        The card.
    fields
        What is to be set.

    Examples
    --------
    >>> old = front_matter("---\nlanguage: [en] # for now\ntags: [a]\n---\n", "ada/cells")
    >>> print(with_fields(old, {"tags": ["a", "zarr"]}), end="")
    language: [en] # for now
    tags:
    - a
    - zarr
    """
    wanted = {**old.fields, **fields}
    changed = {
        name: value
        for name, value in fields.items()
        if name not in old.fields or old.fields[name] != value
    }
    text = _spliced(old.block, changed)
    # What is written in an unusual way is written anew, as what it says.
    return text if text is not None and _says(text, wanted) else _dumped(wanted)


def _spliced(block: str, changed: Mapping[str, Any]) -> str | None:
    """Return a block with the lines of some fields replaced; None where fields have no lines."""
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    if node is None:
        return block + _dumped(changed)
    if node.flow_style or any(key.start_mark.column for key, _ in node.value):
        return None
    lines = block.splitlines(keepends=True)
    starts = [key.start_mark.line for key, _ in node.value]
    out, rest = lines[: starts[0]], dict(changed)
    for (key, _), start, following in zip(
        node.value, starts, [*starts[1:], len(lines)], strict=True
    ):
        stop = start
        if key.value in rest:
            out.append(_dumped({key.value: rest.pop(key.value)}))
            stop = following
            # A comment at the margin belongs to the field that follows.
            while stop > start + 1 and re.match(r"#|\s*$", lines[stop - 1]):
                stop -= 1
        out += lines[stop:following]
    return "".join(out) + _dumped(rest)


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False


def _dumped(fields: Mapping[str, Any]) -> str:
    if not fields:
        return ""
    # A line for a text, however long: folded ones are hard to edit. PyYAML loses some line breaks
    # (U+0085) unless it escapes them.
    for unicode in (True, False):
        text = str(
            yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=unicode, width=10**6)
        )
        if _says(text, fields):
            break
    return text
