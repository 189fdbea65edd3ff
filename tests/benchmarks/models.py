"""What every model that comes with the package costs, and how it behaves on held-out photographs.

    python tests/benchmarks/models.py [--device cpu] [--side 192] [--repeat 5] [--only NAME ...]

Seconds per megapixel of output at x4, in one run. On a CPU: CPU seconds of one thread, so that other programs on the
machine matter little. On a GPU: wall seconds. The median of several; the ratio is to the first model. Prints the lines for
each preset's [cost].

    python tests/benchmarks/models.py --held-out open-0.tar --held-out open-1.tar --rows gain -s 2,3,4 --only rlfn-lit-s
    python tests/benchmarks/models.py --held-out open-0.tar --held-out open-1.tar --rows scales,colour,noise --only rlfn-native

On parts of 192x192 pixels, three of each photograph that `native_bodies.held_out` names. `gain`: luma PSNR of Pillow's bicubic
reduction above that of the default's x4 body alone, with a 95 % interval over parts, structure and natural texture (050, 108)
apart. `scales`: from x1.1 to x8 by 0.1, by how much PSNR rises in a step at most, its gain above bicubic and the largest
change of that, and how far colours at the same places are apart at s and s + 0.01. `colour`: how far means over 8x8 input
pixels move. `noise`: what a camera's noise (4 levels under a Bayer mosaic, interpolated bilinearly), white noise of 4
levels and JPEG (quality 90) add to the result, over what they add to bicubic interpolation, and the same for the steps at
the borders of JPEG's blocks. `bf16`: what a CPU's computing in it loses, for `cpu_bf16` in a preset's [engine].
"""

import argparse
import io
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import convolve

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from srcli.config.presets import DEFAULT_PRESET, Part, list_presets
from srcli.engine.load import load_upscaler, upscaler_for
from srcli.geometry import Grid, Size
from srcli.models.layers import grid_coord
from srcli.models.sr import Frame, pixel_cell
from srcli.weights.build import build
from srcli.weights.checkpoint import load, load_into
from srcli.weights.files import is_bundled
from tests.benchmarks.native_bodies import hostile, photographs

SCALE, SIDE, PARTS, HOSTILE = 4, 192, 3, 24
LUMA = torch.tensor([65.738, 129.057, 25.064]).view(3, 1, 1) / 256
NATURAL = ("050", "108")


def seconds(name: str, device: str, side: int, repeat: int) -> float:
    """Median seconds per megapixel of output."""
    upscaler = load_upscaler(name, device=device)
    lr = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    now = time.process_time if device == "cpu" else time.perf_counter
    found = []
    for _ in range(repeat + 1):
        start = now()
        upscaler.upscale(lr, SCALE)  # gives a tensor on the CPU, so a GPU has finished
        found.append((now() - start) / (side * SCALE) ** 2 * 1e6)
    return statistics.median(found[1:])  # the first one warms up


def costs(names: list[str], args: argparse.Namespace) -> None:
    """A line for each model."""
    first = None
    for name in names:
        found = seconds(name, args.device, args.side, args.repeat)
        first = first or found
        kind = "cpu" if args.device == "cpu" else "gpu"
        print(f"{name:24}  {found / first:6.2f} x   [cost] {kind} = {found:.3g}", flush=True)


# --- held-out photographs -----------------------------------------------------------------------------------------


def parts_of(shards: list[str]) -> list[tuple[str, np.ndarray]]:
    """Photograph and pixels (SIDE, SIDE, 3) of the parts: of each photograph those with the most contrast."""
    g, parts = np.random.default_rng(3), []
    blocks = photographs(shards, held=True, named=True)
    for photo in sorted({name for name, _ in blocks}):
        own = [pixels for name, pixels in blocks if name == photo and min(pixels.shape[:2]) >= SIDE]
        for pixels in sorted(own, key=lambda a: -float(a.std()))[:PARTS]:
            y, x = (g.integers(n - SIDE + 1) for n in pixels.shape[:2])
            parts.append((photo, pixels[y : y + SIDE, x : x + SIDE]))
    return parts


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """(h, w, 3) uint8 -> (1, 3, h, w) in [0, 1]."""
    return torch.tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None] / 255


def pillow(pixels: np.ndarray, h: int, w: int) -> np.ndarray:
    """By Pillow's bicubic."""
    return np.asarray(Image.fromarray(pixels).resize((w, h), Image.Resampling.BICUBIC))


def psnr(enlarge, hr: np.ndarray, scale: float) -> float:
    """Luma PSNR in dB, border = scale, of `enlarge(lr pixels, h, w)`."""
    h, w = (int(n / scale + 1e-9) for n in hr.shape[:2])
    side = Size(round(h * scale), round(w * scale))
    hr = hr[: side.h, : side.w]
    off = ((enlarge(pillow(hr, h, w), *side) - tensor(hr))[0] * LUMA).sum(0)
    border = int(np.ceil(scale))
    return float(-10 * off[border:-border, border:-border].square().mean().log10())


