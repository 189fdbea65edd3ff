"""Random numbers that are a function of a key and a position: the same on every device, in any order.

SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): number i of a key is a mix of key + (i + 1) * golden ratio. Whole
numbers only, so that a CPU and a GPU draw the same.
"""

import math

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def bits(keys: Tensor, count: int) -> Tensor:
    """The first `count` numbers of each stream, in [0, 2^32): keys (B,), all int64, to (B, count)."""
    return bits_at(keys, torch.arange(count, device=keys.device))


def bits_at(keys: Tensor, places: Tensor) -> Tensor:
    """Of each stream (B,) the numbers at some places (n,), from 0; (B, n) int64 in [0, 2^32)."""
    return _shifted(mixed(keys[:, None] + (places + 1) * _GOLDEN), 32)


def mixed(x: Tensor) -> Tensor:
    """SplitMix64's mixing of int64 numbers, taken as 64 bits without a sign."""
    x = (x ^ _shifted(x, 30)) * _FIRST  # products wrap around, as they should
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """A shift to the right that brings in zeros."""
    return (x >> by) & (_MASK >> by)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Float32 numbers (B, count) strictly between 0 and 1: the middles of 2^23 equal parts."""
    return ((bits(keys, count) >> 9).float() + 0.5) / (1 << 23)


def normal(keys: Tensor, count: int) -> Tensor:
    """Standard normal float32 numbers (B, count), by Box and Muller's method; none is beyond 5.8."""
    half = (count + 1) // 2
    radius, angle = uniform(keys, 2 * half).chunk(2, dim=1)
    radius = (-2 * radius.log()).sqrt()
    angle = 2 * math.pi * angle
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]
