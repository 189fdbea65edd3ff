"""What `srcli` does, recorded: `python tests/benchmarks/recorder.py record|compare FILE [--only NAME,..]`.

`record` runs the commands below in a temporary folder on pictures that it makes, and writes a hash of every outcome:
decoded pixels and metadata of pictures, tensors of weights, masked text of all else, exit codes. `compare` runs them
again and prints a line for every difference; it ends with 1 if there is one. `recorded.json` is the record of the
commit that its first lines name; hashes hold on one machine, with one thread and fp32.

--pixels FILE.npz keeps all pixels beside the record, so that the largest difference is exact. Without it, it is that
of the pixels that the record keeps of each picture.

Commands run in forks of a process that has imported the libraries, but nothing of srcli.
"""

import argparse
import atexit
import base64
import difflib
import hashlib
import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 120  # numbers of a picture that the record keeps
LONG = 8000  # characters of a file that are kept only as a hash
CPU = "--device cpu --precision fp32"
UP = f"upscale {CPU} --progress none"
TRAIN = "train --data photos --device cpu --quiet --log-every 1 --save-every 1"

# A name, the commands whose files it needs, and the words.
COMMANDS = [
    ("default", "", f"{UP} photo.png -s 4.3 --json"),
    ("default-tiles", "", f"{UP} photo.png -s 4.3 --tile 12 -o tiles.png"),
    ("model-rlfn-native", "", f"{UP} photo.png -s 2 -m rlfn-native -o native.png"),
    ("model-edsr-s-blend", "", f"{UP} photo.png -s 3.7 -m edsr-s-blend --tile 16 -o s.png"),
    ("model-edsr-baseline-blend", "", f"{UP} photo.png -W 70 -m edsr-baseline-blend -o baseline.png"),
    ("model-edsr-s-blend-real", "", f"{UP} damaged.jpg -s 2.5 -m edsr-s-blend-real -o real.png --verbose"),
    ("model-rlfn-lit-s", "", f"{UP} photo.png -s 2.5 -m rlfn-lit-s -o lit.png"),
    ("model-rlfn-linf-s", "", f"{UP} photo.png -s 3 -m rlfn-linf-s --seed 7 -o linf.png --json"),
    ("model-fplia-small", "", f"{UP} small.png -s 3.3 -m fplia-small --steps 3 --seed 4 -o fplia.png --json"),
    ("selection-map", "", f"{UP} small.png -s 2 -m fplia-small --steps 2 --selection-map chosen.png -o sel.png"),
    ("branch", "", f"{UP} small.png -s 2 -m fplia-small --steps 2 --branch p --average 2 -o branch.png"),
    ("samples", "", f"{UP} photo.png -s 2 -m rlfn-linf-s -T 0.6 --samples 2 --temperature-map map.png -o two/"),
    ("temperature-map-auto", "", f"{UP} photo.png -s 2.2 -m rlfn-linf-s -T 0.8 --temperature-map auto -o ta.png"),
    ("back-projection", "", f"{UP} photo.png -s 3 --consistency -o consistent.png"),
    ("colour-transfer", "", f"{UP} small.png -s 2 -m rlfn-linf-s -T 1 --colour-fix wavelet -o wavelet.png"),
    ("self-ensemble", "", f"{UP} small.png -s 2.6 --tta -o tta.png"),
    ("degradation", "", f"{UP} photo.png damaged.jpg -s 2 --degradation auto -o auto/ --jsonl --verbose"),
    ("alpha", "", f"{UP} alpha.png -s 2.7 -o alpha.webp --lossless --json"),
    ("alpha-flat", "", f"{UP} alpha.png --max-side 50 --alpha lanczos --background #204060 -o alpha.jpg"),
    ("16-bit", "", f"{UP} deep.png -s 2.3 -o deep.tiff --json"),
    ("gray-32-float", "", f"{UP} gray.png --height 61 --bit-depth 32f -o gray.tiff"),
    ("animation", "", f"{UP} film.gif -s 2 --frames all -o film.png --json"),
    ("exif", "", f"{UP} tagged.jpg --print 20x20mm@90dpi --metadata safe -o turned.jpg --quality 88"),
    ("shrink", "", f"{UP} tagged.jpg --megapixels 0.0003 --dither -o shrunk.png"),
    ("batch", "", f"{UP} shots -r -s 2 -o big --manifest done.jsonl --jsonl --name {{stem}}@{{size}}{{ext}}"),
    ("batch-again", "batch", f"{UP} shots -r -s 2 -o big --manifest done.jsonl --name {{stem}}@{{size}}{{ext}}"),
    ("batch-status", "batch", f"{UP} shots -r -s 2 -o big --manifest done.jsonl --status --name {{stem}}@{{size}}{{ext}}"),
    ("batch-fails", "", f"{UP} shots broken.png tiny.png -s 2 -o failing --manifest failing.jsonl --json"),
    ("batch-workers", "", f"{UP} shots -r -s 2 -o twice --workers 2 --jsonl"),
    ("batch-shard", "", f"{UP} shots -r -s 2 -o shard --shard 1/2 --dry-run"),
    ("train", "", f"{TRAIN} --recipe tiny.toml --out runs/tiny --max-steps 1"),
    ("train-resume", "train", f"{TRAIN} --recipe tiny.toml --out runs/tiny --max-steps 2"),
    ("train-pixel-diffusion", "", f"{TRAIN} --recipe pixel.toml --out runs/pixel --max-steps 2"),
    ("pixel-diffusion", "train-pixel-diffusion", f"{UP} small.png -s 2.5 -m runs/pixel/last.safetensors --steps 3 -o pixel.png --json"),
    ("train-latent-diffusion", "", f"{TRAIN} --recipe latent.toml --out runs/latent --max-steps 2"),
    ("latent-diffusion", "train-latent-diffusion", f"{UP} small.png -s 2.5 -m runs/latent/last.safetensors --steps 3 -o latent.png"),
    ("train-restoration", "", f"{TRAIN} --recipe restoration.toml --out runs/restoration --max-steps 2"),
    ("restoration", "train-restoration", f"{UP} small.png -s 2 -m runs/restoration/last.safetensors --steps 3 -o restored.png --json"),
    ("eval", "", f"eval --data bench --bench Set5 -m rlfn-native -m bicubic -s 2,3.3 --limit 1 --quiet {CPU} -o rows.json"),
    ("eval-temperatures", "", f"eval --data hr -m rlfn-linf-s -T 0,0.5 --seeds 2 -s 2 --limit 2 --stats bootstrap --per-image --quiet {CPU}"),
    ("eval-branches", "", f"eval --data hr -m fplia-small --branch f,selected --steps 2 -s 4 --limit 1 --selection-stats --quiet --json {CPU}"),
    ("eval-pictures", "", "eval --pred pred --ref hr --scale 2 --format csv"),
    ("sweep-temperature", "eval-temperatures", f"sweep-temperature --data hr -m rlfn-linf-s -s 2 -T 0,0.5,1 --seeds 1 --limit 2 --metrics psnr-y,ssim --select ssim --quiet -o sweep {CPU}"),
    ("pareto", "eval", "pareto rows.json --x psnr-y --y ssim -o pareto.csv -o pareto.png --hypervolume"),
    ("compare", "", "compare pred/a.png hr/a.png --crop 4,4,12,12 -o side.png -o look.html --json --fail-over psnr<60"),
    ("compare-models", "", f"compare photo.png -m rlfn-native -m bicubic --downscale 2 --crop 6,6,12,12 -o grid.png --json {CPU}"),
    ("explain", "", f"explain photo.png --at 12,9 -m rlfn-lit-s -s 3 -o attention.png {CPU}"),
    ("bench-list", "", "bench list --data bench --json"),
    ("bench-make-lr", "", "bench make-lr hr -o lr -s 2,3 --method realesrgan --seed 3"),
    ("bench-verify", "", "bench verify Set5 --data bench"),
    ("info", "", "info photo.png alpha.png film.gif tagged.jpg deep.png broken.png --json"),
    ("info-cost", "", "info photo.png -s 4 --device cpu"),
    ("models-list", "", "models list"),
    ("models-info", "", "models info fplia-small --json"),
    ("models-import", "train-resume", "models import runs/tiny/last.safetensors --license CC0-1.0 -o imported.safetensors"),
    ("models-merge", "", "models merge rlfn-native rlfn-native --half -o merged.safetensors"),
    ("models-verify", "", "models verify rlfn-native fplia-small"),
    ("data-check", "", "data check photos broken.png --json"),
    ("data-stats", "", "data stats photos shots"),
    ("data-pack", "", "data pack photos -o packed --shard-size 60k"),
    ("cache", "eval,eval-temperatures,eval-branches,sweep-temperature", "cache info --json"),
    ("cache-clear", "cache", "cache clear --yes"),
    ("doctor", "", "doctor --json --report"),
    ("help", "", "--help"),
    ("error-model", "", f"{UP} photo.png -m rlfn-nativ"),
    ("error-option", "", "upscale photo.png --scal 3"),
    ("error-input", "", "upscale nothing-*.png"),
    ("error-exists", "", f"{UP} photo.png -s 2 -o shots/a.png"),
    ("error-weights", "", f"{UP} photo.png -m rdn-liif"),
    ("error-size", "", f"{UP} photo.png -s 2 --width 90"),
]  # fmt: skip


