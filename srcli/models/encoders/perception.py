"""Encoders that see an LR image and a sampled latent: what is there, and what may have been.

FPLIA (arXiv 2606.21910) and Kim et al., "Arbitrary-Scale Image Generation and Upsampling using Latent Diffusion Model and
Implicit Neural Decoder" (CVPR 2024). Written from the papers. The latent is the sampler's, brought back to the
auto-encoder's own range; it lies on the grid of the LR image, whatever the scale of the output.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from srcli.config.presets import Part
from srcli.models.autoencoder import AutoEncoder, Sizes
from srcli.models.sr import Encoder, Gives, NativeEncoder

FIDELITY = ("edsr", "rdn", "rlfn", "swinir")


class LatentFeatures(Encoder):
    """Features of the latent alone (Kim et al.); the LR image is the generator's matter."""

    def __init__(self, *, autoencoder: Sizes) -> None:
        super().__init__()
        self.autoencoder = AutoEncoder(autoencoder)
        self.latent_channels = autoencoder.z_channels
        self.out_dim = self.autoencoder.out_dim
        self.halo, self.exact = self.autoencoder.halo, self.autoencoder.local

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of an encoder that also looks at the LR image, the auto-encoder."""
        return {key: value for key, value in state.items() if not key.startswith("fidelity.")}

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3 + z, h, w), the normalised LR image beside the latent -> (B, out_dim, h, w)."""
        return self.autoencoder.decode(lr[:, 3:])


class Perception(Encoder):
    """Features of the LR image and, behind them, of the latent (FPLIA).

    `fidelity`: the network that looks at the LR image, and its arguments. `gives`: "both" has the native picture of
    that network behind the features.
    """

    def __init__(self, *, fidelity: Part, autoencoder: Sizes, gives: Gives = "features") -> None:
        super().__init__()
        from srcli.models import make
        from srcli.models.encoders import ENCODERS

        if fidelity.name not in FIDELITY:
            raise ValueError(f"fidelity must be one of {', '.join(FIDELITY)}, got '{fidelity.name}'")
        native = issubclass(ENCODERS[fidelity.name], NativeEncoder)
        if gives != "features" and not (native and gives == "both"):
            raise ValueError(f"features of '{fidelity.name}' come without a native picture")
        self.fidelity = make(
            ENCODERS, "encoder", fidelity, "fidelity", **({"gives": gives} if native else {})
        )
        self.fidelity_dim = getattr(self.fidelity, "feat_dim", self.fidelity.out_dim)
        self.autoencoder = AutoEncoder(autoencoder)
        self.latent_channels = autoencoder.z_channels
        self.feat_dim = self.fidelity_dim + self.autoencoder.out_dim
        self.out_dim = self.fidelity.out_dim + self.autoencoder.out_dim
        self.multiple_of, self.repeat_edge = self.fidelity.multiple_of, self.fidelity.repeat_edge
        self.tile_multiple = self.fidelity.tile_multiple
        self.halo = max(self.fidelity.halo, self.autoencoder.halo)
        if native and self.fidelity.practical_halo is not None:
            self.practical_halo = max(self.fidelity.practical_halo, self.autoencoder.halo)
        self.exact = self.fidelity.exact and self.autoencoder.local

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A state of the fidelity network alone, with this auto-encoder; others as they are."""
        if any(key.startswith("fidelity.") for key in state):
            return state
        own = {key: value for key, value in self.state_dict().items() if key.startswith("autoencoder.")}
        return own | {f"fidelity.{key}": value for key, value in self.fidelity.initial_state(state).items()}

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3 + z, h, w), the normalised LR image beside the latent -> (B, out_dim, h, w)."""
        return self.beside(lr[:, :3], self.autoencoder.decode(lr[:, 3:]))

    def beside(self, lr: Tensor, perceived: Tensor | None = None) -> Tensor:
        """Features of lr (B, 3, h, w) with those of a latent (B, C, h, w), or zeros, behind them: (B, out_dim, h, w)."""
        h, w = lr.shape[-2:]
        seen = self.fidelity(lr)[:, :, :h, :w]
        if perceived is None:
            perceived = seen.new_zeros(len(lr), self.autoencoder.out_dim, h, w)
        return torch.cat([seen[:, : self.fidelity_dim], perceived, seen[:, self.fidelity_dim :]], dim=1)

    def faithful(self, lr: Tensor) -> Tensor:
        """Features of lr (B, 3, h, w) alone, (B, fidelity_dim, h, w)."""
        look = self.fidelity.features if isinstance(self.fidelity, NativeEncoder) else self.fidelity
        return look(lr)[:, :, : lr.shape[-2], : lr.shape[-1]]
