"""SRVGGNetCompact, the small network of Real-ESRGAN: convolutions at the LR resolution, and pixel shuffle.

Wang et al., "Real-ESRGAN", ICCVW 2021, https://arxiv.org/abs/2107.10833; the network is described with its release.
Keys of the release.
"""

import torch
from torch import Tensor, nn

from srcli.models.layers import conv, no_autocast
from srcli.models.sr import Gives, NativeEncoder


class SRVGG(NativeEncoder):
    """Convolutions of 3x3 with PReLU; what they give is added to the nearest pixel. 1,213,296 parameters by default."""

    UPSTREAM_KEYS = ((r"^body\.", "encoder.body."),)

    def __init__(
        self, *, factor: int = 4, n_feats: int = 64, n_convs: int = 32, gives: Gives = "features"
    ) -> None:
        super().__init__(factor, n_feats, gives)
        self.halo = n_convs + 2
        layers: list[nn.Module] = []
        for number in range(n_convs + 1):
            layers += [nn.Conv2d(n_feats if number else 3, n_feats, 3, padding=1), nn.PReLU(n_feats)]
        self.body = nn.Sequential(*layers, nn.Conv2d(n_feats, 3 * factor**2, 3, padding=1))

    def features(self, lr: Tensor) -> Tensor:
        return self.body[:-1](lr)

    def picture(self, feat: Tensor, lr: Tensor) -> Tensor:
        last = self.body[-1]
        assert isinstance(last, nn.Conv2d)
        with no_autocast(feat):
            return torch.add(conv(last, feat.float()), lr.float().repeat_interleave(self.factor**2, dim=1))
