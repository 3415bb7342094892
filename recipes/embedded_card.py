"""Write the card of an embedded model: what it is, how it was trained, what it scores.

    python recipes/embedded_card.py out/mini

The folder is that of a run; scores.json lies beside the weights (evaluate_embedded.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

#: What each task should reach on held-out scenes. Of reading, the two larger of four sizes.
GOALS = {
    **dict.fromkeys(("exists", "color", "shape", "move", "order"), 0.95),
    **dict.fromkeys(("count", "where"), 0.9),
    **dict.fromkeys(("read", "needle", "state"), 0.85),
    "repeat": 0.8,
    "when": 0.6,
}
LARGER = ("medium", "large")
COMBOS = 0.05  # held-out combinations may score so much less than seen ones
LEARNED = {
    "look": "the tower alone, from dense labels of each patch and of each view",
    "align": "projector and LLM, from questions about single frames",
    "spell": "the tower alone, from views of which most show signs",
    "ask": "projector and LLM, from questions about pictures and films",
    "polish": "the same about everything, at rates that fall to nothing",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of a run, with its model")
    parser.add_argument("--note", type=Path, help="Markdown to be added at the end")
    options = parser.parse_args()
    text = card(options.run) + (f"\n{options.note.read_text()}" if options.note else "")
    (options.run / "model" / "README.md").write_text(text)


def card(run: Path) -> str:
    """The card as Markdown."""
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    config = json.loads((run / "model" / "config.json").read_text())
    scores = json.loads((run / "model" / "scores.json").read_text())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    name = recipe["name"]
    return "\n".join(
        [
            f"# {name}: an embedded model",
            "",
            f"A vision language model of {parameters(run / 'model') / 1e6:.1f} million parameters "
            "that answers questions about synthetic pictures and films of coloured shapes, "
            "letters, digits and signs (`sparsight.world`). With it Sparsight can be tried, tested "
            "and measured without any download: its answers are real, its world is small. It "
            "knows nothing of photographs.",
            "",
            *built(config),
            "",
            "## Training",
            "",
            f"`recipes/{name.replace('-', '_')}.py`, seed {recipe['seed']}, on "
            f"{hardware(scores['machine'])}; weights in {recipe['dtype']}. Every scene is painted "
            "once and never shown again; the splits use separate seeds, and some pairs of shape "
            "and color, and of thing and action, are never shown in training (`combos`).",
            "",
            "| stage | what is learned | steps | hours |",
            "|---|---|---:|---:|",
            *trained(lines, recipe),
            "",
            "## Scores",
            "",
            "Held-out scenes, answers by each task's own scorer, in per cent with the 95 % Wilson "
            f"interval; {scores['dtype']}, {scores['side']} px. *blind*: the model asked without "
            "the picture or film; *prior*: the best guess from the words alone, fitted on training "
            "questions.",
            "",
            *scored(scores["scores"]),
            "",
        ]
    )


def parameters(model: Path) -> int:
    """How many weights the files hold."""
    total = 0
    for file in model.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - the file is no mapping
                count = 1
                for size in weights.get_slice(key).get_shape():
                    count *= size
                total += count
    return total


def built(config: Mapping[str, Any]) -> list[str]:
    """What the network consists of."""
    text, vision = config.get("text_config", config), config["vision_config"]
    width = vision["hidden_size"]
    depth = vision.get("num_hidden_layers", vision.get("depth"))
    heads = vision.get("num_attention_heads", vision.get("num_heads"))
    kind = {
        "clip_vision_model": "CLIP type with CLS",
        "siglip_vision_model": "SigLIP type without CLS",
    }.get(vision["model_type"], "that of its class")
    return [
        f"- **Class**: `{config['architectures'][0]}` of transformers, loadable by plain "
        "`from_pretrained`; Apache-2.0 like the rest.",
        f"- **Vision tower**: {kind}; patches of {vision['patch_size']} pixels, width {width}, "
        f"{depth} layers, {heads} heads.",
        f"- **LLM**: Qwen2 type, width {text['hidden_size']}, {text['num_hidden_layers']} layers, "
        f"{text['num_attention_heads']} heads with {text['num_key_value_heads']} key-value heads, "
        f"context {text['max_position_embeddings']}.",
        f"- **Tokenizer**: byte-level BPE with room for {text['vocab_size']} tokens, made from the "
        "world's own questions; any text encodes.",
    ]


def hardware(machine: Mapping[str, Any]) -> str:
    """What a machine is, in words."""
    gpus = "".join(f", {gpu['name']}" for gpu in machine["gpus"])
    return f"{machine['cpu']}, {machine['cores']} cores{gpus}"


def trained(lines: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]) -> list[str]:
    """A row for each stage: its steps, and hours by the samples a second that were logged."""
    rows = []
    for stage in recipe["stages"]:
        at, seconds = 0, 0.0
        each = recipe[f"stages.{stage}.batch"] * recipe[f"stages.{stage}.accumulate"]
        for line in lines:
            if line["stage"] == stage and line.get("samples_per_second"):
                samples = (line["step"] - at) * each * recipe["processes"]
                seconds += samples / line["samples_per_second"]
                at = line["step"]
        rows.append(f"| {stage} | {LEARNED[stage]} | {at:,} | {seconds / 3600:.1f} |")
    return rows


def scored(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table of all tasks, and in words what falls short of its goal."""
    combos = scores.get("combos", {})
    rows = [
        "| task | accuracy | goal | blind | prior | held-out combinations | questions |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    missed = []
    for task, found in scores["test"].items():
        goal = GOALS.get(task)
        other = combos.get(task)
        rows.append(
            f"| {task} | {told(found)} | {'' if goal is None else f'{100 * goal:.0f}'} | "
            f"{100 * found['blind']:.1f} | {100 * found['prior']:.1f} | "
            f"{'' if other is None else told(other)} | {found['questions']:,} |"
        )
        reached = reading(found) if task == "read" else found["accuracy"]
        if goal is not None and reached < goal:
            missed.append(f"{task} {100 * reached:.1f} (goal {100 * goal:.0f})")
        if other is not None and found["accuracy"] - other["accuracy"] > COMBOS:
            missed.append(f"combinations in {task} {100 * other['accuracy']:.1f}")
    sizes = scores["test"].get("read", {}).get("by_size", {})
    if sizes:
        by_size = ", ".join(f"{size} {100 * share:.1f}" for size, share in sizes.items())
        rows += ["", f"Reading by the size of the text: {by_size}."]
    return [*rows, "", f"Short of their goals: {'; '.join(missed) or 'none'}."]


def told(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def reading(found: Mapping[str, Any]) -> float:
    """Of the two larger sizes, which are asked as often."""
    sizes = found["by_size"]
    return sum(sizes[size] for size in LARGER) / len(LARGER)


if __name__ == "__main__":
    main()
