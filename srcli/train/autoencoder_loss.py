"""The auto-encoder's stage of the latent diffusion models: pictures to latents and back, at any size.

FPLIA (arXiv 2606.21910) trains it with L1, a perceptual distance, a weak pull of the posterior to the normal
distribution and an adversary; Kim et al. (CVPR 2024) with L1 alone. Written from the papers. In both, the encoder sees HR
of four times the LR's sides and the decoder renders another size in every batch. Losses here are means where theirs are
sums over colours, which makes no difference to Adam.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.data.samples import Batch
from srcli.errors import PresetError
from srcli.geometry import Box, Grid, Size
from srcli.models.layers import MLP, grid_coord
from srcli.models.sr import Frame, ImplicitSR, pixel_cell
from srcli.train.losses import Objective, TrainingLoss, classifier, luma_psnr

SMALLEST = {"squeezenet": 35, "vgg19": 16}  # pixels of a side that a backbone needs


def autoencoder(
    *,
    branch: Literal["p", ""] = "p",  # of LIA, "p" is the perceptual one; "" for a decoder without
    l1: float = 1.0,
    perceptual: float = 0.0,
    backbone: Literal["vgg19", "squeezenet"] = "vgg19",
    weights: str | None = None,
    gradient: float = 0.0,
    spectrum: float = 0.0,
    kl: float = 1e-6,
    adversary: float = 0.0,
    adversary_from: int = 0,
    adversary_width: int = 64,
    adversary_layers: int = 3,
    smallest: float = 0.25,  # the smallest target's sides over the picture's
    crop: int = 0,  # side of a random square that is compared; 0: all
) -> tuple[Objective, ...]:
    """Encode `batch.picture`, sample the posterior, decode at a random size, compare.

    Weights: `l1` of the mean absolute error, `perceptual` of a distance in a classifier's features, `gradient` and
    `spectrum` of errors of neighbours' differences and of Fourier amplitudes (not published, for short runs), `kl` of
    the posterior's divergence per colour value, `adversary` of a PatchGAN's hinge loss, on top of the adaptive factor
    that equates gradients. Raises ValueError (a weight below 0), PresetError (a perceptual loss without its file).
    """
    if min(l1, perceptual, gradient, spectrum, kl, adversary) < 0:
        raise ValueError("weights of losses are at least 0")
    if not 0 < smallest <= 1:
        raise ValueError("smallest is above 0 and at most 1")
    judge = classifier(backbone, weights) if perceptual else None

    def compare(sr: Tensor, hr: Tensor) -> Tensor:
        total = l1 * (sr - hr).abs().mean()
        if judge is not None and min(hr.shape[-2:]) >= SMALLEST[backbone]:
            total = total + perceptual * judge.to(hr.device)(sr * 0.5 + 0.5, hr * 0.5 + 0.5)
        if gradient:
            total = total + gradient * sum((sr.diff(dim=d) - hr.diff(dim=d)).abs().mean() for d in (2, 3))
        if spectrum:
            total = total + spectrum * (_amplitudes(sr) - _amplitudes(hr)).abs().mean()
        return total

    discriminator = PatchGAN(adversary_width, adversary_layers) if adversary else None
    return (_AutoEncoder(compare, branch, kl, smallest, crop, adversary, adversary_from, discriminator),)


class _AutoEncoder(TrainingLoss):
    def __init__(
        self,
        compare: Callable[[Tensor, Tensor], Tensor],
        branch: str,
        kl: float,
        smallest: float,
        crop: int,
        adversary: float,
        adversary_from: int,
        discriminator: nn.Module | None,
    ) -> None:
        self.compare, self.branch, self.kl, self.smallest, self.crop = compare, branch, kl, smallest, crop
        self.adversary, self.discriminator, self.discriminator_from = adversary, discriminator, adversary_from
        self.step = 0
        self.shown: tuple[Tensor, Tensor] | None = None

    def begin(self, network: ImplicitSR, step: int, steps: int) -> None:
        self.step = step
        if self.discriminator is not None:  # `balance` needs its gradient even if it is frozen
            last = last_layer(network)
            last.requires_grad_()
            last.grad = None

    def __call__(self, network: ImplicitSR, batch: Batch) -> Tensor:
        picture = picture_of(batch)
        mean, logvar = autoencoder_of(network).moments(picture)
        mean = mean.float()
        z, divergence = mean, mean.new_zeros(())
        if logvar is not None:
            logvar = logvar.float()
            z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
            divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / picture.numel()
        side = picture.shape[-1]
        low = round(side * self.smallest)
        side = int(torch.randint(low, side + 1, ()))
        hr = F.interpolate(picture, (side, side), mode="bicubic", align_corners=False)
        box = self._box(side)
        hr = hr[:, :, box.top : box.bottom, box.left : box.right]
        sr = decoded(network, batch.lr, perceived(network, batch.lr, z), Size(side, side), self.branch, box)
        fit = self.compare(sr, hr)
        loss = fit + self.kl * divergence
        if self.discriminator is None or self.step < self.discriminator_from:
            return loss
        self.shown = hr, sr.detach()
        # Here only the decoder learns from its judgement; the discriminator does in `discriminator_loss`.
        self.discriminator.requires_grad_(requires_grad=False)
        fooled = generator_loss(self.discriminator(sr).float())
        self.discriminator.requires_grad_(requires_grad=True)
        return loss + self.adversary * balance(fit, fooled, last_layer(network)) * fooled

    def _box(self, side: int) -> Box:
        room = side - min(self.crop or side, side)
        top, left = (int(v) for v in torch.randint(room + 1, (2,)))
        return Box(top, left, top + side - room, left + side - room)

    def discriminator_loss(self) -> Tensor:
        assert self.shown is not None
        assert self.discriminator is not None
        return adversary_loss(*(self.discriminator(pictures).float() for pictures in self.shown))

    def measure(self, network: ImplicitSR, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float] | None:
        """PSNR of luma of HR encoded and decoded at its own size."""
        values = []
        for lr, hr in pairs:
            mean, _ = autoencoder_of(network).moments(hr)
            sr = decoded(network, lr, perceived(network, lr, mean), Size(*hr.shape[-2:]), self.branch)
            values.append(luma_psnr(sr, hr, border=4))
        return {"psnr-y of HR through the latent": sum(values) / len(values)}


def last_layer(network: ImplicitSR) -> Tensor:
    """The weight of the last layer of the decoder's MLP. Raises PresetError (it has no MLP)."""
    mlp = getattr(network.decoder, "mlp", None)
    if not isinstance(mlp, MLP):
        raise PresetError("An adversary needs a decoder that ends in an MLP.", hint='decoder.name = "lia"')
    return mlp.linears[-1].weight


