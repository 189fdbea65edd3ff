"""The decoders, by the name a preset uses."""

from __future__ import annotations

from srcli.models.decoders.blend import Blend
from srcli.models.sr import Decoder

DECODERS: dict[str, type[Decoder]] = {
    "blend": Blend,
}

__all__ = ["DECODERS"]
