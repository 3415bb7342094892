"""The code of docs/add-a-system.md does what the page says."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import sparsight
from sparsight.core import registry
from sparsight.vlm.load import find_model
from tests import test_house_rules as house

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "add-a-system.md").read_text()
FILES = dict(re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S))
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
SYSTEM, TEST = FILES


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, in a folder of their own; the catalogue is put back afterwards."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    sparsight.catalogue()
    monkeypatch.setattr(registry, "_CATALOGUE", dict(registry._CATALOGUE))
    return tmp_path


@pytest.fixture
def example(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's system, loaded."""
    load(written / SYSTEM, "sparsight.systems.reducers.largest_norm", monkeypatch)
    return written


def load(path: Path, name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def functions_of(module: ModuleType) -> Iterator[Callable[[], None]]:
    return (value for name, value in vars(module).items() if name.startswith("test_"))


def test_the_page_holds_one_system_and_one_test() -> None:
    assert [Path(name).parts[:2] for name in FILES] == [
        ("sparsight", "systems"),
        ("tests", "systems"),
    ]


def test_the_pages_own_test_is_green(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(functions_of(load(example / TEST, "page_test", monkeypatch)))
    assert len(found) == 4
    for test in found:
        test()


def test_the_pages_own_test_sees_a_fault(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written / SYSTEM
    path.write_text(path.read_text().replace(".norm(dim=-1)", ".norm(dim=-1).neg()"))
    load(path, "sparsight.systems.reducers.largest_norm", monkeypatch)
    module = load(written / TEST, "page_test", monkeypatch)
    with pytest.raises(AssertionError):
        module.test_the_longest_tokens_of_each_view_stay_in_order()


def test_the_system_keeps_the_house_rules(written: Path) -> None:
    package = written / "copy" / "sparsight"
    for path in ROOT.glob("sparsight/**/*.py"):  # of the others, the names are enough
        empty = package / path.relative_to(ROOT / "sparsight")
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.touch()
    shutil.copy(written / SYSTEM, package.parent / SYSTEM)
    modules = house.read_package(package)
    assert len(modules["sparsight.systems.reducers.largest_norm"].imports) > 5
    breaches = [line for rule in house.RULES for line in rule(modules) if "largest_norm" in line]
    assert not breaches, "\n".join(breaches)


def test_the_catalogue_finds_it(example: Path) -> None:
    found = registry.entry("largest-norm")
    assert found.slots == ("reduce",)
    assert found.knobs["keep"].allowed == (
        "a share above 0 and up to 1.0, or a count of 1 or more tokens a view"
    )


def test_the_pages_other_blocks_run(example: Path) -> None:
    others = [block for block in BLOCKS if block not in FILES.values()]
    assert len(others) == 2
    for block in others:
        code = compile(block, "add-a-system.md", "exec")
        if "load(" not in block or any(find_model("mini").glob("*.safetensors")):
            exec(code, {})


def test_the_pages_slots_are_the_slots_there_are() -> None:
    from sparsight.core.slots import SLOTS

    rows = dict(re.findall(r"^\| (\w+) \| `(\w+)\(", PAGE, re.M))
    assert rows == SLOTS
