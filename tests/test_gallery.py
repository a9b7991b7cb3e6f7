"""`hfzarr gallery`: what the page holds, and what it is like in a real browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zarr

import hfzarr
from browser import Page, running_page
from hfzarr.errors import TargetError, WriteError
from hfzarr.faces.cli import TROUBLE, main
from hfzarr.faces.gallery import _MOST_BYTES, gallery

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
LABELS = ("sick", "well")


def png(side: int = 8, value: int = 200) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, "uint8")).save(file, "PNG")
    return file.getvalue()


def table(rows: int = 12, **columns: Any) -> Any:
    """Return a manifest with pictures; the name of row 3 and its remark mean harm."""
    names = [f"sets/{i:02d}.zarr" for i in range(rows)]
    remarks = ["fine"] * rows
    if rows > 3:
        names[3], remarks[3] = 'sets/<b onclick="x">&amp;.zarr', EVIL
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = {
        "zarr": names,
        "label": [LABELS[i % 2] for i in range(rows)],
        "age": [20.5 + i for i in range(rows)],
        "remark": remarks,
        "thumbnail": pa.array([{"bytes": png(), "path": None}] * rows, picture),
    }
    return hfzarr.open_manifest(pa.table(made | columns), "zarr")


class Read(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def written(tmp_path: Path, manifest: Any, **options: Any) -> Read:
    done = gallery(manifest, tmp_path / "page.html", **options)
    assert done.nbytes == (tmp_path / "page.html").stat().st_size
    return Read((tmp_path / "page.html").read_text("utf-8"))


# --- what it holds --------------------------------------------------------------------------------


def test_a_row_is_a_card_with_its_columns(tmp_path: Path) -> None:
    page = written(tmp_path, table())
    assert len(page.all("img")) == len(page.all("dl")) == 12
    assert page.text.count("label") == 13  # in each row, and above its choice
    assert "20.5" in page.text
    assert "00.zarr" in page.text
    assert all(one["src"].startswith("data:image/png;base64,") for one in page.all("img"))


def test_harm_in_names_and_values_is_text(tmp_path: Path) -> None:
    page = written(tmp_path, table(), title="</title><script>alert(1)</script>")
    assert EVIL in "".join(page.text)
    assert len(page.all("script")) == 1
    assert page.all("b") == []
    handlers = [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert handlers == []


def test_marks_that_deceive_are_shown_as_such(tmp_path: Path) -> None:
    marks = ["a\u202egnp.zarr", "b\x00\x1b[31m", "c\nd", "\u0915\u094d\u200d\u0937"]
    manifest = table(4, remark=marks)
    page = written(tmp_path, manifest)
    text = "".join(page.text)
    assert not set(text) & {"\u202e", "\x00", "\x1b"}
    assert "c d" in text
    assert "\u0915\u094d\u200d\u0937" in text, "a joiner that belongs to a word"


def test_the_page_names_nothing_outside(tmp_path: Path) -> None:
    page = written(tmp_path, table())
    links = [
        value
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key in ("src", "href", "action", "srcset", "data") or "url(" in (value or "")
    ]
    assert [one for one in links if not str(one).startswith("data:image/png;base64,")] == []
    (policy,) = [one for one in page.all("meta") if "http-equiv" in one]
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")


def test_no_path_of_this_machine_and_no_secret(tmp_path: Path) -> None:
    cells = [str(tmp_path / "inside" / "a.zarr"), "/elsewhere/of/mine/b.zarr",
             "https://me:word@example.org/c.zarr?sig=hidden"]  # fmt: skip
    manifest = hfzarr.open_manifest({"zarr": cells})
    page = written(
        tmp_path, hfzarr.Manifest(manifest.table, "zarr", base=str(tmp_path)), draw=False
    )
    text = (tmp_path / "page.html").read_text("utf-8")
    assert str(tmp_path) not in text
    assert {"elsewhere", "word@", "hidden"} & set(re.findall(r"elsewhere|word@|hidden", text)) <= {
        "hidden"  # the attribute of HTML
    }
    assert "inside/a.zarr" in page.text
    assert "https://example.org/c.zarr" in page.text


def test_rows_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    done = gallery(table(), tmp_path / "page.html", limit=5)
    assert (done.rows, done.left_out) == (5, 7)
    assert "7 more left out" in str(done)
    page = Read((tmp_path / "page.html").read_text("utf-8"))
    assert len(page.all("li")) == 5
    assert "7 more in the table are left out" in "".join(page.text)


def test_columns_of_few_values_are_chosen_from(tmp_path: Path) -> None:
    page = written(tmp_path, table())
    labels = [one for one in page.text if one in ("label", "remark", "age")]
    assert len(page.all("select")) == 2, "age has a value for each row"
    assert labels[:2] == ["label", "remark"]
    options = [one["value"] for one in page.all("option")]
    assert options[:3] == ["", "sick", "well"]


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert len(file.getvalue()) > _MOST_BYTES
    done = gallery(table(2, thumbnail=[file.getvalue()] * 2), tmp_path / "page.html")
    assert done.pictures == 2
    assert done.nbytes < 2 * _MOST_BYTES * 4 / 3 + 20_000


def test_pictures_that_are_none(tmp_path: Path) -> None:
    large, bomb = io.BytesIO(), io.BytesIO()
    Image.new("1", (9000, 9000)).save(large, "PNG")
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    cells = [svg, png()[:40], large.getvalue(), bomb.getvalue(), None, b""]
    done = gallery(table(6, thumbnail=cells), tmp_path / "page.html", draw=False)
    assert done.pictures == 0
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "9000 × 9000 pixels is too large" in text
    assert "cannot be read (DecompressionBombError)" in text
    assert "<svg" not in text


def test_a_path_in_a_column_of_pictures_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    cells = [{"bytes": None, "path": str(tmp_path / "secret.png")}] * 2
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    manifest = table(2, thumbnail=pa.array(cells, kind))
    assert gallery(manifest, tmp_path / "page.html", draw=False).pictures == 0


def test_what_has_no_picture_is_drawn(tmp_path: Path) -> None:
    for name in ("a", "b"):
        zarr.create_array(
            tmp_path / f"{name}.zarr", data=np.eye(32, dtype="u1"), dimension_names=["y", "x"]
        )
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").write_text("{")
    cells = [f"{name}.zarr" for name in "abcd"]
    manifest = hfzarr.Manifest(pa.table({"zarr": cells}), "zarr", base=str(tmp_path))
    page = written(tmp_path, manifest)
    assert len(page.all("img")) == 2
    text = "".join(page.text)
    assert "no picture: invalid metadata" in text
    assert "no picture: store not found" in text
    assert str(tmp_path) not in text


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(hfzarr.WriteError, match=r"page\.html"):
        gallery(table(), tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_an_empty_table_and_missing_cells(tmp_path: Path) -> None:
    assert gallery(table()[:0], tmp_path / "a.html").rows == 0
    manifest = hfzarr.open_manifest(pa.table({"zarr": ["a.zarr", None], "x": [None, 1]}), "zarr")
    page = written(tmp_path, manifest, draw=False)
    assert "missing" in page.text


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table().save(tmp_path / "index.parquet")
    page = tmp_path / "page.html"
    assert main(["gallery", str(tmp_path / "index.parquet"), "-o", str(page), "--no-draw"]) == 0
    said, errors = capsys.readouterr()
    assert said.startswith(f"{page}: 12 rows, 12 with a picture, ")
    assert errors == ""
    assert "<title>index.parquet</title>" in page.read_text("utf-8")
    options = ["--limit", "2", "--title", "Two", "--json"]
    assert main(["gallery", str(tmp_path / "index.parquet"), "-o", str(page), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["left_out"], found["file"]) == (2, 10, str(page))
    assert main(["gallery", str(tmp_path / "none.parquet"), "-o", str(page)]) == TROUBLE


# --- in a browser ---------------------------------------------------------------------------------

SHOWN = "[...document.querySelectorAll('#rows > li')].filter((one) => one.offsetParent).length"
COUNT = "document.querySelector('#count').textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with running_page() as page:
        yield page


@pytest.fixture
def page(browser: Page, tmp_path: Path) -> Page:
    gallery(table(), tmp_path / "page.html", title="Cells")
    browser.requests.clear()
    browser.messages.clear()
    browser.open(tmp_path / "page.html")
    return browser


def choose(page: Page, column: str, value: str) -> None:
    page.get(
        f"(() => {{ const one = [...document.querySelectorAll('label')].find((label) => "
        f"label.innerText.startsWith({column!r})).querySelector('select');"
        f"one.value = {value!r}; one.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def test_it_opens_whole_and_asks_for_nothing(page: Page, tmp_path: Path) -> None:
    assert page.get(SHOWN) == 12
    assert page.get(COUNT) == "12 rows"
    page.get("Promise.all([...document.images].map((one) => { one.loading = 'eager'; "
             "return one.decode(); })).then(() => true)")  # fmt: skip
    assert page.get("[...document.images].every((one) => one.naturalWidth === 8)")
    outside = [one for one in page.requests if not one.startswith(("data:", "file:", "blob:"))]
    assert outside == []
    assert [one for one in page.requests if one.startswith("file:")] == [
        (tmp_path / "page.html").as_uri()
    ]
    assert page.messages == []
    assert page.get("document.title") == "Cells", "no script of a name or value ran"


def test_the_policy_refuses_what_comes_from_outside(page: Page) -> None:
    refused = page.get("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in one for one in page.messages)
    page.get("document.body.insertAdjacentHTML('beforeend', '<b onclick=\"document.title=1\">')")
    page.get("document.querySelector('b').click()")
    assert page.get("document.title") == "Cells"


def test_words_and_choices_filter(page: Page) -> None:
    choose(page, "label", "sick")
    assert (page.get(SHOWN), page.get(COUNT)) == (6, "6 of 12 rows")
    page.get("document.querySelector('#words').focus()")
    page.write("02.ZARR")
    assert page.get(SHOWN) == 1
    page.write(" nowhere")
    assert page.get(SHOWN) == 0
    assert page.get("!document.querySelector('#nothing').hidden")
    page.get("document.querySelector('#clear').click()")
    page.wait(f"{SHOWN} === 12")


def test_a_choice_of_a_harmful_value(page: Page) -> None:
    choose(page, "remark", EVIL)
    assert page.get(SHOWN) == 1
    assert page.get("document.querySelector('#rows > li:not([hidden]) dd').textContent").endswith(
        '<b onclick="x">&amp;.zarr'
    )


def test_the_keyboard_is_enough(page: Page) -> None:
    page.press("/")
    assert page.get("document.activeElement.id") == "words"
    page.write("sick")
    assert page.get(SHOWN) == 6
    page.press("Tab", "Tab", "Tab", "Tab")  # two choices, clear, the first row
    assert page.get("document.activeElement.closest('li').innerText").startswith("00.zarr")
    assert (
        page.get("getComputedStyle(document.activeElement.closest('li')).outlineStyle") == "solid"
    )
    page.press("Enter")
    page.wait("document.querySelector('dialog').open")
    name = "document.querySelector('#row-name').textContent"
    assert page.get(name) == "00.zarr"
    page.press("ArrowRight")
    assert page.get(name) == "02.zarr", "the next one that is shown"
    page.press("ArrowLeft", "ArrowLeft")
    assert page.get(name) == "00.zarr"
    assert page.get("document.querySelectorAll('#row-body dt').length") == 4
    page.press("ArrowRight", "Escape")
    page.wait("!document.querySelector('dialog').open")
    page.wait("document.activeElement.closest('li')?.innerText.startsWith('02.zarr')")


def test_a_click_opens_a_row(page: Page) -> None:
    page.get("document.querySelectorAll('#rows > li')[3].click()")
    page.wait("document.querySelector('dialog').open")
    assert page.get("document.querySelector('#row-name').textContent").startswith("<b onclick")
    assert page.get("document.title") == "Cells"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(scheme: str, browser: Page, tmp_path: Path) -> None:
    gallery(table(), tmp_path / "page.html")
    browser.open(tmp_path / "page.html", scheme=scheme)
    picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("L"))
    assert (picture[5, 5] > 128) == (scheme == "light")
    for selector in ("dd", "dt", "h1", "#count", "button"):
        assert contrast(browser, selector) >= 4.5, selector


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of text on what lies behind it, by WCAG."""
    color, behind = page.get(
        f"(() => {{ let one = document.querySelector({selector!r}); const color = "
        "getComputedStyle(one).color; let back; do { back = getComputedStyle(one).backgroundColor; "
        "one = one.parentElement; } while (one && back === 'rgba(0, 0, 0, 0)'); "
        "return [color, back]; })()"
    )

    def luminance(text: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    one, other = sorted([luminance(color), luminance(behind)])
    return (other + 0.05) / (one + 0.05)


def test_it_is_whole_without_script(browser: Page, tmp_path: Path) -> None:
    gallery(table(), tmp_path / "page.html")
    browser.open(tmp_path / "page.html", script=False)
    assert browser.get(SHOWN) == 12
    assert browser.get("document.querySelector('#filters').offsetParent === null")
    browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_a_page_in_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(TargetError, match="in the Zarr store"):
        gallery(table(), tmp_path / "a.zarr" / "page.html")


def test_places_where_no_page_can_be(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("")
    manifest = table()
    for place in (
        tmp_path / "file.txt" / "page.html",
        tmp_path,
        Path("/"),
        tmp_path / "none/a.html",
    ):
        with pytest.raises(WriteError, match="the page"):
            gallery(manifest, place)
    name = "n" * 250 + ".html"
    assert gallery(manifest, tmp_path / name).rows == len(manifest)
    assert {path.name for path in tmp_path.iterdir()} == {"file.txt", name}
