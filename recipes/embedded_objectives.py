"""What the embedded models learn: to see (Look), then to answer (Ask).

Both read a network part by part, so that a batch of scenes costs one pass of the tower and one of
the LLM; a test shows that the answers' logits are the class's own. How the parts are read is the
business of a `Reader`: here that of the LLaVA-OneVision class.

Shape suffixes: B samples, V views, N patches of a view, C tokens of a frame, L sequence, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from embedded_attention import Packing, packed_attention
from embedded_data import Batch, Layout, Turns, pack_turns, prefix_ids
from embedded_labels import (
    CHARACTERS,
    DOINGS,
    HUES,
    KINDS,
    MOST_REPEATS,
    MOTIONS,
    UNKNOWN,
    Cells,
    Patches,
    Tables,
    cells,
    patches,
)
from embedded_models import GRID, SIDE
from embedded_views import shown
from torch import Tensor, nn

from sparsight.train.objective import Objective
from sparsight.train.parts import Parts
from sparsight.world.tasks.question import Question

WATCH_LAYER = 4  # two layers are left for a question to read what films' tokens have worked out
POINT_LAYER = 3  # where one head of a question is shown what to look at


def see(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Views (V, 3, H, W) -> last hidden states of the patches (V, N, D) and what stands for the
    whole view (V, D): CLS, or the mean of the patches where the tower has no CLS."""
    tower: nn.Module = model.model.vision_tower  # type: ignore[union-attr, assignment]
    learns = any(parameter.requires_grad for parameter in tower.parameters())
    with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
        # What the class reads: of a SigLIP tower that is before the last norm.
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-1]
    if hidden.shape[1] == GRID * GRID:
        return hidden, hidden.mean(1)
    return hidden[:, 1:], hidden[:, 0]


@dataclass(frozen=True)
class Media:
    """A batch as the network reads it.

    seen    (V, N, D) patches, in rows, and
    whole   (V, D) wholes of
    views   these of the views that were given
    visual  (B, L, D) all that stands between a prompt's prefix and its question
    frames  where in L the tokens of a film's `views` stand
    places  (3, prefix + L) positions with M-RoPE; None: they count on
    tiles   views along a side of a picture, where its tokens are a thumbnail's and then those of
            its tiles, row by row with newlines; 0 elsewhere
    """

    seen: Tensor
    whole: Tensor
    visual: Tensor
    views: slice
    frames: slice
    places: Tensor | None = None
    tiles: int = 0