def picture(h: int, w: int, seed: int, channels: int = 3) -> np.ndarray:
    """Edges, waves and a little noise, float32 0..1, (h, w, channels)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    layers = []
    for _ in range(channels):
        a, b, c = random.uniform(0.1, 0.9, 3)
        wave = 0.5 + 0.3 * np.sin(a * x + b * y + 6 * c)
        edge = (a * x + (b - 0.5) * y > 0.4 * w * a) * 0.3
        layers.append(wave * 0.7 + edge + random.normal(0, 0.01, (h, w)))
    return np.clip(np.stack(layers, -1), 0, 1).astype(np.float32)


def make_inputs(work: Path) -> None:
    """Every file that the commands read."""
    for folder in ("shots/deep", "photos", "hr", "pred", "bench/Set5"):
        (work / folder).mkdir(parents=True)

    def bytes_of(*words: int) -> Image.Image:
        return Image.fromarray((picture(*words) * 255).round().astype(np.uint8))

    bytes_of(20, 26, 1).save(work / "photo.png")
    bytes_of(12, 14, 2).save(work / "small.png")
    bytes_of(18, 22, 3, 4).save(work / "alpha.png")
    bytes_of(40, 48, 4).save(work / "damaged.jpg", quality=18)
    (bytes_of(3, 2, 5)).save(work / "tiny.png")
    cv2.imwrite(str(work / "deep.png"), (picture(16, 20, 6) * 65535).round().astype(np.uint16))
    cv2.imwrite(str(work / "gray.png"), (picture(17, 19, 7, 1) * 65535).round().astype(np.uint16))
    frames = [bytes_of(14, 16, seed).quantize(32) for seed in (8, 9, 10)]
    frames[0].save(work / "film.gif", save_all=True, append_images=frames[1:], duration=[50, 80, 110], loop=2)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8825] = "Maker", 6, {1: "N", 2: (48.0, 12.0, 0.0)}
    bytes_of(24, 30, 11).save(work / "tagged.jpg", quality=90, exif=exif, dpi=(72, 72))
    (work / "broken.png").write_bytes((work / "photo.png").read_bytes()[:300])
    Image.fromarray(np.linspace(0, 255, 26 * 20).reshape(20, 26).astype(np.uint8)).save(work / "map.png")
    for name, words in {"a": (12, 16, 12), "b": (14, 12, 13), "deep/c": (11, 17, 14)}.items():
        bytes_of(*words).save(work / f"shots/{name}.png")
    for n in range(5):
        bytes_of(72, 80, 20 + n).save(work / f"photos/{n}.png")
    for name, seed in {"a": 30, "b": 31, "c": 32}.items():
        large = picture(48, 52, seed)
        noisy = np.clip(large + np.random.default_rng(seed).normal(0, 0.02, large.shape), 0, 1)
        Image.fromarray((large * 255).round().astype(np.uint8)).save(work / f"hr/{name}.png")
        Image.fromarray((noisy * 255).round().astype(np.uint8)).save(work / f"pred/{name}.png")
    for seed, name in enumerate(("baby", "bird", "butterfly", "head", "woman"), 40):
        bytes_of(36, 44, seed).save(work / f"bench/Set5/{name}.png")
    for name, text in RECIPES.items():
        (work / f"{name}.toml").write_text(text)


TINY = """
encoder = {name = "edsr", n_resblocks = 1, n_feats = 8, mean_shift = false}
"""
RULES = """
optim = {steps = 4, batch = 2, lr = 1e-3, warmup = 1, ema = 0.9, precision = "fp32"}
validation = {every = 100}
"""
FROZEN = RULES.replace('"fp32"', '"fp32", freeze = ["encoder.", "decoder."]')
AUTOENCODER = """
encoder = {name = "latent", autoencoder = {widths = [8, 8, 8], resblocks = 1, decoder_widths = [8, 8], \
decoder_resblocks = 1, attention = false, norm = "pixel"}}
"""
RECIPES = {
    "tiny": 'title = "tiny"'
    + TINY
    + """decoder = {name = "blend", width = 8, hidden = [8]}
