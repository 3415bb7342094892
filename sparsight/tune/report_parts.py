"""The style and the script of the report, on top of the house's. Plain CSS and JavaScript."""

from sparsight.measure.page_parts import STYLE as HOUSE_STYLE

STYLE = (
    HOUSE_STYLE
    + """
:root { --full: #1c1e21; --base: #6b7079; --band: #eef0f2; --worse: #a83232;
  --s0: #868b94; --s1: #5b3a8c; --s2: #c26a00; --s3: #174d8c; --s4: #1f9a72; --s5: #8c2d22;
  --s6: #7a8a2a; --s7: #33475b; }
@media (prefers-color-scheme: dark) { :root { --full: #eceef1; --base: #949ba6; --band: #1a1d23;
  --worse: #f19a8e;
  --s0: #7d848f; --s1: #d3b5f5; --s2: #c77d1e; --s3: #a5d0f7; --s4: #2f9c78; --s5: #ffb3a6;
  --s6: #8a9a3a; --s7: #d5dde6; } }
h2 { font-size: 20px; margin: 0 0 4px; }
h3 { font-size: 15px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h3 span { color: var(--quiet); font-weight: 400; }
section.part { margin-top: 56px; }
.conclusion { font-size: 19px; line-height: 1.45; max-width: 56em; margin-top: 12px;
  overflow-wrap: anywhere; }
.cautions { margin: 12px 0 0; padding-left: 20px; max-width: 62em; }
.cautions li { margin-top: 4px; }

.axes { border: 0; padding: 0; margin: 12px 0 0; min-width: 0; }
.axes > input { position: absolute; opacity: 0; }
.axes > label { display: inline-block; padding: 4px 14px; min-height: 36px; line-height: 28px;
  border: 1px solid var(--line); font-size: 14px; cursor: pointer; }
.axes > label + input + label { border-left: 0; }
.axes > input:checked + label { background: var(--ink); color: var(--paper); }
.axes > input:focus-visible + label { outline: 2px solid var(--kept); outline-offset: 2px; }
.axes > .chart { display: none; margin-top: 12px; }
.axes > input:nth-of-type(1):checked ~ .chart:nth-of-type(1),
.axes > input:nth-of-type(2):checked ~ .chart:nth-of-type(2),
.axes > input:nth-of-type(3):checked ~ .chart:nth-of-type(3) { display: block; }
svg { display: block; }
svg.pareto { width: 100%; height: auto; font-family: inherit; }
svg.narrow { display: none; max-width: 540px; }
@media (max-width: 700px) { svg.wide { display: none; } svg.narrow { display: block; } }
.grid { stroke: var(--line); } .axis { stroke: var(--quiet); }
.mark { fill: var(--quiet); }
.level { fill: none; stroke: var(--full); stroke-dasharray: 2 4; opacity: .7; }
.line { fill: none; stroke: var(--base); stroke-dasharray: 5 4; }
.front { fill: none; stroke: var(--kept); stroke-width: 2; }
.interval { stroke: var(--kept); stroke-width: 1; opacity: .4; }
.best > .interval { opacity: .9; }
.spot { fill: var(--paper); stroke: var(--kept); stroke-width: 1.75; }
.best > .spot { fill: var(--kept); }
g.baseline > .spot, g.baseline > .interval { stroke: var(--base); }
g.baseline.best > .spot { fill: var(--base); }
g.full > .spot { fill: var(--full); stroke: var(--full); }
g.full > .interval { stroke: var(--full); }
.touch { fill: transparent; }
.lead { stroke: var(--quiet); opacity: .6; }
.name text { fill: var(--ink); stroke: var(--paper); stroke-width: 3px; paint-order: stroke;
  stroke-linejoin: round; }
.name.baseline text { fill: var(--base); }
.name.best text { font-weight: 600; }
svg.one [data-series] { opacity: .18; }
svg.one [data-series].chosen { opacity: 1; }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 8px 0 4px; font-size: 14px; }
.key span { display: inline-flex; align-items: center; gap: 8px; }
.key i { width: 14px; height: 14px; }
.key svg { flex: none; }

.wide { overflow-x: auto; margin-top: 12px; }
.numbers { width: auto; min-width: 100%; }
.numbers th, .numbers td { padding: 6px 0 6px 18px; text-align: right; white-space: nowrap; }
.numbers th:first-child { position: sticky; left: 0; z-index: 1; padding-left: 0; text-align: left;
  background: var(--paper); white-space: normal; min-width: 15em; max-width: 22em;
  overflow-wrap: anywhere; padding-right: 6px; }
.numbers thead th { border-top: 0; vertical-align: bottom; }
.numbers small { display: block; color: var(--quiet); font-size: 12px; line-height: 1.35; }
.numbers tbody td:last-child small { white-space: normal; max-width: 24em; }
.numbers button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 4px 0; cursor: pointer; text-align: inherit; }
.numbers button:focus-visible { outline: 2px solid var(--kept); }
.numbers [aria-sort] button::after { content: " \\2191"; }
.numbers [aria-sort=descending] button::after { content: " \\2193"; }
.numbers tr.full th, .numbers tr.full td { background: var(--band); }
.numbers tr.baseline { color: var(--base); }
.numbers .worse { color: var(--worse); }

.tasks { display: grid; gap: 32px 48px; margin-top: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); }
.bars { margin-top: 8px; }
.bar { display: grid; grid-template-columns: minmax(0, 14em) minmax(0, 1fr) 5em; gap: 10px;
  align-items: center; font-size: 13px; line-height: 1.3; padding: 2px 0; }
.tasks .bar { grid-template-columns: minmax(0, 11.5em) minmax(0, 1fr) 3.4em; }
.bar span { overflow-wrap: anywhere; }
.bar b { font-weight: 400; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.bar.full span, .bar.full b { font-weight: 600; }
.bar.baseline span, .bar.baseline b { color: var(--base); }
.bar rect { fill: var(--kept); }
.tasks .bar.full rect { fill: var(--full); }
.tasks .bar.baseline rect { fill: var(--veil); stroke: var(--base); stroke-dasharray: 3 2; }
.tasks .interval { stroke: var(--ink); opacity: .8; }
.tasks .bar.full .interval { stroke: var(--base); opacity: 1; }
.bar rect[data-tip] { stroke: var(--paper); }
details { margin-top: 12px; font-size: 14px; }
summary { cursor: pointer; color: var(--quiet); padding: 8px 0; }

.example { margin-top: 32px; padding-top: 16px; border-top: 1px solid var(--line); }
.example > figure { max-width: 720px; margin-top: 12px; }
.example img { display: block; max-width: 100%; height: auto; }
.replies { display: grid; gap: 24px; margin-top: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.replies p { overflow-wrap: anywhere; }
.replies .told { font-size: 16px; white-space: pre-wrap; }
.replies img { margin-top: 6px; width: 100%; }
.wrong { color: var(--worse); }
dl.about { display: grid; grid-template-columns: minmax(6em, max-content) minmax(0, 1fr);
  gap: 6px 24px; margin-top: 12px; font-size: 14px; }
dl.about dd { font-size: 14px; line-height: inherit; overflow-wrap: anywhere;
  white-space: pre-wrap; }
@media (max-width: 700px) { main { padding: 24px 16px 48px; } h1 { font-size: 24px; }
  .bar { grid-template-columns: minmax(0, 8em) minmax(0, 1fr) 5em; }
  .tasks .bar { grid-template-columns: minmax(0, 9em) minmax(0, 1fr) 3.4em; }
  .numbers th:first-child { min-width: 8em; max-width: 11em; }
  dl.about { display: block; } dl.about dd { margin-bottom: 8px; } }
"""
    + "".join(
        f".bars .stage{place}, .key .stage{place} "
        f"{{ fill: var(--s{place}); background: var(--s{place}); }}\n"
        for place in range(8)
    )
)

