"""Latent restorers on pairs of pictures: PSNR, NIQE and histograms over steps and fidelity, beside bicubic.

srcli bench make-lr HR -o LR --method realesrgan-seesr -s 2      # or any folders of pairs with equal names
python tests/benchmarks/restorers.py HR LR WEIGHTS.. --steps 15 --fidelity 0 0.6 --colour-fix adain
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from srcli.config.sampling import choose_sampling
from srcli.engine.load import upscaler_for
from srcli.engine.normalised_image import TensorSource
from srcli.geometry import Size
from srcli.image.colour_transfer import transfer_colours
from srcli.image.read import read_image
from srcli.image.resize import resize_rows
from srcli.metrics.niqe import niqe_srcli
from srcli.metrics.psnr import psnr
from srcli.models.dpacm import wasserstein_1
from srcli.weights.checkpoint import load


def figures(sr, hr):
    """PSNR of RGB in dB, NIQE, and Wasserstein-1 of colours in levels, of a result rounded to 8 bits."""
    sr = np.rint(sr.clip(0, 1) * 255) / 255
    moved = [torch.from_numpy(np.ascontiguousarray(x)).float().permute(2, 0, 1)[None] for x in (sr, hr)]
    return psnr(sr, hr), niqe_srcli(sr), float(wasserstein_1(*moved).mean()) * 255


def pairs(hr, lr):
    for path in sorted(hr.iterdir()):
        big, small = read_image(path), read_image(lr / path.name)
        yield tuple(x.strip(0, x.size[0]) for x in (big, small))


def main():
    """Measure, and print one line for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hr", type=Path)
    parser.add_argument("lr", type=Path)
    parser.add_argument("weights", type=Path, nargs="*")
    parser.add_argument("--steps", type=int, nargs="+", default=[40])
    parser.add_argument("--sampler")
    parser.add_argument("--fidelity", type=float, nargs="+", default=[0.0])
    parser.add_argument("--colour-fix", default="adain")
    parser.add_argument("--tile", default="auto")
    asked = parser.parse_args()
    known = list(pairs(asked.hr, asked.lr))
    print("| model | steps | fidelity | PSNR | NIQE | histograms |\n|---|---|---|---|---|---|")
    rows = []
    for hr, lr in known:
        size = Size(*hr.shape[:2])
        low = Size(*lr.shape[:2])
        rows.append(
            figures(resize_rows(lambda a, b, lr=lr: lr[a:b], low, size, 0, size.h, kernel="bicubic"), hr)
        )
    show("bicubic", "", "", rows)
    for path in asked.weights:
        loaded = load(path)
        for steps in asked.steps:
            for fidelity in asked.fidelity:
                sampling = choose_sampling(loaded.preset, steps=steps, sampler=asked.sampler)
                sampling = dataclasses.replace(sampling, fidelity=fidelity)
                engine = upscaler_for(
                    loaded.network,
                    loaded.preset,
                    device="cpu",
                    precision="fp32",
                    tile=asked.tile,
                    sampling=sampling,
                )
                rows = []
                for hr, lr in known:
                    source = TensorSource(torch.from_numpy(lr).permute(2, 0, 1)[None])
                    sr = np.concatenate(list(engine.upscale_rows(source, Size(*hr.shape[:2])).rows))
                    if asked.colour_fix != "none":
                        sr = transfer_colours(sr, lr, asked.colour_fix)
                    rows.append(figures(sr, hr))
                show(path.parent.name, steps, fidelity, rows)


def show(name, steps, fidelity, rows):
    """One row of the table: means over the pictures."""
    means = np.mean(rows, 0)
    print(f"| {name} | {steps} | {fidelity} | {means[0]:.2f} | {means[1]:.2f} | {means[2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
