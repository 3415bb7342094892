from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection, OwlViTProcessor
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

from sparsight.core.errors import UserError
from sparsight.modules.finders import AskingFinder, DetectorFinder, load_detector

PICTURES = torch.randint(0, 256, (2, 30, 50, 3), dtype=torch.uint8)
NAMES = ["cat", "a cow which has more letters than the text tower can read"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random OWL-ViT."""
    torch.manual_seed(0)
    words = [*string.ascii_lowercase, *[f"{letter}</w>" for letter in string.ascii_lowercase]]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate(words)}
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    config = OwlViTConfig(
        text_config={
            **small,
            "vocab_size": len(words),
            "max_position_embeddings": 16,
            "bos_token_id": len(words) - 2,
            "eos_token_id": len(words) - 1,
            "pad_token_id": 0,
        },
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    side = {"height": 32, "width": 32}
    made = tmp_path_factory.mktemp("owlvit")
    OwlViTForObjectDetection(config).save_pretrained(made)
    OwlViTProcessor(
        image_processor=OwlViTImageProcessorPil(size=side, do_center_crop=False),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16),
    ).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def detector(folder: Path) -> DetectorFinder:
    return load_detector(str(folder), "cpu", 0.005)


def test_a_detector_finds_what_its_model_says(detector: DetectorFinder) -> None:
    found = detector.find(PICTURES, NAMES)
    inputs = detector.processor(
        images=list(PICTURES.numpy()), text=[NAMES] * 2, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        out = detector.model(**inputs)
    best, label = out.logits.max(-1)
    sure = best.sigmoid()
    centre = out.pred_boxes[..., :2] * torch.tensor([50.0, 30.0])
    for place, item in enumerate(found):
        kept = sure[place] > 0.005
        assert 0 < len(item.label) == int(kept.sum())
        torch.testing.assert_close(item.confidence, sure[place][kept])
        assert torch.equal(item.label, label[place][kept])
        middle = (item.boxes[:, :2] + item.boxes[:, 2:]) / 2
        torch.testing.assert_close(middle, centre[place][kept], atol=1e-3, rtol=1e-3)


def test_a_detector_is_loaded_once(folder: Path, detector: DetectorFinder) -> None:
    assert load_detector(str(folder), "cpu", 0.005) is detector


def test_boxes_below_the_threshold_are_not_reported(detector: DetectorFinder) -> None:
    strict = DetectorFinder(detector.model, detector.processor, threshold=1.0)
    [first, _] = strict.find(PICTURES, NAMES)
    assert first.boxes.shape == (0, 4)
    assert first.label.dtype == torch.long


class Phrases:
    """The processor of a detector that reports the words it matched."""

    def __call__(self, **_: Any) -> Any:
        return self

    def to(self, *_: Any) -> dict[str, Any]:
        return {}

    def post_process_grounded_object_detection(
        self, outputs: Any, threshold: float, text_threshold: float, **_: Any
    ) -> list[dict[str, Any]]:
        assert text_threshold == threshold
        texts = ["red cat", "cat", "dog with", "", "cow"]
        return [{"boxes": torch.rand(5, 4), "scores": torch.rand(5), "text_labels": texts}]


class Silent(torch.nn.Module):
    device, dtype = torch.device("cpu"), torch.float32

    def forward(self) -> None: ...


def test_phrases_are_taken_for_the_name_they_share_words_with() -> None:
    finder = DetectorFinder(Silent(), Phrases(), 0.3)
    [found] = finder.find(PICTURES[:1], ["dog with hat", "red cat"])
    assert found.label.tolist() == [1, 1, 0]
    assert len(found.boxes) == len(found.confidence) == 3


@pytest.mark.parametrize(
    ("name", "words"), [("nowhere/at-all", "does not load"), ("config", "does not load")]
)
def test_what_is_no_detector_is_refused_in_one_line(
    folder: Path, tmp_path: Path, name: str, words: str
) -> None:
    if name == "config":  # a folder without weights
        (tmp_path / "config.json").write_text((folder / "config.json").read_text())
        name = str(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        load_detector(name, "cpu", 0.1)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


class Witness:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def answer(self, text: str, frames: Tensor | None = None, *, max_tokens: int = 128) -> str:
        raise AssertionError("nothing is said")

    def probability(self, frames: Tensor, texts: Sequence[str], option: str = "A") -> Tensor:
        assert option == "yes"
        self.asked = list(texts)
        return torch.tensor([[0.1, 0.9], [0.4, 0.2]], dtype=torch.float64)

    def other(self, model: str) -> Witness:
        return self


def test_a_model_that_is_asked_finds_names_in_whole_pictures() -> None:
    witness = Witness()
    finder = AskingFinder(witness, lambda name: f"Is {name} there?")
    first, second = finder.find(PICTURES, ["a cat", "a {cow}"])
    assert witness.asked == ["Is a cat there?", "Is a {cow} there?"]
    assert first.confidence.tolist() == [0.1, 0.9]
    assert second.confidence.tolist() == [0.4, 0.2]
    assert first.boxes.tolist() == [[0, 0, 50, 30]] * 2
    assert first.label.tolist() == [0, 1]
    assert not finder.tiled