class Reader(Protocol):
    """How the networks of a class of transformers are read."""

    def see(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Views (V, 3, H, W), each alone -> patches (V, N, D) and wholes (V, D)."""
        ...

    def read(self, model: Any, pixels: Tensor, layout: Layout, prefix: int) -> Media:
        """All views of a batch (V, 3, H, W); `prefix` tokens stand before them."""
        ...


class OneVisionReader:
    """`Reader` of LLaVA-OneVision."""

    def see(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return see(model, pixels)

    def read(self, model: Any, pixels: Tensor, layout: Layout, prefix: int) -> Media:
        tiles = 0
        if layout.kind == "picture":
            seen, whole, visual = picture_tokens(model, pixels)
            tiles = layout.side // SIDE
        else:
            seen, whole = see(model, pixels)
            if layout.kind == "pair":
                visual = several_tokens(model, seen, 2)
            else:
                visual = film_tokens(model, seen, len(pixels) // layout.frames)
        return Media(seen, whole, visual, views=slice(None), frames=slice(None, -1), tiles=tiles)


class LookHeads(nn.Module):
    """Read-outs that exist only in training: what each patch and each view must tell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch_norm = nn.LayerNorm(width)
        self.color = nn.Linear(width, len(HUES) + 1)
        self.kind = nn.Linear(width, len(KINDS) + 1)
        self.center = nn.Linear(width, 2)
        self.character = nn.Linear(width, len(CHARACTERS) + 1)
        self.view_norm = nn.LayerNorm(width)
        self.present = nn.Linear(width, len(HUES) + len(KINDS))
        self.count = nn.Linear(width, 8)

    def forward(self, seen: Tensor, whole: Tensor, truth: Patches) -> dict[str, Tensor]:
        """(V, N, D) patches and (V, D) views -> named losses."""
        patch, view = self.patch_norm(seen), self.view_norm(whole)
        on_thing = (truth.color > 0).float()
        error = (self.center(patch).float() - truth.center).abs().sum(-1)
        sign = truth.kind == KINDS.index("sign") + 1
        character = torch.where(sign, truth.character, UNKNOWN)
        count = truth.visible.sum(1).clamp(max=7)
        return {
            "color": sparse_loss(self.color(patch), truth.color),
            "kind": 2 * sparse_loss(self.kind(patch), truth.kind),
            "center": (error * on_thing).sum() / on_thing.sum().clamp(min=1),
            "character": class_loss(self.character(patch), character),
            "present": 3
            * F.binary_cross_entropy_with_logits(self.present(view).float(), _present(truth)),
            "count": 0.3 * F.cross_entropy(self.count(view).float(), count),
        }


def _present(truth: Patches) -> Tensor:
    """(V, hues + kinds) in {0, 1}: what is to be seen in some patch of the view."""
    hues = F.one_hot(truth.color, len(HUES) + 1).amax(1)[:, 1:]
    kinds = F.one_hot(truth.kind, len(KINDS) + 1).amax(1)[:, 1:]
    return torch.cat([hues, kinds], 1).float()


class WatchHeads(nn.Module):
    """Read-outs that exist only in training: what a film's tokens must tell inside the LLM."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.motion = nn.Linear(width, len(MOTIONS) + 1)
        self.doing = nn.Linear(width, len(DOINGS) + 1)
        self.repeats = nn.Linear(width, MOST_REPEATS + 2)
        self.before = nn.Linear(width, len(HUES) + 2)
        self.place = nn.Linear(width, 3)

    def forward(self, tokens: Tensor, truth: Cells) -> dict[str, Tensor]:
        """(V, C, D) hidden states of frames' tokens -> named losses."""
        tokens = self.norm(tokens)
        on_thing = (truth.owner >= 0).float()
        place = torch.cat([truth.center, truth.since[..., None]], -1)
        error = (self.place(tokens).float() - place).abs().sum(-1)
        return {
            "motion": sparse_loss(self.motion(tokens), truth.motion),
            "doing": 0.5 * sparse_loss(self.doing(tokens), truth.doing),
            "repeats": 0.5 * sparse_loss(self.repeats(tokens), truth.repeats),
            "before": 0.5 * sparse_loss(self.before(tokens), truth.before),
            "place": (error * on_thing).sum() / on_thing.sum().clamp(min=1),
        }


def sparse_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy in which the background (class 0), most of a picture, weighs little."""
    weight = torch.ones(logits.shape[-1], device=logits.device)
    weight[0] = 0.1
    return F.cross_entropy(logits.float().flatten(0, 1), truth.flatten(), weight)


def class_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy over what is known; 0 where nothing is."""
    known = truth != UNKNOWN
    if not known.any():
        return logits.sum() * 0.0
    return F.cross_entropy(logits[known].float(), truth[known])


class Look(Objective):
    """The tower alone, from dense labels of single views."""

    reader: ClassVar[Reader] = OneVisionReader()

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.look = LookHeads(parts.model.config.vision_config.hidden_size)

    def collate(self, samples: Sequence[Batch]) -> Batch:
        (batch,) = samples
        return batch

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        model, device = self.parts.model, self.parts.device
        view = shown(batch, device)
        seen, whole = self.reader.see(model, view.pixels)
        return self.look(seen, whole, patches(view.owners, view.truth, GRID))


def words(parts: Parts) -> list[str]:
    """What each entry of the vocabulary writes; nothing where there is no such token."""
    tokens = parts.tokenizer.convert_ids_to_tokens(range(len(parts.tokenizer)))
    return tokens + [""] * (parts.model.config.text_config.vocab_size - len(tokens))


class Ask(Objective):
    """Everything, from packed questions; the tower goes on telling what it sees, and the tokens
    of films what happens."""

    reader: ClassVar[Reader] = OneVisionReader()

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.model.config
        self.look = LookHeads(config.vision_config.hidden_size)
        self.watch = WatchHeads(config.text_config.hidden_size)
        self.register_buffer("prefix", prefix_ids(parts.tokenizer), persistent=False)
        spelled = [CHARACTERS.find(word) + 1 if len(word) == 1 else 0 for word in words(parts)]
        self.register_buffer("spelled", torch.tensor(spelled), persistent=False)

    def prepare(self, item: Batch) -> Batch:
        turns = pack_turns(self.parts.tokenizer, item.asked, item.weights)
        return replace(item, turns=turns)

    def collate(self, samples: Sequence[Batch]) -> Batch:
        (batch,) = samples
        return batch

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, int]]]:
        assert batch.turns is not None
        model, device = self.parts.model, self.parts.device
        layout = batch.layout
        view = shown(batch, device)
        media = self.reader.read(model, view.pixels, layout, len(self.prefix))
        turns = batch.turns.to(device)
        logits, labels, weight, watched, looks = packed_logits(
            model, self.prefix, media.visual, turns, media.places
        )
        answer = F.cross_entropy(logits, labels, reduction="none")
        losses = {"answer": (answer * weight).sum() / weight.sum().clamp(min=1e-6)}
        right = rights(batch.asked, turns, logits.argmax(-1) == labels)
        owners, truth = view.owners[media.views], view.truth.at(media.views)
        if media.seen.requires_grad and layout.side == SIDE:
            look = self.look(media.seen, media.whole, patches(owners, truth, GRID))
            losses["look"] = 0.3 * torch.stack(list(look.values())).sum()
        if layout.kind == "film":
            grid = GRID // 2
            frames = watched[:, media.frames].reshape(len(owners), grid * grid, -1)
            told = self.watch(frames, cells(owners, truth, grid))
            losses["watch"] = 0.5 * torch.stack(list(told.values())).sum()
            shows = Shows.of_films(patches(owners, truth, grid, least=0.3), len(batch.asked))
            looks = looks[..., media.frames]
        elif media.tiles:
            shows = Shows.of_pictures(owners, truth, media.tiles)
        else:
            return losses, right
        losses["point"] = 0.3 * pointing(looks, turns, batch.asked, shows, self.spelled)
        return losses, right


