from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsight.ops.contrast import contrast

LOGITS = torch.tensor([[2.0, 1.0, -1.0, 0.5]])
SECOND = torch.tensor([[2.5, 0.0, -2.0, 0.5]])


def naive(logits: Tensor, second: Tensor, alpha: float, beta: float) -> Tensor:
    """Token by token, by probabilities."""
    shares = logits.double().softmax(-1)
    mixed = torch.empty_like(logits)
    for row in range(len(logits)):
        for token in range(logits.shape[1]):
            plausible = shares[row, token] >= beta * shares[row].max()
            value = (1 + alpha) * logits[row, token] - alpha * second[row, token]
            mixed[row, token] = value if plausible else -torch.inf
    return mixed


@given(st.integers(0, 1000), st.floats(0, 4), st.floats(0.01, 0.9))
def test_it_is_the_rule_applied_token_by_token(seed: int, alpha: float, beta: float) -> None:
    made = torch.Generator().manual_seed(seed)
    logits, second = torch.randn(2, 3, 7, generator=made)
    torch.testing.assert_close(
        contrast(logits, second, alpha, beta), naive(logits, second, alpha, beta)
    )


def test_no_contrast_and_no_cutoff_leave_every_bit() -> None:
    logits, second = torch.randn(2, 4, 50)
    assert torch.equal(contrast(logits, second, 0.0, 0.0), logits)


def test_without_contrast_the_cutoff_keeps_what_is_likely_enough() -> None:
    mixed = contrast(LOGITS, SECOND, 0.0, 0.3)
    # exp(1 - 2) = 0.37 and exp(0.5 - 2) = 0.22 of the likeliest
    assert mixed.isfinite().tolist() == [[True, True, False, False]]
    assert mixed.argmax() == LOGITS.argmax()


def test_the_same_logits_twice_leave_the_choice_as_it_was() -> None:
    logits = torch.randn(5, 40)
    for alpha in (0.5, 1.0, 3.0):
        torch.testing.assert_close(contrast(logits, logits, alpha, 0.0), logits)


def test_what_the_second_prompt_favours_falls_and_a_ruled_out_token_stays_out() -> None:
    values = []
    for favour in (0.0, 1.0, 2.0):
        second = SECOND.clone()
        second[0, 1] = favour
        mixed = contrast(LOGITS, second, 1.5, 0.1)
        assert mixed[0, 2] == -torch.inf  # exp(-3) < 0.1, however little the second likes it
        values.append(float(mixed[0, 1]))
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3


def test_a_token_on_the_cutoff_stays() -> None:
    logits = torch.tensor([[0.0, -1.0]])
    beta = float(torch.exp(torch.tensor(-1.0, dtype=torch.float64)))
    assert contrast(logits, logits, 1.0, beta).isfinite().all()
