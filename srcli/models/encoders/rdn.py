"""RDN without its upsampler: residual dense blocks, all of whose outputs are fused.

Zhang et al., "Residual Dense Network for Image Super-Resolution", CVPR 2018, https://arxiv.org/abs/1802.08797.
Written from the paper; keys of the releases of the LIIF family.
"""

import torch
from torch import Tensor, nn

from srcli.models.sr import Encoder


class DenseLayer(nn.Module):
    """The input with `growth` new channels behind it: cat[x, ReLU(conv(x))]."""

    def __init__(self, in_dim: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(in_dim, growth, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(x)], dim=1)


class ResidualDenseBlock(nn.Module):
    """Dense layers, a 1x1 convolution back to `n_feats` channels, plus the input."""

    def __init__(self, n_feats: int, growth: int, n_layers: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(DenseLayer(n_feats + c * growth, growth) for c in range(n_layers)))
        self.LFF = nn.Conv2d(n_feats + n_layers * growth, n_feats, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.LFF(self.convs(x))


class RDN(Encoder):
    """RDN of configuration B by default: 16 blocks of 8 layers, 21,973,952 parameters.

    Tiles are exact with 131 pixels of context, one per 3x3 convolution on the longest path. The influence of far pixels
    dies out long before: with random weights features equal the image's to rounding from 16 pixels on; 48, the
    practical halo, leave room for trained ones.
    """

    title = "RDN"
    UPSTREAM_KEYS = (  # CiaoSR's framework
        (r"^sfe([12])\.", r"encoder.SFENet\1."),
        (r"^rdbs\.(\d+)\.layers\.(\d+)\.conv\.", r"encoder.RDBs.\1.convs.\2.conv.0."),
        (r"^rdbs\.(\d+)\.lff\.", r"encoder.RDBs.\1.LFF."),
        (r"^gff\.", "encoder.GFF."),
    )

    practical_halo = 48

    def __init__(self, *, n_feats: int = 64, n_blocks: int = 16, n_layers: int = 8, growth: int = 64) -> None:
        super().__init__()
        self.out_dim = n_feats
        self.halo = n_blocks * n_layers + 3
        self.SFENet1 = nn.Conv2d(3, n_feats, 3, padding=1)
        self.SFENet2 = nn.Conv2d(n_feats, n_feats, 3, padding=1)
        self.RDBs = nn.ModuleList(ResidualDenseBlock(n_feats, growth, n_layers) for _ in range(n_blocks))
        fuse = nn.Conv2d(n_blocks * n_feats, n_feats, 1)
        self.GFF = nn.Sequential(fuse, nn.Conv2d(n_feats, n_feats, 3, padding=1))

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.SFENet1(lr)
        x = self.SFENet2(shallow)
        outputs = []
        for block in self.RDBs:
            x = block(x)
            outputs.append(x)
        return shallow + self.GFF(torch.cat(outputs, dim=1))
