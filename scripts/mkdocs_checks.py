"""MkDocs hook: the pages of the conformance suite's checks, made anew with each build."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

from bollard.conformance.pages import pages


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; only their index is in the navigation, which would be ten screens long otherwise."""
    for path, text in pages():
        page = File.generated(config, path, content=text)
        page.inclusion = InclusionLevel.INCLUDED if path.endswith("index.md") else InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files
