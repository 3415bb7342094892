"""The settings that come with a checkpoint: its preprocessing, processor and chat template files.

Read as JSON from a local folder, so that nothing here needs torchvision.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsight.core.errors import UserError


@dataclass(frozen=True)
class Settings:
    """`picture` and `film` are the image and video processor's settings, `processor` the rest."""

    picture: dict[str, Any] = field(default_factory=dict)
    film: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    chat_template: str | None = None


def read_settings(folder: Path) -> Settings:
    """Read a checkpoint folder's settings in the old layout (one file each) and the new one
    (everything nested in processor_config.json)."""
    processor = _json(folder / "processor_config.json")
    picture = processor.pop("image_processor", None) or _json(folder / "preprocessor_config.json")
    film = processor.pop("video_processor", None) or _json(
        folder / "video_preprocessor_config.json"
    )
    template = None
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        template = jinja.read_text()
    else:
        template = _json(folder / "chat_template.json").get("chat_template")
    return Settings(picture, film, processor, template)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, OSError):
        raise UserError(f"{path.name} of the model is not valid JSON: download it again") from None
