"""SwinIR without its upsampler: attention in shifted windows of 8x8 LR pixels.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021, https://arxiv.org/abs/2108.10257.
Written from the paper; keys of the releases of the LIIF family, which add a convolution to 64 channels.
Inside the blocks pixels are (B, h, w, C).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.sr import Encoder

MASKED = -100.0  # added to a logit between regions that a shifted window joins but the image does not
STORED = 48  # the training crop; releases carry the mask of this size, and nothing reads it


def _offsets(window: int) -> Tensor:
    """Row of the bias table (window^2, window^2) for each pair of pixels of a window."""
    axis = torch.arange(window)
    y, x = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    span = 2 * window - 1
    return (y[:, None] - y + window - 1) * span + (x[:, None] - x + window - 1)


def _edge_mask(window: int, shift: int, *, bottom: bool, right: bool) -> Tensor:
    """Mask (window^2, window^2) of a shifted window in the last row and/or the last column of windows.

    A cyclic shift brings the first `shift` rows of the image under the last ones; such a window sees two places.
    """
    axis = torch.arange(window) >= window - shift
    y, x = (grid.flatten() for grid in torch.meshgrid(axis & bottom, axis & right, indexing="ij"))
    apart = (y[:, None] != y) | (x[:, None] != x)
    return apart.float() * MASKED


def _stored_mask(window: int, shift: int) -> Tensor:
    """Masks (n, window^2, window^2) of every window of a STORED x STORED image, as the releases hold them."""
    sides = range(STORED // window)
    ends = (False, True)
    masks = {(b, r): _edge_mask(window, shift, bottom=b, right=r) for b in ends for r in ends}
    return torch.stack([masks[row == sides[-1], col == sides[-1]] for row in sides for col in sides])


def _to_windows(x: Tensor, window: int) -> Tensor:
    """(B, h, w, C) -> (B, rows, columns, window^2, C)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // window, window, w // window, window, c)
    return x.transpose(2, 3).reshape(b, h // window, w // window, window * window, c)


def _from_windows(x: Tensor, window: int) -> Tensor:
    """(B, rows, columns, window^2, C) -> (B, h, w, C)."""
    b, rows, cols, _, c = x.shape
    x = x.reshape(b, rows, cols, window, window, c).transpose(2, 3)
    return x.reshape(b, rows * window, cols * window, c)


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias per relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, n_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", _offsets(window))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, shift: int) -> Tensor:
        """Windows (B, rows, columns, window^2, C) -> the same; `shift` as the image was rolled."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        qkv = self.qkv(x)
        if not shift:
            return self.proj(self._attend(qkv, bias))
        # Only the last row and column of windows join what is apart: four masks serve an image of any size.
        rows = []
        for bottom, row in ((False, qkv[:, :-1]), (True, qkv[:, -1:])):
            parts = []
            for right, part in ((False, row[:, :, :-1]), (True, row[:, :, -1:])):
                if part.numel():
                    mask = _edge_mask(self.window, shift, bottom=bottom, right=right).to(bias)
                    parts.append(self._attend(part, bias + mask))
            if parts:
                rows.append(torch.cat(parts, dim=2))
        return self.proj(torch.cat(rows, dim=1))

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Projections (B, rows, columns, n, 3C) and bias (heads, n, n) -> (B, rows, columns, n, C)."""
        b, rows, cols, n, width = qkv.shape
        q, k, v = qkv.reshape(b * rows * cols, n, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return out.transpose(1, 2).reshape(b, rows, cols, n, width // 3)


class MLPBlock(nn.Module):
    """Linear - GELU - linear."""

    approximate = "none"  # of the GELU

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


class SwinBlock(nn.Module):
    """Window attention and an MLP, each after a LayerNorm and added to its input; windows are moved by `shift`."""

    def __init__(
        self, dim: int, n_heads: int, window: int, *, shift: int, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, shift, drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, n_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, int(dim * mlp_ratio))
        if shift:
            self.register_buffer("attn_mask", _stored_mask(window, shift))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C), sides multiples of the window."""
        x = x + self._drop(self._attention(self.norm1(x)))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _attention(self, x: Tensor) -> Tensor:
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        x = _from_windows(self.attn(_to_windows(x, self.window), self.shift), self.window)
        return x.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else x

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth (Huang et al., 2016), per sample."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * (branch.new_empty(branch.shape[0], 1, 1, 1).bernoulli_(keep) / keep)


class ResidualGroup(nn.Module):
    """The blocks of a group; a module of its own because the releases name it."""

    def __init__(self, blocks: list[SwinBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


class SwinGroup(nn.Module):
    """Swin blocks with alternating shift, a 3x3 convolution, plus the input."""

    def __init__(self, blocks: list[SwinBlock], dim: int) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(blocks)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for block in self.residual_group.blocks:
            out = block(out)
        return x + self.conv(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """The norm before the first group; a module of its own because the releases name it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)


class SwinIR(Encoder):
    """SwinIR: 6 groups of 6 blocks by default, 11,603,044 parameters.

    Sides are padded by reflection at the bottom and the right to multiples of the window, and the features keep the
    padded size unless `crop` (CiaoSR). A tile's corner must lie on a multiple of the window in the padded image; off by
    half a window the features are wrong at any halo. The true radius is about 211 pixels; the halo of 32 is practical:
    with random weights the error is 1e-5 of the features' standard deviation (24: 1e-4, 16: 3e-3).
    """

    title = "SwinIR"
    # CiaoSR's framework; decoders, too, have `layers`
    UPSTREAM_KEYS = (
        (
            r"^(?=(conv_first|patch_embed|norm|conv_after_body|layers\.\d+\.(residual_group|conv))\.)",
            "encoder.",
        ),
    )

    exact = False
    halo = 32

    def __init__(
        self,
        *,
        embed_dim: int = 180,
        depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6),
        n_heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
        out_channels: int = 64,  # of the LIIF family's last convolution; 0 leaves it out (CiaoSR)
        crop: bool = False,
        drop_path: float = 0.1,  # stochastic depth in training, growing linearly to this rate
    ) -> None:
        super().__init__()
        self.multiple_of, self.crop, self.repeat_edge = window, crop, not crop
        self.out_dim = out_channels or embed_dim
        self.conv_first = nn.Conv2d(3, embed_dim, 3, padding=1)
        self.patch_embed = PatchEmbed(embed_dim)
        count = sum(depths)
        rates = (drop_path * i / max(count - 1, 1) for i in range(count))  # plain floats: any device
        self.layers = nn.ModuleList()
        for depth in depths:
            blocks = [
                SwinBlock(
                    embed_dim,
                    n_heads,
                    window,
                    shift=i % 2 * (window // 2),
                    mlp_ratio=mlp_ratio,
                    drop_path=next(rates),
                )
                for i in range(depth)
            ]
            self.layers.append(SwinGroup(blocks, embed_dim))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.conv_before_upsample: nn.Sequential | None = None
        if out_channels:
            last = nn.Conv2d(embed_dim, out_channels, 3, padding=1)
            self.conv_before_upsample = nn.Sequential(last, nn.LeakyReLU(inplace=True))

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, out_dim, h', w'), h' and w' the sides padded to multiples of the window.

        Raises RuntimeError (a side that needs padding is too short to be reflected; pad it with `window_pad`).
        """
        h, w = lr.shape[-2:]
        padding = (0, -w % self.multiple_of, 0, -h % self.multiple_of)
        shallow = self.conv_first(F.pad(lr, padding, mode="reflect") if any(padding) else lr)
        x = self.patch_embed.norm(shallow.permute(0, 2, 3, 1))
        for group in self.layers:
            x = group(x)
        feat = self.conv_after_body(self.norm(x).permute(0, 3, 1, 2)) + shallow
        if self.conv_before_upsample is not None:
            feat = self.conv_before_upsample(feat)
        return feat[:, :, :h, :w] if self.crop else feat
