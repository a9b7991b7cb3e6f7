"""Whether a store is valid, as a value that prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hfzarr.model.report import Finding

__all__ = ["Verdict"]

# How many broken rules a message names.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Verdict:
    """Whether a store keeps the rules of the version that it claims. Made by `hfzarr.validate`.

    Attributes
    ----------
    store
        Where it lies, without secrets.
    claim
        What it claims to be, in words.
    problems
        Each broken rule: a `Finding` with ``where``, ``rule`` and ``found``.
    advice
        Recommendations that were not followed; in strict mode they are among the problems.
    unchecked
        What could not be looked at, and why.
    """

    store: str
    claim: str
    problems: tuple[Finding, ...]
    advice: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether no rule is broken."""
        return not self.problems

    @property
    def message(self) -> str:
        """The verdict in a line."""
        if self.valid:
            but = f", as far as it was looked at: {self.unchecked[0]}" if self.unchecked else ""
            return f"valid {self.claim}{but}"
        count = len(self.problems)
        named = "; ".join(_line(one) for one in self.problems[:_NAMED])
        more = f"; and {count - _NAMED} more" if count > _NAMED else ""
        broken = "1 rule is broken" if count == 1 else f"{count} rules are broken"
        return f"not valid {self.claim}, {broken}: {named}{more}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, good for JSON."""
        return {
            "valid": self.valid,
            "message": self.message,
            "store": self.store,
            "claim": self.claim,
            "problems": [_plain(one) for one in self.problems],
            "advice": [_plain(one) for one in self.advice],
            "unchecked": list(self.unchecked),
        }

    def __str__(self) -> str:
        said = "valid" if self.valid else "not valid"
        lines = [f"{self.store}: {said} {self.claim}"]
        for title, findings in (
            ("broken rules", self.problems),
            ("recommendations not followed", self.advice),
        ):
            if findings:
                lines += [f"{title}: {len(findings)}", *[f"- {_line(one)}" for one in findings]]
        return "\n".join([*lines, *[f"not looked at: {why}" for why in self.unchecked]])

    __repr__ = __str__


def _line(one: Finding) -> str:
    return f"{one.where}: {one.found} [{one.rule}]"


def _plain(one: Finding) -> dict[str, str]:
    return {"node": one.where, "rule": one.rule, "found": one.found, "severity": one.severity}
