"""A page to look at two pictures: a slider between them, by mouse, finger or keyboard, in one file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srcli import __version__
from srcli.evaluate.compare import BINS, Measured, Picture, difference, histograms
from srcli.metrics import METRICS

U8 = NDArray[np.uint8]
PLOT = 320, 140  # of a histogram

STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --soft: #767676; --edge: #ccc }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #181818; --soft: #aaa; --edge: #444 } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; padding: 1rem; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.1rem; margin: 0 0 .6rem }
h2 { font-size: 1rem; margin: 1.2rem 0 .3rem }
fieldset { border: 0; margin: 0 0 .6rem; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1rem }
legend { float: left; margin-right: 1rem; color: var(--soft) }
#stage { position: relative; overflow: auto; max-height: 82vh; border: 1px solid var(--edge); touch-action: pan-y }
#both { position: relative; width: var(--width); margin: 0 auto; --at: 50% }
#both img { display: block; width: 100%; user-select: none; -webkit-user-drag: none }
#both.pixels img { image-rendering: pixelated }
#b, #d { position: absolute; inset: 0 }
#b { clip-path: inset(0 0 0 var(--at)) }
#d { visibility: hidden }
#both.difference #d { visibility: visible }
#both.difference #line, #both.difference .name { visibility: hidden }
#line { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 2px #000; pointer-events: none }
.name { position: sticky; top: .4rem; padding: .1rem .5rem; background: #000a; color: #fff; z-index: 1;
  font-size: .85rem; pointer-events: none }
#names { position: absolute; inset: 0; display: flex; justify-content: space-between; align-items: flex-start;
  pointer-events: none }
#slide { width: 100%; margin: .5rem 0 0; box-sizing: border-box }
table { border-collapse: collapse }
th, td { text-align: right; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--edge);
  font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left }
svg { background: #8882; margin: 0 .6rem .3rem 0 }
p { color: var(--soft); margin: .3rem 0 }
:focus-visible { outline: 2px solid #39f; outline-offset: 1px }
"""

SCRIPT = """
const both = document.getElementById('both'), slide = document.getElementById('slide');
const names = slide.dataset.names.split('\\n');
function set(at) {
  slide.value = Math.min(100, Math.max(0, at));
  both.style.setProperty('--at', slide.value + '%');
  slide.setAttribute('aria-valuetext', Math.round(slide.value) + ' % ' + names[0]);
}
function follow(event) {
  const box = both.getBoundingClientRect();
  set(100 * (event.clientX - box.left) / box.width);
}
slide.addEventListener('input', () => set(slide.value));
both.addEventListener('pointerdown', event => {
  both.setPointerCapture(event.pointerId); follow(event); event.preventDefault(); slide.focus();
});
both.addEventListener('pointermove', event => { if (both.hasPointerCapture(event.pointerId)) follow(event); });
for (const choice of document.querySelectorAll('input[name=zoom]')) {
  choice.addEventListener('change', () => {
    both.style.setProperty('--width', choice.value === 'fit' ? '100%' : both.dataset.width * choice.value + 'px');
    both.classList.toggle('pixels', Number(choice.value) > 1);
  });
}
const apart = document.getElementById('apart');
apart.addEventListener('change', () => both.classList.toggle('difference', apart.checked));
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === '1') set(100);
  else if (event.key === '2') set(0);
  else if (event.key === '0') set(50);
  else if (event.key === 'd') apart.click();
});
set(50);
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(a: Picture, b: Picture, numbers: Sequence[Measured], *, reference: Picture | None = None) -> str:
    """The page; it loads nothing from anywhere.

    Args:
        a: on the left.
        b: on the right, of the same size.
        numbers: for the table.
        reference: a third picture whose histogram is drawn too.
    """
    shown, gain = difference(a.pixels, b.pixels)
    title = html.escape(f"{a.label} and {b.label}")
    width = a.size[1]
    left, right = html.escape(a.label), html.escape(b.label)
    pictures = [a, b, *([reference] if reference else [])]
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for p in pictures for note in p.notes)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>{STYLE}</style>
<h1>{title}</h1>
<fieldset><legend>Size</legend>
<label><input type="radio" name="zoom" value="fit" checked> fit</label>
<label><input type="radio" name="zoom" value="1"> 100 %</label>
<label><input type="radio" name="zoom" value="2"> 200 %</label>
<label><input type="radio" name="zoom" value="4"> 400 %</label>
<label><input type="checkbox" id="apart"> difference ({gain} times)</label>
</fieldset>
<div id="stage"><div id="both" style="--width: 100%" data-width="{width}">
<img id="a" src="{_data(a.pixels)}" alt="{left}">
<img id="b" src="{_data(b.pixels)}" alt="{right}">
<img id="d" src="{_data(shown)}" alt="difference of {title}, {gain} times">
<div id="line"></div>
<div id="names"><span class="name">{left}</span><span class="name">{right}</span></div>
</div></div>
<input type="range" id="slide" min="0" max="100" step="0.5" value="50" aria-label="Divider between {title}"
 data-names="{left}&#10;{right}" autofocus>
<p>Drag the picture or move the slider with the arrow keys. Keys: 1 {left}, 2 {right}, 0 half and half, d difference.</p>
{_numbers(numbers)}
<h2>Histograms</h2>
{_plots(pictures)}
{notes}<p>srcli {__version__}</p>
<script>{SCRIPT}</script>
</html>
"""


def _data(pixels: U8) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _numbers(numbers: Sequence[Measured]) -> str:
    if not numbers:
        return ""
    names = list(numbers[0].values)
    head = "".join(f'<th scope="col">{n}{_unit(n)} {_arrow(n)}</th>' for n in names)
    rows = "".join(
        f"<tr><td>{html.escape(m.of)} to {html.escape(m.to)}</td>"
        + "".join(f"<td>{m.values[n]:.{METRICS[n].decimals}f}</td>" for n in names)
        + "</tr>\n"
        for m in numbers
    )
    return f'<h2>Numbers</h2>\n<table><tr><th scope="col">pictures</th>{head}</tr>\n{rows}</table>'


def _unit(name: str) -> str:
    return f" ({METRICS[name].unit})" if METRICS[name].unit else ""


def _arrow(name: str) -> str:
    return "↑" if METRICS[name].higher_is_better else "↓"


def _plots(pictures: Sequence[Picture]) -> str:
    """One plot per channel, a line per picture; the height is the root of the share of pixels."""
    shares = [histograms(p.pixels) for p in pictures]
    colours = ("#0072b2", "#d55e00", "#888888")
    w, h = PLOT
    plots = []
    for channel, name in enumerate(("red", "green", "blue")):
        high = max(float(s[channel].max()) for s in shares)
        lines = ""
        for colour, s in zip(colours, shares, strict=False):
            heights = np.sqrt(s[channel] / high) * (h - 8)
            points = " ".join(f"{i * w / (BINS - 1):.1f},{h - 4 - v:.1f}" for i, v in enumerate(heights))
            lines += f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        plots.append(f'<svg width="{w}" height="{h}" role="img" aria-label="{name} histogram">{lines}</svg>')
    key = ", ".join(
        f'<span style="color: {colour}">{html.escape(p.label)}</span>'
        for colour, p in zip(colours, pictures, strict=False)
    )
    return "".join(plots) + f"\n<p>Red, green and blue, dark to light; {key}</p>"
