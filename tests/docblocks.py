"""The code blocks of a Markdown page, and what can be said of each without running it."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(
    r"^<!-- setup\n(?P<hidden>.*?)^-->$"
    r"|^(?P<ticks>```+)(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=ticks)$",
    re.MULTILINE | re.DOTALL,
)
_NEEDS = re.compile(r"^<!-- docs: (?P<words>[\w ]+) -->$", re.MULTILINE)
_OPERATORS = frozenset({"|", "||", "&", "&&", ";"})
#: What stands before a command and is none.
_BEFORE = re.compile(r"\w+=.*|srun|time|exec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block: its first line's number in the page, its language, its marks, its code."""

    line: int
    language: str
    marks: frozenset[str]
    code: str


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page in order; a hidden ``<!-- setup`` is one of Python."""
    found = []
    for match in _BLOCK.finditer(text):
        hidden = match["hidden"] is not None
        language, *marks = ["python"] if hidden else match["info"].split() or [""]
        found.append(
            Block(
                line=text.count("\n", 0, match.start()) + 2,
                language=language,
                marks=frozenset(marks),
                code=match["hidden"] if hidden else match["code"],
            )
        )
    return found


def without_blocks(text: str) -> str:
    """Return a page without its blocks."""
    return _BLOCK.sub("", text)


def needs(text: str) -> frozenset[str]:
    """Return what a page says that it needs, in a comment ``<!-- docs: … -->``."""
    return frozenset(word for match in _NEEDS.finditer(text) for word in match["words"].split())


def commands(code: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block.

    Where lines begin with ``$``, the others are what was answered.
    """
    lines = re.sub(r"\\\n", " ", code).splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "[]{}@:,%+…$^"
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word in _OPERATORS:
                if command:
                    yield command
                command = []
            elif command or not _BEFORE.fullmatch(word):
                command.append(word)


def extras() -> frozenset[str]:
    """Return the names of the package's extras."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return frozenset(document["project"]["optional-dependencies"])


def goals() -> frozenset[str]:
    """Return what ``make`` can make."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return frozenset(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
