"""From prompts to replies: the half of the pipeline that runs the decoder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from sparsight.core.errors import UserError
from sparsight.core.reply import Reply, Timing
from sparsight.llm.cache import kv_bytes
from sparsight.llm.deepstack import deepstack
from sparsight.llm.edits import Trace, edited
from sparsight.llm.gaps import gaps_allowed
from sparsight.llm.generation import Cancel, StepTimes
from sparsight.llm.layout import Layout
from sparsight.llm.rope import frequencies, rotating
from sparsight.llm.second import SecondStream
from sparsight.measure.flops import decoder_shape
from sparsight.measure.stages import Stages, synchronize
from sparsight.vlm.prompt import Batch, pad
from sparsight.vlm.report import Prepared, flops, token_map, usage, visual_per_layer
from sparsight.vlm.seeing import Seeing


class Answering(Seeing):
    """A checkpoint under a plan that answers prompts."""

    def layout(self, batch: Batch) -> Layout:
        """The decoder's view of a batch, for systems inside the LLM."""
        return Layout.of(
            batch.mask,
            visual=batch.medium >= 0,
            prunable=batch.prunable,
            media=batch.medium,
            index=batch.index,
            group=batch.group,
        )

    @contextmanager
    def driving(self, batch: Batch, answer: int = 0) -> Iterator[Trace | None]:
        """A context in which the decoder runs `batch` under the plan, with an answer of up to so
        many tokens behind it; yields its trace."""
        decoder = self.family.decoder
        inside = self._system("inside")
        with ExitStack() as stack:
            stack.enter_context(gaps_allowed(decoder))
            if self._system("positions") is not None:
                stack.enter_context(self._rotating(batch, answer))
            trace = None
            if inside is not None:
                edits = inside.edits(self._depth)
                trace = stack.enter_context(edited(decoder, edits, self.layout(batch)))
            if batch.extra:
                stack.enter_context(self._deepstack(batch))
            yield trace

    def _rotating(self, batch: Batch, answer: int) -> Any:
        """A context in which the decoder rotates by the frequencies of the plan."""
        decoder = self.family.decoder
        inverse, system = frequencies(decoder), self._system("positions")
        largest = batch.positions.view(-1, *batch.mask.shape).amax((0, 2)) + 1 + answer
        if self._system("decode") is not None:  # the second prompts share the frequencies
            largest = largest.max().expand_as(largest)
        rows = [system.frequencies(inverse, n, self._room or n) for n in largest.tolist()]
        return rotating(decoder, torch.stack(rows))

    @property
    def _room(self) -> int | None:
        """Positions that the LLM was trained on."""
        return getattr(self.family.decoder.config, "max_position_embeddings", None)

    def fits(self, positions: int) -> bool:
        """Whether the LLM was trained on so many positions; True where it does not say."""
        return self._room is None or positions <= self._room

    def _deepstack(self, batch: Batch) -> Any:
        """A context in which the decoder is given the further visual features of `batch`."""
        return deepstack(self.family.decoder, list(batch.extra), batch.medium >= 0)

    def _answer(
        self,
        prepared: Sequence[Prepared],
        stages: Stages,
        started: float,
        options: Mapping[str, Any],
        cancel: Cancel,
        streamer: BaseStreamer | None,
    ) -> list[Reply]:
        """Let the decoder answer a batch; `started` is when the request came in."""
        family = self.family
        filler = self.embed(torch.tensor([family.pad_token]))[0]
        batch = pad([item.prompt for item in prepared], filler)
        self._check_length(batch, options["max_new_tokens"])
        second = self._second(prepared, filler, options["max_new_tokens"])
        device = family.model.device
        cache = self._system("cache")
        held = None if cache is None else cache.cache(self._depth, batch.mask == 0)
        with self.driving(batch, options["max_new_tokens"]) as trace:
            torch.manual_seed(self.plan.seed)
            times = StepTimes(lambda: synchronize(device))
            out = family.model.generate(
                inputs_embeds=batch.embeds,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([times, cancel]),
                return_dict_in_generate=True,
                custom_generate=None if second is None else second.loop(streamer),
                **({} if held is None else {"past_key_values": held}),
                **options,
            )
        stages.add("prefill", times.first or 0.0)
        ended = time.perf_counter()
        timing = Timing(
            stages=dict(stages.seconds),
            steps=tuple(times.steps),
            first_token=(times.at[0] if times.at else ended) - started + stages.aside,
            total=ended - started + stages.aside,
            own=stages.own.seconds,
        )
        bytes_held = kv_bytes(out.past_key_values) + (0 if second is None else second.kv_bytes)
        names = tuple(system.system_name for system in self.plan.systems)
        shape = decoder_shape(family.decoder.config)
        replies = []
        for row, item in enumerate(prepared):
            visual = visual_per_layer(item.prompt, self._depth, trace, row)
            answer, finish = self._finish(out.sequences[row].tolist(), cancel)
            replies.append(
                Reply(
                    text=family.tokenizer.decode(answer, skip_special_tokens=True).strip(),
                    tokens=tuple(answer),
                    finish=finish,
                    usage=usage(item, visual, len(answer)),
                    timing=timing,
                    kv_bytes=bytes_held,
                    flops=flops(item, shape, visual, len(answer)),
                    maps=tuple(
                        token_map(item, place, self._depth, trace, row)
                        for place in range(len(item.media))
                    ),
                    systems=names,
                )
            )
        return replies

    def _second(
        self, prepared: Sequence[Prepared], filler: Tensor, answer: int
    ) -> SecondStream | None:
        """What reads the second prompts along; None where no request has one."""
        found = [(row, item.second) for row, item in enumerate(prepared) if item.second is not None]
        if not found:
            return None
        rows, prompts = zip(*found, strict=True)
        batch = pad(prompts, filler)
        self._check_length(batch, answer)
        more = {"opened": partial(self._deepstack, batch)} if batch.extra else {}
        combine = self._system("decode").decoding
        return SecondStream(
            self.family.model, batch.embeds, batch.mask, batch.positions, combine, rows, **more
        )

    def _finish(self, tokens: list[int], cancel: Cancel) -> tuple[list[int], str]:
        """An answer up to its end token, and how it ended."""
        ends = self.family.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        for place, token in enumerate(tokens):
            if token in ends:
                return tokens[: place + 1], "stop"
        return tokens, "cancelled" if cancel.cancelled else "length"

    def _check_length(self, batch: Batch, answer: int) -> None:
        if self._system("positions") is not None:
            return  # which makes room, or says so itself
        prompt = int(batch.positions.max()) + 1
        if not self.fits(prompt + answer):
            raise UserError(
                f"the prompt takes {prompt} positions and the answer up to {answer}, but the "
                f"model has {self._room}: use fewer frames, or lower max_tokens"
            )
