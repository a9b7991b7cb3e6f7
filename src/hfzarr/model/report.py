"""What was wrong with the metadata of a store, and what was made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hfzarr.errors import InvalidMetadataError

__all__ = ["Diagnosis", "Finding", "OnInvalid", "Report", "Severity", "shorten", "unrepairable"]

OnInvalid = Literal["repair", "warn", "raise"]
Severity = Literal["must", "should", "note"]


def shorten(value: object, limit: int = 120) -> str:
    """Return ``repr(value)``, cut to ``limit`` characters, for use in a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One departure from a specification.

    Attributes
    ----------
    where
        Path of the node in its store, ``"/"`` for the root.
    rule
        The rule, quoted or paraphrased, with the specification and section it stands in.
    found
        What the store says instead.
    action
        What was made of it.
    severity
        ``"must"`` for a broken requirement (refused with ``on_invalid="raise"``), ``"should"``
        for a recommendation whose neglect changes what is made of the store (never refused),
        ``"note"`` for one that changes nothing (not even warned of).
    """

    where: str
    rule: str
    found: str
    action: str
    severity: Severity = "must"

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.action} [{self.rule}]"


class Report:
    """Collects findings while metadata is interpreted.

    Parameters
    ----------
    strict
        Raise at the first broken requirement rather than repair it.
    """

    __slots__ = ("_findings", "strict")

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        # A dict keeps the order and drops repeats: two levels may share one fault.
        self._findings: dict[Finding, None] = {}

    def must(self, where: str, rule: str, found: object, action: str) -> None:
        """Note a broken requirement.

        Raises
        ------
        InvalidMetadataError
            In strict mode.
        """
        finding = _finding(where, rule, found, action, "must")
        if self.strict:
            raise InvalidMetadataError(
                f"node {finding.where!r}: {finding.found}. The rule: {rule}. "
                f"Open it with on_invalid='repair' to get: {action}."
            )
        self._note(finding)

    def should(self, where: str, rule: str, found: object, action: str) -> None:
        """Note a recommendation that was not followed, and what was made of that."""
        self._note(_finding(where, rule, found, action, "should"))

    def note(self, where: str, rule: str, found: object) -> None:
        """Note a recommendation that was not followed, to no effect."""
        self._note(_finding(where, rule, found, "nothing to do", "note"))

    def _note(self, finding: Finding) -> None:
        self._findings[finding] = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order in which they were met."""
        return tuple(self._findings)

    @property
    def worth_a_warning(self) -> tuple[Finding, ...]:
        """The findings that changed what was made of the store."""
        return tuple(f for f in self._findings if f.severity != "note")

    @property
    def repairs(self) -> tuple[Finding, ...]:
        """The broken requirements among the findings."""
        return tuple(f for f in self._findings if f.severity == "must")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    def __len__(self) -> int:
        return len(self._findings)

    def __repr__(self) -> str:
        return f"Report({len(self.repairs)} repairs, {len(self)} findings)"


def _finding(where: str, rule: str, found: object, action: str, severity: Severity) -> Finding:
    said = found if isinstance(found, str) else shorten(found)
    return Finding(where=where or "/", rule=rule, found=said, action=action, severity=severity)


def unrepairable(where: str, rule: str, found: Any) -> InvalidMetadataError:
    """Return the error for metadata that leaves nothing to build on."""
    finding = _finding(where, rule, found, "refused", "must")
    error = InvalidMetadataError(
        f"node {finding.where!r}: {finding.found}. The rule: {rule}. "
        "This cannot be repaired; open the arrays one by one with group=."
    )
    error.finding = finding
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a store turned out to be, and every departure from its specification.

    Attributes
    ----------
    store
        The store.
    kind
        What the node was read as: ``"image"``, ``"plate"``, ``"group"`` …
    version
        The OME-Zarr version it was read as, or None.
    findings
        The departures, in the order in which they were met.
    """

    store: str
    kind: str
    version: str | None
    findings: tuple[Finding, ...]

    @property
    def repairs(self) -> tuple[Finding, ...]:
        """The broken requirements among the findings: what ``on_invalid="raise"`` refuses."""
        return tuple(f for f in self.findings if f.severity == "must")

    @property
    def ok(self) -> bool:
        """Whether no requirement is broken."""
        return not self.repairs

    def __str__(self) -> str:
        spoken = f"{self.kind}, OME-Zarr {self.version}" if self.version else self.kind
        head = f"{self.store}: {spoken}; {len(self.findings)} findings"
        lines = [f"  [{f.severity}] {f}" for f in self.findings]
        return "\n".join([head, *lines])
