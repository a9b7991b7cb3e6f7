"""What the built site must keep: it opens from a disk, asks nobody, and tells every public name.

    python ci/docs/check_site.py build/docs

Sphinx has judged the pages by then. This looks at the files that came out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util.inventory import InventoryFile

import hfzarr

# What a browser fetches by itself, and from which attribute.
FETCHED = {
    ("script", "src"), ("img", "src"), ("img", "srcset"), ("source", "src"), ("iframe", "src"),
    ("link", "href"), ("object", "data"), ("video", "src"), ("audio", "src"), ("embed", "src"),
}  # fmt: skip
# Links of the head that name other pages and fetch nothing.
NAMING = {"canonical", "index", "search", "next", "prev", "author", "license", "help", "up"}
CSS_URL = re.compile(r"url\(\s*['\"]?(?P<url>[^'\")]+)|@import\s+['\"](?P<imported>[^'\"]+)")
HERE = re.compile(r"^(?!//)(?![a-z][a-z0-9+.-]*:)|^data:", re.IGNORECASE)


class Page(HTMLParser):
    """The targets of a page: what a browser fetches, what a reader may follow, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.anchors.add(found["id"])
        names_a_page = tag == "link" and found.get("rel", "") in NAMING
        for name, value in found.items():
            if (tag, name) in FETCHED and not names_a_page:
                self.fetched.append(value)
            elif name == "href":
                self.links.append(value)


def foreign(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield what a browser would fetch from elsewhere."""
    for path, page in pages.items():
        for url in page.fetched:
            if not HERE.match(url):
                yield f"{path.relative_to(site)} fetches {url}"
    for path in sorted(site.rglob("*.css")):
        for found in CSS_URL.finditer(path.read_text("utf-8")):
            url = found["url"] or found["imported"]
            if not HERE.match(url):
                yield f"{path.relative_to(site)} fetches {url}"


def dead(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield links within the site that lead nowhere."""
    for path, page in pages.items():
        for link in [*page.links, *page.fetched]:
            if not HERE.match(link) or link.startswith("data:"):
                continue
            parts = urlsplit(link)
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not goal.is_file():
                yield f"{path.relative_to(site)}: {link} is not there"
            elif anchor and goal in pages and anchor not in pages[goal].anchors:
                yield f"{path.relative_to(site)}: {link} has no such anchor"


def untold(site: Path) -> Iterator[str]:
    """Yield public names that the reference lacks."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    told = {name for kind in inventory.data.values() for name in kind}
    for name in hfzarr.__all__:
        if name != "__version__" and f"hfzarr.{name}" not in told:
            yield f"hfzarr.{name} is not in the reference"


def main(folder: str = "build/docs") -> int:
    """Print what is wrong with a site, and return 1 if anything is."""
    site = Path(folder).resolve()
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        print(f"There is no site in {folder}")
        return 1
    wrong = [*foreign(site, pages), *dead(site, pages), *untold(site)]
    print("\n".join(wrong) or f"{len(pages)} pages: every link leads somewhere, nothing is fetched")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
