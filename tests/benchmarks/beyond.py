"""Far beyond the trained scales: decode at the target, or at a smaller scale with a resize after it?

    python tests/benchmarks/beyond.py PHOTO ... [--model edsr-baseline-blend] [--scales 6,8,12] [--middle 3,4,6]

Photos are reduced by Pillow's bicubic; luma PSNR in dB of 8-bit results without a border of one LR pixel, the mean
over photos. Choose photos that the model was not trained on, and no benchmark.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def numbers(text: str) -> list[int]:
    """6,8,12"""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Print a line for each scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--model", default="edsr-baseline-blend")
    parser.add_argument("--scales", type=numbers, default=[6, 8, 12])
    parser.add_argument("--middle", type=numbers, default=[3, 4, 6])
    args = parser.parse_args()
    import numpy as np
    import torch
    from PIL import Image

    from srcli import Upscaler
    from srcli.geometry import Size
    from srcli.image.resize import resize_rows
    from srcli.metrics.psnr import psnr

    upscaler = Upscaler.from_preset(args.model)

    def enlarged(lr: np.ndarray, size: Size) -> np.ndarray:
        x = torch.from_numpy(lr).permute(2, 0, 1)[None]
        return upscaler.upscale(x, size=size)[0].permute(1, 2, 0).numpy()

    def figure(sr: np.ndarray, hr: np.ndarray, scale: int) -> float:
        levels = np.rint(np.clip(sr, 0, 1) * 255) / 255
        return psnr(levels, hr, shave=scale, luma=True)

    for scale in args.scales:
        found = defaultdict(list)
        for path in args.photos:
            photo = Image.open(path).convert("RGB")
            w, h = (side // scale for side in photo.size)
            photo = photo.crop((0, 0, w * scale, h * scale))
            hr = np.asarray(photo, np.float64) / 255
            lr = np.asarray(photo.resize((w, h), Image.Resampling.BICUBIC), np.float32) / 255
            target = Size(h * scale, w * scale)
            found["at the target"].append(figure(enlarged(lr, target), hr, scale))
            for middle in (m for m in args.middle if m < scale):
                half = enlarged(lr, Size(h * middle, w * middle))
                sr = resize_rows(
                    lambda a, b, half=half: half[a:b],
                    Size(*half.shape[:2]),
                    target,
                    0,
                    target.h,
                    kernel="lanczos",
                )
                found[f"x{middle} + Lanczos"].append(figure(sr, hr, scale))
        print(f"x{scale}: " + ", ".join(f"{k} {np.mean(v):.3f}" for k, v in found.items()), flush=True)


if __name__ == "__main__":
    main()
