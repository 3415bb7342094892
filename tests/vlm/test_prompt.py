from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.tokens import Views, VisualTokens
from sparsight.vlm.families.base import Family, VisualRun
from sparsight.vlm.prompt import Medium, pad, splice

IMAGE, VIDEO = 90, 91
TABLE = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))


class Plain(Family):
    """A family of 1-D positions and two placeholders, without a model."""

    def __init__(self) -> None:
        config = SimpleNamespace(image_token_id=IMAGE, video_token_id=VIDEO)
        super().__init__(SimpleNamespace(config=config), None, None)  # type: ignore[arg-type]


class Square(Plain):
    """Positions on two axes: visual tokens stand at the start plus their coordinates."""

    def positions(self, runs: Sequence[VisualRun | int]) -> Tensor:
        parts, start = [], 0
        for run in runs:
            if isinstance(run, int):
                parts.append(torch.arange(start, start + run).expand(2, -1))
                start += run
            else:
                parts.append(run.coords[:, 1:].mT + start)
                start += int(run.coords[:, 1:].max()) + 1 if len(run.coords) else 0
        return torch.cat(parts, 1)


def tokens(count: int, kind: str = "image", seed: int = 1, extra: int = 0) -> VisualTokens:
    random = torch.Generator().manual_seed(seed)
    side = 3
    index = torch.arange(count)
    return VisualTokens(
        embeds=torch.randn(count, 4, generator=random),
        time=torch.zeros(count),
        box=torch.rand(count, 4),
        view=torch.zeros(count).long(),
        weight=torch.ones(count),
        prunable=torch.ones(count, dtype=torch.bool),
        index=index,
        coords=torch.stack([index * 0, index // side, index % side], 1),
        views=Views(kind, {}, torch.zeros(1, 4), torch.zeros(1), ("picture",), (3, 3), (9, 9)),
        total=count,
        extra=tuple(torch.randn(count, 4, generator=random) for _ in range(extra)),
    )


def medium(full: VisualTokens, keep: Sequence[int] | None = None, **more: Any) -> Medium:
    kept = full if keep is None else full.take(torch.tensor(keep))
    kept = replace(kept, positions=more.pop("positions", "keep"))
    return Medium(full.views.kind, full, kept, more.pop("slots", full.total))


def embed(ids: Tensor) -> Tensor:
    return TABLE[ids]


def spliced(ids: Sequence[int], media: Sequence[Medium], family: Family | None = None) -> Any:
    return splice(family or Plain(), ids, media, embed)


def test_text_alone_is_its_embeddings() -> None:
    prompt = spliced([1, 2, 3], [])
    assert prompt.embeds.equal(TABLE[[1, 2, 3]])
    assert prompt.positions.tolist() == [[0, 1, 2]]
    assert prompt.length == 3
    assert not prompt.visual.any()
    assert [(span.kind, span.start, span.stop) for span in prompt.spans] == [("text", 0, 3)]


def test_visual_tokens_take_the_places_of_their_placeholders() -> None:
    first = tokens(3)
    prompt = spliced([1, IMAGE, IMAGE, IMAGE, 2], [medium(first)])
    assert prompt.embeds.equal(torch.cat([TABLE[[1]], first.embeds, TABLE[[2]]]))
    assert prompt.ids.tolist() == [1, IMAGE, IMAGE, IMAGE, 2]
    assert prompt.medium.tolist() == [-1, 0, 0, 0, -1]
    assert prompt.prunable.tolist() == [False, True, True, True, False]
    assert [(span.kind, span.start, span.stop, span.medium) for span in prompt.spans] == [
        ("text", 0, 1, None),
        ("image", 1, 4, 0),
        ("text", 4, 5, None),
    ]


@pytest.mark.parametrize("found", [0, 2, 4])
def test_placeholders_and_tokens_that_disagree_raise_with_both_numbers(found: int) -> None:
    with pytest.raises(UserError, match=f"holds {found} image placeholders.* 1 media have 3 "):
        spliced([1, *[IMAGE] * found, 2], [medium(tokens(3))])


def test_a_medium_whose_kind_is_not_in_the_prompt_raises() -> None:
    with pytest.raises(UserError, match="holds 0 video placeholders"):
        spliced([1, IMAGE, 2], [medium(tokens(1)), medium(tokens(2, "video"))])


def test_tokens_behind_the_last_placeholder_raise_with_both_numbers() -> None:
    full = tokens(3)
    strays = replace(full, index=torch.tensor([0, 1, 7]))
    with pytest.raises(ValueError, match="3 visual tokens were packed, but 2 stand in the prompt"):
        spliced([IMAGE] * 3, [Medium("image", full, strays, 3)])


def test_media_back_to_back_share_a_run() -> None:
    one, two = tokens(2, seed=1), tokens(3, seed=2)
    prompt = spliced([*[IMAGE] * 5, 4], [medium(one), medium(two)])
    assert prompt.embeds[:5].equal(torch.cat([one.embeds, two.embeds]))
    assert prompt.medium.tolist() == [0, 0, 1, 1, 1, -1]


def test_a_medium_may_be_cut_by_text() -> None:
    """As films whose frames stand behind their times."""
    full = tokens(4, "video")
    prompt = spliced([1, VIDEO, VIDEO, 2, VIDEO, VIDEO, 3], [medium(full, keep=[1, 2])])
    assert prompt.ids.tolist() == [1, VIDEO, 2, VIDEO, 3]
    assert prompt.embeds[[1, 3]].equal(full.embeds[[1, 2]])
    assert prompt.index.tolist() == prompt.positions[0].tolist() == [0, 2, 3, 4, 6]


def test_media_of_two_kinds_come_in_any_order() -> None:
    film, picture, second = tokens(2, "video", 1), tokens(1, seed=2), tokens(2, seed=3)
    ids = [IMAGE, 1, VIDEO, VIDEO, IMAGE, IMAGE]
    prompt = spliced(ids, [medium(film), medium(picture), medium(second)])
    assert prompt.embeds[0].equal(picture.embeds[0])
    assert prompt.embeds[2:4].equal(film.embeds)
    assert prompt.embeds[4:].equal(second.embeds)
    assert prompt.medium.tolist() == [1, -1, 0, 0, 2, 2]


def test_keeping_leaves_every_token_at_its_place() -> None:
    full = tokens(5)
    prompt = spliced([1, *[IMAGE] * 5, 2, 3], [medium(full, keep=[0, 3])])
    expected = []  # by hand: walk the unreduced prompt
    for place in range(8):
        if place in (1 + 1, 1 + 2, 1 + 4):
            continue
        expected.append(place)
    assert prompt.positions[0].tolist() == prompt.index.tolist() == expected
    assert prompt.length == 8


def test_renumbering_counts_on_without_gaps() -> None:
    prompt = spliced(
        [1, *[IMAGE] * 5, 2, 3], [medium(tokens(5), keep=[0, 3], positions="renumber")]
    )
    assert prompt.positions[0].tolist() == [0, 1, 2, 3, 4]
    assert prompt.index.tolist() == [0, 1, 4, 6, 7]
    assert prompt.length == 8


def test_positions_of_several_axes_follow_the_kept_tokens() -> None:
    full, ids = tokens(9), [1, 1, *[IMAGE] * 9, 2]
    whole = spliced(ids, [medium(full)], Square())
    kept = spliced(ids, [medium(full, keep=[0, 4])], Square())
    assert kept.positions.equal(whole.positions[:, [0, 1, 2, 6, 11]])
    assert kept.positions[:, -1].tolist() == [5, 5]  # behind the grid of three, not of two
    renumbered = spliced(ids, [medium(full, keep=[0, 4], positions="renumber")], Square())
    assert renumbered.positions[:, -1].tolist() == [4, 4]


@pytest.mark.parametrize(("packed", "slots"), [(7, 3), (2, 6), (5, 5), (1, 4)])
@pytest.mark.parametrize("cut", [False, True])
def test_a_packing_of_its_own_length_fills_the_placeholders(
    packed: int, slots: int, cut: bool
) -> None:
    full = tokens(packed)
    half = slots // 2
    runs = [*[IMAGE] * half, 5, *[IMAGE] * (slots - half)] if cut else [IMAGE] * slots
    prompt = spliced([1, *runs, 2], [medium(full, slots=slots)])
    assert prompt.embeds[prompt.visual].equal(full.embeds)
    assert prompt.length == len(prompt) == packed + len(runs) - slots + 2
    assert prompt.positions[0].tolist() == list(range(len(prompt)))
    assert prompt.ids[0] == 1
    assert prompt.ids[-1] == 2
    if cut:  # each part of the prompt holds the part of the packing that belongs there
        before = prompt.ids.tolist().index(5) - 1
        assert before == -(-half * packed // slots)


def test_a_reduced_packing_of_its_own_length_keeps_its_gaps() -> None:
    full = tokens(6)
    prompt = spliced([1, IMAGE, IMAGE, 2], [medium(full, keep=[1, 5], slots=2)])
    assert prompt.index.tolist() == prompt.positions[0].tolist() == [0, 2, 6, 7]
    assert prompt.length == 8


def test_further_features_follow_in_the_order_of_the_prompt() -> None:
    film, picture = tokens(3, "video", 1, extra=2), tokens(2, seed=2, extra=2)
    ids = [IMAGE, IMAGE, 7, VIDEO, VIDEO, VIDEO]
    prompt = spliced(ids, [medium(film, keep=[0, 2]), medium(picture)])
    for level in range(2):
        expected = torch.cat([picture.extra[level], film.extra[level][[0, 2]]])
        assert prompt.extra[level].equal(expected)


def test_a_batch_is_padded_on_the_left_and_equals_its_rows() -> None:
    filler = torch.full((4,), 9.0)
    prompts = [
        spliced([1, *[IMAGE] * 3, 2], [medium(tokens(3, extra=1), keep=[0, 2])]),
        spliced([3, 4, 5, 6, 7, *[IMAGE] * 2], [medium(tokens(2, seed=5, extra=1))]),
        spliced([8], []),
    ]
    batch = pad(prompts, filler)
    assert batch.embeds.shape == (3, 7, 4)
    for row, prompt in enumerate(prompts):
        start = 7 - len(prompt)
        assert batch.mask[row].tolist() == [0] * start + [1] * len(prompt)
        assert (batch.embeds[row, :start] == 9).all()
        assert batch.embeds[row, start:].equal(prompt.embeds)
        assert batch.positions[row, start:].equal(prompt.positions[0])
        assert batch.medium[row].tolist() == [-1] * start + prompt.medium.tolist()
        assert batch.prunable[row].tolist() == [False] * start + prompt.prunable.tolist()
        assert batch.index[row, start:].equal(prompt.index)
    assert len(batch.extra) == 1
    assert batch.extra[0].equal(torch.cat([prompts[0].extra[0], prompts[1].extra[0]]))


def test_a_batch_of_positions_on_several_axes_keeps_the_axes_first() -> None:
    prompts = [
        splice(Square(), [1, *[IMAGE] * 9, 2], [medium(tokens(9))], embed),
        splice(Square(), [1, 2], [], embed),
    ]
    batch = pad(prompts, torch.zeros(4))
    assert batch.positions.shape == (2, 2, 11)
    assert batch.positions[:, 0].equal(prompts[0].positions)
    assert batch.positions[:, 1, -2:].equal(prompts[1].positions)


def test_a_prompt_may_be_of_visual_tokens_alone() -> None:
    full = tokens(2)
    prompt = spliced([IMAGE, IMAGE], [medium(full)])
    assert prompt.embeds.equal(full.embeds)


def test_frames_of_different_sizes_stand_behind_their_own_labels() -> None:
    views = Views("video", {}, torch.zeros(3, 4), torch.arange(3.0), ("frame",) * 3, (1, 2), (9, 9))
    of_frames = replace(
        tokens(6, "video"), view=torch.tensor([0, 1, 1, 1, 1, -1]), views=views
    )  # the last is a newline; the third frame has nothing left
    ids = [1, VIDEO, VIDEO, 2, VIDEO, VIDEO, 3, VIDEO, VIDEO, 4]
    even = spliced(ids, [medium(of_frames, slots=6)])
    assert even.medium.tolist() == [-1, 0, 0, -1, 0, 0, -1, 0, 0, -1]
    shared = replace(of_frames, views=replace(views, share=torch.tensor([0.2, 0.8, 0.0])))
    prompt = spliced(ids, [medium(shared, slots=6)])
    assert prompt.medium.tolist() == [-1, 0, -1, 0, 0, 0, 0, 0, -1, -1]
    assert torch.equal(prompt.embeds[prompt.medium == 0], of_frames.embeds)