def by(engine):
    """`enlarge` of an engine; temperature 0."""
    return lambda pixels, h, w: engine.upscale(tensor(pixels), size=(h, w))


def bicubic(pixels: np.ndarray, h: int, w: int) -> torch.Tensor:
    """Of 8 bits, as an image program gives it."""
    return tensor(pillow(pixels, h, w))


def body_alone():
    """The engine of the default's x4 body."""
    default = load(DEFAULT_PRESET)
    preset = replace(default.preset, encoder=Part("rlfn"))
    network = build(preset)
    state = default.network.encoder.state_dict()
    load_into(network.encoder, network.encoder.initial_state(state), where=DEFAULT_PRESET)
    return upscaler_for(network, preset, device="cpu")


def gain(engine, parts, scales) -> None:
    """Above the default's x4 body alone."""
    base = body_alone()
    for scale in scales:
        found = {}
        for photo, hr in parts:
            kind = "natural" if photo in NATURAL else "structure"
            found.setdefault(kind, []).append(psnr(by(engine), hr, scale) - psnr(by(base), hr, scale))
        found["all"] = [value for each in found.values() for value in each]
        told = (
            f"{kind} {np.mean(v):+.3f} +- {1.96 * np.std(v, ddof=1) / len(v) ** 0.5:.3f}"
            for kind, v in found.items()
        )
        print(f"  x{scale:g}: " + ", ".join(told), flush=True)


def scales(engine, parts) -> None:
    """Between scales."""
    steps = [round(1.1 + 0.1 * i, 1) for i in range(70)]
    own = np.array([[psnr(by(engine), hr, s) for _, hr in parts] for s in steps]).mean(1)
    plain = np.array([[psnr(bicubic, hr, s) for _, hr in parts] for s in steps]).mean(1)
    rise, over = np.diff(own), own - plain
    change = np.abs(np.diff(over))
    print(f"  largest rise in a step {rise.max():+.3f} dB at x{steps[int(rise.argmax()) + 1]:g}")
    print(
        f"  gain above bicubic {over.min():.2f} to {over.max():.2f} dB, least at x{steps[int(over.argmin())]:g}"
    )
    for low, high in ((1.1, 2), (2, 3), (3, 8)):
        inside = [(c, s) for c, s in zip(change, steps[1:], strict=True) if low < s <= high]
        print(
            f"  its largest change in a step from x{low:g} to x{high:g}: {max(inside)[0]:.3f} dB, to x{max(inside)[1]:g}"
        )
    print(
        "  " + ", ".join(f"x{s:g} {own[i]:.2f} ({over[i]:+.2f})" for i, s in enumerate(steps) if i % 5 == 4)
    )
    share = {s: beside(engine, parts[::4], s) for s in steps[:-1]}
    worst = max(share, key=share.__getitem__)
    print(
        f"  s and s + 0.01 differ by more than 1 level in at most {share[worst]:.3%} (x{worst:g})", flush=True
    )


