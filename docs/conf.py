"""How the site is made of these pages: ``make docs`` writes it to ``build/docs``.

The pages are plain Markdown, so that they read well in the repository, too. Nothing on the site is
fetched from anywhere: it opens from a disk, and its search works there.
"""

from __future__ import annotations

import re
from importlib.metadata import version as installed

from docutils import nodes
from pygments.lexers.shell import BashLexer

project = "hfzarr"
author = "The hfzarr authors"
copyright = author
version = release = installed("hfzarr")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]
nitpicky = True
default_role = "py:obj"

# Markdown: anchors as the repository's own view of it makes them.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block"]

# The reference: parameters are told by the docstrings, so signatures need no types.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autosummary_generate = False
add_module_names = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"hfzarr {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
# A summary would be fetched from the found page, which a browser refuses for files.
html_show_search_summary = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6a75", "color-brand-content": "#0b6a75"},
    "dark_css_variables": {"color-brand-primary": "#5fc9d6", "color-brand-content": "#5fc9d6"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def without_setup(app, docname, source):
    """Leave out what only the tests of a page need to know."""
    source[0] = re.sub(r"^<!-- (docs:|setup\n).*?-->\n", "", source[0], flags=re.M | re.S)


def plain_names(app, env, node, contnode):
    """Show what has no page here, such as ``None`` or ``xarray.Dataset``, as it is written.

    Without an index of other projects, which would take the network, their names lead nowhere.
    Names of this project must lead somewhere.
    """
    ours = node.get("reftarget", "").lstrip("~.").startswith("hfzarr")
    if node.get("refdomain") != "py" or ours:
        return None
    return nodes.literal(text=contnode.astext(), classes=["py"])


def setup(app):
    """Tell Sphinx of what is ours here."""
    # Commands are written without a prompt; the lexer of this name takes such lines for answers.
    app.add_lexer("console", BashLexer)
    app.connect("source-read", without_setup)
    app.connect("missing-reference", plain_names)
