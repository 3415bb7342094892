"""docs/how-it-works.md names only what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-it-works.md").read_text()
LINKS = sorted(set(re.findall(r"\[`([\w.]+)`\]\(([^)]+)\)", PAGE)))
PATHS = sorted(set(re.findall(r"`((?:sparsight|docs|benchmarks|tests)/[\w./-]+)`", PAGE)))


def names_in(path: Path) -> set[str]:
    """Functions, classes and their methods of a file, as `f`, `C` and `C.f`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{part.name}"
                for part in node.body
                if isinstance(part, ast.FunctionDef)
            }
    return found


def test_the_page_has_its_links() -> None:
    assert len(LINKS) > 40


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_a_linked_name_is_in_its_file(name: str, target: str) -> None:
    path = (ROOT / "docs" / target).resolve()
    assert path.is_file(), target
    found = names_in(path)
    assert name in found or name.removeprefix("media.") in found, f"{target} has no {name}"


@pytest.mark.parametrize("path", PATHS)
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_slot_is_shown() -> None:
    from sparsight.core.slots import SLOTS

    for slot in SLOTS:
        assert f"[{slot}]" in PAGE
        assert f"**{slot}**" in PAGE
