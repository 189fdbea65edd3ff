"""The last stages: decoder and generator are fitted to each other.

FPLIA (arXiv 2606.21910) trains LIA on latents that the frozen generator has denoised in one step; Kim et al. (CVPR 2024)
train the generator through the frozen decoder. Written from the papers. Both estimate the latent from one prediction
of the noise, and weight its errors by the signal-to-noise ratio of the step.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from srcli.config.presets import Diffusion
from srcli.data.samples import Batch
from srcli.geometry import Size
from srcli.models.decoders.lia import SELECTED
from srcli.models.noise_schedule import alphas_cumprod
from srcli.models.sr import Frame, ImplicitSR
from srcli.train.autoencoder_loss import answers, decoded, faithful, picture_of
from srcli.train.diffusion_losses import (
    frozen_outputs,
    generator_of,
    posterior_sample,
    snr,
    with_noise,
    without_noise,
)
from srcli.train.losses import Objective, TrainingLoss, luma_psnr

FALL, EVERY, LAST = 0.98, 1000, 342  # the published temperature: what it falls by, how often, how many times


def lia_finetune(
    *,
    diffusion: Diffusion,
    steps: tuple[float, float] = (0.02, 0.98),  # the steps of noise that are drawn from, as shares of all
    clamp: float = 0.0,  # largest weight of an error; 0: none, as published
    temperature: Literal["published", "short"] = "published",
) -> tuple[Objective, ...]:
    """FPLIA's loss: squared errors of the selected colours and of every branch, latents estimated in one step.

    Errors of branches that see the latent are weighted by the signal-to-noise ratio of its step; those of f, which does
    not, and of the selected colours are not. `temperature`: of the Gumbel noise; it falls from 1 to 0.001 in 341,000
    steps ("published") or in 80 % of the run ("short").
    """
    if not 0 <= steps[0] < steps[1] <= 1 or clamp < 0:
        raise ValueError("steps rise from 0 to 1 at most, and clamp is at least 0")
    return (_LIAFinetune(diffusion, steps, clamp, temperature),)


class _LIAFinetune(TrainingLoss):
    def __init__(
        self, diffusion: Diffusion, steps: tuple[float, float], clamp: float, temperature: str
    ) -> None:
        self.alphas, self.clamp, self.temperature = alphas_cumprod(diffusion), clamp, temperature
        self.low, self.high = (round(share * len(self.alphas)) for share in steps)

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        value = (
            published_temperature(step) if self.temperature == "published" else short_temperature(step, steps)
        )
        if getattr(network.decoder, "selects", False):  # without a choice there is no temperature
            network.decoder.get_buffer("temperature").fill_(value)

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        with torch.no_grad():
            latent, alpha = denoised_once(network, batch, self.alphas, self.low, self.high)
            feat = network.encoder(torch.cat([batch.lr, latent], dim=1))
        prepared = network.decoder.prepare(feat, batch.lr, Frame.whole(batch.lr, batch.cell))
        names = (*network.decoder.branches, SELECTED)  # type: ignore[misc]
        weight = snr(alpha).view(-1, 1, 1)
        if self.clamp:
            weight = weight.clamp(max=self.clamp)
        total = weight.new_zeros(())
        for name, colours in answers(network, prepared, batch.coord, names).items():
            error = (colours - batch.hr).square()
            total = total + (error if name in ("f", SELECTED) else weight * error).mean()
        return total


def denoised_once(
    network: ImplicitSR, batch: Batch, alphas: Tensor, low: int, high: int
) -> tuple[Tensor, Tensor]:
    """The latents of `batch.picture` as one prediction gives them at a random step in [low, high), and its alphas."""
    generator = generator_of(network)
    mean, deviation, condition = frozen_outputs(network, batch.lr, picture_of(batch))
    sample = generator.normalised(posterior_sample(mean, deviation))
    t = torch.randint(low, high, (len(sample),), device=sample.device)
    alpha = alphas.to(sample.device)[t]
    noisy = with_noise(sample, torch.randn_like(sample), alpha)
    predicted = generator(noisy, t, condition).float()
    return generator.denormalised(without_noise(noisy, predicted, alpha)), alpha


def published_temperature(step: int) -> float:
    """The Gumbel temperature of step `step`: from 1 it falls by 2 % at step 0 and every 1,000, until below 0.001."""
    return FALL ** min(step // EVERY + 1, LAST)


def short_temperature(step: int, steps: int) -> float:
    """The same for a run of `steps` steps: exponentially from 1 to 0.001 in the first 80 %."""
    return 10.0 ** (-3 * min(1.0, step / (0.8 * steps)))


def alignment(
    *,
    diffusion: Diffusion,  # the preset's noise
    image: float = 1.0,  # weight of the colours
    error: Literal["l2", "l1"] = "l2",  # of the colours, squared or absolute
    clamp: float = 0.0,  # largest signal-to-noise ratio that counts; 0: none, as published
) -> tuple[Objective, ...]:
    """Kim et al.'s alignment: the generator learns from latents and, through the frozen decoder, from colours.

    The squared error of the latent that one prediction gives, times the signal-to-noise ratio (which makes it the
    squared error of the noise), and the error of its colours, times the same ("l1": times its square root).
    """
    if min(image, clamp) < 0:
        raise ValueError("image and clamp are at least 0")
    alphas = alphas_cumprod(diffusion)

    def loss(network: ImplicitSR, batch: Batch) -> Tensor:
        generator = generator_of(network)
        with torch.no_grad():
            mean, deviation, condition = frozen_outputs(network, batch.lr, picture_of(batch))
            sample = generator.normalised(posterior_sample(mean, deviation))
        t = torch.randint(len(alphas), (len(sample),), device=sample.device)
        alpha = alphas.to(sample.device)[t]
        noisy = with_noise(sample, torch.randn_like(sample), alpha)
        found = without_noise(noisy, generator(noisy, t, condition).float(), alpha)
        weight = snr(alpha).view(-1, 1, 1)
        if clamp:
            weight = weight.clamp(max=clamp)
        seen = network.encoder(torch.cat([batch.lr, generator.denormalised(found)], dim=1))
        prepared = network.decoder.prepare(seen, batch.lr, Frame.whole(batch.lr, batch.cell))
        colours = network.decoder.query(prepared, batch.coord).float() - batch.hr
        missed = weight * colours.square() if error == "l2" else weight.sqrt() * colours.abs()
        return (weight[..., None] * (found - sample).square()).mean() + image * missed.mean()

    return (loss,)


FIDELITY = "f"


def fidelity() -> tuple[Objective, ...]:
    """Mean squared error of LIA's branch f, which FPLIA trains first, together with the extractor, without a latent."""
    return (_Fidelity(),)


class _Fidelity(TrainingLoss):
    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        feat = faithful(network, batch.lr)
        prepared = network.decoder.prepare(feat, batch.lr, Frame.whole(batch.lr, batch.cell))
        colours = answers(network, prepared, batch.coord, (FIDELITY,))[FIDELITY]
        return (colours - batch.hr).square().mean()

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """PSNR of luma of the branch at the size of HR."""
        values = [
            luma_psnr(
                decoded(network, lr, faithful(network, lr), Size(*hr.shape[-2:]), FIDELITY), hr, border=4
            )
            for lr, hr in pairs
        ]
        return {"psnr-y of branch f x4": sum(values) / len(values)}
