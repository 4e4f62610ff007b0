"""Sphinx: the pages of this folder, and the reference of the public names from their docstrings (`make docs`)."""

import re
from importlib import import_module
from typing import Any

from nimco import __version__

project = "nimco"
copyright = "the nimco authors"
version = release = __version__
root_doc = "README"
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
html_theme = "alabaster"
html_theme_options = {"description": "Live state-of-charge maps from energy scans", "page_width": "1100px"}
html_static_path: list[str] = []
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
numpydoc_show_class_members = False
autodoc_typehints = "none"  # numpydoc's parameters name them
autodoc_member_order = "bysource"

PACKAGES = (
    "edge_fitting",
    "beamline_plans",
    "callbacks",
    "nimco",
    "nimco.testing",
    "scan_contract",
    "sim_devices",
    "beamline_devices",
    "beamline_devices.epics",
    "beamline_devices.protocols",
)
_LINK = re.compile(r"\]\(([^)#:]+\.md)\)")


def _extend(app: Any, docname: str, source: list[str]) -> None:
    """Give the index its table of contents, from its own links, and the reference its packages."""
    if docname == root_doc:
        pages = "\n".join(dict.fromkeys(_LINK.findall(source[0])))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"
    elif docname == "reference/api":
        for name in PACKAGES:
            import_module(name)
            source[0] += (
                f"\n## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n"
                "   :imported-members:\n   :show-inheritance:\n```\n"
            )


def setup(app: Any) -> None:
    """Connect the pages that are extended."""
    app.connect("source-read", _extend)
