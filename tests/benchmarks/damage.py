"""Fits what `upscale --degradation auto` decides by, and tests it on photographs that were held out.

    python tests/benchmarks/damage.py --data open-0.tar --data open-1.tar .. [--train 250] [--test 150]

Every sample is a part of a photograph reduced by 1 to 4 (research pictures, which may be JPEG themselves, by 1.5 at
least), about 160 pixels wide; for every five of them there is a drawing of flat discs. Each comes in seven ways: cleanly;
stored as JPEG of quality 88 to 98; as JPEG of 10 to 50; with white noise of 4 to 24 levels; and by three ranges of
degradation. The logistic function is fitted on all but the last, realesrgan-seesr; the two clean ways weigh as much as
the damaged ones. With --accuracy nothing is fitted; what ships is counted on parts of held-out photographs and on
rendered pages and drawings: how many get the model for damaged pictures, by kind. Prints the weights for `srcli/degradations/estimate.py` and, for training and for held-out photographs, the share of
wrong verdicts and how often a verdict is right that is called that sure.
"""

import argparse
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from srcli.data.photos import decoded, image_files, is_held_out, photograph_of
from srcli.data.reduce import pillow_bicubic
from srcli.degradations.apply import degrade
from srcli.degradations.draw import draw, numbered
from srcli.degradations.estimate import SURE, judge, measure, signs
from srcli.degradations.presets import find_degradation
from srcli.geometry import Size
from tests.helpers import hostile

KINDS = ("clean", "jpeg", "jpeg-strong", "noise", "realesrgan-stablesr", "realesrgan", "realesrgan-seesr")
CLEAN, FITTED = KINDS[:2], KINDS[:6]
HELD_OUT = ("007", "050")
LR, LEAST = 160, 64  # pixels
RIDGE = 1.0
TIDY = ("full size", "reduced")
DAMAGED = ("jpeg 30-70", "jpeg twice", "noise 5-20", "blur 1-2.5", "blur, jpeg")


def files(sources: list[Path], *, held_out: bool) -> list[tuple[str, bytes]]:
    """Names and contents of the photographs of one side."""
    every = [pair for source in sources for pair in image_files(source)]
    return [(name, data) for name, data in every if is_held_out(photograph_of(name), HELD_OUT) == held_out]


