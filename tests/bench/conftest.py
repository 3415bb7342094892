"""The tiny checkpoint of the pipeline's tests."""

from __future__ import annotations

from tests.vlm.conftest import folder, vlm

__all__ = ["folder", "vlm"]
