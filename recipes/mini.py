"""Train the embedded model: a small LLaVA-OneVision that answers questions about synthetic scenes.

    python recipes/mini.py train --work out/mini          # about 70 minutes on two CPU cores
    python recipes/mini.py train --work out/mini --resume # after an interruption
    python recipes/mini.py export --work out/mini         # weights in bf16 -> sparsight/world/mini
    python recipes/mini.py clip                           # the demo film and its question

Two stages. LOOK teaches the tower alone, with dense labels: each patch tells the color, the kind
and the centre of the thing it shows, and CLS tells what is in the view and how many. ASK trains
everything: all questions of a scene stand in one packed sequence behind its visual tokens, each
blind to the others, so that one forward teaches what a dozen single prompts would; and the
tokens of films must tell, inside the LLM, where each thing is, how it moves and since when.

Shapes: B scenes, T frames, V views, N patch tokens of a view, L sequence, D width.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from evaluate_mini import Examinee
from mini_data import CROWDED, MOTIONS, Batch, LookLabels, make_batch
from mini_model import GRID, MINI, PREFIX, SEED, build_model, build_tokenizer, export
from mini_questions import questions, score
from mini_render import render
from mini_scenes import COLORS, KINDS, SIDE, sample_scene
from PIL import Image
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration


class LookHeads(nn.Module):
    """Read-outs that exist only in training: what each patch and each CLS must tell."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch_norm = nn.LayerNorm(width)
        self.color = nn.Linear(width, len(COLORS) + 1)
        self.kind = nn.Linear(width, len(KINDS) + 1)
        self.center = nn.Linear(width, 2)
        self.cls_norm = nn.LayerNorm(width)
        self.present = nn.Linear(width, len(COLORS) + len(KINDS))
        self.count = nn.Linear(width, 5)


class WatchHeads(nn.Module):
    """Read-outs that exist only in training: what a film's tokens must tell inside the LLM."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.motion = nn.Linear(width, len(MOTIONS) + 1)
        self.center = nn.Linear(width, 2)
        self.appear = nn.Linear(width, 1)


# ---------------------------------------------------------------- forward


def see(model: LlavaOnevisionForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Views (V, 3, H, W) -> last hidden states of the patches (V, N, D) and of CLS (V, D)."""
    hidden = model.model.vision_tower(pixels).last_hidden_state
    return hidden[:, 1:], hidden[:, 0]


def look_loss(heads: LookHeads, patches: Tensor, cls: Tensor, truth: LookLabels) -> Tensor:
    """What the patches and CLS must tell, all terms summed."""
    patches, cls = heads.patch_norm(patches), heads.cls_norm(cls)
    on_thing = truth.color > 0
    error = (heads.center(patches).float() - truth.center).abs().sum(-1)
    return (
        _patch_loss(heads.color(patches), truth.color)
        + 2 * _patch_loss(heads.kind(patches), truth.kind)
        + (error * on_thing).sum() / on_thing.sum().clamp(min=1)
        + 3 * F.binary_cross_entropy_with_logits(heads.present(cls).float(), truth.present)
        + 0.3 * F.cross_entropy(heads.count(cls).float(), truth.count, ignore_index=CROWDED)
    )


def watch_loss(heads: WatchHeads, tokens: Tensor, truth: LookLabels) -> Tensor:
    """Hidden states (B, T * 16, D) of films must tell where each thing is, how it moves and
    since when it is there."""
    tokens = heads.norm(tokens.reshape(*truth.motion.shape, -1))
    on_thing = truth.motion != 0
    error = (heads.center(tokens).float() - truth.cell_center).abs().sum(-1)
    error = error + 2 * (heads.appear(tokens).float()[..., 0] - truth.appear).abs()
    error = (error * on_thing).sum() / on_thing.sum().clamp(min=1)
    return _patch_loss(heads.motion(tokens), truth.motion) + error


