"""HIIF's attention without a softmax, whose cost grows with the number of queries and not with its square."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcli.models.layers import linear, no_autocast


class Block(NamedTuple):
    """A block of attention whose sums are known: x -> x + proj2(GELU(x matrix + shift))."""

    matrix: Tensor  # (B, dim, dim)
    shift: Tensor  # (B, 1, dim)


class Attention(nn.Module):
    """Linear attention without a softmax, keys and values normalised, then two layers; added to its input."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.head_dim = n_heads, dim // n_heads
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.kln = nn.LayerNorm(self.head_dim)
        self.vln = nn.LayerNorm(self.head_dim)
        self.proj1 = nn.Linear(dim, dim)
        self.proj2 = nn.Linear(dim, dim)

    def sums(self, x: Tensor) -> Tensor:
        """What queries x (B, Q, dim) add to k^T v, (B, heads, d, d) float32."""
        _, (key, key_bias), (value, value_bias) = self._projections()
        keys = F.linear(x, key.to(x.dtype), key_bias.to(x.dtype)).float()
        values = F.linear(x, value.to(x.dtype), value_bias.to(x.dtype)).float()
        with no_autocast(x):
            keys = self.kln(keys.unflatten(-1, (self.n_heads, -1)))
            values = self.vln(values.unflatten(-1, (self.n_heads, -1)))
            return keys.permute(0, 2, 3, 1) @ values.transpose(1, 2)

    def block(self, mean: Tensor) -> Block:
        """The block for calls whose k^T v over the number of queries is `mean` (B, heads, d, d) float32."""
        with no_autocast(mean):
            (query, bias), *_ = self._projections()
            heads = (self.n_heads, self.head_dim)
            read = mean.transpose(-1, -2)  # a head's output is this times its query
            matrix = (read @ query.unflatten(0, heads)).flatten(1, 2) + torch.eye(
                len(query), device=mean.device
            )
            shift = (read @ bias.view(*heads, 1)).flatten(1, 2)
            shift = self.proj1.weight @ shift + self.proj1.bias.unsqueeze(-1)
            return Block((self.proj1.weight @ matrix).transpose(1, 2), shift.transpose(1, 2))

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """(B, Q, dim) -> (B, Q, dim)."""
        hidden = torch.baddbmm(block.shift.to(x.dtype), x, block.matrix.to(x.dtype))
        return x + linear(self.proj2, F.gelu(hidden))

    def _projections(self) -> list[tuple[Tensor, Tensor]]:
        """Weight (dim, dim) and bias (dim,) of queries, keys and values; the layer has them head by head."""
        weight = self.qkv_proj.weight.unflatten(0, (self.n_heads, 3, self.head_dim))
        bias = self.qkv_proj.bias.view(self.n_heads, 3, self.head_dim)
        return [(weight[:, i].flatten(0, 1), bias[:, i].flatten()) for i in range(3)]
