from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsight import Cancel, Plan
from sparsight.core.errors import UserError
from sparsight.core.reply import Reply
from sparsight.measure.flops import counted_flops, decoder_shape
from sparsight.measure.memory import kv_bytes
from sparsight.vlm.pipeline import VLM
from tests.vlm.tiny import QUESTION, TALL, WIDE, assistant, movie, user

PLANS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "plain": [],
    "fastervlm": [("fastervlm", {"keep": 0.25})],
    "fastv": [("fastv", {"keep": 0.5, "layer": 2})],
    "tome": [("tome", {"r": 4})],
    "fastervlm+fastv": [("fastervlm", {"keep": 0.5}), ("fastv", {"keep": 4, "layer": 3})],
    "damro": [("damro", {"k": 2})],
}


def planned(vlm: VLM, name: str) -> VLM:
    for system, knobs in PLANS[name]:
        vlm = vlm.using(system, **knobs)
    return vlm


@pytest.fixture(params=list(PLANS))
def fast(request: pytest.FixtureRequest, vlm: VLM) -> VLM:
    """The model under each plan."""
    return planned(vlm, request.param)


@contextmanager
def watched(module: nn.Module) -> Iterator[list[int]]:
    """One entry for every call of a module."""
    calls: list[int] = []
    hook = module.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


def hung_on(vlm: VLM) -> list[str]:
    """Everything of ours that hangs on the model (transformers leaves hooks of its own)."""
    found = []
    for name, part in vlm.family.model.named_modules():
        every = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
        ours = [hook for hook in every if not hook.__module__.startswith("transformers.")]
        redirected = hasattr(part.__dict__.get("config"), "sparsight_original")
        if ours or redirected or "forward" in part.__dict__:
            found.append(name)
    return found


def refused_before_work(vlm: VLM, ask: Callable[[], Any]) -> str:
    """The one line of a refusal that came before the tower ran."""
    with watched(vlm.family.tower("image")) as calls, pytest.raises(UserError) as caught:
        ask()
    assert calls == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- views on the same weights -----------------------------------------------------------------


def test_using_leaves_the_original_as_it_was(vlm: VLM) -> None:
    before = vlm.ask(WIDE, QUESTION, max_tokens=3)
    fast = vlm.using("fastervlm", keep=0.25)
    reply = fast.ask(WIDE, QUESTION, max_tokens=3)
    after = vlm.ask(WIDE, QUESTION, max_tokens=3)
    assert fast.family is vlm.family
    assert vlm.plan == Plan(vlm.plan.model)
    assert before.usage == after.usage
    assert before.tokens == after.tokens
    assert reply.usage.visual_kept < before.usage.visual_kept == before.usage.visual_seen


def test_a_model_says_what_is_on_it(vlm: VLM) -> None:
    assert repr(planned(vlm, "fastervlm+fastv")).endswith("(LLaVA-OneVision) fastervlm + fastv>")
    assert repr(vlm).endswith("(LLaVA-OneVision) plain>")


def test_planned_keeps_the_model_and_takes_the_rest(vlm: VLM) -> None:
    other = vlm.planned(Plan("another", frames="uniform:2", seed=5))
    assert (other.plan.model, other.plan.frames, other.plan.seed) == (
        vlm.plan.model,
        "uniform:2",
        5,
    )
    assert other.ask(movie(), QUESTION, max_tokens=1).maps[0].frames == (0, 3)


# ---- the ways to ask ---------------------------------------------------------------------------


def test_all_ways_to_ask_give_the_same_answer(fast: VLM) -> None:
    asked = fast.ask([WIDE, movie()], QUESTION, max_tokens=4)
    messages = [user(WIDE, movie(), QUESTION)]
    chatted = fast.chat(messages, max_tokens=4)
    [batched] = fast.chat_batch([messages], max_tokens=4)
    stream = fast.generate(messages, max_tokens=4)
    pieces = list(stream)
    assert asked.tokens == chatted.tokens == batched.tokens
    assert stream.result is not None
    assert stream.result.tokens == asked.tokens
    assert asked.usage == stream.result.usage
    assert tuple(token for piece in pieces for token in piece.tokens) == asked.tokens
    assert "".join(piece.text for piece in pieces).strip() == asked.text == str(asked)


