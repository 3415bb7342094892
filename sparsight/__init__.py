"""Sparsight: LLaVA-family models on a fraction of the visual tokens, measured.

```python
import sparsight as ss

vlm = ss.load("mini")
reply = vlm.using("fastervlm", keep=0.25).ask("film.mp4", "Which way does the red circle move?")
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from sparsight.core.clip import Clip
    from sparsight.core.errors import UserError
    from sparsight.core.plan import Plan
    from sparsight.core.registry import Entry
    from sparsight.core.reply import Reply
    from sparsight.llm.generation import Cancel
    from sparsight.media import Access, Limits
    from sparsight.media import load as load_media
    from sparsight.vlm.pipeline import VLM

__version__ = "0.1.0"
__all__ = [
    "VLM",
    "Access",
    "Cancel",
    "Clip",
    "Limits",
    "Plan",
    "Reply",
    "UserError",
    "catalogue",
    "load",
    "load_media",
]

# Names that are imported when they are first used: `import sparsight` stays light.
_LAZY = {
    "VLM": ("sparsight.vlm.pipeline", "VLM"),
    "Access": ("sparsight.media", "Access"),
    "Cancel": ("sparsight.llm.generation", "Cancel"),
    "Clip": ("sparsight.core.clip", "Clip"),
    "Limits": ("sparsight.media", "Limits"),
    "Plan": ("sparsight.core.plan", "Plan"),
    "Reply": ("sparsight.core.reply", "Reply"),
    "UserError": ("sparsight.core.errors", "UserError"),
    "load_media": ("sparsight.media", "load"),
}


def load(
    model: str | Plan = "mini",
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    attention: str | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
) -> VLM:
    """Load a model, or a plan with its model.

    Args:
        model: "mini" (embedded, no download), a local folder, a hub id, or a `Plan`.
        dtype: "auto" (as stored), "float32", "bfloat16", "float16", or a torch dtype.
        device: "cpu", "cuda", ...; None takes CUDA where there is one.
        attention: transformers' attn_implementation; None is its default.
        limits: caps on bytes, pixels, frames and duration of media.
        access: which URLs and local paths may be opened.

    Raises `UserError` with one line that says what is wrong and how to fix it.
    """
    from sparsight.core.plan import Plan
    from sparsight.systems import load as load_systems
    from sparsight.vlm.load import load_family
    from sparsight.vlm.pipeline import VLM

    load_systems()
    plan = model if isinstance(model, Plan) else Plan(model)
    family = load_family(plan.model, dtype, device, attention)
    return VLM(family, plan, limits, access)


def catalogue() -> dict[str, Entry]:
    """The catalogue: every system by name."""
    from sparsight.core.registry import entries
    from sparsight.systems import load as load_systems

    load_systems()
    return entries()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        module, attribute = _LAZY[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'sparsight' has no attribute {name!r}")
