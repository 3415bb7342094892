"""torchvision, also where its compiled part does not fit this torch.

It must be imported before transformers, which conftest files above this folder may do: where the
compiled part does not fit, run pytest with this folder on PYTHONPATH and `-p torchvision_import`.

torchvision's Python files register fake kernels for compiled operators, which must exist before.
Resizing and normalising need none of the compiled ones, so names without a kernel are enough.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import torch

_OPERATORS = (
    "nms",
    "qnms",
    "roi_align",
    "qroi_align",
    "_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
)
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # its operators live as long as it


def _imported() -> ModuleType | None:
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in _OPERATORS:
            _LIBRARY.define(f"{name}(Tensor input) -> Tensor")
        return importlib.import_module("torchvision")


#: The module, or None where torchvision is not installed.
MODULE = _imported()
