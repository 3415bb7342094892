"""The style and the script of the page of kept tokens. Plain CSS and JavaScript, no library."""

STYLE = """
:root { --paper: #fbfbfa; --ink: #1c1e21; --quiet: #6b7079; --line: #e3e4e6; --veil: #d9dbdf;
  --dim: #24272d; --kept: #1f78c1; --merged: #b86e00; }
@media (prefers-color-scheme: dark) { :root { --paper: #111317; --ink: #eceef1; --quiet: #949ba6;
  --line: #2a2e35; --veil: #32363f; --dim: #282c33; --kept: #6cb4ee; --merged: #f7c968; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.25; font-weight: 600; margin: 4px 0 8px; text-wrap: balance; }
h2 { font-size: 17px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
p { margin: 0; }
.quiet { color: var(--quiet); font-size: 14px; }
.answer { font-size: 19px; overflow-wrap: anywhere; white-space: pre-wrap; }
dl { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 24px 0 0; }
dt { color: var(--quiet); font-size: 13px; }
dd { margin: 0; font-size: 28px; line-height: 1.2; font-variant-numeric: tabular-nums; }
dd.kept { color: var(--kept); }
.controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 8px 24px;
  align-items: center; min-height: 48px; padding: 8px 0; margin: 24px 0 16px; font-size: 14px;
  background: var(--paper); border-block: 1px solid var(--line); }
.controls label { display: inline-flex; align-items: center; gap: 8px; }
.controls input { accent-color: var(--kept); margin: 0; }
.layers { flex: 1 1 320px; }
.layers input { flex: 0 1 220px; min-width: 100px; }
output { color: var(--quiet); font-variant-numeric: tabular-nums; }
.swatch.merged { width: 14px; height: 14px; border: 1.5px solid var(--merged); }
.medium { margin: 32px 0 48px; }
.panels { display: grid; gap: 16px; margin-top: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(236px, 46%), 1fr)); }
.panels.many { grid-template-columns: repeat(auto-fill, minmax(min(150px, 30%), 1fr)); gap: 12px; }
.panels.few { grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }
figure { margin: 0; scroll-margin-top: 72px; }
figure:target .frame { outline: 2px solid var(--kept); outline-offset: 3px; }
.frame { position: relative; overflow: hidden; background: var(--dim); max-height: 80vh;
  width: 100%; }
.few .frame { max-width: 100%; }
.frame img, .frame canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.frame img { filter: grayscale(.75); opacity: .3; }
.whole .frame img { filter: none; opacity: 1; }
.whole .frame canvas { visibility: hidden; }
figcaption { display: flex; justify-content: space-between; gap: 8px; margin-top: 4px;
  font-size: 13px; font-variant-numeric: tabular-nums; }
figcaption b { font-weight: 500; }
figcaption span { color: var(--quiet); }
.strip { display: flex; align-items: flex-end; gap: min(6px, .4vw); height: 72px;
  margin-top: 24px; }
.strip a { flex: 1 1 0; min-width: 1px; display: flex; align-items: flex-end;
  background: var(--veil); }
.strip a:hover, .strip a:focus-visible { outline: 2px solid var(--kept); outline-offset: 1px; }
.strip i { display: block; width: 100%; background: var(--kept); }
.times { display: flex; justify-content: space-between; margin-top: 4px; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr));
  gap: 32px 48px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; align-self: start; }
caption { text-align: left; font-size: 17px; font-weight: 600; padding-bottom: 6px; }
th, td { text-align: left; font-weight: 400; padding: 6px 16px 6px 0;
  border-top: 1px solid var(--line); vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
th + td { text-align: right; white-space: nowrap; }
#tip { position: fixed; z-index: 2; pointer-events: none; padding: 4px 10px; font-size: 13px;
  background: var(--ink); color: var(--paper); border-radius: 4px; max-width: 90vw; }
"""

