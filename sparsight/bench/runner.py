"""Asking a model every item of a list, resumably, with what each answer cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import nn

import sparsight
from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.store import Run
from sparsight.core.errors import UserError, is_out_of_memory
from sparsight.core.slots import slots_of
from sparsight.measure.machine import machine
from sparsight.measure.memory import peak_bytes, reset_peak, used_bytes
from sparsight.vlm.messages import question_messages

if TYPE_CHECKING:
    from sparsight.bench.store import Store
    from sparsight.core.reply import Reply
    from sparsight.vlm.pipeline import VLM

ANSWER = 48  # tokens of the longest answer
_VERSIONS = ("sparsight", "torch", "transformers")


def ask_all(
    vlm: VLM,
    items: Sequence[Item],
    *,
    store: Store | None = None,
    batch: int = 1,
    max_tokens: int = ANSWER,
    on_record: Callable[[Record], None] | None = None,
    data: str = "",
    warm: bool = False,
) -> list[Record]:
    """Ask every item, greedily; the records in the items' order.

    Args:
        vlm: the model with its plan. A plan's frame selection goes before an item's.
        items: with ids of their own.
        store: where records are kept; what it has of the same model, plan, data and settings is
            not asked again, only scored again.
        batch: questions answered together. With 1 the seconds of each stage are the item's own;
            with more they are shared evenly, but for `first_token`, which all of them wait for.
        max_tokens: of the longest answer.
        on_record: called with every record, those of the store first.
        data: what the items are, in words that differ where ids may meet.
        warm: ask the first item once beforehand, so that no record pays for what is done once.

    An item that fails becomes a record with its error and counts as wrong. What is not the
    item's fault is raised: memory that ran out, a connection that is down, Ctrl-C, a full disk.
    """
    assert batch >= 1, batch
    by_id = {item.id: item for item in items}
    assert len(by_id) == len(items), "two items of one id"
    run = run_of(vlm, data=data, batch=batch, max_tokens=max_tokens)
    found: dict[str, Record] = {}

    def tell(records: Sequence[Record]) -> None:
        for record in records:
            found[record.item] = record
            if on_record is not None:
                on_record(record)

    signs = {item.id: item.sign for item in items} if store is not None else {}
    if store is not None:
        known, theirs = store.records(run.key), store.signs(run.key)
        same = [known[name] for name in by_id if name in known and theirs[name] == signs[name]]
        tell([_scored(by_id[record.item], record) for record in same])
    pending = [item for item in items if item.id not in found]
    if pending and store is not None:
        store.begin(run, {"seed": vlm.plan.seed, "machine": _machine()})
    if pending and warm:
        _ask(vlm, pending[:1], max_tokens)
    for chunk in _chunks(vlm, pending, batch):
        records = _ask(vlm, chunk, max_tokens)
        if store is not None:
            store.add(run.key, [(signs[record.item], record) for record in records])
        tell(records)
    return [found[item.id] for item in items]


def run_of(vlm: VLM, *, data: str = "", batch: int = 1, max_tokens: int = ANSWER) -> Run:
    """What the records of these settings are kept under."""
    model = vlm.family.model
    versions = {"sparsight": sparsight.__version__, **_machine()["versions"]}
    settings = {
        "batch": batch,
        "max_tokens": max_tokens,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "weights": fingerprint(model),
        "versions": {name: versions.get(name, "") for name in _VERSIONS},
    }
    return Run(vlm.plan.model, vlm.plan.to_yaml(), data, settings)


def fingerprint(model: nn.Module) -> str:
    """A short name of a model's weights, made of the first numbers of every parameter."""
    digest = hashlib.sha256()
    for name, values in model.named_parameters():
        first = values.detach().reshape(-1)[:8].float().cpu().numpy()
        digest.update(f"{name} {tuple(values.shape)}".encode() + first.tobytes())
    return digest.hexdigest()[:16]


def frames_of(vlm: VLM, item: Item) -> str | None:
    """The frame selection that an item is asked with: none where the plan says, or a system
    chooses, which frames are looked at."""
    selects = any("select" in slots_of(system) for system in vlm.plan.systems)
    return None if selects or vlm.plan.frames is not None else item.frames


def _chunks(vlm: VLM, items: Sequence[Item], batch: int) -> Iterator[list[Item]]:
    """Items that are asked together: at most `batch`, of one frame selection."""
    for _, group in groupby(items, key=lambda item: frames_of(vlm, item)):
        alike = list(group)
        for start in range(0, len(alike), batch):
            yield alike[start : start + batch]


def _ask(vlm: VLM, items: Sequence[Item], max_tokens: int) -> list[Record]:
    device = vlm.family.model.device
    try:
        asked = [question_messages(item.sources(), item.question) for item in items]
        reset_peak(device)
        before = used_bytes(device)
        replies = vlm.chat_batch(
            asked, frames=frames_of(vlm, items[0]), max_tokens=max_tokens, temperature=0
        )
        memory = max(0, peak_bytes(device) - before)
        pairs = zip(items, replies, strict=True)
        return [_record(item, reply, memory, len(items)) for item, reply in pairs]
    except Exception as error:
        if is_out_of_memory(error) or _is_not_the_items_fault(error):
            raise
        if len(items) > 1:  # only those that fail alone have failed
            return [record for item in items for record in _ask(vlm, [item], max_tokens)]
        return [Record(items[0].id, items[0].task, error=_told(error))]


def _record(item: Item, reply: Reply, memory: int, shared: int) -> Record:
    timing, usage, flops = reply.timing, reply.usage, asdict(reply.flops)
    blank = Record(
        item=item.id,
        task=item.task,
        reply=reply.text,
        visual_seen=usage.visual_seen,
        visual_kept=usage.visual_kept,
        visual_mean=usage.visual_mean,
        flops={name: count for name, count in flops.items() if count or name != "select"},
        kv_bytes=reply.kv_bytes // shared,
        stages={name: spent / shared for name, spent in timing.stages.items()},
        first_token=timing.first_token,
        total=timing.total / shared,
        own=timing.own / shared,
        memory=memory // shared,
    )
    return _scored(item, blank)


def _scored(item: Item, record: Record) -> Record:
    """The record with the score that the item gives its reply now."""
    if record.error is not None:
        return record
    score = item.score(record.reply)
    return replace(record, score=score, right=score >= item.passes)


def _is_not_the_items_fault(error: BaseException) -> bool:
    """Whether it was a lost connection, or a Ctrl-C, which libraries wrap in their own errors."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found is not None


def _told(error: Exception) -> str:
    """The error in one line."""
    if isinstance(error, UserError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@cache
def _machine() -> dict[str, Any]:
    return machine()
