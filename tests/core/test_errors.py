from __future__ import annotations

import pytest
import torch

from sparsight.core.errors import UserError, is_out_of_memory, unknown


def test_a_message_of_several_lines_becomes_one() -> None:
    assert str(UserError("the file\n  is\tbroken\n")) == "the file is broken"


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)


def test_an_unknown_name_is_met_with_the_nearest_and_all_that_is_known() -> None:
    message = str(unknown("knob", "kep", ["layer", "keep"]))
    assert message == "unknown knob 'kep'; did you mean 'keep'? (known: keep, layer)"


def test_nothing_is_suggested_for_a_name_that_is_like_no_other() -> None:
    assert str(unknown("knob", "zzz", ["keep"])) == "unknown knob 'zzz' (known: keep)"


def test_a_name_that_is_no_text_is_unknown_too() -> None:
    assert str(unknown("knob", 3, ["keep"])) == "unknown knob '3' (known: keep)"


def test_an_empty_list_of_names_says_so() -> None:
    assert str(unknown("system", "x", [])) == "unknown system 'x' (known: none)"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("odd"), False),
    ],
)
def test_memory_that_ran_out_is_known(error: Exception, found: bool):
    assert is_out_of_memory(error) is found