def balance(fit: Tensor, fooled: Tensor, last: Tensor) -> Tensor:
    """The factor that gives the adversary's gradient at the last layer the length of the other one's, at most 1e4."""
    lengths = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (fit, fooled)]
    return (lengths[0] / (lengths[1] + 1e-4)).clamp(0, 1e4).detach()


def _amplitudes(pictures: Tensor) -> Tensor:
    """Lengths of the Fourier coefficients, scaled so that white noise keeps its deviation."""
    return torch.fft.rfft2(pictures, norm="ortho").abs()


class PatchGAN(nn.Module):
    """Pictures (B, 3, h, w), sides of at least 3 * 2^layers, to scores (B, 1, h', w'), larger for real ones."""

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        stack: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for number in range(1, layers + 1):
            wider = width * min(2**number, 8)
            stride = 2 if number < layers else 1
            stack += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        self.layers = nn.Sequential(*stack, nn.Conv2d(channels, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


def adversary_loss(real: Tensor, made: Tensor) -> Tensor:
    """The discriminator's hinge loss: scores of real pictures above 1, of made ones below -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2


def generator_loss(made: Tensor) -> Tensor:
    """The generator's loss: the negative scores of its pictures."""
    return -made.mean()


def faithful(network: ImplicitSR, lr: Tensor) -> Tensor:
    """Features of lr (B, 3, h, w) with zeros in place of a latent's; PresetError for an encoder without a latent."""
    encoder: Any = network.encoder
    if not encoder.fidelity_dim:
        raise PresetError("This objective needs FPLIA's encoder.", hint='encoder.name = "perception"')
    features: Tensor = encoder.beside(lr)
    return features


def perceived(network: ImplicitSR, lr: Tensor, z: Tensor) -> Tensor:
    """Features of a latent (B, z, h, w), not normalised, beside what branch p needs of LR (B, 3, h, w), or zeros."""
    feat: Tensor = autoencoder_of(network).decode(z)
    encoder: Any = network.encoder
    if encoder.fidelity_dim and encoder.out_dim > encoder.feat_dim:  # the native picture
        feat = encoder.beside(lr, feat)
        return feat
    return F.pad(feat, (0, 0, 0, 0, encoder.out_dim - feat.shape[1], 0))


def autoencoder_of(network: ImplicitSR) -> Any:
    """The network's auto-encoder. Raises PresetError (it has none)."""
    found = getattr(network.encoder, "autoencoder", None)
    if found is None:
        raise PresetError(
            "This objective needs an encoder with an auto-encoder.", hint='encoder.name = "perception"'
        )
    return found


def picture_of(batch: Batch) -> Tensor:
    """The batch's pictures. Raises PresetError (it has none)."""
    if batch.picture is None:
        raise PresetError(
            "This objective encodes HR pictures.", hint="Set data.picture to data.patch times the scale."
        )
    return batch.picture


def decoded(
    network: ImplicitSR, lr: Tensor, feat: Tensor, target: Size, branch: str, box: Box | None = None
) -> Tensor:
    """Pictures (B, 3, H, W) of features (B, C, h, w) at the size `target`, or that box of them, float32."""
    cell = pixel_cell(Size(*lr.shape[-2:]), target).to(lr.device).expand(len(lr), 2)
    prepared = network.decoder.prepare(feat, lr, Frame.whole(lr, cell))
    grid = Grid.of(Size(*lr.shape[-2:]), target, box)
    coord = grid_coord(grid, lr).expand(len(lr), -1, -1)
    colours = answers(network, prepared, coord, (branch,))[branch]
    return colours.transpose(1, 2).unflatten(2, tuple(grid.size))


def answers(network: ImplicitSR, prepared: Any, coord: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Colours (B, Q, 3) float32 by the names of LIA's branches; the name of a decoder without is "".

    Raises PresetError (branches of a decoder that has none).
    """
    decoder: Any = network.decoder
    if tuple(names) == ("",):
        return {"": decoder.query(prepared, coord).float()}
    if not hasattr(decoder, "answers"):
        raise PresetError("This objective needs a decoder with branches.", hint='decoder.name = "lia"')
    return decoder.answers(prepared, coord, names)
