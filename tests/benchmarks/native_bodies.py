"""Makes the bodies of the default, both RLFN, from the authors' released ones: safe on every picture.

    python tests/benchmarks/native_bodies.py --release rlfn_x4.safetensors --data open-0.tar --data open-1.tar --out runs/x4
    python tests/benchmarks/native_bodies.py --release rlfn_x2.safetensors --data open-0.tar --data open-1.tar --out runs/x2

The release teaches photographs, so that nothing is forgotten; text, one-bit pictures, sharpened ones, checkers, drawings
and flat colours are taught by bicubic interpolation within the colours around, projected back once; crisp art, made at the
native size and reduced, by itself. A call goes on where the last one stopped. `last.safetensors` are averaged weights in the
release's layout, for pixels of 0 to 2; `--share` of them and the rest of the release's make `mixed.safetensors`. Those of
both bodies become the default's weights:

    python tests/benchmarks/native_bodies.py --join runs/x4/mixed.safetensors runs/x2/mixed.safetensors --out rlfn-native.safetensors

What ships was made with `--share 0.5` for x4 (900 steps) and `--share 0.3` for x2 (700 steps).
"""

import argparse
import io
import json
import sys
import tarfile
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from srcli.config.presets import load_preset
from srcli.models.encoders.rlfn import RLFN, scaled
from srcli.weights.checkpoint import save_state
from tests.helpers import hostile as pictures

SIDE = 48  # of LR crops


def held_out(photo):
    """Whether a photograph is kept for validation."""
    return photo in ("007", "050", "108") or int(photo) % 12 == 5 or _digest(photo) % 50 == 0


def _digest(photo):
    return int(blake2b(photo.encode()).hexdigest()[:8], 16)


def photographs(shards, *, held, named=False):
    """The photographs' blocks, (h, w, 3) uint8, sorted by name: those for training, or with `held` the others.

    With `named` each comes behind its photograph's name.
    """
    found = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                if held_out(Path(member.name).name.split("_")[0]) == held:
                    found[member.name] = np.asarray(
                        Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                    )
    return [(name.split("_")[0], found[name]) if named else found[name] for name in sorted(found)]


def photo_crop(photos, g):
    """An LR crop: a photograph shrunk by 1 to 4, turned at random."""
    while True:
        photo = photos[g.integers(len(photos))]
        by = g.uniform(1, 4)
        if min(photo.shape[:2]) / by > SIDE + 1:
            break
    h, w = (round(n / by) for n in photo.shape[:2])
    y, x = g.integers(h - SIDE), g.integers(w - SIDE)
    small = Image.fromarray(photo).resize((w, h), Image.Resampling.BICUBIC)
    return np.rot90(np.asarray(small.crop((x, y, x + SIDE, y + SIDE))), g.integers(4))


def art(g, factor):
    """Crisp art at the native size, and its bicubic reduction."""
    made = (
        pictures.text(g, SIDE * factor, smooth=True)
        if g.random() < 0.5
        else pictures.drawing(g, SIDE * factor)
    )
    return np.asarray(Image.fromarray(made).resize((SIDE, SIDE), Image.Resampling.BICUBIC)), made


def hostile(g):
    """An LR crop of text, patterns, sharpened pictures, drawings or flat colours."""
    makers = (
        pictures.text,
        pictures.one_bit,
        pictures.unsharp,
        pictures.flat,
        pictures.checker,
        pictures.drawing,
    )
    maker = makers[g.choice(6, p=[0.35, 0.2, 0.15, 0.08, 0.07, 0.15])]
    return maker(g, SIDE, smooth=False) if maker is pictures.text else maker(g, SIDE)


def plain(lr, factor):
    """Bicubic interpolation of (B, 3, h, w) within the colours around, projected back once, within them again."""

    def clamped(x):
        low, high = -F.max_pool2d(-lr, 5, 1, 2), F.max_pool2d(lr, 5, 1, 2)
        low, high = (F.interpolate(m, scale_factor=factor, mode="bilinear") for m in (low, high))
        return x.maximum(low).minimum(high)

    def up(x):
        return F.interpolate(x, scale_factor=factor, mode="bicubic")

    first = clamped(up(lr))
    return clamped(first + up(lr - F.avg_pool2d(first, factor)))


def tensors(crops):
    """(B, 3, h, w) in [0, 2] of uint8 crops."""
    return (
        torch.from_numpy(np.stack([np.ascontiguousarray(c) for c in crops])).permute(0, 3, 1, 2).float()
        / 127.5
    )


