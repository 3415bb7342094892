"""From media to visual tokens: the half of the pipeline that comes before the prompt.

`_see` opens media, chooses frames and makes views; `tokens` runs tower, connector and reduction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from torch.nn import functional

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.meter import metered
from sparsight.core.plan import Plan
from sparsight.core.slots import Chosen, Need, Request, needs_of, slots_of
from sparsight.core.tokens import FeatureMap, Views
from sparsight.llm.rope import frequencies
from sparsight.measure.stages import Stages
from sparsight.media import Access, Limits, load
from sparsight.media.sampling import parse_selection
from sparsight.vlm.cost import vision_flops
from sparsight.vlm.encoded import Encoded, digest
from sparsight.vlm.families.base import FILM, MIXED, PICTURE, PICTURES, Family
from sparsight.vlm.first_layer import asked
from sparsight.vlm.prompt import Medium
from sparsight.vlm.report import Seen


class Seeing:
    """A checkpoint under a plan, as far as the visual tokens.

    A plan that the checkpoint cannot follow is a `UserError` here, before any work.
    """

    def __init__(
        self,
        family: Family,
        plan: Plan,
        limits: Limits | None = None,
        access: Access | None = None,
        encoded: Encoded | None = None,
    ) -> None:
        self.family = family
        self.encoded = encoded
        self.plan = plan
        self.limits = limits or Limits()
        self.access = access or Access()
        self._check_needs()

    def _check_needs(self) -> None:
        supplied = self.family.supplies()
        for system in self.plan.systems:
            for need in needs_of(system):
                if need.name not in supplied:
                    raise UserError(
                        f"{system.system_name} needs {need.name.replace('_', ' ')}, which "
                        f"{self.family.label} cannot supply"
                    )
        inside = self._system("inside")
        if inside is not None:
            inside.edits(self._depth)  # refuses layers that the LLM does not have
        if self._system("positions") is not None:
            frequencies(self.family.decoder)  # refuses an LLM that has none

    @property
    def _depth(self) -> int:
        """Layers of the LLM."""
        return len(self.family.decoder.layers)  # type: ignore[arg-type]

    def _system(self, slot: str) -> Any:
        """The system in a slot, or None."""
        return next((item for item in self.plan.systems if slot in slots_of(item)), None)

    # ---- from media to views ------------------------------------------------------------------

    def _see(
        self,
        sources: Sequence[Sequence[Any]],
        requests: Sequence[Request],
        frames: str | None,
        stages: Stages,
    ) -> list[list[Seen]]:
        """Open all media of each request, choose and decode frames, make views."""
        with stages("fetch"):
            clips = [
                [load(source, limits=self.limits, policy=self.access) for source in media]
                for media in sources
            ]
        for media in clips:
            self.check_support(media)
        seen: list[list[Seen]] = []
        for media, request in zip(clips, requests, strict=True):
            pictures = sum(clip.kind == "picture" for clip in media)
            row = []
            for clip in media:
                timed = clip.kind == "film" and self._system("select") is not None
                with stages("select") if timed else nullcontext():
                    chosen = self._chosen(clip, frames, request)
                with stages("decode"):
                    pixels = clip.frames(chosen.frames)
                with stages("preprocess"):
                    views = self.views(clip, chosen.frames, pixels, pictures)
                    if chosen.share is not None:
                        views = _with_share(views, chosen.share)
                row.append(Seen(clip, tuple(chosen.frames), views, chosen.told))
            seen.append(row)
        return seen

    def check_support(self, media: Sequence[Clip]) -> None:
        """Refuse media that the family, or a system of the plan, does not take."""
        kinds = [clip.kind for clip in media]
        wanted = set()
        if "picture" in kinds:
            wanted.add(PICTURE if kinds.count("picture") == 1 else PICTURES)
        if "film" in kinds:
            wanted.add(FILM)
        if len(set(kinds)) == 2:
            wanted.add(MIXED)
        words = {
            PICTURE: "pictures",
            PICTURES: "several pictures in one prompt",
            FILM: "films",
            MIXED: "pictures and films in one prompt",
        }
        for need in sorted(wanted - self.family.supports):
            raise UserError(f"{self.family.label} does not take {words[need]}")
        for system in self.plan.systems:
            for_films = any(need.name == "film" for need in needs_of(system))
            if for_films and "film" not in kinds:
                raise UserError(f"{system.system_name} works on films, and none was given")

    def choose(self, clip: Clip, frames: str | None, request: Request) -> list[int]:
        """The indices of the frames to look at."""
        return self._chosen(clip, frames, request).frames

    def _chosen(self, clip: Clip, frames: str | None, request: Request) -> Chosen:
        if clip.kind == "picture":
            return Chosen([0])
        selector = self._system("select")
        if selector is not None:
            if frames is not None or self.plan.frames is not None:
                raise UserError(
                    f"{selector.system_name} chooses the frames itself: leave out the selection"
                )
            with metered():
                chosen = selector.select(clip, request)
            return chosen if isinstance(chosen, Chosen) else Chosen(chosen)
        text = frames or self.plan.frames or self.family.default_frames
        return Chosen(parse_selection(text).indices(clip))

    def views(self, clip: Clip, chosen: list[int], pixels: Tensor, pictures: int) -> Views:
        """The views of a clip's chosen frames, `pixels` (T, H, W, 3) uint8, in a prompt that has
        so many pictures."""
        if clip.kind == "picture":
            return self.family.picture_views(pixels[0], alone=pictures == 1)
        times = [float(clip.timestamps[index]) for index in chosen]
        views = self.family.film_views(pixels, times, clip.duration)
        tiler = self._system("tile")
        if tiler is None:
            return views
        with metered():
            more = tiler.tile(self.family.square_pixels(views))
        return self.family.with_thumbnails(views, more)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (n,) -> embeddings (n, D) on the model's device."""
        table = self.family.model.get_input_embeddings()
        return table(ids.to(self.family.model.device))

    # ---- from views to tokens -----------------------------------------------------------------

    def tokens(
        self,
        views: Sequence[Sequence[Views]],
        requests: Sequence[Request],
        stages: Stages | None = None,
        *,
        costs: bool = True,
    ) -> tuple[list[list[Medium]], list[float]]:
        """Run the tower once a kind over the whole batch, then connect and reduce each medium.

        `views` holds the media of each request. Returns the packed media of each request and
        what they cost the vision side in operations (0 without `costs`).
        """
        stages = stages or Stages(self.family.model.device)
        flat = [item for row in views for item in row]
        merger = self._system("encode")
        merging = merger.merging if merger else None
        flops = [0.0] * len(flat)
        maps = self._encode(flat, merging, stages)
        with stages("connect+reduce"):
            for kind in ("image", "video"):
                places = [i for i, item in enumerate(flat) if item.kind == kind]
                if not places:
                    continue
                projected = self.family.project([maps[i] for i in places])
                for place, item in zip(places, projected, strict=True):
                    maps[place] = item
                    if costs:
                        count = item.features[..., 0].numel()
                        flops[place] = vision_flops(self.family, [item.views], count, merging)
            in_order = iter(range(len(flat)))
            rows = [[next(in_order) for _ in row] for row in views]
            media = [
                self._reduced([self._packed(maps[place]) for place in row], request)
                for row, request in zip(rows, requests, strict=True)
            ]
        return media, [sum(flops[place] for place in row) for row in rows]

    def _encode(self, flat: Sequence[Views], merging: Any, stages: Stages) -> dict[int, FeatureMap]:
        """The features of all media, by place; the tower runs once a kind."""
        needs, device = self._needs(), self.family.model.device
        known = None if merging else self.encoded
        maps: dict[int, FeatureMap] = {}
        names: list[str] = []
        if known is not None:
            with stages.uncounted():
                names = [digest(item) for item in flat]
                for place, item in enumerate(flat):
                    found = known.find(names[place], item, needs, device)
                    if found is not None:
                        maps[place] = found[0]
                        stages.recall("encode", found[1])
        fresh = [place for place in range(len(flat)) if place not in maps]
        before = stages.seconds.get("encode", 0.0)
        with stages("encode"):
            for kind in ("image", "video"):
                places = [place for place in fresh if flat[place].kind == kind]
                if places:
                    inputs = [self._on_device(flat[place]) for place in places]
                    made = self.family.encode(inputs, needs, merging)
                    maps |= zip(places, made, strict=True)
        if known is not None and fresh:
            with stages.uncounted():
                spent = stages.seconds["encode"] - before
                each = spent / sum(len(flat[place]) for place in fresh)
                for place in fresh:
                    known.keep(names[place], maps[place], needs, each * len(flat[place]))
        return maps

    def _needs(self) -> list[Need]:
        return [need for system in self.plan.systems for need in needs_of(system)]

    def _on_device(self, views: Views) -> Views:
        device = self.family.model.device
        inputs = {name: value.to(device) for name, value in views.inputs.items()}
        return dataclasses.replace(views, inputs=inputs)

    def _packed(self, features: FeatureMap) -> Medium:
        """One medium, not reduced yet."""
        connector, full = self._system("connect"), None
        if connector is not None:
            newline = self.family.separator(features)
            with metered():
                full = connector.connect(dataclasses.replace(features, separator=newline))
        if full is None:
            full = self.family.pack(features)
            slots = len(full)  # `splice` holds it against the placeholders
        else:
            slots = self.family.slots(features)
        return Medium(features.views.kind, full, full, slots)

    def _reduced(self, media: list[Medium], request: Request) -> list[Medium]:
        """The media of one prompt, reduced."""
        for system in self.plan.systems if media else ():
            if any(need.name == "question_attention" for need in needs_of(system)):
                if request.ids is None:
                    raise UserError(f"{system.system_name} reads the whole prompt: ask a question")
                with metered():
                    media = asked(self.family, request.ids, media, self.embed)
                break
        return [self._fewer(medium, request) for medium in media]

    def _fewer(self, medium: Medium, request: Request) -> Medium:
        """One medium, reduced."""
        reducer, kept = self._system("reduce"), medium.full
        if reducer is not None:
            with metered():
                kept = reducer.reduce(medium.full, request)
        if len(kept) == 0:
            raise UserError(f"{reducer.system_name} left no visual token: raise its budget")
        decoder, second = self._system("decode"), None
        if decoder is not None:
            with metered():
                second = decoder.against(medium.full)
        return dataclasses.replace(medium, kept=kept, second=second)


def _with_share(views: Views, share: Tensor) -> Views:
    """Views that carry the share (T,) of their frames: the sum where a view holds several."""
    made = views.roles.count("frame")
    each = -(-len(share) // made)
    of_views = functional.pad(share, (0, made * each - len(share))).view(made, each).sum(1)
    return dataclasses.replace(views, share=functional.pad(of_views, (0, len(views) - made)))