def test_pieces_given_to_a_listener_join_to_the_text(fast: VLM) -> None:
    pieces: list[str] = []
    reply = fast.ask(WIDE, QUESTION, max_tokens=6, on_text=pieces.append)
    assert len(pieces) > 1
    assert "".join(pieces).strip() == reply.text


def test_encode_gives_the_tokens_the_llm_is_given(fast: VLM) -> None:
    picture, film = fast.encode([WIDE, movie()])
    reply = fast.ask([WIDE, movie()], QUESTION, max_tokens=1)
    assert [item.kept.tolist() for item in reply.maps] == [
        picture.index.tolist(),
        film.index.tolist(),
    ]
    assert len(picture) + len(film) == reply.usage.visual_kept
    assert [len(item) for item in fast.encode(WIDE)] == [len(picture)]


def test_a_batch_gives_every_row_what_it_gets_alone(fast: VLM) -> None:
    conversations = [
        [user(WIDE, "what is the colour of the cat in it ? one word .")],
        [user("where is the cat ?")],
        [user(movie(), TALL, QUESTION)],
    ]
    for row, messages in zip(
        fast.chat_batch(conversations, max_tokens=4), conversations, strict=True
    ):
        alone = fast.chat(messages, max_tokens=4)
        assert row.tokens == alone.tokens
        assert row.text == alone.text
        assert row.usage == alone.usage
        assert row.flops == alone.flops
        assert [item.kept.tolist() for item in row.maps] == [
            item.kept.tolist() for item in alone.maps
        ]


def test_several_turns_are_one_prompt(fast: VLM) -> None:
    turns = [user(TALL, QUESTION), assistant("a red cat ."), user("where is the cat ?")]
    reply = fast.chat(turns, max_tokens=3)
    first = fast.chat(turns[:1], max_tokens=3)
    assert reply.usage.visual_seen == first.usage.visual_seen
    assert reply.usage.prompt > first.usage.prompt
    text = fast.family.prompt_text(
        [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
            {"role": "assistant", "content": [{"type": "text", "text": "a red cat ."}]},
            {"role": "user", "content": [{"type": "text", "text": "where is the cat ?"}]},
        ]
    )
    words = len(fast.family.ids(text)) - 1
    assert reply.usage.prompt == words + reply.usage.visual_kept


def test_text_alone_is_answered(fast: VLM) -> None:
    reply = fast.chat([user("where is the cat ?")], max_tokens=2)
    assert (reply.usage.visual_seen, reply.maps, reply.flops.tower) == (0, (), 0)


def test_a_reply_is_plain_values_for_json(fast: VLM) -> None:
    reply = fast.ask(WIDE, QUESTION, max_tokens=2)
    body = json.loads(json.dumps(reply.as_dict()))
    assert body["tokens"] == list(reply.tokens)
    assert body["usage"]["visual_kept"] == reply.usage.visual_kept
    assert body["kept"] == [item.kept.tolist() for item in reply.maps]


def test_stages_add_up_to_no_more_than_the_whole(fast: VLM) -> None:
    timing = fast.ask(movie(), QUESTION, max_tokens=3).timing
    assert list(timing.stages) == [
        "fetch",
        "decode",
        "preprocess",
        "encode",
        "connect+reduce",
        "prefill",
    ]
    assert min(timing.stages.values()) >= 0
    assert sum(timing.stages.values()) + sum(timing.steps) <= timing.total
    assert sum(timing.stages.values()) <= timing.first_token * 1.001 <= timing.total
    assert len(timing.steps) == 2


# ---- stopping ----------------------------------------------------------------------------------


def test_cancelling_stops_within_one_token(fast: VLM) -> None:
    cancel = Cancel()
    heard: list[str] = []

    def listen(text: str) -> None:
        heard.append(text)
        cancel.cancel()

    reply = fast.ask(WIDE, QUESTION, max_tokens=200, on_text=listen, cancel=cancel)
    assert reply.finish == "cancelled"
    assert 1 <= len(reply.tokens) <= 3  # a token may have no text of its own yet


