"""The node. chaiNNer's images are float32 in [0, 1]: (h, w) gray, (h, w, 3) BGR or (h, w, 4) BGRA."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from nodes.properties.inputs import ImageInput, NumberInput, TextInput
from nodes.properties.outputs import ImageOutput

from srcli import Upscaler

from . import group

open_upscaler = lru_cache(maxsize=2)(Upscaler.from_preset)
RGB = {3: [2, 1, 0], 4: [2, 1, 0, 3]}  # the order of channels, there and back


@group.register(
    schema_id="srcli:upscale",
    name="Upscale by any factor",
    description="Enlarges an image by any real factor. The model is a preset's name or a weights file.",
    icon="MdOutlinePhotoSizeSelectLarge",
    inputs=[
        ImageInput(),
        NumberInput("Scale", minimum=1, maximum=16, default=4, precision=3, controls_step=0.5),
        TextInput("Model", default="rlfn-native"),
    ],
    outputs=[ImageOutput()],
)
def upscale_by_any_factor_node(img: np.ndarray, scale: float, model: str) -> np.ndarray:
    """As chaiNNer wants it: the arguments of the inputs, in their order."""
    order = RGB.get(img.shape[2]) if img.ndim == 3 else None
    given = img if order is None else img[..., order]
    sr = open_upscaler(model).upscale(np.ascontiguousarray(given, np.float32), scale)
    return sr if order is None else np.ascontiguousarray(sr[..., order])
