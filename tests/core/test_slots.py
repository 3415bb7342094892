from __future__ import annotations

from sparsight.core.slots import Need


def test_a_signal_is_named_after_its_block_unless_it_is_the_features_own() -> None:
    assert Need("keys").key == "keys"
    assert Need("keys", 0).key == "keys@0"
    assert Need("keys", "last").key == "keys@last"