data = {patch = 16, queries = 64, scales = [1.0, 4.0]}
"""
    + RULES,
    "pixel": 'title = "pixel"'
    + TINY
    + """decoder = {name = "canvas"}
generator = {name = "idm", condition_dim = 8, widths = [8, 16], layers = 1, attention = [false, true], \
hidden = 8, largest = 4, dropout = 0.0, groups = 4, relative = 0.1}
diffusion = {train_steps = 100, beta_schedule = "linear", prediction = "v_prediction", near_input = true, \
sampler = "ddpm", steps = 3}
objective = {name = "noise-level"}
data = {patch = 12, queries = 1, scales = [4.0, 4.0], picture = 48}
"""
    + RULES,
    "latent": 'title = "latent"'
    + AUTOENCODER
    + """decoder = {name = "liif", hidden = [16], feat_unfold = false}
generator = {name = "kim", condition_dim = 3, widths = [8, 16], layers = 1, attention = [false, true], \
head_dim = 8, groups = 4}
diffusion = {sampler = "dpm++-sde", steps = 3, colour_fix = "lowpass"}
objective = {name = "latent-diffusion", min_snr = 5.0}
data = {patch = 12, queries = 1, scales = [4.0, 4.0], picture = 48}
"""
    + FROZEN,
    "restoration": 'title = "restoration"'
    + TINY
    + """decoder = {name = "cosines", side = 4}
