"""The card of an index: the README.md that the Hub shows, and `datasets` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfzarr.errors import InvalidMetadataError, TargetError
from hfzarr.faces.hub_features import features_of, features_yaml
from hfzarr.faces.hub_index import IndexFile, index_schema
from hfzarr.faces.hub_usage import usage_text
from hfzarr.faces.hub_yaml import front_matter, with_fields

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_card", "dataset_card", "facts_tags", "size_category"]

CONFIG = "default"
_TAGS = ("zarr", "hfzarr")
_BEGIN = (
    "<!-- hfzarr: begin. Whoever pushes the index again has the text up to the end replaced. -->"
)
_END = "<!-- hfzarr: end -->"
_SECTION = re.compile(
    r"^<!-- hfzarr: begin\b[^\n]*?-->[ \t]*\r?$(.*?)^<!-- hfzarr: end -->[ \t]*(?=\r?$)",
    re.MULTILINE | re.DOTALL,
)
_MARKER = re.compile(r"^<!-- hfzarr: (?:begin\b[^\n]*?|end )-->", re.MULTILINE)
_SIZES = (
    *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"),
    *("1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T"),
)


def dataset_card(
    *,
    repo_id: str,
    column: str,
    files: Sequence[IndexFile],
    schema: pa.Schema,
    stores: Sequence[str],
    data_bytes: int,
    previous: str | None = None,
    license: str | None = None,
    tags: Sequence[str] = (),
) -> str:
    """Return the README.md of an index.

    Parameters
    ----------
    repo_id
        The dataset repository of the index, ``"user/name"``.
    column
        The column of stores.
    files
        All its files.
    schema
        The schema of the table that they were made of, or theirs.
    stores
        Where stores lie; the first serves as an example.
    data_bytes
        Decoded bytes of all stores; 0 where that is not known.
    previous
        The README.md that is there. Its own fields and text stay as they are; only what is told
        of the table is replaced: its config, ``dataset_info``, ``size_categories``, and the text
        between two comments. Tags are added to.
    license
        One of the licenses that the Hub knows, such as ``"cc-by-4.0"``.
    tags
        More tags, such as those of `facts_tags`.

    Raises
    ------
    InvalidMetadataError
        The previous card is broken, or has another config that says it is the default one.
    TargetError
        There are no files.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from hfzarr.faces.hub_index import index_files
    >>> table = pa.table({"zarr": ["hf://datasets/ada/cells/a.zarr"]})
    >>> files = index_files(table, "zarr")
    >>> card = dataset_card(repo_id="ada/index", column="zarr", files=files, schema=table.schema,
    ...                     stores=["hf://datasets/ada/cells/a.zarr"], data_bytes=0)
    >>> card.splitlines()[:4]
    ['---', 'pretty_name: index', 'size_categories:', '- n<1K']
    """
    if not files:
        raise TargetError("a card tells of files, and there are none")
    check_card(previous or "", repo_id=repo_id)
    plain = index_schema(schema, column)
    features = features_of(plain, column)
    old = front_matter(previous or "", repo_id)
    fields = {
        "pretty_name": old.fields.get("pretty_name") or _title(repo_id),
        **({"license": license} if license else {}),
        "size_categories": [size_category(sum(file.rows for file in files))],
        "tags": list(dict.fromkeys([*_words(old.fields, "tags"), *tags, *_TAGS])),
        "configs": [_config(files), *_others(old.fields, "configs")],
        "dataset_info": _infos(_info(files, features), _others(old.fields, "dataset_info")),
    }
    usage = usage_text(
        repo_id=repo_id,
        column=column,
        features=features,
        rows={split: sum(f.rows for f in files if f.split == split) for split in _splits(files)},
        index_bytes=sum(len(file.data) for file in files),
        data_bytes=data_bytes,
        store=stores[0] if stores else "",
    )
    section = f"{_BEGIN}\n\n{usage.strip()}\n\n{_END}"
    newline = "\r\n" if "\r\n" in (previous or "") else "\n"
    body = _with_section(old.text, section, f"# {_title(repo_id)}", newline)
    return f"---\n{with_fields(old, fields)}---\n".replace("\n", newline) + body


def check_card(previous: str, *, repo_id: str) -> None:
    """Raise where a card is broken, so that it could not be kept.

    Meant for the beginning of a push, which would otherwise fail at its end.

    Parameters
    ----------
    previous
        The README.md that is there.
    repo_id
        Its repository, for errors.

    Raises
    ------
    InvalidMetadataError
        Its YAML cannot be read, or is not what a dataset's card may hold; one of the two comments
        around the text that is replaced is missing; or it has another default config.
    """
    old = front_matter(previous, repo_id)
    where = f"the README.md of {repo_id!r}"
    _words(old.fields, "tags", where)
    for name in ("configs", "dataset_info"):
        _others(old.fields, name, where)
    for config in _others(old.fields, "configs"):
        if config.get("default") is True:
            raise InvalidMetadataError(
                f"{where}: its config {config['config_name']!r} says default: true, and the index "
                f"is the config {CONFIG!r}. `datasets` loads neither then. Remove that line, or "
                "push the index to another repository."
            )
    marks = len(_MARKER.findall(old.text))
    if marks != 2 * len(_SECTION.findall(old.text)) or marks > 2:
        raise InvalidMetadataError(
            f"{where}: hfzarr's text stands between two comments, {_BEGIN[:20]} … --> and {_END}, "
            f"once. Here there are {marks} of them, or in another order. Remove them all, and what "
            "is between, or put them right."
        )


def facts_tags(table: pa.Table) -> list[str]:
    """Return the tags that follow from what a scan recorded of stores.

    Parameters
    ----------
    table
        An Arrow table, with the columns of `hfzarr.scan` or without.

    Examples
    --------
    >>> import pyarrow as pa
    >>> facts_tags(pa.table({"zarr": ["a.zarr"], "ome_version": ["0.5"]}))
    ['ome-zarr']
    """
    for name in ("zarr_ome_version", "ome_version"):
        if name in table.schema.names:
            column = table.column(name)
            return ["ome-zarr"] if column.null_count < len(column) else []
    return []


def size_category(rows: int) -> str:
    """Return the Hub's word for a number of rows.

    Examples
    --------
    >>> size_category(999), size_category(1000), size_category(2_000_000)
    ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    return _SIZES[min(max(len(str(rows)) - 3, 0), len(_SIZES) - 1)]


