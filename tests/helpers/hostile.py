"""Pictures that networks trained on photographs fail on, made from a seed: uint8 (h, w, 3)."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

KINDS = ("text", "one-bit", "unsharp", "flat", "checker", "drawing")
WORDS = [
    "The", "quick", "brown", "fox", "jumps", "over", "13", "lazy", "dogs;", "Falls", "Übung", "straße;",
    "if", "(a[i]", "!=", "b)", "return", "{x:", "0};", "3.14", "%", "€",
]  # fmt: skip
PHOTO = Path(__file__).parents[2] / "docs" / "images" / "photo.png"


def hostile(seed, side=48):
    """Picture number `seed`; kinds take turns."""
    g = np.random.default_rng([77, seed])
    return _MAKERS[KINDS[seed % len(KINDS)]](g, side)


@cache
def fonts():
    """The fonts that come with Pillow and matplotlib."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSerif",
        "DejaVuSansMono",
        "STIXGeneral",
        "cmr10",
        "cmtt10",
    )
    return [None, *(folder / f"{name}.ttf" for name in names)]


def _font(g):
    path, size = fonts()[g.integers(len(fonts()))], int(g.integers(8, 22))
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


def _theme(g):
    """Paper and ink: light, dark, or coloured."""
    dark, light = g.integers(0, 50, 3), g.integers(205, 256, 3)
    if g.random() < 0.5:
        dark[:], light[:] = dark[0], light[0]
    if g.random() < 0.3:
        dark[:], light[:] = 0, 255
    if g.random() < 0.3:
        (dark if g.random() < 0.5 else light)[int(g.integers(3))] = g.choice([0, 255])
    paper, ink = (light, dark) if g.random() < 0.5 else (dark, light)
    return tuple(map(int, paper)), tuple(map(int, ink))


def text(g, side, *, smooth=None):
    """Lines of text, unsmoothed by default in two of three pictures, with a rule and a frame now and then."""
    paper, ink = _theme(g)
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    smooth = g.random() < 0.33 if smooth is None else smooth
    draw.fontmode = "L" if smooth else "1"
    font = _font(g)
    y = int(g.integers(-4, 4))
    while y < side:
        line = " ".join(g.choice(WORDS, 5))
        colour = ink if g.random() < 0.8 else tuple(int(v) for v in g.choice([0, 255], 3))
        draw.text((int(g.integers(-6, 4)), y), line, fill=colour, font=font)
        y += int(font.size * 1.3) + 1
    for _ in range(int(g.integers(0, 3))):
        at = int(g.integers(side))
        draw.line((0, at, side, at) if g.random() < 0.5 else (at, 0, at, side), fill=_theme(g)[1])
    if g.random() < 0.4:
        a, b = np.sort(g.integers(0, side, 2)), np.sort(g.integers(0, side, 2))
        draw.rectangle((int(a[0]), int(b[0]), int(a[1]) + 2, int(b[1]) + 2), outline=_theme(g)[1])
    return np.asarray(picture)


def _blobs(g, side):
    """Smooth noise in [0, 255], (side, side, 3)."""
    small = g.integers(0, 256, (int(g.integers(3, 9)),) * 2 + (3,)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def photograph(g, side):
    """A piece of the example photo, or smooth noise with shapes and grain."""
    if PHOTO.exists() and g.random() < 0.5:
        photo = Image.open(PHOTO).convert("RGB")
        by = g.uniform(1, 2)
        photo = photo.resize((round(photo.width / by), round(photo.height / by)), Image.Resampling.LANCZOS)
        x, y = int(g.integers(photo.width - side)), int(g.integers(photo.height - side))
        return np.asarray(photo.crop((x, y, x + side, y + side)))
    picture = Image.fromarray(_blobs(g, side))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(g.integers(2, 8))):
        box = np.sort(g.integers(-8, side + 8, (2, 2)), axis=0).flatten()
        draw.ellipse(
            tuple(map(int, box + np.array([0, 0, 1, 1]))), fill=tuple(int(v) for v in g.integers(0, 256, 3))
        )
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(float(g.uniform(0.3, 0.8)))), dtype=float)
    return np.clip(soft + g.normal(0, g.uniform(0, 6), soft.shape), 0, 255).round().astype(np.uint8)