generator = {name = "lgcaa", trains = "all", relative = true, condition_widths = [8, 8, 8], \
local_window = 4, unet = {sample_size = 8, in_channels = 16, out_channels = 16, block_out_channels = [8, \
16], down_block_types = ["CrossAttnDownBlock2D", "DownBlock2D"], up_block_types = ["UpBlock2D", \
"CrossAttnUpBlock2D"], layers_per_block = 1, cross_attention_dim = 8, attention_head_dim = 2, \
norm_num_groups = 4, use_linear_projection = true}}
diffusion = {beta_start = 0.00085, beta_end = 0.012, prediction = "v_prediction", sampler = "ddpm", \
steps = 3, tile = 16}
objective = {name = "lgcaa", wasserstein = 0.0, perceptual = 0.0}
data = {patch = 16, picture = 32, queries = 1, scales = [2, 2], degradation = "realesrgan-seesr"}
"""
    + RULES,
}


MASKS = [
    (r"srcli[ /]\d+\.\d+[\w.+]*", "srcli VERSION"),
    (r'("srcli": )"\d[^"]*"', r'\1"VERSION"'),
    (
        r'("(?:\w*seconds?|data_share|encode|generate|decode|memory|\w*_at|peak\w*|time)": )-?[\d.e+-]+',
        r'\1"N"',
    ),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.+:Z]*", "TIME"),
    (r"\b\d+(\.\d+)? ?(ms|s|min|h)\b", "N s"),
    (r"(seconds, about +)[\d.]+", r"\1N"),
    (r'("stamp": \[\d+, )\d+', r'\1"N"'),
    (r"\b\d+(\.\d+)? ?(GB|MB/s|MP/s)(?=\W|$)", "N GB"),
]
MACHINE = {
    "doctor": r'(": ?)"[^"]*\d[^"]*"',
    "cache": r'("bytes": ?)\d+',
}  # what else differs, of some commands
TIMED = {"s/image", "s", "seconds", "encode", "generate", "decode", "memory", "srcli"}  # columns of tables


def mask(text: str, work: Path) -> str:
    """Text without what differs from run to run or between machines."""
    for found, name in ((work, "WORK"), (ROOT, "SRCLI")):
        text = text.replace(str(found), name)
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text


def read_text(text: str, work: Path) -> list[str]:
    """Masked lines; a JSON document becomes one line. Columns of times are masked, whatever they are aligned to."""
    lines = mask(text, work).splitlines()
    if text[:1] in "[{" and text.count("\n") > 1 and not text.startswith('{"'):
        return [_line(json.loads("\n".join(lines)))]
    places: dict[int, int] = {}  # of columns that are masked, from the right end of a line
    for n, line in enumerate(lines):
        cells = line.split(",") if line.count(",") > 8 else re.split(r" {2,}", line.strip())
        if TIMED & set(cells) and len(cells) > 3:
            places = {len(cells) - at: len(cells) for at, cell in enumerate(cells) if cell in TIMED}
        elif len(cells) in places.values():
            cells = [cell if len(cells) - at not in places else "N" for at, cell in enumerate(cells)]
        else:
            continue
        lines[n] = ("," if line.count(",") > 8 else "  ").join(cells)
    return lines


def digest(data: bytes) -> str:
    """Enough of a hash."""
    return hashlib.sha256(data).hexdigest()[:16]


def frames_of(path: Path) -> list[np.ndarray]:
    """Decoded pixels, of every frame, with their depth."""
    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) == 1 and path.suffix in (".png", ".tiff", ".tif"):
            return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)]
        shown = []
        for n in range(getattr(image, "n_frames", 1)):
            image.seek(n)
            shown.append(np.asarray(image.convert("RGBA") if image.mode == "P" else image))
        return shown


def samples_of(pixels: np.ndarray) -> np.ndarray:
    """Pixels at fixed places all over a picture."""
    flat = pixels.reshape(-1)
    return flat[np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(int)]


def describe(path: Path, work: Path, keep: dict[str, np.ndarray], name: str) -> dict:
    """What the record says about a file."""
    if path.suffix in (".png", ".jpg", ".webp", ".tiff", ".gif", ".avif"):
        shown = frames_of(path)
        pixels = np.stack(shown)
        keep[name] = pixels
        with Image.open(path) as image:
            told = {key: _plain(value, work) for key, value in sorted(image.info.items())}
            exif = {str(key): _plain(value, work) for key, value in sorted(image.getexif().items())}
        packed = base64.b64encode(samples_of(pixels).tobytes()).decode()
        about = {"size": [*pixels.shape], "type": str(pixels.dtype), "pixels": digest(pixels.tobytes())}
        return {
            **about,
            "samples": packed,
            **({"info": told} if told else {}),
            **({"exif": exif} if exif else {}),
        }
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            told = {key: _plain(value, work) for key, value in sorted((file.metadata() or {}).items())}
        content = b"".join(f"{k} {v.dtype} {v.shape}".encode() + v.tobytes() for k, v in tensors.items())
        about = {"tensors": len(tensors), "content": digest(content)}
        return about if path.parent.name == "checkpoints" else {**about, "info": told}
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            return {
                "members": [[m.name, m.size, digest(tar.extractfile(m).read())] for m in tar if m.isfile()]
            }
    if path.suffix in (".json", ".jsonl", ".csv", ".toml", ".md", ".txt", ".svg", ".html"):
        lines = read_text(path.read_text(), work)
        if sum(map(len, lines)) > LONG:
            return {"lines": len(lines), "content": digest("\n".join(lines).encode())}
        return {"text": lines}
    return {"kind": path.suffix}


def _plain(value: object, work: Path) -> object:
    if isinstance(value, bytes) and value.startswith(b"<?xpacket"):
        return mask(" ".join(value.decode().split()), work)
    if isinstance(value, bytes):
        return f"{len(value)} bytes, {digest(value)}"
    return mask(str(value), work)


def run(words: list[str], work: Path, out: Path) -> tuple[int, str, str]:
    """Run a command in a fork: its exit code, and what it printed."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(work)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(out / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["srcli", *words]
            runpy.run_module("srcli", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), *((out / name).read_text() for name in ("stdout", "stderr"))


