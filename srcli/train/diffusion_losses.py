"""The generator's stage: to predict the noise in a noisy sample.

FPLIA (arXiv 2606.21910) and Kim et al. (CVPR 2024) train on latents and numbered steps, IDM (Gao et al., CVPR 2023) on
pixels of the output and a continuous noise level. Written from the papers. Frozen parts are computed without gradients,
and only once for the samples of a pool. As in diffusers, a sample is what noise is added to; `alpha` is alphas_cumprod
of its step, the share of the signal's power.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.presets import Diffusion
from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.geometry import Grid, Size
from srcli.models.noise_schedule import alphas_cumprod
from srcli.models.sr import Generator, ImplicitSR, OutputGenerator
from srcli.train.autoencoder_loss import autoencoder_of, picture_of
from srcli.train.losses import FeatureCache, Objective, TrainingLoss

LEVELS = (0.05, 0.25, 0.5, 0.75)  # shares of the steps at which a generator is measured


def latent_diffusion(
    *, diffusion: Diffusion, min_snr: float = 0.0, normalise: bool = True
) -> tuple[Objective, ...]:
    """Mean squared error of the noise in the latents of `batch.picture`, at a random step for each.

    `min_snr`: errors at steps with a larger signal-to-noise ratio weigh less (Hang et al., ICCV 2023); 0: all weigh the
    same, as published. `normalise`: scale every channel of the latents to mean 0 and deviation 1, by the first batch.
    """
    if min_snr < 0:
        raise ValueError("min_snr is at least 0")
    return (_LatentDiffusion(diffusion, min_snr, normalise=normalise),)


class FrozenOutputs(NamedTuple):
    """Outputs of the frozen parts: the posterior of the latents (B, z, h, w), and the generator's condition."""

    mean: Tensor
    deviation: Tensor | None
    condition: Tensor


class _LatentDiffusion(TrainingLoss):
    def __init__(self, diffusion: Diffusion, min_snr: float, *, normalise: bool) -> None:
        self.alphas, self.min_snr, self.normalise = alphas_cumprod(diffusion), min_snr, normalise
        self.kept = FeatureCache()
        self.step = 0

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        self.step = step

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        generator = generator_of(network)
        with torch.no_grad():
            if self.step == 0 and self.normalise:  # before conditions are made, which may be latents
                set_latent_scale(generator, autoencoder_of(network).moments(picture_of(batch))[0].float())
            frozen = self._frozen(network, batch)
            sample = generator.normalised(posterior_sample(frozen.mean, frozen.deviation))
        t = torch.randint(len(self.alphas), (len(sample),), device=sample.device)
        noise = torch.randn_like(sample)
        noisy = with_noise(sample, noise, self.alphas.to(sample.device)[t])
        error = (generator(noisy, t, frozen.condition).float() - noise).square().mean((1, 2, 3))
        if self.min_snr:
            # Weight min(ratio, limit) / ratio: steps with little noise weigh less.
            ratio = snr(self.alphas.to(sample.device)[t])
            error = error * ratio.clamp(max=self.min_snr) / ratio
        return error.mean()

    def _frozen(self, network: ImplicitSR, batch: Batch) -> FrozenOutputs:
        def compute(which: list[int] | slice) -> tuple[Tensor, ...]:
            found = frozen_outputs(network, batch.lr[which], picture_of(batch)[which])
            return tuple(part for part in found if part is not None)

        mean, *middle, condition = self.kept(batch, compute)
        return FrozenOutputs(mean, middle[0] if middle else None, condition)

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """The noise's variance over the error's, in dB, at a few steps on held-out pictures."""
        generator = generator_of(network)
        draw = torch.Generator().manual_seed(0)
        alphas, errors = self.alphas, []
        for lr, hr in pairs:
            frozen = frozen_outputs(network, lr, hr)
            sample = generator.normalised(frozen.mean)
            for level in LEVELS:
                t = torch.full((1,), int(level * len(alphas)), device=lr.device)
                noise = torch.randn(sample.shape, generator=draw).to(lr.device)
                predicted = generator(with_noise(sample, noise, alphas.to(lr.device)[t]), t, frozen.condition)
                errors.append((predicted.float() - noise).square().mean())
        return {"noise told": float(-10 * torch.stack(errors).mean().log10())}


