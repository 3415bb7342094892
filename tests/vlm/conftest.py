"""One tiny checkpoint for the whole session, on disk and loaded."""

from __future__ import annotations

import pytest

from sparsight.vlm.pipeline import VLM
from tests.vlm.tiny import ClipOnevision, checkpoint


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint's folder; nothing may be written into it."""
    made = tmp_path_factory.mktemp("onevision")
    checkpoint(ClipOnevision(), made)
    return str(made)


@pytest.fixture(scope="session")
def vlm(folder: str) -> VLM:
    """The checkpoint, loaded as users do."""
    import sparsight

    return sparsight.load(folder, dtype="float32", device="cpu")