def _patch_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy over patches in which the background, most of a picture, weighs little."""
    weight = torch.ones(logits.shape[-1])
    weight[0] = 0.1
    return F.cross_entropy(logits.float().flatten(0, 1), truth.flatten(), weight)


def visual_tokens(
    model: LlavaOnevisionForConditionalGeneration, patches: Tensor, layout: str, samples: int
) -> Tensor:
    """Patches (V, N, D) -> what stands at the placeholders of each prompt, (B, L, D).

    The same tokens as the class makes, without encoding a square picture twice: its base view
    and its only tile show the same pixels.
    """
    inner = model.model
    tokens = inner.multi_modal_projector(patches)
    newline = inner.image_newline.to(tokens.dtype).expand(samples, 1, -1)
    if layout == "film":
        tokens = inner.apply_pooling(tokens)
        return torch.cat((tokens.reshape(samples, -1, tokens.shape[-1]), newline), 1)
    if layout == "picture":
        rows = tokens.view(samples, GRID, GRID, -1)
        rows = torch.cat((rows, newline[:, None].expand(-1, GRID, -1, -1)), 2)
        return torch.cat((tokens, rows.flatten(1, 2)), 1)
    tokens = tokens.view(samples, -1, GRID * GRID, tokens.shape[-1])
    each = newline[:, None].expand(-1, tokens.shape[1], -1, -1)
    return torch.cat((tokens, each), 2).flatten(1, 2)


def packed_logits(
    model: LlavaOnevisionForConditionalGeneration, prefix_ids: Tensor, visual: Tensor, batch: Batch
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (A, vocabulary) and targets (A,) of all answer tokens, and the hidden states of the
    visual tokens after WATCH_LAYER layers (B, L, D).

    A question sees the prefix and itself, at the positions it would have alone: its logits are
    those of its own single prompt.
    """
    samples, shared = len(visual), len(prefix_ids) + visual.shape[1]
    embed = model.get_input_embeddings()
    prefix = embed(prefix_ids).expand(samples, -1, -1).to(visual.dtype)
    embeds = torch.cat((prefix, visual, embed(batch.ids).to(visual.dtype)), 1)
    turn = F.pad(batch.turn, (shared, 0), value=-2)
    same = (turn[:, :, None] == turn[:, None]) | (turn[:, None] == -2)
    mask = (same & torch.ones(same.shape[1:], dtype=torch.bool).tril())[:, None]
    start = torch.arange(shared).expand(samples, -1)
    output = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=torch.cat((start, batch.position + shared), 1),
        use_cache=False,
        output_hidden_states=True,
    )
    watched = output.hidden_states[WATCH_LAYER][:, len(prefix_ids) : shared]
    answers = batch.labels != -100
    before = F.pad(answers, (shared - 1, 1))  # the token before an answer token predicts it
    logits = model.lm_head(output.last_hidden_state[before])
    return logits.float(), batch.labels[answers], watched


# ---------------------------------------------------------------- training


@dataclass
class Clock:
    """Training state that a checkpoint carries: stage, seconds spent in it, steps, scenes."""

    stage: str = "look"
    seconds: float = 0.0
    steps: int = 0
    scenes: int = 0
    look_seconds: float = 0.0
    look_steps: int = 0
    look_views: int = 0


