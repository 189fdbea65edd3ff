"""The network as a value built from parts: an encoder looks once, a decoder answers anywhere.

A diffusion model has a third part, the generator, whose sample is put beside the image before it is encoded.
Parts are passed in, never looked up inside, and nothing stays on `self` between calls: `prepare` returns what it
computed and `query` and `render` take it. Pixels are in the normalised domain of the preset, (x - mean) / std.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from srcli.config.presets import Kind
from srcli.geometry import Box, Size
from srcli.geometry import Grid as Grid


@dataclass(frozen=True)
class Frame:
    """Where the tensor at hand sits in the whole LR image, and how large an output pixel is."""

    size: Size  # size of the whole LR image (after window padding, if any)
    box: Box  # the part of it that is present
    # (B, 2) or (1, 2) float32, the size (y, x) of one output pixel in [-1, 1] units, after any cell clip
    cell: Tensor
    # size of the whole output, where there is one grid; None for scattered queries
    target: Size | None = None
    # for a cascade in training, the sizes that its stages before the last reach; None: by the scale
    stages: tuple[Size, ...] | None = None

    @staticmethod
    def whole(lr: Tensor, cell: Tensor, target: Size | None = None) -> Frame:
        """The frame of an untiled image `lr` (B, C, h, w)."""
        h, w = lr.shape[-2:]
        return Frame(Size(h, w), Box(0, 0, h, w), cell, target)

    @staticmethod
    def of_grid(lr: Tensor, target: Size, *, cell_clip: float | None = None) -> Frame:
        """The frame of an untiled image `lr` rendered to `target`; see `pixel_cell` for `cell_clip`."""
        h, w = lr.shape[-2:]
        cell = pixel_cell(Size(h, w), target, cell_clip=cell_clip).to(lr.device)
        return Frame.whole(lr, cell, target)

    @property
    def scale(self) -> float:
        """The larger of the two factors between the LR image and its target; 1 without a target."""
        return max(self.target.h / self.size.h, self.target.w / self.size.w) if self.target else 1.0

    @property
    def one_cell(self) -> Tensor:
        """The cell (2,) of a grid; ValueError where images of the batch have different ones."""
        if (self.cell != self.cell[:1]).any():
            raise ValueError("a grid has one cell, the same for every image of the batch")
        return self.cell[0]

    @property
    def rel_cell(self) -> Tensor:
        """Cell (B, 2) in units where one LR pixel is 2: `cell * size`."""
        return self.cell * self.cell.new_tensor([self.size.h, self.size.w])


def pixel_cell(lr: Size, target: Size, *, cell_clip: float | None = None) -> Tensor:
    """Cell (1, 2) float32 of one pixel of `target`: 2/H, 2/W.

    `cell_clip`: the largest trained scale; beyond it the cell is multiplied by scale / cell_clip, so that the decoder
    sees the cell of that scale (evaluation of the LTE family).
    """
    cell = torch.tensor([[2 / target.h, 2 / target.w]], dtype=torch.float32)
    if cell_clip is not None:
        factors = [max(target.h / lr.h / cell_clip, 1.0), max(target.w / lr.w / cell_clip, 1.0)]
        cell = cell * torch.tensor([factors], dtype=torch.float32)
    return cell


class Encoder(nn.Module):
    """Features of an LR image at its own resolution: (B, 3, h, w) -> (B, out_dim, h, w)."""

    title: ClassVar[str | None] = None  # what tables of papers call the published network of this class
    out_dim: int
    latent_channels: int = 0  # of a sampled latent that it expects behind the three colours
    fidelity_dim: int = 0  # channels of `faithful`, for generators that look at them; 0: it has none
    multiple_of: int = 1  # of which LR sides must be multiples (8 for SwinIR's windows); the engine pads
    # Whether the mirrored continuation that completes a side begins with the edge row again, as in the tests of the
    # LIIF family, or with the one before, as CiaoSR does.
    repeat_edge: bool = True
    halo: int  # LR pixels of context with which a tile's features equal the image's
    exact: bool = True  # whether they do at that halo; otherwise they come close
    practical_halo: int | None = None  # less context, where the exact one is wasteful
    cpu_tile_bytes: int = 512 << 20  # what a tile may take; the wider its margin, the more a large one saves
    live_channels: int | None = None  # numbers held at once per LR pixel; None: four times `out_dim`
    tile_multiple: int = 1  # at whose multiples tiles begin, where the network has a grid of its own

    def for_scale(self, scale: float) -> Callable[[Tensor], Tensor]:
        """What computes the features for an output `scale` times as large: itself, or a part that is enough."""
        return self

    def faithful(self, lr: Tensor) -> Tensor:
        """Features of lr (B, 3, h, w) alone, without those of a sampled latent."""
        features: Tensor = self(lr)
        return features

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What to start from, given the state of a smaller encoder of the family; as it is where growth is unknown."""
        return state


