"""A fake model, for tests of parsing and printing, and a tiny real one in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

import sparsight
from sparsight.cli import application
from sparsight.cli.running import run
from sparsight.core.clip import Clip
from sparsight.core.plan import Plan
from sparsight.core.reply import Flops, Reply, Timing, TokenMap, Usage
from sparsight.core.tokens import patch_boxes

ROOT = Path(__file__).resolve().parents[2]


# A fake model


def token_map(views: int = 2, side: int = 4, keep: int = 3) -> TokenMap:
    """`keep` tokens of every view of a film stay; the last of them was dropped in the LLM."""
    boxes = patch_boxes(torch.tensor([[0.0, 0, 1, 1]]).expand(views, 4), (side, side))
    box = boxes.flatten(0, 2)
    view = torch.arange(views).repeat_interleave(side * side)
    kept = torch.cat([torch.arange(keep) + side * side * place for place in range(views)])
    layers = torch.full((len(kept),), 4)
    layers[-1] = 2
    return TokenMap(
        origin="film.mp4",
        box=box,
        view=view,
        time=view.float(),
        role=("frame",) * views,
        kept=kept,
        kept_box=box[kept],
        kept_view=view[kept],
        kept_time=view[kept].float(),
        weight=torch.ones(len(kept)),
        layers=layers,
        depth=4,
        frames=tuple(range(views)),
    )


def reply(text: str = "It is red.", maps: Sequence[TokenMap] = ()) -> Reply:
    return Reply(
        text=text,
        tokens=(5, 6, 7),
        finish="stop",
        usage=Usage(visual_seen=64, visual_kept=16, visual_mean=12.5, prompt=30, answer=3),
        timing=Timing({"decode": 0.1, "encode": 0.25, "prefill": 0.4}, (0.05, 0.05), 0.8, 0.9),
        kv_bytes=3 * 1024 * 1024,
        flops=Flops(tower=2e9, prefill=3.5e9, decode=1e6),
        maps=tuple(maps),
        systems=("fastervlm",),
    )


class FakeVLM:
    """Answers at once, in pieces; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str, dict[str, Any]]] = []
        self.loaded: tuple[Plan, dict[str, Any]] | None = None
        self.pieces = ["It ", "is ", "red."]
        self.failure: BaseException | None = None

    def ask(self, media: Any, question: str, **options: Any) -> Reply:
        self.asked.append((media, question, options))
        on_text = options.get("on_text")
        for piece in self.pieces if on_text else ():
            on_text(piece)
        if self.failure is not None:
            raise self.failure
        sources = media if isinstance(media, list) else [media]
        return reply("".join(self.pieces), [token_map() for _ in sources])

    def planned(self, plan: Plan) -> FakeVLM:
        return self


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeVLM:
    """`sparsight.load` gives this; the folder at hand holds film.mp4, which is any film."""
    vlm = FakeVLM()

    def load(plan: Plan, **options: Any) -> FakeVLM:
        vlm.loaded = (plan, options)
        return vlm

    def load_media(source: Any) -> Clip:
        return Clip.from_frames(torch.randint(0, 256, (2, 24, 32, 3), dtype=torch.uint8), fps=1)

    monkeypatch.setattr(sparsight, "load", load)
    monkeypatch.setitem(sparsight.__dict__, "load_media", load_media)
    monkeypatch.chdir(tmp_path)
    Path("film.mp4").write_bytes(b"any film")
    return vlm


Runner = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Runner:
    """`cli("ask", "film.mp4", "What?")` -> exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(application, arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


# A tiny real model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random LLaVA of a few thousand parameters that never ends its answer."""
    folder = tmp_path_factory.mktemp("tiny-llava")
    tokens = _tokenizer()
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
            image_size=28, patch_size=7,
        ),
        text_config=LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            vocab_size=len(tokens), max_position_embeddings=100_000,
        ),
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28},'
        ' "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% for p in m.content %}"
        "{% if p.type == 'text' %}{{ p.text }}{% else %}<image>{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    words = ["<pad>", "<unk>", "<image>", *map(chr, range(32, 127))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return made


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture file."""
    path = tmp_path_factory.mktemp("pictures") / "square.png"
    Image.new("RGB", (60, 40), (200, 30, 30)).save(path)
    return path


def start(*arguments: str, program: str = "", **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own; `program` runs before it."""
    code = f"{program}\nfrom sparsight.cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
