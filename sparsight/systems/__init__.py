"""Every system, one file each. `load()` imports them all, which fills the catalogue."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every system so that `sparsight.core.registry.entries()` knows it."""
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        if not module.ispkg:
            importlib.import_module(module.name)