SMALL_UP_TO, LARGE_FROM = 2.0, 2.5  # scales; between them two bodies are blended


def small_share(scale: Any) -> Any:
    """Share, in [0, 1], of a body for factor 2 beside one for a larger factor; it falls from x2 to x2.5.

    `scale`: a number, or a tensor of one.
    """
    if isinstance(scale, Tensor):
        return ((LARGE_FROM - scale) / (LARGE_FROM - SMALL_UP_TO)).clamp(0, 1)
    return min(1.0, max(0.0, (LARGE_FROM - scale) / (LARGE_FROM - SMALL_UP_TO)))


Gives = Literal["features", "picture", "both"]


class NativeEncoder(Encoder):
    """The body of a network for one factor, with its own upsampler: the picture at that factor is the native one.

    The picture travels as 3 * factor^2 channels at LR resolution, in the order of `pixel_shuffle`, so that tiles, bands
    and precisions treat it as they treat features. It is float32 always. `feat_dim`: channels of the features alone.
    `gives`: whether `forward` gives the features, the picture, or the features with the picture behind them. `limiter`:
    what bounds the picture, given the picture and the LR image; None: nothing does.
    """

    def __init__(self, factor: int, feat_dim: int, gives: Gives) -> None:
        super().__init__()
        self.factor, self.feat_dim, self.gives = factor, feat_dim, gives
        self.out_dim = feat_dim * (gives != "picture") + 3 * factor**2 * (gives != "features")
        self.limiter: Callable[[Tensor, Tensor], Tensor] | None = None
        self.small: NativeEncoder | None = None  # a body of its own for small factors

    def features(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, feat_dim, h, w)."""
        raise NotImplementedError

    def picture(self, feat: Tensor, lr: Tensor) -> Tensor:
        """The native picture (B, 3 * factor^2, h, w) float32, normalised, of what `features` gives for `lr`."""
        raise NotImplementedError

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, out_dim, h, w)."""
        feat = self.features(lr)
        if self.gives == "features":
            return feat
        picture = self.picture(feat, lr)
        if self.gives == "picture":
            del feat  # limiting takes memory
        if self.limiter is not None:
            picture = self.limiter(picture, lr)
        return picture if self.gives == "picture" else torch.cat([feat.float(), picture], dim=1)


class Tiling(NamedTuple):
    """A protocol in which overlapping square tiles of the LR image are enlarged apart and averaged."""

    side: int  # of a tile, in LR pixels; no larger than the image's shorter side
    overlap: int  # LR pixels that neighbouring tiles share at least


