"""`hfzarr.validate`: a store judged by the rules of the version that it claims."""

from __future__ import annotations

import contextlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hfzarr.errors import HfzarrError, InvalidMetadataError
from hfzarr.faces import read
from hfzarr.faces.diagnosis import diagnosis_of
from hfzarr.faces.opening import Options
from hfzarr.model.cf_rules import CfVariable, cf_faults, claims_cf
from hfzarr.model.core_rules import (
    Fault,
    v2_array_faults,
    v2_group_faults,
    v3_array_faults,
    v3_group_faults,
)
from hfzarr.model.report import Finding, Report, Severity, shorten
from hfzarr.model.verdict import Verdict
from hfzarr.store.finding import Found, find_node, naming
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import hide_secrets, locate
from hfzarr.store.options import StorageOptions

__all__ = ["validate"]

_V2_FILES = (".zgroup", ".zarray", ".zattrs")
_FILES = ("zarr.json", *_V2_FILES)


def validate(
    target: Any,
    *,
    group: str | None = None,
    strict: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Verdict:
    """Judge a store by the rules of the version that it claims.

    Looked at are the metadata documents of all nodes by Zarr's own rules, v2 or v3; OME-Zarr by
    those of its version, 0.1 to 0.6; the conventions of GeoZarr that a node declares; and in
    groups that claim CF the variables that others name. No chunk is read.

    Parameters
    ----------
    target
        A path, a zip file, a URL, or anything else that names a store.
    group
        Path of a node, to judge only that and what is below it.
    strict
        Whether recommendations count as rules.
    storage_options
        Options for fsspec.

    Raises
    ------
    StoreNotFoundError
        There is no store.
    NodeNotFoundError
        It has no such node.

    Examples
    --------
    >>> import json, pathlib, tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/a.zarr"
    >>> _ = zarr.create_array(folder, shape=(4,), chunks=(2,), dtype="u1")
    >>> validate(folder).message
    'valid Zarr v3 array'
    >>> file = pathlib.Path(folder, "zarr.json")
    >>> doc = json.loads(file.read_text())
    >>> _ = file.write_text(json.dumps(doc | {"fill_value": 256}))
    >>> print(validate(folder).problems[0].rule)
    Zarr core 3.0, fill value list: for uint8, it MUST be an integer from 0 to 255
    """
    options = StorageOptions.of(storage_options).resolve()
    judging = _Judging(target, group or "", options)
    with warnings.catch_warnings():
        # What is worth a word is a problem, or advice.
        warnings.simplefilter("ignore")
        claim = judging.run()
    findings = [f for f in judging.findings if strict or f.severity == "must"]
    advice = [f for f in judging.findings if f not in findings]
    return Verdict(
        store=judging.store,
        claim=claim,
        problems=tuple(findings),
        advice=tuple(advice),
        unchecked=tuple(judging.unchecked),
    )


class _Judging:
    """One store being judged: its documents first, then what they mean."""

    def __init__(self, target: Any, group: str, options: Mapping[str, Any]) -> None:
        self._target, self._group, self._options = target, group, options
        self._seen: dict[tuple[str, str, str], Finding] = {}
        self._location = locate(target, options)
        named = isinstance(target, (str, os.PathLike))
        self.store = hide_secrets(str(target) if named else self._location.shown)
        self.unchecked: list[str] = []

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order in which it was."""
        return list(self._seen.values())

    def _add(self, where: str, rule: str, found: str) -> None:
        self._take(Finding(where=where or "/", rule=rule, found=found, action="refused"))

    def _take(self, finding: Finding) -> None:
        # The same fault may be met twice, and two levels may share one.
        self._seen.setdefault((finding.where, finding.rule, finding.found), finding)

    def run(self) -> str:
        """Judge everything; return what the store claims to be."""
        found = self._found()
        if found is None:
            return "Zarr"
        hierarchy, start = found.hierarchy, found.node
        try:
            with naming(hierarchy.source.url):
                nodes = self._nodes(hierarchy, start)
                self._judge_documents(hierarchy, nodes)
                self._judge_cf(hierarchy, nodes)
        finally:
            hierarchy.source.close()
        return self._judge_meaning(start, nodes)

    def _found(self) -> Found | None:
        """Return the first node; None where its own document is damaged, which is a problem."""
        errors: list[InvalidMetadataError] = []
        # A node's own document goes before its copy; without the right to list, the copy serves.
        for consolidated in (False, None):
            try:
                return find_node(
                    self._location, self._group, report=Report(), consolidated=consolidated
                )
            except InvalidMetadataError as error:
                errors.append(error)
        self._broken(errors[0], self._group)
        return None

    def _nodes(self, hierarchy: Hierarchy, start: NodeDoc) -> list[NodeDoc]:
        """Return a node and all below it, found depth by depth."""
        level, found = [start], [start]
        while level:
            groups = [node.path for node in level if node.kind == "group"]
            level = []
            self._load(hierarchy, groups)
            for path in groups:
                try:
                    below = [hierarchy.node(child) for child in hierarchy.children(path)]
                except HfzarrError as error:
                    self._note(path, error)
                    continue
                level += [node for node in below if node is not None]
            found += level
        return found

    def _load(self, hierarchy: Hierarchy, groups: Sequence[str]) -> None:
        # All in one round; where one of them fails, each is asked for by itself.
        with contextlib.suppress(HfzarrError):
            hierarchy.load_children(groups)

    def _note(self, path: str, error: HfzarrError) -> None:
        if isinstance(error, InvalidMetadataError):
            self._broken(error, path)
        else:
            self._leave(error)

    def _leave(self, error: Exception) -> None:
        """Note what could not be looked at."""
        self.unchecked.append(self._said(error))

    def _said(self, error: BaseException) -> str:
        """Return an error in one line, without the store's name, which stands above."""
        return " ".join(str(error).split()).removeprefix(f"store {self._location.shown!r}: ")

    def _broken(self, error: InvalidMetadataError, path: str) -> None:
        """Note an error as a broken rule, in the words of the rule where it knows one."""
        known = _finding_of(error)
        if known is not None:
            self._take(known)
        else:
            rule = "Zarr: metadata MUST be sound JSON of the form that its version gives"
            self._add(path, rule, self._said(error))

    # -- documents

    def _judge_documents(self, hierarchy: Hierarchy, nodes: Sequence[NodeDoc]) -> None:
        keys = [(node, name) for node in nodes for name in _names(node)]
        paths = [f"{node.path}/{name}" if node.path else name for node, name in keys]
        texts = dict(zip(paths, hierarchy.source.probe(paths), strict=True))
        for node in nodes:
            documents = {}
            for name in _names(node):
                data = texts[f"{node.path}/{name}" if node.path else name]
                if isinstance(data, bytes):
                    documents[name] = self._parsed(node, name, data)
            for rule, said in _document_faults(node, documents):
                self._add(node.path, rule, said)

    def _parsed(self, node: NodeDoc, name: str, data: bytes) -> Any:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            rule = "Zarr: metadata documents MUST be JSON"
            self._add(node.path, rule, f"{name} {shorten(data[:60])}")
            return None
        own = found if name != ".zattrs" else {}
        for where, part, severity in _parts(own, found):
            if (number := _not_finite(part)) is not None:
                # Attributes are the users' own, and xarray and zarr-python write it there.
                rule = "JSON (RFC 8259, section 6): NaN and Infinity are no numbers"
                said = f"{number} in {where} of {name}"
                self._take(
                    Finding(
                        where=node.path or "/",
                        rule=rule,
                        found=said,
                        action="read as Python has it",
                        severity=severity,
                    )
                )
        return found

    def _judge_cf(self, hierarchy: Hierarchy, nodes: Sequence[NodeDoc]) -> None:
        """Judge the groups that claim CF, or that lie in one that does."""
        by_group: dict[str, dict[str, CfVariable]] = {}
        for node in nodes:
            if node.kind == "array":
                parent, _, name = node.path.rpartition("/")
                variable = _cf_variable(hierarchy, node, name)
                by_group.setdefault(parent, {}).update({name: variable} if variable else {})
        groups = {node.path: node.attrs for node in nodes if node.kind == "group"}
        claims = {path: claims_cf(attrs) for path, attrs in groups.items()}
        for path, variables in by_group.items():
            above = list(_above(path))
            if not any(claims.get(one) for one in above):
                continue
            around = [name for one in above[1:] for name in by_group.get(one, ())]
            external = str(groups.get(path, {}).get("external_variables", "")).split()
            for name, rule, said in cf_faults(variables, around, external):
                self._add(f"{path}/{name}" if path else name, rule, said)

    # -- what they mean

    def _judge_meaning(self, start: NodeDoc, nodes: Sequence[NodeDoc]) -> str:
        """Open the store as the engine does, which reports what it repairs; return its claim."""
        claim = f"Zarr v{start.zarr_format} {start.kind}"
        opened, failed = self._open(start.path), False
        if opened is not None:
            kind, version = opened
            return f"OME-Zarr {version} {kind}" if version else f"Zarr v{start.zarr_format} {kind}"
        # The node itself is refused; those below it may still tell of more.
        for node in nodes:
            if node.kind == "group" and node.path != start.path and not failed:
                self._open(node.path)
        return claim if start.kind == "array" else _claimed(start, claim)

    def _open(self, path: str) -> tuple[str, str | None] | None:
        """Return kind and version of what the engine opens at a path; None if it refuses it."""
        try:
            groups = read.groups(
                self._target,
                Options(quiet=True),
                group=path[len(self._location.path) :].lstrip("/"),
                storage_options=self._options or None,
                consolidated=None,
                zarr_format=None,
                on_invalid="repair",
            )
        except InvalidMetadataError as error:
            self._broken_meaning(error, path)
            return None
        except (HfzarrError, ValueError) as error:
            self._leave(error)
            return None
        diagnosis = diagnosis_of(groups["/"].encoding)
        for finding in diagnosis.findings:
            self._take(finding)
        groups["/"].close()
        return diagnosis.kind, diagnosis.version

    def _broken_meaning(self, error: InvalidMetadataError, path: str) -> None:
        if _finding_of(error) is None and any(one.severity == "must" for one in self.findings):
            # Most likely the same fault again, in other words.
            self._leave(error)
        else:
            self._broken(error, path)


def _parts(own: Any, whole: Any) -> Iterator[tuple[str, Any, Severity]]:
    """Yield the parts of a document, and how grave it is that one of them is no JSON."""
    fields = own if isinstance(own, Mapping) else {}
    yield "fields", {key: one for key, one in fields.items() if key != "attributes"}, "must"
    yield "attributes", fields.get("attributes") if own else whole, "should"


def _not_finite(value: Any) -> float | None:
    """Return the first number in a value that is none."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return one
        waiting += (
            one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
        )
    return None


def _names(node: NodeDoc) -> tuple[str, ...]:
    return ("zarr.json",) if node.zarr_format == 3 else _V2_FILES


def _document_faults(node: NodeDoc, documents: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the documents of a node."""
    for name, doc in documents.items():
        if not isinstance(doc, Mapping):
            if doc is not None:
                yield "Zarr: a metadata document MUST be a JSON object", f"{name} {shorten(doc)}"
            continue
        if name == "zarr.json":
            yield from (v3_array_faults if node.kind == "array" else v3_group_faults)(doc)
        elif name == ".zarray":
            yield from v2_array_faults(doc)
        elif name == ".zgroup":
            yield from v2_group_faults(doc)
    if documents.keys() == {".zattrs"}:
        yield "Zarr v2, groups: a group MUST have a '.zgroup'", "a '.zattrs' alone"
    if {".zarray", ".zgroup"} <= documents.keys():
        yield "Zarr v2: a node MUST be an array or a group", "a '.zarray' and a '.zgroup'"


def _cf_variable(hierarchy: Hierarchy, node: NodeDoc, name: str) -> CfVariable | None:
    try:
        meta = hierarchy.array(node.path)
    except HfzarrError:
        return None  # Judged elsewhere.
    if meta is None:
        return None
    return CfVariable(name=name, dims=meta.dims, shape=meta.shape, attrs=meta.attrs)


def _above(path: str) -> Iterator[str]:
    """Yield a path and those of the groups around it, the root last."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _claimed(node: NodeDoc, claim: str) -> str:
    """Return what a group says that it is, where it could not be read as that."""
    from hfzarr.store.node import classify

    with contextlib.suppress(HfzarrError):
        kind, ome = classify(node, Report())
        if ome is not None:
            return f"OME-Zarr {ome.version} {kind}"
    return claim


def _finding_of(error: BaseException | None) -> Finding | None:
    """Return the finding that an error was made of: the first of its causes that has one."""
    while error is not None:
        found = getattr(error, "finding", None)
        if isinstance(found, Finding):
            return found
        error = error.__cause__
    return None