@torch.inference_mode()
def beside(engine, parts, scale: float) -> float:
    """Share of values that differ by more than a level at the same places between `scale` and 0.01 more."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in engine.preset.mean_std)
    draw, beyond, lr = torch.Generator().manual_seed(0), [], Size(100, 100)
    for _, pixels in parts:
        x, colours = (tensor(pixels[: lr.h, : lr.w]) - mean) / std, []
        sides = [round(100 * scale), round(100 * scale) + 1]
        coord = grid_coord(Grid.of(lr, Size(sides[0], sides[0])), x)
        coord = coord[:, torch.randint(coord.shape[1], (8192,), generator=draw)]
        for side in sides:
            target = Size(side, side)
            cell = pixel_cell(lr, target, cell_clip=engine.preset.engine.cell_clip)
            frame = Frame.whole(x, cell, target)
            feat = engine.network.encoder.for_scale(frame.scale)(x)
            decoder = engine.network.decoder
            colours.append(decoder.query(decoder.prepare(feat, x, frame), coord) * std.flatten())
        beyond.append(((colours[0] - colours[1]).abs() * 255 > 1).float().mean())
    return float(torch.stack(beyond).mean())


def colour(engine, parts) -> None:
    """Means over 8x8 input pixels, of the result and of the input."""
    for scale in (2, 3, 4):
        off = []
        for _, pixels in parts:
            sr = engine.upscale(tensor(pixels), scale)
            low = [torch.nn.functional.avg_pool2d(*each) for each in ((sr, 8 * scale), (tensor(pixels), 8))]
            off.append((low[0] - low[1]).abs().flatten() * 255)
        off = torch.cat(off)
        print(f"  x{scale}: mean {off.mean():.3f}, 99.9 % {off.quantile(0.999):.2f} levels", flush=True)


def noise(engine, parts) -> None:
    """What noise and JPEG add, over what they add to bicubic interpolation."""
    for scale in (1.5, 3):
        side = round(SIDE * scale)
        added: dict[str, list[list[float]]] = {}
        for number, (_, pixels) in enumerate(parts):
            noise = np.random.default_rng(number).normal(0, 4, pixels.shape)
            white, camera = (
                (pixels + each).round().clip(0, 255).astype(np.uint8) for each in (noise, mosaicked(noise))
            )
            clean = [f(pixels, side, side) for f in (by(engine), bicubic)]
            damage = {"white": white, "camera": camera, "camera and JPEG": jpeg(camera), "JPEG": jpeg(pixels)}
            for name, damaged in damage.items():
                errors = [
                    f(damaged, side, side) - c for f, c in zip((by(engine), bicubic), clean, strict=True)
                ]
                added.setdefault(name, []).append([float(x.square().mean()) for x in errors])
                if name == "JPEG":
                    steps = [steps_at_blocks(x, scale) for x in errors]
                    added.setdefault("borders of blocks", []).append(steps)
        told = (f"{name} {np.sqrt(np.divide(*np.mean(v, 0))):.3f}" for name, v in added.items())
        print(f"  x{scale:g}, over bicubic's: " + ", ".join(told), flush=True)


def bf16(engine, parts) -> None:
    """dB lost to fp32 on photographs and on hostile pictures, and how many samples of files are more than a level off it."""
    engines = [load_upscaler(engine.preset, device="cpu", precision=each) for each in ("fp32", "bf16")]
    hard = [("", hostile(np.random.default_rng(number))) for number in range(HOSTILE)]
    low, high = engine.preset.scales.trained
    lost, off = [], []
    for scale in (s for s in (2, 3, 4) if low <= s <= high):
        for kind, pictures in (("hostile", hard), ("photographs", parts)):
            levels, beyond = [], []
            for _, hr in pictures:
                small = pillow(hr, *(n // scale for n in hr.shape[:2]))
                srs = [by(each)(small, *(n * scale for n in small.shape[:2])) for each in engines]
                levels.append([psnr(lambda *_, sr=sr: sr, hr, scale) for sr in srs])
                first, second = ((sr * 255).round() for sr in srs)
                beyond.append(((first - second).abs() > 1).flatten())
            lost.append(float(np.mean(np.subtract(*np.transpose(levels)))))
            share = float(torch.cat(beyond).float().mean())
            print(
                f"  x{scale}, {kind}: {lost[-1]:+.4f} dB lost, {share:.4%} more than a level off", flush=True
            )
        off.append(share)
    print(f"  cpu_bf16 = {{ db_lost = {max(lost):.2g}, samples_off = {max(off):.2g} }}", flush=True)


def mosaicked(noise: np.ndarray) -> np.ndarray:
    """What noise (h, w, 3) becomes behind a Bayer mosaic that is interpolated bilinearly."""
    y, x = np.indices(noise.shape[:2]) % 2
    seen = np.stack([(y == 0) & (x == 0), y != x, (y == 1) & (x == 1)], -1)
    row, across = np.array([[0.5, 1, 0.5]]), np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]])
    kernels = (row * row.T, across, row * row.T)
    return np.stack([convolve(noise[..., i] * seen[..., i], kernels[i]) for i in range(3)], -1)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    """Through JPEG of quality 90."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return np.asarray(Image.open(file))


def steps_at_blocks(error: torch.Tensor, scale: float) -> float:
    """Mean square of the steps of an error over one input pixel, across the borders of blocks."""
    places = np.arange(8, SIDE, 8) * scale
    low, high = (torch.tensor(np.floor(places + by * scale / 2).astype(int)) for by in (-1, 1))
    return float((error.index_select(3, high) - error.index_select(3, low)).square().mean())


def main() -> None:
    """Costs, or rows on held-out photographs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="names or weights files")
    parser.add_argument("--held-out", action="append", default=[], metavar="SHARD")
    parser.add_argument("--rows", default="gain")
    parser.add_argument("-s", "--scales", default="2,3,4")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.only or sorted(
        (p.name for p in list_presets() if is_bundled(p)), key=lambda n: (n != DEFAULT_PRESET, n)
    )
    if not args.held_out:
        costs(names, args)
        return
    parts = parts_of(args.held_out)
    print(f"{len(parts)} parts of {len({name for name, _ in parts})} photographs")
    for name in names:
        engine = load_upscaler(name, device="cpu")
        for row in args.rows.split(","):
            print(f"{name}, {row}", flush=True)
            if row == "gain":
                gain(engine, parts, [float(s) for s in args.scales.split(",")])
            else:
                {"scales": scales, "colour": colour, "noise": noise, "bf16": bf16}[row](engine, parts)


if __name__ == "__main__":
    main()
