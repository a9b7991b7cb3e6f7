"""The card of an index: valid for the Hub, the user's words kept, and true in what it tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")

import datasets
import pyarrow as pa
import yaml
from datasets.utils.metadata import MetadataConfigs, _NoDuplicateSafeLoader
from huggingface_hub import DatasetCard
from huggingface_hub.utils import get_session

from hfzarr.errors import HfzarrError, InvalidMetadataError, TargetError
from hfzarr.faces.hub_card import check_card, dataset_card, facts_tags, size_category
from hfzarr.faces.hub_index import IndexFile, index_files, index_schema
from hub import Hub, run_python
from hubstores import hub as hub
from hubstores import servers as servers
from hubstores import write_image

PLACE = "hf://datasets/ada/cells@0123456789/a.zarr"
BEGIN = "<!-- hfzarr: begin. Whoever pushes"
END = "<!-- hfzarr: end -->"
TABLE = pa.table(
    {
        "zarr": [PLACE, PLACE.replace("a.zarr", "b.zarr")],
        "split": ["train", "val"],
        "label": ["sick", None],
        "shape": [[4, 6], None],
    }
)


def card_of(
    previous: str | None = None, table: pa.Table = TABLE, column: str = "zarr", **more: Any
) -> str:
    files: list[IndexFile] = index_files(table, column)
    said = {"stores": [PLACE], "data_bytes": 3 * 2**30, "repo_id": "ada/my-index_2", **more}
    return dataset_card(column=column, files=files, schema=table.schema, previous=previous, **said)


def fields(card: str) -> dict[str, Any]:
    said = yaml.load(card.split("---\n")[1], _NoDuplicateSafeLoader)
    assert isinstance(said, dict)
    return said


def ours(card: str) -> str:
    text = card.split("\n---\n", 1)[1]
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def faults(hub: Hub, card: str) -> list[str]:
    """What the Hub finds wrong with a card; older clients can ask the public one alone."""
    asked = {"repoType": "dataset", "content": card}
    answer = get_session().post(f"{hub.url}/api/validate-yaml", json=asked).json()
    return [fault["message"] for fault in [*answer["errors"], *answer["warnings"]]]


# A first card.


def test_a_first_card() -> None:
    card = card_of(license="cc-by-4.0", tags=["ome-zarr"])
    said = fields(card)
    assert list(said) == [
        "pretty_name", "license", "size_categories", "tags", "configs", "dataset_info",
    ]  # fmt: skip
    assert said["pretty_name"] == "my index 2"
    assert said["license"] == "cc-by-4.0"
    assert said["size_categories"] == ["n<1K"]
    assert said["tags"] == ["ome-zarr", "zarr", "hfzarr"]
    assert card.count(BEGIN) == card.count(END) == 1
    assert "\n# my index 2\n" in card
    assert "3.0 GiB of pixels" in card
    assert "A table of 2 rows" in card


def test_its_yaml_is_that_of_datasets() -> None:
    said = fields(card_of())
    files = index_files(TABLE, "zarr")
    features = datasets.Features.from_arrow_schema(index_schema(TABLE.schema, "zarr"))
    info = datasets.DatasetInfo(
        features=features,
        splits=datasets.SplitDict.from_split_dict(
            [{"name": f.split, "num_bytes": f.arrow_bytes, "num_examples": f.rows} for f in files]
        ),
        download_size=sum(len(file.data) for file in files),
        dataset_size=sum(file.arrow_bytes for file in files),
    )
    assert said["dataset_info"] == info._to_yaml_dict()
    read = datasets.DatasetInfo._from_yaml_dict(said["dataset_info"])
    assert read.features == features
    assert MetadataConfigs.from_dataset_card_data(DatasetCard(card_of()).data) == {
        "default": {
            "data_files": [
                {"split": "train", "path": "data/train-*.parquet"},
                {"split": "validation", "path": "data/validation-*.parquet"},
            ]
        }
    }


def test_the_hub_takes_it(hub: Hub) -> None:
    kept = "---\nlanguage: [en]\n---\n# Cells\n"
    for card in (card_of(), card_of(license="mit"), card_of(kept)):
        made = DatasetCard(card)
        assert faults(hub, made.content) == faults(hub, card) == []
        assert made.content == DatasetCard(made.content).content
        assert made.data.to_dict() == fields(card)
    assert "license" in faults(hub, card_of(license="my own"))[0]


def test_a_column_of_selections() -> None:
    span = pa.list_(pa.int64())
    texts = [(name, pa.string()) for name in ("path", "node", "level")]
    kind = pa.struct([*texts, *((name, span) for name in ("start", "stop", "step"))])
    cell = {"path": PLACE, "start": [0], "stop": [8], "step": [1]}
    card = card_of(table=pa.table({"patch": pa.array([cell], kind)}), column="patch")
    (feature,) = fields(card)["dataset_info"]["features"]
    assert feature["name"] == "patch"
    assert feature["struct"][0] == {"name": "path", "dtype": "string", "id": "zarr"}
    assert "region of a Zarr store" in card
    assert 'hfzarr.restore(rows, columns=["patch"])' in card


def test_it_tells_every_column() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", ours(card_of()), re.MULTILINE))
    assert told == {
        "zarr": "string", "label": "string", "shape": "list of int64",
        "train": "1", "validation": "1",
    }  # fmt: skip


def test_a_users_column_that_is_called_like_a_fact() -> None:
    table = pa.table({"zarr": [PLACE], "shape": ["round"], "zarr_shape": [[4, 6]]})
    text = ours(card_of(table=table))
    assert "| `shape` | string |  |" in text
    assert "| `zarr_shape` | list of int64 | pixels along each axis" in text


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
@example("a|b")
@example("\x85")
@example("`")
@example("\n" + END)
@example("```")
def test_names_of_columns_break_nothing(name: str) -> None:
    assume(name not in TABLE.column_names)
    table = TABLE.append_column(name, [[1, 2]])
    card = card_of(table=table)
    check_card(card, repo_id="ada/index")
    assert card_of(card, table=table) == card
    names = [feature["name"] for feature in fields(card)["dataset_info"]["features"]]
    assert names == [*(each for each in TABLE.column_names if each != "split"), name]
    rows = [line for line in ours(card).splitlines() if line.endswith("| int64 |  |")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4


def test_stores_that_plain_zarr_does_not_open_are_no_example() -> None:
    for store in ("", "s3://bucket/a.zarr", "hf://datasets/ada/cells/a.zip", PLACE + "#nuclei"):
        assert "zarr.open(" not in card_of(stores=[store])
    assert "zarr.open(" not in card_of(stores=[])
    assert f'zarr.open("{PLACE}", mode="r")' in card_of()


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (123_456, "100K<n<1M"),
        (10**6, "1M<n<10M"),
        (10**7, "10M<n<100M"),
        (10**8, "100M<n<1B"),
        (10**9, "1B<n<10B"),
    ],
)
def test_size_categories(rows: int, word: str) -> None:
    assert size_category(rows) == word


@pytest.mark.parametrize(
    ("columns", "tags"),
    [
        ({}, []),
        ({"ome_version": ["0.5", None]}, ["ome-zarr"]),
        ({"ome_version": pa.nulls(2, pa.string())}, []),
        ({"ome_version": ["mine", "mine"], "zarr_ome_version": pa.nulls(2)}, []),
    ],
)
def test_tags_of_facts(columns: dict[str, Any], tags: list[str]) -> None:
    assert facts_tags(pa.table({"zarr": ["a", "b"], **columns})) == tags


def test_no_files_are_no_card() -> None:
    with pytest.raises(TargetError, match="no"):
        dataset_card(
            repo_id="a/b", column="zarr", files=[], schema=TABLE.schema, stores=[], data_bytes=0
        )


# A card that is there.

USERS = """\
---
# who reads this, be kind
language: no  # Norwegian
pretty_name: "Cells of mice"
started: 2024-01-31
at: 12:30:00
tags: [biology, zarr]