@dataclass(frozen=True)
class Shows:
    """What visual tokens show, (B, C): the number of a thing, -1 for none, and the character of
    its text, 0 for none."""

    owner: Tensor
    character: Tensor

    @classmethod
    def of_films(cls, dense: Patches, films: int) -> Shows:
        """Of the tokens of all frames of each film."""
        return cls(dense.owner.reshape(films, -1), dense.character.reshape(films, -1))

    @classmethod
    def of_pictures(cls, owners: Tensor, truth: Tables, tiles: int) -> Shows:
        """Of pictures, in the order of `picture_tokens`."""
        grid = GRID * tiles
        small, fine = patches(owners, truth, GRID), patches(owners, truth, grid)

        def joined(small: Tensor, fine: Tensor, newline: int) -> Tensor:
            rows = F.pad(fine.unflatten(1, (grid, grid)), (0, 1), value=newline)
            return torch.cat((small, rows.flatten(1)), 1)

        return cls(joined(small.owner, fine.owner, -1), joined(small.character, fine.character, 0))


def pointing(
    looks: Tensor,
    turns: Turns,
    asked: Sequence[Sequence[Question]],
    shows: Shows,
    spelled: Tensor,
) -> Tensor:
    """How little the tokens that answer look at the things that are asked about.

    Which thing a question means is learned late from answers alone, so one head is shown it; and
    of a sign that is read the character that comes next.

    Args:
        looks: (B, Q, T, C) weights of the questions' tokens on visual tokens.
        turns: the questions, packed.
        asked: the questions of each sample.
        shows: what these tokens show.
        spelled: (vocabulary,) the character that a token of the LLM writes, 0 for others.
    """
    owner = shows.owner
    meant = torch.zeros(*looks.shape[:2], int(owner.max()) + 2, device=looks.device)
    for sample, questions in enumerate(asked):
        for turn, question in enumerate(questions):
            for thing in question.about:
                if thing < meant.shape[2] - 1:  # the others are not to be seen
                    meant[sample, turn, thing] = 1
    on = meant.gather(2, owner.remainder(meant.shape[2])[:, None].expand(-1, meant.shape[1], -1))
    labels = Packing.of(0, turns.turn, turns.position).gather(turns.labels, fill=UNKNOWN)
    labels = F.pad(labels[..., 1:], (0, 1), value=UNKNOWN)  # the token before predicts
    reads = [[question.task == "read" for question in row] for row in asked]
    reading = torch.zeros_like(on[:, :, 0], dtype=torch.bool)
    for sample, row in enumerate(reads):
        reading[sample, : len(row)] = torch.tensor(row, device=reading.device)
    next_one = spelled[labels.clamp(min=0)] * reading[..., None]
    exact = on[:, :, None] * (next_one[..., None] == shows.character[:, None, None])
    on = torch.where(exact.any(-1, keepdim=True), exact, on[:, :, None])
    counted = (labels != UNKNOWN) & (on.sum(-1) > 0)
    mass = (looks.float() * on).sum(-1)
    missed = -mass.clamp(min=1e-4).log() * counted
    return missed.sum() / counted.sum().clamp(min=1)


def rights(
    asked: Sequence[Sequence[Question]], turns: Turns, hits: Tensor
) -> dict[str, tuple[Tensor, int]]:
    """By task, how many questions were answered right, token by token, and how many were asked.

    `hits` (A,): whether each answer token was, in the order of `turns`.
    """
    most = max(1, *(len(row) for row in asked))
    sample = torch.arange(len(asked), device=hits.device)[:, None]
    labels = turns.labels.to(hits.device) != -100
    question = (sample * most + turns.turn.to(hits.device))[labels]
    whole = hits.new_ones(len(asked) * most, dtype=torch.uint8)
    whole = whole.scatter_reduce(0, question, hits.to(torch.uint8), "amin").tolist()
    found: dict[str, list[int]] = {}
    for row, questions in enumerate(asked):
        for turn, one in enumerate(questions):
            found.setdefault(one.task, []).append(whole[row * most + turn])
    return {
        f"right, {task}": (torch.tensor(float(sum(row))), len(row)) for task, row in found.items()
    }