class Decoder(nn.Module):
    """Colours at any coordinate from features."""

    kind: ClassVar[Kind] = "regression"  # of the presets that have it without a generator
    title: ClassVar[str | None] = None  # what tables of papers call the method; None for ours
    cascade_title: ClassVar[str | None] = None  # the same, with more than one branch
    n_branches: int = 1  # stages of a cascade that it learns one after the other
    halo: int = 2  # LR pixels around the nearest one that an answer depends on: sampling and convolutions
    # Whether that holds. Where a decoder looks at the whole image or at all queries, the engine prepares the whole
    # image at once, with `frame.target` set, and renders it in bands.
    local: bool = True
    tiling: Tiling | None = None  # a protocol of tiles in the place of the engine's own, where asked for
    note: str | None = None  # one line on what this decoder's answer depends on, for the output
    has_windows: bool = False  # of attention, of which `attention_at(prepared, coord)` gives the weights
    has_field: ClassVar[bool] = False  # whether `gradient(prepared, coord)` gives its slope

    @property
    def alone(self) -> Decoder:
        """What is learned: the decoder itself, or the one whose answer is added to a native picture."""
        return self

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> Any:
        """What all queries share, from features (B, C, h, w) and normalised LR pixels (B, 3, h, w) of `frame.box`.

        At sides of the box that are not sides of the image the outermost results are unreliable; queries must keep
        `halo` away from those.
        """
        raise NotImplementedError

    def query(self, prepared: Any, coord: Tensor) -> Tensor:
        """Colours (B, Q, 3) at coord (B, Q, 2), order (y, x), in [-1, 1] of the whole image."""
        raise NotImplementedError

    def render(self, prepared: Any, grid: Grid) -> Tensor:
        """Colours (B, 3, H, W) of a rectangle of HR pixels; `grid.rows.origin` counts from the box's corner."""
        raise NotImplementedError


