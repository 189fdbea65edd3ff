"""RLFN: a small residual network with pooled attention, made to be fast.

Kong et al., "Residual Local Feature Network for Efficient Super-Resolution", CVPRW 2022, https://arxiv.org/abs/2205.07514.
Written from the paper; keys of the authors' release.

Its attention looks at a pooled map that the paper stretches to the picture's size, so that every pixel depends on that
size. Here each cell of the map stands for the same 6x6 pixels in every picture: it is pooled over the 15x15 pixels around
them and the map is enlarged by exactly 6, so that tiles which begin at multiples of 6 see what the picture sees.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.geometry import spans
from srcli.models.layers import conv, fused_conv, mix, no_autocast
from srcli.models.sr import Gives, NativeEncoder, small_share

CELL = 6  # LR pixels that a cell of the pooled map stands for: a stride of 2 times a stride of 3
WINDOW = 15  # LR pixels that it is pooled over: 3x3 with stride 2, then 7x7
BEFORE = 4  # of them before the cell's own
STRIP = 1 << 14  # LR pixels at once, in what goes pixel by pixel: 3.4 MB of 52 channels stay in a CPU's cache


class ESA(nn.Module):
    """Enhanced spatial attention on a map of fixed cells: (B, C, h, w) times a weight in (0, 1) for every value."""

    def __init__(self, n_feats: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_feats, channels, 1)
        self.conv_f = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2)
        self.conv3 = nn.Conv2d(channels, channels, 3)
        self.conv4 = nn.Conv2d(channels, n_feats, 1)

    def forward(self, x: Tensor) -> Tensor:
        """On CPUs without gradients x itself is weighted."""
        strips = _strips(x)
        near = torch.cat([fused_conv(self.conv1, x[:, :, rows]) for rows in strips], dim=2)
        around = self._around(near)
        if len(strips) == 1:
            return x * self._weight(near, around, x.dtype)
        for rows in strips:
            x[:, :, rows].mul_(self._weight(near[:, :, rows], around[:, rows], x.dtype))
        return x

    def _around(self, near: Tensor) -> Tensor:
        """What lies around every row of pixels, from those of `near`: (B, h, cells in a row, channels)."""
        h, w = near.shape[-2:]
        pooled = F.max_pool2d(fused_conv(self.conv2, _from_second_cell(near)), 7, stride=3)
        rows, cols = (h + CELL - 1) // CELL, (w + CELL - 1) // CELL
        # The first cell, and those at the end whose windows reach beyond the picture, repeat their neighbour; so does the
        # convolution's margin.
        down, across = rows - 1 - pooled.shape[2], cols - 1 - pooled.shape[3]
        pooled = F.pad(pooled, (2, across + 1, 2, down + 1), mode="replicate")
        return _enlarged(self.conv3(pooled).permute(0, 2, 3, 1), 1, h)

    def _weight(self, near: Tensor, around: Tensor, dtype: torch.dtype) -> Tensor:
        seen = _enlarged(around.to(dtype), 2, near.shape[3]).permute(0, 3, 1, 2)
        mixed = fused_conv(self.conv_f, near).to(dtype) + seen
        with no_autocast(near):
            return fused_conv(self.conv4, mixed).sigmoid_()


def _strips(x: Tensor) -> list[slice]:
    """The rows of x (B, C, h, w) in strips of about `STRIP` pixels; in one, but on CPUs without gradients.

    They come in eights, so that their values fill whole vectors: what is left over, torch computes to other bits.
    """
    h, w = x.shape[-2:]
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return [slice(0, h)]
    return [slice(*span) for span in spans(h, max(8, STRIP // w // 8 * 8))]


def _enlarged(cells: Tensor, dim: int, length: int) -> Tensor:
    """Cells enlarged by `CELL` along an axis, bilinearly, cut to `length`.

    The weights repeat with every cell, so that they are the same bits wherever a tile begins; `F.interpolate` computes
    them from the distance to the corner.
    """
    last = cells.shape[dim] - 1
    at = torch.arange(-1, last + 1, device=cells.device)  # of the cell before, for each middle of two cells
    below, above = (cells.index_select(dim, (at + k).clamp(0, last)).unsqueeze(dim + 1) for k in (0, 1))
    share = (torch.arange(CELL, device=cells.device) + 0.5) / CELL
    share = share.to(cells.dtype).reshape([-1 if axis == dim + 1 else 1 for axis in range(5)])
    return mix(below, above, share).flatten(dim, dim + 1).narrow(dim, CELL // 2, length)


def _from_second_cell(x: Tensor) -> Tensor:
    """What windows are pooled from: they begin with the second cell's, the first that lies inside the picture."""
    short: list[Any] = [torch.sym_max(0, CELL - BEFORE + WINDOW - side) for side in x.shape[-2:]]
    if torch.compiler.is_compiling() or any(short):  # a picture smaller than a window goes on as its border
        x = F.pad(x, (0, short[1], 0, short[0]), mode="replicate")
    return x[..., CELL - BEFORE :, CELL - BEFORE :]


