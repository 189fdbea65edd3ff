"""Restoring models on 48 held-out crops that were degraded as people do it, beside bicubic and their teacher.

    python tests/benchmarks/damaged_crops.py --data open-0.tar --data open-1.tar -m rlfn-native -m edsr-s-blend-real -m real-best

Every crop is 64x64 pixels of a photograph of 256x256: clean, JPEG once and twice, blurred and stored, noise, sharpening halos,
screenshots, soft ones. The teacher T is Real-ESRGAN x4plus itself, O the original. Damaged crops and clean ones are told
apart. SqueezeNet's distance (`srcli.metrics.squeezenet`, if its file is here) to T is in shares of bicubic's, that to O in
shares of T's. Fine energy is that of what a blur of one pixel takes away, over T's. Blockiness is the excess of steps at the
edges of 8x8 LR pixels' blocks over those elsewhere. Two figures tell of grids of 4 pixels: the deviation of the means by
phase in levels, and the share of fine energy that repeats every 4 pixels. Gradients: Wasserstein-1 between the histograms of
the result and of O in levels. LR: PSNR between the reduced result and the clean reduction of O.
"""

import argparse
import io
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from scipy.stats import wasserstein_distance

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from srcli.engine.load import load_upscaler, upscaler_for
from srcli.geometry import Size
from srcli.image.resize import resize
from srcli.metrics.niqe import niqe_srcli
from srcli.metrics.perceptual import missing_squeezenet, squeezenet
from srcli.metrics.psnr import psnr
from srcli.weights.checkpoint import load
from tests.benchmarks.native_bodies import photographs

LR, HR = 64, 256
HOW = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_LINEAR)
KINDS = ("clean", "jpeg", "jpeg2", "blurjpeg", "noise", "halo", "screenshot", "soft")


def stored(x, quality, chroma=2):
    """A picture as a JPEG file gives it back."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=int(quality), subsampling=chroma)
    return np.asarray(Image.open(file).convert("RGB"))


def rounded(x):
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def gauss(x, deviation):
    return cv2.GaussianBlur(x.astype(np.float32), (0, 0), deviation)


def reduced(x, side, g):
    """A square picture at another side, softened where the kernel is not widened by itself."""
    how, by = HOW[g.integers(len(HOW))], len(x) / side
    if how != cv2.INTER_AREA:
        x = rounded(gauss(x, 0.35 * by))
    return cv2.resize(x, (side, side), interpolation=how)


def degraded(hr, kind, g):
    """(256, 256, 3) -> (64, 64, 3)."""
    x = rounded(gauss(hr, g.uniform(1, 6))) if kind in ("blurjpeg", "soft") else hr
    if kind == "jpeg2":
        x = stored(reduced(x, int(g.uniform(90, 180)), g), g.uniform(40, 92))
    lr = reduced(x, LR, g)
    if kind == "halo":
        lr = rounded(lr + g.uniform(0.5, 2.5) * (lr - gauss(lr, g.uniform(0.6, 1.6))))
    if kind == "noise":
        lr = rounded(lr + g.normal(0, g.uniform(4, 18), lr.shape))
    if kind in ("jpeg", "jpeg2", "blurjpeg", "halo"):
        lr = stored(lr, g.uniform(30, 90))
    if kind == "screenshot":
        larger = cv2.resize(lr, (80, 80), interpolation=cv2.INTER_LINEAR)
        lr = stored(cv2.resize(larger, (LR, LR), interpolation=cv2.INTER_AREA), g.uniform(50, 90))
    return lr


def crops(data, count):
    """Pairs (lr, hr) in [0, 1] and their kinds."""
    photos = [p for p in photographs(data, held=True) if min(p.shape[:2]) >= HR]
    for number in range(count):
        g = np.random.default_rng([21, number])
        while True:
            photo = photos[g.integers(len(photos))]
            y, x = (int(g.integers(side - HR + 1)) for side in photo.shape[:2])
            hr = np.ascontiguousarray(photo[y : y + HR, x : x + HR])
            if hr.std() > 12:
                break
        kind = KINDS[number % len(KINDS)]
        yield degraded(hr, kind, g).astype(np.float32) / 255, hr.astype(np.float32) / 255, kind


def fine(x):
    luma = x @ np.array([0.299, 0.587, 0.114], np.float32)
    return luma - gauss(luma, 1.0)


def blockiness(x):
    """The excess of steps at edges of blocks, over the median elsewhere."""
    luma = x @ np.array([0.299, 0.587, 0.114], np.float32)
    found = []
    for side in (luma, luma.T):
        step = np.abs(cv2.resize(side, (HR, LR), interpolation=cv2.INTER_AREA))
        step = np.abs(np.diff(step, axis=0)).mean(axis=1)
        at = np.array([step[k::8][: len(step) // 8].mean() for k in range(8)])
        found.append(at[7] / np.median(at) - 1)
    return float(np.mean(found))


def grid(x):
    """Deviation of the means by phase of 4 pixels in levels, and the share of fine energy that repeats every 4."""
    detail = fine(x)
    phases = detail.reshape(HR // 4, 4, HR // 4, 4)
    means = phases.mean(axis=(0, 2))
    spectrum = np.abs(np.fft.fft2(detail)) ** 2
    repeats = spectrum[:: HR // 4, :: HR // 4].sum() - spectrum[0, 0]
    return float(means.std()) * 255, float(repeats / spectrum.sum())


def gradients(x):
    return np.abs(np.diff(x @ np.array([0.299, 0.587, 0.114], np.float32), axis=1)).ravel() * 255


def figures(sr, hr, taught, plain):
    """One crop's figures, in the order of the table."""
    sr = np.rint(sr.clip(0, 1) * 255).astype(np.float32) / 255
    seen = missing_squeezenet() is None
    phase, repeats = grid(sr)
    clean = cv2.resize(hr, (LR, LR), interpolation=cv2.INTER_AREA)
    return [
        psnr(sr, hr),
        min(psnr(sr, taught), 99.0),
        squeezenet(sr, hr) / squeezenet(taught, hr) if seen else np.nan,
        squeezenet(sr, taught) / squeezenet(plain, taught) if seen else np.nan,
        psnr(cv2.resize(sr, (LR, LR), interpolation=cv2.INTER_AREA), clean),
        wasserstein_distance(gradients(sr), gradients(hr)),
        niqe_srcli(sr),
        float((fine(sr) ** 2).mean() / (fine(taught) ** 2).mean()),
        blockiness(sr),
        phase,
        100 * repeats,
    ]