def test_cancelling_before_the_start_costs_one_token(vlm: VLM) -> None:
    cancel = Cancel()
    cancel.cancel()
    reply = vlm.ask(WIDE, QUESTION, max_tokens=50, cancel=cancel)
    assert (reply.finish, len(reply.tokens)) == ("cancelled", 1)


def test_closing_a_stream_leaves_no_hooks(vlm: VLM) -> None:
    fast = planned(vlm, "fastervlm+fastv")
    with fast.generate([user(WIDE, QUESTION)], max_tokens=200) as stream:
        next(stream)
    assert hung_on(vlm) == []


def test_an_answer_ends_with_its_end_token(vlm: VLM) -> None:
    first = vlm.ask(WIDE, QUESTION, max_tokens=3).tokens
    ends = vlm.family.model.generation_config
    before = ends.eos_token_id
    ends.eos_token_id = first[1]
    try:
        reply = vlm.ask(WIDE, QUESTION, max_tokens=9)
        rows = vlm.chat_batch([[user(WIDE, QUESTION)], [user(TALL, QUESTION)]], max_tokens=9)
    finally:
        ends.eos_token_id = before
    cut = first[: first.index(first[1]) + 1]
    assert (reply.tokens, reply.finish) == (cut, "stop")
    assert (rows[0].tokens, rows[0].finish) == (cut, "stop")
    assert vlm.ask(WIDE, QUESTION, max_tokens=3).finish == "length"


# ---- what it costs -----------------------------------------------------------------------------


class Call(nn.Module):
    """A call as a module, so that its operations can be counted."""

    def __init__(self, run: Callable[[], Any]) -> None:
        super().__init__()
        self.run = run
        self.result: Any = None

    def forward(self) -> None:
        self.result = self.run()


def counted(run: Callable[[], Any]) -> tuple[float, Any]:
    call = Call(run)
    return counted_flops(call), call.result


def test_operations_by_formula_are_those_that_run(fast: VLM) -> None:
    media = [WIDE, movie()]
    tower, _ = counted(lambda: fast.encode(media))
    first, reply = counted(lambda: fast.ask(media, QUESTION, max_tokens=1))
    assert tower == pytest.approx(reply.flops.tower, rel=0.01)
    assert first - tower == pytest.approx(reply.flops.prefill, rel=0.01)
    assert reply.flops.decode == 0
    assert reply.flops.total == reply.flops.tower + reply.flops.prefill


def test_decoding_costs_what_the_formula_says(vlm: VLM) -> None:
    fast = planned(vlm, "fastervlm+fastv")
    first, _ = counted(lambda: fast.ask(movie(), QUESTION, max_tokens=1))
    whole, reply = counted(lambda: fast.ask(movie(), QUESTION, max_tokens=4))
    assert len(reply.tokens) == 4
    assert whole - first == pytest.approx(reply.flops.decode, rel=0.01)


def test_fewer_tokens_cost_less(vlm: VLM) -> None:
    plain = vlm.ask(movie(8), QUESTION, max_tokens=2)
    spent = {
        name: planned(vlm, name).ask(movie(8), QUESTION, max_tokens=2)
        for name in PLANS
        if name != "plain"
    }
    assert spent["tome"].flops.tower < 0.9 * plain.flops.tower
    assert spent["tome"].flops.prefill == plain.flops.prefill
    for name in ("fastervlm", "fastv", "fastervlm+fastv"):
        assert spent[name].flops.tower == plain.flops.tower
        assert spent[name].flops.prefill < 0.8 * plain.flops.prefill
        assert spent[name].kv_bytes < 0.8 * plain.kv_bytes