def _title(repo_id: str) -> str:
    return re.sub(r"[-_\s]+", " ", repo_id.rpartition("/")[2]).strip() or repo_id


# -- fields


def _splits(files: Sequence[IndexFile]) -> list[str]:
    return list(dict.fromkeys(file.split for file in files))


def _config(files: Sequence[IndexFile]) -> dict[str, Any]:
    paths = [{"split": split, "path": f"data/{split}-*.parquet"} for split in _splits(files)]
    return {"config_name": CONFIG, "data_files": paths}


def _info(files: Sequence[IndexFile], features: Mapping[str, Any]) -> dict[str, Any]:
    splits = [
        {
            "name": split,
            "num_bytes": sum(file.arrow_bytes for file in files if file.split == split),
            "num_examples": sum(file.rows for file in files if file.split == split),
        }
        for split in _splits(files)
    ]
    return {
        "features": features_yaml(features),
        "splits": splits,
        "download_size": sum(len(file.data) for file in files),
        "dataset_size": sum(file.arrow_bytes for file in files),
    }


def _infos(ours: dict[str, Any], others: list[dict[str, Any]]) -> Any:
    """Return what is told of one config as it is, and of several as a list."""
    return [{"config_name": CONFIG, **ours}, *others] if others else ours


def _words(fields: Mapping[str, Any], name: str, where: str = "") -> list[str]:
    value = fields.get(name)
    words = value if isinstance(value, list) else [] if value is None else [value]
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise InvalidMetadataError(
            f"{where}: in its YAML, {name} is a list of texts, and holds {wrong[0]!r}. Put it in "
            "quotes, or remove it."
        )
    return words


def _others(fields: Mapping[str, Any], name: str, where: str = "") -> list[dict[str, Any]]:
    """Return the configs of the user, or what is told of them: those that are not ours."""
    value = fields.get(name)
    told = value if isinstance(value, list) else [] if value is None else [value]
    listed = isinstance(value, list) or name == "configs"
    for each in told:
        if not isinstance(each, dict) or (listed and not isinstance(each.get("config_name"), str)):
            raise InvalidMetadataError(
                f"{where}: in its YAML, {name} is a list of configs, each with a config_name, and "
                "one of them has none. Give it one, or remove it."
            )
    return [each for each in told if each.get("config_name", CONFIG) != CONFIG]


# -- text


def _with_section(text: str, section: str, title: str, newline: str) -> str:
    """Return a text with our part in the place of the one before, or at the end."""
    section = section.replace("\n", newline)
    if found := _SECTION.search(text):
        return text[: found.start()] + section + text[found.end() :]
    if not text.strip():
        text = f"{newline}{title}"
    return f"{text.rstrip()}{newline * 2}{section}{newline}"
