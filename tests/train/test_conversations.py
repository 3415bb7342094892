"""LLaVA's training format: records, placeholders, media, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sparsight.systems
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan, parse_system
from sparsight.train.augment import Augment
from sparsight.train.conversations import Conversations, Dialogue, read_record
from sparsight.train.next_token import NextToken, Sample
from tests.train.families import CLIPS, Checkpoint, dialogue, make, parts_of

HERE = Path("media")


def talk(*turns: str, **media: Any) -> dict[str, Any]:
    names = ("human", "gpt")
    told = [{"from": names[place % 2], "value": text} for place, text in enumerate(turns)]
    return {"id": 1, "conversations": told, **media}


def parts(record: dict[str, Any]) -> tuple[list[tuple[Any, ...]], list[Any]]:
    read = read_record(record, HERE).conversation
    return [turn.parts for turn in read.turns], list(read.media)


@pytest.mark.parametrize(
    ("record", "turns", "media"),
    [
        (talk("what?", "a cat"), [("what?",), ("a cat",)], []),
        (talk("<image>\nwhat?", "a cat", image="a.jpg"), [(0, "what?"), ("a cat",)], ["a.jpg"]),
        (talk("what?\n<image>", "it", image="a.jpg"), [("what?", 0), ("it",)], ["a.jpg"]),
        (talk("what?", "it", image="a.jpg"), [(0, "what?"), ("it",)], ["a.jpg"]),
        (
            talk("<image> or <image>?", "it", image=["a.jpg", "b.jpg"]),
            [(0, "or", 1, "?"), ("it",)],
            ["a.jpg", "b.jpg"],
        ),
        (
            talk("<image>\nwhat?", "it", "and <image>?", "a dog", images=["a.jpg", "b.jpg"]),
            [(0, "what?"), ("it",), ("and", 1, "?"), ("a dog",)],
            ["a.jpg", "b.jpg"],
        ),
        (talk("<video>\nwhat?", "it", video="f.mp4"), [(0, "what?"), ("it",)], ["f.mp4"]),
        (talk("<image>\nwhat?", "it", video="f.mp4"), [(0, "what?"), ("it",)], ["f.mp4"]),
        (
            talk("<video> and <image>", "it", video="f.mp4", image="a.jpg"),
            [(0, "and", 1), ("it",)],
            ["f.mp4", "a.jpg"],
        ),
        (
            talk("both?", "it", video="f.mp4", image="a.jpg"),
            [(0, 1, "both?"), ("it",)],
            ["a.jpg", "f.mp4"],
        ),
    ],
)
def test_placeholders_say_where_media_stand(
    record: dict[str, Any], turns: list[Any], media: list[str]
):
    assert parts(record) == (turns, [str(HERE / name) for name in media])


def test_urls_stay_and_a_system_turn_comes_first():
    record = talk("what?", "it", image="https://example.org/a.jpg", system="be brief")
    read = read_record(record, HERE).conversation
    assert read.media == ("https://example.org/a.jpg",)
    assert (read.turns[0].role, read.turns[0].parts) == ("system", ("be brief",))
    assert read.question == "what?"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], 'must hold a list "conversations"'),
        ({"conversations": "x"}, 'must hold a list "conversations"'),
        ({"conversations": [{"from": "human"}]}, 'turn 0 must hold "from" and a text "value"'),
        ({"conversations": [{"from": "humen", "value": "x"}]}, "did you mean 'human'"),
        (talk("<image> <image>", "it", image="a.jpg"), "2 times <image> for 1 images"),
        (talk("<image>", "it"), "1 times <image> for 0 images"),
        (talk("<image>", "it", image="a", video="b"), "0 times <video> for 1 videos"),
        (talk("what?", "<image>", image="a.jpg"), "may stand in questions only"),
        (talk("what?", "it", image=7), "a medium must be a path, not 7"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(record: Any, words: str):
    with pytest.raises(UserError, match=words):
        read_record(record, HERE)


RECORDS = [talk(f"what is {place}?", "it") for place in range(3)]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_file_is_read_record_by_record(suffix: str, tmp_path: Path):
    path = tmp_path / f"talks{suffix}"
    lines = "\n".join(json.dumps(record) for record in RECORDS) + "\n\n"
    path.write_text(json.dumps(RECORDS) if suffix == ".json" else lines)
    data = Conversations(path)
    assert len(data) == 3
    assert [data[place].conversation.question for place in range(3)] == [
        f"what is {place}?" for place in range(3)
    ]
    assert (data.at(2, 5).index, data.at(2, 5).epoch) == (2, 5)


def test_a_broken_line_is_named_when_it_is_its_turn(tmp_path: Path):
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + '\n{"conversations": [\n' + json.dumps(RECORDS[1]))
    data = Conversations(path)
    assert [data[0].conversation.question, data[2].conversation.question] == [
        "what is 0?", "what is 1?",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"talks\.jsonl, record 1: "):
        data[1]


def test_length_grows_with_words_and_media(tmp_path: Path):
    path = tmp_path / "talks.json"
    path.write_text(
        json.dumps([talk("a", "b"), talk("a" * 90, "b"), talk("a", "b", image="i"),
                    talk("a", "b", video="f"), {"conversations": None}])
    )  # fmt: skip
    data = Conversations(path)
    lengths = [data.length(place) for place in range(4)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[1] < lengths[2] < lengths[3]
    assert data.length(4) == 0.0  # broken: found when it is read


@pytest.mark.parametrize(
    ("content", "words"),
    [("{}", "must hold a list"), ("[", "is not valid JSON"), ("[]", "holds no conversation")],
)
def test_a_file_that_is_no_list_is_refused(content: str, words: str, tmp_path: Path):
    (tmp_path / "talks.json").write_text(content)
    with pytest.raises(UserError, match=words):
        Conversations(tmp_path / "talks.json")


def test_missing_files_and_folders_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.json cannot be read: No such file"):
        Conversations(tmp_path / "gone.json")
    with pytest.raises(UserError, match=r"the media folder .*gone does not exist"):
        Conversations(tmp_path / "talks.json", media=tmp_path / "gone")


# ---- to samples --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make("llava-onevision", tmp_path_factory.mktemp("onevision"))


@pytest.fixture
def sample(made: Checkpoint, tmp_path: Path) -> Callable[..., Sample]:
    """`sample(record, ...)`: a record -> what the tower and the decoder are given."""
    Image.effect_mandelbrot((40, 56), (-2, -1.5, 1, 1.5), 60).convert("RGB").save(
        tmp_path / "cat.png"
    )
    (tmp_path / "torn.png").write_bytes((tmp_path / "cat.png").read_bytes()[:300])

    def get(
        record: dict[str, Any], epoch: int = 0, pack: int | None = None, **options: Any
    ) -> Sample:
        task = NextToken(parts_of(made), **options)
        task.pack = pack
        read = read_record(record, tmp_path).conversation
        return task.prepare(Dialogue(read, index=3, epoch=epoch))

    return get


CAT = talk("<image>\nwhat is in it ?", "a cat .", image="cat.png")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (talk("what?", "it", image="torn.png"), r"torn\.png"),
        (talk("what?", "it", image="gone.png"), r"gone\.png"),
        (talk("what is <|im_end|>? no: <video>", "it", video="gone.mp4"), r"gone\.mp4"),
        (talk("what?"), "no answer to learn"),
        (talk("what?", "  "), "the answer in message 1 is empty"),
        ({"conversations": [{"from": "gpt", "value": "hello"}]}, "must not begin with an answer"),
    ],
)
def test_a_sample_that_cannot_be_made_says_why(
    record: dict[str, Any], words: str, sample: Callable[..., Sample]
):
    with pytest.raises(UserError, match=words):
        sample(record)


def test_a_sample_too_long_for_a_row_or_the_model_is_refused(
    sample: Callable[..., Sample], made: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    tokens = len(sample(CAT).lesson.ids)
    assert len(sample(CAT, pack=tokens).lesson.ids) == tokens
    with pytest.raises(UserError, match=f"it has {tokens} tokens, and a packed row holds 20"):
        sample(CAT, pack=20)
    monkeypatch.setattr(made.family.decoder.config, "max_position_embeddings", 20)
    with pytest.raises(UserError, match="the model positions for 20"):
        sample(CAT)


def test_augmentation_differs_by_epoch_and_repeats_itself(sample: Callable[..., Sample]):
    def pixels(**options: Any) -> torch.Tensor:
        return sample(CAT, **options).views[0].inputs["pixel_values"]

    change = Augment(crop=0.0)
    first = pixels(augment=change)
    assert torch.equal(first, pixels(augment=change))
    assert not torch.equal(first, pixels(augment=change, epoch=1))
    assert not torch.equal(first, pixels())


def test_a_template_that_cannot_be_split_is_one_clear_error(made: Checkpoint, tmp_path: Path):
    parts = parts_of(made)
    for template in (
        "{% for m in messages %}{{ m['role'] }}{% endfor %}{{ messages | length }}",
        "{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}"
        "{% if add_generation_prompt %}Say:{% endif %}",
    ):
        parts.files = {**parts.files, "chat_template.json": {"chat_template": template}}
        parts.__dict__.pop("family", None)
        with pytest.raises(UserError, match="template of LLaVA-OneVision cannot be split at its"):
            NextToken(parts)


def test_systems_before_the_llm_are_trained_with_those_inside_refused(made: Checkpoint):
    sparsight.systems.load()
    reduced = Plan(systems=(parse_system("uniform:keep=0.5"),))
    whole, half = NextToken(parts_of(made)), NextToken(parts_of(made), plan=reduced)
    asked = dialogue("what is in it ?", "a cat .", media=[CLIPS["picture"]])
    samples = [task.prepare(asked) for task in (whole, half)]
    assert samples[0].lesson == samples[1].lesson
    logits = [task.predictions([one]) for task, one in zip((whole, half), samples, strict=True)]
    assert torch.equal(logits[0][1], logits[1][1])
    assert not torch.allclose(logits[0][0], logits[1][0])
    half(half.collate([samples[1]]))["next_token"].backward()
    tower = made.model.model.vision_tower.parameters()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tower)
    made.model.zero_grad()
    with pytest.raises(UserError, match="fastv works inside the LLM"):
        NextToken(parts_of(made), plan=Plan(systems=(parse_system("fastv:keep=0.5,layer=1"),)))
