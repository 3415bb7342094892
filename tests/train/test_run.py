"""A run from recipe to folder: what moves, what is written, what is refused."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

import sparsight
from sparsight.core.errors import UserError
from sparsight.train.objective import Learner, Objective
from sparsight.train.parameters import names_of
from sparsight.train.parts import Parts
from sparsight.train.progress import Show
from sparsight.train.recipe import Lora, Recipe, Stage, check
from sparsight.train.run import Outcome, export, run
from tests.train.families import ANSWER, CLIPS, QUESTION, dialogue, make
from tests.train.tiny import Calm, CountedLetters, Spell, build, calm_parts, recipe, stage

EARLY = "model.layers.0.*"


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Outcome]:
    """`train(recipe, ...)` runs on the CPU into tmp_path / "out"."""
    return partial(run, out=tmp_path / "out", device="cpu")


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


class Witness:
    """Builds the tiny parts and keeps them, with every weight as it was at each stage's begin."""

    def __init__(self) -> None:
        self.parts: Parts | None = None
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self) -> Parts:
        self.parts = build()
        return self.parts

    def note(self, _: Any) -> tuple[()]:
        assert self.parts is not None
        state = self.parts.model.state_dict()
        plain = {
            name.replace(".base_layer", ""): v for name, v in state.items() if "lora" not in name
        }
        self.seen.append({name: value.clone() for name, value in plain.items()})
        return ()

    def moved(self, stage: int) -> set[str]:
        before, after = self.seen[stage], self.seen[stage + 1]
        return {name for name in before if not torch.equal(before[name], after[name])}


def test_exactly_the_named_parameters_move(train: Callable[..., Outcome]):
    witness = Witness()
    stages = (
        stage("early", train=(EARLY, "objective.*"), steps=2),
        stage("head", train=("lm_head.*", "model.norm.*"), steps=2),
        stage("lora", train=(), adapter=Lora(("*.1.*.q_proj", "*.1.*.up_proj"), rank=2), steps=2),
        stage("rest", steps=1),
    )
    out = train(Recipe("tiny", witness, stages, dtype="float32"), callbacks=witness.note)
    witness.note(None)
    names = set(witness.seen[0])
    assert witness.moved(0) == {name for name in names if name.startswith("model.layers.0.")}
    # the head is tied to the embedding
    assert witness.moved(1) == {"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"}
    assert witness.moved(2) == {
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    }
    assert witness.moved(3) == names
    assert out.model is not None
    opened = AutoModelForCausalLM.from_pretrained(out.model).state_dict()
    assert all(torch.equal(opened[name], value) for name, value in witness.seen[-1].items())


def test_a_part_at_rest_neither_drops_nor_counts():
    class Parked(Objective):
        def __init__(self, parts: Parts) -> None:
            super().__init__(parts)
            self.norm = torch.nn.BatchNorm1d(2)
            self.drop = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))

    learner = Learner(Parked(build()))
    for name, parameter in names_of(learner).items():
        parameter.requires_grad_(name.startswith("objective.drop"))
    learner.train()
    assert not learner.objective.norm.training
    assert not learner.model.model.layers[0].training
    assert learner.objective.drop[1].training


