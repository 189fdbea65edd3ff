"""The denoising UNet of latent diffusion: diffusers' `UNet2DModel` with the two switches that published networks need.

Importing this module imports diffusers; generators do so when they are built, and nothing else does.
"""

from typing import Any, Literal, cast

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn


class UNet(UNet2DModel):  # type: ignore[misc]  # diffusers is not followed
    """Residual levels that halve the sides and double them again, told the step by an added embedding.

    The last convolutions of residual blocks, the attentions' last layers and the last convolution begin as zeros, so
    that an untrained network predicts no noise. `attention`: for each level, whether its blocks are followed by
    self-attention; the middle always has it.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        widths: tuple[int, ...],  # channels of the levels from fine to coarse
        layers: int,  # residual blocks of a level on the way down; on the way up there is one more
        attention: tuple[bool, ...],
        n_heads: int | None = None,  # of every attention; None for as many as `head_dim` gives
        head_dim: int = 32,
        upsample: Literal["nearest", "bilinear"] = "nearest",
        groups: int = 32,
    ) -> None:
        if len(widths) != len(attention):
            raise ValueError(f"{len(widths)} levels, but attention for {len(attention)}")
        attended = [width for width, has in zip(widths, attention, strict=True) if has] + [widths[-1]]
        if any(width % groups for width in widths) or any(
            width % (n_heads or head_dim) for width in attended
        ):
            raise ValueError(f"widths {widths} are no multiples of the groups ({groups}) or the heads")
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=widths,
            layers_per_block=layers,
            down_block_types=tuple("AttnDownBlock2D" if has else "DownBlock2D" for has in attention),
            up_block_types=tuple("AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
            attention_head_dim=1 if n_heads else head_dim,  # one number for all levels: corrected below
            norm_num_groups=groups,
            norm_eps=1e-5,
            flip_sin_to_cos=True,
            freq_shift=0,
        )
        for module in list(self.modules()):
            if isinstance(module, Attention):
                if n_heads is not None:
                    module.heads = module.sliceable_head_dim = n_heads
                    module.scale = (module.inner_dim // n_heads) ** -0.5
                _silence(module.to_out[0])
            elif isinstance(module, ResnetBlock2D):
                _silence(module.conv2)
        _silence(self.conv_out)
        if upsample == "bilinear":
            for block in self.up_blocks:
                if isinstance(block.upsamplers, nn.ModuleList):  # the last level has none
                    nearest = [each for each in block.upsamplers if isinstance(each, Upsample2D)]
                    block.upsamplers = nn.ModuleList(map(BilinearUpsample, nearest))


class BilinearUpsample(nn.Module):
    """Sides doubled bilinearly, then a convolution; in the place of diffusers' nearest one, with the same keys."""

    def __init__(self, nearest: Upsample2D) -> None:
        super().__init__()
        self.conv = cast("nn.Module", nearest.conv)

    def forward(self, hidden_states: Tensor, output_size: Any = None) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w); `output_size` is for diffusers, which passes it to some blocks."""
        return self.conv(F.interpolate(hidden_states, scale_factor=2.0, mode="bilinear"))


def _silence(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
