"""The rules that keep the house in order: who may import whom, and what may be named where.

Each rule is a function from the package's modules to one line a breach. Each is also tried on a
small package that breaks it, so that no rule can go blind.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "core": 1, "ops": 1,
    "media": 2, "llm": 2, "modules": 2, "measure": 2,
    "vlm": 3, "systems": 3,
    "train": 4, "bench": 4, "stream": 4,
    "tune": 5, "serve": 5, "world": 5,
    "cli": 6,
}  # fmt: skip
FACE = 3.5  # `sparsight` itself: for the floors above it, made of the floors below it
SLOTS = {
    "frames", "tiling", "encoders", "connectors", "reducers", "inside", "positions", "streaming",
    "decoding", "pipelines", "recipes", "benchmarks", "generation", "weights", "baselines", "peers",
}  # fmt: skip
SYSTEMS_MAY_IMPORT = {"core", "ops", "modules", "llm", "media"}
IMPORTED_AS = {
    "pyyaml": "yaml", "pillow": "PIL", "opencv-python-headless": "cv2", "scikit-learn": "sklearn",
}  # fmt: skip


# The package as the rules see it


@dataclass(frozen=True)
class Import:
    target: str  # a module of the package by its full name; of other packages as much as is written
    line: int
    deferred: bool  # inside a function, or for the type checker alone


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def room(self) -> str:
        """The folder directly under the package, or "" for the public face."""
        parts = self.name.split(".")
        return {"__main__": "cli"}.get(parts[1], parts[1]) if len(parts) > 1 else ""

    def at(self, line: int) -> str:
        return f"{self.path.name}:{line} ({self.name})"


Modules = dict[str, Module]
Rule = Callable[[Modules], Iterator[str]]


def read_package(folder: Path) -> Modules:
    """All modules under `folder`, by full name, with their imports resolved."""
    paths = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    modules = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        home = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules[name] = Module(name, path, tree, tuple(imports_of(tree, home, set(paths))))
    return modules


def imports_of(
    node: ast.AST, home: str, known: set[str], deferred: bool = False
) -> Iterator[Import]:
    """Every import under `node`, in functions and behind TYPE_CHECKING too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, deferred) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = ".".join(home.split(".")[: len(home.split(".")) - child.level + 1])
            source = child.module or ""
            if child.level:
                source = f"{base}.{source}" if source else base
            for alias in child.names:
                whole = f"{source}.{alias.name}"
                is_object = source in known and whole not in known
                yield Import(source if is_object else whole, child.lineno, deferred)
        elif isinstance(child, ast.Call) and last_name(child.func) == "import_module":
            if child.args and isinstance(child.args[0], ast.Constant):
                yield Import(str(child.args[0].value), child.lineno, True)
            yield from imports_of(child, home, known, deferred)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and last_name(child.test) == "TYPE_CHECKING"
            yield from imports_of(child, home, known, deferred or later or typing)


def last_name(node: ast.AST) -> str:
    """`c` of the expression `a.b.c`."""
    return getattr(node, "attr", getattr(node, "id", ""))


def inside(modules: Modules) -> Iterator[tuple[Module, Import, Module]]:
    """Every import from one module of the package to another."""
    for module in modules.values():
        for item in module.imports:
            if item.target in modules and item.target != module.name:
                yield module, item, modules[item.target]


def outside(modules: Modules) -> Iterator[tuple[Module, Import, str]]:
    """Every import of another package, with that package's import name."""
    for module in modules.values():
        for item in module.imports:
            top = item.target.partition(".")[0]
            if top != module.name.partition(".")[0]:
                yield module, item, top


def floor(module: Module) -> float:
    return FLOORS.get(module.room, FACE)


def systems_defined(module: Module) -> list[str]:
    """The names that a module registers with the `system` decorator of the core."""
    return [
        ast.unparse(mark.args[0]) if mark.args else "?"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for mark in node.decorator_list
        if isinstance(mark, ast.Call) and last_name(mark.func) == "system"
    ]


# The rules