def snapshot(work: Path) -> dict[str, tuple[int, int]]:
    """Files of the work, and when they were written."""
    found = {}
    for path in sorted(work.rglob("*")):
        if path.is_file() and path.relative_to(work).parts[0] != "cache":
            about = path.stat()
            found[path.relative_to(work).as_posix()] = (about.st_mtime_ns, about.st_ino)
    return found


def wanted(only: str | None) -> list[tuple[str, str, str]]:
    """The commands that are asked for, with those that they need."""
    if only is None:
        return COMMANDS
    names = set(only.split(","))
    for name, needs, _ in reversed(COMMANDS):
        if name in names and needs:
            names.update(needs.split(","))
    return [command for command in COMMANDS if command[0] in names]


def observe(only: str | None, keep: dict[str, np.ndarray]) -> dict[str, dict]:
    """Run the commands; the record of each."""
    prepare()
    found = {}
    folder = tempfile.mkdtemp(prefix="recorder-")  # a TemporaryDirectory would end with the first fork
    try:
        work, out = Path(folder).resolve() / "work", Path(folder).resolve() / "out"
        out.mkdir()
        work.mkdir()
        make_inputs(work)
        for name in (
            "SRCLI_CACHE_DIR",
            "TORCH_HOME",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
            "SRCLI_MODELS_DIR",
        ):
            os.environ[name] = str(work / "cache" / name)
        before = snapshot(work)
        for name, _, words in wanted(only):
            began = time.monotonic()
            code, *printed = run(words.split(), work, out)
            after = snapshot(work)
            changed = [path for path in after if after[path] != before.get(path)]
            told = [read_text(text, work) for text in printed]
            if "--workers" in words:  # which process ends first is chance
                told = [sorted(lines) for lines in told]
            if name in MACHINE:
                told = [[re.sub(MACHINE[name], r'\1"N"', line) for line in lines] for lines in told]
            found[name] = {
                "command": words,
                "exit": code,
                "stdout": told[0],
                "stderr": told[1],
                "files": {path: describe(work / path, work, keep, f"{name}/{path}") for path in changed},
                "gone": sorted(before.keys() - after.keys()),
            }
            print(f"{name:26} exit {code}  {time.monotonic() - began:5.1f} s", file=sys.stderr, flush=True)
            before = after
    finally:
        shutil.rmtree(folder)
    return found