_SORT = """
'use strict';
const rows = document.getElementById('rows');
const heads = [...rows.tHead.rows[0].cells];
heads.forEach((head, place) => head.firstChild.addEventListener('click', () => {
  const rising = head.getAttribute('aria-sort') !== 'ascending';
  heads.forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', rising ? 'ascending' : 'descending');
  const value = row => row.cells[place].dataset.value;
  const order = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  rows.tBodies[0].append(...[...rows.tBodies[0].rows].sort((one, two) => {
    const a = value(one), b = value(two);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return rising ? order(a, b) : order(b, a);
  }));
}));
"""

_TELL = """
const tip = document.getElementById('tip');
let chosen = null;
function tell(event) {
  const found = event.target.closest('[data-tip]');
  if (chosen && (!found || chosen !== found)) {
    chosen.closest('svg')?.classList.remove('one');
    document.querySelectorAll('.chosen').forEach(item => item.classList.remove('chosen'));
  }
  chosen = found;
  tip.hidden = !found;
  if (!found) return;
  const series = found.dataset.series, chart = found.closest('svg');
  if (series !== undefined) {
    chart.classList.add('one');
    chart.querySelectorAll('[data-series]').forEach(item =>
      item.classList.toggle('chosen', item.dataset.series === series));
  }
  tip.textContent = found.dataset.tip;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14,
    innerWidth - tip.offsetWidth - 8)) + 'px';
  tip.style.top = Math.max(8, Math.min(event.clientY + 18,
    innerHeight - tip.offsetHeight - 8)) + 'px';
}
addEventListener('pointermove', tell);
addEventListener('pointerdown', tell);
addEventListener('scroll', () => { tip.hidden = true; }, { passive: true });
"""

SCRIPT = _SORT + _TELL
