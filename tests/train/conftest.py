"""What the tests of training share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="session")
def quick_collections() -> None:
    """`Trainer` collects garbage at each start: what the imports made is no garbage."""
    gc.collect()
    gc.freeze()
