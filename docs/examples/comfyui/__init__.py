"""A ComfyUI node that enlarges images by any factor: copy this folder to ComfyUI/custom_nodes/srcli."""

from functools import lru_cache

import torch
from comfy.utils import ProgressBar

from srcli import Upscaler

open_upscaler = lru_cache(maxsize=2)(Upscaler.from_preset)


class SrcliUpscale:
    """IMAGE (n, h, w, 3) in [0, 1] to IMAGE (n, H, W, 3)."""

    CATEGORY = "image/upscaling"
    FUNCTION = "upscale"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  # ComfyUI's name
        return {
            "required": {
                "image": ("IMAGE",),
                "scale": ("FLOAT", {"default": 4.0, "min": 1.0, "max": 16.0, "step": 0.01}),
                "model": ("STRING", {"default": "rlfn-native", "tooltip": "a preset, or a weights file"}),
            }
        }

    def upscale(self, image: torch.Tensor, scale: float, model: str) -> tuple[torch.Tensor]:
        upscaler, progress, results = open_upscaler(model), ProgressBar(len(image)), []
        for frame in image[..., :3]:
            results.append(upscaler.upscale(frame.permute(2, 0, 1), scale).permute(1, 2, 0))
            progress.update(1)
        return (torch.stack(results),)


NODE_CLASS_MAPPINGS = {"SrcliUpscale": SrcliUpscale}
NODE_DISPLAY_NAME_MAPPINGS = {"SrcliUpscale": "Upscale by any factor (srcli)"}