def prepare() -> None:
    """Import the libraries once, and set what commands read from the environment."""
    for name in [name for name in os.environ if name.startswith("SRCLI_")]:
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ |= {"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb", "TZ": "UTC", "SRCLI_OFFLINE": "1"}
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
    }
    sys.path[0] = str(ROOT)
    sys.dont_write_bytecode = True
    for library in (
        "diffusers.models",
        "matplotlib.pyplot",
        "rich.console",
        "scipy.ndimage",
        "torchvision",
        "typer",
    ):
        importlib.import_module(library)
    for name in ("AutoencoderKL", "ControlNetModel", "UNet2DConditionModel", "DPMSolverMultistepScheduler"):
        getattr(importlib.import_module("diffusers"), name)


def differences(name: str, old: dict, new: dict, pixels: tuple[dict, dict]) -> list[str]:
    """A line for everything that changed in a command."""
    keys = ("command", "exit", "gone")
    lines = [f"{k}: {old.get(k)} -> {new.get(k)}" for k in keys if old.get(k, []) != new.get(k, [])]
    for key in ("stdout", "stderr"):
        lines += [f"{key}: {line}" for line in _text_diff(old.get(key, []), new.get(key, []))]
    for path in sorted(old["files"].keys() | new["files"].keys()):
        a, b = old["files"].get(path), new["files"].get(path)
        if a is None or b is None:
            lines.append(f"{path}: {'is new' if a is None else 'is not written any more'}")
            continue
        for key in sorted((a.keys() | b.keys()) - {"samples"}):
            was, now = a.get(key), b.get(key)
            if was == now:
                continue
            if key == "pixels":
                lines.append(
                    f"{path}: pixels: {_pixel_diff(a, b, [p.get(f'{name}/{path}') for p in pixels])}"
                )
            elif key == "text":
                lines += [f"{path}: {line}" for line in _text_diff(was or [], now or [])]
            elif key in ("info", "exif"):
                lines += [f"{path}: {key}: {line}" for line in _text_diff([_line(was)], [_line(now)])]
            else:
                lines.append(f"{path}: {key}: {was} -> {now}")
    return [f"{name}: {line}" for line in lines]


