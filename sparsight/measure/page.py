"""One self-contained HTML page of a reply's token maps: nothing is fetched, everything escaped.

The page shows what the picture of `sparsight.measure.pictures` shows, and answers the pointer:
a token says what it stands for, a slider goes through the layers of the LLM.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image

from sparsight.core.reply import Reply
from sparsight.measure.costs import Row, cost_rows, time_rows
from sparsight.measure.page_parts import SCRIPT, STYLE
from sparsight.measure.panels import Drawing, Medium, Panel, clock, medium_of, percent, some
from sparsight.measure.shell import page

_SIDE = 720  # pixels of the longer side of an inlined picture
_FINE = 10_000  # boxes are written as whole numbers of ten thousandths


def page_of_tokens(drawings: Sequence[Drawing], reply: Reply, question: str = "") -> str:
    """An HTML page.

    Args:
        drawings: for each medium its token map and its pictures, uint8 (F, H, W, 3).
        reply: for the tables of tokens and time.
        question: shown with the answer; without one, neither is.
    """
    media = [medium_of(drawing) for drawing in drawings]
    sections = "".join(_section(place, medium) for place, medium in enumerate(media))
    main = f"""{_header(reply, question)}
{_controls(media)}
{sections}
<section class="tables">
{_table("Tokens and cost", cost_rows(reply))}
{_table("Time", time_rows(reply))}
</section>"""
    data = _json([_data(medium) for medium in media])
    return page(question or "Visual tokens", STYLE, main, SCRIPT, data)


# ---- what stands there without a script --------------------------------------------------------


def _header(reply: Reply, question: str) -> str:
    usage = reply.usage
    share = usage.visual_kept / usage.visual_seen if usage.visual_seen else 0.0
    asked = f"<h1>{escape(question)}</h1>" if question else "<h1>Visual tokens</h1>"
    answer = f'<p class="answer">{escape(reply.text)}</p>' if question else ""
    systems = " + ".join(reply.systems) or "all tokens"
    return f"""<header>
<p class="quiet">Sparsight &middot; {escape(systems)}</p>
{asked}{answer}
<dl>
<div><dt>tokens seen</dt><dd>{usage.visual_seen:,}</dd></div>
<div><dt>kept</dt><dd class="kept">{usage.visual_kept:,}</dd></div>
<div><dt>of all</dt><dd>{escape(percent(share))}</dd></div>
<div><dt>mean over layers</dt><dd>{usage.visual_mean:,.0f}</dd></div>
</dl>
</header>"""


def _controls(media: Sequence[Medium]) -> str:
    """What can be switched, and the legend; only of what is there."""
    parts = ['<label><input type="checkbox" id="whole"> whole picture</label>']
    if any(medium.merged for medium in media):
        parts.append(
            '<label><input type="checkbox" id="outline" checked>'
            '<span class="swatch merged"></span>merged of several</label>'
        )
    depth = max((medium.depth for medium in media), default=0)
    if any(medium.dropped_inside for medium in media):
        parts.append(
            f'<label class="layers">layer <input type="range" id="layer" min="0" max="{depth}" '
            'value="0"><output id="at">all: the longer kept, the brighter</output></label>'
        )
    return f'<form class="controls" onsubmit="return false">{"".join(parts)}</form>'


def _section(place: int, medium: Medium) -> str:
    panels = some(medium.panels)
    figures = "".join(_figure(f"m{place}p{at}", panel) for at, panel in enumerate(panels))
    many = " many" if len(panels) > 8 else " few" if len(panels) <= 2 else ""
    left_out = len(medium.panels) - len(panels)
    note = f" &middot; {len(panels)} of {len(medium.panels)} drawn" if left_out else ""
    return f"""<section class="medium">
<h2>{escape(medium.origin)}</h2>
<p class="quiet">{escape(medium.counts)}{note}</p>
<div class="panels{many}">{figures}</div>
{_strip(place, medium, panels) if medium.film else ""}
</section>"""


def _figure(name: str, panel: Panel) -> str:
    height, width = (1, 1) if panel.picture is None else panel.picture.shape[:2]
    image = "" if panel.picture is None else f'<img alt="" src="{_data_url(panel)}">'
    return (
        f'<figure id="{name}"><div class="frame" style="aspect-ratio:{width}/{height}">{image}'
        f"<canvas></canvas></div><figcaption><b>{escape(panel.caption)}</b> "
        f"<span>{panel.kept} of {panel.seen}</span></figcaption></figure>"
    )


def _strip(place: int, medium: Medium, drawn: Sequence[Panel]) -> str:
    """A bar a frame, over time; a bar whose frame is drawn leads there."""
    frames = [panel for panel in medium.panels if panel.time is not None]
    most = max((panel.seen for panel in frames), default=1) or 1
    links = {id(panel): f"#m{place}p{at}" for at, panel in enumerate(drawn)}
    bars = []
    for panel in frames:
        told = escape(f"{panel.caption}: {panel.kept} of {panel.seen} kept", quote=True)
        link = links.get(id(panel))
        bars.append(
            f'<a title="{told}" aria-label="{told}"{f" href={link!r}" if link else ""} '
            f'style="height:{100 * panel.seen / most:.1f}%">'
            f'<i style="height:{100 * panel.kept / (panel.seen or 1):.1f}%"></i></a>'
        )
    ends = (frames[0].time, frames[-1].time) if frames else (0.0, 0.0)
    times = "".join(f"<span>{escape(clock(at or 0.0))}</span>" for at in ends)
    return (
        f'<div class="strip" aria-label="tokens over time">{"".join(bars)}</div>'
        f'<div class="times quiet">{times}</div>'
    )


def _table(title: str, rows: Sequence[Row]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td>'
        f'<td class="quiet">{escape(note)}</td></tr>'
        for name, value, note in rows
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"


# ---- what the script draws from ----------------------------------------------------------------


def _data(medium: Medium) -> dict[str, Any]:
    return {"depth": medium.depth, "panels": [_tokens(panel) for panel in some(medium.panels)]}


def _tokens(panel: Panel) -> dict[str, Any]:
    """The kept tokens of a panel: flat whole numbers, a token after the other."""
    return {
        "seen": panel.seen,
        "lit": (panel.lit.clip(0, 1) * _FINE).round().astype(int).ravel().tolist(),
        "box": (panel.box.clip(0, 1) * _FINE).round().astype(int).ravel().tolist(),
        "merged": panel.merged.astype(int).tolist(),
        "weight": panel.weight.round(2).tolist(),
        "layers": panel.layers.tolist(),
    }


def _json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data_url(panel: Panel) -> str:
    assert panel.picture is not None
    image = Image.fromarray(panel.picture)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