# ---- what stands at the placeholders of a prompt, as the class makes it -------------------------


def film_tokens(model: Any, seen: Tensor, films: int) -> Tensor:
    """Patches of all frames (V, N, D) -> (B, frames * C + 1, D)."""
    tokens = model.model.apply_pooling(model.model.multi_modal_projector(seen))
    newline = model.model.image_newline.to(tokens.dtype).expand(films, 1, -1)
    return torch.cat((tokens.reshape(films, -1, tokens.shape[-1]), newline), 1)


def several_tokens(model: Any, seen: Tensor, count: int) -> Tensor:
    """Patches of `count` pictures to a prompt (B * count, N, D) -> (B, count * (N + 1), D)."""
    tokens = model.model.multi_modal_projector(seen)
    newline = model.model.image_newline.to(tokens.dtype).expand(len(tokens), 1, -1)
    joined = torch.cat((tokens, newline), 1)
    return joined.reshape(len(tokens) // count, -1, tokens.shape[-1])


def picture_tokens(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Square pictures (B, 3, S, S) alone in their prompts -> the patches and the wholes of their
    thumbnails, and (B, L, D) tokens: thumbnail, then the tiles row by row with newlines.

    A picture of one view's size is encoded once: its thumbnail is its only tile.
    """
    side = pixels.shape[-1]
    if side == SIDE:
        seen, whole = see(model, pixels)
        tokens = model.model.multi_modal_projector(seen)
        views = torch.stack((tokens, tokens), 1)
    else:
        small = thumbnail(pixels)
        tiles = side // SIDE
        cut = pixels.unflatten(3, (tiles, SIDE)).unflatten(2, (tiles, SIDE))
        cut = cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (B * tiles * tiles, 3, SIDE, SIDE)
        seen, whole = see(model, torch.cat((small, cut)))
        tokens = model.model.multi_modal_projector(seen)
        first, rest = tokens[: len(pixels)], tokens[len(pixels) :]
        views = torch.cat((first[:, None], rest.unflatten(0, (len(pixels), -1))), 1)
        seen, whole = seen[: len(pixels)], whole[: len(pixels)]
    packed, _ = model.model.pack_image_features(
        list(views),
        [[side, side]] * len(pixels),
        image_newline=model.model.image_newline,
        vision_aspect_ratio=model.config.vision_aspect_ratio,
    )
    return seen, whole, torch.stack(list(packed))


def thumbnail(pixels: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) as one view each, within one grey level of the processor's."""
    return F.interpolate(pixels, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)


def packed_logits(
    model: Any, prefix_ids: Tensor, visual: Tensor, turns: Turns, places: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Logits (A, vocabulary), targets (A,) and weights (A,) of all answer tokens, the hidden
    states of the visual tokens after WATCH_LAYER layers (B, L, D), and how the first head of
    POINT_LAYER looks at them: (B, Q, T, L) for the T tokens of each of Q questions.

    A question sees the prefix, the visual tokens and itself, at the positions it would have alone:
    its logits are those of its own single prompt. `places`: as in `Media`.
    """
    samples, shared = len(visual), len(prefix_ids) + visual.shape[1]
    embed = model.get_input_embeddings()
    prefix = embed(prefix_ids).expand(samples, -1, -1).to(visual.dtype)
    embeds = torch.cat((prefix, visual, embed(turns.ids).to(visual.dtype)), 1)
    if places is None:
        places = torch.arange(shared, device=visual.device)[None]
    begin = places[0, -1] + 1  # text counts on in all axes from the last token
    rows = [torch.cat((axis.expand(samples, -1), turns.position + begin), 1) for axis in places]
    packing = Packing.of(shared, turns.turn, turns.position)
    with packed_attention(model.model.language_model):
        output = model.model.language_model(
            inputs_embeds=embeds,
            attention_mask={"full_attention": packing},
            position_ids=rows[0] if len(rows) == 1 else torch.stack(rows),
            use_cache=False,
            output_hidden_states=True,
            output_attentions=True,
        )
    looks = output.attentions[POINT_LAYER][:, 0, ..., len(prefix_ids) :]
    watched = output.hidden_states[WATCH_LAYER][:, len(prefix_ids) : shared]
    answers = turns.labels != -100
    before = F.pad(answers, (shared - 1, 1))  # the token before an answer token predicts it
    logits = model.lm_head(output.last_hidden_state[before])
    return logits.float(), turns.labels[answers], turns.weight[answers], watched, looks
