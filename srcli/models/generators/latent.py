"""The generators of FPLIA and of Kim et al.: UNets that denoise a latent on the grid of the LR image.

Both see their condition as further channels of the noisy latent. FPLIA's (arXiv 2606.21910) is the features of the
fidelity network; Kim's (CVPR 2024) the latent of the LR image itself, enlarged by repeating its pixels. The latent
stands for a picture four times the LR's size, whatever the size asked for later.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.sr import Encoder, Generator


class LatentGenerator(Generator):
    """A UNet, see `srcli.models.unet`, and what makes latents standard normal: their mean and deviation by channel."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        *,
        condition_dim: int,  # channels of the condition
        channels: int = 3,  # of the latent
        widths: tuple[int, ...],  # channels of the levels from fine to coarse
        layers: int = 2,  # residual blocks of a level
        attention: tuple[bool, ...],  # for each level whether it has self-attention; the middle always has it
        n_heads: int | None = None,  # heads of every attention; None for as many as `head_dim` gives
        head_dim: int = 32,  # channels of a head
        upsample: Literal["nearest", "bilinear"] = "nearest",  # how sides are doubled
        groups: int = 32,  # of the group norm
    ) -> None:
        super().__init__()
        from srcli.models.unet import UNet  # the one place that needs diffusers

        self.unet: nn.Module = UNet(
            in_channels=channels + condition_dim,
            out_channels=channels,
            widths=widths,
            layers=layers,
            attention=attention,
            n_heads=n_heads,
            head_dim=head_dim,
            upsample=upsample,
            groups=groups,
        )
        self.channels, self.condition_dim = channels, condition_dim
        self.multiple_of = 2 ** (len(widths) - 1)
        self.live_channels = 8 * widths[0]
        self.register_buffer("latent_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, channels, 1, 1))

    def forward(self, noisy: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The noise in `noisy` (B, channels, h, w) at steps t (B,), beside the condition (B, condition_dim, h, w)."""
        out: Tensor = self.unet(torch.cat([noisy, condition.to(noisy.dtype)], dim=1), t, return_dict=False)[0]
        return out

    def check(self, encoder: Encoder) -> None:
        if encoder.latent_channels != self.channels:
            raise ValueError(
                f"one samples {self.channels} channels, the other takes {encoder.latent_channels}"
            )

    def _check_condition(self, given: int) -> None:
        if given != self.condition_dim:
            raise ValueError(f"condition_dim is {self.condition_dim}, but the encoder gives {given} channels")

    def normalised(self, latent: Tensor) -> Tensor:
        return (latent - self.latent_mean) / self.latent_std

    def denormalised(self, sample: Tensor) -> Tensor:
        return sample * self.latent_std + self.latent_mean


class FPLIA(LatentGenerator):
    """FPLIA's generator; 642.1 million parameters at the authors' sizes.

    The paper says Stable Diffusion v1.5; the authors' code has a UNet of its widths, without text and cross-attention,
    for latents of three channels, trained from scratch.
    """

    title = "FPLIA"

    def check(self, encoder: Encoder) -> None:
        super().check(encoder)
        if not encoder.fidelity_dim:
            raise ValueError("the generator needs the features of an encoder such as 'perception'")
        self._check_condition(encoder.fidelity_dim)

    def condition(self, encoder: Encoder, lr: Tensor) -> Tensor:
        """Features of the encoder's fidelity network: (B, C, h, w)."""
        return encoder.faithful(lr)


class Kim(LatentGenerator):
    """The generator of Kim et al.; 105.4 million parameters at the authors' sizes."""

    title = "Kim et al."
    condition_live = 16 * 4 * 128  # an LR pixel is 16 of the picture, with the published channels

    def check(self, encoder: Encoder) -> None:
        super().check(encoder)
        self._check_condition(encoder.latent_channels)

    def condition(self, encoder: Encoder, lr: Tensor) -> Tensor:
        """The latent of the LR image, each of whose pixels is repeated to the size of a picture: (B, z, h, w)."""
        seen: Any = encoder  # an encoder with an auto-encoder
        autoencoder = seen.autoencoder
        picture = F.interpolate(lr, scale_factor=float(autoencoder.factor), mode="nearest")
        return self.normalised(autoencoder.moments(picture)[0])