def _text_diff(old: list[str], new: list[str]) -> list[str]:
    told = difflib.unified_diff(_values(old), _values(new), lineterm="", n=0)
    return [line for line in told if not line.startswith(("---", "+++", "@@"))]


def _values(lines: list[str]) -> list[str]:
    """Lines, those of JSON as a line for each value: key.0.key = 4."""

    def walk(value: object, place: str) -> list[str]:
        if isinstance(value, (dict, list)) and value:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            return [line for key, part in items for line in walk(part, f"{place}.{key}")]
        if isinstance(value, str) and value.startswith("{"):  # JSON in metadata
            return [f"{place[1:]}.{line}" for line in _values([value])]
        return [f"{place[1:]} = {json.dumps(value, ensure_ascii=False)}"]

    shown = []
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        shown += walk(value, "") if isinstance(value, (dict, list)) else [line]
    return shown


def _pixel_diff(a: dict, b: dict, whole: list[np.ndarray | None]) -> str:
    if a["size"] != b["size"] or a["type"] != b["type"]:
        return "of another size or depth"
    if whole[0] is not None and whole[1] is not None:
        gaps, of = np.abs(whole[0].astype(float) - whole[1].astype(float)).ravel(), "pixels"
    else:
        was, now = (np.frombuffer(base64.b64decode(x["samples"]), x["type"]).astype(float) for x in (a, b))
        gaps, of = np.abs(was - now), "recorded samples"
    return f"largest difference {gaps.max():g}, {(gaps > 0).sum()} of {gaps.size} {of} differ"


def write(path: Path, head: dict, commands: dict[str, dict]) -> None:
    """A record, with a line for everything that has a name."""
    told = []
    for name, about in commands.items():
        fields = {key: value for key, value in about.items() if value != []}
        told.append(
            f"{json.dumps(name)}: {{\n"
            + ",\n".join(f"  {_line(k)}: {_line(v)}" for k, v in fields.items())
            + "}"
        )
    path.write_text(f'{{"head": {_line(head)},\n"commands": {{\n' + ",\n".join(told) + "}}\n")


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", help="names of commands, with commas")
    parser.add_argument("--pixels", type=Path, help="an .npz file with all pixels of the record")
    words = parser.parse_args()
    keep: dict[str, np.ndarray] = {}
    new = observe(words.only, keep)
    used = os.times()
    print(f"{len(new)} commands, {sum(used[:4]):.0f} CPU seconds", file=sys.stderr)
    if words.what == "record":
        log = ["git", "-C", ROOT, "log", "-1", "--format=%H", "--", "srcli", "presets"]
        commit = subprocess.run(log, capture_output=True, text=True, check=True).stdout.strip()
        write(words.file, {"commit": commit}, new)
        if words.pixels:
            np.savez_compressed(words.pixels, **keep)
        return
    old = json.loads(words.file.read_text())["commands"]
    before = dict(np.load(words.pixels)) if words.pixels else {}
    new = json.loads(json.dumps(new))
    lines = [f"{name}: was not recorded" for name in new if name not in old]
    lines += [f"{name}: is not run any more" for name in old if name not in new and not words.only]
    for name in (name for name in old if name in new):
        lines += differences(name, old[name], new[name], (before, keep))
    print("\n".join(lines) if lines else "no difference")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