def test_read_outs_go_on_into_the_next_stage_and_stay_out_of_the_model(
    train: Callable[..., Outcome],
):
    kept = []

    class Later(Spell):
        def forward(self, batch: dict[str, Any]) -> Any:
            kept.append(self.early.weight.detach().clone())
            return super().forward(batch)

    first = stage("first", train=("objective.*",), steps=3)
    second = stage("second", train=(EARLY,), objective=Later, steps=2)
    out = train(recipe(first, second))
    torch.manual_seed(0)
    assert torch.equal(kept[0], kept[1])  # at rest in the second stage
    state = torch.load  # noqa: F841
    assert out.model is not None
    config = json.loads((out.model / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert not any(
        "early" in name for name in AutoModelForCausalLM.from_pretrained(out.model).state_dict()
    )
    fresh = Spell(build()).early.weight
    assert not torch.allclose(kept[0], fresh)


def test_read_outs_of_another_shape_are_refused_before_any_step(train: Callable[..., Outcome]):
    class Wider(Spell):
        def __init__(self, parts: Parts) -> None:
            super().__init__(parts)
            self.early = torch.nn.Linear(16, 3)

    steps: list[Any] = []
    with pytest.raises(UserError, match=r"objective\.early\.weight is \(3, 16\)"):
        train(recipe(stage("a"), stage("b", objective=Wider)), callbacks=steps.append)
    assert not steps


def test_accumulating_gives_the_step_of_a_large_batch(tmp_path: Path):
    def losses(batch: int, accumulate: int) -> list[float]:
        out = tmp_path / f"{batch}"
        calm = Recipe(
            "calm", calm_parts, (stage(batch=batch, accumulate=accumulate, objective=Calm),)
        )
        run(calm, out, device="cpu")
        return [line["loss"] for line in lines(out)]

    assert losses(2, 4) == pytest.approx(losses(8, 1), rel=1e-5)


class Talks(CountedLetters):
    """The same question and answer again and again, about a picture if it is told to."""

    def __init__(self, media: Sequence[Any] = ()) -> None:
        super().__init__(4)
        self.media = media

    def __getitem__(self, index: int) -> Any:
        return dialogue(QUESTION, ANSWER, media=self.media, index=index)


def test_the_folder_opens_with_sparsight_and_transformers(
    tmp_path: Path, train: Callable[..., Outcome]
):
    made = make("llava", tmp_path / "checkpoint")
    talks = partial(Talks, [CLIPS["picture"]])
    sft = Stage(
        "sft", talks, 30, ("model.language_model.*", "lm_head.*"), rates={"*": 1e-2}, batch=1
    )
    out = train(Recipe("sft", str(made.folder), (sft,)))
    assert out.model is not None
    vlm = sparsight.load(str(out.model), device="cpu")
    assert vlm.family.model.dtype == torch.bfloat16
    reply = vlm.ask(CLIPS["picture"], QUESTION, max_tokens=20)
    assert (reply.text, reply.finish) == (ANSWER, "stop")
    plain = AutoModelForImageTextToText.from_pretrained(out.model).state_dict()
    tower = {n: v for n, v in made.model.state_dict().items() if "vision_tower" in n}
    assert tower
    assert all(torch.equal(plain[name], value.bfloat16()) for name, value in tower.items())
    names = {path.name for path in out.model.iterdir()}
    assert {"preprocessor_config.json", "processor_config.json"} <= names
    assert (out.model / "model.safetensors").stat().st_mode & 0o044


def test_an_adapter_apart_fits_its_base(tmp_path: Path, train: Callable[..., Outcome]):
    make("llava", tmp_path / "base")
    lora = Stage("lora", Talks, 2, (), batch=1, adapter=Lora(rank=2), merge=False)
    out = train(Recipe("lora", str(tmp_path / "base"), (lora,), dtype="float32"))
    assert out.model is not None
    whole = AutoModelForImageTextToText.from_pretrained(out.model).state_dict()
    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    changed = {n for n, v in base.state_dict().items() if not torch.equal(v, whole[n])}
    assert {name.split(".")[-2] for name in changed} == {"q_proj", "v_proj"}
    put = peft.PeftModel.from_pretrained(base, out.model.parent / "adapter").merge_and_unload()
    for name, value in put.state_dict().items():
        torch.testing.assert_close(value, whole[name])


def test_a_finished_run_is_not_trained_again(train: Callable[..., Outcome]):
    out = train(recipe(stage(steps=2)))
    calls: list[Any] = []
    assert train(recipe(stage(steps=2)), resume=True, callbacks=calls.append) == out
    assert not calls


def test_a_taken_folder_is_refused(tmp_path: Path, train: Callable[..., Outcome]):
    train(recipe(stage(steps=1)))
    with pytest.raises(UserError, match="holds a run already: add --resume"):
        train(recipe(stage(steps=1)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty and holds no run"):
        run(recipe(), tmp_path / "other", device="cpu")


def test_a_changed_recipe_is_refused_with_the_difference(train: Callable[..., Outcome]):
    train(recipe(stage(steps=4)), minutes=0)
    with pytest.raises(UserError) as refused:
        train(
            recipe(stage(steps=4, data=partial(CountedLetters, 8))),
            resume=True,
            set={"stages.spell.batch": 2, "seed": "1"},
        )
    words = str(refused.value)
    assert "stages.spell.batch: 4 -> 2" in words
    assert "seed: 0 -> 1" in words
    letters = "tests.train.tiny.Letters -> tests.train.tiny.CountedLetters(8)"
    assert f"stages.spell.data: {letters}" in words
    free = {"stages.spell.log_every": 2, "stages.spell.save_every": 1, "stages.spell.workers": 0}
    assert train(recipe(stage(steps=4)), resume=True, set=free).model is not None


def test_only_the_named_stages_run(tmp_path: Path, train: Callable[..., Outcome]):
    two = recipe(stage("a", steps=1), stage("b", steps=1))
    train(two, stages=["b"])
    assert {line["stage"] for line in lines(tmp_path / "out")} == {"b"}
    with pytest.raises(UserError, match="unknown stage 'c'"):
        run(two, tmp_path / "other", stages=["c"], device="cpu")


def test_time_is_up_after_a_step_with_a_checkpoint(tmp_path: Path, train: Callable[..., Outcome]):
    out = train(recipe(stage(steps=5)), minutes=0)
    assert (out.model, out.stage, out.step, out.stopped) == (None, "spell", 1, "minutes")
    assert (tmp_path / "out/checkpoints/spell-00000001/model.safetensors").is_file()


def test_the_last_checkpoint_can_be_written_as_a_model(tmp_path: Path):
    lora = stage("lora", train=(), adapter=Lora(("*.q_proj",), rank=2), steps=4)
    two = recipe(stage("first", steps=2), lora, dtype="float32")
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        export(two, tmp_path / "out", tmp_path / "model")
    run(two, tmp_path / "out", device="cpu", minutes=0)
    assert export(two, tmp_path / "out", tmp_path / "model").step == 1
    assert run(two, tmp_path / "out", resume=True, device="cpu").model is not None
    found = export(two, tmp_path / "out", tmp_path / "model")
    assert (found.stage, found.step) == ("lora", 4)
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "model", tmp_path / "out" / "model")
    )
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_on_a_terminal_there_is_a_bar(tmp_path: Path):
    screen = io.StringIO()
    with Show(Console(file=screen, force_terminal=True, width=120)) as show:
        run(recipe(), tmp_path / "out", device="cpu", callbacks=show.callbacks)
    shown = screen.getvalue()
    assert "spell" in shown
    assert "6/6" in shown
    assert "samples/s" in shown


def test_a_check_looks_without_being_noticed(tmp_path: Path):
    asked = []

    def look(parts: Parts) -> dict[str, float]:
        asked.append(parts.model.training)
        torch.rand(3)
        return {"width": float(parts.model.config.hidden_size)}

    run(recipe(), tmp_path / "plain", device="cpu")
    run(recipe(stage(check=look, check_every=3)), tmp_path / "looked", device="cpu")
    assert asked == [False, False]
    logged = lines(tmp_path / "looked")
    assert [(one["step"], one["check/width"]) for one in logged if "check/width" in one] == [
        (3, 16.0), (6, 16.0),
    ]  # fmt: skip
    plain = [line["loss"] for line in lines(tmp_path / "plain")]
    assert [line["loss"] for line in logged if "loss" in line] == plain


def test_the_log_tells_losses_metrics_rates_speed_and_memory(tmp_path: Path):
    two = stage(rates={"objective.*": 1e-2, "*": 1e-3}, log_every=3, floor=0.1)
    run(recipe(two), tmp_path / "out", device="cpu")
    run(
        recipe(stage(rates={"objective.*": 1e-2, "*": 1e-3}, floor=0.1)),
        tmp_path / "each",
        device="cpu",
    )
    three, each = lines(tmp_path / "out"), lines(tmp_path / "each")
    assert [line["step"] for line in three] == [3, 6]
    for name in ("loss", "loss/next", "loss/early", "right"):
        mean = sum(line[name] for line in each[:3]) / 3
        assert three[0][name] == pytest.approx(mean, rel=1e-5)
    assert three[0]["loss"] == pytest.approx(
        three[0]["loss/next"] + three[0]["loss/early"], rel=1e-5
    )
    assert each[0]["rate/objective.*"] == 1e-2
    assert each[0]["rate/*"] == 1e-3
    assert each[-1]["rate/*"] < 3e-4
    assert three[0]["samples_per_second"] > 0
    assert three[0]["memory_mib"] > 10


def test_workers_change_nothing(tmp_path: Path):
    run(recipe(stage(data=partial(CountedLetters, 9))), tmp_path / "none", device="cpu")
    run(recipe(stage(data=partial(CountedLetters, 9), workers=2)), tmp_path / "two", device="cpu")
    losses = [[line["loss"] for line in lines(tmp_path / name)] for name in ("none", "two")]
    assert losses[0] == losses[1]


def test_bfloat16_runs_under_autocast_and_keeps_float32_weights(train: Callable[..., Outcome]):
    types = []

    class Typed(Spell):
        def forward(self, batch: dict[str, Any]) -> Any:
            types.append(self.parts.model(batch["ids"]).logits.dtype)
            types.append(self.early.weight.dtype)
            return super().forward(batch)

    train(recipe(stage(precision="bfloat16", objective=Typed, steps=1)))
    assert set(types) == {torch.bfloat16, torch.float32}


def test_bfloat16_weights_rest_while_an_adapter_learns_in_float32(train: Callable[..., Outcome]):
    types: dict[str, torch.dtype] = {}

    class Typed(Spell):
        def forward(self, batch: dict[str, Any]) -> Any:
            names = self.parts.model.named_parameters()
            types.update({name: value.dtype for name, value in names})
            return super().forward(batch)

    lora = stage(
        precision="bfloat16", objective=Typed, train=("objective.*",), adapter=Lora(("*.q_proj",)),
        steps=2,
    )  # fmt: skip
    train(recipe(lora, weights="bfloat16"))
    learned = {name for name in types if "lora_" in name}
    assert len(learned) == 4
    assert {types[name] for name in learned} == {torch.float32}
    assert {types[name] for name in types.keys() - learned} == {torch.bfloat16}
    with pytest.raises(UserError, match="precision must be bfloat16 for such weights"):
        check(recipe(weights="bfloat16"))


def test_activations_computed_again_change_nothing(tmp_path: Path):
    again = {"gradient_checkpointing": True}
    witness = Witness()
    run(Recipe("again", witness, (stage(),), trainer=again), tmp_path / "again", device="cpu")
    assert witness.parts is not None
    assert witness.parts.model.is_gradient_checkpointing
    run(recipe(), tmp_path / "kept", device="cpu")
    losses = [[line["loss"] for line in lines(tmp_path / name)] for name in ("again", "kept")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_training_arguments_pass_through_and_mistakes_are_named(train: Callable[..., Outcome]):
    wrong = dataclasses.replace(recipe(), trainer={"fdsp": True})
    with pytest.raises(UserError, match=r"`trainer` of the recipe: .*fdsp"):
        train(wrong)


def test_numbers_below_normal_are_zero_in_a_run_and_what_they_were_after_it(train):
    def tiny() -> bool:
        return bool(torch.tensor(1e-40) * 1.0 == 0)

    before, inside = tiny(), []

    def note(_: Stage) -> tuple[()]:
        inside.append(tiny())
        return ()

    train(recipe(stage(steps=1)), callbacks=note)
    assert inside == [True]
    assert tiny() == before