def rate(progress: float, warm: float = 0.03) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine to a hundredth."""
    if progress < warm:
        return progress / warm + 1e-3
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm) / (1 - warm))))


def pick_layout(progress: float, rng: np.random.Generator) -> str:
    """Single views first, because they are cheap and teach to look; then the real mix."""
    shares = EARLY_MIX if progress < 0.12 else FULL_MIX
    return str(rng.choice(list(shares), p=list(shares.values())))


EARLY_MIX = {"view": 0.8, "film": 0.2}
FULL_MIX = {"view": 0.05, "picture": 0.3, "film": 0.55, "pair": 0.1}
WATCH_LAYER = 4  # two layers are left for a question to read what films' tokens have worked out


def save(
    path: Path,
    model: nn.Module,
    heads: LookHeads,
    watch_heads: WatchHeads,
    optimizer: torch.optim.Optimizer,
    clock: Clock,
) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    state = {
        "model": model.state_dict(),
        "heads": heads.state_dict(),
        "watch_heads": watch_heads.state_dict(),
        "optimizer": optimizer.state_dict(),
        "clock": vars(clock),
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def train(work: Path, look_minutes: float, ask_minutes: float, resume: bool) -> None:
    """Both stages. `work/last.pt` is a checkpoint every two minutes, `work/log.jsonl` the log."""
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer).train()
    heads = LookHeads(model.config.vision_config.hidden_size)
    watch_heads = WatchHeads(model.config.text_config.hidden_size)
    clock = Clock()
    state = torch.load(work / "last.pt") if resume else None
    if state:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        watch_heads.load_state_dict(state["watch_heads"])
        clock = Clock(**state["clock"])
    elif (work / "last.pt").exists():
        raise SystemExit(f"{work}/last.pt exists: add --resume, or choose another --work")
    prefix_ids = torch.tensor(tokenizer.encode(PREFIX))

    while clock.stage != "done":
        looking = clock.stage == "look"
        budget = 60 * (look_minutes if looking else ask_minutes)
        groups = parameter_groups(model, heads, watch_heads, looking)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
        peaks = [group["lr"] for group in optimizer.param_groups]
        if state:
            optimizer.load_state_dict(state["optimizer"])
            state = None
        tally: dict[str, list[float]] = {}
        saved = shown = begun = time.monotonic() - clock.seconds
        while clock.seconds < budget:
            progress = clock.seconds / budget
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate(progress)
            rng = np.random.default_rng([SEED, 1, clock.scenes])
            layout = "crowd" if looking else pick_layout(progress, rng)
            frames = int(rng.choice([4, 6, 8, 8, 8, 8, 8, 12, 16])) if layout == "film" else 1
            size = {"pair": 16, "film": 128 // frames}.get(layout, 32)
            batch, used = make_batch(tokenizer, layout, clock.scenes, size, frames)
            with torch.autocast("cpu", torch.bfloat16):
                patches, cls = see(model, batch.pixels)
                dense = look_loss(heads, patches, cls, batch.look)
                loss = dense
                if not looking:
                    visual = visual_tokens(model, patches, layout, len(batch.ids))
                    logits, targets, watched = packed_logits(model, prefix_ids, visual, batch)
                    weight = batch.weight[batch.labels != -100]
                    each = F.cross_entropy(logits, targets, reduction="none")
                    loss = (each * weight).sum() / weight.sum() + 0.2 * dense
                    if layout == "film":  # all tokens but the newline at the end
                        watch = watch_loss(watch_heads, watched[:, :-1], batch.look)
                        tally.setdefault("watch", []).append(watch.item())
                        loss = loss + 0.3 * watch
                    note_answers(tally, batch, logits.argmax(-1) == targets)
            loss.backward()
            nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            tally.setdefault("loss", []).append(loss.item())
            tally.setdefault("dense", []).append(dense.item())
            clock.steps, clock.scenes = clock.steps + 1, clock.scenes + used
            clock.seconds = time.monotonic() - begun
            if clock.seconds - (shown - begun) > 30:
                shown = time.monotonic()
                line = {
                    name: round(float(np.mean(seen)), 3) for name, seen in sorted(tally.items())
                }
                report = json.dumps({**vars(clock), "seconds": round(clock.seconds), **line})
                print(report, flush=True)
                with (work / "log.jsonl").open("a") as log:
                    log.write(report + "\n")
                tally = {}
            if time.monotonic() - saved > 120:
                saved = time.monotonic()
                save(work / "last.pt", model, heads, watch_heads, optimizer, clock)
        if looking:
            clock.look_seconds, clock.look_steps = clock.seconds, clock.steps
            clock.look_views = clock.scenes
            clock.stage, clock.seconds, clock.steps = "ask", 0.0, 0
        else:
            clock.stage = "done"
        save(work / "last.pt", model, heads, watch_heads, optimizer, clock)


def parameter_groups(
    model: nn.Module, heads: LookHeads, watch_heads: WatchHeads, looking: bool
) -> list[dict]:
    """LOOK trains the tower and its read-outs; ASK everything, the tower more gently."""
    tower = [*model.model.vision_tower.parameters(), *heads.parameters()]
    if looking:
        return [{"params": tower, "lr": 1.5e-3}]
    taught = {id(p) for p in tower}
    rest = [p for p in model.parameters() if id(p) not in taught]
    rest += watch_heads.parameters()
    return [{"params": tower, "lr": 3e-4}, {"params": rest, "lr": 1.2e-3}]


def note_answers(tally: dict[str, list[float]], batch: Batch, right: Tensor) -> None:
    """Adds to `tally` whether each question's whole answer was predicted, by task."""
    owner = torch.arange(len(batch.ids))[:, None] * 1000 + batch.turn
    owner = owner[batch.labels != -100]
    wrong = set(owner[~right].tolist())
    for key in set(owner.tolist()):
        name = f"{batch.layout}/{batch.tasks[key // 1000][key % 1000]}"
        tally.setdefault(name, []).append(float(key not in wrong))


