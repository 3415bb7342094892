from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.errors import UserError
from sparsight.modules.relevance import RelevancePredictor
from sparsight.ops.relevance import relevance_target


@pytest.mark.parametrize("count", [16, 17, 136, 4096])
def test_any_number_of_tokens_will_do(count: int) -> None:
    model = RelevancePredictor(channels=(4, 8))
    logits = model(torch.rand(2, count))
    assert logits.shape == (2, count)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits.log_softmax(-1)).all()


def test_it_is_as_published_where_that_is_known() -> None:
    convolutions = [
        part for part in RelevancePredictor().modules() if isinstance(part, torch.nn.Conv1d)
    ]
    assert [part.out_channels for part in convolutions[1::2]] == [32, 64, 128, 256, 512]
    assert [part.groups for part in convolutions[:-1:2]] == [1, 32, 64, 128, 256]
    assert convolutions[-1].out_channels == 1


def test_the_size_of_attention_tells_nothing_its_shape_does() -> None:
    model, attention = RelevancePredictor(channels=(4, 8)), torch.rand(1, 40)
    torch.testing.assert_close(model(attention / 1000), model(attention))
    moved = model(attention.roll(3, -1))[0, 15:30]
    torch.testing.assert_close(moved, model(attention)[0, 12:27])


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    model, attention = RelevancePredictor(channels=(4, 8)), torch.rand(3, 40)
    torch.testing.assert_close(model(attention)[1:2], model(attention[1:2]))


def ranks(x: Tensor) -> Tensor:
    return x.argsort().argsort().float()


def agreement(x: Tensor, y: Tensor) -> float:
    """The mean rank correlation of rows."""
    pairs = zip(x, y, strict=True)
    found = [torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1] for a, b in pairs]
    return float(torch.stack(found).mean())


def test_it_learns_what_the_attention_alone_does_not_rank() -> None:
    """What is relevant: tokens beside those that draw attention, where these stand together."""
    attention = torch.rand(160, 48) ** 4
    near = functional.avg_pool1d(attention[:, None], 7, 1, 3, count_include_pad=False)[:, 0]
    relevance = near**2
    target = relevance_target(relevance)
    model = RelevancePredictor(channels=(8, 16))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(80):
        rows = torch.arange(step * 32, step * 32 + 32) % 128
        divergence = -(target[rows] * model(attention[rows]).log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        divergence.backward()
        optimizer.step()
        losses.append(divergence.item())
    assert losses[-1] < losses[0] - 0.1
    held_out = slice(128, None)
    told = agreement(model(attention[held_out]).detach(), relevance[held_out])
    assert told > agreement(attention[held_out], relevance[held_out]) + 0.2


def test_a_saved_predictor_is_read_again(tmp_path: Path) -> None:
    model = RelevancePredictor(channels=(4, 8), kernel=3)
    model.save(tmp_path / "p.safetensors")
    again = RelevancePredictor.load(tmp_path / "p.safetensors")
    attention = torch.rand(2, 20)
    assert torch.equal(again(attention), model(attention))
    assert not again.training


def test_a_file_that_is_no_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such predictor"):
        RelevancePredictor.load(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not the file of a relevance predictor"):
        RelevancePredictor.load(tmp_path / "broken.safetensors")
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not the file of a relevance predictor"):
        RelevancePredictor.load(tmp_path / "other.safetensors")
