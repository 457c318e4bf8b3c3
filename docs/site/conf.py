"""How Sphinx turns the assembled pages (see build.py) into the site."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import links  # noqa: E402
import sidebar  # noqa: E402

import funtorch  # noqa: E402

project = "FunTorch"
author = "The FunTorch authors"
copyright = author
release = version = funtorch.__version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
nitpicky = True
nitpick_ignore_regex = [(r"py:(class|exc|data|attr)", ".*")]  # in signatures: any type
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline", "colon_fence"]
suppress_warnings = ["ref.python"]
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries = False
python_display_short_literal_types = True

html_theme = "furo"
html_title = "FunTorch"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_favicon = "static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo.svg",
    "navigation_with_keys": True,
    "light_css_variables": {
        "color-brand-primary": "#b4451f",
        "color-brand-content": "#a23d1a",
        "color-brand-visited": "#a23d1a",
    },
    "dark_css_variables": {
        "color-brand-primary": "#ff9166",
        "color-brand-content": "#ff9e78",
        "color-brand-visited": "#ff9e78",
    },
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app: object) -> dict[str, bool]:
    """Register what is FunTorch's own."""
    sidebar.setup(app)
    return links.setup(app)
