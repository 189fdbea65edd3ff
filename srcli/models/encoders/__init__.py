"""The encoders, by the name a preset uses."""

from __future__ import annotations

from srcli.models.encoders.edsr import EDSR
from srcli.models.sr import Encoder

ENCODERS: dict[str, type[Encoder]] = {
    "edsr": EDSR,
}

__all__ = ["ENCODERS"]
