from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.slots import Chosen, Request
from sparsight.core.tokens import FeatureMap, Views, VisualTokens
from sparsight.measure.costs import cost_rows
from sparsight.measure.flops import counted_flops
from sparsight.vlm import viewer as viewer_module
from sparsight.vlm.pipeline import VLM
from sparsight.vlm.seeing import _with_share
from sparsight.vlm.viewer import ModelViewer, opening_tokens
from tests.vlm.tiny import QUESTION, WIDE, film, movie, user

FRAMES = film(40, 52, 3, frames=5)
TEXTS = ["is it a cat ? A. yes, B. no", "where ?"]


@torch.inference_mode()
def by_hand(vlm: VLM, option: str = "A") -> Tensor:
    """The same probabilities, one prompt after the other."""
    rows = []
    token = vlm.family.tokenizer(option, add_special_tokens=False)["input_ids"][0]
    for frame in FRAMES:
        clip = Clip.from_frames(frame[None], fps=1.0)
        for text in TEXTS:
            [prepared] = vlm.prepare([[user(clip, text)]])
            out = vlm.family.model(
                inputs_embeds=prepared.prompt.embeds[None],
                position_ids=prepared.prompt.positions,
            )
            rows.append(out.logits[0, -1].double().softmax(-1)[token])
    return torch.stack(rows).view(len(FRAMES), len(TEXTS))


@pytest.mark.parametrize("option", ["A", "B"])
def test_an_options_probability_is_that_of_its_token_behind_the_prompt(
    vlm: VLM, option: str
) -> None:
    got = ModelViewer(vlm).probability(FRAMES, TEXTS, option)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, by_hand(vlm, option), atol=1e-6, rtol=1e-4)
    assert got.std() > 0


