"""How the latent restorer is trained: noise in latents, with DPACM's two terms.

After arXiv 2510.13649. The paper does not state the final weights of the terms; the best pair of its table is the default
here. The features of SqueezeNet can replace LPIPS, as a recipe then says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.presets import Diffusion
from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.models.dpacm import terms
from srcli.models.noise_schedule import alphas_cumprod
from srcli.models.sr import ImplicitSR
from srcli.train.autoencoder_loss import picture_of
from srcli.train.diffusion_losses import with_noise, without_noise
from srcli.train.losses import FeatureCache, Objective, TrainingLoss, classifier, luma_psnr

if TYPE_CHECKING:
    from srcli.models.latent_restorer import LatentRestorer

MEASURED_AT = {"psnr-y from noise": 1.0, "psnr-y one step": 0.25}  # shares of the noise steps
Distance = Callable[[Tensor, Tensor], Tensor]


class Denoising(TrainingLoss):
    """Mean squared error of the noise, + lambda_w * Wasserstein-1 + lambda_p * perceptual distance of DPACM's view.

    With `diffusion.prediction` "v_prediction" the error is that of the velocity. Latents and tokens of samples that are
    used again are computed once. `judge` makes the distance of pictures in [0, 1], before the first step.
    """

    def __init__(
        self,
        diffusion: Diffusion,
        wasserstein: float,
        perceptual: float,
        judge: Callable[[], Distance],
        side: int,
    ) -> None:
        self.alphas, self.velocity = alphas_cumprod(diffusion), diffusion.prediction == "v_prediction"
        self.wasserstein, self.perceptual = wasserstein, perceptual
        self.judge, self.side = judge, side
        self.distance: Distance | None = None
        self.kept = FeatureCache()

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        if self.perceptual and self.distance is None:
            self.distance = self.judge()

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        """The loss of a batch; times and noise come from torch's own generator."""
        from srcli.models.latent_restorer import Condition  # diffusers with it

        restorer, hr = _restorer(network), picture_of(batch)
        enlarged = F.interpolate(batch.lr, size=hr.shape[-2:], mode="bicubic").clamp(-1, 1)

        def known(which: list[int] | slice) -> tuple[Tensor, ...]:
            found = restorer.condition(batch.lr[which], enlarged[which])
            more = () if found.latent is None else (found.latent,)
            return *restorer.decoder.moments(hr[which]), found.tokens, *more

        with torch.no_grad():
            mean, deviation, *condition = self.kept(batch, known)
        latent = mean + deviation * torch.randn_like(mean)
        t = torch.randint(len(self.alphas), (len(hr),), device=hr.device)
        noise = torch.randn_like(latent)
        kept = self.alphas.to(hr.device)[t]
        guess = restorer.generator(
            with_noise(latent, noise, kept), t, Condition(enlarged, *condition)
        ).float()
        # The velocity is the noise with latent and noise exchanged, and the latent negated.
        loss = F.mse_loss(guess, with_noise(noise, -latent, kept) if self.velocity else noise)
        if not (self.wasserstein or self.perceptual):
            return loss
        view = restorer.generator.viewed(enlarged)
        found = terms(view, hr, distance=self.distance, side=self.side)
        return loss + self.wasserstein * found.wasserstein + self.perceptual * found.perceptual

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """PSNR of pictures that are estimated in one step, given their LR, from pure noise and from little noise.

        Cheaper than sampling, these figures show whether training still helps. The first estimate is the mean of all
        pictures that the network thinks possible for the LR picture.
        """
        restorer = _restorer(network)
        values: dict[str, list[float]] = {}
        for number, (lr, hr) in enumerate(pairs):
            scale = hr.shape[-1] / lr.shape[-1]
            hr = _whole(hr, restorer.decoder.factor * restorer.generator.multiple_of)
            lr = lr[..., : round(hr.shape[-2] / scale), : round(hr.shape[-1] / scale)]
            for name, share in MEASURED_AT.items():
                estimate = self._estimate(restorer, lr, hr, round(share * len(self.alphas)) - 1, number)
                values.setdefault(name, []).append(luma_psnr(estimate, hr, restorer.decoder.factor))
        return {name: sum(found) / len(found) for name, found in values.items()}

    def _estimate(self, restorer: LatentRestorer, lr: Tensor, hr: Tensor, t: int, seed: int) -> Tensor:
        """The picture of the latents that one prediction at step `t` gives."""
        latent = restorer.decoder.encode(hr)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent)
        kept = self.alphas[t].to(latent).expand(len(latent))
        noisy = with_noise(latent, noise, kept)
        enlarged = F.interpolate(lr, size=hr.shape[-2:], mode="bicubic").clamp(-1, 1)
        guess = restorer.generator(
            noisy, torch.tensor([t], device=lr.device), restorer.condition(lr, enlarged)
        )
        found = with_noise(noisy, -guess, kept) if self.velocity else without_noise(noisy, guess, kept)
        return restorer.decoder.decode(found)


def denoising(
    *,
    diffusion: Diffusion,
    wasserstein: float = 2.0,
    perceptual: float = 0.3,
    backbone: Literal["lpips-alex", "squeezenet", "vgg19"] = "lpips-alex",
    weights: str | None = None,  # the file of a backbone other than LPIPS
    side: int = 128,  # pictures are enlarged to so many pixels for the backbone; AlexNet needs 64 at least
) -> tuple[Objective, ...]:
    """See `Denoising`; `wasserstein` and `perceptual` are the paper's lambda_1 and lambda_2, 0 for its ablations."""
    return (Denoising(diffusion, wasserstein, perceptual, partial(_judge, backbone, weights), side),)


def _judge(backbone: str, weights: str | None) -> Distance:
    """A distance that follows its pictures to their device."""
    if backbone != "lpips-alex":
        network = classifier(backbone, weights)
        return lambda a, b: network.to(a.device)(a, b)
    from srcli.metrics.perceptual import lpips_network

    lpips = lpips_network("alex")
    return lambda a, b: lpips.to(a.device)(a * 2 - 1, b * 2 - 1).mean()


def _restorer(network: ImplicitSR) -> Any:
    if not hasattr(network.decoder, "moments"):
        raise PresetError("This objective trains a latent restorer.", hint='generator.name = "lgcaa"')
    return network


def _whole(picture: Tensor, multiple: int) -> Tensor:
    """The top left of a picture, its sides multiples of `multiple`."""
    h, w = (side // multiple * multiple for side in picture.shape[-2:])
    return picture[..., :h, :w]