TITLES = (
    "PSNR O", "PSNR T", "SqN O/T's", "SqN T/bicubic's", "LR PSNR", "gradients", "niqe-srcli", "fine/T's",
    "blocks", "phases", "4 px %", "CPU s/MP",
)  # fmt: skip


def enlarged(engine, lr):
    """The x4 picture, and the processor's seconds that it took."""
    began = time.process_time()
    sr = engine.upscale(lr, size=(HR, HR))
    return np.asarray(sr), time.process_time() - began


def main():
    """Measure, and print one line for each model and side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("-m", "--model", action="append", default=[])
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--sheet", type=Path, help="write the crops beside each other, a row each")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    known = list(crops(asked.data, asked.count))
    loaded = load("real-best")
    teacher = upscaler_for(loaded.network, loaded.preset, device="cpu")
    teacher.network.encoder.limiter = None  # the network alone
    taught = [enlarged(teacher, lr) for lr, _, _ in known]
    plain = [resize(lr, Size(HR, HR), kernel="bicubic") for lr, _, _ in known]
    found = {
        "bicubic": [(x, 0.0) for x in plain],
        **{
            name: [enlarged(load_upscaler(name, device="cpu"), lr) for lr, _, _ in known]
            for name in asked.model
        },
        "teacher": taught,
    }
    print(f"| crops | model | {' | '.join(TITLES)} |\n|{'---|' * (len(TITLES) + 2)}")
    for title in ("damaged", "clean"):
        chosen = [i for i, (_, _, kind) in enumerate(known) if (kind == "clean") == (title == "clean")]
        for name, made in found.items():
            rows = [figures(made[i][0], known[i][1], taught[i][0].clip(0, 1), plain[i]) for i in chosen]
            seconds = sum(made[i][1] for i in chosen) / (len(chosen) * HR * HR / 1e6)
            words = " | ".join(f"{value:.2f}" for value in [*np.nanmean(rows, axis=0), seconds])
            print(f"| {title} | {name} | {words} |", flush=True)
    if asked.sheet:
        rows = [
            np.concatenate([*(made[i][0].clip(0, 1) for made in found.values()), known[i][1]], axis=1)
            for i in range(len(known))
        ]
        Image.fromarray(rounded(np.concatenate(rows) * 255)).save(asked.sheet)


if __name__ == "__main__":
    main()
