"""How the latent restorer is trained: its auto-encoder, then noise in latents with DPACM's two terms.

After arXiv 2510.13649; the weights of the terms that the paper ended with are not known, and the best pair of its table
is the default here. Where LPIPS is not at hand the features of SqueezeNet serve, and the recipe says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.data.samples import Batch
from srcli.diffusion import alphas_cumprod
from srcli.errors import PresetError
from srcli.metrics.classifiers import load_classifier
from srcli.models.dpacm import terms
from srcli.models.sr import ImplicitSR
from srcli.objectives.stage import Objective, Stage, luma_psnr
from srcli.presets import Diffusion

MEASURED_AT = 0.25  # share of the noise steps at which held-out pictures are estimated in one step
Distance = Callable[[Tensor, Tensor], Tensor]


class Latents(Stage):
    """L1 of what the auto-encoder gives back, and the divergence of its latents from normal ones.

    Args:
        divergence: factor of the latter.
        squares: factor of squared errors, which see strong colours that few pictures have.
    """

    def __init__(self, divergence: float, squares: float) -> None:
        self.divergence, self.squares = divergence, squares

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        """The loss of a batch."""
        vae, hr = _restorer(network).decoder.vae, _picture(batch)
        found = vae.encode(hr).latent_dist
        error = vae.decode(found.sample()).sample.float() - hr
        divergence = found.kl().mean() / found.mean[0].numel()
        return error.abs().mean() + self.squares * error.square().mean() + self.divergence * divergence

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """PSNR of pictures that went through the auto-encoder."""
        decoder = _restorer(network).decoder
        multiple = decoder.factor
        values = []
        for _, hr in pairs:
            hr = _whole(hr, multiple)
            values.append(luma_psnr(decoder.decode(decoder.encode(hr)), hr, multiple))
        return {"psnr-y back": sum(values) / len(values)}


class Denoising(Stage):
    """Mean squared error of the noise, + lambda_w * Wasserstein-1 + lambda_p * perceptual distance of DPACM's view.

    Args:
        diffusion: the noise.
        wasserstein: lambda_w, the paper's lambda_1.
        perceptual: lambda_p, the paper's lambda_2.
        judge: makes the distance of pictures in [0, 1]; called before the first step, unless lambda_p is 0.
        side: pictures are enlarged to so many pixels for it.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        wasserstein: float,
        perceptual: float,
        judge: Callable[[], Distance],
        side: int,
    ) -> None:
        self.alphas = alphas_cumprod(diffusion)
        self.wasserstein, self.perceptual = wasserstein, perceptual
        self.judge, self.side = judge, side
        self.distance: Distance | None = None

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        """See `Stage.begin`."""
        if self.perceptual and self.distance is None:
            self.distance = self.judge()

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        """The loss of a batch; times and noise come from torch's own generator."""
        restorer, hr = _restorer(network), _picture(batch)
        enlarged = F.interpolate(batch.lr, size=hr.shape[-2:], mode="bicubic").clamp(-1, 1)
        with torch.no_grad():
            latent = restorer.decoder.encode(hr, sample=True)
        t = torch.randint(len(self.alphas), (len(hr),), device=hr.device)
        noise = torch.randn_like(latent)
        kept = self.alphas.to(hr.device)[t].reshape(-1, 1, 1, 1)
        noisy = kept.sqrt() * latent + (1 - kept).sqrt() * noise
        guess = restorer.generator(noisy, t, restorer.condition(batch.lr, enlarged))
        loss = F.mse_loss(guess.float(), noise)
        if not (self.wasserstein or self.perceptual):
            return loss
        view = restorer.generator.viewed(enlarged)
        found = terms(view, hr, distance=self.distance, side=self.side)
        return loss + self.wasserstein * found.wasserstein + self.perceptual * found.perceptual

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """PSNR of pictures whose latents got some noise and were estimated in one step, given their LR.

        Not what sampling gives: a cheap figure that tells whether training still helps.
        """
        restorer = _restorer(network)
        decoder, generator = restorer.decoder, restorer.generator
        t = torch.tensor([int(MEASURED_AT * len(self.alphas))])
        values = []
        for number, (lr, hr) in enumerate(pairs):
            hr = _whole(hr, decoder.factor * generator.multiple_of)
            lr = lr[..., : hr.shape[-2] // 4, : hr.shape[-1] // 4]
            enlarged = F.interpolate(lr, size=hr.shape[-2:], mode="bicubic").clamp(-1, 1)
            latent = decoder.encode(hr)
            drawn = torch.Generator().manual_seed(number)
            noise = torch.randn(latent.shape, generator=drawn).to(latent)
            kept = self.alphas[t].to(latent).reshape(1, 1, 1, 1)
            noisy = kept.sqrt() * latent + (1 - kept).sqrt() * noise
            guess = generator(noisy, t.to(latent.device), restorer.condition(lr, enlarged))
            estimate = (noisy - (1 - kept).sqrt() * guess) / kept.sqrt()
            values.append(luma_psnr(decoder.decode(estimate), hr, decoder.factor))
        return {"psnr-y one step": sum(values) / len(values)}


def latents(*, divergence: float = 1e-6, squares: float = 0.0) -> tuple[Objective, ...]:
    """See `Latents`; needs `data.picture` and `decoder.trained = true`."""
    return (Latents(divergence, squares),)


def denoising(
    *,
    diffusion: Diffusion,
    wasserstein: float = 2.0,
    perceptual: float = 0.3,
    backbone: Literal["lpips-alex", "squeezenet", "vgg19"] = "lpips-alex",
    weights: str | None = None,
    side: int = 128,
) -> tuple[Objective, ...]:
    """See `Denoising`.

    Args:
        diffusion: the preset's noise.
        wasserstein: the paper's lambda_1; 0 for the ablation without.
        perceptual: the paper's lambda_2; 0 for the ablation without.
        backbone: what the perceptual distance looks through; the paper takes LPIPS with AlexNet.
        weights: the file of a backbone other than LPIPS, whose own files `models pull metrics` gets.
        side: pictures are enlarged to so many pixels for it; AlexNet sees nothing below 64.

    Whether that file is there is found out before the first step.
    """
    return (Denoising(diffusion, wasserstein, perceptual, partial(_judge, backbone, weights), side),)


def _judge(backbone: str, weights: str | None) -> Distance:
    if backbone == "lpips-alex":
        return _lpips()
    if weights is None:
        raise PresetError(
            f"the perceptual term needs the file of {backbone}.",
            hint="--set objective.weights=FILE, or --set objective.perceptual=0 to do without",
        )
    return _moved(load_classifier(backbone, Path(weights)))


def _lpips() -> Distance:
    from srcli.metrics.perceptual import lpips_network

    network = lpips_network("alex")

    def distance(a: Tensor, b: Tensor) -> Tensor:
        mean: Tensor = network.to(a.device)(a * 2 - 1, b * 2 - 1).mean()
        return mean

    return distance


def _moved(network: nn.Module) -> Distance:
    """A distance that follows its pictures to their device."""
    return lambda a, b: network.to(a.device)(a, b)


def _restorer(network: ImplicitSR) -> Any:
    if not hasattr(network.decoder, "vae"):
        raise PresetError("This objective trains a latent restorer.", hint='generator.name = "lgcaa"')
    return network


def _picture(batch: Batch) -> Tensor:
    if batch.picture is None:
        raise PresetError(
            "This objective needs whole crops.", hint="Set data.picture to the patch times the scale."
        )
    return batch.picture


def _whole(picture: Tensor, multiple: int) -> Tensor:
    """The top left of a picture, its sides multiples of `multiple`."""
    h, w = (side // multiple * multiple for side in picture.shape[-2:])
    return picture[..., :h, :w]