SCRIPT = """
'use strict';
const media = JSON.parse(document.getElementById('data').textContent);
const layer = document.getElementById('layer'), outline = document.getElementById('outline');
const tip = document.getElementById('tip'), whole = document.getElementById('whole');
const views = media.flatMap((medium, m) => medium.panels.map((panel, p) => {
  const figure = document.getElementById('m' + m + 'p' + p);
  return { panel, depth: medium.depth, image: figure.querySelector('img'),
    canvas: figure.querySelector('canvas'), count: figure.querySelector('figcaption span') };
}));

function alive(view, token) {
  return !layer || +layer.value === 0 || view.panel.layers[token] >= +layer.value;
}

function brightness(view, token) {
  const lived = view.panel.layers[token];
  return (layer && +layer.value) || lived >= view.depth ? 1 : 0.3 + 0.35 * lived / view.depth;
}

function area(boxes, token, width, height) {
  const [left, top, right, bottom] = boxes.slice(4 * token, 4 * token + 4);
  const x = Math.round(left * width / 1e4), y = Math.round(top * height / 1e4);
  return [x, y, Math.round(right * width / 1e4) - x, Math.round(bottom * height / 1e4) - y];
}

function draw(view) {
  const { panel, image, canvas } = view, ratio = window.devicePixelRatio || 1;
  const width = canvas.width = Math.round(canvas.clientWidth * ratio);
  const height = canvas.height = Math.round(canvas.clientHeight * ratio);
  const pen = canvas.getContext('2d');
  let kept = 0;
  const tokens = panel.layers.map((_, token) => token).filter(token => alive(view, token));
  for (const token of tokens) {
    const [x, y, w, h] = area(panel.lit, token, width, height);
    kept += 1;
    if (w < 1 || h < 1) continue;
    pen.clearRect(x, y, w, h);
    pen.globalAlpha = brightness(view, token);
    if (!image) { pen.fillStyle = '#cfd2d7'; pen.fillRect(x, y, w, h); continue; }
    const across = image.naturalWidth / width, down = image.naturalHeight / height;
    pen.drawImage(image, x * across, y * down, w * across, h * down, x, y, w, h);
  }
  pen.globalAlpha = 0.9;
  pen.lineWidth = ratio;
  pen.strokeStyle = '#f7c968';
  for (const token of tokens) {
    if (!panel.merged[token] || (outline && !outline.checked)) continue;
    const [x, y, w, h] = area(panel.box, token, width, height);
    pen.strokeRect(x + ratio / 2, y + ratio / 2, w - ratio, h - ratio);
  }
  view.count.textContent = kept + ' of ' + panel.seen;
}

function redraw() {
  document.body.classList.toggle('whole', whole.checked);
  if (layer) {
    document.getElementById('at').textContent = +layer.value === 0
      ? 'all: the longer kept, the brighter' : layer.value + ' of ' + layer.max;
  }
  views.forEach(draw);
}

function tell(view, event) {
  const { panel, canvas } = view, frame = canvas.getBoundingClientRect();
  const x = (event.clientX - frame.left) / frame.width * 1e4;
  const y = (event.clientY - frame.top) / frame.height * 1e4;
  let found = -1, least = Infinity;
  panel.layers.forEach((lived, token) => {
    const [left, top, right, bottom] = panel.lit.slice(4 * token, 4 * token + 4);
    const size = (right - left) * (bottom - top);
    if (alive(view, token) && x >= left && x < right && y >= top && y < bottom && size < least) {
      found = token; least = size;
    }
  });
  if (found < 0) {
    tip.textContent = 'dropped';
  } else {
    const weight = panel.weight[found], lived = panel.layers[found];
    const parts = ['kept'];
    if (weight > 1.01) parts.push('stands for ' + weight + ' tokens');
    else if (panel.merged[found]) parts.push('stands for more than its own cell');
    if (lived < view.depth) {
      parts.push('dropped in the LLM after ' + lived + ' of ' + view.depth + ' layers');
    }
    tip.textContent = parts.join(', ');
  }
  tip.hidden = false;
  tip.style.left = Math.max(8, Math.min(event.clientX + 14,
    innerWidth - tip.offsetWidth - 8)) + 'px';
  tip.style.top = Math.max(8, Math.min(event.clientY + 18,
    innerHeight - tip.offsetHeight - 8)) + 'px';
}

for (const view of views) {
  view.canvas.addEventListener('pointermove', event => tell(view, event));
  view.canvas.addEventListener('pointerdown', event => tell(view, event));
  view.canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
  if (view.image && !view.image.complete) view.image.addEventListener('load', () => draw(view));
}
for (const control of document.querySelectorAll('.controls input')) {
  control.addEventListener('input', redraw);
}
addEventListener('scroll', () => { tip.hidden = true; }, { passive: true });
addEventListener('resize', redraw);
redraw();
"""
