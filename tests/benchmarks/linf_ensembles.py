"""LINF's ensembles and patches on one small model, trained alike: PSNR, SSIM and time, and a crop of samples.

    python tests/benchmarks/linf_ensembles.py --data PHOTOS --bench SET5 [--out DIR] [--steps 600]

The encoder is that of the default preset and stays as it is; only decoders are trained, first on their density, then on
density and colours. SET5 is a folder of pairs *_HR.png and *_LR.png at x4. The crop shows single pixels beside 3x3
patches at one temperature, both under the ground truth.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from srcli.config.presets import Part  # noqa: E402
from srcli.data.photos import load_photos  # noqa: E402
from srcli.data.samples import Sampler, SampleSettings  # noqa: E402
from srcli.engine.upscaler import Upscaler  # noqa: E402
from srcli.metrics.psnr import psnr  # noqa: E402
from srcli.metrics.ssim import ssim  # noqa: E402
from srcli.models.decoders import DECODERS  # noqa: E402
from srcli.models.sr import ImplicitSR  # noqa: E402
from srcli.train.objectives import make_objective  # noqa: E402

CASES = {
    "local": {"ensemble": "local"},
    "local-condition": {"ensemble": "local-condition"},
    "fourier-unweighted": {"ensemble": "fourier-unweighted"},
    "fourier": {"ensemble": "fourier"},
    "fourier, 3x3": {"ensemble": "fourier", "patch": 3},
}
DENSITY_ALONE = 0.6  # of the steps


def trained(case: dict, base: Upscaler, photos: list, steps: int) -> ImplicitSR:
    """The default preset's encoder with a decoder of that kind."""
    torch.manual_seed(0)
    patch = case.get("patch", 1)
    decoder = DECODERS["linf"](
        in_dim=base.network.encoder.out_dim, hidden_dim=64, hidden=(64, 64, 64), **case
    )
    network = ImplicitSR(base.network.encoder.requires_grad_(requires_grad=False), decoder)
    # As many pixels are seen whatever the patch.
    sampler = Sampler(photos, SampleSettings(patch=32, queries=1152 // patch**2, around=patch, dither=True))
    optimiser = torch.optim.Adam(decoder.parameters(), betas=(0.9, 0.99))
    stages = make_objective(Part("nll")), make_objective(Part("linf-stage-2", {"loss": "joint"}))
    for step in range(steps):
        (loss,) = stages[step >= DENSITY_ALONE * steps]
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 30) * (1 + math.cos(math.pi * step / steps)) / 2
        batch = sampler.draw(0, step, range(4))
        optimiser.zero_grad()
        loss(network, batch._replace(lr=batch.lr * 2 - 1, hr=batch.hr * 2 - 1)).backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 20)
        optimiser.step()
    return network


def read(path: Path) -> np.ndarray:
    """Pixels (h, w, 3) in [0, 1]."""
    return np.asarray(Image.open(path).convert("RGB")) / 255


def main() -> None:
    """Train, measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--temperature", type=float, default=0.6)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    base = Upscaler.from_preset(device="cpu", precision="fp32")
    photos = load_photos(args.data, smallest=32).train
    pairs = [
        (read(p), read(p.with_name(p.name.replace("HR", "LR")))) for p in sorted(args.bench.glob("*HR.png"))
    ]
    crops = [pairs[2][0][60:188, 60:188]]
    for name, case in CASES.items():
        sr = Upscaler(trained(case, base, photos, args.steps), base.preset, device="cpu", precision="fp32")
        values, seconds = [], 0.0
        for hr, lr in pairs:
            x = torch.from_numpy(lr).permute(2, 0, 1).unsqueeze(0).float()
            start = time.process_time()
            result = sr.upscale(x, 4)[0].permute(1, 2, 0).double().numpy()
            seconds += time.process_time() - start
            values.append((psnr(result, hr, shave=4, luma=True), ssim(result, hr)))
        mean = np.mean(values, axis=0)
        print(f"{name:20} PSNR-Y {mean[0]:.2f} dB  SSIM {mean[1]:.4f}  {seconds:.2f} CPU s", flush=True)
        if case["ensemble"] == "fourier":
            x = torch.from_numpy(pairs[2][1]).permute(2, 0, 1).unsqueeze(0).float()
            sample = sr.upscale(x, 4, temperature=args.temperature)[0].permute(1, 2, 0).double().numpy()
            crops.append(sample[60:188, 60:188])
    sheet = Image.fromarray((np.concatenate(crops, 1) * 255).round().astype(np.uint8))
    sheet.resize((sheet.width * 3, sheet.height * 3), Image.Resampling.NEAREST).save(
        args.out / "linf-patches.png"
    )


if __name__ == "__main__":
    main()
