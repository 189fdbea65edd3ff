"""Fits what `upscale --degradation auto` decides by, and counts its decisions on photographs that were held out.

    python tests/benchmarks/damage.py --data open-0.tar --data open-1.tar [--fit 420] [--count 520]

Every sample is a part of a photograph, up to 240 pixels wide, reduced by 1 to 3 (by areas, or softened and then by cubic or
Lanczos interpolation), as it is and as people have it: stored as JPEG of quality 88 to 98, of 30 to 70, twice with a
change of size between, with noise of 5 to 20 levels, blurred by 1 to 2.5 pixels, blurred and stored. Pages of text and
drawings are rendered by program. The logistic function is fitted on training photographs, as they are against the damaged
kinds, of which noise and blur count twice: files of low quality are known by their tables. The least odds that count as
sure are those that 99 % of the clean parts and all pages stay below. Prints both for
`srcli/degradations/estimate.py`, and how many pictures of each kind are given to the model for damaged ones: by what was
fitted on both sides, and by what ships on the held-out one, once with the quality that a JPEG file itself says.
"""

import argparse
import io
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from srcli.data.photos import decoded, image_files, photograph_of
from srcli.degradations.draw import numbered
from srcli.degradations.estimate import Damage, judge, measure, signs
from srcli.geometry import Size
from tests.benchmarks.native_bodies import held_out
from tests.degradations.test_estimate import leaves
from tests.helpers import hostile

CLEAN = ("photograph", "page or drawing", "jpeg 88-98")  # the last is not fitted
DAMAGED = ("jpeg 30-70", "jpeg twice", "noise 5-20", "blur 1-2.5", "blur, jpeg")
TWICE = ("noise 5-20", "blur 1-2.5")
SIDE, PAGE = 240, 640  # pixels
RIDGE = 0.2
Sample = tuple[Damage | None, int | None]  # what is measured, and the quality of a JPEG file


def people(hr: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, int | None]]:
    """A part of a photograph by kind, with the quality of those that are JPEG files."""
    by = min(float(rng.uniform(1, 3)), min(hr.shape[:2]) / 96)
    small = Size(*(int(side / by) for side in hr.shape[:2]))
    how = (cv2.INTER_AREA, cv2.INTER_LANCZOS4, cv2.INTER_CUBIC)[int(rng.integers(3))]
    soft = cv2.GaussianBlur(hr, (0, 0), 0.4 * by) if by > 1.2 and how != cv2.INTER_AREA else hr  # antialiased
    whole = hr if by <= 1.05 else cv2.resize(soft, (small.w, small.h), interpolation=how)
    h, w = (min(SIDE, side) for side in whole.shape[:2])
    y, x = (int(rng.integers(side - part + 1)) for side, part in zip(whole.shape[:2], (h, w), strict=True))
    clean = np.ascontiguousarray(whole[y : y + h, x : x + w])
    blurred = cv2.GaussianBlur(clean, (0, 0), float(rng.uniform(1, 2.5)))
    noise = rng.normal(
        0, float(rng.uniform(5, 20)), clean.shape if rng.random() < 0.6 else (*clean.shape[:2], 1)
    )
    fine, low, twice, last = (int(rng.integers(*ends)) for ends in ((88, 99), (30, 71), (30, 71), (50, 90)))
    half = stored(cv2.resize(clean, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), twice)
    return {
        "photograph": (clean, None),
        "jpeg 88-98": (stored(clean, fine), fine),
        "jpeg 30-70": (stored(clean, low), low),
        "jpeg twice": (stored(cv2.resize(half, (w, h), interpolation=cv2.INTER_LINEAR), last), last),
        "noise 5-20": (np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8), None),
        "blur 1-2.5": (blurred, None),
        "blur, jpeg": (stored(blurred, low), low),
    }


