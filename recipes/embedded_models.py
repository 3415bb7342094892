"""Tokenizer and untrained networks of the embedded models, and the files they are opened with.

All share one tokenizer, made from the world's own questions, and one LLM; they differ in the
tower and in the class of transformers that holds them:

mini         LLaVA-OneVision, CLIP tower with CLS
mini-siglip  LLaVA-OneVision, SigLIP tower without CLS
mini-qwen    Qwen2.5-VL, its own tower (embedded_qwen.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from sparsight.train.parts import Parts
from sparsight.world.sampler import sample_scene
from sparsight.world.stories import STORIES
from sparsight.world.tasks import questions

SIDE = 112  # pixels of a view
PATCH = 7
GRID = SIDE // PATCH  # patches along a view: 16, of which a film keeps 8
CONTEXT = 8192
VOCABULARY = 1024
PINPOINTS = [[SIDE * rows, SIDE * columns] for rows in range(1, 5) for columns in range(1, 5)]
MOST_TILES = 4  # a picture of more tiles is shrunk to the tokens of four
LLM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
}
ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 100000.0}
PIXELS: dict[str, Any] = {  # what all the processors do to pixels
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "rescale_factor": 1 / 255,
}
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


def build_tokenizer(
    vocabulary: int = VOCABULARY,
    scenes: int = 4000,
    special: Sequence[str] = SPECIAL,
    chat_template: str = CHAT_TEMPLATE,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the world's questions and answers; any text can be encoded. Digits
    stand alone, so that 3.5 and 13.5 share their parts, and so do capitals that begin no word: a
    sign is spelled."""
    rng, tasks = np.random.default_rng(0), list(STORIES)
    corpus: list[str] = []
    for seed in range(scenes):
        task = tasks[seed % len(tasks)]
        for question in questions(sample_scene(seed, "train", task), rng):
            corpus += [TURN.format(question.text), question.answer]
    corpus += ["in the first picture?", "in the second picture?", "assistant", "user "] * 500
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" ?[A-Z](?![a-z])"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special[1:]),
        chat_template=chat_template,
        padding_side="left",
        model_max_length=CONTEXT,
    )


def build_network(
    tokenizer: PreTrainedTokenizerFast, tower: str
) -> LlavaOnevisionForConditionalGeneration:
    """The untrained network; `tower` is "clip" or "siglip"."""
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    sizes = {
        "hidden_size": 160,
        "intermediate_size": 640,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "hidden_act": "gelu",
    }
    vision = {
        "clip": lambda: CLIPVisionConfig(projection_dim=160, **sizes),
        "siglip": lambda: SiglipVisionConfig(vision_use_head=False, **sizes),
    }[tower]()
    text = Qwen2Config(
        rope_parameters=ROPE, bos_token_id=None, eos_token_id=eos, pad_token_id=pad, **LLM
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_select_strategy="default" if tower == "clip" else "full",
        vision_feature_layer=-1,
        vision_aspect_ratio=f"anyres_max_{MOST_TILES}",
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=True,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=64, eos_token_id=eos, pad_token_id=pad
    )
    return model


def onevision(tower: str) -> Parts:
    """An untrained model of the LLaVA-OneVision class with its tokenizer and processor files."""
    tokenizer = build_tokenizer()
    return Parts(build_network(tokenizer, tower), tokenizer, processor_files(tower))


def adopt(parts: Parts, trained: Parts) -> Parts:
    """Begin with the weights of a trained embedded model: all that both have, by name and size,
    and the embedding of each token that both tokenizers know."""
    mine, theirs = parts.model.state_dict(), trained.model.state_dict()
    rows, known = parts.tokenizer.get_vocab(), trained.tokenizer.get_vocab()
    both = [(row, known[token]) for token, row in rows.items() if token in known]
    here, there = (torch.tensor(places) for places in zip(*both, strict=True))
    for name, weight in mine.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            weight[here] = theirs[name][there].to(weight)
        elif name in theirs and theirs[name].shape[1:] == weight.shape[1:]:
            # A tower with CLS has its place before those of the patches.
            found = theirs[name][-len(weight) :]
            if found.shape == weight.shape:
                weight.copy_(found)
    return parts


def processor_files(tower: str) -> dict[str, Any]:
    """The files from which transformers builds the processor of `build_network`'s models."""
    pixels = {**PIXELS, "size": {"height": SIDE, "width": SIDE}}
    # With "default" the class takes one off for CLS before it counts, so CLS is counted in.
    strategy, tokens = ("default", GRID**2 + 1) if tower == "clip" else ("full", GRID**2)
    return {
        "preprocessor_config.json": {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            "do_pad": True,
            "image_grid_pinpoints": PINPOINTS,
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
            "num_image_tokens": tokens,
            "vision_feature_select_strategy": strategy,
            "vision_aspect_ratio": f"anyres_max_{MOST_TILES}",
        },
    }