# ---------------------------------------------------------------- demo


def write_clip(folder: Path, frames: int = 36, fps: int = 12, side: int = 224) -> None:
    """Film the first held-out scene that shows much and that the model answers right from the
    encoded film, and write it with its question."""
    examinee = Examinee(folder, torch.float32)
    path = folder / "clip.mp4"
    for seed in range(10_000, 11_000):
        scene = sample_scene(seed, "test", film=True, frames=frames)
        moving = sum(thing.motion != "still" for thing in scene.things)
        asked = {q.task: q for q in questions(scene, np.random.default_rng(seed))}
        if len(scene.things) < 3 or moving < 2 or not {"first", "move", "letter"} <= set(asked):
            continue
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "23"})
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for frame in render(scene):
                picture = Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC)
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())
        with av.open(path) as container:
            shown = [frame.to_image() for frame in container.decode(video=0)]
        small = [frame.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for frame in shown]
        film = np.stack([np.asarray(frame) for frame in small])
        # Both usual ways to take 8 frames evenly: with the end points, and from the middles.
        samples = (np.linspace(0, frames - 1, 8), (np.arange(8) + 0.5) * frames / 8 - 0.5)
        picked = [film[at.round().astype(int)] for at in samples]
        batch = [(some, question.text) for some in picked for question in asked.values()]
        replies = examinee.answers(batch, "film")
        expected = [*asked.values()] * len(picked)
        if all(score(q, reply) for q, reply in zip(expected, replies, strict=True)):
            chosen = asked["first"]
            question = {"question": chosen.text, "answer": chosen.answer}
            (folder / "question.json").write_text(json.dumps(question, indent=2) + "\n")
            return
    raise SystemExit("no held-out film was answered right throughout: train longer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("train")
    run.add_argument("--work", type=Path, required=True)
    run.add_argument("--look-minutes", type=float, default=9)
    run.add_argument("--ask-minutes", type=float, default=58)
    run.add_argument("--resume", action="store_true")
    out = commands.add_parser("export")
    out.add_argument("--work", type=Path, required=True)
    clip = commands.add_parser("clip")
    for command in (out, clip):
        command.add_argument("--folder", type=Path, default=MINI)
    args = parser.parse_args()
    if args.command == "train":
        train(args.work, args.look_minutes, args.ask_minutes, args.resume)
    elif args.command == "export":
        export(args.work, args.folder)
    else:
        write_clip(args.folder)


if __name__ == "__main__":
    main()