def test_memory_is_bounded_and_bounds_change_nothing(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelViewer(vlm).probability(FRAMES, TEXTS)
    sizes: list[tuple[int, ...]] = []

    def note(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        sizes.append(tuple(kwargs["inputs_embeds"].shape[:2]))

    monkeypatch.setattr(viewer_module, "FRAMES", 2)
    monkeypatch.setattr(viewer_module, "TOKENS", 60)
    hook = vlm.family.decoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        parts = ModelViewer(vlm).probability(FRAMES, TEXTS)
    finally:
        hook.remove()
    assert [rows for rows, _ in sizes] == [1, 1, 2, 1, 1, 2, 1, 1]
    assert all(rows == 1 or rows * length <= 60 for rows, length in sizes)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)
    assert ModelViewer(vlm).probability(FRAMES[:0], TEXTS).shape == (0, 2)


def test_the_model_answers_without_the_systems_on_it(vlm: VLM) -> None:
    fast = vlm.using("uniform", keep=2).using("fastv", keep=1, layer=1)
    plain, asked = ModelViewer(vlm), fast.request("", 1).viewer
    assert asked is not None
    assert torch.equal(asked.probability(FRAMES[:2], TEXTS), plain.probability(FRAMES[:2], TEXTS))
    clip = Clip.from_frames(FRAMES, fps=1.0)
    spoken = vlm.ask(clip, QUESTION, max_tokens=6, frames="all", temperature=0).text
    assert asked.answer(QUESTION, FRAMES, max_tokens=6) == spoken
    silent = vlm.chat([user(QUESTION)], max_tokens=6, temperature=0).text
    assert asked.answer(QUESTION, max_tokens=6) == silent


def test_a_plans_own_frames_do_not_bind_the_viewer(vlm: VLM) -> None:
    few = vlm.planned(Plan(frames="uniform:2"))
    viewer = few.request("", 1).viewer
    assert viewer is not None
    assert viewer.answer(QUESTION, FRAMES, max_tokens=6) == ModelViewer(vlm).answer(
        QUESTION, FRAMES, max_tokens=6
    )


class Call(nn.Module):
    def __init__(self, run: Callable[[], Any]) -> None:
        super().__init__()
        self.run = run

    def forward(self) -> None:
        self.run()


def test_what_is_asked_is_counted(vlm: VLM) -> None:
    viewer = ModelViewer(vlm)
    counted = counted_flops(Call(lambda: viewer.probability(FRAMES, TEXTS)))
    assert viewer.flops == pytest.approx(counted, rel=0.01)
    before = viewer.flops
    counted = counted_flops(Call(lambda: viewer.answer(QUESTION, FRAMES, max_tokens=3)))
    assert viewer.flops - before == pytest.approx(counted, rel=0.01)


# ---- another checkpoint ------------------------------------------------------------------------


def test_another_checkpoint_is_loaded_once_and_counted(
    vlm: VLM, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = viewer_module.load_family

    def counting(model: str, **options: Any) -> Any:
        loads.append(model)
        assert options == {"device": vlm.family.model.device}
        return load(model, **options)

    monkeypatch.setattr(viewer_module, "load_family", counting)
    plain = vlm.planned(Plan())  # its name is that of the folder
    assert ModelViewer(plain).other("self").other(folder) is not None
    assert loads == []
    named = VLM(vlm.family, Plan("another name"))
    viewer = ModelViewer(named)
    other = viewer.other(folder)
    assert other is viewer.other(folder) is not viewer
    assert other.other("self") is viewer
    assert ModelViewer(named).other(folder).vlm.family is other.vlm.family
    assert loads == [folder]
    sure = other.probability(FRAMES[:2], TEXTS)
    torch.testing.assert_close(sure, viewer.probability(FRAMES[:2], TEXTS))
    assert viewer.flops == other.flops == 2 * viewer._flops
    with pytest.raises(UserError, match="neither a folder"):
        viewer.other("nowhere")


def test_where_no_model_can_be_asked_it_says_so() -> None:
    with pytest.raises(UserError, match="cannot be used here"):
        Request("?", torch.zeros(0, 4)).asking()


# ---- the token of an option --------------------------------------------------------------------


PIECES = {0: "<unk>", 1: "y", 2: "A", 3: " ", 9: "\u2581", 32: "A", 362: " A"}


class Cutter:
    """A tokenizer that cuts these texts; "_" stands for a space."""

    unk_token_id = 0

    def __init__(self, **ids: list[int]) -> None:
        self.ids = ids

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": self.ids[text.replace(" ", "_")]}

    def decode(self, ids: list[int]) -> str:
        [token] = ids
        return PIECES[token]


@pytest.mark.parametrize(
    ("option", "ids", "tokens"),
    [
        ("A", {"A": [32], "_A": [362]}, [32, 362]),
        ("A", {"A": [32], "_A": [3, 32]}, [32]),
        ("A", {"A": [5], "_A": [5]}, [5]),
        ("yes", {"yes": [4], "_yes": [6], "Yes": [2, 2], "_Yes": [7]}, [4, 6, 7]),
        # no token of its own: the first piece, if it is a piece of the word
        ("yes", {"yes": [1, 8], "_yes": [3, 1, 8], "Yes": [2, 8], "_Yes": [3, 2]}, [1]),
    ],
)
def test_an_answer_begins_with_the_options_token_in_all_its_forms(
    option: str, ids: dict[str, list[int]], tokens: list[int]
) -> None:
    assert opening_tokens(Cutter(**ids), option) == tokens


@pytest.mark.parametrize("ids", [{"A": [3, 1], "_A": [3, 3]}, {"A": [0], "_A": [0]}])
def test_an_option_that_cannot_be_written_is_refused(ids: dict[str, list[int]]) -> None:
    with pytest.raises(UserError, match="cannot write 'A'"):
        opening_tokens(Cutter(**ids), "A")


# ---- systems that ask --------------------------------------------------------------------------


@dataclass(frozen=True)
class Asks:
    """Takes the frames that the model is surest of, and what share it is of all."""

    system_name = "asks"
    texts: list[str] = field(default_factory=list)
    shares: list[Tensor] = field(default_factory=list)

    def select(self, clip: Clip, request: Request) -> Chosen:
        self.texts.append(request.text)
        sure = request.asking().probability(clip.frames(), [request.text])[:, 0]
        best = sure.argsort(descending=True)[:3].sort().values
        return Chosen(best.tolist(), sure[best] / sure[best].sum())

    def connect(self, features: FeatureMap) -> VisualTokens | None:
        share = features.views.share
        if share is not None:
            self.shares.append(share)
        return None


def asking(vlm: VLM) -> tuple[VLM, Asks]:
    system = Asks()
    return VLM(vlm.family, dataclasses.replace(vlm.plan, systems=(system,))), system


def test_a_system_may_ask_the_model_which_frames_to_take(vlm: VLM) -> None:
    fast, system = asking(vlm)
    reply = fast.ask([WIDE, movie(6)], QUESTION, max_tokens=2)
    sure = ModelViewer(vlm).probability(movie(6).frames(), [QUESTION])[:, 0]
    best = sure.argsort(descending=True)[:3].sort().values.tolist()
    assert [item.frames for item in reply.maps] == [(0,), tuple(best)]
    assert system.texts == [QUESTION]
    [share] = system.shares  # a picture has none
    torch.testing.assert_close(share, sure[best] / sure[best].sum())


def test_what_choosing_costs_stands_in_the_reply(vlm: VLM) -> None:
    fast, _ = asking(vlm)
    reply = fast.ask(movie(6), QUESTION, max_tokens=2)
    plain = vlm.ask(movie(6), QUESTION, max_tokens=1)
    assert list(reply.timing.stages)[:3] == ["fetch", "select", "decode"]
    assert reply.timing.stages["select"] > 0
    assert sum(reply.timing.stages.values()) <= reply.timing.total
    viewer = ModelViewer(vlm)
    viewer.probability(movie(6).frames(), [QUESTION])
    assert reply.flops.select == viewer.flops > 0
    assert reply.flops.total > reply.flops.select
    assert plain.flops.select == 0
    named = [[name for name, _, _ in cost_rows(one)] for one in (reply, plain)]
    assert ["FLOPs, select" in names for names in named] == [True, False]
    assert "select" not in plain.timing.stages
    [first, second] = fast.chat_batch(
        [[user(movie(6), QUESTION)], [user(movie(4), QUESTION)]], max_tokens=1
    )
    assert first.flops.select == reply.flops.select > second.flops.select


def test_a_connector_may_leave_a_medium_to_the_family(vlm: VLM) -> None:
    fast, _ = asking(vlm)
    [mine] = fast.encode(WIDE)
    [whole] = vlm.encode(WIDE)
    assert torch.equal(mine.embeds, whole.embeds)


@pytest.mark.parametrize(
    ("roles", "share"),
    [
        (["frame"] * 5, [1.0, 2, 3, 4, 5]),
        (["frame"] * 3, [3.0, 7, 5]),  # two frames a view, the last alone
        (["frame"] * 3 + ["thumbnail"], [3.0, 7, 5, 0]),
    ],
)
def test_a_view_of_several_frames_has_their_sum(roles: list[str], share: list[float]) -> None:
    nothing = torch.zeros(len(roles), 4)
    views = Views("video", {}, nothing, nothing[:, 0], tuple(roles), (1, 1), (9, 9))
    shared = _with_share(views, torch.tensor([1.0, 2, 3, 4, 5]))
    assert shared.share is not None
    assert shared.share.tolist() == share