class RLFB(nn.Module):
    """Three convolutions with leaky ReLU plus the input, a 1x1 convolution, attention."""

    def __init__(self, n_feats: int, attention: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.c2_r = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.c3_r = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.c5 = nn.Conv2d(n_feats, n_feats, 1)
        self.esa = ESA(n_feats, attention)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in (self.c1_r, self.c2_r, self.c3_r):
            out = out.contiguous(memory_format=torch.channels_last)  # its wider form may go
            out = fused_conv(layer, out, 0.05)
        strips = _strips(x)
        with no_autocast(x):  # sums in half precision would be seen
            if len(strips) == 1:
                return self.esa(fused_conv(self.c5, out + x))
            total = torch.empty_like(x)
            for rows in strips:
                part = total[:, :, rows].copy_(out[:, :, rows]).add_(x[:, :, rows])
                part.copy_(fused_conv(self.c5, part))
        del out
        return self.esa(total)


class RLFN(NativeEncoder):
    """RLFN with its upsampler; six blocks of 52 channels, 543,740 parameters at x4.

    Pixels are expected in [0, 2], that is with mean 0 and deviation 0.5: the release takes 0 to 255, which half
    precision does not bear; the network is scaled by that, exactly. `small_blocks`: blocks of a second body for factor
    2, which answers alone up to x2 and together with the first one up to x2.5; 0: there is none. `refine`: channels
    that are shuffled, from which a 3x3 convolution makes the colours; 0: the shuffle gives them.
    """

    UPSTREAM_KEYS = ((r"^(conv_1|block_\d+|conv_2|upsampler)\.", r"encoder.\1."),)

    tile_multiple = CELL
    exact = False  # the attention's map reaches far, ever more faintly
    practical_halo = 60  # at most 0.003 of 255 levels from the whole picture

    def __init__(
        self,
        *,
        factor: int = 4,
        n_feats: int = 52,
        n_blocks: int = 6,
        attention: int = 16,
        small_blocks: int = 0,
        centred: bool = False,  # pixels are in [-1, 1] instead
        refine: int = 0,
        gives: Gives = "features",
    ) -> None:
        super().__init__(factor, n_feats, gives)
        self.halo = 21 * n_blocks + 3 + bool(refine)
        self.live_channels = max(9 * n_feats // 2, n_feats + 3 * (refine or 1) * factor**2)
        self.n_blocks = n_blocks
        self.darkest = -1.0 if centred else 0.0
        self.conv_1 = nn.Conv2d(3, n_feats, 3, padding=1)
        for i in range(n_blocks):
            self.add_module(f"block_{i + 1}", RLFB(n_feats, attention))
        self.conv_2 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.upsampler = nn.ModuleList([nn.Conv2d(n_feats, (refine or 3) * factor**2, 3, padding=1)])
        self.refine = nn.Conv2d(refine, 3, 3, padding=1) if refine else None
        if small_blocks:
            if gives != "picture":
                raise ValueError("a second body serves the native picture alone: decoder 'native'")
            self.small = RLFN(
                factor=2,
                n_feats=n_feats,
                n_blocks=small_blocks,
                attention=attention,
                centred=centred,
                gives=gives,
            )

    def for_scale(self, scale: float) -> Callable[[Tensor], Tensor]:
        """Between the two bodies, the pictures of both, the small one's first."""
        share = small_share(scale) if self.small is not None else 0.0
        if self.small is None or share == 0:
            return self
        small = self.small
        return small if share == 1 else lambda lr: torch.cat([small(lr), self(lr)], dim=1)

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of a network with two bodies, the one that this one is."""
        return {key: value for key, value in state.items() if self.small or not key.startswith("small.")}

    @staticmethod
    def from_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of a released file, under our keys, for pixels of 0 to 2."""
        return scaled(state)

    def features(self, lr: Tensor) -> Tensor:
        with no_autocast(lr):
            first = out = fused_conv(self.conv_1, lr.float() - self.darkest)
        for i in range(self.n_blocks):
            out = self.get_submodule(f"block_{i + 1}")(out)
        return fused_conv(self.conv_2, out).to(first.dtype) + first

    def picture(self, feat: Tensor, lr: Tensor) -> Tensor:
        (last,) = self.upsampler
        assert isinstance(last, nn.Conv2d)
        with no_autocast(feat):
            picture = conv(last, feat.float())
            if self.refine is not None:  # at the picture's resolution, where no phase has weights of its own
                shuffled = F.leaky_relu(F.pixel_shuffle(picture, self.factor), 0.05)
                picture = F.pixel_unshuffle(conv(self.refine, shuffled), self.factor)
            return picture + self.darkest


def scaled(state: Mapping[str, Tensor], by: float = 127.5) -> dict[str, Tensor]:
    """The release's state, for pixels of 0 to 255, as one for pixels `by` times smaller, which gives the same picture.

    All layers but the attention's are homogeneous of degree one with their biases: those shrink, and the attention's
    first layer makes up for it. Keys may have a prefix.
    """
    out = dict(state)
    for key, value in state.items():
        if key.endswith("esa.conv1.weight"):
            out[key] = value * by
        elif key.endswith(".bias") and ".esa." not in key:
            out[key] = value / by
    return out