def test_the_cache_holds_the_tokens_of_every_layer_and_no_more(fast: VLM) -> None:
    reply = fast.ask(WIDE, QUESTION, max_tokens=4)
    shape = decoder_shape(fast.family.decoder.config)
    [item] = reply.maps
    text = reply.usage.prompt - reply.usage.visual_kept
    layers = [
        text + int((item.layers > layer).sum()) + len(reply.tokens) - 1
        for layer in range(shape.layers)
    ]
    held = kv_bytes(shape, layers, value_bytes=4)
    [prepared] = fast.prepare([[user(WIDE, QUESTION)]])
    if prepared.second is not None:
        more = len(prepared.second) + len(reply.tokens) - 1
        held += kv_bytes(shape, [more] * shape.layers, value_bytes=4)
    assert reply.kv_bytes == held


def test_usage_follows_from_the_maps(fast: VLM) -> None:
    reply = fast.ask([WIDE, movie()], QUESTION, max_tokens=1)
    depth = len(fast.family.decoder.layers)  # type: ignore[arg-type]
    assert reply.usage.visual_seen == sum(len(item.box) for item in reply.maps)
    assert reply.usage.visual_kept == sum(len(item.kept) for item in reply.maps)
    lived = sum(int(item.layers.sum()) for item in reply.maps)
    assert reply.usage.visual_mean == pytest.approx(lived / depth)
    assert len(reply.tokens) == reply.usage.answer == 1


def test_maps_say_what_was_kept_and_how_long(vlm: VLM) -> None:
    fast = planned(vlm, "fastervlm+fastv")
    [item] = fast.ask(movie(), QUESTION, max_tokens=1).maps
    whole = vlm.ask(movie(), QUESTION, max_tokens=1).maps[0]
    assert item.origin == "film 1"
    assert (item.depth, item.frames, item.role) == (5, (0, 1, 2, 3), ("frame",) * 4)
    assert item.box.allclose(whole.box, atol=1e-6)
    assert len(item.kept) == len(item.kept_box) == len(item.weight) == len(item.layers)
    assert torch.equal(item.kept_box, item.box[item.kept])
    assert torch.equal(item.kept_view, item.view[item.kept])
    assert torch.equal(item.kept_time, item.time[item.kept])
    newline = item.kept_view < 0
    assert item.layers[newline].tolist() == [5]  # separators live through all layers
    assert sorted(item.layers[~newline].tolist()) == [3] * (len(item.kept) - 5) + [5] * 4


def test_merged_tokens_cover_their_members(vlm: VLM) -> None:
    [item] = vlm.using("pool", keep=0.25).ask(movie(), QUESTION, max_tokens=1).maps
    real = item.kept_view >= 0
    assert item.weight[real].sum() == (item.view >= 0).sum()
    boxes = item.kept_box[real & (item.kept_view == 0)]
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert area >= 0.99


# ---- positions ---------------------------------------------------------------------------------


@torch.no_grad()
def greedy_by_hand(vlm: VLM, fast: VLM, steps: int) -> tuple[list[int], int]:
    """Greedy decoding of a reduced prompt, everything computed anew for each token."""
    [prepared] = fast.prepare([[user(WIDE, QUESTION)]])
    prompt = prepared.prompt
    table = vlm.family.model.get_input_embeddings()
    embeds, positions = prompt.embeds[None], prompt.positions
    answer: list[int] = []
    for _ in range(steps):
        out = vlm.family.model(inputs_embeds=embeds, position_ids=positions)
        answer.append(int(out.logits[0, -1].argmax()))
        embeds = torch.cat([embeds, table(torch.tensor([[answer[-1]]]))], 1)
        positions = torch.cat([positions, positions[:, -1:] + 1], 1)
    return answer, prompt.length