class GenerativeDecoder(Decoder):
    """A decoder that gives a distribution of colours, of which every sample is mean + temperature * direction.

    The output is cut into patches from its top left; those at the bottom and the right may reach beyond it. `query` and
    `render` give the mean, temperature 0.
    """

    kind = "flow"
    patch: int = 1  # side of a patch of output pixels that one draw of noise belongs to

    @property
    def noise_channels(self) -> int:
        """Numbers of noise for a patch: one for each of its values, at colour * patch^2 + row * patch + column."""
        return 3 * self.patch * self.patch

    def render_affine(self, prepared: Any, grid: Grid, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and direction, (B, 3, H, W) each, of a rectangle of HR pixels; colours are mean + tau * direction.

        The rectangle begins at multiples of `patch`. `noise`: (B, noise_channels, rows, columns) of
        `grid.patches(patch)`.
        """
        raise NotImplementedError

    def sample(self, prepared: Any, coord: Tensor, noise: Tensor | None = None) -> Tensor:
        """Colours (B, Q, noise_channels) of the patches with middle pixels at coord (B, Q, 2), for training.

        The frame's cell is the distance of the pixels within a patch. `noise` is times the temperature; None for the
        mean.
        """
        raise NotImplementedError

    def log_density(self, prepared: Any, coord: Tensor, hr: Tensor) -> Tensor:
        """Log-density (B, Q) of the patches hr (B, Q, noise_channels) with middle pixels at coord (B, Q, 2)."""
        raise NotImplementedError


class SelectiveDecoder(Decoder):
    """A decoder with several answers, of which it can give the best one for every pixel, or always the same.

    `every_branch`: names of the answers where the constructor is not told otherwise; its argument is `branches`.
    """

    every_branch: ClassVar[tuple[str, ...]]
    branches: tuple[str, ...]  # names of this decoder's answers, in the order of the scores

    @property
    def selects(self) -> bool:
        """Whether every pixel is the answer of one branch, so that there is a map of choices."""
        raise NotImplementedError

    def branch(self, name: str) -> Decoder:
        """A decoder that always gives the answer of one branch, with the weights of this one."""
        raise NotImplementedError

    def needs_latent(self, name: str) -> bool:
        """Whether the answer of a branch depends on what was sampled."""
        raise NotImplementedError

    def stand_on_native(self) -> None:
        """Add the answers to a native picture, behind the features, from here on."""
        raise NotImplementedError

    def render_scored(self, prepared: Any, grid: Grid) -> tuple[Tensor, Tensor]:
        """As `render`, with the scores (B, n, H, W) of the branches."""
        raise NotImplementedError


class Generator(nn.Module):
    """A denoising network: it makes a sample of its own, step by step.

    The sample of a latent diffusion model is a latent on the grid of the LR image, whatever the output's size. Its
    values are about standard normal; `denormalised` brings them to the range that the encoder expects.
    """

    kind: ClassVar[Kind] = "latent-diffusion"  # of the presets that have it
    title: ClassVar[str | None] = None  # what tables of papers call the method; None for ours
    channels: int = 3
    multiple_of: int = 1  # of which sides of the sample, and of its tiles, are multiples
    context: int = 16  # sample pixels that neighbouring tiles share at least
    live_channels: int = 1024  # numbers held at once per pixel of the sample, for planning memory
    condition_live: int = 0  # the same per LR pixel while the condition is computed, beyond the encoder's
    by_level: bool = False  # whether `t` is the share of the signal, sqrt(alpha-bar), instead of the step

    def condition(self, encoder: Encoder, lr: Tensor) -> Any:
        """What the network sees beside the noisy sample of lr (B, 3, h, w): (B, C, h, w), on the grid of the sample."""
        raise NotImplementedError

    def check(self, encoder: Encoder) -> None:
        """Raise ValueError if `condition` cannot work with this encoder, or it expects another sample."""

    def forward(self, noisy: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The noise (B, channels, h, w) in `noisy` of the same shape; t (B,), see `by_level`."""
        raise NotImplementedError

    def normalised(self, latent: Tensor) -> Tensor:
        """A latent in the units of the sample."""
        return latent

    def denormalised(self, sample: Tensor) -> Tensor:
        """A sample in the units of the latent; the inverse of `normalised`."""
        return sample


class OutputGenerator(Generator):
    """A generator whose sample is the output itself, so that each size is sampled anew.

    `condition` gives features on the grid of the LR image; `spread` brings them to the output. `relative`: if above 0,
    the sample is what the output has beyond the LR image enlarged by bicubic interpolation, in units of this (a usual
    deviation, normalised); 0: the sample is the output.
    """

    kind = "pixel-diffusion"
    relative: float = 0.0

    def normalised(self, latent: Tensor) -> Tensor:
        return latent / self.relative if self.relative else latent

    def denormalised(self, sample: Tensor) -> Tensor:
        return sample * self.relative if self.relative else sample

    def spread(self, feat: Tensor, grid: Grid) -> tuple[Tensor, ...]:
        """The condition of a rectangle of output pixels: tensors that all begin with the axis of the batch.

        `feat`: (1, C, h, w), what `condition` gave for a part of the image, whose corner are the grid's origins.
        """
        raise NotImplementedError


class ImplicitSR(nn.Module):
    """An encoder and a decoder, and a generator where there is something to sample first.

    `forward` is training's path, the engine calls the parts itself. With a generator, what `forward` and `render` are
    given as `lr` has the latent behind the three colours. `outside`: the keys of its state that come from base models
    as they were; a weights file has the others.
    """

    outside: frozenset[str] = frozenset()

    def __init__(self, encoder: Encoder, decoder: Decoder, generator: Generator | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.generator = generator

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What to start from, given the state of a simpler network of the family; as it is where none is known."""
        return state

    def forward(
        self, lr: Tensor, coord: Tensor, cell: Tensor, stages: tuple[Size, ...] | None = None
    ) -> Tensor:
        """Colours (B, Q, 3) at coord (B, Q, 2) with cell (B, 2); lr (B, 3, h, w) normalised; see `Frame.stages`."""
        frame = replace(Frame.whole(lr, cell), stages=stages)
        prepared = self.decoder.prepare(self.encoder(lr), lr[:, :3], frame)
        return self.decoder.query(prepared, coord)

    def render(self, lr: Tensor, target: Size, *, cell_clip: float | None = None) -> Tensor:
        """The whole image at once: (B, 3, h, w) -> (B, 3, H, W), normalised, not clamped."""
        h, w = lr.shape[-2:]
        frame = Frame.of_grid(lr, target, cell_clip=cell_clip)
        feat = self.encoder.for_scale(frame.scale)(lr)
        prepared = self.decoder.prepare(feat, lr[:, :3], frame)
        return self.decoder.render(prepared, Grid.of(Size(h, w), target))