def frozen_outputs(network: ImplicitSR, lr: Tensor, picture: Tensor) -> FrozenOutputs:
    """Those for lr (B, 3, h, w) and picture (B, 3, 4h, 4w)."""
    mean, logvar = autoencoder_of(network).moments(picture)
    deviation = None if logvar is None else (0.5 * logvar.float()).exp()
    return FrozenOutputs(mean.float(), deviation, generator_of(network).condition(network.encoder, lr))


def posterior_sample(mean: Tensor, deviation: Tensor | None) -> Tensor:
    """A draw from the posterior."""
    return mean if deviation is None else mean + deviation * torch.randn_like(mean)


def generator_of(network: ImplicitSR) -> Generator:
    """The network's generator. Raises PresetError (it has none)."""
    if network.generator is None:
        raise PresetError("This objective needs a generator.", hint="A preset such as fplia has one.")
    return network.generator


def set_latent_scale(generator: Generator, z: Tensor) -> None:
    """Set the generator's normalisation, so that these latents have mean 0 and deviation 1 in every channel."""
    mean, deviation = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)
    generator.get_buffer("latent_mean").copy_(mean)
    generator.get_buffer("latent_std").copy_(deviation)


def with_noise(sample: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """sqrt(alpha) sample + sqrt(1 - alpha) noise; alpha (B,), the share of the signal's power."""
    alpha = alpha.view(-1, *[1] * (sample.ndim - 1))
    return alpha.sqrt() * sample + (1 - alpha).sqrt() * noise


def without_noise(noisy: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """The inverse of `with_noise`, if `noise` is the noise that was added."""
    alpha = alpha.view(-1, *[1] * (noisy.ndim - 1))
    return (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()


def snr(alpha: Tensor) -> Tensor:
    """Signal-to-noise ratio of a share of the signal's power."""
    return alpha / (1 - alpha)


def noise_level(*, diffusion: Diffusion, smallest: float = 0.25) -> tuple[Objective, ...]:
    """IDM's loss: mean absolute error of the noise in pictures of a random size, at a continuous noise level.

    The error is that of the velocity where the preset predicts that; the samples are differences from the enlarged LR
    where the generator is `relative`. The level, the square root of alpha, is drawn uniformly between those of a random
    step and the one before. `smallest`: the smallest picture's sides over those of `batch.picture`.
    """
    if not 0 < smallest <= 1:
        raise ValueError("smallest is above 0 and at most 1")
    levels = torch.cat([torch.ones(1), alphas_cumprod(diffusion).sqrt()])
    velocity = diffusion.prediction == "v_prediction"

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        picture = picture_of(batch)
        side = int(torch.randint(round(picture.shape[-1] * smallest), picture.shape[-1] + 1, ()))
        sample = F.interpolate(picture, (side, side), mode="bicubic", align_corners=False)
        generator = output_generator_of(network)
        if generator.relative:
            sample = sample - F.interpolate(batch.lr, (side, side), mode="bicubic", align_corners=False)
        sample = generator.normalised(sample)
        t = torch.randint(1, len(levels), (len(sample),), device=sample.device)
        high, low = levels.to(sample.device)[t - 1], levels.to(sample.device)[t]
        level = low + (high - low) * torch.rand(len(sample), device=sample.device)
        noise = torch.randn_like(sample)
        share = level.square()
        predicted = predicted_noise(network, batch.lr, with_noise(sample, noise, share), level)
        # The velocity is the noise with sample and noise exchanged, and the sample negated.
        wanted = with_noise(noise, -sample, share) if velocity else noise
        return (predicted.float() - wanted).abs().mean()

    return (loss,)


def output_generator_of(network: ImplicitSR) -> OutputGenerator:
    """The network's generator of outputs. Raises PresetError (it has none, or one of latents)."""
    generator = generator_of(network)
    if not isinstance(generator, OutputGenerator):
        raise PresetError("This objective needs a generator of outputs.", hint='generator.name = "idm"')
    return generator


def predicted_noise(network: ImplicitSR, lr: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """The prediction of a generator of outputs for `noisy` (B, 3, H, W), given lr (B, 3, h, w)."""
    generator = output_generator_of(network)
    grid = Grid.of(Size(*lr.shape[-2:]), Size(*noisy.shape[-2:]))
    return generator(noisy, level, generator.spread(generator.condition(network.encoder, lr), grid))