@pytest.mark.parametrize("policy", ["keep", "renumber"])
def test_decoding_goes_on_behind_the_prompt(vlm: VLM, policy: str) -> None:
    fast = vlm.using("fastervlm", keep=0.25, positions=policy)
    answer, length = greedy_by_hand(vlm, fast, 5)
    seen: list[list[int]] = []
    rotary: Any = vlm.family.decoder.rotary_emb

    def note(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(kwargs.get("position_ids", args[-1])[0].tolist())

    hook = rotary.register_forward_pre_hook(note, with_kwargs=True)
    try:
        reply = fast.ask(WIDE, QUESTION, max_tokens=5)
    finally:
        hook.remove()
    assert list(reply.tokens) == answer
    first = length if policy == "keep" else reply.usage.prompt
    assert seen[1:] == [[first + step] for step in range(4)]
    assert seen[0][-1] == first - 1


def test_dropping_inside_the_llm_leaves_positions_alone(vlm: VLM) -> None:
    """FastV by hand: full attention at every layer, dropped tokens masked from the layer on."""
    fast = vlm.using("fastv", keep=0.5, layer=2)
    [item] = fast.ask(WIDE, QUESTION, max_tokens=1).maps
    [prepared] = vlm.prepare([[user(WIDE, QUESTION)]])
    prompt = prepared.prompt
    gone = prompt.visual.nonzero()[:, 0][item.layers < item.depth]
    assert len(gone) == item.layers.lt(5).sum() > 0
    length = len(prompt)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    cut = causal.clone()
    cut[:, gone] = False
    cut[gone, gone] = True

    def mask(layer: int) -> Callable[..., Any]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> Any:
            chosen = causal if layer < 2 else cut
            return args, {**kwargs, "attention_mask": chosen[None, None]}

        return hook

    layers: Any = vlm.family.decoder.layers
    added = [
        layer.register_forward_pre_hook(mask(place), with_kwargs=True)
        for place, layer in enumerate(layers)
    ]
    try:
        with torch.no_grad():
            logits = vlm.family.model(
                inputs_embeds=prompt.embeds[None], position_ids=prompt.positions
            ).logits[0, -1]
    finally:
        for hook in added:
            hook.remove()
    assert fast.ask(WIDE, QUESTION, max_tokens=1).tokens == (int(logits.argmax()),)


# ---- generation settings -----------------------------------------------------------------------


def test_a_seed_gives_the_same_tokens_and_another_gives_others(vlm: VLM) -> None:
    def answer(seed: int, **more: Any) -> tuple[int, ...]:
        seeded = vlm.planned(Plan(seed=seed))
        return seeded.ask(WIDE, QUESTION, max_tokens=5, temperature=2.0, **more).tokens

    torch.manual_seed(5)
    first = answer(1)
    torch.manual_seed(6)
    assert answer(1) == first
    assert len({answer(seed) for seed in range(4)}) > 1
    assert answer(1, top_k=1) == vlm.ask(WIDE, QUESTION, max_tokens=5).tokens


def test_a_temperature_of_nothing_is_greedy(vlm: VLM) -> None:
    plain = vlm.ask(WIDE, QUESTION, max_tokens=4)
    assert vlm.ask(WIDE, QUESTION, max_tokens=4, temperature=0).tokens == plain.tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"temperatur": 1.0},
            "unknown generation setting 'temperatur'; did you mean 'temperature'",
        ),
        ({"max_new_tokens": 3}, "max_new_tokens is called max_tokens here"),
        (
            {"return_dict_in_generate": False},
            "unknown generation setting 'return_dict_in_generate'",
        ),
        ({"use_cache": False}, "unknown generation setting 'use_cache'"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more, not 0"),
        ({"temperature": -1}, "temperature must be a number of 0 or more, not -1"),
        ({"temperature": "hot"}, "temperature must be a number of 0 or more, not 'hot'"),
        ({"top_p": 2.0}, "top_p must be a number above 0 and up to 1, not 2.0"),
        ({"top_k": -3}, "top_k must be a whole number of 0 or more, not -3"),
        ({"num_beams": 2}, "beam search and several answers a question are not supported"),
        ({"num_return_sequences": 2, "do_sample": True}, "beam search and several answers"),
    ],
)
def test_a_wrong_generation_setting_is_refused_before_any_work(
    vlm: VLM, options: dict[str, Any], message: str
) -> None:
    assert refused_before_work(vlm, lambda: vlm.ask(WIDE, QUESTION, **options)).startswith(message)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("using", "message"),
    [
        (("fastervlm", {"keep": 0}), "fastervlm: keep=0 is not allowed: a share above 0 and up to"),
        (("fastervlm", {"kep": 1}), "unknown knob of fastervlm 'kep'; did you mean 'keep'?"),
        (("fastrvlm", {}), "unknown system 'fastrvlm'; did you mean 'fastervlm'?"),
        (
            ("fastv", {"layer": 5}),
            "fastv: layer 5 must lie within 1 to 4, the layers after the",
        ),
    ],
)
def test_a_wrong_system_is_refused_before_any_work(
    vlm: VLM, using: tuple[str, dict[str, Any]], message: str
) -> None:
    name, knobs = using
    assert refused_before_work(vlm, lambda: vlm.using(name, **knobs)).startswith(message)


