"""docs/systems.md is what its generator writes today."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_catalogue_page_is_up_to_date() -> None:
    written = runpy.run_path(str(DOCS / "make_catalogue.py"))["page"]()
    assert (DOCS / "systems.md").read_text() == written, "run: python docs/make_catalogue.py"


def test_every_system_has_a_section() -> None:
    import sparsight

    page = (DOCS / "systems.md").read_text()
    for name in sparsight.catalogue():
        assert f"\n### {name}\n" in page
