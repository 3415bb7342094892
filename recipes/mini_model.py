"""The embedded model's tokenizer, network and files on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from mini_questions import questions
from mini_scenes import SIDE, sample_scene
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

MINI = Path(__file__).parents[1] / "sparsight" / "world" / "mini"
SEED = 0
PATCH = 14
GRID = SIDE // PATCH
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] }}"
    "{% if message['role'] != 'assistant' %}{{ ' ' }}{% endif %}"
    "{% if message['content'] is string %}{{ '\\n' + message['content'] }}{% else %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}"
    "{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\\n' + part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PREFIX = "<|im_start|>user "
TURN = "\n{}<|im_end|><|im_start|>assistant\n"


def build_tokenizer(vocab_size: int = 640) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the world's own questions and answers; any text can be encoded."""
    rng = np.random.default_rng(SEED)
    corpus = [
        text
        for seed in range(3000)
        for question in questions(sample_scene(seed, "train", film=seed % 2 == 0), rng)
        for text in (TURN.format(question.text), question.answer)
    ]
    corpus += ["in the first picture?", "in the second picture?", "assistant", "user "] * 500
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=2048,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaOnevisionForConditionalGeneration:
    """The untrained network, 4 million parameters."""
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    vision = CLIPVisionConfig(
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=5,
        num_attention_heads=5,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=160,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=True,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    return LlavaOnevisionForConditionalGeneration(config)


def export(work: Path, folder: Path) -> None:
    """Write weights (bf16), configuration, tokenizer and processor files to `folder`; a reader of
    the folder sees each file whole, old or new."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    state = torch.load(work / "last.pt")
    model.load_state_dict(state["model"])
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=32,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder.mkdir(parents=True, exist_ok=True)
    fresh = work / "export"
    model.to(torch.bfloat16).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    pixels = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": SIDE, "width": SIDE},
    }
    files = {
        "preprocessor_config.json": {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            "do_pad": True,
            "image_grid_pinpoints": [[SIDE, SIDE]],
            **pixels,
        },
        "video_preprocessor_config.json": {
            "video_processor_type": "LlavaOnevisionVideoProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            **pixels,
        },
        "processor_config.json": {
            "processor_class": "LlavaOnevisionProcessor",
            "image_token": "<image>",
            "video_token": "<video>",
            # The class takes one off for CLS before it counts, so the tower's CLS is counted in.
            "num_image_tokens": GRID * GRID + 1,
            "vision_feature_select_strategy": "default",
            "vision_aspect_ratio": "anyres_max_9",
        },
        "training.json": {"seed": SEED, **state["clock"]},
    }
    for name, content in files.items():
        (fresh / name).write_text(json.dumps(content, indent=2) + "\n")
    for path in fresh.iterdir():
        path.chmod(0o644)
        part = folder / f".{path.name}.part"
        shutil.copy(path, part)
        part.replace(folder / path.name)