def test_a_need_that_cannot_be_met_is_one_line_before_any_work(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(vlm.family), "has_cls", lambda *_: False)
    assert refused_before_work(vlm, lambda: vlm.using("fastervlm")) == (
        "fastervlm needs cls attention, which LLaVA-OneVision cannot supply"
    )


def test_a_slot_is_filled_once(vlm: VLM) -> None:
    fast = vlm.using("fastervlm")
    assert refused_before_work(vlm, lambda: fast.using("pool")).startswith(
        "pool and fastervlm both fill the slot 'reduce'"
    )


def test_a_system_for_films_refuses_pictures(vlm: VLM) -> None:
    fast = vlm.using("ts-llava", frames=4, thumbnail=2, samples=8)
    message = refused_before_work(vlm, lambda: fast.ask(WIDE, QUESTION))
    assert message == "ts-llava works on films, and none was given"


@pytest.mark.parametrize("where", ["plan", "call"])
def test_a_frame_selection_beside_a_system_that_selects_is_refused(vlm: VLM, where: str) -> None:
    base = vlm.planned(Plan(frames="uniform:2")) if where == "plan" else vlm
    fast = base.using("ts-llava", frames=4, thumbnail=2, samples=8)
    options = {"frames": "uniform:2"} if where == "call" else {}
    message = refused_before_work(vlm, lambda: fast.ask(movie(), QUESTION, **options))
    assert message == "ts-llava chooses the frames itself: leave out the selection"


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(vlm: VLM, question: str) -> None:
    assert refused_before_work(vlm, lambda: vlm.ask(WIDE, question)) == (
        "the question is empty: write what you want to know"
    )


@pytest.mark.parametrize("mark", ["<image>", "<video>"])
def test_a_placeholder_in_the_text_is_refused(vlm: VLM, mark: str) -> None:
    message = f"the text holds {mark!r}, which stands for a medium: leave it out"
    assert refused_before_work(vlm, lambda: vlm.ask(WIDE, f"what is {mark} ?")) == message
    turns = [user(WIDE, QUESTION), assistant(f"a {mark} cat"), user("where ?")]
    assert refused_before_work(vlm, lambda: vlm.chat(turns)) == message


def test_no_media_at_all_is_refused(vlm: VLM) -> None:
    assert "no media were given" in refused_before_work(vlm, lambda: vlm.ask([], QUESTION))