def one_bit(g, side):
    """Dithered, thresholded or random black and white; two colours now and then."""
    how = g.integers(4)
    gray = Image.fromarray(photograph(g, side)).convert("L")
    if how == 0:
        bits = np.asarray(gray.convert("1"))
    elif how == 1:
        bits = np.asarray(gray) > int(g.integers(80, 180))
    elif how == 2:
        bits = np.asarray(gray) > g.integers(0, 256, (side, side))
    else:
        bits = (
            np.kron(g.random((side // 2 + 1,) * 2) < g.uniform(0.1, 0.9), np.ones((2, 2)))[:side, :side] > 0
        )
    paper, ink = ((255,) * 3, (0,) * 3) if g.random() < 0.7 else _theme(g)
    return np.where(bits[..., None], np.uint8(paper), np.uint8(ink))


def unsharp(g, side):
    """A photograph sharpened by 150 or 300 %."""
    picture = Image.fromarray(photograph(g, side))
    mask = ImageFilter.UnsharpMask(float(g.uniform(0.6, 2)), int(g.choice([150, 300])), 0)
    return np.asarray(picture.filter(mask))


def flat(g, side):
    """Fields of flat, mostly saturated colours that reach the border."""
    corners = np.array([[r, gr, b] for r in (0, 255) for gr in (0, 255) for b in (0, 255)])
    colour = lambda: corners[g.integers(8)] if g.random() < 0.7 else g.integers(0, 256, 3)  # noqa: E731
    picture = np.empty((side, side, 3), np.uint8)
    picture[:] = colour()
    for _ in range(int(g.integers(0, 4))):
        a, b = np.sort(g.integers(0, side + 1, 2)), np.sort(g.integers(0, side + 1, 2))
        picture[a[0] : a[1], b[0] : b[1]] = colour()
    return picture


def checker(g, side):
    """Checkers and stripes of a period of 1 to 3 pixels, in two colours."""
    period = int(g.integers(1, 4))
    y, x = np.mgrid[:side, :side] // period
    pattern = [(y + x) % 2, y % 2, x % 2][int(g.integers(3))]
    paper, ink = _theme(g)
    picture = np.where(pattern[..., None] > 0, np.uint8(paper), np.uint8(ink))
    if g.random() < 0.5:  # a part of it only
        cut = int(g.integers(side // 4, side))
        picture[:, cut:] = paper
    return picture


def drawing(g, side):
    """Unsmoothed lines, discs and boxes on flat ground."""
    paper, ink = _theme(g)
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(g.integers(3, 9))):
        box = tuple(int(v) for v in np.sort(g.integers(-6, side + 6, (2, 2)), axis=0).flatten())
        colour = ink if g.random() < 0.6 else _theme(g)[1]
        which = g.integers(3)
        if which == 0:
            draw.line(tuple(int(v) for v in g.integers(0, side, 4)), fill=colour, width=int(g.integers(1, 3)))
        elif which == 1:
            draw.ellipse(box, outline=colour)
        else:
            draw.rectangle(box, fill=colour if g.random() < 0.5 else None, outline=ink)
    return np.asarray(picture)


_MAKERS = {
    "text": text,
    "one-bit": one_bit,
    "unsharp": unsharp,
    "flat": flat,
    "checker": checker,
    "drawing": drawing,
}


def drift(lr, out):
    """Largest difference of a mean over 2x2 input pixels between an input (h, w, 3) and its output (H, W, 3), in levels."""
    lr, down = lr.astype(float), _area(out.astype(float), lr.shape[:2])
    off = down - lr
    return float(np.abs(off[1:, 1:] + off[1:, :-1] + off[:-1, 1:] + off[:-1, :-1]).max() / 4)


def _area(picture, size):
    """The mean over the area of each of `size` pixels."""
    for axis, count in enumerate(size):
        edges = np.linspace(0, picture.shape[axis], count + 1)
        total = np.concatenate([np.zeros_like(picture.take([0], axis)), picture.cumsum(axis)], axis)
        low = np.minimum(edges.astype(int), picture.shape[axis] - 1)
        share = (edges - low).reshape([-1 if a == axis else 1 for a in range(3)])
        at = total.take(low, axis) + share * picture.take(low, axis)
        picture = np.diff(at, axis=axis) * count / picture.shape[axis]
    return picture


def outside(lr, out, levels=8, side=5):
    """Share of samples more than `levels` outside the range of the `side` x `side` input pixels around them."""
    from scipy.ndimage import maximum_filter, minimum_filter

    (h, w), (H, W) = lr.shape[:2], out.shape[:2]
    y, x = ((np.arange(H) + 0.5) * h / H).astype(int), ((np.arange(W) + 0.5) * w / W).astype(int)
    low = minimum_filter(lr, (side, side, 1)).astype(int)[y][:, x] - levels
    high = maximum_filter(lr, (side, side, 1)).astype(int)[y][:, x] + levels
    return float(((out < low) | (out > high)).mean())
