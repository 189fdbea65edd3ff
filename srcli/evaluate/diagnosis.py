"""What this machine offers, and whether enlarging works on it: for `srcli doctor` and bug reports."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import torch
from PIL import features

from srcli import __version__
from srcli.config.presets import DEFAULT_PRESET, load_preset
from srcli.engine.device import choose_device
from srcli.engine.normalised_image import TensorSource
from srcli.engine.upscaler import Upscaler
from srcli.errors import SrcliError
from srcli.files import cache_folder
from srcli.geometry import Size
from srcli.metrics.backbones import import_problem
from srcli.resources import available_memory, free_memory, in_words
from srcli.weights.files import bundled_folder, check_hash, find, models_folder

PACKAGES = (
    *("torch", "torchvision", "numpy", "pillow", "opencv-python", "pyvips"),
    *("pi-heif", "tifffile", "safetensors", "diffusers", "lpips", "typer"),
)
EXTRAS = "accelerate", "torchmetrics", "torch-fidelity", "transformers", "imagecodecs"
CODECS = "jpg", "webp", "avif", "libtiff", "zlib", "littlecms2"  # as Pillow calls them
SIDE = 48  # of the picture that the self-test enlarges


@dataclass(frozen=True)
class Check:
    """One thing that was tried, whether it works, and the finding or the error."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """Facts (heading -> name -> value), and checks."""

    facts: dict[str, dict[str, str]]
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ok": self.ok, **self.facts, "checks": [asdict(check) for check in self.checks]}


def examine(device: str = "auto") -> Report:
    """Look at the machine and enlarge a small picture, whole and in tiles, on `device`.

    Raises UsageError (an unknown device), ResourceError (a device that this machine does not have).
    """
    where = choose_device(device).device
    facts = {
        "system": _system(),
        "packages": _versions(PACKAGES),
        "extras": _versions(EXTRAS),
        "devices": _devices(),
        "codecs": _codecs(),
        "folders": _folders(),
    }
    return Report(facts, [_check_weights(), _check_pair(), *_check_network(str(where))])


def _system() -> dict[str, str]:
    memory = available_memory()
    return {
        "srcli": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "cores": str(os.cpu_count()),
        "free memory": "unknown" if memory is None else in_words(memory),
        "encoding": sys.getfilesystemencoding(),
        "offline": "yes" if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("SRCLI_OFFLINE") else "no",
    }


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _devices() -> dict[str, str]:
    found = {"cpu": f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"}
    for i in range(torch.cuda.device_count()):
        at = torch.device("cuda", i)
        free = in_words(free_memory(at))
        kind = torch.version.cuda or torch.version.hip
        found[str(at)] = f"{torch.cuda.get_device_name(i)}, {free} free, CUDA or ROCm {kind}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found["xpu"] = "Intel GPU"
    return found


def _codecs() -> dict[str, str]:
    return {
        name.replace("littlecms2", "LittleCMS"): (features.version(name) or "yes")
        if features.check(name)
        else "missing"
        for name in CODECS
    }


def _folders() -> dict[str, str]:
    folders = {
        "models": models_folder(),
        "evaluation cache": cache_folder("eval"),
        "bundled models": bundled_folder(),
    }
    return {name: str(path) for name, path in folders.items()}


def _check_weights() -> Check:
    try:
        preset = load_preset(DEFAULT_PRESET)
        digest = check_hash(preset, find(preset))
    except SrcliError as error:
        return Check("bundled weights", ok=False, detail=str(error))
    return Check("bundled weights", ok=True, detail=f"{DEFAULT_PRESET}, SHA-256 {digest[:12]}..")


def _check_pair() -> Check:
    """Whether torch fits the torchvision that LPIPS and DISTS import."""
    problem = import_problem("torchvision")
    pair = " and ".join(f"{name} {version}" for name, version in _versions(("torch", "torchvision")).items())
    return Check("torchvision", ok=problem is None, detail=problem or f"{pair} belong together")


def _check_network(device: str) -> list[Check]:
    """Enlarge a known picture whole and in tiles, and on a GPU in half precision."""
    rows, cols = torch.meshgrid(torch.arange(SIDE) / SIDE, torch.arange(SIDE) / SIDE, indexing="ij")
    lr = torch.stack([rows, cols, (rows * 40).sin() * (cols * 30).cos() / 2 + 0.5]).unsqueeze(0)
    checks = []
    try:
        began = time.monotonic()
        whole = Upscaler.from_preset(device=device, precision="fp32", tile="none").upscale(lr, 2.5)
        seconds = time.monotonic() - began
        tiled = Upscaler.from_preset(device=device, precision="fp32", tile=16).upscale(lr, 2.5)
        off = float((whole - tiled).abs().max())
        worked = f"{SIDE}x{SIDE} to x2.5 on {device}, {seconds:.2f} s with loading"
        checks.append(Check("enlarging", ok=True, detail=worked))
        differ = f"differ from the whole by at most {off:.1e}"
        checks.append(Check("tiles", ok=off < 1 / 1020, detail=differ))
        if device != "cpu":
            sr = Upscaler.from_preset(device=device, precision="fp16")
            rendered = sr.upscale_rows(TensorSource(lr), Size(*whole.shape[-2:]))
            rows = torch.from_numpy(np.concatenate(list(rendered.rows))).permute(2, 0, 1)
            half, fallbacks = float((rows.clamp(0, 1) - whole).abs().max()), rendered.stats.fp32_fallbacks
            again = f", {fallbacks} tiles computed again" if fallbacks else ""
            differ = f"differs from fp32 by at most {half:.1e}{again}"
            checks.append(Check("fp16", ok=half < 8 / 255, detail=differ))
    except (SrcliError, RuntimeError, MemoryError) as error:
        checks.append(Check("enlarging", ok=False, detail=str(error).splitlines()[0]))
    return checks