def build(state):
    """The body of a release's state (for pixels of 0 to 2), of the factor of its upsampler."""
    body = RLFN(factor=round((len(state["upsampler.0.bias"]) / 3) ** 0.5), gives="picture")
    body.load_state_dict(state)
    return body.to(memory_format=torch.channels_last)


def picture(body, lr):
    """(B, 3, h, w) -> (B, 3, f h, f w)."""
    return F.pixel_shuffle(body(lr.contiguous(memory_format=torch.channels_last)), body.factor)


def batch(photos, teacher, g, count):
    """LR, what is aimed at, and weights of the loss; two photographs to one hostile crop or piece of art."""
    factor = teacher.factor
    seen = [photo_crop(photos, g) for _ in range(count * 2 // 3)]
    odd = [hostile(g) for _ in range(count // 4)]
    made = [art(g, factor) for _ in range(count - len(seen) - len(odd))]
    lr = tensors(seen + odd + [small for small, _ in made])
    with torch.no_grad():
        taught = picture(teacher, lr[: len(seen)])
    wanted = [
        taught,
        plain(lr[len(seen) : len(seen) + len(odd)], factor),
        tensors([large for _, large in made]),
    ]
    return lr, torch.cat(wanted)


def psnr(body, crops, wanted):
    """PSNR in RGB, in dB, between a body's pictures and those wanted, clamped."""
    with torch.no_grad():
        off = picture(body, crops).clamp(0, 2) - wanted.clamp(0, 2)
    return float(10 * torch.log10(4 / off.square().mean()))


def join(large, small, output):
    """Write the default's weights from those of its two bodies."""
    state = {f"encoder.{key}": value for key, value in load_file(large).items()}
    state |= {f"encoder.small.{key}": value for key, value in load_file(small).items()}
    save_state(output, state, load_preset("rlfn-native"), half=True)


def main():
    """One part of the training, until its steps or the minutes are over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--release")
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--join", nargs=2, metavar=("X4", "X2"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument(
        "--share", type=float, default=0.6, help="of the trained weights in mixed.safetensors"
    )
    parser.add_argument("--minutes", type=float, default=1e9)
    options = parser.parse_args()
    if options.join:
        join(*options.join, options.out)
        return
    steps, rate = options.steps, options.rate
    torch.set_num_threads(1)
    state = scaled(load_file(options.release))
    teacher, body, average = build(state).eval(), build(state), build(state)
    optimiser = torch.optim.Adam(body.parameters(), lr=rate, betas=(0.9, 0.99))
    first, kept = 0, options.out / "state.pt"
    options.out.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        saved = torch.load(kept, weights_only=True)
        body.load_state_dict(saved["body"]), average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
    photos, others = (photographs(options.data, held=held) for held in (False, True))
    g = np.random.default_rng(5)
    check = tensors([photo_crop(others, g) for _ in range(32)])
    taught = torch.cat([picture(teacher, part) for part in check.split(8)]).detach()
    start = time.monotonic()

    def save(step):
        torch.save(
            {
                "body": body.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
            },
            kept,
        )
        last = {key: value.contiguous() for key, value in average.state_dict().items()}
        save_file(last, options.out / "last.safetensors")
        mixed = {key: torch.lerp(state[key], value, options.share) for key, value in last.items()}
        save_file(mixed, options.out / "mixed.safetensors")
        row = {
            "step": step,
            "photographs": round(psnr(average, check, taught), 3),
            "minutes": round((time.monotonic() - start) / 60, 1),
        }
        with (options.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        print(row, flush=True)

    for step in range(first, steps):
        g = np.random.default_rng([9, step])
        lr, wanted = batch(photos, teacher, g, options.batch)
        for group in optimiser.param_groups:
            group["lr"] = float(
                rate * (min(1, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * step / steps)) + 0.01)
            )
        loss = (picture(body, lr) - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(body.parameters(), 0.5)
        optimiser.step()
        with torch.no_grad():
            share = min(0.998, (step + 1) / (step + 10))
            for mean, value in zip(average.parameters(), body.parameters(), strict=True):
                mean.lerp_(value, 1 - share)
        if (step + 1) % 100 == 0 or step + 1 == steps or time.monotonic() - start > options.minutes * 60:
            save(step + 1)
        if time.monotonic() - start > options.minutes * 60:
            break


if __name__ == "__main__":
    main()