def samples(photos: list[tuple[str, bytes]], count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Pictures (h, w, 3) by kind."""
    found, at, order = [], 0, numbered(seed, 0).permutation(len(photos))
    while len(found) < count:
        at += 1
        rng = numbered(seed, at)
        name, data = photos[order[at % len(photos)]]
        sample = one(name, decoded(data), rng)
        if sample is not None:
            found.append(sample)
    return found + drawings(count // 5, seed)


def drawings(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Overlapping discs in flat colours, by kind: what logos and charts have in common."""
    found = []
    for number in range(count):
        rng = numbered(seed, 1_000_000 + number)
        scale = float(rng.choice([1.5, 2, 3]))
        side = int(LR * scale)
        picture = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(int(rng.integers(5, 300))):
            radius = int(4 / rng.uniform(0.02, 1) ** 1.2)
            place, colour = (
                tuple(int(v) for v in rng.integers(0, high, n)) for high, n in ((side, 2), (256, 3))
            )
            cv2.circle(picture, place, radius, colour, -1, cv2.LINE_AA)
        found.append(ways(picture, Size(int(side / scale), int(side / scale)), rng))
    return found


def one(name: str, hr: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray] | None:
    """One part of a photograph in every way; None for a picture that is too small."""
    small = name[0].isdigit() or name.startswith("div2k")
    scale = float(rng.choice([1, 1.5, 2, 3, 4] if small else [1.5, 2, 3]))
    if min(hr.shape[:2]) / scale < LEAST:
        scale = 1.5
    if min(hr.shape[:2]) / scale < LEAST:
        return None
    h, w = (min(int(LR * scale), side) for side in hr.shape[:2])
    y, x = (int(rng.integers(side - part + 1)) for side, part in zip(hr.shape[:2], (h, w), strict=True))
    part, size = hr[y : y + h, x : x + w].copy(), Size(int(h / scale), int(w / scale))
    return ways(part, size, rng)


def ways(part: np.ndarray, size: Size, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The LR pictures of one HR picture, by kind."""
    clean = pillow_bicubic(part, size)
    quality, chroma = int(rng.integers(88, 99)), int(rng.choice([0, 2]))
    made = {
        "clean": clean,
        "jpeg": stored(clean, quality, chroma),
        "jpeg-strong": strong(clean, quality),
        "noise": noisy(clean),
    }
    for kind in KINDS[4:]:
        made[kind] = degrade(torch.tensor(part), draw(find_degradation(kind), rng), size)[0].numpy()
    return made


def strong(pixels: np.ndarray, quality: int) -> np.ndarray:
    """A picture as a JPEG file of quality 10 to 50 gives it back."""
    return stored(pixels, 10 + 4 * (quality - 88), 2)


def noisy(pixels: np.ndarray) -> np.ndarray:
    """A picture with white noise of 4 to 24 levels."""
    rng = np.random.default_rng(int(pixels.sum()))
    return np.clip(np.rint(pixels + rng.normal(0, rng.uniform(4, 24), pixels.shape)), 0, 255).astype(np.uint8)


def stored(pixels: np.ndarray, quality: int, chroma: int) -> np.ndarray:
    """A picture as a JPEG file gives it back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=chroma)
    return np.asarray(Image.open(file))


def measured(found: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What the verdict sees (n, 21), by kind."""
    return {kind: np.stack([seen(sample[kind]) for sample in found]) for kind in KINDS}


def seen(pixels: np.ndarray) -> np.ndarray:
    """The signs of one picture."""
    values = pixels.astype(np.float32) / 255
    damage = measure(lambda top, bottom: values[top:bottom], Size(*values.shape[:2]))
    assert damage is not None
    return signs(damage)


def fitted(by_kind: dict[str, np.ndarray]) -> np.ndarray:
    """Weights of the logistic function, by Newton's method."""
    x = np.concatenate([by_kind[kind] for kind in FITTED])
    y = np.concatenate([np.full(len(by_kind[kind]), float(kind not in CLEAN)) for kind in FITTED])
    share = np.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum()) * len(y)
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (share * (p - y)) + RIDGE * weights
        curve = (x * (share * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    return weights


def report(title: str, by_kind: dict[str, np.ndarray], weights: np.ndarray) -> None:
    """The share of wrong verdicts by kind, and of right ones by how sure they are."""
    odds = {kind: x @ weights for kind, x in by_kind.items()}  # of damage
    print(f"{title}, {len(by_kind['clean'])} samples: misjudged, given to the wrong model")
    for kind, values in odds.items():
        taken = np.mean(values >= np.log(SURE / (1 - SURE)))
        judged, wrong = (np.mean(values > 0), taken) if kind in CLEAN else (np.mean(values <= 0), 1 - taken)
        print(f"  {kind:20} {judged:6.1%} {wrong:6.1%}")
    every = np.concatenate([odds[kind] * (-1 if kind in CLEAN else 1) for kind in FITTED])
    sure = 1 / (1 + np.exp(-np.abs(every)))
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        chosen = (sure >= low) & (sure <= high)
        right = np.mean(every[chosen] > 0) if chosen.any() else np.nan
        print(f"  {low:.0%} to {high:.0%} sure: right {right:.0%} of {chosen.sum()}")


def accuracy(photos: list[tuple[str, bytes]], count: int) -> None:
    """Print how many pictures are given to the model for damaged ones, by kind: clean ones should not be."""
    given: dict[str, list[bool]] = {}
    for number in range(count):
        rng = numbered(7, number)
        hr = decoded(photos[int(rng.integers(len(photos)))][1])
        for kind, pixels in people(hr, rng).items():
            given.setdefault(kind, []).append(is_given(pixels))
    for number in range(60):
        g = np.random.default_rng([11, number])
        maker = (hostile.text, hostile.drawing)[number % 2]
        page = maker(g, 4 * LR, smooth=True) if maker is hostile.text else maker(g, 4 * LR)
        given.setdefault("page or drawing", []).append(is_given(page))
    for kind, picks in given.items():
        print(f"  {kind:16} {sum(picks):4} of {len(picks)} ({np.mean(picks):.1%})")
    for title, kinds in (("clean", TIDY), ("damaged", DAMAGED)):
        picks = [pick for kind in kinds for pick in given[kind]]
        print(
            f"{title}: {sum(picks)} of {len(picks)} ({np.mean(picks):.1%}) get the model for damaged pictures"
        )


def people(hr: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A part of a photograph, about 240 pixels wide, as people have it: one clean way, and the damaged ones."""
    by = min(float(rng.uniform(1, 3)), min(hr.shape[:2]) / 96)
    small = Size(*(int(side / by) for side in hr.shape[:2]))
    how = (cv2.INTER_AREA, cv2.INTER_LANCZOS4, cv2.INTER_CUBIC)[int(rng.integers(3))]
    soft = cv2.GaussianBlur(hr, (0, 0), 0.4 * by) if by > 1.2 and how != cv2.INTER_AREA else hr  # antialiased
    whole = hr if by <= 1.05 else cv2.resize(soft, (small.w, small.h), interpolation=how)
    h, w = (min(240, side) for side in whole.shape[:2])
    y, x = (int(rng.integers(side - part + 1)) for side, part in zip(whole.shape[:2], (h, w), strict=True))
    clean = np.ascontiguousarray(whole[y : y + h, x : x + w])
    blurred = cv2.GaussianBlur(clean, (0, 0), float(rng.uniform(1, 2.5)))
    noise = rng.normal(
        0, float(rng.uniform(5, 20)), clean.shape if rng.random() < 0.6 else (*clean.shape[:2], 1)
    )
    half = cv2.resize(clean, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    return {
        TIDY[0] if by <= 1.05 else TIDY[1]: clean,
        "jpeg 30-70": stored(clean, int(rng.integers(30, 71)), 2),
        "jpeg twice": stored(
            cv2.resize(stored(half, int(rng.integers(30, 71)), 2), (w, h), interpolation=cv2.INTER_LINEAR),
            int(rng.integers(50, 90)),
            2,
        ),
        "noise 5-20": np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8),
        "blur 1-2.5": blurred,
        "blur, jpeg": stored(blurred, int(rng.integers(30, 71)), 2),
    }


def is_given(pixels: np.ndarray) -> bool:
    """Whether a picture gets the model for damaged ones."""
    values = pixels.astype(np.float32) / 255
    damage = measure(lambda top, bottom: values[top:bottom], Size(*values.shape[:2]))
    return damage is not None and judge(damage).pick == "real"


def main() -> None:
    """Fit and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--train", type=int, default=250)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument(
        "--accuracy", type=int, metavar="PARTS", help="of photographs; 520 for the documentation"
    )
    parser.add_argument("--fit-side", action="store_true", help="count on the photographs of the fit instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.accuracy:
        accuracy(files(args.data, held_out=not args.fit_side), args.accuracy)
        return
    train = measured(samples(files(args.data, held_out=False), args.train, seed=1))
    weights = fitted(train)
    print(f"WEIGHTS = np.array({[round(float(w), 2) for w in weights]})")
    report("training photographs", train, weights)
    report(
        "held-out photographs",
        measured(samples(files(args.data, held_out=True), args.test, seed=2)),
        weights,
    )


if __name__ == "__main__":
    main()