# how to cite
citation: |
  @article{
    a: b
  }
configs:
- config_name: raw
  data_files: raw/*.csv
- config_name: default
  data_files: old/*.csv
size_categories: n>1T
license: mit
---
# Cells

Text *of mine*.
"""


def test_a_users_fields_and_text_are_kept() -> None:
    card = card_of(USERS)
    head, text = card.split("\n---\n")
    said, before = fields(card), fields(USERS)
    assert said["tags"] == ["biology", "zarr", "hfzarr"]
    assert said["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in said["configs"]] == ["default", "raw"]
    assert said["configs"][1] == before["configs"][0]
    for name in ("language", "pretty_name", "started", "at", "citation", "license"):
        assert said[name] == before[name]
    # As they are written, with what YAML itself forgets.
    for line in USERS.split("\n---\n")[0].splitlines():
        if not re.match(r"tags|size|- config|  data_f", line):
            assert line in head.splitlines()
    assert text.startswith("# Cells\n\nText *of mine*.\n\n" + BEGIN)
    assert fields(card_of(USERS, license="cc0-1.0"))["license"] == "cc0-1.0"


@pytest.mark.parametrize("previous", [None, "", USERS, USERS.replace("\n", "\r\n"), "# Alone"])
def test_the_same_push_changes_nothing(previous: str | None) -> None:
    card = card_of(previous)
    assert card_of(card) == card


def test_the_next_push_replaces_what_is_ours() -> None:
    first = card_of(tags=["mine"])
    edited = first.replace("# my index 2", "# Mice\n\nby Ada").replace("\n- mine", "\n- theirs")
    edited = edited.replace("\nsize_cat", "\nlanguage: en\nsize_cat") + "\nMore text.\n"
    second = card_of(edited, table=pa.table({"zarr": [PLACE] * 3}))
    assert fields(second)["tags"] == ["theirs", "zarr", "hfzarr"]
    assert fields(second)["language"] == "en"
    assert fields(second)["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*.parquet"}
    ]
    assert "# Mice\n\nby Ada\n" in second
    assert second.endswith(END + "\n\nMore text.\n")
    assert second.count(BEGIN) == 1
    assert "A table of 3 rows" in second
    assert "A table of 2 rows" not in second


def test_windows_line_ends_are_kept() -> None:
    card = card_of(USERS.replace("\n", "\r\n"))
    assert "\n" not in card.replace("\r\n", "")
    assert card.replace("\r\n", "\n") == card_of(USERS)


def test_a_card_that_begins_with_a_byte_order_mark() -> None:
    assert card_of("\ufeff" + USERS) == card_of(USERS)


def test_what_is_told_of_other_configs_is_kept() -> None:
    raw = {"config_name": "raw", "features": [{"name": "a", "dtype": "int64"}]}
    for told in (raw, [raw], [{"config_name": "default", "download_size": 7}, raw]):
        head = yaml.safe_dump({"dataset_info": told})
        infos = fields(card_of(f"---\n{head}---\n"))["dataset_info"]
        assert [info["config_name"] for info in infos] == ["default", "raw"]
        assert infos[1] == raw
        assert infos[0]["download_size"] > 7
    for told in ({"download_size": 7}, [{"config_name": "default"}], None):
        head = yaml.safe_dump({"dataset_info": told})
        assert (
            fields(card_of(f"---\n{head}---\n"))["dataset_info"]
            == fields(card_of())["dataset_info"]
        )


def test_unusual_yaml_is_written_anew() -> None:
    for head in (
        "{license: mit, tags: [a]}",
        "? license\n: mit\n? tags\n: [a]",
        "  license: mit\n  tags: a",
    ):
        card = card_of(f"---\n{head}\n---\ntext\n")
        assert fields(card)["license"] == "mit"
        assert fields(card)["tags"] == ["a", "zarr", "hfzarr"]
    shared = "---\nconfigs: &c\n- config_name: a\n  data_files: x\nmine: *c\n---\n"
    said = fields(card_of(shared))
    assert said["mine"] == [{"config_name": "a", "data_files": "x"}]
    assert said["configs"][1:] == said["mine"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.dates()
    | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
OURS = {"pretty_name", "license", "size_categories", "tags", "configs", "dataset_info"}
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(
    lambda name: name not in OURS
)
styles = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([None, True, False]),
        "indent": st.sampled_from([2, 4, 8]),
        "allow_unicode": st.booleans(),
        "explicit_end": st.booleans(),
    }
)


@settings(max_examples=30)
@given(st.dictionaries(names, values, max_size=4), styles, st.booleans())
def test_any_fields_of_the_user_are_kept(
    users: dict[str, Any], style: dict[str, Any], windows: bool
) -> None:
    head = yaml.safe_dump(users, sort_keys=False, **style) if users else ""
    assume(not head or yaml.safe_load(head) == users)  # PyYAML loses some line breaks itself
    previous = f"---\n{head}---\n\nmine\n"
    if windows:
        previous = previous.replace("\n", "\r\n")
    card = card_of(previous)
    said = DatasetCard(card).data.__dict__
    read = yaml.safe_load(re.split(r"^---\r?\n", card, flags=re.MULTILINE)[1])
    assert {name: value for name, value in read.items() if name not in OURS} == users
    assert OURS - {"license"} <= {name for name in said if said[name] is not None}
    assert card_of(card) == card
    assert (
        card.replace("\r\n", "\n")
        .partition("---\n")[2]
        .partition("---\n")[2]
        .startswith("\nmine\n")
    )


@pytest.mark.parametrize(
    ("previous", "said"),
    [
        ("---\na: [1\n---\n", "cannot be kept"),
        ("---\na: b: c\n---\n", "mapping values"),
        ("---\n- a\n---\n", "list"),
        ("---\njust text\n---\n", "str"),
        ("---\n1: a\n---\n", "dict"),
        ("---\na: 1\na: 2\n---\n", "'a' stands there twice"),
        ("---\na: 2024-13-45\n---\n", "month"),
        ("---\na: !!python/object:os.system {}\n---\n", "constructor"),
        ("---\nlicense: mit\n# Cells\n", "no other ends it"),
        ("---\ntags: [no]\n---\n", "tags is a list of texts, and holds False"),
        ("---\ntags: {a: b}\n---\n", "tags"),
        ("---\nconfigs: a\n---\n", "configs"),
        ("---\nconfigs: [{data_files: a}]\n---\n", "configs"),
        ("---\nconfigs: {config_name: 1}\n---\n", "configs"),
        ("---\ndataset_info: [{}]\n---\n", "dataset_info"),
        ("---\ndataset_info: text\n---\n", "dataset_info"),
        ("---\nconfigs: [{config_name: raw, default: true}]\n---\n", "'raw' says default"),
        (f"{BEGIN} -->\n", "once"),
        (f"{END}\n", "once"),
        (f"{END}\n{BEGIN} -->\n", "once"),
        (f"{BEGIN} -->\n{END}\n{BEGIN} -->\n{END}\n", "once"),
    ],
)
def test_a_broken_card_is_refused(previous: str, said: str) -> None:
    for refuse in (lambda: check_card(previous, repo_id="ada/index"), lambda: card_of(previous)):
        with pytest.raises(InvalidMetadataError, match=re.escape(said)) as caught:
            refuse()
        assert "README.md" in str(caught.value)


@settings(max_examples=50)
@given(st.text(st.sampled_from("-\n\r ab:[]{}#&*!'\"|\t\ufeff"), max_size=30))
def test_any_text_is_kept_or_refused(previous: str) -> None:
    try:
        card = card_of(previous)
    except HfzarrError:
        return
    assert card_of(card) == card
    text = re.split(r"^---[ \t]*$", previous, maxsplit=2, flags=re.MULTILINE)[-1]
    for line in text.split():
        assert line.strip("\ufeff") in card


# What it tells is true.


def blocks(card: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_its_code_runs(hub: Hub, tmp_path: Path) -> None:
    data = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    for name in "ab":
        write_image(tmp_path / "stores" / f"{name}.zarr", data, shards=None)
    commit = hub.add_repo("ada/cells", tmp_path / "stores").head("main")
    assert commit is not None
    places = [f"hf://datasets/ada/cells@{commit.oid}/{name}.zarr" for name in "ab"]
    table = pa.table({"zarr": places, "split": ["train", "val"]})
    files = index_files(table, "zarr")
    card = dataset_card(
        repo_id="ada/index", column="zarr", files=files, schema=table.schema, stores=places,
        data_bytes=2 * data.nbytes,
    )  # fmt: skip
    hub.add_repo("ada/index", {"README.md": card, **{file.path: file.data for file in files}})
    assert faults(hub, card) == []
    assert str(tmp_path) not in card
    assert hub.url not in card
    code = blocks(card)
    assert len(code) == 3
    checks = [
        "assert ds['image'].shape == (2, 64, 64) and handle.shape == (64, 64)",
        "assert handle.shape == (64, 64)",
        "assert store['0'][0, 5] == 5",
    ]
    script = "\n".join(part for pair in zip(code, checks, strict=True) for part in pair)
    run_python(hub, script + "\nprint('done')", tmp_path)