def page(seed: int, number: int) -> np.ndarray:
    """Text, a drawing or flat discs, smooth."""
    g = np.random.default_rng([seed, number])
    if number % 3 == 2:
        side = int(g.integers(200, 800))
        return np.rint(leaves(side, int(g.integers(1 << 30))) * 255).astype(np.uint8)
    return hostile.drawing(g, PAGE) if number % 2 else hostile.text(g, PAGE, smooth=True)


def stored(pixels: np.ndarray, quality: int) -> np.ndarray:
    """A picture as a JPEG file gives it back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(file))


def seen(pixels: np.ndarray) -> Damage | None:
    """What is measured of a picture."""
    values = pixels.astype(np.float32) / 255
    return measure(lambda top, bottom: values[top:bottom], Size(*values.shape[:2]))


def samples(data: list[Path], count: int, pages: int, seed: int, *, held: bool) -> dict[str, list[Sample]]:
    """What is measured of pictures, by kind."""
    every = [pair for source in data for pair in image_files(source)]
    photos = [content for name, content in every if held_out(photograph_of(name)) == held]
    found: dict[str, list[Sample]] = {"page or drawing": [(seen(page(seed, k)), None) for k in range(pages)]}
    for number in range(count):
        rng = numbered(seed, number)
        hr = decoded(photos[int(rng.integers(len(photos)))])
        for kind, (pixels, quality) in people(hr, rng).items():
            found.setdefault(kind, []).append((seen(pixels), quality))
    return found


def table(by_kind: dict[str, list[Sample]], kind: str) -> np.ndarray:
    """What the verdict sees (n, 21) of a kind."""
    return np.stack([signs(damage) for damage, _ in by_kind[kind] if damage is not None])


def fitted(by_kind: dict[str, list[Sample]]) -> tuple[np.ndarray, float]:
    """Weights of the logistic function, by Newton's method, and the least odds that count as sure."""
    parts = {kind: table(by_kind, kind) for kind in (*CLEAN[:2], *DAMAGED)}
    x = np.concatenate([*parts.values()])
    counts = [len(part) for part in parts.values()]
    y = np.repeat([float(kind in DAMAGED) for kind in parts], counts)
    share = np.repeat([2.0 if kind in TWICE else 1.0 for kind in parts], counts)
    share *= len(y) / 2 / np.where(y == 1, share[y == 1].sum(), share[y == 0].sum())
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (share * (p - y)) + RIDGE * weights
        curve = (x * (share * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    weights = np.round(weights, 2)
    photographs, pages = (parts[kind] @ weights for kind in CLEAN[:2])
    return weights, max(float(np.quantile(photographs, 0.99)), float(pages.max()))


def count(title: str, by_kind: dict[str, list[bool]]) -> None:
    """Print the share of each kind that is given to the model for damaged pictures."""
    print(title)
    for kind in (*CLEAN, *DAMAGED):
        print(f"  {kind:16} {sum(by_kind[kind]):4} of {len(by_kind[kind])} ({np.mean(by_kind[kind]):.1%})")
    every = [pick for kind in DAMAGED for pick in by_kind[kind]]
    print(f"  all damaged      {sum(every):4} of {len(every)} ({np.mean(every):.1%})")


def main() -> None:
    """Fit and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--fit", type=int, default=420)
    parser.add_argument("--count", type=int, default=520)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    train = samples(args.data, args.fit, 200, 8, held=False)
    test = samples(args.data, args.count, 60, 7, held=True)
    weights, sure = fitted(train)
    print(f"WEIGHTS = np.array({weights.tolist()})\nSURE = {1 / (1 + np.exp(-sure)):.3f}")
    for title, side in (("fitted, training", train), ("fitted, held out", test)):
        count(
            title,
            {
                kind: [d is not None and float(signs(d) @ weights) >= sure for d, _ in side[kind]]
                for kind in side
            },
        )
    for title, told in (("ships, by pixels", False), ("ships, as files", True)):
        count(
            title,
            {
                kind: [d is not None and judge(d, q if told else None).pick == "real" for d, q in test[kind]]
                for kind in test
            },
        )


if __name__ == "__main__":
    main()