def rooms_are_the_planned_ones(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        parts = module.name.split(".")
        if module.room and module.room not in FLOORS:
            yield f"{module.name}: {module.room!r} is not a room of the house"
        if len(parts) > 2 and module.room == "systems" and parts[2] not in SLOTS:
            yield f"{module.name}: systems live in a folder named after their main slot"


def imports_go_down(modules: Modules) -> Iterator[str]:
    for module, item, target in inside(modules):
        if module.room != target.room and floor(module) <= floor(target):
            yield f"{module.at(item.line)} imports {target.name}: not from a floor below"


def ops_import_only_torch(modules: Modules) -> Iterator[str]:
    for module, item, top in outside(modules):
        if module.room == "ops" and top != "torch" and top not in sys.stdlib_module_names:
            yield f"{module.at(item.line)} imports {item.target}: ops import torch alone"


def a_system_knows_only_the_blocks(modules: Modules) -> Iterator[str]:
    for module, item, target in inside(modules):
        loader = module.name.count(".") == 1  # systems/__init__.py loads them all
        if module.room != "systems" or (loader and target.room == "systems"):
            continue
        if target.room not in SYSTEMS_MAY_IMPORT:
            yield f"{module.at(item.line)} imports {target.name}: not for a system"


def a_system_file_holds_one_system(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        names = systems_defined(module)
        a_system = module.room == "systems" and module.path.name != "__init__.py"
        if a_system and len(names) != 1:
            yield f"{module.name} registers {len(names)} systems ({', '.join(names)}), not one"
        if not a_system and names:
            yield f"{module.name} registers {', '.join(names)}: a system has its own file"


def only_the_face_and_cli_load_systems(modules: Modules) -> Iterator[str]:
    for module, item, target in inside(modules):
        if target.room == "systems" and module.room not in ("", "cli", "systems"):
            yield f"{module.at(item.line)} imports {target.name}: take it from core.registry"


def only_families_name_model_classes(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if not module.name.startswith("sparsight.vlm.families"):
            for line, name in sorted(set(model_names(module.tree))):
                yield f"{module.at(line)} mentions {name}: only vlm/families may"


def model_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names of Hugging Face model classes and modules: as names, attributes, imports, strings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            words = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            words = [f"{node.module}.{alias.name}" for alias in node.names]
            words += [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            words = [ast.unparse(node), node.attr]
        elif isinstance(node, ast.Name):
            words = [node.id]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = [] if id(node) in docstrings else [node.value]
        else:
            continue
        for word in words:
            if re.match(r"transformers\.models\b(?!\.auto)", word) or is_model_class(word):
                yield line, word


def is_model_class(word: str) -> bool:
    """Whether `word` is a folder of `transformers.models`, then a part that models end with."""
    end = re.fullmatch(
        r"([A-Z]\w*?)((?:Vision|Text|Audio)?(?:Model|Config)(?:WithProjection)?"
        r"|PreTrainedModel|For[A-Z]\w+|(?:Image|Video)?Processor\w*|Tokenizer(?:Fast)?)",
        word,
    )
    return end is not None and end[1].replace("_", "").lower() in model_folders()


def model_folders() -> set[str]:
    """The model names of transformers, read from its folders: importing it takes seconds."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.submodule_search_locations
    models = Path(spec.submodule_search_locations[0], "models")
    return {path.name.replace("_", "") for path in models.iterdir() if path.is_dir()} - {"auto"}


def commands_and_server_hold_no_method(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for item in module.imports:
            part = item.target.split(".")
            if module.room in ("cli", "serve") and (
                part[:2] == ["torch", "nn"]
                or part[:2] in (["sparsight", "ops"], ["sparsight", "modules"])
            ):
                yield f"{module.at(item.line)} imports {item.target}: methods live below"


def no_import_cycles(modules: Modules) -> Iterator[str]:
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for module, _, target in inside(modules):
        edges[module.name].add(target.name)
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> Iterator[str]:
        if name in trail:
            yield "import cycle: " + " -> ".join([*trail[trail.index(name) :], name])
        elif name not in done:
            for following in sorted(edges[name]):
                yield from walk(following, [*trail, name])
            done.add(name)

    for name in sorted(modules):
        yield from walk(name, [])


def files_are_named_after_what_they_do(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.path.stem in ("utils", "util", "misc", "helpers"):
            yield f"{module.name}: name the file after what it does"


def extras_are_imported_late(modules: Modules) -> Iterator[str]:
    needed = {import_name(name) for name in declared()[""]}
    optional = {import_name(name) for name in everything_declared()} - needed
    for module, item, top in outside(modules):
        if top in optional and not item.deferred:
            yield f"{module.at(item.line)} imports {top}: it is optional, so inside a function"


def imports_are_declared(modules: Modules) -> Iterator[str]:
    for_users = [needs for extra, needs in declared().items() if extra != "dev"]
    known = {import_name(name) for needs in for_users for name in needs}
    for module, item, top in outside(modules):
        if top not in known and top not in sys.stdlib_module_names:
            yield f"{module.at(item.line)} imports {top}: pyproject.toml does not give it to users"


RULES: list[Rule] = [
    rooms_are_the_planned_ones,
    imports_go_down,
    ops_import_only_torch,
    a_system_knows_only_the_blocks,
    a_system_file_holds_one_system,
    only_the_face_and_cli_load_systems,
    only_families_name_model_classes,
    commands_and_server_hold_no_method,
    no_import_cycles,
    files_are_named_after_what_they_do,
    extras_are_imported_late,
    imports_are_declared,
]


@pytest.fixture(scope="module")
def package() -> Modules:
    return read_package(ROOT / "sparsight")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule, package: Modules):
    breaches = list(rule(package))
    assert not breaches, "\n".join(breaches)


# Each rule on a package that breaks it: {file: text}, and the words that the breach must hold

A_SYSTEM = (
    "from sparsight.core.registry import system\n@system('a', title='', paper='')\nclass A: ...\n"
)
BREACHES = [
    (rooms_are_the_planned_ones, {"cellar/wine.py": ""}, "'cellar' is not a room"),
    (rooms_are_the_planned_ones, {"tools.py": ""}, "'tools' is not a room"),
    (rooms_are_the_planned_ones, {"systems/odd/a.py": ""}, "their main slot"),
    (imports_go_down, {"media/a.py": "import sparsight.vlm.b", "vlm/b.py": ""}, "sparsight.vlm.b"),
    (imports_go_down, {"llm/a.py": "from ..measure import b", "measure/b.py": ""}, "measure.b"),
    (imports_go_down, {"ops/a.py": "from sparsight.core import T", "core/__init__.py": ""}, "core"),
    (imports_go_down, {"vlm/a.py": "def f():\n  from sparsight import load"}, "imports sparsight:"),
    (
        imports_go_down,
        {"__init__.py": "from sparsight.bench import b", "bench/b.py": ""},
        "bench.b",
    ),
    (imports_go_down, {"tune/a.py": "from sparsight.serve import b", "serve/b.py": ""}, "serve.b"),
    (
        imports_go_down,
        {
            "core/a.py": "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n  from sparsight.vlm.b import B",
            "vlm/b.py": "",
        },
        "sparsight.vlm.b",
    ),
    (
        imports_go_down,
        {"llm/a.py": "importlib.import_module('sparsight.vlm.b')", "vlm/b.py": ""},
        "sparsight.vlm.b",
    ),
    (ops_import_only_torch, {"ops/a.py": "import torch, math\nimport numpy as np"}, "numpy"),
    (
        a_system_knows_only_the_blocks,
        {"systems/inside/a.py": "from sparsight.vlm.p import ask", "vlm/p.py": ""},
        "vlm.p",
    ),
    (
        a_system_knows_only_the_blocks,
        {"systems/inside/a.py": "from sparsight.measure import t", "measure/t.py": ""},
        "measure.t",
    ),
    (
        a_system_knows_only_the_blocks,
        {"systems/inside/a.py": "from .b import f", "systems/inside/b.py": ""},
        "systems.inside.b",
    ),
    (a_system_file_holds_one_system, {"systems/inside/a.py": "x = 1"}, "registers 0"),
    (a_system_file_holds_one_system, {"systems/inside/a.py": A_SYSTEM * 2}, "registers 2"),
    (a_system_file_holds_one_system, {"serve/a.py": A_SYSTEM}, "its own file"),
    (
        only_the_face_and_cli_load_systems,
        {"train/a.py": "from sparsight.systems.inside import b", "systems/inside/b.py": ""},
        "systems.inside.b",
    ),
    (
        only_families_name_model_classes,
        {"llm/a.py": "from transformers import Qwen2_5_VLForConditionalGeneration"},
        "Qwen2_5_VL",
    ),
    (only_families_name_model_classes, {"llm/a.py": "x = t.CLIPVisionModel"}, "CLIPVisionModel"),
    (
        only_families_name_model_classes,
        {"llm/a.py": "n == 'LlavaOnevisionConfig'"},
        "LlavaOnevision",
    ),
    (
        only_families_name_model_classes,
        {"vlm/a.py": "import transformers.models.llava"},
        "models.llava",
    ),
    (commands_and_server_hold_no_method, {"cli/a.py": "from torch import nn"}, "torch.nn"),
    (
        commands_and_server_hold_no_method,
        {"serve/a.py": "from sparsight.ops.select import top_k", "ops/select.py": ""},
        "ops.select",
    ),
    (
        no_import_cycles,
        {
            "core/a.py": "from sparsight.core import b",
            "core/b.py": "import sparsight.core.c",
            "core/c.py": "def f():\n  from .a import x",
        },
        "core.a -> sparsight.core.b -> sparsight.core.c -> sparsight.core.a",
    ),
    (files_are_named_after_what_they_do, {"core/utils.py": ""}, "core.utils"),
    (files_are_named_after_what_they_do, {"vlm/misc.py": ""}, "vlm.misc"),
    (extras_are_imported_late, {"measure/a.py": "import matplotlib.pyplot as plt"}, "matplotlib"),
    (imports_are_declared, {"media/a.py": "def f():\n  import decord"}, "decord"),
    (imports_are_declared, {"media/a.py": "def f():\n  import cv2"}, "cv2"),
]


def build(folder: Path, files: dict[str, str]) -> Modules:
    for name, text in files.items():
        path = folder / "sparsight" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "sparsight" / "__init__.py").touch()
    return read_package(folder / "sparsight")


@pytest.mark.parametrize(
    ("rule", "files", "words"), BREACHES, ids=[f"{b[0].__name__}-{b[2]}" for b in BREACHES]
)
def test_a_rule_sees_a_breach(rule: Rule, files: dict[str, str], words: str, tmp_path: Path):
    breaches = list(rule(build(tmp_path, files)))
    assert len(breaches) == 1
    assert words in breaches[0]


def test_every_rule_is_tried_on_a_breach():
    assert {breach[0] for breach in BREACHES} == set(RULES)


def test_the_rules_let_a_good_package_pass(tmp_path: Path):
    good = {
        "__init__.py": "import sparsight.systems\nfrom sparsight.vlm.pipeline import load",
        "core/registry.py": "import yaml\ndef system(name, **about): ...",
        "ops/select.py": "import math\nfrom torch import Tensor",
        "ops/merge.py": "from sparsight.ops import select",
        "measure/plots.py": "def draw():\n  import matplotlib.pyplot",
        "llm/attention.py": "from transformers import AttentionInterface, GenerationConfig",
        "systems/__init__.py": "from sparsight.systems.inside import fastv",
        "systems/inside/__init__.py": "",
        "systems/inside/fastv.py": A_SYSTEM + "from sparsight.ops.select import top_k",
        "vlm/pipeline.py": "from .families import llava\nimport sparsight.core.registry",
        "vlm/families/llava.py": "from transformers import LlavaForConditionalGeneration",
        "train/loop.py": "import sparsight as ss\nfrom torch import nn",
        "cli/ask.py": "import sparsight.systems\nfrom sparsight import load",
        "__main__.py": "from sparsight.cli.ask import main",
    }
    modules = build(tmp_path, good)
    assert [breach for rule in RULES for breach in rule(modules)] == []


# Dependencies


def declared() -> dict[str, dict[str, Requirement]]:
    """The requirements of pyproject.toml by extra; "" is what is always installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
        for extra, lines in groups.items()
    }


def everything_declared() -> dict[str, Requirement]:
    return {name: need for group in declared().values() for name, need in group.items()}


def import_name(distribution: str) -> str:
    return IMPORTED_AS.get(distribution, distribution.replace("-", "_"))


def test_every_dependency_has_its_line_in_the_docs_and_no_other():
    told: dict[str, set[str]] = {"": set()}
    extra = ""
    for line in (ROOT / "docs/dependencies.md").read_text().splitlines():
        if heading := re.match(r"## Extra `(.+)`", line):
            extra = heading[1]
            told[extra] = set()
        elif row := re.match(r"\| `(.+?)` \|", line):
            told[extra].add(canonicalize_name(row[1]))
    assert told == {extra: set(needs) for extra, needs in declared().items()}


def test_pins_meet_the_bounds_and_leave_torch_to_the_makefile():
    lines = (ROOT / "requirements/pins.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    assert "torch" not in pins
    torch = re.search(r"^TORCH := torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert torch is not None
    groups = declared()
    needs = {**groups[""], **groups["plots"], **groups["dev"]}
    assert {*needs} - {*pins} == {"torch"}
    for name, version in {**pins, "torch": torch[1]}.items():
        assert name not in needs or version in needs[name].specifier, name


def test_sparsight_imports_without_the_extras():
    extras = {name for extra in declared() if extra for name in declared()[extra]}
    blocked = sorted({import_name(name) for name in extras} - {"setuptools"})
    program = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None  # an import of it raises ImportError
import sparsight
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The tests themselves


def test_the_network_is_refused():
    with pytest.raises(RuntimeError, match=r"socket\.connect"), socket.socket() as out:
        out.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match=r"socket\.sendto"):
        socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 80))
    with pytest.raises(OSError, match="not known"):
        socket.getaddrinfo("example.org", 80)


def test_loopback_is_open():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == server.getsockname()
