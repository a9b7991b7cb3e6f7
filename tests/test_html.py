"""HTML of handles, selections and tables: escaped, without script, readable on any page."""

from __future__ import annotations

from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.rows.html import card, facts_table, handle_card, image, rows_table, selection_card

VOID = {"img"}
EVIL = "<script>alert('x')</script>\" onload='y' &amp;"


class Reader(HTMLParser):
    """Collects tags and text, and fails where tags do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def png(height: int, width: int) -> bytes:
    pytest.importorskip("PIL")
    from hfzarr.faces.picture import png_bytes

    return png_bytes(np.zeros((height, width, 3), np.uint8))


words = st.text(st.characters(exclude_categories=["C"]), max_size=20) | st.just(EVIL)


@given(title=words, facts=st.dictionaries(words, words), place=words, note=words)
def test_a_card_holds_every_text_and_no_tag_of_it(title, facts, place, note):
    read = Reader(card(title, facts, place=place, note=note))
    assert {tag for tag, _ in read.tags} <= {"div", "table", "tr", "th", "td"}
    assert all(set(attrs) <= {"style", "scope"} for _, attrs in read.tags)
    shown = "".join(read.text)
    for text in (title, place, note, *(part for pair in facts.items() if pair[1] for part in pair)):
        assert text in shown


def test_nothing_in_a_card_needs_a_script_or_another_host_and_colours_are_the_pages():
    html = card("a", {"b": 1}, picture=png(4, 4), note="c")
    for word in ("script", "http", "onload", "<style", "#fff", "#000", "black", "white"):
        assert word not in html
    assert "color:inherit" in html


def test_a_picture_is_in_the_page_and_a_tiny_one_keeps_its_pixels():
    data = png(4, 6)
    (_, attrs), *_ = Reader(image(data, 128, alt=EVIL)).tags
    assert b64decode(attrs["src"].partition(",")[2]) == data
    assert attrs["alt"] == EVIL
    assert "pixelated" in attrs["style"]
    assert "pixelated" not in image(png(256, 6), 128)


def test_rows_have_their_pictures_before_them():
    rows = [["a.zarr", EVIL], ["b.zarr", None], ["c.zarr", [1, 2]]]
    read = Reader(rows_table(["zarr", "label"], rows, title="t", note="3 rows"))
    assert [tag for tag, _ in read.tags].count("td") == 6
    drawn = rows_table(["zarr", "label"], rows, pictures=[None, png(2, 2), None])
    assert [tag for tag, _ in Reader(drawn).tags].count("td") == 9
    assert drawn.count("<img") == 1
    assert Reader(rows_table(["zarr"], [])).text == ["zarr"]


def test_what_is_empty_is_left_out_and_what_is_long_is_cut():
    assert facts_table({"a": None, "b": "", "c": [], "d": ()}) == ""
    assert "0" in Reader(facts_table({"a": 0})).text
    assert max(map(len, Reader(facts_table({"a": "x" * 9999})).text)) == 300


def test_a_handle_and_a_selection_become_cards(tmp_path):
    handle_module = pytest.importorskip("hfzarr.rows.handle")
    values = np.arange(5000, dtype=np.uint16).reshape(50, 100)
    zarr.create_array(tmp_path / "a<b.zarr", data=values, chunks=(10, 10))
    handle = handle_module.ZarrHandle(str(tmp_path / "a<b.zarr"))
    read = Reader(handle_card(handle))
    assert "img" in {tag for tag, _ in read.tags}
    assert {"Zarr v3", "uint16", "(10, 10)", "9.8 KiB"} <= set(read.text)
    chosen = Reader(selection_card(handle.select(slice(0, 10))))
    assert {"(10, 100)", "[0:10, 0:100]"} <= set(chosen.text)
    assert "img" in {tag for tag, _ in chosen.tags}


def test_a_handle_of_nothing_says_so_and_one_of_a_line_has_no_picture(tmp_path):
    handle_module = pytest.importorskip("hfzarr.rows.handle")
    html = handle_card(handle_module.ZarrHandle(str(tmp_path / "gone.zarr")))
    assert "gone.zarr" in html
    assert "No such file" in html
    zarr.create_array(tmp_path / "line.zarr", data=np.arange(5))
    assert "<img" not in handle_card(handle_module.ZarrHandle(str(tmp_path / "line.zarr")))
    zarr.create_array(tmp_path / "dates.zarr", data=np.zeros((2, 2), "M8[s]"))
    said = handle_card(handle_module.ZarrHandle(str(tmp_path / "dates.zarr")))
    assert "no picture: a picture needs a variable of numbers" in said
