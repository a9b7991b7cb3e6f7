"""Cards: the front matter of a README, and what the Hub finds wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hub.web import Answer, Asked

if TYPE_CHECKING:
    from hub.server import Hub

# A part of what the Hub knows; it is the form of the words that tests get wrong.
LICENSES = frozenset(
    ("apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit")
) | {"gpl-3.0", "odc-by", "other", "unknown", "unlicense"}
SIZES = frozenset(
    ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
) | {"1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T", "other"}


def front_matter(text: str) -> dict[str, Any]:
    """What stands between the first two lines of dashes; raises ``YAMLError`` for no YAML."""
    import yaml

    if not text.startswith("---\n"):
        return {}
    found = yaml.safe_load(text.split("---\n", 2)[1])
    return found if isinstance(found, dict) else {}


def errors(text: str) -> list[str]:
    """Why the Hub would not take a card."""
    import yaml

    try:
        said = front_matter(text)
    except yaml.YAMLError as error:
        return [str(error)]
    return list(_errors(said))


def _words(said: dict[str, Any], name: str) -> list[Any]:
    value = said.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def _errors(said: dict[str, Any]) -> Iterator[str]:
    for name, known in (("license", LICENSES), ("size_categories", SIZES)):
        for word in _words(said, name):
            if word not in known:
                yield f'"{name}" must be one of {sorted(known)}, not {word!r}'
    for name in ("tags", "task_categories", "language"):
        if not all(isinstance(word, str) for word in _words(said, name)):
            yield f'"{name}" must be strings'
    if not isinstance(said.get("pretty_name", ""), str):
        yield '"pretty_name" must be a string'
    configs = said.get("configs", [])
    if not isinstance(configs, list):
        yield '"configs" must be an array'
        return
    for config in configs:
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            yield '"configs[].config_name" is required'
        elif not _are_files(config.get("data_files", [])):
            yield '"configs[].data_files" must be paths, or splits and paths'


def _are_files(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(
        isinstance(one, str)
        or (isinstance(one, dict) and {"split", "path"} <= one.keys() and _are_files(one["path"]))
        for one in value
    )


def validate_yaml(hub: Hub, asked: Asked) -> Answer:
    content = asked.json()["content"]
    found = [{"message": message} for message in errors(content)]
    bare = not found and not front_matter(content)
    warned = [{"message": "empty or missing yaml metadata in repo card"}] if bare else []
    return Answer.json({"errors": found, "warnings": warned}, 400 if found else 200)
