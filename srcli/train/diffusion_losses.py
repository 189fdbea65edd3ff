"""The generator's stage: to tell the noise in a noisy canvas.

FPLIA (arXiv 2606.21910) and Kim et al. (CVPR 2024) on latents and numbered steps; IDM (Gao et al., CVPR 2023) on pixels of
the output and a continuous share of the signal. Written from the papers. What is frozen is computed without gradients,
and only once for the samples of a pool.
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

    `min_snr`: errors at steps with a larger signal-to-noise ratio count less (Hang et al., ICCV 2023); 0: all alike, as
    published. `normalise`: bring every channel of the latents to mean 0 and deviation 1, by the first batch.
    """
    if min_snr < 0:
        raise ValueError("min_snr is at least 0")
    return (_LatentDiffusion(diffusion, min_snr, normalise=normalise),)


class Known(NamedTuple):
    """What the frozen parts say of samples: the posterior (B, z, h, w), and what the generator sees beside noise."""

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
            known = self._known(network, batch)
            canvas = generator.normalised(sampled(known.mean, known.deviation))
        t = torch.randint(len(self.alphas), (len(canvas),), device=canvas.device)
        noise = torch.randn_like(canvas)
        noisy = with_noise(canvas, noise, self.alphas.to(canvas.device)[t])
        error = (generator(noisy, t, known.condition).float() - noise).square().mean((1, 2, 3))
        if self.min_snr:
            ratio = snr(self.alphas.to(canvas.device)[t])
            error = error * ratio.clamp(max=self.min_snr) / ratio
        return error.mean()

    def _known(self, network: ImplicitSR, batch: Batch) -> Known:
        def compute(which: list[int] | slice) -> tuple[Tensor, ...]:
            found = known_of(network, batch.lr[which], picture_of(batch)[which])
            return tuple(part for part in found if part is not None)

        mean, *middle, condition = self.kept(batch, compute)
        return Known(mean, middle[0] if middle else None, condition)

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """The noise's variance over the error's, in dB, at a few steps on held-out pictures."""
        generator = generator_of(network)
        draw = torch.Generator().manual_seed(0)
        alphas, errors = self.alphas, []
        for lr, hr in pairs:
            known = known_of(network, lr, hr)
            canvas = generator.normalised(known.mean)
            for level in LEVELS:
                t = torch.full((1,), int(level * len(alphas)), device=lr.device)
                noise = torch.randn(canvas.shape, generator=draw).to(lr.device)
                told = generator(with_noise(canvas, noise, alphas.to(lr.device)[t]), t, known.condition)
                errors.append((told.float() - noise).square().mean())
        return {"noise told": float(-10 * torch.stack(errors).mean().log10())}


def known_of(network: ImplicitSR, lr: Tensor, picture: Tensor) -> Known:
    """See `Known`; lr (B, 3, h, w), picture (B, 3, 4h, 4w)."""
    mean, logvar = autoencoder_of(network).moments(picture)
    deviation = None if logvar is None else (0.5 * logvar.float()).exp()
    return Known(mean.float(), deviation, generator_of(network).condition(network.encoder, lr))


def sampled(mean: Tensor, deviation: Tensor | None) -> Tensor:
    """A draw from the posterior."""
    return mean if deviation is None else mean + deviation * torch.randn_like(mean)


def generator_of(network: ImplicitSR) -> Generator:
    """The network's generator. Raises PresetError (it has none)."""
    if network.generator is None:
        raise PresetError("This objective needs a generator.", hint="A preset such as fplia has one.")
    return network.generator


def set_latent_scale(generator: Generator, z: Tensor) -> None:
    """Let the generator's canvas be these latents with mean 0 and deviation 1 in every channel."""
    mean, deviation = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)
    generator.get_buffer("latent_mean").copy_(mean)
    generator.get_buffer("latent_std").copy_(deviation)


def with_noise(canvas: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """sqrt(alpha) canvas + sqrt(1 - alpha) noise; alpha (B,), the share of the signal's power."""
    alpha = alpha.view(-1, *[1] * (canvas.ndim - 1))
    return alpha.sqrt() * canvas + (1 - alpha).sqrt() * noise


def without_noise(noisy: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """The canvas that `with_noise` made `noisy` of, if `noise` is that noise."""
    alpha = alpha.view(-1, *[1] * (noisy.ndim - 1))
    return (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()


def snr(alpha: Tensor) -> Tensor:
    """Signal-to-noise ratio of a share of the signal's power."""
    return alpha / (1 - alpha)


def noise_level(*, diffusion: Diffusion, smallest: float = 0.25) -> tuple[Objective, ...]:
    """IDM's loss: mean absolute error of the noise in pictures of a random size, at a continuous share of the signal.

    Of the velocity, where the preset's generator tells that; of what pictures have beyond the enlarged LR, where it
    samples that. The square root of the share is drawn uniformly between those of a random step and the one before.
    `smallest`: the smallest picture's sides over those of `batch.picture`.
    """
    if not 0 < smallest <= 1:
        raise ValueError("smallest is above 0 and at most 1")
    levels = torch.cat([torch.ones(1), alphas_cumprod(diffusion).sqrt()])
    velocity = diffusion.prediction == "v_prediction"

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        picture = picture_of(batch)
        side = int(torch.randint(round(picture.shape[-1] * smallest), picture.shape[-1] + 1, ()))
        canvas = F.interpolate(picture, (side, side), mode="bicubic", align_corners=False)
        generator = output_generator_of(network)
        if generator.relative:
            canvas = canvas - F.interpolate(batch.lr, (side, side), mode="bicubic", align_corners=False)
        canvas = generator.normalised(canvas)
        t = torch.randint(1, len(levels), (len(canvas),), device=canvas.device)
        high, low = levels.to(canvas.device)[t - 1], levels.to(canvas.device)[t]
        level = low + (high - low) * torch.rand(len(canvas), device=canvas.device)
        noise = torch.randn_like(canvas)
        share = level.square()
        told = told_noise(network, batch.lr, with_noise(canvas, noise, share), level)
        # The velocity is what the noise is with canvas and noise exchanged, one of them negative.
        wanted = with_noise(noise, -canvas, share) if velocity else noise
        return (told.float() - wanted).abs().mean()

    return (loss,)


def output_generator_of(network: ImplicitSR) -> OutputGenerator:
    """The network's generator of outputs. Raises PresetError (it has none, or one of latents)."""
    generator = generator_of(network)
    if not isinstance(generator, OutputGenerator):
        raise PresetError("This objective needs a generator of outputs.", hint='generator.name = "idm"')
    return generator


def told_noise(network: ImplicitSR, lr: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """What a generator of outputs says of the noise in `noisy` (B, 3, H, W), given lr (B, 3, h, w)."""
    generator = output_generator_of(network)
    grid = Grid.of(Size(*lr.shape[-2:]), Size(*noisy.shape[-2:]))
    return generator(noisy, level, generator.spread(generator.condition(network.encoder, lr), grid))