def test_media_that_the_template_leaves_out_are_an_error(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "{% for message in messages %}{{ message['role'] }}{% endfor %}"
    settings = type(vlm.family.settings)(**{**vars(vlm.family.settings), "chat_template": plain})
    monkeypatch.setattr(vlm.family, "settings", settings)
    with pytest.raises(UserError, match="0 times for 1 media"):
        vlm.ask(WIDE, QUESTION)


def test_a_family_refuses_what_it_does_not_take(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(vlm.family), "supports", frozenset({"picture"}))
    for media, words in (
        ([movie()], "films"),
        ([WIDE, TALL], "several pictures in one prompt"),
        ([WIDE, movie()], "films"),
    ):
        message = refused_before_work(vlm, lambda media=media: vlm.ask(media, QUESTION))
        assert message == f"LLaVA-OneVision does not take {words}"


def test_a_prompt_longer_than_the_model_reads_is_refused(vlm: VLM) -> None:
    decoder = vlm.family.decoder
    with watched(decoder) as calls, pytest.raises(UserError) as caught:
        vlm.ask(WIDE, QUESTION, max_tokens=1024)
    assert calls == []
    assert str(caught.value).endswith("the model has 1024: use fewer frames, or lower max_tokens")
    long = "cat " * 600
    with pytest.raises(UserError, match=r"takes 12\d\d positions and the answer up to 1,"):
        vlm.ask(WIDE, long, max_tokens=1)


def test_what_the_cache_of_a_shorter_prompt_frees_can_be_used(vlm: VLM) -> None:
    """Renumbered tokens take fewer positions, so a longer question fits."""
    plain = vlm.ask(WIDE, QUESTION, max_tokens=1).usage
    words = "a " * ((1024 - plain.prompt) // 2 - 1)
    with pytest.raises(UserError, match="use fewer frames"):
        vlm.ask(WIDE, QUESTION + words, max_tokens=20)
    fast = vlm.using("fastervlm", keep=0.1)
    assert fast.ask(WIDE, QUESTION + words, max_tokens=20).usage.answer >= 1


def test_a_reducer_that_leaves_nothing_is_named(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = vlm.using("uniform", keep=1)
    system = fast.plan.systems[0]
    nothing = torch.tensor([], dtype=torch.long)
    monkeypatch.setattr(type(system), "reduce", lambda _, tokens, __: tokens.take(nothing))
    with pytest.raises(UserError, match="uniform left no visual token: raise its budget"):
        fast.ask(WIDE, QUESTION)


def test_a_count_above_what_there_is_says_both_numbers(vlm: VLM) -> None:
    with pytest.raises(UserError, match=r"keep=9999 is more than the \d+ tokens"):
        vlm.using("uniform", keep=9999).ask(WIDE, QUESTION)


# ---- nothing is left behind --------------------------------------------------------------------


def test_hooks_are_gone_after_a_request(fast: VLM) -> None:
    fast.ask([WIDE, movie()], QUESTION, max_tokens=2)
    assert hung_on(fast) == []


@pytest.mark.parametrize("way", ["ask", "generate"])
@pytest.mark.parametrize("place", ["tower", "prefill", "decode"])
def test_hooks_are_gone_after_an_exception(vlm: VLM, place: str, way: str) -> None:
    fast = vlm
    for name, knobs in (("tome", {"r": 2}), ("fastervlm", {}), ("fastv", {"layer": 3})):
        fast = fast.using(name, **knobs)
    expected = fast.ask(WIDE, QUESTION, max_tokens=3).tokens
    calls = 0

    def failing(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == (2 if place == "decode" else 1):
            raise RuntimeError("broken on purpose")

    part = fast.family.blocks("image")[1] if place == "tower" else fast.family.decoder.layers[3]  # type: ignore[index]
    inside = part.self_attn if place == "tower" else part.mlp
    hook = inside.register_forward_pre_hook(failing)  # type: ignore[union-attr]

    def run() -> None:
        if way == "ask":
            fast.ask(WIDE, QUESTION, max_tokens=3)
        else:
            list(fast.generate([user(WIDE, QUESTION)], max_tokens=3))

    try:
        with pytest.raises(RuntimeError, match="on purpose"):
            run()
    finally:
        hook.remove()
    assert hung_on(vlm) == []
    assert fast.ask(WIDE, QUESTION, max_tokens=3).tokens == expected


def test_interleaved_requests_do_not_see_each_other(vlm: VLM) -> None:
    views: list[tuple[VLM, Tensor]] = [
        (vlm, WIDE),
        (planned(vlm, "fastv"), TALL),
        (planned(vlm, "fastervlm+fastv"), WIDE),
    ]
    alone = [fast.ask(media, QUESTION, max_tokens=6) for fast, media in views]
    streams = [fast.generate([user(media, QUESTION)], max_tokens=6) for fast, media in views]
    got: list[list[int]] = [[] for _ in views]
    for _ in range(7):
        for place, stream in enumerate(streams):
            piece = next(stream, None)
            got[place] += [] if piece is None else piece.tokens
    for place, (stream, expected) in enumerate(zip(streams, alone, strict=True)):
        list(stream)
        result: Reply | None = stream.result
        assert result is not None
        assert tuple(got[place]) == expected.tokens == result.tokens
        assert result.kv_bytes == expected.kv_bytes
        assert result.usage == expected.usage
    assert hung_on(vlm) == []
