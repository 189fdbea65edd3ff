"""EDSR without its upsampler: residual blocks with no normalisation, at LR resolution.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017,
https://arxiv.org/abs/1707.02921. Written from the paper; keys of the releases of the LIIF family.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from srcli.models.sr import Encoder


class ResidualBlock(nn.Module):
    """conv - ReLU - conv plus its input."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_feats, n_feats, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_feats, n_feats, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class MeanShift(nn.Conv2d):
    """A constant colour shift that published checkpoints carry and no published network runs."""

    def __init__(self) -> None:
        super().__init__(3, 3, 1)
        self.requires_grad_(requires_grad=False)


class EDSR(Encoder):
    """EDSR-baseline by default: 16 blocks of 64 channels, 1,220,440 parameters with the unused mean shifts.

    `mean_shift`: hold the releases' unused `sub_mean` and `add_mean`, so that their files load strictly.
    """

    title = "EDSR-baseline"
    UPSTREAM_KEYS = (  # CiaoSR's framework
        (r"^conv_first\.", "encoder.head.0."),
        (r"^body\.(\d+)\.conv1\.", r"encoder.body.\1.body.0."),
        (r"^body\.(\d+)\.conv2\.", r"encoder.body.\1.body.2."),
        (r"^conv_after_body\.", "encoder.body.16."),
    )

    def __init__(self, *, n_resblocks: int = 16, n_feats: int = 64, mean_shift: bool = True) -> None:
        super().__init__()
        self.out_dim = n_feats
        self.halo = 2 * n_resblocks + 2
        if mean_shift:
            self.sub_mean, self.add_mean = MeanShift(), MeanShift()
        self.head = nn.Sequential(nn.Conv2d(3, n_feats, 3, padding=1))
        blocks = [ResidualBlock(n_feats) for _ in range(n_resblocks)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(n_feats, n_feats, 3, padding=1))

    def forward(self, lr: Tensor) -> Tensor:
        shallow = self.head(lr)
        return shallow + self.body(shallow)

    def initial_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of a shallower EDSR as one of this depth that computes the same.

        The blocks that it lacks are put behind its own with a second convolution of zeros, so that each begins as
        the identity and can learn from there. Keys are those of this module.
        """
        last = str(len(self.body) - 1)
        depth = max(int(key.split(".")[1]) for key in state if key.startswith("body."))
        out = {key: value for key, value in state.items() if not key.startswith(f"body.{depth}.")}
        for key, value in self.state_dict().items():
            _, _, rest = key.partition(".")
            index, _, name = rest.partition(".")
            if key.startswith("body.") and index == last:
                out[key] = state[f"body.{depth}.{name}"]
            elif key.startswith("body.") and int(index) >= depth:
                out[key] = torch.zeros_like(value) if name.startswith("body.2.") else value.clone()
        return out
