"""Arbitrary-scale image super-resolution.

The public names are those in `__all__`; they are loaded on first use, so that importing the package (and the
command line) does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Upscaler": "srcli.engine.upscaler",
    "load_preset": "srcli.config.presets",
    "read_image": "srcli.image.read",
    "write_image": "srcli.image.write",
    "SrcliError": "srcli.errors",
}

__all__ = ["SrcliError", "Upscaler", "__version__", "load_preset", "read_image", "write_image"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'srcli' has no attribute {name!r}")
