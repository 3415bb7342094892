"""The recipe of explain-compress: pairs from answers, a predictor from pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from explain_compress import Match, Pairs, collect, predictor, predictor_recipe, questions
from safetensors.torch import save_file

import sparsight
from sparsight.core.errors import UserError
from sparsight.modules.relevance import RelevancePredictor
from sparsight.ops.relevance import relevance_target
from sparsight.train.run import run
from sparsight.vlm.load import find_model
from sparsight.world.exam import exam


def write_pairs(path: Path, count: int = 24, tokens: int = 20) -> None:
    attention = torch.rand(count, tokens)
    save_file({"attention": attention, "relevance": attention.roll(1, -1)}, path)


def test_questions_come_from_training_scenes_task_by_task() -> None:
    stream = questions(frames=1)
    items = [next(stream) for _ in range(4)]
    assert [item.question.task for item in items] == ["color", "shape", "exists", "where"]
    assert {item.scene.split for item in items} == {"train"}


def test_pairs_hold_targets_and_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.safetensors")
    pairs = Pairs(tmp_path / "pairs.safetensors")
    attention, target = pairs[3]
    assert len(pairs) == 24
    assert torch.equal(target, relevance_target(attention.roll(1, -1)))
    with pytest.raises(UserError, match=r"python recipes/explain_compress\.py"):
        Pairs(tmp_path / "none.safetensors")


def test_the_loss_is_the_divergence_from_the_target() -> None:
    parts = predictor()
    objective = Match(parts)
    attention, target = torch.rand(4, 20), relevance_target(torch.rand(4, 20))
    batch = objective.collate(list(zip(attention, target, strict=True)))
    losses, metrics = objective.forward(batch)
    told = parts.model(attention).log_softmax(-1)
    expected = torch.nn.functional.kl_div(told, target, reduction="batchmean")
    torch.testing.assert_close(losses["divergence"], expected)
    assert 0 < metrics["found"] <= 1


def test_a_run_ends_with_one_file_that_the_system_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out/explain-compress").mkdir(parents=True)
    write_pairs(tmp_path / "out/explain-compress/pairs.safetensors")
    values = {"stages.predict.steps": "3", "stages.predict.batch": "4"}
    done = run(predictor_recipe("few", 1), tmp_path / "run", set=values, device="cpu")
    assert done.model is not None
    assert [path.name for path in done.model.iterdir()] == ["predictor.safetensors"]
    made = RelevancePredictor.load(done.model / "predictor.safetensors")
    assert made(torch.rand(1, 33)).shape == (1, 33)


@pytest.mark.skipif(
    not any(find_model("mini").glob("*.safetensors")), reason="the embedded model is not there"
)
def test_pairs_are_made_of_what_the_embedded_model_answers_rightly() -> None:
    vlm = sparsight.load("mini", dtype="float32", device="cpu")
    before = [value.clone() for value in vlm.family.model.state_dict().values()]
    found = collect(vlm, exam("exists", "train", 100, frames=1), count=2)
    assert found["attention"].shape == found["relevance"].shape
    assert len(found["attention"]) == 2
    assert (found["relevance"].amax(1) > 0).all()
    after = vlm.family.model.state_dict().values()
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
