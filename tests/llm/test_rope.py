from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sparsight.core.errors import UserError
from sparsight.llm.rope import frequencies, rotating
from tests.llm.tiny import SIZES, decoder_of, llama, mrope, prompt, qwen3vl, qwen25vl


def read(model: Any, embeds: Any, **given: Any) -> Any:
    with torch.no_grad():
        return model(inputs_embeds=embeds, **given).logits


def test_a_decoder_rotates_by_other_frequencies_while_it_is_asked_to() -> None:
    model = llama()
    embeds, inverse = prompt(model), frequencies(model.model)
    plain = read(model, embeds)
    with rotating(model.model, (inverse / 2)[None]):
        half = read(model, embeds)
    # The same as positions half as far apart.
    places = torch.arange(20)[None] / 2
    torch.testing.assert_close(half, read(model, embeds, position_ids=places), atol=1e-4, rtol=1e-4)
    assert frequencies(model.model) is inverse
    assert torch.equal(read(model, embeds), plain)
    with pytest.raises(ValueError, match="stop"), rotating(model.model, (inverse / 2)[None]):
        raise ValueError("stop")
    assert frequencies(model.model) is inverse


def test_its_own_frequencies_change_no_bit() -> None:
    model = llama()
    embeds, inverse = prompt(model, 2), frequencies(model.model)
    plain = read(model, embeds)
    with rotating(model.model, torch.stack([inverse, inverse])):
        assert torch.equal(read(model, embeds), plain)


@pytest.mark.parametrize("make", [llama, qwen25vl, qwen3vl])
def test_each_row_of_a_batch_rotates_by_its_own(make) -> None:
    model = make()
    decoder, embeds = decoder_of(model), prompt(model, 2)
    inverse = frequencies(decoder)
    places = torch.arange(20).expand(2, -1)
    if make is not llama:
        places = mrope(torch.ones(2, 20, dtype=torch.long))
    rows = torch.stack([inverse, inverse / 3])
    with rotating(decoder, rows):
        both = read(model, embeds, position_ids=places)
    for row in range(2):
        with rotating(decoder, rows[row : row + 1]):
            at = places[..., row : row + 1, :]
            alone = read(model, embeds[row : row + 1], position_ids=at)
        torch.testing.assert_close(both[row], alone[0], atol=1e-4, rtol=1e-4)


def test_a_decoder_that_stretches_itself_is_refused() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    model = LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=rope))
    with pytest.raises(UserError, match="stretches its rotary positions itself"):
        frequencies(model.model)
    with pytest.raises(UserError, match="no rotary positions"):
        frequencies(torch.nn.Linear(1, 1))
