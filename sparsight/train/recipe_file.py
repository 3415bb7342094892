"""Reading a recipe from its file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

from sparsight.core.errors import UserError
from sparsight.train.recipe import Recipe


def load_recipe(path: str | Path) -> Recipe:
    """The recipe that the function `recipe` of a Python file returns.

    The file may import its neighbours. Raises `UserError` for a file that is missing, fails, has
    no such function, or returns something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such recipe; give the path of a Python file")
    if path.suffix != ".py":
        raise UserError(f"{path}: a recipe is a Python file with a function recipe()")
    name = f"recipe_{path.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        make = getattr(module, "recipe", None)
        made = make() if callable(make) else None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} fails {_where(error, path)}: {_words(error)}") from error
    if not callable(make):
        raise UserError(f"{path} has no function recipe(): it must return a sparsight Recipe")
    if not isinstance(made, Recipe):
        raise UserError(f"recipe() of {path} returns {type(made).__name__}, not a Recipe")
    return made


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _where(error: Exception, path: Path) -> str:
    """The line of the recipe that an error came through."""
    if isinstance(error, SyntaxError):
        return f"at line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path.resolve()
    ]
    return f"at line {lines[-1]}" if lines else "while it is read"
