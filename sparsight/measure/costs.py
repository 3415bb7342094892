"""What a reply cost, as rows of a table: in words and numbers for people."""

from __future__ import annotations

from sparsight.core.reply import Reply

#: Name, value, remark.
Row = tuple[str, str, str]


def time_rows(reply: Reply) -> list[Row]:
    """The stages in order with their share of the whole, then the first token and the total."""
    timing = reply.timing
    total = timing.total or 1.0
    rows = [(name, seconds(spent), f"{spent / total:.0%}") for name, spent in timing.stages.items()]
    spent = sum(timing.steps)
    if spent:
        pace = f"{spent / total:.0%}, {len(timing.steps) / spent:.1f} tokens a second"
        rows.append(("decode steps", seconds(spent), pace))
    rows.append(("first token", seconds(timing.first_token), ""))
    rows.append(("total", seconds(timing.total), ""))
    return rows


def cost_rows(reply: Reply) -> list[Row]:
    """Tokens, operations and the key-value cache."""
    usage, flops = reply.usage, reply.flops
    kept = f"{usage.visual_kept / usage.visual_seen:.1%}" if usage.visual_seen else ""
    asked = [("FLOPs, select", operations(flops.select), "")] if flops.select else []
    return [
        ("visual tokens seen", f"{usage.visual_seen:,}", ""),
        ("visual tokens kept", f"{usage.visual_kept:,}", kept),
        ("mean over layers", f"{usage.visual_mean:,.1f}", ""),
        ("prompt tokens", f"{usage.prompt:,}", ""),
        ("answer tokens", f"{usage.answer:,}", reply.finish),
        *asked,
        ("FLOPs, tower", operations(flops.tower), ""),
        ("FLOPs, prefill", operations(flops.prefill), ""),
        ("FLOPs, decode", operations(flops.decode), ""),
        ("key-value cache", size(reply.kv_bytes), ""),
    ]


def seconds(value: float) -> str:
    """ "3.21 s", "85.0 ms"."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def size(count: float) -> str:
    """Bytes: "640 B", "1.5 KiB", "347.0 MiB"."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def operations(count: float) -> str:
    """Operations: "8.4 TFLOP"."""
    return _scaled(count, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def _scaled(count: float, step: int, units: tuple[str, ...]) -> str:
    place = 0
    while count >= step and place < len(units) - 1:
        count, place = count / step, place + 1
    return f"{count:.0f} {units[place]}" if place == 0 else f"{count:.1f} {units[place]}"
